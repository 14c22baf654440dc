//! Sending: in chunks, each compressed by itself; and what became of a message that was sent.

use std::io::{Read, Write};

use chrono::{DateTime, Utc};
use flate2::{Compression, write::GzEncoder};
use reqwest::{
    RequestBuilder, StatusCode, Url,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use serde::Deserialize;

use super::{
    FaultKind, MeshClient, MeshFault, SHORT_CALL, TRANSFER,
    inbox::{is_id, unreadable},
};

/// Below this many bytes a message is not worth compressing.
const COMPRESSED_FROM: u64 = 10_000;
/// Rows of one page of the outbox.
const PAGE: &str = "100";
/// Pages of the outbox that are looked through for one message.
const MOST_PAGES: usize = 100;

/// A message to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The recipient's mailbox.
    pub to: &'a str,
    pub workflow: &'a str,
    /// Our own id of the message: at most 300 characters, no personal data.
    pub local_id: &'a str,
    pub file_name: &'a str,
    pub content_type: &'a str,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentStatus {
    /// Its chunks are not complete: the recipient will never see it.
    Uploading,
    /// It waits in the recipient's inbox.
    Accepted,
    /// The recipient has taken it.
    Acknowledged,
    /// A report says why not.
    Failed,
}

impl SentStatus {
    fn of(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "acknowledged" => Self::Acknowledged,
            "uploading" => Self::Uploading,
            "accepted" => Self::Accepted,
            _ => Self::Failed,
        }
    }
}

/// A message that MESH has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentMessage {
    pub id: String,
    pub status: SentStatus,
}

#[derive(Deserialize)]
struct Accepted {
    message_id: String,
}

#[derive(Deserialize)]
struct Tracked {
    #[serde(alias = "messageId")]
    message_id: String,
    status: String,
}

#[derive(Deserialize)]
struct Page {
    messages: Vec<Row>,
    #[serde(default)]
    links: PageLinks,
}

#[derive(Deserialize)]
struct Row {
    message_id: String,
    local_id: Option<String>,
    status: String,
}

#[derive(Default, Deserialize)]
struct PageLinks {
    next: Option<String>,
}

impl MeshClient {
    /// Sends a message of `length` bytes read from `body`; returns MESH's id for it.
    ///
    /// # Errors
    /// [`MeshFault`]. Of kind `Unknown`, the message may have been sent: ask [`MeshClient::find_sent`] before sending it
    /// again. Otherwise it was not.
    pub async fn send(
        &self,
        message: Outgoing<'_>,
        length: u64,
        body: &mut (impl Read + Send),
    ) -> Result<String, MeshFault> {
        let chunk_bytes = u64::try_from(self.chunk_bytes).unwrap_or(u64::MAX);
        let chunks = length.div_ceil(chunk_bytes).max(1);
        let compressed = length >= COMPRESSED_FROM;
        let with = |request: RequestBuilder, number: u64| {
            let mut request = request
                .timeout(TRANSFER)
                .header(CONTENT_TYPE, message.content_type)
                .header("Mex-From", &self.mailbox)
                .header("Mex-To", message.to)
                .header("Mex-WorkflowID", message.workflow)
                .header("Mex-LocalID", message.local_id)
                .header("Mex-FileName", message.file_name);
            if chunks > 1 {
                request = request.header("Mex-Chunk-Range", format!("{number}:{chunks}"));
            }
            if compressed {
                request = request.header(CONTENT_ENCODING, "gzip").header("Mex-Content-Compressed", "Y");
            }
            request
        };
        let first = next_chunk(body, chunk_bytes, compressed)?;
        let request = with(self.client.post(self.url(&["outbox"])), 1).body(first);
        let response = self.call_once(request).await?;
        // From here on MESH has something: a fault leaves open what.
        let unknown = |fault: MeshFault| MeshFault { kind: FaultKind::Unknown, ..fault };
        let accepted: Accepted =
            response.json().await.map_err(|_| unknown(unreadable("MESH's answer to a message can't be read")))?;
        let id = accepted.message_id;
        if !is_id(&id) {
            return Err(unknown(unreadable("MESH's id of a message is none")));
        }
        for number in 2..=chunks {
            let chunk = next_chunk(body, chunk_bytes, compressed).map_err(unknown)?;
            let url = self.url(&["outbox", &id, &number.to_string()]);
            let make = || with(self.client.post(url.clone()), number).body(chunk.clone());
            self.call_again(make).await.map_err(unknown)?;
        }
        Ok(id)
    }

