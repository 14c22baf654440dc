//! Who looked a child up, as the author of a query: a person (`COCT_TP145102GB01`) or a device with the person responsible
//! for it (`COCT_TP145104GB01`; domain.md 1.9).
//!
//! What is withheld of a sensitive organisation in FHIR is withheld here: only the role is told.

use std::io::{self, Write};

use super::{
    oid,
    xml::{Element, Writer},
};
use crate::cpis::types::{
    access::{AccessAuthor, WITHHELD},
    caller::{Author, ResponsiblePerson, User},
};

const PERSON: &str = "COCT_TP145102GB01.AssignedAuthor";
const PERSON_CONTENT: &str = "COCT_TP145102GB01#AssignedAuthor";
const DEVICE: &str = "COCT_TP145104GB01.System";
const DEVICE_CONTENT: &str = "COCT_TP145104GB01#System";

/// Said beside the name of an organisation of scheduled care whose access was an unscheduled one.
const SCHEDULED: &str = "unscheduled access from an organisation of scheduled care";

/// Writes an `author`.
pub(super) fn write<W: Write>(xml: &mut Writer<W>, author: &AccessAuthor) -> io::Result<()> {
    let is_device = matches!(author.author, Author::Device { .. } | Author::System) && !author.sensitive;
    let (element, content) = if is_device { (DEVICE, DEVICE_CONTENT) } else { (PERSON, PERSON_CONTENT) };
    xml.within(&["author"], |xml| {
        xml.empty("npfitlc:contentId", &[("root", oid::CONTENT_ID), ("extension", content)])?;
        xml.within(&[element], |xml| match &author.author {
            _ if author.sensitive => {
                role_of(xml, &author.author)?;
                organisation(xml, author)
            }
            Author::Person(user) => {
                person(xml, user)?;
                organisation(xml, author)
            }
            Author::Device { responsible, .. } => {
                system(xml, &author.client_id)?;
                organisation(xml, author)?;
                xml.within(&["indirectAuthority", "assignedEntity"], |xml| nominated(xml, responsible))
            }
            Author::System => {
                system(xml, &author.client_id)?;
                organisation(xml, author)
            }
        })
    })
}

fn role_of<W: Write>(xml: &mut Writer<W>, author: &Author) -> io::Result<()> {
    match author {
        Author::Person(user) => role(xml, user.job_role_code.as_deref(), user.job_role_name.as_deref()),
        Author::Device { responsible, .. } => role(xml, responsible.role_code.as_deref(), Some(&responsible.role_name)),
        Author::System => Ok(()),
    }
}

fn role<W: Write>(xml: &mut Writer<W>, code: Option<&str>, name: Option<&str>) -> io::Result<()> {
    let mut attributes = Vec::new();
    if let Some(code) = code {
        attributes.extend([("code", code), ("codeSystem", oid::JOB_ROLE)]);
    }
    attributes.extend(name.map(|name| ("displayName", name)));
    if attributes.is_empty() { Ok(()) } else { xml.empty("code", &attributes) }
}

fn person<W: Write>(xml: &mut Writer<W>, user: &User) -> io::Result<()> {
    role(xml, user.job_role_code.as_deref(), user.job_role_name.as_deref())?;
    xml.id(oid::SDS_USER, &user.sds_user_id)?;
    user.role_profile_id.as_deref().map_or(Ok(()), |id| xml.id(oid::SDS_ROLE_PROFILE, id))?;
    xml.within(&["assignedAuthorPerson"], |xml| name(xml, &user.name))
}

/// The role's name carries the telephone number, as in the service.
fn nominated<W: Write>(xml: &mut Writer<W>, responsible: &ResponsiblePerson) -> io::Result<()> {
    let named = match &responsible.phone {
        Some(phone) => format!("{} {phone}", responsible.role_name),
        None => responsible.role_name.clone(),
    };
    role(xml, responsible.role_code.as_deref(), Some(&named))?;
    xml.within(&["assignedPerson"], |xml| name(xml, &responsible.name))
}

/// A system's id is its ASID where it has one.
fn system<W: Write>(xml: &mut Writer<W>, client_id: &str) -> io::Result<()> {
    if client_id.len() == 12 && client_id.bytes().all(|b| b.is_ascii_digit()) {
        return xml.id(oid::SYSTEM, client_id);
    }
    xml.empty("id", &[("extension", client_id)])
}

