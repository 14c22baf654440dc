//! What was sent for one parameter, read by its type: modifiers, comma-separated values with their escapes, prefixes.
//! <https://hl7.org/fhir/R4/search.html#modifiers>

use chrono::{DateTime, Utc};

use super::{
    date::{DateFault, DateTest},
    parameter::{Kind, Parameter},
};
use crate::{
    cpis::{calendar::Calendar, types::organization::searchable},
    fhir::outcome::IssueCode,
    http::{
        query::{Sent, bad_value},
        refusal::Refusal,
    },
};

/// One sent parameter: a resource must meet every criterion, and of each any one value.
#[derive(Clone, Debug)]
pub struct Criterion {
    pub parameter: &'static Parameter,
    pub asked: Asked,
}

/// What a criterion asks of the elements of its parameter.
#[derive(Clone, Debug)]
pub enum Asked {
    /// `:missing`.
    Missing(bool),
    AnyOf(Vec<Wanted>),
    /// `:not`: none of them; a resource without the element meets it (R4).
    NoneOf(Vec<Wanted>),
}

/// One value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    Token {
        /// None: any system; an empty one: no system.
        system: Option<String>,
        /// None: any code of that system.
        code: Option<String>,
    },
    Date(DateTest),
    /// `Type/id`, or an id of any type.
    Reference {
        resource: Option<String>,
        id: String,
    },
    /// The identifier of what is referred to.
    Identifier {
        system: Option<String>,
        value: String,
    },
    /// The beginning, folded.
    Beginning(String),
    /// `:contains`, folded.
    Part(String),
    /// `:exact`, or a URI.
    Exact(String),
}

/// What reading needs to know of the server.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    pub calendar: &'a Calendar,
    pub now: DateTime<Utc>,
    pub base_url: &'a str,
}

impl Criterion {
    /// # Errors
    /// [`Refusal`] 400 with an issue for every value that can't be used.
    pub fn read(parameter: &'static Parameter, sent: &Sent, reading: Reading<'_>) -> Result<Self, Refusal> {
        let modifier = sent.modifier.as_str();
        if modifier == ":missing" {
            return match sent.value.as_str() {
                "true" => Ok(Self { parameter, asked: Asked::Missing(true) }),
                "false" => Ok(Self { parameter, asked: Asked::Missing(false) }),
                _ => Err(bad_value(parameter.name, "with :missing must be true or false")),
            };
        }
        let mut wanted = Vec::new();
        let mut issues = Vec::new();
        for value in split(&sent.value, ',') {
            match Wanted::read(parameter, modifier, value, reading) {
                Ok(value) => wanted.push(value),
                Err(refusal) => issues.extend(refusal.issues),
            }
        }
        if !issues.is_empty() {
            issues.dedup_by(|a, b| a.diagnostics == b.diagnostics);
            return Err(Refusal::with_issues(crate::http::refusal::Case::Parameter, issues));
        }
        let asked = if modifier == ":not" { Asked::NoneOf(wanted) } else { Asked::AnyOf(wanted) };
        Ok(Self { parameter, asked })
    }
}

impl Wanted {
    fn read(parameter: &Parameter, modifier: &str, value: &str, reading: Reading<'_>) -> Result<Self, Refusal> {
        let name = parameter.name;
        if value.is_empty() {
            return Err(bad_value(name, "has an empty value: give one, or leave the parameter out"));
        }
        match parameter.kind {
            Kind::Token => token(parameter, value),
            Kind::Date => DateTest::parse(value, reading.calendar, reading.now).map(Self::Date).map_err(|fault| {
                let refusal = bad_value(
                    name,
                    "must be a year, month, day or time that exists, such as 2026, 2026-11, 2026-11-03 or \
                     2026-11-03T21:40:00Z, after one of the prefixes eq, ne, gt, lt, ge, le, sa, eb, ap or none",
                );
                if fault == DateFault::Prefix { refusal.with_code(IssueCode::NotSupported) } else { refusal }
            }),
            Kind::Reference if modifier.ends_with("identifier") => {
                let (system, value) = system_and_value(value).unwrap_or_default();
                let value = value.ok_or_else(|| bad_value(name, "must be an identifier as system|value"))?;
                Ok(Self::Identifier { system, value })
            }
            Kind::Reference => reference(name, modifier, &unescaped(value), reading.base_url),
            Kind::String if modifier == ":exact" => Ok(Self::Exact(unescaped(value))),
            Kind::String => {
                let folded = searchable(&unescaped(value));
                match modifier {
                    // Marks alone would be found in everything.
                    _ if folded.is_empty() => Err(bad_value(name, "must hold more than accents")),
                    ":contains" => Ok(Self::Part(folded)),
                    _ => Ok(Self::Beginning(folded)),
                }
            }
            Kind::Uri | Kind::Special => Ok(Self::Exact(unescaped(value))),
        }
    }
}

