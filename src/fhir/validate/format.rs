//! The formats that the schemas name: FHIR's primitives where a pattern is not enough, and CP-IS's own.

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    cpis::types::{LocalPlanId, NhsNumber, OdsCode, Phone},
    fhir::{datatype::Reference, date},
};

/// A format: its name in the schemas, its check, what to tell when it fails.
pub(super) struct Format {
    pub name: &'static str,
    pub check: fn(&str) -> bool,
    pub advice: &'static str,
}

pub(super) const FORMATS: &[Format] = &[
    Format {
        name: "fhir-date",
        check: date::is_date,
        advice: "Give a date that exists, as YYYY-MM-DD (or YYYY-MM, or YYYY).",
    },
    Format {
        name: "fhir-date-time",
        check: date::is_date_time,
        advice: "Give a date that exists, as YYYY-MM-DD, or with a time as YYYY-MM-DDThh:mm:ss and Z or an offset.",
    },
    Format {
        name: "fhir-instant",
        check: date::is_instant,
        advice: "Give a date and time that exist, as YYYY-MM-DDThh:mm:ss.sss and Z or an offset.",
    },
    Format { name: "fhir-time", check: date::is_time, advice: "Give a time of day as hh:mm:ss." },
    Format { name: "fhir-string", check: is_printable, advice: "Leave out control characters." },
    Format { name: "fhir-base64", check: is_base64, advice: "Give base64." },
    Format { name: "nhs-number", check: is_nhs_number, advice: "Give an NHS number." },
    Format { name: "patient-reference", check: is_patient_reference, advice: "Refer to a Patient by NHS number." },
    Format { name: "ods-code", check: is_ods_code, advice: "Give an ODS code." },
    Format {
        name: "organization-reference",
        check: is_organization_reference,
        advice: "Refer to an Organization by ODS code.",
    },
    Format { name: "uk-phone", check: is_phone, advice: "Give a UK telephone number." },
    Format { name: "local-plan-id", check: is_local_plan_id, advice: "Give an id of 1 to 64 printable characters." },
    Format { name: "full-date", check: is_full_date, advice: "Give a date to the day." },
    Format { name: "civil-day", check: is_civil_day, advice: "Give a date to the day." },
    Format { name: "hook-address", check: is_hook_address, advice: "Give an absolute http or https URL." },
];

/// What to tell of a failed format.
pub(super) fn advice(name: &str) -> &'static str {
    FORMATS.iter().find(|f| f.name == name).map_or("The value has not the form that it must have.", |f| f.advice)
}

/// No control character but tab, line feed and carriage return. <https://hl7.org/fhir/R4/datatypes.html#string>
fn is_printable(text: &str) -> bool {
    text.bytes().all(|b| b >= 0x20 || matches!(b, b'\t' | b'\n' | b'\r'))
}

fn is_base64(text: &str) -> bool {
    let bare: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    !bare.is_empty() && STANDARD.decode(bare).is_ok()
}

fn is_nhs_number(text: &str) -> bool {
    NhsNumber::parse(text).is_ok()
}

fn is_ods_code(text: &str) -> bool {
    OdsCode::parse(text).is_ok()
}

fn is_phone(text: &str) -> bool {
    Phone::parse(text).is_ok()
}

fn is_local_plan_id(text: &str) -> bool {
    LocalPlanId::parse(text).is_some()
}

fn is_full_date(text: &str) -> bool {
    text.len() == 10 && date::is_date(text)
}

/// A day, or a time within one.
fn is_civil_day(text: &str) -> bool {
    text.len() >= 10 && date::is_date_time(text)
}

pub(super) fn referred(text: &str, resource_type: &str) -> Option<String> {
    let reference = Reference { reference: Some(text.to_owned()), ..Reference::default() };
    reference.id_of(resource_type).map(str::to_owned)
}

fn is_patient_reference(text: &str) -> bool {
    referred(text, "Patient").is_some_and(|id| is_nhs_number(&id))
}

fn is_organization_reference(text: &str) -> bool {
    referred(text, "Organization").is_some_and(|id| is_ods_code(&id))
}

/// Absolute, with a host, without what would leak or confuse: a user, a password, a fragment, white space.
/// Which hosts may be called is decided where the call is made.
fn is_hook_address(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else { return false };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    !host.is_empty()
        && !host.starts_with(':')
        && !host.contains(['@', '\\'])
        && !text.contains('#')
        && !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_take_the_good_and_refuse_the_bad() {
        for (name, good, bad) in [
            ("nhs-number", "9990000018", "9990000019"),
            ("patient-reference", "Patient/9990000018", "Patient/9990000019"),
            ("patient-reference", "https://example.org/r4/Patient/9990000018", "Group/9990000018"),
            ("organization-reference", "Organization/Z9A", "Organization/z9a"),
            ("full-date", "2017-05-11", "2017-05"),
            ("civil-day", "2017-05-11T10:00:00Z", "2017-05"),
            ("fhir-base64", "R0VU", "R0V"),
            ("fhir-time", "10:00:00", "24:00:00"),
            ("hook-address", "https://example.org:8443/hook?x=1", "https://user:pw@example.org/"),
            ("hook-address", "http://127.0.0.1:9/", "https:///hook"),
            ("hook-address", "https://example.org", "https://example.org/#x"),
        ] {
            let format = FORMATS.iter().find(|f| f.name == name).unwrap();
            assert!((format.check)(good), "{name} {good}");
            assert!(!(format.check)(bad), "{name} {bad}");
        }
    }
}
