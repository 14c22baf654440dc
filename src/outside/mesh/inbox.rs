//! What waits in the mailbox: listed page by page, downloaded chunk by chunk into a writer, acknowledged.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use reqwest::{
    Response, StatusCode, Url,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap},
};
use serde::Deserialize;

use super::{FaultKind, MeshClient, MeshFault, SHORT_CALL, TRANSFER};

/// Ids that one page of the listing holds at most.
const PAGE: &str = "500";
/// Longest header value that is taken over, in bytes (the longest that MESH knows is 500).
const LONGEST_VALUE: usize = 500;

/// One page of what waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inbox {
    /// Message ids, oldest first.
    pub ids: Vec<String>,
    /// Where the next page goes on, if there is one.
    pub next: Option<String>,
}

/// `Mex-MessageType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageType {
    Data,
    /// An error report about a message sent earlier; it has no content.
    Report,
}

/// What MESH says of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageHeaders {
    pub message_type: MessageType,
    /// The sender's mailbox, in capitals; empty for a report, which comes from MESH itself.
    pub from: String,
    pub workflow: String,
    /// The sender's own id of the message.
    pub local_id: Option<String>,
    pub chunks: u32,
    /// `Mex-StatusCode`; of a report, why.
    pub status_code: Option<String>,
    /// The message that a report is about.
    pub linked: Option<String>,
}

#[derive(Deserialize)]
struct Listing {
    messages: Vec<String>,
    #[serde(default)]
    links: Links,
}

#[derive(Default, Deserialize)]
struct Links {
    next: Option<String>,
}

impl MeshClient {
    /// One page of the inbox, from the beginning or from where another page ended; `workflow` lets only that one in.
    ///
    /// # Errors
    /// [`MeshFault`].
    pub async fn list(&self, continue_from: Option<&str>, workflow: Option<&str>) -> Result<Inbox, MeshFault> {
        let mut url = self.url(&["inbox"]);
        url.query_pairs_mut().append_pair("max_results", PAGE);
        if let Some(workflow) = workflow {
            url.query_pairs_mut().append_pair("workflow_filter", workflow);
        }
        if let Some(place) = continue_from {
            url.query_pairs_mut().append_pair("continue_from", place);
        }
        let response = self.call_again(|| self.client.get(url.clone()).timeout(SHORT_CALL)).await?;
        let listing: Listing =
            response.json().await.map_err(|_| unreadable("MESH's list of messages can't be read"))?;
        if !listing.messages.iter().all(|id| is_id(id)) {
            return Err(unreadable("MESH's list of messages holds an id that is none"));
        }
        // Only the place is taken over, so that no answer can lead elsewhere.
        let next = listing.links.next.and_then(|link| {
            let link = Url::options().base_url(Some(&url)).parse(&link).ok()?;
            link.query_pairs().find(|(name, _)| name == "continue_from").map(|(_, place)| place.into_owned())
        });
        Ok(Inbox { ids: listing.messages, next })
    }

    /// What MESH says of a message, without its content.
    ///
    /// # Errors
    /// [`MeshFault`]; of kind `Gone` when it isn't there (any more).
    pub async fn head(&self, id: &str) -> Result<MessageHeaders, MeshFault> {
        let url = self.message_url(id, &[])?;
        let response = self.call_again(|| self.client.head(url.clone()).timeout(SHORT_CALL)).await?;
        headers(response.headers())
    }

    /// Writes a message's content to `sink`, decompressed, at most `most` bytes: one more, and the download is broken off.
    ///
    /// # Errors
    /// [`MeshFault`]: `TooLarge` over `most` bytes, `Unreadable` when a chunk is missing or its compression is broken.
    pub async fn download(&self, id: &str, sink: &mut impl Write, most: u64) -> Result<MessageHeaders, MeshFault> {
        let mut sink = Capped { sink, left: most, full: false };
        let url = self.message_url(id, &[])?;
        let first = self.transfer(url).await?;
        let told = headers(first.headers())?;
        let mut more = first.status() == StatusCode::PARTIAL_CONTENT;
        read_chunk(first, &mut sink).await?;
        for number in 2..=told.chunks {
            if !more {
                return Err(unreadable("MESH ended a message before its last chunk"));
            }
            let chunk = self.transfer(self.message_url(id, &[&number.to_string()])?).await?;
            more = chunk.status() == StatusCode::PARTIAL_CONTENT;
            read_chunk(chunk, &mut sink).await?;
        }
        if more {
            return Err(unreadable("MESH has more chunks of a message than it says"));
        }
        Ok(told)
    }

