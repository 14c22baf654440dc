//! An upload is applied: traced, judged record by record, written with its audit in one transaction (design 6).

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{
    judge::{ChildWrite, PlanWrite, StoredRecord, Verdict, judge},
    kept::Keeping,
};
use crate::{
    cpis::{
        gateway::{Error, Gateway},
        own_record::own_plan,
        types::{
            NhsNumber, Organization, ShownPlan,
            audit::Interaction,
            caller::{Caller, RequestContext},
            child::{AuthorityChild, Demographics, Trace},
            upload::{Door, FileCode, OrganizationChange, Problem, ProblemKind, RecordChange, RecordCode, Warning},
        },
    },
    store::{self, StoreError, Tx, history::Recording, plan::VersionContent},
};

/// One change of an authority: a Bundle, or a single interaction as a record of its own.
#[derive(Clone, Debug)]
pub struct Upload {
    pub caller: Caller,
    pub context: RequestContext,
    pub interaction: Interaction,
    pub door: Door,
    /// A FHIR transaction: one refused record refuses all.
    pub all_or_nothing: bool,
    /// The authority's own entry, or why it could not be read.
    pub organization: Option<Result<OrganizationChange, Problem>>,
    pub records: Vec<RecordChange>,
    /// Records that could not be read: they count for the file's code and are kept with theirs.
    pub unreadable: Vec<Unreadable>,
}

/// A record that never became one.
#[derive(Clone, Debug)]
pub struct Unreadable {
    pub nhs_number: Option<NhsNumber>,
    pub code: RecordCode,
    /// Plain English, never a value that was sent.
    pub reason: String,
}

/// What became of an upload. When this exists, effect and audit are durable.
#[derive(Clone, Debug)]
pub struct Applied {
    pub id: Uuid,
    pub code: FileCode,
    pub organization: Option<Result<LoadedOrganization, Problem>>,
    /// In the order of `Upload::records`. In a refused transaction the records that were good are not stored either.
    pub records: Vec<Result<LoadedRecord, Vec<Problem>>>,
    /// False when a transaction was refused: nothing is stored.
    pub stored: bool,
}

/// The authority after its own entry was applied.
#[derive(Clone, Debug)]
pub struct LoadedOrganization {
    pub organization: Organization,
    /// [`Change::Updated`] or [`Change::Unchanged`].
    pub change: Change,
}

/// A record that was loaded.
#[derive(Clone, Debug)]
pub struct LoadedRecord {
    pub entries: Vec<LoadedEntry>,
    pub warnings: Vec<Warning>,
}

/// What one entry of a loaded record did.
#[derive(Clone, Debug)]
pub struct LoadedEntry {
    pub entry: usize,
    pub change: Change,
    pub resource: LoadedResource,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Created,
    Updated,
    Unchanged,
    Deleted,
    /// It was deleted before.
    AlreadyDeleted,
}

#[derive(Clone, Debug)]
pub enum LoadedResource {
    Child(Box<AuthorityChild>),
    Plan(Box<ShownPlan>),
}

/// A transaction is undone.
struct Refused(Judged);

/// Outcomes of organisation and records.
#[derive(Clone)]
pub(super) struct Judged {
    pub organization: Option<Result<LoadedOrganization, Problem>>,
    pub records: Vec<Result<LoadedRecord, Vec<Problem>>>,
}

impl Judged {
    fn organization_refused(&self) -> bool {
        matches!(self.organization, Some(Err(_)))
    }

    fn any_refused(&self) -> bool {
        self.records.iter().any(Result::is_err) || self.organization_refused()
    }
}

/// Where a change is applied: what stays the same over its records.
struct Applying<'a> {
    gateway: &'a Gateway,
    upload: &'a Upload,
    traces: &'a HashMap<NhsNumber, Trace>,
    authority: Organization,
    recording: Recording,
    now: DateTime<Utc>,
}

