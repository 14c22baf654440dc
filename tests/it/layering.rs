//! What may import what: the table in ARCHITECTURE.md is held against every `crate::` and `super::` path of the sources.
//! And what every source file keeps: it says what lives there, and its name says what it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// A part of the crate: a folder or file directly in `src`. `cpis::types` is a part of its own.
type Part = String;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<PathBuf> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join("src"), &mut found);
    found.sort();
    assert!(found.len() > 50, "{}", found.len());
    found
}

/// Module path of a source file, such as `fhir::render::plan`; empty for the crate's roots.
fn module_of(path: &Path) -> Vec<String> {
    let below = path.strip_prefix(root().join("src")).expect("below src").with_extension("");
    let mut module: Vec<String> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        module.pop();
    }
    module
}

/// Source text as words and single signs, without comments, strings and characters.
fn tokens(source: &str) -> Vec<String> {
    let (mut tokens, chars) = (Vec::new(), source.chars().collect::<Vec<char>>());
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let mut index = 0;
    while index < chars.len() {
        let sign = at(index);
        if sign == '/' && at(index + 1) == '/' {
            while index < chars.len() && at(index) != '\n' {
                index += 1;
            }
        } else if sign == '/' && at(index + 1) == '*' {
            index += 2;
            while index < chars.len() && !(at(index) == '*' && at(index + 1) == '/') {
                index += 1;
            }
            index += 2;
        } else if let Some(hashes) = raw_string(&chars[index..]) {
            let end: String = format!("\"{}", "#".repeat(hashes));
            index += hashes + 2;
            while index < chars.len()
                && !chars[index..].iter().take(end.len()).eq(end.chars().collect::<Vec<_>>().iter())
            {
                index += 1;
            }
            index += end.len();
        } else if sign == '"' {
            index += 1;
            while index < chars.len() && at(index) != '"' {
                index += if at(index) == '\\' { 2 } else { 1 };
            }
            index += 1;
        } else if sign == '\'' && at(index + 1) == '\\' {
            index += 3;
            while at(index) != '\'' {
                index += 1;
            }
            index += 1;
        } else if sign == '\'' && at(index + 2) == '\'' {
            index += 3;
        } else if sign.is_alphanumeric() || sign == '_' {
            let start = index;
            while at(index).is_alphanumeric() || at(index) == '_' {
                index += 1;
            }
            tokens.push(chars[start..index].iter().collect());
        } else {
            if !sign.is_whitespace() {
                tokens.push(sign.to_string());
            }
            index += 1;
        }
    }
    tokens
}

/// Hash signs of a raw string that begins here.
fn raw_string(chars: &[char]) -> Option<usize> {
    let after_r = match chars {
        ['r', rest @ ..] | ['b', 'r', rest @ ..] => rest,
        _ => return None,
    };
    let hashes = after_r.iter().take_while(|sign| **sign == '#').count();
    (after_r.get(hashes) == Some(&'"')).then(|| hashes + usize::from(chars[0] == 'b'))
}

/// What one file imports: absolute paths by `crate::` and `super::`, without what `#[cfg(test)]` guards; and the files
/// that are tests as a whole, by `#[cfg(test)] mod name;`.
#[derive(Default)]
struct Imports {
    paths: Vec<Vec<String>>,
    test_modules: Vec<Vec<String>>,
}

impl Imports {
    fn of(module: &[String], source: &str) -> Self {
        let tokens = tokens(source);
        let mut imports = Self::default();
        // Inline modules around the present place, each with the depth of braces at which it ends.
        let (mut inline, mut depth, mut index): (Vec<(String, usize)>, usize, usize) = (Vec::new(), 0, 0);
        let is = |index: usize, words: &[&str]| {
            words.iter().enumerate().all(|(n, word)| tokens.get(index + n).is_some_and(|t| t == word))
        };
        while index < tokens.len() {
            if is(index, &["#", "[", "cfg", "(", "test", ")", "]"]) {
                index += 7;
                index = imports.skip_test(module, &tokens, index);
                continue;
            }
            match tokens[index].as_str() {
                "mod" if is(index + 2, &["{"]) => inline.push((tokens[index + 1].clone(), depth)),
                "{" => depth += 1,
                "}" => {
                    depth = depth.saturating_sub(1);
                    if inline.last().is_some_and(|(_, outer)| *outer == depth) {
                        inline.pop();
                    }
                }
                // `pub(crate)` and the middle of another path begin none.
                "crate" | "super" if is(index + 1, &[":", ":"]) && !(index >= 2 && is(index - 2, &[":", ":"])) => {
                    let mut from: Vec<String> =
                        module.iter().cloned().chain(inline.iter().map(|(name, _)| name.clone())).collect();
                    let mut next = index;
                    if tokens[next] == "crate" {
                        from.clear();
                        next += 3;
                    }
                    while is(next, &["super", ":", ":"]) {
                        from.pop();
                        next += 3;
                    }
                    imports.tree(&tokens, &mut next, &from);
                    // A group holds no braces of code.
                    index = next;
                    continue;
                }
                _ => {}
            }
            index += 1;
        }
        imports
    }

