//! The authority's own MESH mailbox: files are sent from it, acknowledgements and notifications come to it.

use std::{fs, path::PathBuf, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{SecretSlice, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    LaFault, SOME_REFUSED,
    answer::{NOT_ACCEPTED, Outcome},
    check::table,
    console::Console,
    numbers::State,
    source::{Prepared, Row},
};
use crate::{
    hl7v3::{
        access_notification,
        acknowledgement::ReadAcknowledgement,
        inactive_number,
        message::{self, Message},
    },
    outside::mesh::{
        ClientIdentity, FaultKind, MeshClient, MeshFault, MeshSettings, MessageType, Outgoing, SentStatus,
    },
};

/// Bytes of a message that one request carries.
const CHUNK: usize = 16 * 1024 * 1024;
/// Largest message that is read.
const MOST_BYTES: u64 = 256 * 1024 * 1024;
/// A message that was sent is looked for so far back.
const SENT_SINCE: TimeDelta = TimeDelta::days(5);

/// `[mesh]` of the client's configuration file. Every file of a secret holds it alone.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailboxSettings {
    url: String,
    /// The authority's mailbox, in capitals.
    mailbox: String,
    password_file: PathBuf,
    shared_key_file: PathBuf,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    /// CA certificates that MESH's own is judged by.
    authorities: Option<PathBuf>,
    /// The gateway's mailbox.
    gateway_mailbox: String,
    upload_workflow: String,
}

/// The mailbox, opened.
pub struct Mailbox {
    client: MeshClient,
    settings: MailboxSettings,
}

/// A file to be sent.
pub struct Sending<'a> {
    pub number: i64,
    /// Of the file as the user has it.
    pub digest: &'a str,
    pub bytes: &'a [u8],
    pub is_xml: bool,
    /// It may have been sent before.
    pub again: bool,
}

impl From<MeshFault> for LaFault {
    fn from(fault: MeshFault) -> Self {
        let away = matches!(fault.kind, FaultKind::Unavailable | FaultKind::Unknown);
        if away { Self::TryAgain(fault.text) } else { Self::Failed(fault.text) }
    }
}

impl Mailbox {
    /// Makes the client and shakes hands with MESH.
    ///
    /// # Errors
    /// [`LaFault::Usage`] without settings or with files that can't be read; others of MESH.
    pub async fn open(settings: Option<&MailboxSettings>) -> Result<Self, LaFault> {
        let usage = |text: String| LaFault::Usage(text);
        let settings = settings
            .ok_or_else(|| usage("there is no [mesh] in the configuration file: give one with --config".to_owned()))?;
        let read = |path: &PathBuf| {
            fs::read(path).map_err(|error| LaFault::Usage(format!("{} can't be read: {error}", path.display())))
        };
        let secret = |path: &PathBuf| -> Result<SecretString, LaFault> {
            let text = String::from_utf8(read(path)?).map_err(|_| usage(format!("{} is no text", path.display())))?;
            Ok(SecretString::from(text.trim().to_owned()))
        };
        let identity = match (&settings.client_certificate, &settings.client_key) {
            (Some(certificate), Some(key)) => {
                Some(ClientIdentity { certificate: read(certificate)?, key: SecretSlice::from(read(key)?) })
            }
            (None, None) => None,
            _ => return Err(usage("[mesh]: give client_certificate and client_key together".to_owned())),
        };
        let client = MeshClient::new(MeshSettings {
            url: settings.url.clone(),
            mailbox: settings.mailbox.clone(),
            password: secret(&settings.password_file)?,
            shared_key: secret(&settings.shared_key_file)?,
            identity,
            authorities: settings.authorities.as_ref().map(read).transpose()?,
            chunk_bytes: CHUNK,
            retry_pause: Duration::from_secs(1),
        })?;
        client.handshake().await?;
        Ok(Self { client, settings: settings.clone() })
    }

    /// Sends a file, unless MESH has it already; MESH's id of the message.
    ///
    /// # Errors
    /// Of MESH.
    pub async fn send(&self, file: &Sending<'_>, now: DateTime<Utc>) -> Result<String, LaFault> {
        // The same for the same file under the same number.
        let local_id = format!("cpis-{}-{}", file.number, file.digest.get(..16).unwrap_or(file.digest));
        if file.again
            && let Some(sent) = self.client.find_sent(&local_id, now - SENT_SINCE).await?
            && matches!(sent.status, SentStatus::Accepted | SentStatus::Acknowledged)
        {
            return Ok(sent.id);
        }
        let (kind, content_type) =
            if file.is_xml { ("xml", "application/xml") } else { ("json", "application/fhir+json") };
        let message = Outgoing {
            to: &self.settings.gateway_mailbox,
            workflow: &self.settings.upload_workflow,
            local_id: &local_id,
            file_name: &format!("upload-{}.{kind}", file.number),
            content_type,
        };
        let length = u64::try_from(file.bytes.len()).unwrap_or(u64::MAX);
        Ok(self.client.send(message, length, &mut &*file.bytes).await?)
    }

    /// Shows every message that waits and takes it out of the mailbox, unless it is to be kept. One that can't be read
    /// stays and stops no other.
    ///
    /// # Errors
    /// Of MESH or the output.
    pub async fn show(&self, show: &Show, state: &mut State, console: &mut Console) -> Result<u8, LaFault> {
        let (mut place, mut unreadable): (Option<String>, usize) = (None, 0);
        loop {
            let page = self.client.list(place.as_deref(), None).await?;
            for id in &page.ids {
                if !self.show_one(id, show, state, console).await? {
                    unreadable += 1;
                    console.say(&format!("Message {id} can't be read. It stays in the mailbox."));
                }
            }
            match page.next {
                Some(next) => place = Some(next),
                None => return Ok(if unreadable == 0 { 0 } else { SOME_REFUSED }),
            }
        }
    }

