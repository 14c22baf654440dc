//! Writes an upload, for an authority that has its records in another form.

use std::io::{self, Write};

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;

use super::{
    ROOT,
    template::{PlanDate, names},
};
use crate::{
    cpis::types::{
        OdsCode, Phone, PlanType,
        upload::{ChildChange, PlanAction, PlanChange, RecordChange},
    },
    hl7v3::{oid, time, xml::Writer},
};

/// The header of a file that is written.
#[derive(Clone, Copy)]
pub struct WrittenFile<'a> {
    pub created: DateTime<Utc>,
    /// Of the times in the file.
    pub zone: Tz,
    pub number: i64,
    pub records: usize,
    pub sender: &'a OdsCode,
    pub sender_name: Option<&'a str>,
    pub duty_phone: Option<&'a Phone>,
    pub office_phone: Option<&'a Phone>,
}

/// Writes an upload record by record.
pub struct FileWriter<W: Write> {
    xml: Writer<W>,
    /// The day of deletions: that of the file.
    today: NaiveDate,
    left: usize,
    sender: String,
}

impl<W: Write> FileWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// Of `out`; so all others.
    pub fn begin(out: W, file: &WrittenFile<'_>) -> io::Result<Self> {
        let mut xml = Writer::begin(out, ROOT)?;
        xml.value("creationTime", &time::written(file.created, file.zone))?;
        xml.empty("id", &[("extension", &file.number.to_string())])?;
        xml.value("transmissionQuantity", &file.records.to_string())?;
        xml.within(&["communicationFunctionSnd", "organisation"], |xml| {
            xml.id(oid::ORGANISATION, file.sender.as_str())?;
            file.sender_name.map_or(Ok(()), |name| xml.text("name", name))?;
            for (usage, phone) in [("EC", file.duty_phone), ("WP", file.office_phone)] {
                if let Some(phone) = phone {
                    xml.empty("telecom", &[("use", usage), ("value", &format!("tel:{}", phone.as_str()))])?;
                }
            }
            Ok(())
        })?;
        let today = file.created.with_timezone(&file.zone).date_naive();
        let sender = match file.sender_name {
            Some(name) => format!("{}:{name}", file.sender.as_str()),
            None => file.sender.as_str().to_owned(),
        };
        Ok(Self { xml, today, left: file.records, sender })
    }

    /// # Errors
    /// `InvalidInput` for a record that an upload can't say: without the child, with a plan by its FHIR id, with another
    /// number of plans than one to three, several of one type, or both an unborn child's and another; or one too many.
    pub fn record(&mut self, record: &RecordChange) -> io::Result<()> {
        let invalid = |reason: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, reason.to_owned()));
        let Some(child) = &record.child else {
            return invalid("A record of a file needs the name and the birth date.");
        };
        let types: Vec<PlanType> = record.plans.iter().filter_map(|plan| plan.plan_type).collect();
        let unborn = types.contains(&PlanType::Unborn);
        let once = PlanType::ALL.iter().all(|one| types.iter().filter(|other| *other == one).count() <= 1);
        if types.is_empty() || types.len() != record.plans.len() || !once || (unborn && types.len() > 1) {
            return invalid(
                "A record of a file has one to three plans, each of another type, or one of an unborn child.",
            );
        }
        if record.plans.iter().any(|plan| matches!(plan.action, PlanAction::Delete { start: None })) {
            return invalid("A deletion in a file needs the start of the plan.");
        }
        let Some(left) = self.left.checked_sub(1) else { return invalid("The file has more records than it says.") };
        self.left = left;
        self.xml.open("record", &[])?;
        self.xml.open("CP-ISRecord", &[])?;
        self.subject(record, child, unborn)?;
        record.plans.iter().zip(types).try_for_each(|(plan, plan_type)| self.plan(plan, plan_type))?;
        self.xml.close()?;
        self.xml.close()
    }

    /// # Errors
    /// `InvalidInput` when there were fewer records than the header says.
    pub fn finish(self) -> io::Result<W> {
        if self.left > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "The file has fewer records than it says."));
        }
        self.xml.finish()
    }

    fn subject(&mut self, record: &RecordChange, child: &ChildChange, unborn: bool) -> io::Result<()> {
        let sender = self.sender.clone();
        let local_id = child.local_id.as_deref();
        let local = |xml: &mut Writer<W>| {
            local_id.map_or(Ok(()), |id| {
                xml.empty("id", &[("root", oid::LOCAL_ID), ("extension", id), ("assigningAuthorityName", &sender)])
            })
        };
        let number = record.nhs_number.as_str();
        self.xml.within(&["subject"], |xml| {
            if unborn {
                content_id(xml, "COCT_TP145100GB01#UnbornChild")?;
                xml.within(&["COCT_TP145100GB01.UnbornChild", "parentMotherPerson"], |xml| {
                    xml.id(oid::NHS_NUMBER, number)?;
                    local(xml)?;
                    person(xml, child)
                })
            } else {
                content_id(xml, "COCT_TP145101GB01#Child")?;
                xml.within(&["COCT_TP145101GB01.Child"], |xml| {
                    xml.id(oid::NHS_NUMBER, number)?;
                    local(xml)?;
                    xml.within(&["childPerson"], |xml| person(xml, child))
                })
            }
        })
    }

    fn plan(&mut self, plan: &PlanChange, plan_type: PlanType) -> io::Result<()> {
        let (start, end, deleted) = match plan.action {
            PlanAction::Put { start, end } => (Some(start), end, None),
            PlanAction::Delete { start } => (start, None, Some(self.today)),
        };
        let (_, element, content) = names(plan_type);
        self.xml.within(&["pertinentInformation"], |xml| {
            content_id(xml, content)?;
            xml.within(&[element], |xml| {
                plan.local_id.as_ref().map_or(Ok(()), |id| xml.id(oid::LOCAL_ID, id.as_str()))?;
                for (date, day) in [(PlanDate::Start, start), (PlanDate::End, end), (PlanDate::Delete, deleted)] {
                    let Some(day) = day else { continue };
                    xml.within(&[date.component(), date.name(plan_type)], |xml| {
                        xml.value("value", &time::written_date(day))
                    })?;
                }
                Ok(())
            })
        })
    }
}

fn content_id<W: Write>(xml: &mut Writer<W>, content: &str) -> io::Result<()> {
    xml.empty("npfitlc:contentId", &[("root", oid::CONTENT_ID), ("extension", content)])
}

fn person<W: Write>(xml: &mut Writer<W>, child: &ChildChange) -> io::Result<()> {
    let demographics = &child.demographics;
    xml.open("name", &[("use", "L")])?;
    demographics.given.iter().try_for_each(|given| xml.text("given", given))?;
    xml.text("family", &demographics.family)?;
    xml.close()?;
    xml.value("birthTime", &time::written_date(demographics.birth_date))
}
