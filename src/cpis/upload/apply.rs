//! A change of an authority, small or large. One of few records is judged and applied with its answer and its audit in
//! one transaction; one of many is staged (design 6).

use std::{collections::HashMap, sync::Arc};

use uuid::Uuid;

use super::{
    answer::{Applied, KeptAnswer, LoadedRecord, NotApplied},
    identity::{self, FileDigest},
    kept::{Keeping, file_event, number_of, organization_event},
    record::{Judging, write_organization},
    staging::Ended,
    turn,
};
use crate::{
    cpis::{
        gateway::{Error, Gateway},
        own_record::own_plan,
        trace::Traces,
        types::{
            NhsNumber, Organization,
            audit::Interaction,
            caller::{Caller, RequestContext},
            child::Urgency,
            upload::{Door, FileCode, OrganizationChange, Problem, ReadRecord, RecordChange},
        },
    },
    store::{
        self, StoreError, Tx,
        history::Recording,
        upload::{Known, NewUpload},
    },
    telemetry::metrics,
};

/// One change of an authority: a Bundle, a file, or a single interaction as a record of its own.
#[derive(Clone, Debug)]
pub struct Upload {
    pub head: UploadHead,
    /// In the order of the file.
    pub records: Vec<SentRecord>,
}

/// A change of an authority without its records.
#[derive(Clone, Debug)]
pub struct UploadHead {
    pub id: Uuid,
    pub caller: Caller,
    pub context: RequestContext,
    pub interaction: Interaction,
    pub door: Door,
    /// A FHIR transaction: one refused record refuses all.
    pub all_or_nothing: bool,
    /// The authority's own entry, or why it could not be read.
    pub organization: Option<Result<OrganizationChange, Problem>>,
    /// The authority's number of the file.
    pub number: Option<i64>,
    /// The MESH message that brought it.
    pub mesh_message: Option<String>,
    /// What the door needs to answer it without the file; JSON.
    pub form: Option<String>,
}

/// A record as it came. Its entries are numbered within it, the same by every door: the child is 0, its n-th plan n.
#[derive(Clone, Debug)]
pub struct SentRecord {
    pub record: ReadRecord,
    /// What the door needs to answer it without the file; JSON.
    pub form: Option<String>,
}

impl From<ReadRecord> for SentRecord {
    fn from(record: ReadRecord) -> Self {
        Self { record, form: None }
    }
}

impl From<RecordChange> for SentRecord {
    fn from(change: RecordChange) -> Self {
        ReadRecord::Change(change).into()
    }
}

impl UploadHead {
    /// Of a change that has nothing but records.
    pub fn new(caller: Caller, context: RequestContext, interaction: Interaction, door: Door) -> Self {
        Self {
            id: Uuid::new_v4(),
            caller,
            context,
            interaction,
            door,
            all_or_nothing: false,
            organization: None,
            number: None,
            mesh_message: None,
            form: None,
        }
    }

    pub(super) fn authority(&self) -> i64 {
        self.caller.organization.id
    }

    pub(super) fn as_new(&self, records: usize, identity: Option<[u8; 32]>) -> NewUpload {
        NewUpload {
            id: self.id,
            authority: self.authority(),
            door: self.door,
            records,
            number: self.number,
            identity,
            mesh_message: self.mesh_message.clone(),
            form: self.form.clone(),
        }
    }
}

impl Upload {
    /// What tells it from another file of the same number; nothing for one without a number.
    fn identity(&self) -> Option<[u8; 32]> {
        self.head.number?;
        let mut digest = FileDigest::new();
        self.records.iter().for_each(|sent| digest.add(&sent.record));
        Some(identity::of_file(digest.finish(), self.head.organization.as_ref()))
    }
}

/// What is known of an upload before it is judged.
#[derive(Clone, Debug)]
pub(super) enum Before {
    /// It was answered: this is the upload.
    Answered(i64),
    /// CPF01, with the reason.
    Refused(String),
    New,
}

