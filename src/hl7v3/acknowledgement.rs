//! Acknowledgement of an upload, `FileResponse` (`REPC_MT000003GB01`; domain.md 1.8): the file's code, and of each refused
//! record its codes, reasons and places.
//!
//! The readable reason stands in `code/originalText`, which any coded element may have. The vocabulary of the type codes was
//! not found: as in examples.md AA is a file that was loaded, AE one that was loaded in part or not at all, AR one that was
//! not judged.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use chrono::{DateTime, FixedOffset, Utc};
use chrono_tz::Tz;

use super::{
    oid, time,
    upload::location,
    xml::{Element, Writer},
};
use crate::cpis::types::{
    NhsNumber, OdsCode,
    upload::{FileCode, Problem, RecordCode},
};

pub(super) const ROOT: &str = "FileResponse";

/// The acknowledgement of a file, without its refused records.
#[derive(Clone, Copy)]
pub struct Acknowledgement<'a> {
    pub created: DateTime<Utc>,
    /// Of the times in the message.
    pub zone: Tz,
    /// `None` when it can't be read: written as -1.
    pub number: Option<i64>,
    /// Records that were judged; `None` when that can't be said: written as -1.
    pub records: Option<usize>,
    pub code: FileCode,
    /// Why the file was not judged, or what else is to be said of it as a whole.
    pub reason: Option<&'a str>,
    /// The authority that sent it.
    pub authority: &'a OdsCode,
    pub authority_name: Option<&'a str>,
    /// How many refused records follow.
    pub refused: usize,
    /// Qualifies CPR07.
    pub detail_codes: Option<&'a DetailCodes>,
}

/// CP-ISUploadRecordResponseDetail as it is configured: the vocabulary was not found, so none is known here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DetailCodes {
    /// OID of the vocabulary.
    pub system: String,
    /// Code by the element that a problem lies in, such as `period.end`.
    pub by_element: BTreeMap<String, String>,
}

/// A refused record.
#[derive(Clone, Copy)]
pub struct RefusedRecord<'a> {
    /// In the file, from 0.
    pub position: usize,
    /// `None` when it can't be read or isn't kept.
    pub nhs_number: Option<NhsNumber>,
    /// The code that stands for the record.
    pub code: RecordCode,
    /// May be empty when they aren't kept any more.
    pub problems: &'a [Problem],
}

/// Writes an acknowledgement, refused record by refused record.
pub struct AcknowledgementWriter<'a, W: Write> {
    xml: Writer<W>,
    left: usize,
    detail_codes: Option<&'a DetailCodes>,
}

fn type_code(code: FileCode) -> &'static str {
    match code {
        FileCode::Cpf02 => "AA",
        FileCode::Cpf03 | FileCode::Cpf04 => "AE",
        FileCode::Cpf01 | FileCode::Cpf05 => "AR",
    }
}

impl<'a, W: Write> AcknowledgementWriter<'a, W> {
    /// Writes everything before the refused records.
    ///
    /// # Errors
    /// Of `out`; so all others.
    pub fn begin(out: W, acknowledgement: &Acknowledgement<'a>) -> io::Result<Self> {
        let of = acknowledgement;
        let mut xml = Writer::begin(out, ROOT)?;
        let or_unknown = |number: Option<String>| number.unwrap_or_else(|| "-1".to_owned());
        xml.value("creationTime", &time::written(of.created, of.zone))?;
        xml.id(oid::UPLOAD_FILE, &or_unknown(of.number.map(|number| number.to_string())))?;
        xml.value("transmissionQuantity", &or_unknown(of.records.map(|records| records.to_string())))?;
        xml.open("acknowledgementFile", &[("typeCode", type_code(of.code))])?;
        xml.within(&["acknowledgementFileDetail"], |xml| {
            let code =
                [("code", of.code.code()), ("codeSystem", oid::FILE_RESPONSE), ("displayName", of.code.display())];
            let Some(reason) = of.reason else { return xml.empty("code", &code) };
            xml.open("code", &code)?;
            xml.text("originalText", reason)?;
            xml.close()
        })?;
        xml.close()?;
        xml.within(&["communicationFunctionRcv", "organisation"], |xml| {
            xml.id(oid::ORGANISATION, of.authority.as_str())?;
            of.authority_name.map_or(Ok(()), |name| xml.text("name", name))
        })?;
        xml.within(&["failedReturnedCP-ISRecords"], |xml| xml.value("value", &of.refused.to_string()))?;
        Ok(Self { xml, left: of.refused, detail_codes: of.detail_codes })
    }

    /// Writes one refused record: the code that stands for it first.
    ///
    /// # Errors
    /// `InvalidInput` for one more than said at the beginning.
    pub fn refused(&mut self, record: &RefusedRecord<'_>) -> io::Result<()> {
        let Some(left) = self.left.checked_sub(1) else { return Err(other_count()) };
        self.left = left;
        let mut problems: Vec<&Problem> = record.problems.iter().collect();
        problems.sort_by_key(|problem| problem.code != record.code);
        let xml = &mut self.xml;
        xml.open("message", &[])?;
        xml.open("acknowledgementRecord", &[("typeCode", "AE")])?;
        if problems.first().is_none_or(|problem| problem.code != record.code) {
            detail(xml, record.code, None, None, &location(record.position + 1, 0, "", None))?;
        }
        for problem in problems {
            let detail_code = self.detail_codes.filter(|_| problem.code == RecordCode::Cpr07);
            let detail_code = detail_code.and_then(|codes| Some((codes, codes.by_element.get(problem.element)?)));
            let place = location(record.position + 1, problem.entry, problem.element, None);
            detail(xml, problem.code, Some(&problem.reason), detail_code, &place)?;
        }
        xml.close()?;
        match record.nhs_number {
            Some(number) => {
                xml.within(&["invalidCP-ISRecord"], |xml| xml.id(oid::NHS_NUMBER, number.as_str()))?;
            }
            None => xml.empty("invalidCP-ISRecord", &[])?,
        }
        xml.close()
    }

