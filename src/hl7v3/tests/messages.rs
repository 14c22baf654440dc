//! What an authority is sent: as it is written, and read again.

use chrono::{DateTime, Utc};
use chrono_tz::Europe::London;
use insta::assert_snapshot;
use uuid::Uuid;

use super::*;
use crate::{
    cpis::types::{
        OdsCode,
        access::{Access, AccessAuthor},
        caller::{Author, ResponsiblePerson, User},
        upload::{FileCode, ProblemKind, RecordCode},
    },
    hl7v3::{
        access_notification::{self, Envelope},
        acknowledgement::{Acknowledgement, AcknowledgementWriter, DetailCodes, RefusedRecord},
        inactive_number::{self, InactiveNumber},
        message::{self, Message},
    },
};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn ods(code: &str) -> OdsCode {
    OdsCode::parse(code).unwrap()
}

fn acknowledged(of: &Acknowledgement<'_>, refused: &[RefusedRecord<'_>]) -> String {
    let mut writer = AcknowledgementWriter::begin(Vec::new(), of).unwrap();
    for record in refused {
        writer.refused(record).unwrap();
    }
    String::from_utf8(writer.finish().unwrap()).unwrap()
}

fn problem(entry: usize, code: RecordCode, element: &'static str, reason: &str) -> Problem {
    Problem { entry, code, kind: ProblemKind::Rule, reason: reason.to_owned(), element }
}

#[test]
fn an_acknowledgement_tells_every_refused_record_with_reason_and_place() {
    let authority = ods("Z9A");
    let detail_codes =
        DetailCodes { system: "1.2.3".to_owned(), by_element: [("period.end".to_owned(), "365".to_owned())].into() };
    let of = Acknowledgement {
        created: at("2026-11-03T02:20:10Z"),
        zone: London,
        number: Some(418),
        records: Some(3),
        code: FileCode::Cpf03,
        reason: None,
        authority: &authority,
        authority_name: Some("WESTMARCH & <SONS>"),
        refused: 3,
        detail_codes: Some(&detail_codes),
    };
    let unverified = [problem(0, RecordCode::Cpr03, "identifier", "Name and birth date don't agree.")];
    let several = [
        problem(1, RecordCode::Cpr07, "period.end", "The end lies too far back to be shared."),
        problem(0, RecordCode::Cpr01, "identifier", "No person has this NHS number."),
    ];
    let refused = [
        RefusedRecord {
            position: 1,
            nhs_number: Some(number("9990000026")),
            code: RecordCode::Cpr03,
            problems: &unverified,
        },
        RefusedRecord {
            position: 2,
            nhs_number: Some(number("9990000034")),
            code: RecordCode::Cpr01,
            problems: &several,
        },
        RefusedRecord { position: 4, nhs_number: None, code: RecordCode::Cpr02, problems: &[] },
    ];
    let written = acknowledged(&of, &refused);
    assert_snapshot!("acknowledgement", written);
    let Ok(Message::Acknowledgement(read)) = message::read(written.as_bytes()) else { panic!("not read") };
    assert_eq!((read.number, read.records, read.failed, read.code.as_str()), (Some(418), Some(3), Some(3), "CPF03"));
    assert_eq!(read.created.map(|at| at.to_utc()), Some(of.created));
    assert_eq!(read.authority.as_deref(), Some("Z9A"));
    let positions: Vec<Option<usize>> = read.refused.iter().map(|refused| refused.position()).collect();
    assert_eq!(positions, [Some(1), Some(2), Some(4)]);
    let codes: Vec<Vec<&str>> =
        read.refused.iter().map(|refused| refused.details.iter().map(|d| d.code.as_str()).collect()).collect();
    assert_eq!(codes, [vec!["CPR03"], vec!["CPR01", "CPR07"], vec!["CPR02"]]);
    assert_eq!(read.refused[1].details[1].detail_code.as_deref(), Some("365"));
    assert_eq!(read.refused[1].details[1].reason.as_deref(), Some("The end lies too far back to be shared."));
    assert_eq!(read.refused[2].nhs_number, None);
}

