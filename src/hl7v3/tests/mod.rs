//! The messages as fixtures (tests/hl7v3, all synthetic), in every variation that a sender may choose, and broken.

mod hostile;
mod messages;
mod random;
mod upload;

use std::fs;

use chrono::NaiveDate;

use super::{FileFault, upload::UploadFile};
use crate::cpis::types::{
    NhsNumber, PlanType,
    upload::{PlanAction, Problem, ReadRecord, RecordChange, UnreadableRecord},
};

fn fixture(name: &str) -> String {
    let path = format!("{}/tests/hl7v3/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn number(text: &str) -> NhsNumber {
    NhsNumber::parse(text).unwrap()
}

/// All records of a file.
fn read(file: impl AsRef<[u8]>) -> Result<Vec<ReadRecord>, FileFault> {
    UploadFile::open(file.as_ref())?.collect()
}

fn fault(file: impl AsRef<[u8]>) -> FileFault {
    read(file).expect_err("a fault of the file")
}

/// A file with this header and these records.
fn file_of(records: &[String]) -> String {
    let head = format!(
        "<File xmlns='urn:hl7-org:v3' xmlns:npfitlc='NPFIT:HL7:Localisation'>\
         <creationTime value='20261103021500+0000'/><id extension='418'/><transmissionQuantity value='{}'/>\
         <communicationFunctionSnd><organisation><id extension='Z9A'/></organisation></communicationFunctionSnd>",
        records.len()
    );
    format!("{head}{}</File>", records.concat())
}

const CHILD: &str = "<subject><COCT_TP145101GB01.Child><id root='2.16.840.1.113883.2.1.4.1' extension='9990000018'/>\
                     <childPerson><name use='L'><given>Robin</given><family>Testcase</family></name>\
                     <birthTime value='20170511'/></childPerson></COCT_TP145101GB01.Child></subject>";
const CPP: &str = "<pertinentInformation><COCT_TP146101GB01.CPPInformation><component><cPPStartDate>\
                   <value value='20260914'/></cPPStartDate></component></COCT_TP146101GB01.CPPInformation>\
                   </pertinentInformation>";

fn record(content: &[&str]) -> String {
    format!("<record><CP-ISRecord>{}</CP-ISRecord></record>", content.concat())
}

/// The one record of a file with this content.
fn one(content: &[&str]) -> ReadRecord {
    let mut records = read(file_of(&[record(content)])).expect("a file that can be read");
    assert_eq!(records.len(), 1);
    records.remove(0)
}

fn change(content: &[&str]) -> RecordChange {
    match one(content) {
        ReadRecord::Change(change) => change,
        ReadRecord::Unreadable(unreadable) => panic!("{:?}", unreadable.problems),
    }
}

fn unreadable(content: &[&str]) -> UnreadableRecord {
    match one(content) {
        ReadRecord::Unreadable(unreadable) => unreadable,
        ReadRecord::Change(change) => panic!("{change:?}"),
    }
}

/// Code, entry and element of each problem.
fn told(problems: &[Problem]) -> Vec<(&'static str, usize, &'static str)> {
    problems.iter().map(|problem| (problem.code.code(), problem.entry, problem.element)).collect()
}

/// Types and actions of the plans.
fn plans(change: &RecordChange) -> Vec<(PlanType, PlanAction)> {
    change.plans.iter().map(|plan| (plan.plan_type.unwrap(), plan.action.clone())).collect()
}
