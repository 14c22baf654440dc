//! A row of the security audit as `AuditEvent`, after the IHE BALP patterns (domain.md 9, examples.md 12).
//! <https://profiles.ihe.net/ITI/BALP>

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{access_event::site_reference, job_role, nhs_identifier, ods_identifier};
use crate::{
    cpis::types::{
        NhsNumber,
        access::AccessKind,
        audit::{AuditContent, AuditRow, EntityRef, Interaction, Outcome, RequestEvent, SystemEvent},
        caller::{Author, Role},
    },
    fhir::{
        datatype::{CodeableConcept, Coding, Identifier, Meta, Reference, given},
        resource::{
            AuditEvent, AuditEventAgent, AuditEventAgentNetwork, AuditEventEntity, AuditEventEntityDetail,
            AuditEventSource,
        },
        system,
    },
};

const GATEWAY: &str = "cpis-gateway";

/// The row as BALP says it. `base_url` is the gateway's own address, as the server agent's network address.
pub fn security_event(row: &AuditRow, base_url: &str) -> AuditEvent {
    let event = match &row.content {
        AuditContent::Request(event) => request(event, base_url),
        AuditContent::ChainOpened { process, newest_checkpoint, newest_checkpoint_hash } => {
            let detail = [
                newest_checkpoint.map(|number| detail("newest-checkpoint", &number.to_string())),
                newest_checkpoint_hash.as_ref().map(|hash| detail("newest-checkpoint-hash", hash)),
            ];
            application("110120", "Application Start", row.chain, process, detail.into_iter().flatten().collect())
        }
        AuditContent::System(event) => system_event(event),
        AuditContent::ChainClosed { by } => application("110121", "Application Stop", row.chain, by, Vec::new()),
    };
    AuditEvent {
        id: Some(row.fhir_id()),
        recorded: row.recorded.into(),
        source: AuditEventSource {
            observer: Reference::named(GATEWAY),
            kind: vec![Coding::displayed(system::SECURITY_SOURCE_TYPE, "4", "Application Server")],
            ..AuditEventSource::default()
        },
        ..event
    }
}

fn request(event: &RequestEvent, base_url: &str) -> AuditEvent {
    AuditEvent {
        meta: profile(event).map(|profile| Meta { profile: vec![profile], ..Meta::default() }),
        kind: Coding::displayed(system::AUDIT_EVENT_TYPE, "rest", "Restful Operation"),
        subtype: subtype(event.interaction),
        action: Some(event.interaction.action().to_string()),
        outcome: Some(event.outcome.code().to_owned()),
        outcome_desc: event.refusal.clone(),
        agent: agents(event, base_url),
        entity: entities(event),
        ..AuditEvent::default()
    }
}

/// The BALP profile that the event meets. A failure meets none, nor does one without the caller's address, which
/// every profile asks for.
fn profile(event: &RequestEvent) -> Option<String> {
    if event.outcome != Outcome::Success || event.address.is_none() {
        return None;
    }
    let pattern = match event.interaction {
        Interaction::SearchType | Interaction::HistoryInstance | Interaction::HistoryType | Interaction::Operation => {
            "Query"
        }
        Interaction::Read | Interaction::Vread => "Read",
        Interaction::Create => "Create",
        Interaction::Update => "Update",
        Interaction::Delete => "Delete",
        Interaction::Batch | Interaction::Transaction => return None,
    };
    // Outside a query the profiles ask for the resource as entity[data].
    if pattern != "Query" && event.entity.is_none() {
        return None;
    }
    let patient = if event.patient.is_some() { "Patient" } else { "" };
    Some(format!("{}{patient}{pattern}", system::BALP_PROFILE))
}

/// An operation or a history reads as a search does, and BALP knows only that word for it.
fn subtype(interaction: Interaction) -> Vec<Coding> {
    let code = |code: &str| Coding::displayed(system::RESTFUL_INTERACTION, code, code);
    match interaction {
        Interaction::Operation | Interaction::HistoryInstance | Interaction::HistoryType => {
            vec![code(interaction.code()), code("search")]
        }
        _ => vec![code(interaction.code())],
    }
}

