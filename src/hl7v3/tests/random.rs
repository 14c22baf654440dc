//! Random files: what is written is read, what is broken panics nowhere, and what only looks different is the same.

use chrono::{DateTime, Days};
use chrono_tz::Europe::London;
use proptest::{collection::vec, option, prelude::*, sample};

use super::*;
use crate::{
    cpis::types::{
        LocalPlanId, OdsCode, Phone, Precondition,
        child::Demographics,
        upload::{ChildChange, PlanChange, PlanKey, SUBJECT_ENTRY},
    },
    hl7v3::{
        message,
        upload::{FileWriter, WrittenFile},
    },
};

fn any_number() -> impl Strategy<Value = NhsNumber> {
    (0_u32..1_000_000).prop_filter_map("no check digit", |n| {
        (0..10).find_map(|check| NhsNumber::parse(&format!("999{n:06}{check}")).ok())
    })
}

fn any_day() -> impl Strategy<Value = NaiveDate> {
    (0_u64..9_000).prop_map(|n| day("2001-01-01") + Days::new(n))
}

/// Words of anything that XML can hold, without white space at their ends.
fn any_words() -> impl Strategy<Value = String> {
    let words = vec("[!-~¡-\u{2FF}\u{1F600}-\u{1F64F}&<>'\"]{1,8}", 1..3).prop_map(|words| words.join(" "));
    words
        .prop_map(|words| words.split_whitespace().collect::<Vec<_>>().join(" "))
        .prop_filter("no words", |w| !w.is_empty())
}

fn any_action() -> impl Strategy<Value = PlanAction> {
    prop_oneof![
        (any_day(), option::of(any_day())).prop_map(|(start, end)| PlanAction::Put { start, end }),
        any_day().prop_map(|start| PlanAction::Delete { start: Some(start) }),
    ]
}

fn any_record() -> impl Strategy<Value = RecordChange> {
    let types = prop_oneof![
        sample::subsequence(vec![PlanType::ChildProtection, PlanType::LookedAfter], 1..=2),
        Just(vec![PlanType::Unborn]),
    ];
    let plans = (types, vec((any_action(), option::of("[A-Z0-9-]{1,12}")), 2));
    let child = (any_words(), vec(any_words(), 0..3), any_day(), option::of("[A-Z0-9 /&<-]{0,9}[A-Z]"));
    (any_number(), child, plans).prop_map(|(nhs_number, (family, given, birth_date, local_id), (types, actions))| {
        let plan = |(index, (plan_type, (action, id))): (usize, (PlanType, (PlanAction, Option<String>)))| PlanChange {
            entry: index + 1,
            key: PlanKey::Content,
            plan_type: Some(plan_type),
            local_id: id.and_then(|id| LocalPlanId::parse(&id)),
            action,
        };
        let local_id = local_id.map(|id| id.trim().to_owned());
        let demographics = Demographics { family, given, birth_date };
        let child = ChildChange { entry: SUBJECT_ENTRY, demographics, local_id, precondition: Precondition::None };
        RecordChange {
            nhs_number,
            child: Some(child),
            plans: types.into_iter().zip(actions).enumerate().map(plan).collect(),
        }
    })
}

fn written(records: &[RecordChange]) -> Vec<u8> {
    let (sender, duty) = (OdsCode::parse("Z9A").unwrap(), Phone::parse("01632960999").unwrap());
    let file = WrittenFile {
        created: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        zone: London,
        number: 7,
        records: records.len(),
        sender: &sender,
        sender_name: Some("WESTMARCH & SONS"),
        duty_phone: Some(&duty),
        office_phone: None,
    };
    let mut writer = FileWriter::begin(Vec::new(), &file).unwrap();
    records.iter().for_each(|record| writer.record(record).unwrap());
    writer.finish().unwrap()
}

proptest! {
    #[test]
    fn what_is_written_is_read(records in vec(any_record(), 1..4)) {
        let file = written(&records);
        let opened = UploadFile::open(file.as_slice()).unwrap();
        prop_assert_eq!(opened.header().number, 7);
        let duty = opened.header().organization.as_ref().map(|own| own.duty_phone.as_str().to_owned());
        prop_assert_eq!(duty.as_deref(), Some("01632960999"));
        let read: Result<Vec<ReadRecord>, FileFault> = opened.collect();
        let expected: Vec<ReadRecord> = records.into_iter().map(ReadRecord::Change).collect();
        prop_assert_eq!(read.unwrap(), expected);
    }

    #[test]
    fn white_space_and_comments_between_elements_change_nothing(
        records in vec(any_record(), 1..3),
        between in "[ \t\r\n]{0,3}(<!-- [a-z]{0,3} -->|<\\?p q\\?>|)[ \n]{0,2}",
    ) {
        let file = String::from_utf8(written(&records)).unwrap();
        let spaced = file.replace(">\n", &format!(">{between}"));
        // The declaration stays where it is.
        let spaced = spaced.split_once("?>").map(|(head, rest)| format!("{head}?>{rest}")).unwrap();
        prop_assert_eq!(read(&spaced).unwrap(), read(&file).unwrap());
    }

    #[test]
    fn what_is_broken_panics_nowhere(
        name in sample::select(vec!["upload.xml", "acknowledgement.xml", "access-notification.xml", "inactive-number.xml"]),
        changes in vec((any::<sample::Index>(), any::<u8>(), 0_u8..4), 1..6),
    ) {
        let mut bytes = fixture(name).into_bytes();
        for (at, byte, kind) in changes {
            // Cut down to nothing, there is no place left to change.
            let at = if bytes.is_empty() { break } else { at.index(bytes.len()) };
            match kind {
                0 => bytes[at] = byte,
                1 => { bytes.remove(at); }
                2 => bytes.insert(at, byte),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let _read = (read(&bytes), message::read(bytes.as_slice()));
    }

    #[test]
    fn noise_panics_nowhere(bytes in vec(any::<u8>(), 0..200), markup in "[<>/!?='\"a-z:&;#x0-9\\[\\]-]{0,80}") {
        let _read = (read(&bytes), read(&markup), message::read(markup.as_bytes()));
    }

    #[test]
    fn a_cut_file_is_never_whole(records in vec(any_record(), 1..3), cut in any::<sample::Index>()) {
        let file = written(&records);
        // Behind the last tag there is only a line end.
        let cut = cut.index(file.len() - 1);
        prop_assert!(read(&file[..cut]).is_err());
    }
}