    /// A path or a group of paths from `next` on.
    fn tree(&mut self, tokens: &[String], next: &mut usize, from: &[String]) {
        let mut path = from.to_vec();
        loop {
            match tokens.get(*next).map(String::as_str) {
                Some("{") => {
                    *next += 1;
                    while tokens.get(*next).is_some_and(|token| token != "}") {
                        if tokens[*next] == "," {
                            *next += 1;
                            continue;
                        }
                        self.tree(tokens, next, &path);
                        if tokens.get(*next).is_some_and(|token| token == "as") {
                            *next += 2;
                        }
                    }
                    *next += 1;
                    return;
                }
                Some(word) => {
                    if word != "self" {
                        path.push(word.to_owned());
                    }
                    *next += 1;
                }
                None => return,
            }
            if tokens.get(*next).is_some_and(|t| t == ":") && tokens.get(*next + 1).is_some_and(|t| t == ":") {
                *next += 2;
                if tokens.get(*next).is_some_and(|token| token == "<") {
                    break;
                }
            } else {
                break;
            }
        }
        self.paths.push(path);
    }

    /// The item after `#[cfg(test)]`: a module of a file of its own, or something in braces.
    fn skip_test(&mut self, module: &[String], tokens: &[String], mut index: usize) -> usize {
        let mut depth = 0;
        if tokens.get(index).is_some_and(|t| t == "mod") && tokens.get(index + 2).is_some_and(|t| t == ";") {
            self.test_modules.push(module.iter().cloned().chain([tokens[index + 1].clone()]).collect());
        }
        while let Some(token) = tokens.get(index) {
            index += 1;
            match token.as_str() {
                "{" => depth += 1,
                "}" if depth == 1 => return index,
                "}" => depth -= 1,
                ";" if depth == 0 => return index,
                _ => {}
            }
        }
        index
    }
}

/// The part that a path belongs to.
fn part_of(path: &[String]) -> Option<Part> {
    match path {
        [] => None,
        [cpis, types, ..] if cpis == "cpis" && types == "types" => Some("cpis::types".to_owned()),
        [first, ..] => Some(first.clone()),
    }
}

