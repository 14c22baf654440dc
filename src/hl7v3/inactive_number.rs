//! Inactive NHS number notification, `CP-ISInactiveNHSNumberNotification` (`REPC_MT000005GB01`; domain.md 1.12): numbers that
//! the authority sent and that are not to be used any more, with a replacement where one may be told.

use std::io::{self, Write};

use super::{
    FileFault,
    access_notification::{Envelope, ReadEnvelope, begin, file_number},
    oid,
    xml::{Element, Writer},
};
use crate::cpis::types::NhsNumber;

pub(super) const ROOT: &str = "CP-ISInactiveNHSNumberNotification";

/// A number that became inactive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InactiveNumber {
    pub nhs_number: NhsNumber,
    /// Only where the number was replaced by another, and that may be told.
    pub replaced_by: Option<NhsNumber>,
}

/// Writes a notification.
///
/// # Errors
/// Of `out`.
pub fn write<W: Write>(out: W, envelope: &Envelope<'_>, numbers: &[InactiveNumber]) -> io::Result<W> {
    let mut xml = Writer::begin(out, ROOT)?;
    begin(&mut xml, envelope)?;
    file_number(&mut xml, "pertinentInformation", envelope)?;
    for inactive in numbers {
        xml.within(&["subject", "person"], |xml| {
            xml.id(oid::NHS_NUMBER, inactive.nhs_number.as_str())?;
            let Some(replacement) = inactive.replaced_by else { return Ok(()) };
            xml.within(&["replacedBy"], |xml| xml.id(oid::NHS_NUMBER, replacement.as_str()))
        })?;
    }
    xml.finish()
}

/// A notification as it is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadNotification {
    pub envelope: ReadEnvelope,
    pub numbers: Vec<InactiveNumber>,
}

impl ReadNotification {
    /// # Errors
    /// When a number can't be read.
    pub(super) fn take(&mut self, child: &Element) -> Result<(), FileFault> {
        self.envelope.take(child);
        if !child.is("subject") {
            return Ok(());
        }
        let unclear = || FileFault::new("The notification has an NHS number that can't be read.");
        let parse = |text: Option<&str>| text.and_then(|text| NhsNumber::parse(text).ok()).ok_or_else(unclear);
        let replaced =
            child.first("replacedBy").map(|replaced| parse(replaced.extension(oid::NHS_NUMBER))).transpose()?;
        let nhs_number = parse(child.extension(oid::NHS_NUMBER))?;
        self.numbers.push(InactiveNumber { nhs_number, replaced_by: replaced });
        Ok(())
    }
}
