//! The pages below `docs/` that show the gateway at work. Each is made from its template in `api_pages/`: a block
//! `call` is made to a gateway and replaced by the request and what came back, a table by what the server says of itself.
//! The result is compared with the committed page; `CPIS_WRITE_DOCS=1` writes it. `api_pages/page.rs` says how templates
//! are written. The links of every page of the project are held here too.

mod page;
mod scene;
pub mod shown;
mod tables;

use std::path::{Path, PathBuf};

use self::{page::Page, scene::Scene};

/// Each template is named as its page in `docs/api`.
const TEMPLATES: &str = "tests/it/api_pages";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[actix_web::test]
async fn every_page_shows_what_the_gateway_answers() {
    let write = std::env::var_os("CPIS_WRITE_DOCS").is_some();
    let mut stale = Vec::new();
    for template in markdown(&root().join(TEMPLATES)) {
        let name = stem(&template);
        let scene = if name == "upload" { Scene::Registered } else { Scene::OnRecord };
        let template = std::fs::read_to_string(&template).expect("a template");
        let made = Page::make(&name, &template, scene).await;
        let path = root().join(format!("docs/api/{name}.md"));
        if write {
            std::fs::write(&path, &made).expect("the page is written");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        let differs = committed.lines().zip(made.lines()).find(|(old, new)| old != new);
        if committed != made {
            stale.push(format!("docs/api/{name}.md: {differs:?}"));
        }
    }
    assert!(stale.is_empty(), "not what the gateway answers; CPIS_WRITE_DOCS=1 writes it: {stale:#?}");
}

#[test]
fn each_page_is_in_the_index_and_has_a_template() {
    let index = std::fs::read_to_string(root().join("docs/api/README.md")).expect("the index");
    let names = |folder: &str| {
        let mut names: Vec<String> = markdown(&root().join(folder)).iter().map(|path| stem(path)).collect();
        names.sort();
        names
    };
    let made = names(TEMPLATES);
    assert_eq!(names("docs/api"), made);
    for name in made.iter().filter(|name| *name != "README") {
        assert!(index.contains(&format!("]({name}.md)")), "{name} is not in the index");
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().expect("a name").to_string_lossy().into_owned()
}

/// The pages of a folder and of those below it.
fn markdown(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(markdown(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "md") {
            found.push(entry);
        }
    }
    found
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut pages = vec!["README.md".into(), "ARCHITECTURE.md".into(), "CONTRIBUTING.md".into()];
    for folder in ["docs", "postman", "schemas"] {
        pages.extend(markdown(&root().join(folder)));
    }
    let mut broken = Vec::new();
    for page in pages.iter().map(|page: &PathBuf| root().join(page)) {
        let text = std::fs::read_to_string(&page).expect("a page");
        for link in links(&text).filter(|link| !link.contains(':')) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.with_file_name(file) };
            let leads = target.exists()
                && (heading.is_empty()
                    || std::fs::read_to_string(&target).is_ok_and(|text| has_heading(&text, heading)));
            if !leads {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The targets of `[text](target)`, without those in code blocks.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(|prose| prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()))
}

/// Whether a heading has this anchor, as forges make them.
fn has_heading(text: &str, anchor: &str) -> bool {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings.map(anchor_of).any(|heading| heading == anchor)
}

fn anchor_of(heading: &str) -> String {
    let lower = heading.to_lowercase();
    let kept = lower.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}