/// An upload that was begun.
pub enum Begun {
    /// It was answered before, or its number can't be used.
    Answered(Box<Applied>),
    Going(Going),
}

/// An upload that is to be staged.
pub struct Going {
    key: i64,
    head: Arc<UploadHead>,
    records: Vec<SentRecord>,
    identity: Option<[u8; 32]>,
}

/// How an attempt to apply a change at once ended.
enum Attempt {
    Applied(Box<Applied>),
    Before(Before),
    /// Another change of the authority is under way.
    Occupied,
    /// A dead process has left something.
    LeftOver,
}

/// A transaction is undone.
struct Refused(Judged);

/// Outcomes of organisation and records.
struct Judged {
    organization: Option<Result<super::answer::LoadedOrganization, Problem>>,
    records: Vec<Result<LoadedRecord, Vec<Problem>>>,
}

impl Judged {
    fn organization_refused(&self) -> bool {
        matches!(self.organization, Some(Err(_)))
    }
}

/// The code of a file of which so many records were loaded. The authority's own details are no record, but a file of
/// which they were refused was not loaded whole.
pub(super) fn file_code(loaded: usize, count: usize, organization_refused: bool, stored: bool) -> FileCode {
    match if stored { loaded } else { 0 } {
        loaded if loaded == count && stored && !organization_refused => FileCode::Cpf02,
        0 => FileCode::Cpf04,
        _ => FileCode::Cpf03,
    }
}