    async fn show_one(&self, id: &str, show: &Show, state: &mut State, console: &mut Console) -> Result<bool, LaFault> {
        let mut bytes = Vec::new();
        let headers = match self.client.download(id, &mut bytes, MOST_BYTES).await {
            Ok(headers) => headers,
            Err(fault) if fault.kind == FaultKind::Gone => return Ok(true),
            Err(fault) if matches!(fault.kind, FaultKind::TooLarge | FaultKind::Unreadable) => return Ok(false),
            Err(fault) => return Err(fault.into()),
        };
        let (lines, text) = if headers.message_type == MessageType::Report {
            let code = headers.status_code.as_deref().unwrap_or("-");
            let line = json!({"kind": "report", "message": id, "of": headers.linked, "code": code});
            let of = headers.linked.as_deref().unwrap_or("a message");
            (vec![line], format!("MESH could not deliver {of}: code {code}.\n"))
        } else if let Some(answer) = answer_to_bundle(&bytes) {
            let mut line = answer.line();
            line["kind"] = "acknowledgement".into();
            line["message"] = id.into();
            (vec![line], answer.words())
        } else {
            match message::read(bytes.as_slice()) {
                Ok(Message::Acknowledgement(read)) => {
                    match (read.number, read.code.as_str()) {
                        (Some(number), "CPF02" | "CPF03" | "CPF04") => state.answered(number)?,
                        (Some(number), NOT_ACCEPTED) => state.not_accepted(number)?,
                        _ => {}
                    }
                    acknowledgement(id, &read)
                }
                Ok(Message::Access(read)) => accesses(id, &read),
                Ok(Message::InactiveNumber(read)) => inactive(id, &read),
                Err(_) => return Ok(false),
            }
        };
        if show.as_json {
            lines.iter().try_for_each(|line| console.print_json(line))?;
        } else {
            console.print(&text)?;
        }
        if !show.keep {
            self.client.acknowledge(id).await?;
        }
        Ok(true)
    }
}

/// How messages are shown.
pub struct Show {
    pub as_json: bool,
    /// They stay in the mailbox.
    pub keep: bool,
}

/// The answer to a Bundle is what FHIR answers; it has no number.
fn answer_to_bundle(bytes: &[u8]) -> Option<Outcome> {
    let body: Value = serde_json::from_slice(bytes).ok()?;
    Outcome::of(&body, &Prepared::answered())
}

fn acknowledgement(id: &str, read: &ReadAcknowledgement) -> (Vec<Value>, String) {
    let rows: Vec<Row> = read
        .refused
        .iter()
        .flat_map(|refusal| refusal.details.iter().map(move |detail| (refusal.position(), detail)))
        .map(|(position, detail)| Row {
            place: position.map(|at| format!("record {}", at + 1)).unwrap_or_default(),
            element: detail.location.clone().unwrap_or_default(),
            code: detail.code.clone(),
            reason: detail.reason.clone().or_else(|| detail.display.clone()).unwrap_or_default(),
        })
        .collect();
    let line = json!({
        "kind": "acknowledgement", "message": id, "number": read.number, "code": read.code, "records": read.records,
        "failed": read.failed, "reason": read.reason, "refused": rows,
    });
    let number = read.number.map_or_else(|| "without a number".to_owned(), |number| number.to_string());
    let counted = match (read.failed, read.records) {
        (Some(failed), Some(records)) => format!(", {failed} of {records} records refused"),
        _ => String::new(),
    };
    let said =
        [read.display.as_deref(), read.reason.as_deref()].into_iter().flatten().collect::<Vec<&str>>().join(": ");
    (vec![line], format!("File {number}: {} {said}{counted}.\n{}", read.code, table(&rows)))
}

fn accesses(id: &str, read: &access_notification::ReadNotification) -> (Vec<Value>, String) {
    let mut text = String::new();
    let lines = read.accesses.iter().map(|access| {
        let author = &access.author;
        let said = [&author.name, &author.role, &author.organisation_name].into_iter().flatten();
        let said: Vec<&str> = said.map(String::as_str).collect();
        let (at, number) = (access.at.to_rfc3339(), access.nhs_number.as_str());
        text.push_str(&format!("{at}  cpis-access  {number}  {}\n", said.join(", ")));
        json!({
            "kind": "cpis-access", "message": id, "id": access.id, "at": at, "nhs_number": number,
            "viewer": author.name, "role": author.role, "organisation": author.organisation_name,
            "file_number": read.envelope.file_number,
        })
    });
    let lines = lines.collect();
    (lines, text)
}

fn inactive(id: &str, read: &inactive_number::ReadNotification) -> (Vec<Value>, String) {
    let mut text = String::new();
    let at = read.envelope.created.map(|at| at.to_rfc3339()).unwrap_or_default();
    let lines = read.numbers.iter().map(|inactive| {
        let (number, replaced) = (inactive.nhs_number.as_str(), inactive.replaced_by.as_ref().map(|new| new.as_str()));
        let said = replaced.map(|new| format!("replaced by {new}")).unwrap_or_default();
        text.push_str(&format!("{at}  cpis-inactive-nhs-number  {number}  {said}\n"));
        json!({
            "kind": "cpis-inactive-nhs-number", "message": id, "at": at, "nhs_number": number, "replaced_by": replaced,
        })
    });
    let lines = lines.collect();
    (lines, text)
}