#[test]
fn what_is_not_known_of_a_file_is_minus_one() {
    let authority = ods("Z9A");
    for (code, type_code) in [
        (FileCode::Cpf01, "AR"),
        (FileCode::Cpf02, "AA"),
        (FileCode::Cpf03, "AE"),
        (FileCode::Cpf04, "AE"),
        (FileCode::Cpf05, "AR"),
    ] {
        let of = Acknowledgement {
            created: at("2026-07-03T02:20:10Z"),
            zone: London,
            number: None,
            records: None,
            code,
            reason: Some("The file is empty."),
            authority: &authority,
            authority_name: None,
            refused: 0,
            detail_codes: None,
        };
        let written = acknowledged(&of, &[]);
        assert!(written.contains("<creationTime value=\"20260703032010+0100\"/>"));
        assert!(written.contains(&format!("<acknowledgementFile typeCode=\"{type_code}\">")), "{written}");
        assert_eq!(written.matches("\"-1\"").count(), 2);
        let Ok(Message::Acknowledgement(read)) = message::read(written.as_bytes()) else { panic!("not read") };
        assert_eq!((read.number, read.records, read.failed), (None, None, Some(0)));
        assert_eq!((read.code.as_str(), read.reason.as_deref()), (code.code(), Some("The file is empty.")));
        let one_too_many = RefusedRecord { position: 0, nhs_number: None, code: RecordCode::Cpr01, problems: &[] };
        let mut writer = AcknowledgementWriter::begin(Vec::new(), &of).unwrap();
        assert!(writer.refused(&one_too_many).is_err());
        assert!(
            AcknowledgementWriter::begin(Vec::new(), &Acknowledgement { refused: 1, ..of }).unwrap().finish().is_err()
        );
    }
}

#[test]
fn the_examples_are_read() {
    let Ok(Message::Acknowledgement(read)) = message::read(fixture("acknowledgement.xml").as_bytes()) else { panic!() };
    assert_eq!((read.number, read.records, read.code.as_str(), read.failed), (Some(418), Some(3), "CPF03", Some(1)));
    assert_eq!(read.refused[0].nhs_number, Some(number("9990000026")));
    assert_eq!(read.refused[0].position(), Some(1));
    let Ok(Message::Acknowledgement(read)) = message::read(fixture("acknowledgement-unreadable.xml").as_bytes()) else {
        panic!()
    };
    assert_eq!((read.number, read.records, read.code.as_str()), (None, None, "CPF01"));
    let Ok(Message::Access(read)) = message::read(fixture("access-notification.xml").as_bytes()) else { panic!() };
    assert_eq!((read.envelope.authority.as_deref(), read.envelope.file_number), (Some("Z9A"), Some(418)));
    let [access] = read.accesses.as_slice() else { panic!() };
    assert_eq!((access.nhs_number, access.at.to_utc()), (number("9990000018"), at("2026-11-03T21:45:00Z")));
    assert_eq!(access.author.name.as_deref(), Some("Ms Dana Example"));
    assert_eq!(access.author.role.as_deref(), Some("Staff Nurse"));
    assert_eq!(access.author.organisation_name.as_deref(), Some("EASTVALE GENERAL HOSPITAL ED"));
    assert!(!access.author.is_device);
    let Ok(Message::InactiveNumber(read)) = message::read(fixture("inactive-number.xml").as_bytes()) else { panic!() };
    let replaced_by = Some(number("9990000050"));
    assert_eq!(read.numbers, [InactiveNumber { nhs_number: number("9990000042"), replaced_by }]);
    assert_eq!(read.envelope.id, Some(Uuid::from_u128(0x1234_5678_9ABC_4DEF_8123_4567_89AB_CDEF)));
    assert!(message::read(fixture("upload.xml").as_bytes()).is_err());
}

fn user(name: &str) -> Author {
    Author::Person(User {
        sds_user_id: "555000000101".to_owned(),
        role_profile_id: Some("555000000202".to_owned()),
        name: name.to_owned(),
        job_role_code: Some("R0620".to_owned()),
        job_role_name: Some("Staff Nurse".to_owned()),
    })
}

fn device() -> Author {
    Author::Device {
        responsible: ResponsiblePerson {
            name: "Mr Lee Nominated".to_owned(),
            role_code: Some("R8001".to_owned()),
            role_name: "Safeguarding Lead".to_owned(),
            phone: Some("01632960555".to_owned()),
        },
        site: Some(ods("ZZ11101")),
    }
}

fn access(id: u128, author: Author) -> Access {
    Access {
        sequence: 1,
        id: Uuid::from_u128(id),
        at: at("2026-09-30T08:02:10.123Z"),
        nhs_number: number("9990000018"),
        author: AccessAuthor {
            author,
            client_id: "200000009999".to_owned(),
            organization: ods("ZZ111"),
            organization_name: "NORTHERN 111 SERVICE".to_owned(),
            sensitive: false,
            scheduled_setting: false,
        },
        request_id: "x".to_owned(),
    }
}