impl Gateway {
    /// The number under which an authority sent the child of one of its plans; `None` for any other plan.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn own_number_of(&self, authority: &Organization, plan: Uuid) -> Result<Option<NhsNumber>, Error> {
        Ok(self.own_numbers_of(authority, vec![plan]).await?.remove(&plan))
    }

    /// The numbers under which an authority sent the children of its own plans, by plan; other plans are not there.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn own_numbers_of(
        &self,
        authority: &Organization,
        plans: Vec<Uuid>,
    ) -> Result<HashMap<Uuid, NhsNumber>, Error> {
        if plans.is_empty() {
            return Ok(HashMap::new());
        }
        let authority = authority.clone();
        let read = self.store.read(move |conn| {
            let mut numbers = HashMap::new();
            for plan in plans {
                if let Some((_, child)) = own_plan(conn, &authority, plan)? {
                    numbers.insert(plan, child.nhs_number);
                }
            }
            Ok(numbers)
        });
        Ok(read.await?)
    }

    /// Judges and applies an upload. Effect, answer and audit are durable when this returns.
    ///
    /// # Errors
    /// [`Error::DemographicsUnavailable`] (CPF05), [`Error::Occupied`] or [`Error`]: then nothing is stored.
    pub async fn upload(&self, upload: Upload) -> Result<Applied, Error> {
        if upload.records.len() > self.uploads.batch_records {
            return self.upload_in_stages(upload).await;
        }
        let identity = upload.identity();
        let upload = Arc::new(upload);
        if let Some(known) = self.known_before(&upload.head, identity).await? {
            return self.before(&upload.head, known).await;
        }
        let mut numbers: Vec<NhsNumber> = upload.records.iter().filter_map(|sent| number_of(&sent.record)).collect();
        let traces = Arc::new(self.traces(&mut numbers, None).await?);
        let patience = self.patience();
        loop {
            let (gateway, upload, traces, numbers) = (self.clone(), upload.clone(), traces.clone(), numbers.clone());
            let head = upload.head.clone();
            let attempt = self.store.write(numbers, move |tx| gateway.apply_in(tx, &upload, &traces, identity));
            match attempt.await? {
                Attempt::Applied(applied) => {
                    self.count_upload(head.door, applied.code);
                    return Ok(*applied);
                }
                Attempt::Before(known) => return self.before(&head, known).await,
                Attempt::Occupied => self.wait_for_turn(head.authority(), patience).await?,
                Attempt::LeftOver => self.discard_left_over(head.authority(), patience).await?,
            }
        }
    }

    /// [`Gateway::upload`] of one that is staged whatever its size.
    ///
    /// # Errors
    /// As [`Gateway::upload`].
    pub async fn upload_in_stages(&self, upload: Upload) -> Result<Applied, Error> {
        match self.begin_upload(upload).await? {
            Begun::Answered(applied) => Ok(*applied),
            Begun::Going(going) => self.finish_upload(going).await,
        }
    }

    /// Makes an upload known that is then staged: when this returns, its status can be asked for, unless it is answered.
    ///
    /// # Errors
    /// [`Error`] when the store fails.
    pub async fn begin_upload(&self, upload: Upload) -> Result<Begun, Error> {
        let identity = upload.identity();
        let Upload { head, records } = upload;
        if let Some(known) = self.known_before(&head, identity).await? {
            return Ok(Begun::Answered(Box::new(self.before(&head, known).await?)));
        }
        let key = self.begin_staging(&head, records.len(), identity).await?;
        Ok(Begun::Going(Going { key, head: Arc::new(head), records, identity }))
    }

    /// Stages and applies an upload that was begun.
    ///
    /// # Errors
    /// As [`Gateway::upload`].
    pub async fn finish_upload(&self, going: Going) -> Result<Applied, Error> {
        let Going { key, head, records, identity } = going;
        let count = records.len();
        let ended = self.stage(key, head.clone(), Box::new(records.into_iter()), count, identity, None).await?;
        self.ended(&head, ended).await
    }

    /// The answer of an upload that was staged.
    async fn ended(&self, head: &UploadHead, ended: Ended) -> Result<Applied, Error> {
        let answered = self.answer_of(head, ended).await;
        match &answered {
            Ok(applied) if !applied.repeated => self.count_upload(head.door, applied.code),
            Err(Error::DemographicsUnavailable) => self.count_upload(head.door, FileCode::Cpf05),
            _ => {}
        }
        answered
    }

    async fn answer_of(&self, head: &UploadHead, ended: Ended) -> Result<Applied, Error> {
        match ended {
            Ended::Final { key, repeated } => Ok(self.final_answer(key, repeated).await?),
            Ended::NotApplied(NotApplied::Refused(reason)) => Ok(refused_file(head.id, reason)),
            Ended::NotApplied(NotApplied::Cancelled) => Ok(refused_file(head.id, CANCELLED.to_owned())),
            Ended::NotApplied(NotApplied::Demographics) => Err(Error::DemographicsUnavailable),
            Ended::NotApplied(NotApplied::Occupied | NotApplied::Failed) => Err(Error::Occupied),
        }
    }

    /// Counts an answer that was made, not repeated.
    pub(super) fn count_upload(&self, door: Door, code: FileCode) {
        self.metrics.count(&metrics::UPLOADS, &[door.code(), code.code()]);
    }

    async fn before(&self, head: &UploadHead, known: Before) -> Result<Applied, Error> {
        match known {
            Before::Answered(key) => self.final_answer(key, true).await,
            Before::Refused(reason) => {
                self.count_upload(head.door, FileCode::Cpf01);
                Ok(refused_file(head.id, reason))
            }
            Before::New => Err(Error::Fault(StoreError::Corrupt("an upload"))),
        }
    }

    /// The answer of a file that is known, asked without a lock: a repeated file needs no turn, and no demographics.
    pub(super) async fn known_before(
        &self,
        head: &UploadHead,
        identity: Option<[u8; 32]>,
    ) -> Result<Option<Before>, Error> {
        if head.number.is_none() && head.mesh_message.is_none() {
            return Ok(None);
        }
        let (gateway, head) = (self.clone(), head.clone());
        let before = self.store.read(move |conn| gateway.what_is_known(conn, &head, identity)).await?;
        Ok(Some(before).filter(|before| !matches!(before, Before::New)))
    }

    /// What is known of an upload: to be asked under the authority's lease before anything is judged.
    pub(super) fn what_is_known(
        &self,
        conn: &mut store::Conn,
        head: &UploadHead,
        identity: Option<[u8; 32]>,
    ) -> Result<Before, StoreError> {
        if let Some(message) = &head.mesh_message
            && let Some(key) = store::upload::of_message(conn, head.authority(), message)?
        {
            return Ok(Before::Answered(key));
        }
        let (Some(number), Some(identity)) = (head.number, identity) else { return Ok(Before::New) };
        Ok(match store::upload::known(conn, head.authority(), number, &identity)? {
            Known::Same(key) => Before::Answered(key),
            Known::Other => Before::Refused(NUMBER_USED.to_owned()),
            Known::OutOfOrder => Before::Refused(OUT_OF_ORDER.to_owned()),
            Known::New { .. } => Before::New,
        })
    }

    /// What demographics know of these numbers, which are put in order, each once; of a staged upload, with its authority.
    pub(super) async fn traces(&self, numbers: &mut Vec<NhsNumber>, staged_by: Option<i64>) -> Result<Traces, Error> {
        // Those of unreadable records too: of a restricted child nothing may be kept, however its record is refused.
        numbers.sort_unstable();
        numbers.dedup();
        let urgency = if staged_by.is_some() { Urgency::File } else { Urgency::Caller };
        self.trace_for(numbers, urgency, staged_by).await
    }

    fn apply_in(
        &self,
        tx: &mut Tx<'_>,
        upload: &Upload,
        traces: &Traces,
        identity: Option<[u8; 32]>,
    ) -> Result<Attempt, StoreError> {
        let head = &upload.head;
        let now = self.clock.now();
        let now_ms = now.timestamp_millis();
        let authority = head.authority();
        if !store::lease::pass(tx.conn, &turn::lease_of(authority), now)? {
            return Ok(Attempt::Occupied);
        }
        if !store::upload::left_over(tx.conn, authority)?.is_empty() {
            return Ok(Attempt::LeftOver);
        }
        store::organization::lock(tx.conn, authority)?;
        match self.what_is_known(tx.conn, head, identity)? {
            Before::New => self.count_gap(tx.conn, head, identity)?,
            known => return Ok(Attempt::Before(known)),
        }
        let authority = store::organization::get(tx.conn, authority)?;
        if !authority.active {
            // Closed since the caller was let in: another has taken over, and nothing may be left behind under this one.
            return Err(StoreError::Race);
        }
        let count = upload.records.len();
        let key = store::upload::begin(tx.conn, &head.as_new(count, identity), store::upload::APPLIED, now_ms)?;
        let recording = Recording::begin(tx.conn, authority.id, key, now_ms)?;
        let mut judging = Judging { gateway: self, traces, authority, recording, now, shows: true };
        let applied = tx.savepoint(|tx| {
            let judged = all(&mut judging, tx, upload)?;
            let refused =
                head.all_or_nothing && (judged.organization_refused() || judged.records.iter().any(Result::is_err));
            Ok(if refused { Err(Refused(judged)) } else { Ok(judged) })
        })?;
        let (stored, judged) = match applied {
            Ok(judged) => (true, judged),
            Err(Refused(judged)) => (false, judged),
        };
        let loaded = judged.records.iter().filter(|record| record.is_ok()).count();
        let code = file_code(loaded, count, judged.organization_refused(), stored);
        let kept = KeptAnswer::Final { organization: KeptAnswer::organization(judged.organization.as_ref()), stored };
        store::upload::answer(tx.conn, key, code, &kept.write()?)?;
        let keeping = Keeping { head, traces: &traces.by_number, now, is_read_again: head.number.is_some() };
        self.keep(tx, upload, &judged, keeping, key, stored)?;
        self.confirm(tx, head, code, now_ms)?;
        Ok(Attempt::Applied(Box::new(Applied {
            id: head.id,
            code,
            reason: None,
            organization: judged.organization,
            records: judged.records,
            stored,
            repeated: false,
        })))
    }

    fn keep(
        &self,
        tx: &mut Tx<'_>,
        upload: &Upload,
        judged: &Judged,
        keeping: Keeping<'_>,
        key: i64,
        stored: bool,
    ) -> Result<(), StoreError> {
        let (head, now, now_ms) = (&upload.head, keeping.now, keeping.now.timestamp_millis());
        let (mut kept, mut resolved) = (Vec::new(), Vec::new());
        for (position, (sent, outcome)) in upload.records.iter().zip(&judged.records).enumerate() {
            kept.push(keeping.record(position, sent, outcome, !stored)?);
            tx.append_audit(now, keeping.record_event(&sent.record, outcome, !stored))?;
            if outcome.is_ok() && stored {
                resolved.extend(number_of(&sent.record));
            }
        }
        store::upload::add_records(tx.conn, key, &kept, now_ms)?;
        store::upload::resolve(tx.conn, head.authority(), key, &resolved, now_ms)?;
        if let Some(organization) = &judged.organization {
            tx.append_audit(now, organization_event(head, organization, !stored))?;
        }
        if let Some(event) = file_event(head, upload.records.len(), stored) {
            tx.append_audit(now, event)?;
        }
        Ok(())
    }

    /// Keeps that the authority has confirmed what it shares, if it has.
    pub(super) fn confirm(
        &self,
        tx: &mut Tx<'_>,
        head: &UploadHead,
        code: FileCode,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        match code {
            FileCode::Cpf02 | FileCode::Cpf03 => store::upload::confirm(tx.conn, head.authority(), now_ms),
            FileCode::Cpf01 | FileCode::Cpf04 | FileCode::Cpf05 => Ok(()),
        }
    }

    /// Counts the numbers that were left out before a file's.
    pub(super) fn count_gap(
        &self,
        conn: &mut store::Conn,
        head: &UploadHead,
        identity: Option<[u8; 32]>,
    ) -> Result<(), StoreError> {
        let (Some(number), Some(identity)) = (head.number, identity) else { return Ok(()) };
        if let Known::New { gap } = store::upload::known(conn, head.authority(), number, &identity)?
            && gap > 0
        {
            self.uploads.counts.skipped(gap);
            tracing::warn!(authority = %head.caller.organization.ods.as_str(), gap, "file numbers were left out");
        }
        Ok(())
    }
}

