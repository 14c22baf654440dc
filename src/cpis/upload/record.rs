//! One record of an upload is judged by what is stored, and written.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;

use super::{
    answer::{Change, LoadedEntry, LoadedOrganization, LoadedRecord, LoadedRef, LoadedResource},
    judge::{ChildWrite, PlanWrite, StoredRecord, Verdict, judge},
};
use crate::{
    clock::from_millis,
    cpis::{
        gateway::Gateway,
        trace::Traces,
        types::{
            Organization, PlanPeriod, PlanType,
            child::{AuthorityChild, Demographics, Trace},
            plan::last_changed,
            upload::{OrganizationChange, Problem, ProblemKind, ReadRecord, RecordChange, RecordCode},
        },
        visibility,
    },
    store::{self, StoreError, Tx, history::Recording, person::Person, plan::VersionContent},
};

/// Where records are judged: what stays the same over them.
pub(super) struct Judging<'a> {
    pub gateway: &'a Gateway,
    pub traces: &'a Traces,
    pub authority: Organization,
    pub recording: Recording,
    pub now: DateTime<Utc>,
    /// The entries are answered with what they now are.
    pub shows: bool,
}

/// The authority as its own entry makes it.
pub(super) fn judge_organization(
    authority: &Organization,
    change: &OrganizationChange,
) -> Result<(Organization, Change), Problem> {
    if !change.precondition.holds(Some(authority.version)) {
        return Err(Problem {
            entry: change.entry,
            code: RecordCode::Cpr07,
            kind: ProblemKind::Version,
            reason: change.precondition.unmet().to_owned(),
            element: "",
        });
    }
    let mut after = authority.clone();
    after.name = change.name.clone().unwrap_or(after.name);
    after.office_phone.clone_from(&change.office_phone);
    after.duty_phone = Some(change.duty_phone.clone());
    let same = (&after.name, &after.office_phone, &after.duty_phone)
        == (&authority.name, &authority.office_phone, &authority.duty_phone);
    Ok((after, if same { Change::Unchanged } else { Change::Updated }))
}

/// Applies the authority's own entry.
pub(super) fn write_organization(
    tx: &mut Tx<'_>,
    authority: &Organization,
    change: &OrganizationChange,
    now: DateTime<Utc>,
) -> Result<Result<LoadedOrganization, Problem>, StoreError> {
    let changed = match judge_organization(authority, change) {
        Ok((_, changed)) => changed,
        Err(problem) => return Ok(Err(problem)),
    };
    if changed == Change::Updated {
        store::organization::update(tx.conn, authority.id, change, now.timestamp_millis())?;
    }
    let organization = store::organization::get(tx.conn, authority.id)?;
    Ok(Ok(LoadedOrganization { organization, change: changed }))
}

impl Judging<'_> {
    /// Judges and writes a record, or gives everything that is wrong with it; then nothing of it is written.
    pub fn record(
        &self,
        tx: &mut Tx<'_>,
        record: &ReadRecord,
    ) -> Result<Result<LoadedRecord, Vec<Problem>>, StoreError> {
        match record {
            ReadRecord::Change(change) => tx.savepoint(|tx| self.change(tx, change)),
            ReadRecord::Unreadable(unreadable) => Ok(Err(unreadable.problems.clone())),
        }
    }

    fn change(&self, tx: &mut Tx<'_>, record: &RecordChange) -> Result<Result<LoadedRecord, Vec<Problem>>, StoreError> {
        let upload = self.recording.upload.unwrap_or_default();
        let child = store::person::child(tx.conn, &record.nhs_number)?;
        let (asked, persons) = child.map(|child| (child.asked, child.persons)).unzip();
        let persons = persons.unwrap_or_default();
        let children = store::child::of_authority_to(tx.conn, self.authority.id, &persons, upload)?;
        let keys: Vec<i64> = children.iter().map(|child| child.id).collect();
        let held = store::plan::of_children_to(tx.conn, &keys, upload)?;
        let exact = children.iter().find(|child| child.nhs_number == record.nhs_number);
        let stored = StoredRecord {
            child: exact.or(children.last()).cloned(),
            plans: held.iter().map(|held| held.plan.clone()).collect(),
        };
        let trace = self.traces.by_number.get(&record.nhs_number).cloned().unwrap_or(Trace::NotTraced);
        let (today, limits) = (self.gateway.calendar.day_of(self.now), &self.gateway.limits);
        let verdict = match judge(record, &stored, &trace, today, limits, self.authority.duty_phone.is_some()) {
            Ok(verdict) => verdict,
            Err(problems) => return Ok(Err(problems)),
        };
        let plan_keys: HashMap<Uuid, i64> = held.iter().map(|held| (held.plan.id, held.key)).collect();
        let birth_date = record.child.as_ref().map(|child| child.demographics.birth_date);
        let writing = Writing {
            judging: self,
            stored: &stored,
            person: asked,
            exact_child: exact,
            plan_keys: &plan_keys,
            birth_date: birth_date.or_else(|| stored.child.as_ref().map(|child| child.demographics.birth_date)),
        };
        Ok(Ok(writing.write(tx, record, verdict, &trace)?))
    }
}