fn envelope(authority: &OdsCode) -> Envelope<'_> {
    Envelope {
        id: Uuid::from_u128(0xA),
        created: at("2026-11-03T22:00:00Z"),
        zone: London,
        authority,
        authority_name: Some("WESTMARCH COUNTY COUNCIL"),
        file_number: Some(418),
    }
}

#[test]
fn an_access_notification_tells_who_looked_as_far_as_the_authority_may_know() {
    let authority = ods("Z9A");
    let mut accesses = vec![access(0xB, user("Ms Dana Example")), access(0xC, device()), access(0xD, Author::System)];
    for author in [user("Ms Dana Example"), device()] {
        let mut sensitive = access(0xE, author);
        sensitive.author.sensitive = true;
        sensitive.author.scheduled_setting = true;
        accesses.push(sensitive);
    }
    let written = access_notification::write(Vec::new(), &envelope(&authority), &accesses).unwrap();
    let written = String::from_utf8(written).unwrap();
    assert_snapshot!("access_notification", written);

    let Ok(Message::Access(read)) = message::read(written.as_bytes()) else { panic!("not read") };
    assert_eq!((read.envelope.id, read.envelope.file_number), (Some(Uuid::from_u128(0xA)), Some(418)));
    for (access, read) in accesses.iter().zip(&read.accesses) {
        assert_eq!((read.id, read.nhs_number), (Some(access.id), access.nhs_number));
        assert_eq!(read.at.timestamp(), access.at.timestamp());
    }
    let names: Vec<Option<&str>> = read.accesses.iter().map(|access| access.author.name.as_deref()).collect();
    assert_eq!(names, [Some("Ms Dana Example"), Some("Mr Lee Nominated"), None, None, None]);
    // Of a sensitive organisation only the role is told, not even that a device asked.
    let withheld = written.split("<pertinentInformation2>").skip(4).collect::<String>();
    for secret in ["Dana", "Nominated", "5550000", "NORTHERN", "ZZ111", "200000009999", "01632960555", "COCT_TP145104"]
    {
        assert!(written.contains(secret) && !withheld.contains(secret), "{secret}");
    }
    assert!(read.accesses.iter().skip(3).all(|access| !access.author.is_device && access.author.role.is_some()));
}

#[test]
fn a_message_without_a_file_names_none() {
    let authority = ods("Z9A");
    let of = Envelope { file_number: None, authority_name: None, ..envelope(&authority) };
    let written = String::from_utf8(access_notification::write(Vec::new(), &of, &[]).unwrap()).unwrap();
    assert!(!written.contains("LAUploadFile") && written.contains("<value value=\"0\"/>"));
    let Ok(Message::Access(read)) = message::read(written.as_bytes()) else { panic!("not read") };
    assert_eq!((read.envelope.file_number, read.accesses.len()), (None, 0));
}

#[test]
fn an_inactive_number_is_told_with_its_replacement_if_there_is_one() {
    let authority = ods("Z9A");
    let numbers = [
        InactiveNumber { nhs_number: number("9990000042"), replaced_by: Some(number("9990000050")) },
        InactiveNumber { nhs_number: number("9990000069"), replaced_by: None },
    ];
    let written = inactive_number::write(Vec::new(), &envelope(&authority), &numbers).unwrap();
    let written = String::from_utf8(written).unwrap();
    assert_snapshot!("inactive_number", written);
    let Ok(Message::InactiveNumber(read)) = message::read(written.as_bytes()) else { panic!("not read") };
    assert_eq!((read.numbers.as_slice(), read.envelope.file_number), (&numbers[..], Some(418)));
}

#[test]
fn a_name_keeps_its_words_in_their_order() {
    let authority = ods("Z9A");
    for (name, family, read_again) in [
        ("Ms Dana Example", "Example", "Ms Dana Example"),
        ("USERQ RANDOM Mr", "USERQ", "USERQ RANDOM Mr"),
        ("EXAMPLE, Dana (Ms)", "EXAMPLE", "EXAMPLE Dana Ms"),
        ("Dr", "Dr", "Dr"),
        ("Dana <van> \"der\" & Example", "Example", "Dana <van> \"der\" & Example"),
        ("Cher", "Cher", "Cher"),
    ] {
        let written = access_notification::write(Vec::new(), &envelope(&authority), &[access(1, user(name))]).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert!(written.contains(&format!("<family>{family}</family>")), "{written}");
        let Ok(Message::Access(read)) = message::read(written.as_bytes()) else { panic!("not read") };
        assert_eq!(read.accesses[0].author.name.as_deref(), Some(read_again));
    }
}