/// The authority's own entry first, then every record.
fn all(judging: &mut Judging<'_>, tx: &mut Tx<'_>, upload: &Upload) -> Result<Judged, StoreError> {
    let organization = match &upload.head.organization {
        Some(Ok(change)) => Some(write_organization(tx, &judging.authority, change, judging.now)?),
        Some(Err(problem)) => Some(Err(problem.clone())),
        None => None,
    };
    if let Some(Ok(loaded)) = &organization {
        judging.authority = loaded.organization.clone();
    }
    let mut records = Vec::with_capacity(upload.records.len());
    for sent in &upload.records {
        records.push(judging.record(tx, &sent.record)?);
    }
    Ok(Judged { organization, records })
}

/// The answer to a file that was not judged: CPF01.
fn refused_file(id: Uuid, reason: String) -> Applied {
    let (code, reason) = (FileCode::Cpf01, Some(reason));
    Applied { id, code, reason, organization: None, records: Vec::new(), stored: false, repeated: false }
}

const NUMBER_USED: &str = "This file number was used already, with other content. Send the file under a new number.";
const OUT_OF_ORDER: &str =
    "Files are out of order: one with a higher number came before. Send the file again under a new number.";
const CANCELLED: &str = "The upload was cancelled. Nothing of it was stored.";