fn agents(event: &RequestEvent, base_url: &str) -> Vec<AuditEventAgent> {
    let dicom = |code: &str, display: &str| Coding::displayed(system::DICOM, code, display);
    let source = dicom("110153", "Source Role ID");
    let destination = dicom("110152", "Destination Role ID");
    // Who sends the data: the client for a query or a change, the server for a read.
    let (client, server) = match event.interaction {
        Interaction::Read | Interaction::Vread => (destination, source),
        Interaction::Delete => {
            (dicom("110150", "Application"), Coding::displayed(system::PARTICIPANT_TYPE, "custodian", "Custodian"))
        }
        _ => (source, destination),
    };
    let user = user(event);
    let network = |address: &str, kind: &str| AuditEventAgentNetwork {
        address: Some(address.to_owned()),
        kind: Some(kind.to_owned()),
    };
    let client = AuditEventAgent {
        kind: Some(client.into()),
        who: Some(Reference::identified(Identifier::local(&event.agent.client_id))),
        requestor: Some(user.is_none()),
        policy: if user.is_none() { policy(event) } else { Vec::new() },
        network: event.address.as_deref().map(|address| network(address, "2")),
        ..AuditEventAgent::default()
    };
    let server = AuditEventAgent {
        kind: Some(server.into()),
        who: Some(Reference::named(GATEWAY)),
        requestor: Some(false),
        network: Some(network(base_url, "5")),
        ..AuditEventAgent::default()
    };
    [Some(client), Some(server), user, Some(organization(event))].into_iter().flatten().collect()
}

/// The person behind the request: the user, or whom an unattended client names as responsible.
fn user(event: &RequestEvent) -> Option<AuditEventAgent> {
    let part = match event.interaction {
        Interaction::Create | Interaction::Update | Interaction::Delete => {
            Coding::displayed(system::PARTICIPATION_TYPE, "AUT", "author (originator)")
        }
        _ => Coding::displayed(system::PARTICIPATION_TYPE, "IRCP", "information recipient"),
    };
    let agent = AuditEventAgent {
        kind: Some(part.into()),
        requestor: Some(true),
        policy: policy(event),
        ..AuditEventAgent::default()
    };
    match &event.agent.author {
        Author::Person(user) => Some(AuditEventAgent {
            role: job_role(user.job_role_code.as_deref(), user.job_role_name.as_deref()).into_iter().collect(),
            who: Some(Reference::identified(Identifier::new(system::SDS_USER_ID, &user.sds_user_id))),
            name: given(&user.name),
            ..agent
        }),
        Author::Device { responsible, site } => Some(AuditEventAgent {
            role: job_role(responsible.role_code.as_deref(), Some(&responsible.role_name)).into_iter().collect(),
            who: Some(Reference::named(&responsible.name)),
            name: given(&responsible.name),
            location: site.as_ref().map(site_reference),
            ..agent
        }),
        Author::System => None,
    }
}

/// The organisation that the caller acts for (BALP agent `userorg`).
fn organization(event: &RequestEvent) -> AuditEventAgent {
    let kind = match event.agent.role {
        Role::Clinical => Coding::displayed(system::ROLE_CLASS, "PROV", "healthcare provider").into(),
        Role::LocalAuthority | Role::Auditor | Role::Administrator => CodeableConcept::text("organisation"),
    };
    let organization = &event.agent.organization;
    AuditEventAgent {
        kind: Some(kind),
        who: Some(Reference::identified(ods_identifier(organization)).with_display(&event.agent.organization_name)),
        requestor: Some(false),
        ..AuditEventAgent::default()
    }
}

fn policy(event: &RequestEvent) -> Vec<String> {
    Some(event.agent.token_tail.clone()).filter(|tail| !tail.is_empty()).into_iter().collect()
}

fn entities(event: &RequestEvent) -> Vec<AuditEventEntity> {
    let transaction = AuditEventEntity {
        kind: Some(Coding::new(system::BALP_ENTITY_TYPE, "XrequestId")),
        what: Some(Reference::identified(Identifier::local(&event.request_id))),
        ..AuditEventEntity::default()
    };
    // Where BALP has no entity[query] (reads and changes) the request line stands in an entity without a type,
    // which belongs to none of BALP's slices.
    let is_query = event.interaction.action() == 'E';
    let query = AuditEventEntity {
        kind: is_query.then(object),
        role: is_query.then(|| Coding::displayed(system::OBJECT_ROLE, "24", "Query")),
        query: Some(STANDARD.encode(&event.request_line)),
        ..AuditEventEntity::default()
    };
    let patient = event.patient.as_ref().map(patient_entity);
    let data = event.entity.as_ref().map(data_entity);
    let query = (!event.request_line.is_empty()).then_some(query);
    [Some(transaction), query, patient, data, access(event), facts(event)].into_iter().flatten().collect()
}

fn object() -> Coding {
    Coding::displayed(system::AUDIT_ENTITY_TYPE, "2", "System Object")
}

fn patient_entity(number: &NhsNumber) -> AuditEventEntity {
    AuditEventEntity {
        kind: Some(Coding::displayed(system::AUDIT_ENTITY_TYPE, "1", "Person")),
        role: Some(Coding::displayed(system::OBJECT_ROLE, "1", "Patient")),
        what: Some(Reference::identified(nhs_identifier(number))),
        ..AuditEventEntity::default()
    }
}

