//! What a file is told by from another of the same number: a hash of what it says, not of how it was written or by which
//! door it came (design 6).

use chrono::NaiveDate;
use openssl::sha::Sha256;

use crate::cpis::types::{
    LocalPlanId, Phone, Precondition,
    upload::{
        ChildChange, OrganizationChange, PlanAction, PlanChange, PlanCriteria, PlanKey, Problem, ReadRecord,
        RecordChange,
    },
};

/// The hash of a file's records, in their order. Where the entries of a record lie in the file carries no meaning, but
/// the order of its plans is kept: answers name them by it.
#[derive(Clone)]
pub struct FileDigest(Sha256);

impl Default for FileDigest {
    fn default() -> Self {
        Self(Sha256::new())
    }
}

impl FileDigest {
    /// Of no record yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next record.
    pub fn add(&mut self, record: &ReadRecord) {
        let mut canonical = Canonical(Sha256::new());
        match record {
            ReadRecord::Change(change) => canonical.record(change),
            ReadRecord::Unreadable(unreadable) => {
                canonical.text("unreadable");
                canonical.0.update(&unreadable.digest);
            }
        }
        self.0.update(&canonical.0.finish());
    }

    /// The hash of all records that were added.
    pub fn finish(self) -> [u8; 32] {
        self.0.finish()
    }
}

/// The hash of a whole file: its records and the authority's own details.
pub(super) fn of_file(records: [u8; 32], organization: Option<&Result<OrganizationChange, Problem>>) -> [u8; 32] {
    let mut canonical = Canonical(Sha256::new());
    canonical.text("file");
    canonical.0.update(&records);
    match organization {
        None => canonical.text("none"),
        Some(Ok(change)) => {
            canonical.text("organization");
            canonical.optional(change.name.as_deref());
            canonical.optional(change.office_phone.as_ref().map(Phone::as_str));
            canonical.text(change.duty_phone.as_str());
            canonical.precondition(change.precondition);
        }
        Some(Err(problem)) => {
            canonical.text("unreadable");
            canonical.text(problem.element);
            canonical.text(&problem.reason);
        }
    }
    canonical.0.finish()
}

/// Values one after the other, each with its length, so that no two lists of values are written alike.
struct Canonical(Sha256);

impl Canonical {
    fn text(&mut self, text: &str) {
        self.number(i64::try_from(text.len()).unwrap_or(i64::MAX));
        self.0.update(text.as_bytes());
    }

    fn number(&mut self, number: i64) {
        self.0.update(&number.to_be_bytes());
    }