/// One accepted record on its way into the store.
struct Writing<'a> {
    judging: &'a Judging<'a>,
    stored: &'a StoredRecord,
    /// The number, if it is known.
    person: Option<Person>,
    /// The authority's child under exactly the number sent.
    exact_child: Option<&'a AuthorityChild>,
    plan_keys: &'a HashMap<Uuid, i64>,
    /// As the authority sent it, now or before.
    birth_date: Option<NaiveDate>,
}

impl Writing<'_> {
    fn write(
        &self,
        tx: &mut Tx<'_>,
        record: &RecordChange,
        verdict: Verdict,
        trace: &Trace,
    ) -> Result<LoadedRecord, StoreError> {
        let mut entries = Vec::new();
        let mut child_key = self.exact_child.map(|child| child.id);
        let creates = verdict.plans.iter().any(|write| matches!(write, PlanWrite::Create { .. }));
        let keeps_child = verdict.child.as_ref().is_some_and(|child| child.changed || self.exact_child.is_some());
        if keeps_child || (creates && child_key.is_none()) {
            let person = match &self.person {
                Some(person) => person.clone(),
                None => {
                    let person = store::person::find_or_create(tx.conn, &record.nhs_number)?;
                    if *trace != Trace::NotTraced {
                        let asked_ms = self.judging.traces.asked.timestamp_millis();
                        store::trace::asked(tx.conn, &[person.id], asked_ms)?;
                    }
                    person
                }
            };
            // What demographics say is about the person, not of the authority: it counts whatever becomes of the upload.
            // But not over what a later question found.
            let asked_ms = self.judging.traces.asked.timestamp_millis();
            if let Trace::Found(traced) = trace
                && let Some(birth_date) = traced.birth_date
                && person.traced_birth_date != Some(birth_date)
                && person.traced_ms <= asked_ms
            {
                store::person::set_traced_birth_date(tx.conn, person.id, birth_date)?;
            }
            if self.judging.traces.kept.contains(&record.nhs_number) {
                store::trace::ask_at_once(tx.conn, person.id)?;
            }
            let key = match child_key {
                Some(key) => key,
                None => store::child::find_or_create_key(tx.conn, self.judging.authority.id, person.id)?,
            };
            child_key = Some(key);
            if let Some(entry) = self.child(tx, key, &person, verdict.child)? {
                entries.push(entry);
            }
        } else if let (Some(write), Some(child)) = (verdict.child, &self.stored.child) {
            // An end or a delete under a number that can't be verified: the child stays as it is under the one on file.
            entries.push(self.child_entry(write.entry, Change::Unchanged, child, child.clone()));
        }
        for write in verdict.plans {
            entries.push(self.plan(tx, child_key, write)?);
        }
        entries.sort_by_key(|entry| entry.entry);
        Ok(LoadedRecord { entries, warnings: verdict.warnings })
    }

    fn child_entry(&self, entry: usize, change: Change, of: &AuthorityChild, now: AuthorityChild) -> LoadedEntry {
        LoadedEntry {
            entry,
            change,
            of: LoadedRef::Child(of.nhs_number),
            version: now.version,
            modified: now.recorded,
            resource: self.judging.shows.then(|| LoadedResource::Child(Box::new(now))),
        }
    }

    /// The child's own data; a child first sent under an older number is copied to the new one.
    fn child(
        &self,
        tx: &mut Tx<'_>,
        key: i64,
        person: &Person,
        write: Option<ChildWrite>,
    ) -> Result<Option<LoadedEntry>, StoreError> {
        let known = self.exact_child.is_some();
        let (entry, demographics, local_id, changed) = match (write, &self.stored.child) {
            (Some(write), _) => (Some(write.entry), write.demographics, write.local_id, write.changed || !known),
            (None, Some(child)) => (None, child.demographics.clone(), child.local_id.clone(), !known),
            (None, None) => return Err(StoreError::Corrupt("a plan without a child")),
        };
        let recording = self.judging.recording;
        let added = if changed { Some(self.add_version(tx, key, &demographics, local_id.as_deref())?) } else { None };
        let Some(entry) = entry else { return Ok(None) };
        let change = match (known, changed) {
            (false, _) => Change::Created,
            (true, true) => Change::Updated,
            (true, false) => Change::Unchanged,
        };
        let now = match (added, self.exact_child) {
            (None, Some(child)) => child.clone(),
            (Some(version), _) => AuthorityChild {
                id: key,
                person_id: person.id,
                nhs_number: person.nhs_number,
                demographics,
                local_id,
                version,
                recorded: from_millis(recording.recorded_ms),
                inactive: self.exact_child.and_then(|child| child.inactive),
            },
            (None, None) => return Err(StoreError::Corrupt("authority_child")),
        };
        Ok(Some(self.child_entry(entry, change, &now.clone(), now)))
    }

    fn add_version(
        &self,
        tx: &mut Tx<'_>,
        key: i64,
        demographics: &Demographics,
        local_id: Option<&str>,
    ) -> Result<i64, StoreError> {
        store::child::add_version(tx.conn, key, demographics, local_id, self.judging.recording)
    }

    fn plan(&self, tx: &mut Tx<'_>, child: Option<i64>, write: PlanWrite) -> Result<LoadedEntry, StoreError> {
        let recording = self.judging.recording;
        let (entry, recorded) = (write.entry(), from_millis(recording.recorded_ms));
        let (id, change, done) = match write {
            PlanWrite::Create { plan_type, period, local_id, .. } => {
                let child = child.ok_or(StoreError::Corrupt("a plan without a child"))?;
                let id = Uuid::new_v4();
                let content = VersionContent { period, local_id: local_id.as_ref(), deleted: false };
                store::plan::create(tx.conn, child, id, plan_type, content, recording)?;
                (id, Change::Created, Done { plan_type, period, version: 1, recorded })
            }
            PlanWrite::Update { id, period, local_id, .. } => {
                let content = VersionContent { period, local_id: local_id.as_ref(), deleted: false };
                let version = store::plan::add_version(tx.conn, self.key_of(id)?, content, recording)?;
                (id, Change::Updated, Done { period, version, recorded, ..self.held(id)? })
            }
            PlanWrite::Delete { id, .. } => {
                let plan = self.stored.plans.iter().find(|plan| plan.id == id).ok_or(StoreError::Corrupt("plan"))?;
                let content = VersionContent { period: plan.period, local_id: plan.local_id.as_ref(), deleted: true };
                let version = store::plan::add_version(tx.conn, self.key_of(id)?, content, recording)?;
                (id, Change::Deleted, Done { version, recorded, ..self.held(id)? })
            }
            PlanWrite::Unchanged { id, .. } => (id, Change::Unchanged, self.held(id)?),
            PlanWrite::AlreadyDeleted { id, .. } => (id, Change::AlreadyDeleted, self.held(id)?),
        };
        Ok(LoadedEntry {
            entry,
            change,
            of: LoadedRef::Plan(id),
            version: done.version,
            modified: self.modified(&done),
            resource: self.shown(tx, id)?,
        })
    }

    /// When the owner's view of the plan last changed.
    fn modified(&self, done: &Done) -> DateTime<Utc> {
        let gateway = self.judging.gateway;
        let closes =
            self.birth_date.and_then(|birth| visibility::closes(done.plan_type, &done.period, birth, &gateway.limits));
        last_changed(done.recorded, done.period.end(), closes, self.judging.now, gateway.calendar.zone())
    }

    fn held(&self, id: Uuid) -> Result<Done, StoreError> {
        let plan = self.stored.plans.iter().find(|plan| plan.id == id).ok_or(StoreError::Corrupt("plan"))?;
        Ok(Done { plan_type: plan.plan_type, period: plan.period, version: plan.version, recorded: plan.recorded })
    }

    fn shown(&self, tx: &mut Tx<'_>, id: Uuid) -> Result<Option<LoadedResource>, StoreError> {
        if !self.judging.shows {
            return Ok(None);
        }
        let held = store::plan::find(tx.conn, id)?.ok_or(StoreError::Corrupt("plan"))?;
        let owned = store::child::get(tx.conn, held.child_id)?.ok_or(StoreError::Corrupt("authority_child"))?;
        let judging = self.judging;
        let shown = judging.gateway.own(tx.conn, &judging.authority, &owned.child, held)?;
        Ok(Some(LoadedResource::Plan(Box::new(shown))))
    }

    fn key_of(&self, id: Uuid) -> Result<i64, StoreError> {
        self.plan_keys.get(&id).copied().ok_or(StoreError::Corrupt("plan"))
    }
}

/// A plan as the record leaves it.
struct Done {
    plan_type: PlanType,
    period: PlanPeriod,
    version: i64,
    recorded: DateTime<Utc>,
}
