//! How an upload stands, and its final answer once more: from what is kept of it, in whatever process it was judged.

use chrono::TimeDelta;
use uuid::Uuid;

use super::{
    answer::{
        Applied, KeptAnswer, KeptOrganization, LoadedEntry, LoadedOrganization, LoadedRef, LoadedResource, NotApplied,
        read,
    },
    turn::{self, LEASE},
};
use crate::{
    cpis::{
        gateway::{Error, Gateway},
        own_record::{own_child, own_plan},
        types::{Organization, audit::RequestEvent},
    },
    store::{
        self, Conn, StoreError,
        upload::{APPLIED, CANCELLED, DISCARDED, STAGED, StoredUpload, WAITING},
    },
};

/// How an upload stands whose door can answer it without the file.
#[derive(Debug)]
pub enum UploadStatus {
    /// So many of its records are judged.
    Going { judged: i64, records: i64 },
    /// Its final answer, with what the door kept of the file and of each record, in their order.
    Final { applied: Box<Applied>, form: String, records: Vec<Option<String>> },
    /// Nothing of it is stored.
    NotApplied { why: NotApplied },
    /// Its process died; nothing of it is or will be stored.
    Died,
}

impl Gateway {
    /// How an authority's own upload stands; `None` for any other, for one that was cancelled, and when its answer is not
    /// kept any more.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn upload_status(&self, authority: &Organization, id: Uuid) -> Result<Option<UploadStatus>, Error> {
        let (gateway, authority) = (self.clone(), authority.id);
        let read = self.store.read(move |conn| {
            let Some(stored) = store::upload::find(conn, Some(authority), id)? else { return Ok(None) };
            gateway.status_of(conn, stored)
        });
        Ok(read.await?)
    }

    fn status_of(&self, conn: &mut Conn, stored: StoredUpload) -> Result<Option<UploadStatus>, StoreError> {
        let Some(form) = stored.form.clone() else { return Ok(None) };
        let now = self.clock.now();
        let going = UploadStatus::Going { judged: stored.judged, records: stored.records };
        let alive = match stored.state.as_str() {
            WAITING => {
                let wait = TimeDelta::from_std(self.uploads.wait).unwrap_or(TimeDelta::MAX);
                now.timestamp_millis() - stored.received_ms <= (wait + LEASE).num_milliseconds()
            }
            STAGED => {
                let lease = turn::lease_of(stored.authority);
                store::lease::is_held_by(conn, &lease, &stored.id.to_string(), now)?
            }
            APPLIED => {
                let kept = store::upload::records(conn, stored.key)?;
                let records = kept.iter().map(|record| record.form.clone()).collect();
                let applied = Box::new(answer_of(conn, &stored, kept, false)?);
                return Ok(Some(UploadStatus::Final { applied, form, records }));
            }
            DISCARDED if stored.answer.is_some() => {
                let why = match KeptAnswer::read(stored.answer.as_deref())? {
                    KeptAnswer::NotApplied(NotApplied::Cancelled) => return Ok(None),
                    KeptAnswer::NotApplied(why) => why,
                    KeptAnswer::Final { .. } => return Err(StoreError::Corrupt("upload.answer")),
                };
                return Ok(Some(UploadStatus::NotApplied { why }));
            }
            _ => false,
        };
        Ok(Some(if alive { going } else { UploadStatus::Died }))
    }

    /// Takes back an own upload that is not applied yet, and forgets the answer of one that is; `event` goes into the
    /// audit with it. False for one whose status nobody is told.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn cancel_upload(&self, authority: &Organization, id: Uuid, event: RequestEvent) -> Result<bool, Error> {
        let (authority, now) = (authority.id, self.clock.now());
        let answer = KeptAnswer::NotApplied(NotApplied::Cancelled).write()?;
        let cancel = self.store.write(Vec::new(), move |tx| {
            let found = store::upload::find(tx.conn, Some(authority), id)?;
            let Some(stored) = found.filter(|stored| stored.form.is_some()) else { return Ok(false) };
            // Whoever is at work on it finds its state changed, and discards what is staged.
            if store::upload::advance(tx.conn, stored.key, WAITING, DISCARDED)? {
                store::upload::set_discarded(tx.conn, stored.key, Some(&answer))?;
            } else {
                store::upload::advance(tx.conn, stored.key, STAGED, CANCELLED)?;
            }
            store::upload::forget_form(tx.conn, stored.key)?;
            tx.append_audit(now, event.clone())?;
            Ok(true)
        });
        Ok(cancel.await?)
    }

    /// The final answer of an upload.
    pub(super) async fn final_answer(&self, key: i64, repeated: bool) -> Result<Applied, Error> {
        let read = self.store.read(move |conn| {
            let stored = store::upload::get(conn, key)?;
            let kept = store::upload::records(conn, key)?;
            answer_of(conn, &stored, kept, repeated)
        });
        Ok(read.await?)
    }

    /// What entries of a loaded record have made of their resources, in the version that they were answered with; `None`
    /// for what is not there any more.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn loaded_resources(
        &self,
        authority: &Organization,
        entries: Vec<LoadedEntry>,
    ) -> Result<Vec<Option<LoadedResource>>, Error> {
        let (gateway, authority) = (self.clone(), authority.id);
        let read = self.store.read(move |conn| {
            // As it is now: its own entry may have changed it.
            let authority = store::organization::get(conn, authority)?;
            entries.into_iter().map(|entry| gateway.loaded_resource(conn, &authority, entry)).collect()
        });
        Ok(read.await?)
    }

    fn loaded_resource(
        &self,
        conn: &mut Conn,
        authority: &Organization,
        entry: LoadedEntry,
    ) -> Result<Option<LoadedResource>, StoreError> {
        if entry.resource.is_some() {
            return Ok(entry.resource);
        }
        match entry.of {
            LoadedRef::Child(number) => {
                let Some(child) = own_child(conn, authority, &number)? else { return Ok(None) };
                let version = store::child::at(conn, child.id, entry.version)?;
                Ok(version.map(|version| LoadedResource::Child(Box::new(version.content))))
            }
            LoadedRef::Plan(id) => {
                let Some((held, child)) = own_plan(conn, authority, id)? else { return Ok(None) };
                let Some(version) = store::plan::at(conn, held.key, entry.version)? else { return Ok(None) };
                let shown = self.own(conn, authority, &child, version.content)?;
                Ok(Some(LoadedResource::Plan(Box::new(shown))))
            }
        }
    }
}

fn answer_of(
    conn: &mut Conn,
    stored: &StoredUpload,
    kept: Vec<store::upload::KeptRecord>,
    repeated: bool,
) -> Result<Applied, StoreError> {
    let code = stored.code.ok_or(StoreError::Corrupt("upload.file_code"))?;
    let KeptAnswer::Final { organization, stored: is_stored } = KeptAnswer::read(stored.answer.as_deref())? else {
        return Err(StoreError::Corrupt("upload.answer"));
    };
    let organization = match organization {
        None => None,
        Some(KeptOrganization::Refused(problem)) => Some(Err(problem.read()?)),
        Some(KeptOrganization::Loaded { change, version }) => {
            let version = store::organization::at(conn, stored.authority, version)?;
            let organization = version.ok_or(StoreError::Corrupt("organization_version"))?.content;
            Some(Ok(LoadedOrganization { organization, change }))
        }
    };
    let records = kept.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok(Applied { id: stored.id, code, reason: None, organization, records, stored: is_stored, repeated })
}
