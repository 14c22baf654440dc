//! Why MESH did not do what it was asked: one fault, with what can be done about it.

use reqwest::{Response, StatusCode};
use serde_json::Value;

/// What a fault means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// MESH is away or busy; what was asked was not done. Try again later.
    Unavailable,
    /// The answer did not come: whether it was done is not known.
    Unknown,
    /// MESH will not do it, now or later, as it was asked.
    Refused,
    /// The message isn't there, or no longer.
    Gone,
    /// The message is larger than what was asked for.
    TooLarge,
    /// What MESH sent can't be used.
    Unreadable,
    /// This side could not write or read the message.
    Local,
}

/// Why a call gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct MeshFault {
    pub kind: FaultKind,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// MESH's own code, such as `12`, if the answer held one.
    pub code: Option<String>,
    /// Plain English; safe to log and to show to operators.
    pub text: String,
}

impl MeshFault {
    pub(super) fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self { kind, status: None, code: None, text: text.into() }
    }

    /// True if MESH can't be worked with at all at the moment, whatever is asked: away, busy, or the credentials are
    /// refused.
    pub fn is_of_mesh(&self) -> bool {
        matches!(self.kind, FaultKind::Unavailable | FaultKind::Unknown) || matches!(self.status, Some(401 | 403))
    }

    /// In words of our own: the error's own text names the address.
    pub(super) fn of_transport(error: &reqwest::Error) -> Self {
        let causes = || std::iter::successors(std::error::Error::source(error), |cause| cause.source());
        let tls = causes().any(|cause| cause.is::<openssl::ssl::Error>() || cause.is::<openssl::error::ErrorStack>());
        let refused = causes()
            .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
            .any(|cause| cause.kind() == std::io::ErrorKind::ConnectionRefused);
        let (kind, text) = if error.is_builder() {
            (FaultKind::Refused, "the request to MESH could not be made: check mesh.url and the mailbox ids")
        } else if error.is_connect() && tls {
            (
                FaultKind::Unavailable,
                "TLS with MESH failed: check the client certificate and key, and that the CA certificates are those of \
                 this environment",
            )
        } else if error.is_connect() && error.is_timeout() {
            (FaultKind::Unavailable, "no connection to MESH within the time allowed")
        } else if refused {
            (FaultKind::Unavailable, "MESH refused the connection: nothing listens there")
        } else if error.is_connect() {
            (FaultKind::Unavailable, "MESH could not be reached: check mesh.url, and that the network lets it pass")
        } else if error.is_timeout() {
            (FaultKind::Unknown, "MESH did not answer within the time allowed")
        } else {
            (FaultKind::Unknown, "the connection to MESH broke before it had answered")
        };
        Self::new(kind, text)
    }

    /// What an answer that is not a success says.
    pub(super) async fn of_answer(response: Response) -> Self {
        let status = response.status();
        // Error bodies are short; a long one is not read to its end.
        let code = match response.content_length() {
            Some(length) if length > 64 * 1024 => None,
            _ => response.json::<Value>().await.ok().as_ref().and_then(code),
        };
        let kind = match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => FaultKind::Gone,
            StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                FaultKind::Unavailable
            }
            status if status.is_server_error() => FaultKind::Unknown,
            _ => FaultKind::Refused,
        };
        let meaning = code.as_deref().and_then(meaning).or(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Some("check the mailbox, its password and the shared key, and this machine's clock")
            }
            _ => None,
        });
        let mut text = format!("MESH answered {}", status.as_u16());
        if let Some(code) = &code {
            text.push_str(&format!(" with code {code}"));
        }
        if let Some(meaning) = meaning {
            text.push_str(&format!(": {meaning}"));
        }
        Self { kind, status: Some(status.as_u16()), code, text }
    }
}

/// The code in an error body of version 2 or 1; only what looks like one.
fn code(body: &Value) -> Option<String> {
    let found = body["detail"][0]["code"].as_str().or_else(|| body["errorCode"].as_str())?;
    let plain = !found.is_empty() && found.len() <= 20 && found.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    plain.then(|| found.to_owned())
}

/// What a code of MESH means (domain.md 5.2), of a refused call or of a REPORT.
pub fn meaning(code: &str) -> Option<&'static str> {
    Some(match code {
        "02" => "the message has no content",
        "06" => "the request's headers are not complete",
        "07" => "the sending mailbox is not valid",
        "08" => "the recipient is missing",
        "11" => "the message type is not valid",
        "12" => "the recipient's mailbox is not registered",
        "14" => "the recipient did not collect the message within 5 days, or its mailbox is closed",
        "15" => "MESH refused it as a bad CP-IS file",
        "16" => "this mailbox may not send messages of this kind",
        "17" => "the workflow is not registered for the mailbox",
        "20" => "there is no such message",
        _ => return None,
    })
}