fn token(parameter: &Parameter, value: &str) -> Result<Wanted, Refusal> {
    let (system, code) = system_and_value(value).unwrap_or_default();
    if system.as_deref().unwrap_or_default().is_empty() && code.is_none() {
        return Err(bad_value(parameter.name, "must be a code, system|code, |code or system|"));
    }
    let known = |code: &String| parameter.values.is_empty() || parameter.values.contains(&code.as_str());
    if !code.as_ref().is_none_or(known) {
        return Err(bad_value(parameter.name, &format!("must be one of {}", parameter.values.join(", "))));
    }
    Ok(Wanted::Token { system, code })
}

fn reference(name: &str, modifier: &str, value: &str, base_url: &str) -> Result<Wanted, Refusal> {
    let here = value.strip_prefix(base_url).and_then(|rest| rest.strip_prefix('/')).unwrap_or(value);
    let said = modifier.strip_prefix(':');
    let (resource, id) = match here.split_once('/') {
        Some((resource, id)) => (Some(resource), id),
        None => (said, here),
    };
    let fits =
        !id.is_empty() && id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    if !fits || (said.is_some() && said != resource) {
        return Err(bad_value(name, "must be a reference: Type/id, an id, or the URL of a resource here"));
    }
    Ok(Wanted::Reference { resource: resource.map(str::to_owned), id: id.to_owned() })
}

/// `system|code`, `|code`, `system|` or `code`; `None` when there are more parts. An absent system is `None`, an empty one
/// is empty.
fn system_and_value(text: &str) -> Option<(Option<String>, Option<String>)> {
    let parts: Vec<String> = split(text, '|').map(unescaped).collect();
    let given = |code: String| Some(code).filter(|code| !code.is_empty());
    match <[String; 1]>::try_from(parts) {
        Ok([code]) => Some((None, given(code))),
        Err(parts) => <[String; 2]>::try_from(parts).ok().map(|[system, code]| (Some(system), given(code))),
    }
}

/// The parts between marks that are not escaped by a backslash.
pub fn split(text: &str, mark: char) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |c: char| {
        let splits = c == mark && !escaped;
        escaped = c == '\\' && !escaped;
        splits
    })
}