impl Gateway {
    /// The number under which an authority sent the child of one of its plans; `None` for any other plan.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn own_number_of(&self, authority: &Organization, plan: Uuid) -> Result<Option<NhsNumber>, Error> {
        let authority = authority.clone();
        let read = self.store.read(move |conn| own_plan(conn, &authority, plan));
        Ok(read.await?.map(|(_, child)| child.nhs_number))
    }

    /// Judges and applies an upload. Effect, answer and audit are durable when this returns.
    ///
    /// # Errors
    /// [`Error::DemographicsUnavailable`] (CPF05) or [`Error`]: then nothing is stored.
    pub async fn upload(&self, upload: Upload) -> Result<Applied, Error> {
        let readable = upload.records.iter().map(|record| record.nhs_number);
        // Traced too: of a restricted child nothing may be kept, however its record is refused.
        let unreadable = upload.unreadable.iter().filter_map(|record| record.nhs_number);
        let mut numbers: Vec<NhsNumber> = readable.chain(unreadable).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let traces = self.trace(&numbers).await?;
        let gateway = self.clone();
        Ok(self.store.write(numbers, move |tx| gateway.apply_in(tx, &upload, &traces)).await?)
    }

    fn apply_in(
        &self,
        tx: &mut Tx<'_>,
        upload: &Upload,
        traces: &HashMap<NhsNumber, Trace>,
    ) -> Result<Applied, StoreError> {
        let now = self.clock.now();
        let (id, now_ms) = (Uuid::new_v4(), now.timestamp_millis());
        let authority = upload.caller.organization.id;
        store::organization::lock(tx.conn, authority)?;
        let authority = store::organization::get(tx.conn, authority)?;
        let count = upload.records.len() + upload.unreadable.len();
        let key = store::upload::begin(tx.conn, id, authority.id, upload.door, count, now_ms)?;
        let applied = tx.savepoint(|tx| {
            let recording = Recording::begin(tx.conn, authority.id, key, now_ms)?;
            let mut applying = Applying { gateway: self, upload, traces, authority, recording, now };
            let judged = applying.all(tx)?;
            let refused = upload.all_or_nothing && (judged.any_refused() || !upload.unreadable.is_empty());
            Ok(if refused { Err(Refused(judged)) } else { Ok(judged) })
        })?;
        let (stored, judged) = match applied {
            Ok(judged) => (true, judged),
            Err(Refused(judged)) => (false, judged),
        };
        let loaded = if stored { judged.records.iter().filter(|record| record.is_ok()).count() } else { 0 };
        // The authority's own details are no record, but a file of which they were refused was not loaded whole.
        let code = match loaded {
            loaded if loaded == count && stored && !judged.organization_refused() => FileCode::Cpf02,
            0 => FileCode::Cpf04,
            _ => FileCode::Cpf03,
        };
        store::upload::answer(tx.conn, key, code)?;
        let keeping = Keeping { upload, judged: &judged, stored, traces, id, now };
        keeping.records(tx, key)?;
        keeping.audit(tx)?;
        Ok(Applied { id, code, organization: judged.organization, records: judged.records, stored })
    }
}

impl Applying<'_> {
    /// The authority's own entry first, then every record.
    fn all(&mut self, tx: &mut Tx<'_>) -> Result<Judged, StoreError> {
        let organization = match &self.upload.organization {
            Some(Ok(change)) => Some(self.organization(tx, change)?),
            Some(Err(problem)) => Some(Err(problem.clone())),
            None => None,
        };
        let mut records = Vec::with_capacity(self.upload.records.len());
        for record in &self.upload.records {
            records.push(tx.savepoint(|tx| self.record(tx, record))?);
        }
        Ok(Judged { organization, records })
    }

    fn organization(
        &mut self,
        tx: &mut Tx<'_>,
        change: &OrganizationChange,
    ) -> Result<Result<LoadedOrganization, Problem>, StoreError> {
        if !change.precondition.holds(Some(self.authority.version)) {
            return Ok(Err(Problem {
                entry: change.entry,
                code: RecordCode::Cpr07,
                kind: ProblemKind::Version,
                reason: change.precondition.unmet().to_owned(),
                element: "",
            }));
        }
        let same = change.name.as_ref().is_none_or(|name| *name == self.authority.name)
            && change.office_phone == self.authority.office_phone
            && Some(&change.duty_phone) == self.authority.duty_phone.as_ref();
        if !same {
            store::organization::update(tx.conn, self.authority.id, change, self.now.timestamp_millis())?;
            self.authority = store::organization::get(tx.conn, self.authority.id)?;
        }
        let change = if same { Change::Unchanged } else { Change::Updated };
        Ok(Ok(LoadedOrganization { organization: self.authority.clone(), change }))
    }

    fn record(&self, tx: &mut Tx<'_>, record: &RecordChange) -> Result<Result<LoadedRecord, Vec<Problem>>, StoreError> {
        let child = store::person::child(tx.conn, &record.nhs_number)?;
        let persons = child.map(|child| child.persons).unwrap_or_default();
        let children = store::child::of_authority(tx.conn, self.authority.id, &persons)?;
        let keys: Vec<i64> = children.iter().map(|child| child.id).collect();
        let held = store::plan::of_children(tx.conn, &keys)?;
        let exact = children.iter().find(|child| child.nhs_number == record.nhs_number);
        let stored = StoredRecord {
            child: exact.or(children.last()).cloned(),
            plans: held.iter().map(|held| held.plan.clone()).collect(),
        };
        let trace = self.traces.get(&record.nhs_number).cloned().unwrap_or(Trace::NotTraced);
        let (today, limits) = (self.gateway.calendar.day_of(self.now), &self.gateway.limits);
        let verdict = judge(record, &stored, &trace, today, limits, self.authority.duty_phone.is_some());
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(problems) => return Ok(Err(problems)),
        };
        let plan_keys: HashMap<Uuid, i64> = held.iter().map(|held| (held.plan.id, held.key)).collect();
        let writing = Writing { applying: self, stored: &stored, exact_child: exact, plan_keys: &plan_keys };
        Ok(Ok(writing.write(tx, record, verdict, &trace)?))
    }
}

