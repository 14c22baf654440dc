//! The header of an upload: number, count, sender.

use std::io::BufRead;

use chrono::NaiveDate;
use chrono_tz::Europe::London;

use crate::{
    cpis::types::{OdsCode, Phone, Precondition, upload::OrganizationChange},
    hl7v3::{
        FileFault, oid, time,
        xml::{Document, Element, Space},
    },
};

/// What the header of an upload says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// The authority's number of the file.
    pub number: i64,
    /// `transmissionQuantity`: at least 1.
    pub records: usize,
    pub sender: OdsCode,
    pub sender_name: Option<String>,
    /// The authority's own details, when the file has an emergency duty number.
    pub organization: Option<OrganizationChange>,
    /// Why details that were sent can't be used. Plain English, never a value that was sent.
    pub organization_fault: Option<String>,
    /// The day of `creationTime`; a deletion can't lie after it.
    pub(super) created: Option<NaiveDate>,
}

/// Records that a file may have at most.
const MOST_RECORDS: usize = 10_000_000;

const CREATED: &str = "creationTime";
const ID: &str = "id";
const QUANTITY: &str = "transmissionQuantity";
const SENDER: &str = "communicationFunctionSnd";

/// What was found of the header so far.
#[derive(Default)]
struct Found {
    created: Option<Element>,
    id: Option<Element>,
    quantity: Option<Element>,
    sender: Option<Element>,
}

/// Reads up to the first record, which is given too.
pub(super) fn read<R: BufRead>(document: &mut Document<R>) -> Result<(FileHeader, Option<Element>), FileFault> {
    let mut found = Found::default();
    let numbered = |found: &Found, fault: FileFault| FileFault { number: number(found.id.as_ref()).ok(), ..fault };
    loop {
        let child = document.next_child().map_err(|fault| numbered(&found, fault))?;
        match child {
            Some(child) if !child.is("record") => found.take(child).map_err(|fault| numbered(&found, fault))?,
            first => return Ok((found.header(first.is_some())?, first)),
        }
    }
}

/// What may stand after the first record.
pub(super) fn judge_among_records(child: &Element) -> Result<(), FileFault> {
    if child.space != Space::Hl7 {
        return Err(FileFault::new(OTHER_NAMESPACE));
    }
    if [CREATED, ID, QUANTITY, SENDER].contains(&child.name.as_str()) {
        return Err(FileFault::new(format!("The element {} must stand before the first record.", child.name)));
    }
    Ok(())
}

const OTHER_NAMESPACE: &str = "An element of the file is in another namespace than urn:hl7-org:v3.";

impl Found {
    fn take(&mut self, child: Element) -> Result<(), FileFault> {
        if child.space != Space::Hl7 {
            return Err(FileFault::new(OTHER_NAMESPACE));
        }
        let place = match child.name.as_str() {
            CREATED => &mut self.created,
            ID => &mut self.id,
            QUANTITY => &mut self.quantity,
            SENDER => &mut self.sender,
            // Such as a fixed code.
            _ => return Ok(()),
        };
        match place.replace(child) {
            None => Ok(()),
            Some(twice) => Err(FileFault::new(format!("The element {} stands twice in the file.", twice.name))),
        }
    }

    fn header(&self, any_record: bool) -> Result<FileHeader, FileFault> {
        let number = number(self.id.as_ref());
        let records = quantity(self.quantity.as_ref());
        let sender = sender(self.sender.as_ref());
        let some_record = if any_record { Ok(()) } else { Err("The file has no record.".to_owned()) };
        let (number, records, (sender, organisation)) = match (number, records, sender, some_record) {
            (Ok(number), Ok(records), Ok(sender), Ok(())) => (number, records, sender),
            (number, records, sender, some_record) => {
                let known = number.as_ref().ok().copied();
                let reasons = [number.err(), records.err(), sender.err(), some_record.err()];
                let reasons: Vec<String> = reasons.into_iter().flatten().collect();
                return Err(FileFault { number: known, ..FileFault::new(reasons.join(" ")) });
            }
        };
        let sender_name = organisation.child("name").and_then(Element::words);
        let (organization, organization_fault) = match details(organisation, sender_name.as_deref()) {
            Ok(details) => (details, None),
            Err(reason) => (None, Some(reason)),
        };
        let created = self.created.as_ref().and_then(Element::value).and_then(|text| time::civil_day(text, London));
        Ok(FileHeader { number, records, sender, sender_name, organization, organization_fault, created })
    }
}