    async fn transfer(&self, url: Url) -> Result<Response, MeshFault> {
        self.call_again(|| self.client.get(url.clone()).header(ACCEPT_ENCODING, "gzip").timeout(TRANSFER)).await
    }

    /// Takes a message out of the inbox. Harmless when repeated.
    ///
    /// # Errors
    /// [`MeshFault`].
    pub async fn acknowledge(&self, id: &str) -> Result<(), MeshFault> {
        let url = self.message_url(id, &["status", "acknowledged"])?;
        self.call_again(|| self.client.put(url.clone()).timeout(SHORT_CALL)).await.map(drop)
    }

    fn message_url(&self, id: &str, parts: &[&str]) -> Result<Url, MeshFault> {
        if !is_id(id) {
            return Err(unreadable("what should be the id of a MESH message is none"));
        }
        let below: Vec<&str> = ["inbox", id].into_iter().chain(parts.iter().copied()).collect();
        Ok(self.url(&below))
    }
}

/// Letters, digits, `_` and `-`: what may stand in an address as it is.
pub(super) fn is_id(text: &str) -> bool {
    (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

pub(super) fn unreadable(text: &str) -> MeshFault {
    MeshFault::new(FaultKind::Unreadable, text)
}

fn headers(map: &HeaderMap) -> Result<MessageHeaders, MeshFault> {
    let value = |name: &str| {
        let text = map.get(name)?.to_str().ok()?.trim();
        (!text.is_empty() && text.len() <= LONGEST_VALUE).then(|| text.to_owned())
    };
    let message_type = match value("Mex-MessageType").unwrap_or_default().to_ascii_uppercase().as_str() {
        "DATA" => MessageType::Data,
        "REPORT" => MessageType::Report,
        _ => return Err(unreadable("a message of MESH is neither DATA nor REPORT")),
    };
    let range = value("Mex-Chunk-Range").and_then(|range| range.split_once(':').and_then(|(_, all)| all.parse().ok()));
    let chunks = range.or_else(|| value("Mex-Total-Chunks").and_then(|all| all.parse().ok())).unwrap_or(1);
    Ok(MessageHeaders {
        message_type,
        from: value("Mex-From").unwrap_or_default().to_ascii_uppercase(),
        workflow: value("Mex-WorkflowID").unwrap_or_default(),
        local_id: value("Mex-LocalID"),
        chunks,
        status_code: value("Mex-StatusCode"),
        linked: value("Mex-LinkedMsgID").map(|id| id.to_ascii_uppercase()),
    })
}

/// Writes the body of one answer; each chunk is compressed by itself.
async fn read_chunk<W: Write>(mut response: Response, sink: &mut Capped<'_, W>) -> Result<(), MeshFault> {
    let compressed = response.headers().get(CONTENT_ENCODING).is_some_and(|encoding| encoding.as_bytes() == b"gzip");
    let mut body = if compressed { Body::Compressed(Box::new(MultiGzDecoder::new(sink))) } else { Body::Plain(sink) };
    let broken = "a compressed chunk of a MESH message is broken";
    let written = loop {
        let part = match response.chunk().await {
            Ok(Some(part)) => part,
            Ok(None) => break body.finish(),
            Err(error) => return Err(MeshFault::of_transport(&error)),
        };
        let written = body.write_all(&part);
        if written.is_err() {
            break written;
        }
    };
    let full = body.is_full();
    written.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => unreadable(broken),
        _ if full => MeshFault::new(FaultKind::TooLarge, "the MESH message is larger than mesh.max_message_bytes"),
        _ => MeshFault::new(FaultKind::Local, "a MESH message could not be written to the data directory"),
    })
}

/// The body of one answer on its way into the writer.
enum Body<'a, 'b, W: Write> {
    Plain(&'a mut Capped<'b, W>),
    Compressed(Box<MultiGzDecoder<&'a mut Capped<'b, W>>>),
}

impl<W: Write> Body<'_, '_, W> {
    fn write_all(&mut self, part: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(sink) => sink.write_all(part),
            Self::Compressed(decoder) => decoder.write_all(part),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Compressed(decoder) => decoder.try_finish(),
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Self::Plain(sink) => sink.full,
            Self::Compressed(decoder) => decoder.get_ref().full,
        }
    }
}

/// A writer that takes no more than so many bytes.
struct Capped<'a, W> {
    sink: &'a mut W,
    left: u64,
    full: bool,
}

impl<W: Write> Write for Capped<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if length > self.left {
            self.full = true;
            return Err(io::Error::other("full"));
        }
        let written = self.sink.write(bytes)?;
        self.left -= u64::try_from(written).unwrap_or(length);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