    /// # Errors
    /// `InvalidInput` when there were fewer refused records than said at the beginning.
    pub fn finish(self) -> io::Result<W> {
        if self.left > 0 {
            return Err(other_count());
        }
        self.xml.finish()
    }
}

fn other_count() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "another number of refused records than the acknowledgement says")
}

fn detail<W: Write>(
    xml: &mut Writer<W>,
    code: RecordCode,
    reason: Option<&str>,
    detail_code: Option<(&DetailCodes, &String)>,
    place: &str,
) -> io::Result<()> {
    xml.open("acknowledgementRecordDetail", &[])?;
    let attributes = [("code", code.code()), ("codeSystem", oid::RECORD_RESPONSE), ("displayName", code.display())];
    if reason.is_none() && detail_code.is_none() {
        xml.empty("code", &attributes)?;
    } else {
        xml.open("code", &attributes)?;
        reason.map_or(Ok(()), |reason| xml.text("originalText", reason))?;
        if let Some((codes, code)) = detail_code {
            xml.empty("translation", &[("code", code), ("codeSystem", &codes.system)])?;
        }
        xml.close()?;
    }
    xml.text("location", place)?;
    xml.close()
}

/// An acknowledgement as it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadAcknowledgement {
    pub created: Option<DateTime<FixedOffset>>,
    /// `None` for -1.
    pub number: Option<i64>,
    /// `None` for -1.
    pub records: Option<usize>,
    /// CP-ISUploadFileResponse, such as CPF02.
    pub code: String,
    pub display: Option<String>,
    pub reason: Option<String>,
    /// ODS code of the authority that it is for.
    pub authority: Option<String>,
    pub failed: Option<usize>,
    pub refused: Vec<ReadRefusal>,
}

/// A refused record as it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadRefusal {
    pub nhs_number: Option<NhsNumber>,
    /// At least one.
    pub details: Vec<ReadDetail>,
}

/// One thing wrong with a refused record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadDetail {
    /// CP-ISUploadRecordResponse, such as CPR03.
    pub code: String,
    /// Detail code of CPR07.
    pub detail_code: Option<String>,
    pub display: Option<String>,
    pub reason: Option<String>,
    /// `XPath` in the file.
    pub location: Option<String>,
}

impl ReadRefusal {
    /// Position of the record in the file, from 0, as the location says it.
    pub fn position(&self) -> Option<usize> {
        let location = self.details.first()?.location.as_deref()?;
        let number = location.split_once("record[")?.1.split_once(']')?.0;
        number.parse::<usize>().ok()?.checked_sub(1)
    }
}

impl ReadAcknowledgement {
    /// Takes a child of the root.
    pub(super) fn take(&mut self, child: &Element) {
        match child.name.as_str() {
            "creationTime" => self.created = child.value().and_then(time::instant),
            "id" => self.number = child.attribute("extension").and_then(whole),
            "transmissionQuantity" => self.records = child.value().and_then(whole),
            "acknowledgementFile" => {
                let code = child.first("code");
                self.code = code.and_then(|code| code.attribute("code")).unwrap_or_default().to_owned();
                self.display = code.and_then(|code| code.attribute("displayName")).map(str::to_owned);
                self.reason = reason(code);
            }
            "communicationFunctionRcv" => self.authority = child.extension(oid::ORGANISATION).map(str::to_owned),
            "failedReturnedCP-ISRecords" => self.failed = child.value().and_then(whole),
            "message" => {
                let details: Vec<ReadDetail> = child.all("acknowledgementRecordDetail").map(read_detail).collect();
                let number = child.first("invalidCP-ISRecord").and_then(|record| record.extension(oid::NHS_NUMBER));
                let nhs_number = number.and_then(|number| NhsNumber::parse(number).ok());
                // A record that was loaded may be returned too.
                if details.iter().any(|detail| detail.code != RecordCode::Cpr06.code()) {
                    self.refused.push(ReadRefusal { nhs_number, details });
                }
            }
            _ => {}
        }
    }
}

fn read_detail(detail: &Element) -> ReadDetail {
    let code = detail.child("code");
    let attribute = |name| code.and_then(|code| code.attribute(name)).map(str::to_owned);
    let translation = code.and_then(|code| code.child("translation"));
    ReadDetail {
        code: attribute("code").unwrap_or_default(),
        detail_code: translation.and_then(|one| one.attribute("code")).map(str::to_owned),
        display: attribute("displayName"),
        reason: reason(code),
        location: detail.child("location").and_then(Element::words),
    }
}

fn reason(code: Option<&Element>) -> Option<String> {
    code.and_then(|code| code.child("originalText")).and_then(Element::words)
}

/// A number that is not -1.
fn whole<N: std::str::FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}
