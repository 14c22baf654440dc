//! Synthetic children and the FHIR resources that register them.

use cpis_gateway::cpis::types::NhsNumber;
use serde_json::{Value, json};

pub const CPP: &str = "342191000000101";
pub const LAC: &str = "764841000000100";
pub const UCP: &str = "818901000000100";

/// A child that the tests made up.
#[derive(Clone, Debug)]
pub struct Child {
    pub number: NhsNumber,
    pub family: &'static str,
    pub given: &'static str,
    pub birth_date: &'static str,
}

/// The `index`th valid number of the 999 range.
pub fn number(index: u32) -> NhsNumber {
    let digits = (0..10).find_map(|check| NhsNumber::parse(&format!("999{index:06}{check}")).ok());
    digits.unwrap_or_else(|| number(index + 500_000))
}

/// A child of nine with the `index`th number.
pub fn child(index: u32) -> Child {
    Child { number: number(index), family: "Testcase", given: "Robin", birth_date: "2017-05-11" }
}

/// `Organization` of an authority as it would send itself.
pub fn authority(ods: &str, name: &str, duty: &str) -> Value {
    json!({
        "resourceType": "Organization", "id": ods,
        "identifier": [{"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": ods}],
        "name": name,
        "telecom": [{"system": "phone", "value": duty, "use": "mobile"}],
    })
}

/// A Bundle of entries.
pub fn bundle(kind: &str, entries: &[Value]) -> Value {
    json!({"resourceType": "Bundle", "type": kind, "entry": entries})
}

impl Child {
    pub fn nhs(&self) -> &str {
        self.number.as_str()
    }

    pub fn patient(&self) -> Value {
        json!({
            "resourceType": "Patient", "id": self.nhs(),
            "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": self.nhs()}],
            "name": [{"use": "usual", "family": self.family, "given": [self.given]}],
            "birthDate": self.birth_date,
        })
    }

    pub fn flag(&self, authority: &str, code: &str, start: &str, end: Option<&str>) -> Value {
        let mut period = json!({"start": start});
        if let Some(end) = end {
            period["end"] = json!(end);
        }
        json!({
            "resourceType": "Flag", "status": "active",
            "code": {"coding": [{"system": "http://snomed.info/sct", "code": code}]},
            "subject": {"reference": format!("Patient/{}", self.nhs()),
                        "identifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": self.nhs()}},
            "period": period,
            "author": {"identifier": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": authority}},
        })
    }

    pub fn put_patient(&self) -> Value {
        json!({"fullUrl": format!("https://example.org/Patient/{}", self.nhs()), "resource": self.patient(),
               "request": {"method": "PUT", "url": format!("Patient/{}", self.nhs())}})
    }

    pub fn post_flag(&self, authority: &str, code: &str, start: &str, end: Option<&str>) -> Value {
        json!({"resource": self.flag(authority, code, start, end), "request": {"method": "POST", "url": "Flag"}})
    }

    /// The national look-up.
    pub fn care_team(&self) -> String {
        format!("/CareTeam?patient:identifier=https://fhir.nhs.uk/Id/nhs-number%7C{}", self.nhs())
    }

    /// The national call for the access history.
    pub fn history(&self) -> String {
        format!("/AuditEvent?patient:identifier=https://fhir.nhs.uk/Id/nhs-number%7C{}", self.nhs())
    }
}
