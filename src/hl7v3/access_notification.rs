//! Access to service notification, `CP-ISAccessToServiceNotification` (`REPC_MT000004GB01`; domain.md 1.11): several accesses
//! of children of one authority.

use std::io::{self, Write};

use chrono::{DateTime, FixedOffset, Utc};
use chrono_tz::Tz;
use uuid::Uuid;

use super::{
    FileFault, author, oid, time,
    xml::{Element, Writer},
};
use crate::cpis::types::{NhsNumber, OdsCode, access::Access};

pub use author::ReadAuthor;

pub(super) const ROOT: &str = "CP-ISAccessToServiceNotification";

/// Whom a message is for, and which it is.
#[derive(Clone, Copy)]
pub struct Envelope<'a> {
    /// The same each time that the message is sent.
    pub id: Uuid,
    pub created: DateTime<Utc>,
    /// Of the times in the message.
    pub zone: Tz,
    pub authority: &'a OdsCode,
    pub authority_name: Option<&'a str>,
    /// The authority's upload file that the message refers to, where there is one.
    pub file_number: Option<i64>,
}

/// Writes a notification. The id of each access is that of its query: it is told once under it.
///
/// # Errors
/// Of `out`.
pub fn write<W: Write>(out: W, envelope: &Envelope<'_>, accesses: &[Access]) -> io::Result<W> {
    let mut xml = Writer::begin(out, ROOT)?;
    begin(&mut xml, envelope)?;
    xml.within(&["pertinentInformation", "pertinentTotalReturnedRecords"], |xml| {
        xml.value("value", &accesses.len().to_string())
    })?;
    file_number(&mut xml, "pertinentInformation1", envelope)?;
    for access in accesses {
        xml.within(&["pertinentInformation2", "pertinentCP-ISRecordAccess"], |xml| {
            xml.within(&["subject"], |xml| xml.id(oid::NHS_NUMBER, access.nhs_number.as_str()))?;
            xml.within(&["pertinentCP-ISNHSQuery"], |xml| {
                xml.value("effectiveTime", &time::written(access.at, envelope.zone))?;
                xml.empty("id", &[("root", &guid(access.id))])?;
                author::write(xml, &access.author)?;
                xml.within(&["queryByParameter", "person.NHSnumber"], |xml| {
                    let number = access.nhs_number.as_str();
                    xml.empty("value", &[("root", oid::NHS_NUMBER), ("extension", number)])
                })
            })
        })?;
    }
    xml.finish()
}

/// As the service writes a GUID.
fn guid(id: Uuid) -> String {
    id.to_string().to_ascii_uppercase()
}

pub(super) fn begin<W: Write>(xml: &mut Writer<W>, envelope: &Envelope<'_>) -> io::Result<()> {
    xml.value("effectiveTime", &time::written(envelope.created, envelope.zone))?;
    xml.empty("id", &[("root", &guid(envelope.id))])?;
    xml.within(&["primaryInformationRecipient", "organisation"], |xml| {
        xml.id(oid::ORGANISATION, envelope.authority.as_str())?;
        envelope.authority_name.map_or(Ok(()), |name| xml.text("name", name))
    })
}

pub(super) fn file_number<W: Write>(
    xml: &mut Writer<W>,
    around: &'static str,
    envelope: &Envelope<'_>,
) -> io::Result<()> {
    let Some(number) = envelope.file_number else { return Ok(()) };
    xml.within(&[around, "pertinentLAUploadFile"], |xml| {
        xml.empty("value", &[("root", oid::UPLOAD_FILE), ("extension", &number.to_string())])
    })
}

/// What is read of the beginning of a notification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadEnvelope {
    pub id: Option<Uuid>,
    pub created: Option<DateTime<FixedOffset>>,
    /// ODS code of the authority that it is for.
    pub authority: Option<String>,
    pub file_number: Option<i64>,
}

impl ReadEnvelope {
    /// Takes a child of the root, if it is one of the envelope's.
    pub(super) fn take(&mut self, child: &Element) {
        match child.name.as_str() {
            "effectiveTime" => self.created = child.value().and_then(time::instant),
            "id" => self.id = guid_of(child),
            "primaryInformationRecipient" => {
                self.authority = child.extension(oid::ORGANISATION).map(str::to_owned);
            }
            _ => {
                let file = child.first("pertinentLAUploadFile").and_then(|file| file.first("value"));
                let number = file.and_then(|value| value.attribute("extension"));
                self.file_number = self.file_number.or_else(|| number.and_then(|digits| digits.parse().ok()));
            }
        }
    }
}

fn guid_of(id: &Element) -> Option<Uuid> {
    id.attribute("root").or_else(|| id.attribute("extension")).and_then(|text| Uuid::parse_str(text).ok())
}

/// A notification as it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadNotification {
    pub envelope: ReadEnvelope,
    pub accesses: Vec<ReadAccess>,
}

/// One access of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadAccess {
    pub id: Option<Uuid>,
    pub at: DateTime<FixedOffset>,
    pub nhs_number: NhsNumber,
    pub author: ReadAuthor,
}

impl ReadNotification {
    /// # Errors
    /// When a record access says no child or time.
    pub(super) fn take(&mut self, child: &Element) -> Result<(), FileFault> {
        self.envelope.take(child);
        for query in child.all("pertinentCP-ISNHSQuery") {
            let number = query.first("person.NHSnumber").and_then(|number| number.first("value"));
            let number = number.and_then(|value| value.attribute("extension"));
            let number = number.or_else(|| child.extension(oid::NHS_NUMBER));
            let access = ReadAccess {
                id: query.child("id").and_then(guid_of),
                at: query
                    .child("effectiveTime")
                    .and_then(Element::value)
                    .and_then(time::instant)
                    .ok_or_else(unclear)?,
                nhs_number: number.and_then(|number| NhsNumber::parse(number).ok()).ok_or_else(unclear)?,
                author: query.first("author").map(author::read).unwrap_or_default(),
            };
            self.accesses.push(access);
        }
        Ok(())
    }
}

fn unclear() -> FileFault {
    FileFault::new("An access of the notification has no time or no NHS number that can be read.")
}
