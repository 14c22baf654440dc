//! A file of an authority: fetched to an unnamed file in the data directory, looked through once as a whole, applied by the
//! same rules as a FHIR upload, and answered. Memory does not grow with the file.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Seek},
};

use super::{Mailbox, Parts};
use crate::{
    cpis::{
        Error,
        types::{
            Organization,
            caller::{Author, Caller, RequestContext, Role},
            mesh::FileReply,
            upload::{Door, FileCode, ReadRecord},
        },
        upload::file::{FileDigest, FileUpload},
    },
    hl7v3::{
        FileFault,
        upload::{FileHeader, UploadFile},
    },
    outside::mesh::{FaultKind, MeshFault},
};

/// Why a message's content could not be fetched.
pub(super) enum Unread {
    Mesh(MeshFault),
    Local,
}

/// Why a file was neither applied nor answered; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Store(#[from] Error),
    #[error("the file could not be kept in the data directory")]
    Local(#[from] io::Error),
    #[error("the reading of the file broke off")]
    Interrupted,
    #[error("the FHIR side can't answer at the moment")]
    Busy,
}

impl Unread {
    /// What the sender is told when MESH can't hand the content over, however often it is asked.
    pub(super) fn reply(&self, id: &str) -> FileReply {
        let reason = match self {
            Self::Mesh(fault) if fault.kind == FaultKind::TooLarge => {
                "The message is larger than this service takes. Send the records in several files."
            }
            _ => {
                "The message could not be read from MESH: a chunk of it is missing, or its compression is broken. Send \
                 the file again."
            }
        };
        refused(id, None, reason.to_owned())
    }
}

/// The answer to a file that was not judged.
pub(super) fn refused(id: &str, number: Option<i64>, reason: String) -> FileReply {
    FileReply {
        reply_to: id.to_owned(),
        upload: None,
        code: FileCode::Cpf01,
        number,
        records: None,
        refused: 0,
        reason: Some(reason),
        body: None,
    }
}

/// Records of one file: more, and its acknowledgement would hold up those of the others.
const MOST_RECORDS: usize = 100_000;

/// What a file is, by its first character.
enum Content {
    Xml,
    Json,
}

/// A file that can be read as a whole.
struct Read {
    header: FileHeader,
    digest: [u8; 32],
    file: File,
}

impl Mailbox {
    /// The content of a message, in a file that goes away by itself.
    pub(super) async fn fetch(&self, id: &str) -> Result<File, Unread> {
        let Parts { client, settings, .. } = &*self.0;
        let mut file = tempfile::tempfile_in(&settings.data_dir).map_err(|_| Unread::Local)?;
        client.download(id, &mut file, settings.max_message_bytes).await.map_err(Unread::Mesh)?;
        file.rewind().map_err(|_| Unread::Local)?;
        Ok(file)
    }

    /// Applies a file that came from this authority's mailbox. When this returns, its effect and audit are durable.
    pub(super) async fn apply(
        &self,
        id: &str,
        from: &str,
        sender: Organization,
        file: File,
    ) -> Result<FileReply, Fault> {
        let gateway = &self.0.gateway;
        let (file, content) = blocking(move || what_is_it(file)).await??;
        if matches!(content, Content::Json) {
            return self.apply_bundle(id, from, sender, file).await;
        }
        let read = match blocking(move || read_through(file)).await? {
            Ok(read) => read,
            Err(fault) if fault.interrupted => return Err(Fault::Interrupted),
            Err(fault) => return Ok(refused(id, fault.number, fault.reason)),
        };
        let header = read.header;
        if header.sender != sender.ods {
            let reason = "The file names another authority as its sender than the one whose mailbox it came from.";
            return Ok(refused(id, Some(header.number), reason.to_owned()));
        }
        let records = Records(UploadFile::open(BufReader::new(read.file)).map_err(|_| Fault::Interrupted)?);
        let upload = FileUpload {
            caller: caller(sender, from),
            context: self.context(id),
            door: Door::Mesh,
            mesh_message: Some(id.to_owned()),
            number: Some(header.number),
            digest: read.digest,
            records: header.records,
            organization: header.organization,
        };
        let answer = match gateway.upload_file(upload, Box::new(records)).await {
            Ok(answer) => answer,
            Err(error) => return Err(error.into()),
        };
        let resend = || {
            let again = "NHS numbers can't be verified at the moment. Nothing was loaded: send the same file again.";
            (answer.code == FileCode::Cpf05).then(|| again.to_owned())
        };
        let judged = !matches!(answer.code, FileCode::Cpf01 | FileCode::Cpf05);
        Ok(FileReply {
            reply_to: id.to_owned(),
            upload: judged.then_some(answer.id),
            code: answer.code,
            number: answer.number.or(Some(header.number)),
            records: Some(answer.records),
            refused: if judged { answer.refused } else { 0 },
            // Details that could not be used refuse no record, so nothing else would tell of them.
            reason: answer.reason.clone().or_else(resend).or(header.organization_fault),
            body: None,
        })
    }

    pub(super) fn context(&self, id: &str) -> RequestContext {
        let at = self.0.gateway.clock.now();
        RequestContext { request_id: id.to_owned(), ..RequestContext::internal("MESH upload", at) }
    }
}

/// The authority as a caller: MESH vouches for the mailbox, and the mailbox is the authority's.
pub(super) fn caller(authority: Organization, mailbox: &str) -> Caller {
    Caller {
        client_id: format!("mesh:{mailbox}"),
        client_name: "MESH mailbox".to_owned(),
        role: Role::LocalAuthority,
        organization: authority,
        author: Author::System,
        activities: Vec::new(),
        token_tail: String::new(),
    }
}

/// Work that reads files, off the async threads.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Fault::Interrupted)
}

fn what_is_it(mut file: File) -> io::Result<(File, Content)> {
    let mut content = Content::Xml;
    let mut reader = BufReader::new(&file);
    'looking: loop {
        let part = reader.fill_buf()?;
        if part.is_empty() {
            break;
        }
        for byte in part {
            match byte {
                // White space, and the bytes of a mark of UTF-8.
                b' ' | b'\t' | b'\r' | b'\n' | 0xef | 0xbb | 0xbf => {}
                b'{' => {
                    content = Content::Json;
                    break 'looking;
                }
                _ => break 'looking,
            }
        }
        let length = part.len();
        reader.consume(length);
    }
    file.rewind()?;
    Ok((file, content))
}

/// Reads a whole file once, so that nothing of it is applied unless all of it can be read.
fn read_through(mut file: File) -> Result<Read, FileFault> {
    let mut upload = UploadFile::open(BufReader::new(&file))?;
    if upload.header().records > MOST_RECORDS {
        let reason =
            format!("The file has more than {MOST_RECORDS} records. Send it in parts, each under its own number.");
        return Err(FileFault { reason, number: Some(upload.header().number), interrupted: false });
    }
    let mut digest = FileDigest::default();
    for record in &mut upload {
        digest.add(&record?);
    }
    let header = upload.header().clone();
    let interrupted =
        |_| FileFault { reason: "reading failed".to_owned(), number: Some(header.number), interrupted: true };
    file.rewind().map_err(interrupted)?;
    Ok(Read { digest: digest.finish(), header, file })
}

/// The records of a file that was read through before. What can't be read now ends them: the number of records then
/// differs from what was said, and nothing is applied.
struct Records(UploadFile<BufReader<File>>);

impl Iterator for Records {
    type Item = ReadRecord;

    fn next(&mut self) -> Option<ReadRecord> {
        self.0.next()?.inspect_err(|_| tracing::error!("a file that was read before can't be read again")).ok()
    }
}
