//! Organisations: local authorities and care providers, by ODS code.

use chrono::{DateTime, Utc};
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// An ODS organisation or site code: 3 to 10 letters and digits, upper case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OdsCode(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an ODS code has 3 to 10 capital letters and digits")]
pub struct InvalidOdsCode;

impl OdsCode {
    /// # Errors
    /// [`InvalidOdsCode`] unless 3 to 10 capital letters and digits.
    pub fn parse(text: &str) -> Result<Self, InvalidOdsCode> {
        let fits = (3..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        if fits { Ok(Self(text.to_owned())) } else { Err(InvalidOdsCode) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Stands for the operator of this gateway, who has no code of the directory's.
    pub fn operator() -> Self {
        Self("OPERATOR".to_owned())
    }
}

impl TryFrom<String> for OdsCode {
    type Error = InvalidOdsCode;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<OdsCode> for String {
    fn from(code: OdsCode) -> Self {
        code.0
    }
}

/// A telephone number, normalised: `^(\+44|0)[1-9][0-9]{8,9}$`, optionally `;ext=` and 1 to 6 digits (design 6).
#[derive(Clone, PartialEq, Eq)]
pub struct Phone(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a phone number starts with 0 or +44, has 10 or 11 digits in its national form, and may end in ;ext= and digits"
)]
pub struct InvalidPhone;

impl Phone {
    /// Spaces, brackets and a leading `tel:` are removed before the check.
    ///
    /// # Errors
    /// [`InvalidPhone`] when what is left is not a UK number.
    pub fn parse(text: &str) -> Result<Self, InvalidPhone> {
        let text = text.trim();
        let bare: String =
            text.strip_prefix("tel:").unwrap_or(text).chars().filter(|c| !matches!(c, ' ' | '(' | ')')).collect();
        let (number, extension) = match bare.split_once(";ext=") {
            Some((number, extension)) => (number, Some(extension)),
            None => (bare.as_str(), None),
        };
        let national = number.strip_prefix("+44").or_else(|| number.strip_prefix('0')).ok_or(InvalidPhone)?;
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let number_fits = (9..=10).contains(&national.len()) && digits(national) && !national.starts_with('0');
        let extension_fits = extension.is_none_or(|e| (1..=6).contains(&e.len()) && digits(e));
        if number_fits && extension_fits { Ok(Self(bare)) } else { Err(InvalidPhone) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Phone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Phone(..)")
    }
}

/// What an organisation is to CP-IS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrganizationKind {
    LocalAuthority,
    CareProvider,
    /// The body that runs the gateway, or an auditor's.
    Oversight,
}

impl OrganizationKind {
    pub fn code(self) -> &'static str {
        match self {
            Self::LocalAuthority => "local-authority",
            Self::CareProvider => "care-provider",
            Self::Oversight => "oversight",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        [Self::LocalAuthority, Self::CareProvider, Self::Oversight].into_iter().find(|k| k.code() == code)
    }
}

/// Whether the organisation is an unscheduled care setting (domain.md 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CareSetting {
    Unscheduled,
    Scheduled,
}

impl CareSetting {
    pub fn code(self) -> &'static str {
        match self {
            Self::Unscheduled => "unscheduled",
            Self::Scheduled => "scheduled",
        }
    }

    pub fn from_code(code: &str) -> Option<Self> {
        [Self::Unscheduled, Self::Scheduled].into_iter().find(|s| s.code() == code)
    }
}

/// An organisation as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Organization {
    /// Surrogate key.
    pub id: i64,
    /// Also the FHIR id: `Organization/{ods}`.
    pub ods: OdsCode,
    pub name: String,
    pub kind: OrganizationKind,
    /// Care providers only.
    pub care_setting: Option<CareSetting>,
    /// Sexual health, SARC, termination, CAMHS: details withheld in the access history (design 5).
    pub sensitive: bool,
    /// Office hours number of an authority.
    pub office_phone: Option<Phone>,
    /// Emergency duty number of an authority.
    pub duty_phone: Option<Phone>,
    /// The organisation that a site belongs to.
    pub part_of: Option<OdsCode>,
    pub active: bool,
    pub version: i64,
    pub updated: DateTime<Utc>,
}

/// An organisation as an administrator sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationSent {
    pub ods: OdsCode,
    pub name: String,
    /// Absent: active when it is new, else as it is.
    pub active: Option<bool>,
    /// Absent: as it is.
    pub kind: Option<OrganizationKind>,
    /// Absent: as it is.
    pub own: Option<OwnCodes>,
    pub office_phone: Option<Phone>,
    pub duty_phone: Option<Phone>,
    pub part_of: Option<OdsCode>,
}

/// What our own codes say of an organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnCodes {
    pub care_setting: Option<CareSetting>,
    pub sensitive: bool,
}

/// What narrows a search for organisations; all that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct OrganizationSearch {
    /// Any of these codes.
    pub ods: Option<Vec<OdsCode>>,
    /// Any of these texts, as [`searchable`] writes them, in the name.
    pub name: Option<Vec<NamePart>>,
    pub active: Option<bool>,
}

/// A text that a name begins with, or that it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePart {
    Beginning(String),
    Anywhere(String),
}

/// A text as searches compare it: in lower case, without accents (FHIR's `string`).
pub fn searchable(text: &str) -> String {
    text.nfkd().filter(|c| !is_combining_mark(*c)).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phones_are_normalised_or_refused() {
        for (text, normal) in [
            ("01632 960999", "01632960999"),
            ("tel:(01632) 960 100", "01632960100"),
            ("+44 1632 960100;ext=12", "+441632960100;ext=12"),
        ] {
            assert_eq!(Phone::parse(text).map(|p| p.as_str().to_owned()), Ok(normal.to_owned()), "{text}");
        }
        for text in [
            "",
            "1632960999",
            "0063296099",
            "01632",
            "01632-960999",
            "01632960999;ext=",
            "01632960999;ext=x",
            "+33163296099",
        ] {
            assert_eq!(Phone::parse(text), Err(InvalidPhone), "{text}");
        }
    }

    #[test]
    fn ods_codes() {
        for good in ["Z9A", "ZZ101", "RR8", "A12345"] {
            assert!(OdsCode::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "Z9", "z9a", "Z9A-", "Z9A Z9A", "ABCDEFGHIJK", "Z9Ä"] {
            assert_eq!(OdsCode::parse(bad), Err(InvalidOdsCode), "{bad}");
        }
    }
}