fn number(id: Option<&Element>) -> Result<i64, String> {
    let text = id.and_then(|id| id.attribute("extension"));
    let digits = text.filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    let words = "Give the number of the file as digits: id with extension.";
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| words.to_owned())
}

fn quantity(element: Option<&Element>) -> Result<usize, String> {
    let text = element.and_then(Element::value).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let quantity = text.and_then(|digits| digits.parse().ok()).filter(|count| (1..=MOST_RECORDS).contains(count));
    quantity.ok_or_else(|| "Give the number of records, at least 1: transmissionQuantity with value.".to_owned())
}

fn sender(element: Option<&Element>) -> Result<(OdsCode, &Element), String> {
    let words = "Name the sending authority by its ODS code: communicationFunctionSnd with organisation and its id.";
    let missing = || words.to_owned();
    let organisation = element.and_then(organisation).ok_or_else(missing)?;
    Ok((ods_code(organisation).ok_or_else(missing)?, organisation))
}

/// The organisation in a `communicationFunctionSnd`.
pub(super) fn organisation(sender: &Element) -> Option<&Element> {
    ["organisation", "organization"].into_iter().find_map(|name| sender.first(name))
}

/// Its ODS code. The root of the id, where it is fixed, is absent.
pub(super) fn ods_code(organisation: &Element) -> Option<OdsCode> {
    let mut ids = organisation.children.iter().filter(|child| child.is(ID));
    let id = ids.find(|id| id.attribute("root").is_none_or(|root| root == oid::ORGANISATION))?;
    OdsCode::parse(id.attribute("extension")?).ok()
}

/// The authority's own details; `None` when there are no telephone numbers.
fn details(organisation: &Element, name: Option<&str>) -> Result<Option<OrganizationChange>, String> {
    let (duty, office) = (phone(organisation, "EC")?, phone(organisation, "WP")?);
    match (duty, office) {
        (Some(duty_phone), office_phone) => Ok(Some(OrganizationChange {
            entry: 0,
            name: name.map(str::to_owned),
            office_phone,
            duty_phone,
            precondition: Precondition::None,
        })),
        (None, Some(_)) => Err("Your authority's details were not stored: the emergency duty telephone number is \
                                missing. Send it as telecom of use EC."
            .to_owned()),
        (None, None) => Ok(None),
    }
}

/// The telephone number of one use: `EC` the emergency duty team, `WP` in office hours.
fn phone(organisation: &Element, usage: &str) -> Result<Option<Phone>, String> {
    let of_use = |telecom: &&Element| {
        telecom.attribute("use").is_some_and(|uses| uses.split_whitespace().any(|one| one == usage))
    };
    let values = organisation.children.iter().filter(|child| child.is("telecom")).filter(of_use);
    let values: Vec<&str> = values.filter_map(|telecom| telecom.attribute("value")).filter(|v| is_phone(v)).collect();
    let refused = |what: &str| Err(format!("Your authority's details were not stored: {what}"));
    match values.as_slice() {
        [] => Ok(None),
        [value] => match Phone::parse(value) {
            Ok(phone) => Ok(Some(phone)),
            Err(invalid) => refused(&format!("{invalid}.")),
        },
        _ => refused("there are several telephone numbers of one use. Send one of use EC and at most one of use WP."),
    }
}

/// Not `mailto:`, `fax:` and the like.
fn is_phone(value: &str) -> bool {
    value.split_once(':').is_none_or(|(scheme, _)| scheme.eq_ignore_ascii_case("tel"))
}
