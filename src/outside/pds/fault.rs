//! Why PDS gave no answer: one fault, safe to log. Never the number asked about (a request's address holds it), nothing of an
//! answer, no key and no token.

use std::time::Duration;

use uuid::Uuid;

use super::breaker::Outcome;

/// What a fault says of PDS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// It was not asked: it failed too often lately.
    Away,
    /// It was given up before its turn, or its answer, came.
    Late,
    /// Not reached, or the connection broke.
    Unreachable,
    /// 408 or 5xx.
    Failing,
    /// 429.
    Busy,
    /// It will not answer us: the token or the request is refused.
    Refused,
    /// What it sent can't be relied on.
    Unreadable,
    /// The settings can't be used.
    Settings,
}

impl FaultKind {
    /// As the metrics have it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Away => "away",
            Self::Late => "late",
            Self::Unreachable => "unreachable",
            Self::Failing => "failing",
            Self::Busy => "busy",
            Self::Refused => "refused",
            Self::Unreadable => "unreadable",
            Self::Settings => "settings",
        }
    }

    pub(super) fn outcome(self) -> Outcome {
        match self {
            Self::Away | Self::Late | Self::Busy | Self::Settings => Outcome::Open,
            Self::Unreachable | Self::Failing | Self::Refused | Self::Unreadable => Outcome::Bad,
        }
    }
}

/// Why there is no answer about a number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct PdsFault {
    pub kind: FaultKind,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// How long PDS asks to be left alone; not capped.
    pub retry_after: Option<Duration>,
    /// The `X-Request-ID` by which PDS's people find the request.
    pub request_id: Option<Uuid>,
    /// Plain English; safe to log and to show to operators.
    pub text: String,
}

impl PdsFault {
    pub(super) fn new(kind: FaultKind, text: impl Into<String>) -> Self {
        Self { kind, status: None, retry_after: None, request_id: None, text: text.into() }
    }

    pub(super) fn unreadable(why: &str) -> Self {
        Self::new(FaultKind::Unreadable, format!("the answer can't be relied on: {why}"))
    }

    /// Whether a moment later may be better.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.kind, FaultKind::Unreachable | FaultKind::Failing | FaultKind::Busy)
    }

    /// In words of our own: the error's own text holds the address. `whom` is PDS, or who issues its tokens.
    pub(super) fn of_transport(error: &reqwest::Error, whom: &str) -> Self {
        let causes = || std::iter::successors(std::error::Error::source(error), |cause| cause.source());
        let tls = causes().any(|cause| cause.is::<openssl::ssl::Error>() || cause.is::<openssl::error::ErrorStack>());
        let text = if error.is_builder() {
            return Self::new(
                FaultKind::Settings,
                format!("the request to {whom} could not be made: check the URLs of [pds]"),
            );
        } else if error.is_connect() && tls {
            format!("TLS with {whom} failed: check that pds.authorities are those of this environment")
        } else if error.is_timeout() {
            format!("{whom} did not answer within the time allowed")
        } else if error.is_connect() {
            format!("{whom} could not be reached: check its URL, and that the network lets it pass")
        } else {
            format!("the connection to {whom} broke before it had answered")
        };
        Self::new(FaultKind::Unreachable, text)
    }

    /// An answer that is neither a Patient nor a word about a number.
    pub(super) fn of_status(status: u16, whom: &str) -> Self {
        let kind = match status {
            408 | 500..=599 => FaultKind::Failing,
            429 => FaultKind::Busy,
            _ => FaultKind::Refused,
        };
        let mut text = format!("{whom} answered {status}");
        if matches!(status, 401 | 403) {
            text.push_str(": check pds.api_key, pds.key_file and pds.kid, and this machine's clock");
        }
        Self { status: Some(status), ..Self::new(kind, text) }
    }
}