/// The name carries the site, and that the access came from scheduled care: there is no other place for them.
fn organisation<W: Write>(xml: &mut Writer<W>, author: &AccessAuthor) -> io::Result<()> {
    let mut named = if author.sensitive { WITHHELD.to_owned() } else { author.organization_name.clone() };
    if let Author::Device { site: Some(site), .. } = &author.author
        && !author.sensitive
    {
        named = format!("{named} (site {})", site.as_str());
    }
    if author.scheduled_setting {
        named = format!("{named} ({SCHEDULED})");
    }
    xml.within(&["representedOrganization"], |xml| {
        if !author.sensitive {
            xml.id(oid::ORGANISATION, author.organization.as_str())?;
        }
        xml.text("name", &named)
    })
}

/// Of the words of a name, in their order: titles are prefixes; the family name is the one before a comma, or the first where
/// a title stands last, else the last.
fn name<W: Write>(xml: &mut Writer<W>, name: &str) -> io::Result<()> {
    let words: Vec<&str> = name.split_whitespace().collect();
    let bare = |word: &'_ str| word.trim_matches(['(', ')', ',']).to_owned();
    let is_title = |word: &str| {
        let word = bare(word).trim_end_matches('.').to_ascii_lowercase();
        ["mr", "mrs", "ms", "miss", "mx", "dr", "prof", "professor", "sister", "sir", "dame", "rev"]
            .contains(&word.as_str())
    };
    let others: Vec<usize> = words.iter().enumerate().filter(|(_, word)| !is_title(word)).map(|(at, _)| at).collect();
    let comma = words.iter().position(|word| word.ends_with(','));
    let titled_last = words.last().is_some_and(|last| is_title(last));
    let family = match (comma, titled_last) {
        (Some(comma), _) => Some(comma),
        (None, true) => others.first().copied(),
        (None, false) => others.last().copied(),
    };
    let family = family.unwrap_or(words.len().saturating_sub(1));
    xml.open("name", &[("use", "L")])?;
    for (at, word) in words.iter().enumerate() {
        let part = if at == family {
            "family"
        } else if is_title(word) {
            "prefix"
        } else {
            "given"
        };
        xml.text(part, &bare(word))?;
    }
    xml.close()
}

/// Who looked, as it is read. `Debug` is masked: it names people.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ReadAuthor {
    /// The person, or the one responsible for the device.
    pub name: Option<String>,
    /// Job role; that of a device's responsible person may end in a telephone number.
    pub role: Option<String>,
    pub role_code: Option<String>,
    pub organisation: Option<String>,
    pub organisation_name: Option<String>,
    pub sds_user_id: Option<String>,
    pub role_profile_id: Option<String>,
    /// A system asked, not a person.
    pub is_device: bool,
}

impl std::fmt::Debug for ReadAuthor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReadAuthor(..)")
    }
}

pub(super) fn read(author: &Element) -> ReadAuthor {
    let represented = author.first("representedOrganization");
    let code = author.first("code");
    let text = |found: Option<&str>| found.filter(|text| !text.is_empty()).map(str::to_owned);
    let person = ["assignedAuthorPerson", "assignedPerson"].into_iter().find_map(|name| author.first(name));
    let name = person.and_then(|person| person.first("name"));
    ReadAuthor {
        name: name.and_then(|name| {
            let parts: Vec<String> = name.children.iter().filter_map(Element::words).collect();
            if parts.is_empty() { name.words() } else { Some(parts.join(" ")) }
        }),
        role: text(code.and_then(|code| code.attribute("displayName"))),
        role_code: text(code.and_then(|code| code.attribute("code"))),
        organisation: text(represented.and_then(|one| one.extension(oid::ORGANISATION))),
        organisation_name: represented.and_then(|one| one.first("name")).and_then(Element::words),
        sds_user_id: text(author.extension(oid::SDS_USER)),
        role_profile_id: text(author.extension(oid::SDS_ROLE_PROFILE)),
        is_device: author.first(DEVICE).is_some(),
    }
}
