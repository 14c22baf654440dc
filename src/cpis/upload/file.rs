//! A file of an authority by MESH: the same engine as a Bundle's, for records that are streamed from a file.

use std::sync::Arc;

use uuid::Uuid;

pub use super::identity::FileDigest;
use super::{
    answer::{NotApplied, read},
    apply::{Before, SentRecord, UploadHead},
    identity::of_file,
    kept::event,
    staging::Ended,
};
use crate::{
    cpis::{
        gateway::{Error, Gateway},
        types::{
            audit::{Interaction, Outcome},
            caller::{Caller, RequestContext},
            upload::{Door, FileCode, OrganizationChange, ReadRecord, RecordCode, RefusedRecord},
        },
    },
    store::{self, StoreError},
};

/// A file that was read once, to its end, and is sound as a whole.
#[derive(Clone, Debug)]
pub struct FileUpload {
    pub caller: Caller,
    pub context: RequestContext,
    pub door: Door,
    /// The MESH message that brought it: downloaded again, it is given the same answer.
    pub mesh_message: Option<String>,
    /// The authority's number of the file.
    pub number: Option<i64>,
    /// Of its records ([`FileDigest`]).
    pub digest: [u8; 32],
    pub records: usize,
    /// The authority's own details.
    pub organization: Option<OrganizationChange>,
}

/// What a file is answered with. Of CPF02 to CPF04 effect, answer and audit are durable; CPF01 and CPF05 store nothing
/// and use up no number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAnswer {
    /// The upload's id; that of the first one for an answer that is repeated.
    pub id: Uuid,
    pub code: FileCode,
    pub number: Option<i64>,
    pub records: usize,
    /// Records that were not loaded: see [`Gateway::refused_records`].
    pub refused: usize,
    /// The same file was answered before: this is that answer.
    pub repeated: bool,
    /// Of CPF01: plain English, never a value that was sent.
    pub reason: Option<String>,
}

impl Gateway {
    /// Judges and applies a file in batches. `records` are read once more, and have to be those that the digest is of.
    ///
    /// # Errors
    /// [`Error::Occupied`] when another change of the authority takes too long, [`Error`] when the store fails or the file
    /// has changed: then nothing is stored, and the same file may be given again.
    pub async fn upload_file(
        &self,
        file: FileUpload,
        records: Box<dyn Iterator<Item = ReadRecord> + Send>,
    ) -> Result<FileAnswer, Error> {
        let FileUpload { caller, context, door, mesh_message, number, digest, records: count, organization } = file;
        let head = UploadHead {
            organization: organization.map(Ok),
            number,
            mesh_message,
            ..UploadHead::new(caller, context, Interaction::Batch, door)
        };
        let identity = Some(of_file(digest, head.organization.as_ref()));
        let unanswered = |code, reason| {
            self.count_upload(door, code);
            FileAnswer { id: head.id, code, number: head.number, records: count, refused: 0, repeated: false, reason }
        };
        match self.known_before(&head, identity).await? {
            Some(Before::Answered(key)) => return self.file_answer(key, true).await,
            Some(Before::Refused(reason)) => {
                let mut event = event(&head, head.interaction);
                (event.outcome, event.refusal) = (Outcome::Refused, Some("INVALID_VALUE".to_owned()));
                self.audit(event).await?;
                return Ok(unanswered(FileCode::Cpf01, Some(reason)));
            }
            Some(Before::New) | None => {}
        }
        let source = Box::new(records.map(SentRecord::from));
        let key = self.begin_staging(&head, count, identity).await?;
        match self.stage(key, Arc::new(head.clone()), source, count, identity, Some(digest)).await? {
            Ended::Final { key, repeated } => {
                let answer = self.file_answer(key, repeated).await?;
                if !repeated {
                    self.count_upload(door, answer.code);
                }
                Ok(answer)
            }
            Ended::NotApplied(NotApplied::Refused(reason)) => Ok(unanswered(FileCode::Cpf01, Some(reason))),
            Ended::NotApplied(NotApplied::Demographics) => Ok(unanswered(FileCode::Cpf05, None)),
            Ended::NotApplied(NotApplied::Occupied | NotApplied::Cancelled | NotApplied::Failed) => {
                Err(Error::Occupied)
            }
        }
    }

    async fn file_answer(&self, key: i64, repeated: bool) -> Result<FileAnswer, Error> {
        let read = self.store.read(move |conn| {
            let stored = store::upload::get(conn, key)?;
            let refused = store::upload::count_refused(conn, key)?;
            let count = |rows| usize::try_from(rows).map_err(|_| StoreError::Corrupt("upload.records"));
            Ok(FileAnswer {
                id: stored.id,
                code: stored.code.ok_or(StoreError::Corrupt("upload.file_code"))?,
                number: stored.number,
                records: count(stored.records)?,
                refused: count(refused)?,
                repeated,
                reason: None,
            })
        });
        Ok(read.await?)
    }

    /// At most `limit` refused records of an upload by position, after the one at `after` if it is given.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn refused_records(
        &self,
        upload: Uuid,
        after: Option<usize>,
        limit: usize,
    ) -> Result<Vec<RefusedRecord>, Error> {
        let found = self.store.read(move |conn| {
            let Some(stored) = store::upload::find(conn, None, upload)? else { return Ok(Vec::new()) };
            let kept = store::upload::refused(conn, stored.key, after, i64::try_from(limit).unwrap_or(i64::MAX))?;
            let refused = kept.into_iter().map(|kept| {
                Ok(RefusedRecord {
                    position: kept.position,
                    nhs_number: kept.nhs_number.filter(|_| kept.code != RecordCode::Cpr02),
                    code: kept.code,
                    problems: match kept.answer {
                        Some(_) => read(&kept)?.err().unwrap_or_default(),
                        None => Vec::new(),
                    },
                })
            });
            refused.collect::<Result<Vec<_>, StoreError>>()
        });
        Ok(found.await?)
    }
}
