//! The upload Bundle of records that came in another form, and where in the file each of its entries stands.

use std::collections::HashMap;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::csv::{Line, Plan};
use crate::{
    cpis::types::{
        PlanType,
        upload::{OrganizationChange, PlanAction, PlanChange, RecordChange},
    },
    fhir::system,
};

/// Entries, each with its place in the file.
#[derive(Default)]
pub struct Entries {
    entries: Vec<Value>,
    /// Such as "line 7".
    pub places: Vec<String>,
}

impl Entries {
    fn add(&mut self, place: &str, entry: Value) {
        self.entries.push(entry);
        self.places.push(place.to_owned());
    }

    /// The lines of a CSV file. The child is sent once; what another line says otherwise is sent too, so that the whole
    /// record is refused and told.
    pub fn of_lines(lines: &[Line]) -> Self {
        let mut built = Self::default();
        let mut sent: HashMap<&str, Vec<Value>> = HashMap::new();
        for line in lines {
            let place = format!("line {}", line.number);
            if let Some(patient) = patient_of_line(line) {
                let before = sent.entry(&line.nhs_number).or_default();
                if !before.contains(&patient) {
                    before.push(patient.clone());
                    built.add(&place, put_patient(&line.nhs_number, patient));
                }
            }
            if let Some(plan) = &line.plan {
                built.add(&place, post_flag(flag_of_line(&line.nhs_number, plan)));
            }
        }
        built
    }

    /// Records of an HL7 v3 file, each with its number there, from 1.
    pub fn of_records(records: &[(usize, RecordChange)], organization: Option<(&str, &OrganizationChange)>) -> Self {
        let mut built = Self::default();
        if let Some((ods, change)) = organization {
            built.add("sender", put_organization(ods, change));
        }
        for (number, record) in records {
            let place = format!("record {number}");
            let nhs = record.nhs_number.as_str();
            if let Some(child) = &record.child {
                let demographics = &child.demographics;
                let born = demographics.birth_date.to_string();
                let local_id = child.local_id.as_deref().unwrap_or_default();
                let patient = patient(nhs, &demographics.family, &demographics.given, &born, local_id);
                built.add(&place, put_patient(nhs, patient));
            }
            for plan in &record.plans {
                built.add(&place, post_flag(flag_of_change(nhs, plan)));
            }
        }
        built
    }

    pub fn into_bundle(self) -> (Value, Vec<String>) {
        (json!({"resourceType": "Bundle", "type": "batch", "entry": self.entries}), self.places)
    }
}

/// Gives the Bundle its file number.
pub fn number(bundle: &mut Value, number: i64) {
    if let Some(members) = bundle.as_object_mut() {
        let identifier = json!({"system": system::UPLOAD_FILE, "value": number.to_string()});
        members.insert("identifier".to_owned(), identifier);
    }
}

/// The file number that a Bundle has.
pub fn number_of(bundle: &Value) -> Option<i64> {
    let identifier = bundle.get("identifier").filter(|id| id.get("system").is_some_and(|s| s == system::UPLOAD_FILE));
    identifier?.get("value")?.as_str()?.parse().ok()
}

/// `None` when the line says nothing of the child.
fn patient_of_line(line: &Line) -> Option<Value> {
    let says = [&line.family, &line.birth_date, &line.local_id].iter().any(|text| !text.is_empty());
    let says = says || !line.given.is_empty() || line.plan.is_none();
    says.then(|| patient(&line.nhs_number, &line.family, &line.given, &line.birth_date, &line.local_id))
}

fn patient(nhs: &str, family: &str, given: &[String], birth_date: &str, local_id: &str) -> Value {
    let mut identifier = vec![json!({"system": system::NHS_NUMBER, "value": nhs})];
    if !local_id.is_empty() {
        identifier.push(json!({"system": system::LOCAL_ID, "value": local_id}));
    }
    let mut name = json!({"use": "usual"});
    let mut patient = json!({"resourceType": "Patient", "id": nhs, "identifier": identifier});
    if !family.is_empty() {
        name["family"] = family.into();
    }
    if !given.is_empty() {
        name["given"] = given.into();
    }
    patient["name"] = json!([name]);
    if !birth_date.is_empty() {
        patient["birthDate"] = birth_date.into();
    }
    patient
}

fn put_patient(nhs: &str, patient: Value) -> Value {
    // What isn't a number may hold signs that would make another URL.
    let url = format!("Patient/{}", utf8_percent_encode(nhs, NON_ALPHANUMERIC));
    json!({"request": {"method": "PUT", "url": url}, "resource": patient})
}

fn put_organization(ods: &str, change: &OrganizationChange) -> Value {
    let phone = |usage: &str, value: &str| json!({"system": "phone", "value": value, "use": usage});
    let mut telecom = vec![phone("mobile", change.duty_phone.as_str())];
    telecom.extend(change.office_phone.as_ref().map(|office| phone("work", office.as_str())));
    let mut organization = json!({
        "resourceType": "Organization", "id": ods,
        "identifier": [{"system": system::ODS_CODE, "value": ods}],
        "telecom": telecom,
    });
    if let Some(name) = &change.name {
        organization["name"] = name.as_str().into();
    }
    json!({"request": {"method": "PUT", "url": format!("Organization/{ods}")}, "resource": organization})
}

fn post_flag(flag: Value) -> Value {
    json!({"request": {"method": "POST", "url": "Flag"}, "resource": flag})
}

fn flag_of_line(nhs: &str, plan: &Plan) -> Value {
    flag(nhs, plan.plan_type, &plan.start, &plan.end, &plan.plan_id, plan.delete)
}

fn flag_of_change(nhs: &str, plan: &PlanChange) -> Value {
    let text = |day: Option<chrono::NaiveDate>| day.map(|day| day.to_string()).unwrap_or_default();
    let (start, end, delete) = match plan.action {
        PlanAction::Put { start, end } => (Some(start), end, false),
        PlanAction::Delete { start } => (start, None, true),
    };
    let id = plan.local_id.as_ref().map(|id| id.as_str()).unwrap_or_default();
    flag(nhs, plan.plan_type, &text(start), &text(end), id, delete)
}

fn flag(nhs: &str, plan_type: Option<PlanType>, start: &str, end: &str, plan_id: &str, delete: bool) -> Value {
    let mut coding = vec![json!({"system": system::FLAG_CATEGORY_PATIENT, "code": system::CPIS_FLAG})];
    coding.extend(plan_type.map(|of| json!({"system": system::SNOMED_CT, "code": of.snomed()})));
    let mut flag = json!({
        "resourceType": "Flag",
        "status": if delete { "entered-in-error" } else { "active" },
        "category": [{"coding": [{"system": system::FLAG_CATEGORY, "code": "safety"}]}],
        "code": {"coding": coding},
        "subject": {"identifier": {"system": system::NHS_NUMBER, "value": nhs}},
    });
    if !plan_id.is_empty() {
        flag["identifier"] = json!([{"system": system::LOCAL_ID, "value": plan_id}]);
    }
    for (name, day) in [("start", start), ("end", end)] {
        if !day.is_empty() {
            flag["period"][name] = day.into();
        }
    }
    flag
}