/// One accepted record on its way into the store.
struct Writing<'a> {
    applying: &'a Applying<'a>,
    stored: &'a StoredRecord,
    /// The authority's child under exactly the number sent.
    exact_child: Option<&'a AuthorityChild>,
    plan_keys: &'a HashMap<Uuid, i64>,
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
            let person = store::person::find_or_create(tx.conn, &record.nhs_number)?;
            if let Trace::Found(traced) = trace
                && person.traced_birth_date != Some(traced.birth_date)
            {
                store::person::set_traced_birth_date(tx.conn, person.id, traced.birth_date)?;
            }
            let key = store::child::find_or_create_key(tx.conn, self.applying.authority.id, person.id)?;
            child_key = Some(key);
            if let Some(entry) = self.child(tx, key, verdict.child)? {
                entries.push(entry);
            }
        } else if let (Some(write), Some(child)) = (verdict.child, &self.stored.child) {
            // An end or a delete under a number that can't be verified: the child stays as it is under the one on file.
            let resource = LoadedResource::Child(Box::new(child.clone()));
            entries.push(LoadedEntry { entry: write.entry, change: Change::Unchanged, resource });
        }
        for write in verdict.plans {
            entries.push(self.plan(tx, child_key, write)?);
        }
        entries.sort_by_key(|entry| entry.entry);
        Ok(LoadedRecord { entries, warnings: verdict.warnings })
    }

    /// The child's own data; a child first sent under an older number is copied to the new one.
    fn child(&self, tx: &mut Tx<'_>, key: i64, write: Option<ChildWrite>) -> Result<Option<LoadedEntry>, StoreError> {
        let known = self.exact_child.is_some();
        let (entry, demographics, local_id, changed) = match (write, &self.stored.child) {
            (Some(write), _) => (Some(write.entry), write.demographics, write.local_id, write.changed || !known),
            (None, Some(child)) => (None, child.demographics.clone(), child.local_id.clone(), !known),
            (None, None) => return Err(StoreError::Corrupt("a plan without a child")),
        };
        if changed {
            self.add_child_version(tx, key, &demographics, local_id.as_deref())?;
        }
        let Some(entry) = entry else { return Ok(None) };
        let owned = store::child::get(tx.conn, key)?.ok_or(StoreError::Corrupt("authority_child"))?;
        let change = match (known, changed) {
            (false, _) => Change::Created,
            (true, true) => Change::Updated,
            (true, false) => Change::Unchanged,
        };
        Ok(Some(LoadedEntry { entry, change, resource: LoadedResource::Child(Box::new(owned.child)) }))
    }

    fn add_child_version(
        &self,
        tx: &mut Tx<'_>,
        key: i64,
        demographics: &Demographics,
        local_id: Option<&str>,
    ) -> Result<(), StoreError> {
        store::child::add_version(tx.conn, key, demographics, local_id, self.applying.recording)?;
        Ok(())
    }

    fn plan(&self, tx: &mut Tx<'_>, child: Option<i64>, write: PlanWrite) -> Result<LoadedEntry, StoreError> {
        let recording = self.applying.recording;
        let entry = write.entry();
        let (id, change) = match write {
            PlanWrite::Create { plan_type, period, local_id, .. } => {
                let child = child.ok_or(StoreError::Corrupt("a plan without a child"))?;
                let id = Uuid::new_v4();
                let content = VersionContent { period, local_id: local_id.as_ref(), deleted: false };
                store::plan::create(tx.conn, child, id, plan_type, content, recording)?;
                (id, Change::Created)
            }
            PlanWrite::Update { id, period, local_id, .. } => {
                let content = VersionContent { period, local_id: local_id.as_ref(), deleted: false };
                store::plan::add_version(tx.conn, self.key_of(id)?, content, recording)?;
                (id, Change::Updated)
            }
            PlanWrite::Delete { id, .. } => {
                let plan = self.stored.plans.iter().find(|plan| plan.id == id).ok_or(StoreError::Corrupt("plan"))?;
                let content = VersionContent { period: plan.period, local_id: plan.local_id.as_ref(), deleted: true };
                store::plan::add_version(tx.conn, self.key_of(id)?, content, recording)?;
                (id, Change::Deleted)
            }
            PlanWrite::Unchanged { id, .. } => (id, Change::Unchanged),
            PlanWrite::AlreadyDeleted { id, .. } => (id, Change::AlreadyDeleted),
        };
        let held = store::plan::find(tx.conn, id)?.ok_or(StoreError::Corrupt("plan"))?;
        let owned = store::child::get(tx.conn, held.child_id)?.ok_or(StoreError::Corrupt("authority_child"))?;
        let applying = self.applying;
        let shown = applying.gateway.own(tx.conn, &applying.authority, &owned.child, held)?;
        Ok(LoadedEntry { entry, change, resource: LoadedResource::Plan(Box::new(shown)) })
    }

    fn key_of(&self, id: Uuid) -> Result<i64, StoreError> {
        self.plan_keys.get(&id).copied().ok_or(StoreError::Corrupt("plan"))
    }
}