/// The rows of ARCHITECTURE.md's table: a part and what it may import.
fn table() -> BTreeMap<Part, BTreeSet<Part>> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let mut table = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `src/")) {
        let columns: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [folders, _, imports] = columns.as_slice() else { panic!("a row of another form: {line}") };
        let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<String>>();
        for folder in quoted(folders) {
            let folder = folder.trim_start_matches("src/").trim_end_matches(".rs");
            let names = folder.strip_prefix('{').and_then(|list| list.strip_suffix('}')).unwrap_or(folder);
            for name in names.split(',') {
                table.insert(name.to_owned(), quoted(imports).into_iter().collect::<BTreeSet<Part>>());
            }
        }
        if imports.starts_with("all") {
            let but = quoted(imports.strip_prefix("all").expect("all"));
            let parts = [
                "cli",
                "app",
                "http",
                "mailbox",
                "notify",
                "auth",
                "cpis",
                "demographics",
                "store",
                "fhir",
                "hl7v3",
                "outside",
            ];
            let all =
                parts.iter().filter(|part| !but.iter().any(|b| b == *part)).map(|part| (*part).to_owned()).collect();
            table.insert(quoted(folders)[0].trim_start_matches("src/").trim_end_matches(".rs").to_owned(), all);
        }
    }
    table
}

/// Any part may import these.
const FOR_ALL: [&str; 3] = ["clock", "config", "telemetry"];

#[test]
fn every_arrow_is_in_the_table() {
    let table = table();
    let sources: Vec<(PathBuf, Vec<String>, Imports)> = sources()
        .into_iter()
        .map(|path| {
            let module = module_of(&path);
            let imports = Imports::of(&module, &fs::read_to_string(&path).expect("a source file"));
            (path, module, imports)
        })
        .collect();
    let tests: Vec<Vec<String>> = sources.iter().flat_map(|(_, _, imports)| imports.test_modules.clone()).collect();
    let (mut refused, mut seen) = (Vec::new(), BTreeSet::new());
    for (path, module, imports) in &sources {
        if tests.iter().any(|test| module.starts_with(test)) || module.is_empty() {
            continue;
        }
        // The shared words belong to `cpis` but import less: nothing beside themselves.
        let part = part_of(module).expect("a part");
        let no_imports = BTreeSet::new();
        let allowed = if part == "cpis::types" {
            &no_imports
        } else {
            table.get(&part).unwrap_or_else(|| panic!("src/{part} is not in ARCHITECTURE.md's table"))
        };
        for import in &imports.paths {
            let Some(imported) = part_of(import) else { continue };
            let within = imported == part || (part == "cpis" && imported == "cpis::types");
            let types_of_cpis = imported == "cpis::types" && allowed.contains("cpis");
            let for_all = FOR_ALL.contains(&imported.as_str()) && !FOR_ALL.contains(&part.as_str());
            if !within {
                seen.insert((part.clone(), imported.clone()));
            }
            if !(within || types_of_cpis || for_all || allowed.contains(&imported)) {
                refused.push(format!("{}: {part} -> {}", path.display(), import.join("::")));
            }
        }
    }
    assert!(refused.is_empty(), "not in ARCHITECTURE.md's table:\n{}", refused.join("\n"));
    // The reader reads: these arrows are known to be there.
    for (from, to) in
        [("http", "cpis"), ("cpis", "store"), ("store", "cpis::types"), ("fhir", "cpis::types"), ("app", "http")]
    {
        assert!(seen.contains(&(from.to_owned(), to.to_owned())), "{from} -> {to} was not seen: {seen:?}");
    }
}

#[test]
fn the_table_covers_every_part() {
    let table = table();
    for entry in fs::read_dir(root().join("src")).expect("src") {
        let name = entry.expect("an entry").path().with_extension("");
        let name = name.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(
            ["lib", "main"].contains(&name.as_str()) || table.contains_key(&name),
            "src/{name} is not in the table"
        );
    }
    for part in table.keys() {
        let path = root().join("src").join(part);
        assert!(path.is_dir() || path.with_extension("rs").is_file(), "the table names {part}, which is not there");
    }
    for document in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(document)).expect("a document");
        assert!(
            text.contains("ARCHITECTURE.md says what may import what") || text.contains("fails on an arrow"),
            "{document}"
        );
    }
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    assert!(readme.contains("ARCHITECTURE.md"), "the README leads to ARCHITECTURE.md");
}

#[test]
fn every_file_says_what_lives_there_and_has_a_telling_name() {
    for path in sources() {
        let text = fs::read_to_string(&path).expect("a source file");
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("//! ") && first.len() > 20,
            "{} doesn't begin with what lives there",
            path.display()
        );
        for module in module_of(&path) {
            for word in module.split('_') {
                let dull = ["util", "utils", "helper", "helpers", "manager", "misc", "common", "stuff"];
                assert!(!dull.contains(&word), "{} says nothing", path.display());
            }
        }
    }
}

#[test]
fn no_unsafe_code_and_no_unwrap_outside_tests() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    for lint in ["unsafe_code = \"forbid\"", "unwrap_used = \"deny\"", "expect_used = \"deny\"", "panic = \"deny\""] {
        assert!(manifest.contains(lint), "{lint}");
    }
    for path in sources() {
        let words = tokens(&fs::read_to_string(&path).expect("a source file"));
        let exempted = words.windows(5).find(|w| {
            ["allow", "expect"].contains(&w[0].as_str())
                && w[1] == "("
                && ["clippy", "unsafe_code"].contains(&w[2].as_str())
        });
        let exempted = exempted.map(|_| {
            let lints = ["unwrap_used", "expect_used", "panic", "unsafe_code", "todo", "unimplemented"];
            words.windows(4).any(|w| w[0] == "clippy" && lints.contains(&w[3].as_str()))
        });
        assert_ne!(exempted, Some(true), "{} exempts itself from a lint", path.display());
    }
}

/// The reader of imports itself, on what sources may hold.
#[test]
fn the_reader_sees_every_spelling() {
    let source = r##"
        use crate::{auth::{Tokens, caller as who}, store::{self, Conn}, http};
        use super::super::notify::Notifier;
        pub(crate) fn plain<T: crate::outside::Hook>(text: &'static str) -> char { crate::cpis::types::x(); '{' }
        // use crate::comment::one;
        const TEXT: &str = "use crate::string::one; {";
        const RAW: &str = r#"use crate::raw::one; " { "#;
        mod inner { use super::super::super::cli; mod deeper { } fn f() { super::here(); } }
        macro_rules! m { () => { $crate::fhir::json::parse() } }
        #[cfg(test)]
        use crate::only::in_tests;
        #[cfg(test)]
        mod tests { use crate::only::tests; fn f() { { } } }
        #[cfg(test)]
        mod more;
        use crate::clock::Clock;
    "##;
    let module = ["store".to_owned(), "access".to_owned()];
    let imports = Imports::of(&module, source);
    let paths: Vec<String> = imports.paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(
        paths,
        [
            "auth::Tokens",
            "auth::caller",
            "store",
            "store::Conn",
            "http",
            "notify::Notifier",
            "outside::Hook",
            "cpis::types::x",
            "cli",
            "store::access::here",
            "fhir::json::parse",
            "clock::Clock",
        ]
    );
    assert_eq!(imports.test_modules, [["store", "access", "more"]]);
}
