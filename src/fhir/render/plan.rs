//! A plan as `Flag`, `CarePlan` and `CareTeam`, which share its id (design 2 and 3), and in the shape of the
//! Patient Flag API (examples.md 8).

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::{View, nhs_identifier, ods_identifier, organization_reference, patient_reference};
use crate::{
    cpis::types::{Organization, ShownPlan, plan::last_changed},
    fhir::{
        datatype::{Annotation, CodeableConcept, Coding, ContactPoint, Extension, Identifier, Meta, Period, Reference},
        resource::{CarePlan, CareTeam, Flag, Provenance, ProvenanceAgent},
        system,
    },
};

/// The three resources of one plan as the Patient Flag API sends them.
#[derive(Clone, Debug, PartialEq)]
pub struct PatientFlag {
    pub flag: Flag,
    pub care_plan: CarePlan,
    pub care_team: CareTeam,
}

/// The plan as a `Flag`: that there is a plan, of which kind, by whom.
pub fn flag(shown: &ShownPlan, view: View) -> Flag {
    let id = shown.plan.id.to_string();
    let owner = view != View::Clinician;
    Flag {
        meta: meta(shown, view),
        extension: vec![Extension {
            url: system::FLAG_DETAIL.to_owned(),
            value_reference: Some(Reference::to("CarePlan", &id)),
            ..Extension::default()
        }],
        identifier: if owner { local_plan_id(shown).into_iter().collect() } else { Vec::new() },
        status: status(shown, "inactive"),
        category: vec![Coding::displayed(system::FLAG_CATEGORY, "safety", "Safety").into()],
        code: CodeableConcept {
            coding: vec![
                Coding::displayed(system::FLAG_CATEGORY_PATIENT, system::CPIS_FLAG, system::CPIS_FLAG_DISPLAY),
                plan_type(shown),
            ],
            text: None,
        },
        subject: patient_reference(&shown.nhs_number),
        period: Some(period(shown)),
        author: Some(author(shown)),
        id: Some(id),
        ..Flag::default()
    }
}

/// The plan as a `CarePlan`: what the flag's detail points at.
pub fn care_plan(shown: &ShownPlan, view: View) -> CarePlan {
    let id = shown.plan.id.to_string();
    CarePlan {
        meta: meta(shown, view),
        identifier: if view == View::Clinician { Vec::new() } else { local_plan_id(shown).into_iter().collect() },
        status: status(shown, "completed"),
        intent: "plan".to_owned(),
        category: vec![plan_type(shown).into()],
        subject: patient_reference(&shown.nhs_number),
        period: Some(period(shown)),
        author: Some(author(shown)),
        care_team: vec![Reference::to("CareTeam", &id).with_display(&shown.authority.name)],
        id: Some(id),
    }
}

/// The plan as a `CareTeam`: the authority and its telephone numbers, and a note when it has been silent too long.
pub fn care_team(shown: &ShownPlan, view: View) -> CareTeam {
    let authority = &shown.authority;
    let note = shown.last_confirmed.map(|day| Annotation {
        time: None,
        text: format!("The local authority last confirmed this record on {}.", day.format("%-d %B %Y")),
    });
    CareTeam {
        id: Some(shown.plan.id.to_string()),
        meta: meta(shown, view),
        status: Some(status(shown, "inactive")),
        category: vec![plan_type(shown).into()],
        name: Some(authority.name.clone()),
        subject: Some(patient_reference(&shown.nhs_number)),
        period: Some(period(shown)),
        managing_organization: vec![organization_reference(&authority.ods, &authority.name)],
        telecom: telecom(authority),
        note: note.into_iter().collect(),
        ..CareTeam::default()
    }
}

/// The plan in the shape of the Patient Flag API: profiles claimed, a contained `Provenance`. For clinicians.
pub fn patient_flag(shown: &ShownPlan) -> PatientFlag {
    let view = View::Clinician;
    let profile = |name: &str| {
        let profile = vec![format!("{}{name}", system::ENGLAND_PROFILE)];
        Some(Meta { profile, ..Meta::default() })
    };
    let provenance = Provenance {
        id: Some("provenance".to_owned()),
        target: vec![Reference { reference: Some("#".to_owned()), ..Reference::default() }],
        recorded: shown.plan.created.into(),
        activity: Some(Coding::displayed(system::DATA_OPERATION, "CREATE", "create").into()),
        agent: vec![ProvenanceAgent {
            who: Reference::named("CP-IS"),
            on_behalf_of: Some(Reference::identified(ods_identifier(&shown.authority.ods))),
            ..ProvenanceAgent::default()
        }],
        ..Provenance::default()
    };
    PatientFlag {
        flag: Flag {
            meta: profile("England-Flag-PatientFlag"),
            contained: vec![provenance.into()],
            ..flag(shown, view)
        },
        care_plan: CarePlan { meta: profile("England-CarePlan-Flag"), ..care_plan(shown, view) },
        care_team: CareTeam { meta: profile("England-CareTeam-Flag"), ..care_team(shown, view) },
    }
}

/// Office hours `work`, emergency duty `mobile`, as the national API does.
pub(super) fn telecom(authority: &Organization) -> Vec<ContactPoint> {
    let phone = |number: &Option<crate::cpis::types::Phone>, usage| {
        number.as_ref().map(|number| ContactPoint::phone(number.as_str(), usage))
    };
    [phone(&authority.office_phone, "work"), phone(&authority.duty_phone, "mobile")].into_iter().flatten().collect()
}

fn status(shown: &ShownPlan, ended: &str) -> String {
    let status = match (shown.plan.deleted, shown.active) {
        (true, _) => "entered-in-error",
        (false, true) => "active",
        (false, false) => ended,
    };
    status.to_owned()
}

fn plan_type(shown: &ShownPlan) -> Coding {
    let plan_type = shown.plan.plan_type;
    Coding::displayed(system::SNOMED_CT, plan_type.snomed(), plan_type.display())
}

fn period(shown: &ShownPlan) -> Period {
    let period = &shown.plan.period;
    Period { start: Some(period.start().into()), end: period.end().map(Into::into) }
}

fn author(shown: &ShownPlan) -> Reference {
    organization_reference(&shown.authority.ods, &shown.authority.name)
}

fn local_plan_id(shown: &ShownPlan) -> Option<Identifier> {
    let assigner = Reference::identified(ods_identifier(&shown.authority.ods));
    shown
        .plan
        .local_id
        .as_ref()
        .map(|id| Identifier { assigner: Some(Box::new(assigner)), ..Identifier::new(system::LOCAL_ID, id.as_str()) })
}

fn meta(shown: &ShownPlan, view: View) -> Option<Meta> {
    let View::Owner { now, zone } = view else { return None };
    let version_id = Some(shown.plan.version.to_string());
    Some(Meta { version_id, last_updated: Some(last_updated(shown, now, zone).into()), ..Meta::default() })
}

/// When what the owner sees last changed.
pub fn last_updated(shown: &ShownPlan, now: DateTime<Utc>, zone: Tz) -> DateTime<Utc> {
    last_changed(shown.plan.recorded, shown.plan.period.end(), shown.closes, now, zone)
}

/// The child's number alone, for resources that refer to it by identifier only.
pub(super) fn subject_identifier(number: &crate::cpis::types::NhsNumber) -> Reference {
    Reference { target_type: Some("Patient".to_owned()), ..Reference::identified(nhs_identifier(number)) }
}
