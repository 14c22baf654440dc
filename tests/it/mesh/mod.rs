//! MESH end to end: NHS's own mesh-sandbox in the middle, NHS's own mesh-client on the authorities' side.

mod client;
mod hostile;
mod interrupted;
mod killed;
mod notifications;
mod uploads;

use chrono::{DateTime, NaiveDate, Utc};
use cpis_gateway::{
    cpis::types::{
        PlanType,
        plan::LocalPlanId,
        upload::{ChildChange, PlanAction, PlanChange, PlanKey, RecordChange},
    },
    hl7v3::{
        acknowledgement::ReadAcknowledgement,
        message::Message,
        upload::{FileWriter, WrittenFile},
    },
    mailbox::Pumped,
};

use crate::harness::{Child, TestApp, mesh::TakenMessage, noon, ods};

/// One round of the gateway's mailbox.
pub async fn pump(app: &TestApp) -> Pumped {
    app.app.mailbox.as_ref().expect("a mailbox").pump().await.expect("a round")
}

/// A file of an authority: each child with a child protection plan from this day on.
pub fn file(authority: &str, number: i64, children: &[(&Child, &str)]) -> Vec<u8> {
    file_at(noon(), authority, number, children)
}

pub fn file_at(created: DateTime<Utc>, authority: &str, number: i64, children: &[(&Child, &str)]) -> Vec<u8> {
    let sender = ods(authority);
    let header = WrittenFile {
        created,
        zone: chrono_tz::Europe::London,
        number,
        records: children.len(),
        sender: &sender,
        sender_name: None,
        duty_phone: None,
        office_phone: None,
    };
    let mut writer = FileWriter::begin(Vec::new(), &header).unwrap();
    for (child, start) in children {
        writer.record(&record(child, start)).unwrap();
    }
    writer.finish().unwrap()
}

fn record(child: &Child, start: &str) -> RecordChange {
    let start: NaiveDate = start.parse().unwrap();
    RecordChange {
        nhs_number: child.number,
        child: Some(ChildChange {
            entry: 0,
            demographics: child.demographics(),
            local_id: None,
            precondition: Default::default(),
        }),
        plans: vec![PlanChange {
            entry: 1,
            key: PlanKey::Content,
            plan_type: Some(PlanType::ChildProtection),
            // So that another start in a later file corrects this one.
            local_id: LocalPlanId::parse("plan-1"),
            action: PlanAction::Put { start, end: None },
        }],
    }
}

/// The one message that a mailbox held, as an acknowledgement.
pub fn acknowledgement(taken: &[TakenMessage]) -> ReadAcknowledgement {
    let [one] = taken else { panic!("{} messages: {taken:?}", taken.len()) };
    match one.message() {
        Message::Acknowledgement(read) => read,
        other => panic!("{other:?}"),
    }
}