/// Without the backslashes before `,` `|` `$` and `\`.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let escapes = c == '\\' && characters.peek().is_some_and(|next| matches!(next, ',' | '|' | '$' | '\\'));
        plain.push(if escapes { characters.next().unwrap_or(c) } else { c });
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::search::parameter::Definition;

    const STATUS: Parameter =
        Parameter::token("status", &["status"], Definition::Own, "").one_of(&["active", "inactive"]);
    const CODE: Parameter = Parameter::token("code", &["code"], Definition::Own, "");
    const AUTHOR: Parameter = Parameter::reference("author", &["author"], Definition::Own, "");
    const NAME: Parameter = Parameter::string("name", &["name"], Definition::Own, "");
    const DATE: Parameter = Parameter::date("date", &["period"], Definition::Own, "");

    fn read(parameter: &'static Parameter, modifier: &str, value: &str) -> Result<Criterion, Refusal> {
        let calendar = Calendar::new(chrono_tz::Europe::London);
        let now = "2026-11-23T12:00:00Z".parse().unwrap();
        let sent = Sent { name: parameter.name.to_owned(), modifier: modifier.to_owned(), value: value.to_owned() };
        Criterion::read(parameter, &sent, Reading { calendar: &calendar, now, base_url: "https://x.example/R4" })
    }

    fn wanted(parameter: &'static Parameter, modifier: &str, value: &str) -> Vec<Wanted> {
        match read(parameter, modifier, value).unwrap().asked {
            Asked::AnyOf(wanted) | Asked::NoneOf(wanted) => wanted,
            Asked::Missing(_) => panic!("missing"),
        }
    }

    fn token(system: Option<&str>, code: Option<&str>) -> Wanted {
        Wanted::Token { system: system.map(str::to_owned), code: code.map(str::to_owned) }
    }

    #[test]
    fn tokens_are_read_in_every_form() {
        assert_eq!(
            wanted(&CODE, "", "a,s|b,|c,s|"),
            [token(None, Some("a")), token(Some("s"), Some("b")), token(Some(""), Some("c")), token(Some("s"), None),]
        );
        assert_eq!(
            wanted(&CODE, "", r"a\,b,c\|d,e\\,f"),
            [token(None, Some("a,b")), token(None, Some("c|d")), token(None, Some(r"e\")), token(None, Some("f")),]
        );
        assert!(matches!(read(&CODE, ":not", "a").unwrap().asked, Asked::NoneOf(_)));
        assert!(matches!(read(&CODE, ":missing", "true").unwrap().asked, Asked::Missing(true)));
    }

    #[test]
    fn references_are_read_in_every_form() {
        let to =
            |resource: Option<&str>| Wanted::Reference { resource: resource.map(str::to_owned), id: "Z9A".to_owned() };
        assert_eq!(
            wanted(&AUTHOR, "", "Organization/Z9A,Z9A,https://x.example/R4/Organization/Z9A"),
            [to(Some("Organization")), to(None), to(Some("Organization")),]
        );
        assert_eq!(wanted(&AUTHOR, ":Organization", "Z9A"), [to(Some("Organization"))]);
        assert_eq!(
            wanted(&AUTHOR, ":identifier", "s|Z9A"),
            [Wanted::Identifier { system: Some("s".to_owned()), value: "Z9A".to_owned() }]
        );
    }

    #[test]
    fn every_bad_value_has_its_issue() {
        for (parameter, modifier, value, issues) in [
            (&STATUS, "", "gone,active,", 2),
            (&CODE, "", "", 1),
            (&CODE, "", "|", 1),
            (&CODE, "", "s|a|b", 1),
            (&CODE, ":missing", "yes", 1),
            (&AUTHOR, "", "https://elsewhere.example/Organization/Z9A", 1),
            (&AUTHOR, ":Organization", "Patient/1", 1),
            (&AUTHOR, ":identifier", "s|", 1),
            (&AUTHOR, ":identifier", "s|a|b", 1),
            (&NAME, "", "\u{301}", 1),
            (&NAME, ":contains", "\u{301}", 1),
            (&DATE, "", "xx2026,nonsense", 1),
        ] {
            let refused = read(parameter, modifier, value).map(|_| ()).unwrap_err();
            assert_eq!(refused.issues.len(), issues, "{value}: {:?}", refused.issues);
        }
    }

    proptest! {
        /// Whatever a text holds, escaped it is one value and comes back whole.
        #[test]
        fn an_escaped_value_comes_back(text in "[a-z,|$\\\\]{1,12}") {
            let escaped: String = text.chars().flat_map(|c| {
                let mark = matches!(c, ',' | '|' | '$' | '\\').then_some('\\');
                mark.into_iter().chain([c])
            }).collect();
            let parts: Vec<&str> = split(&escaped, ',').collect();
            prop_assert_eq!(parts.len(), 1);
            prop_assert_eq!(system_and_value(&escaped), Some((None, Some(text))));
        }
    }
}