fn data_entity(entity: &EntityRef) -> AuditEventEntity {
    let reference = Reference::to(&entity.resource, &entity.id);
    let versioned = |version: i64| format!("{}/{}/_history/{version}", entity.resource, entity.id);
    AuditEventEntity {
        kind: Some(object()),
        role: Some(Coding::displayed(system::OBJECT_ROLE, "4", "Domain Resource")),
        what: Some(Reference {
            reference: entity.version.map(versioned).or(reference.reference),
            ..Reference::default()
        }),
        ..AuditEventEntity::default()
    }
}

/// The event of the access history that this request caused.
fn access(event: &RequestEvent) -> Option<AuditEventEntity> {
    event.access_id.map(|id| AuditEventEntity {
        what: Some(Reference::to("AuditEvent", &id.to_string())),
        description: Some("The listed access".to_owned()),
        ..AuditEventEntity::default()
    })
}

/// What else the row holds: kind of access, listing decisions, rows of a query without a patient, the upload.
fn facts(event: &RequestEvent) -> Option<AuditEventEntity> {
    let mut facts = Vec::new();
    if let Some(kind) = event.access {
        let kind = match kind {
            AccessKind::Unscheduled => "unscheduled",
            AccessKind::Silent => "silent",
        };
        facts.push(detail("access", kind));
    }
    for decision in &event.listing {
        facts.push(detail(if decision.listed { "listed-for" } else { "repeat-for" }, decision.authority.as_str()));
    }
    if let Some(result) = &event.result {
        facts.push(detail("rows", &result.rows.to_string()));
        facts.extend(result.first.as_ref().map(|id| detail("first", id)));
        facts.extend(result.last.as_ref().map(|id| detail("last", id)));
    }
    facts.extend(event.upload.map(|id| detail("upload", &id.to_string())));
    facts.extend(event.change.as_deref().map(|change| detail("change", change)));
    let description = Some("What the request came to".to_owned());
    (!facts.is_empty()).then(|| AuditEventEntity { description, detail: facts, ..AuditEventEntity::default() })
}

fn detail(kind: &str, value: &str) -> AuditEventEntityDetail {
    AuditEventEntityDetail { kind: kind.to_owned(), value_string: Some(value.to_owned()) }
}

/// A change that nobody's request made.
fn system_event(event: &SystemEvent) -> AuditEvent {
    let update = Interaction::Update;
    let what = AuditEventEntity {
        description: Some("What the system did".to_owned()),
        detail: vec![detail("change", &event.change)],
        ..AuditEventEntity::default()
    };
    let organization = event.organization.as_ref().map(|ods| AuditEventAgent {
        kind: Some(CodeableConcept::text("organisation")),
        who: Some(Reference::identified(ods_identifier(ods))),
        requestor: Some(false),
        ..AuditEventAgent::default()
    });
    let program = AuditEventAgent {
        kind: Some(Coding::displayed(system::DICOM, "110150", "Application").into()),
        who: Some(Reference::named(GATEWAY)),
        name: Some(event.by.clone()),
        requestor: Some(true),
        ..AuditEventAgent::default()
    };
    AuditEvent {
        kind: Coding::displayed(system::DICOM, "110100", "Application Activity"),
        subtype: subtype(update),
        action: Some(update.action().to_string()),
        outcome: Some(Outcome::Success.code().to_owned()),
        agent: [Some(program), organization].into_iter().flatten().collect(),
        entity: [event.patient.as_ref().map(patient_entity), event.entity.as_ref().map(data_entity), Some(what)]
            .into_iter()
            .flatten()
            .collect(),
        ..AuditEvent::default()
    }
}

/// A process of the gateway opened or closed its chain.
fn application(
    code: &str,
    display: &str,
    chain: i64,
    process: &str,
    detail: Vec<AuditEventEntityDetail>,
) -> AuditEvent {
    AuditEvent {
        kind: Coding::displayed(system::DICOM, "110100", "Application Activity"),
        subtype: vec![Coding::displayed(system::DICOM, code, display)],
        action: Some("E".to_owned()),
        outcome: Some(Outcome::Success.code().to_owned()),
        agent: vec![AuditEventAgent {
            kind: Some(Coding::displayed(system::DICOM, "110150", "Application").into()),
            who: Some(Reference::named(process)),
            requestor: Some(false),
            ..AuditEventAgent::default()
        }],
        entity: vec![AuditEventEntity {
            kind: Some(object()),
            what: Some(Reference::identified(Identifier::local(&format!("audit chain {chain}")))),
            detail,
            ..AuditEventEntity::default()
        }],
        ..AuditEvent::default()
    }
}
