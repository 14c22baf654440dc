//! What can be said of a record by itself, whatever is stored of its child: for those who look nothing up.

use chrono::NaiveDate;

use super::{
    judge::{StoredRecord, dates},
    relations::one_put_per_type,
};
use crate::cpis::{
    gateway::Gateway,
    limits::Limits,
    types::upload::{Problem, RecordChange},
};

impl Gateway {
    /// [`judge_alone`] today, by this gateway's limits.
    pub fn judge_alone(&self, record: &RecordChange) -> Vec<Problem> {
        judge_alone(record, self.today(), &self.limits)
    }
}

/// Every problem that the record would have on a day if nothing were stored and its number were the right one.
pub fn judge_alone(record: &RecordChange, today: NaiveDate, limits: &Limits) -> Vec<Problem> {
    let nothing = StoredRecord::default();
    let birth_date = record.child.as_ref().map(|child| child.demographics.birth_date);
    let mut problems = one_put_per_type(&record.plans, |change| change.plan_type);
    problems.extend(record.plans.iter().flat_map(|change| dates(change, &nothing, birth_date, today, limits)));
    problems.sort_by_key(|problem| problem.entry);
    problems
}