    fn count(&mut self, count: usize) {
        self.number(i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn optional(&mut self, text: Option<&str>) {
        self.count(usize::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }

    fn day(&mut self, day: Option<NaiveDate>) {
        let written = day.map(|day| day.to_string());
        self.optional(written.as_deref());
    }

    fn record(&mut self, record: &RecordChange) {
        self.text("record");
        self.text(record.nhs_number.as_str());
        self.count(usize::from(record.child.is_some()));
        if let Some(child) = &record.child {
            self.child(child);
        }
        let mut plans: Vec<&PlanChange> = record.plans.iter().collect();
        plans.sort_by_key(|change| change.entry);
        self.count(plans.len());
        for change in plans {
            self.plan(change);
        }
    }

    fn child(&mut self, child: &ChildChange) {
        self.text(&child.demographics.family);
        self.count(child.demographics.given.len());
        for given in &child.demographics.given {
            self.text(given);
        }
        self.day(Some(child.demographics.birth_date));
        self.optional(child.local_id.as_deref());
        self.precondition(child.precondition);
    }

    fn plan(&mut self, change: &PlanChange) {
        match &change.key {
            PlanKey::Id { id, precondition } => {
                self.text("id");
                self.text(&id.to_string());
                self.precondition(*precondition);
            }
            PlanKey::Content => self.text("content"),
            PlanKey::Criteria(criteria) => self.criteria(criteria),
        }
        self.optional(change.plan_type.map(|plan_type| plan_type.code()));
        self.optional(change.local_id.as_ref().map(LocalPlanId::as_str));
        match &change.action {
            PlanAction::Put { start, end } => {
                self.text("put");
                self.day(Some(*start));
                self.day(*end);
            }
            PlanAction::Delete { start } => {
                self.text("delete");
                self.day(*start);
            }
        }
    }

    fn criteria(&mut self, criteria: &PlanCriteria) {
        self.text("criteria");
        self.optional(criteria.plan_type.map(|plan_type| plan_type.code()));
        self.optional(criteria.local_id.as_ref().map(LocalPlanId::as_str));
        self.optional(criteria.body_id.as_deref());
        self.precondition(criteria.precondition);
        self.count(usize::from(criteria.keeps));
    }

    fn precondition(&mut self, precondition: Precondition) {
        match precondition {
            Precondition::None => self.number(0),
            Precondition::Exists => self.number(1),
            Precondition::Version(version) => {
                self.number(2);
                self.number(version);
            }
            Precondition::Absent => self.number(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpis::types::{NhsNumber, PlanType, child::Demographics, upload::UnreadableRecord};

    fn change(entry: usize, start: &str) -> PlanChange {
        PlanChange {
            entry,
            key: PlanKey::Content,
            plan_type: Some(PlanType::ChildProtection),
            local_id: LocalPlanId::parse("CPP-1"),
            action: PlanAction::Put { start: start.parse().unwrap(), end: None },
        }
    }

    fn record(plans: Vec<PlanChange>) -> RecordChange {
        let demographics = Demographics {
            family: "Testcase".to_owned(),
            given: vec!["Robin".to_owned()],
            birth_date: "2017-05-11".parse().unwrap(),
        };
        let child = ChildChange { entry: 0, demographics, local_id: None, precondition: Precondition::None };
        RecordChange { nhs_number: NhsNumber::parse("9990000018").unwrap(), child: Some(child), plans }
    }

    fn digest(records: &[ReadRecord]) -> [u8; 32] {
        let mut digest = FileDigest::new();
        records.iter().for_each(|record| digest.add(record));
        digest.finish()
    }

    #[test]
    fn where_the_entries_lie_changes_nothing_and_all_else_does() {
        let of = |record: RecordChange| digest(&[ReadRecord::Change(record)]);
        let (one, other) = (change(1, "2026-01-01"), change(2, "2026-02-01"));
        let first = of(record(vec![one.clone(), other.clone()]));
        let moved = |change: &PlanChange, entry| PlanChange { entry, ..change.clone() };
        assert_eq!(first, of(record(vec![moved(&other, 9), moved(&one, 4)])));

        let mut others = vec![
            of(record(vec![moved(&one, 2), moved(&other, 1)])),
            of(record(vec![one.clone()])),
            of(record(vec![one.clone(), change(2, "2026-02-02")])),
            of(RecordChange { child: None, ..record(vec![one.clone(), other.clone()]) }),
            digest(&[]),
            digest(&[ReadRecord::Change(record(vec![one.clone()])), ReadRecord::Change(record(vec![other.clone()]))]),
            digest(&[ReadRecord::Unreadable(UnreadableRecord {
                nhs_number: None,
                problems: Vec::new(),
                digest: [1; 32],
            })]),
        ];
        let mut without_id = record(vec![one.clone(), other.clone()]);
        without_id.plans[0].local_id = None;
        others.push(of(without_id));
        let mut names = record(vec![one, other]);
        if let Some(child) = &mut names.child {
            child.demographics.given = vec!["Rob".to_owned(), "in".to_owned()];
        }
        others.push(of(names));
        others.push(first);
        let distinct: std::collections::HashSet<[u8; 32]> = others.iter().copied().collect();
        assert_eq!(distinct.len(), others.len());
    }

    #[test]
    fn a_file_is_its_records_and_the_authoritys_details() {
        let details = |duty: &str| {
            Some(Ok(OrganizationChange {
                entry: 3,
                name: None,
                office_phone: None,
                duty_phone: Phone::parse(duty).unwrap(),
                precondition: Precondition::None,
            }))
        };
        let (one, other) = (details("01632960188"), details("01632960199"));
        assert_ne!(of_file([0; 32], one.as_ref()), of_file([0; 32], other.as_ref()));
        assert_ne!(of_file([0; 32], one.as_ref()), of_file([0; 32], None));
        assert_ne!(of_file([1; 32], None), of_file([0; 32], None));
        assert_eq!(of_file([1; 32], one.as_ref()), of_file([1; 32], details("01632960188").as_ref()));
    }
}