    /// What became of a message by MESH's id.
    ///
    /// # Errors
    /// [`MeshFault`]; of kind `Gone` when MESH knows no such message of ours.
    pub async fn track(&self, id: &str) -> Result<SentStatus, MeshFault> {
        let mut url = self.url(&["outbox", "tracking"]);
        url.query_pairs_mut().append_pair("messageID", id);
        let response = self.call_again(|| self.client.get(url.clone()).timeout(SHORT_CALL)).await?;
        let tracked: Tracked =
            response.json().await.map_err(|_| unreadable("MESH's answer about a message can't be read"))?;
        Ok(SentStatus::of(&tracked.status))
    }

    /// The message with our own id, if it was sent completely since then: first by the call for that, which MESH calls
    /// deprecated and which finds one message only, else by looking through the outbox.
    ///
    /// # Errors
    /// [`MeshFault`].
    pub async fn find_sent(&self, local_id: &str, since: DateTime<Utc>) -> Result<Option<SentMessage>, MeshFault> {
        let url = self.url(&["outbox", "tracking", local_id]);
        match self.call_again(|| self.client.get(url.clone()).timeout(SHORT_CALL)).await {
            Ok(response) => {
                let tracked: Tracked =
                    response.json().await.map_err(|_| unreadable("MESH's answer about a message can't be read"))?;
                let found = SentMessage { id: tracked.message_id, status: SentStatus::of(&tracked.status) };
                if found.status != SentStatus::Uploading {
                    return Ok(Some(found));
                }
            }
            // None, several, or a call that this MESH doesn't have.
            Err(fault) if matches!(fault.status, Some(300 | 404 | 405 | 410)) => {}
            Err(fault) => return Err(fault),
        }
        self.find_in_outbox(local_id, since).await
    }

    async fn find_in_outbox(&self, local_id: &str, since: DateTime<Utc>) -> Result<Option<SentMessage>, MeshFault> {
        let mut place: Option<String> = None;
        for _ in 0..MOST_PAGES {
            let mut url = self.url(&["outbox", "rich"]);
            url.query_pairs_mut()
                .append_pair("max_results", PAGE)
                .append_pair("start_time", &since.format("%Y-%m-%dT%H:%M:%S").to_string());
            if let Some(place) = &place {
                url.query_pairs_mut().append_pair("continue_from", place);
            }
            let response = match self.call_again(|| self.client.get(url.clone()).timeout(SHORT_CALL)).await {
                Err(fault) if fault.status == Some(StatusCode::NOT_FOUND.as_u16()) => return Ok(None),
                answered => answered?,
            };
            let page: Page = response.json().await.map_err(|_| unreadable("MESH's outbox can't be read"))?;
            let complete = page.messages.into_iter().find(|row| {
                row.local_id.as_deref() == Some(local_id) && SentStatus::of(&row.status) != SentStatus::Uploading
            });
            if let Some(row) = complete {
                return Ok(Some(SentMessage { id: row.message_id, status: SentStatus::of(&row.status) }));
            }
            let next = page.links.next.and_then(|link| {
                let link = Url::options().base_url(Some(&url)).parse(&link).ok()?;
                link.query_pairs().find(|(name, _)| name == "continue_from").map(|(_, place)| place.into_owned())
            });
            match next {
                Some(next) => place = Some(next),
                None => return Ok(None),
            }
        }
        Ok(None)
    }
}

fn next_chunk(body: &mut impl Read, bytes: u64, compressed: bool) -> Result<Vec<u8>, MeshFault> {
    let local = |_| MeshFault::new(FaultKind::Local, "a message for MESH could not be read from the data directory");
    let mut plain = Vec::new();
    body.take(bytes).read_to_end(&mut plain).map_err(local)?;
    if !compressed {
        return Ok(plain);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&plain).map_err(local)?;
    encoder.finish().map_err(local)
}
