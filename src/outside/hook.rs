//! The rest-hook client: posts one FHIR JSON body to an authority's endpoint and says whether it was taken.
//!
//! - [`HookClient::new`] with [`HookTimeouts`]; [`HookClient::post`] sends, once, without retries or redirects.
//! - [`check_endpoint`] and [`check_headers`] judge a Subscription's channel when it is created; `post` judges it again.
//! - [`HookFault`] has a text fit for a log and for the Subscription's owner: never the endpoint's path or query, never
//!   a header's value, nothing of the body sent or of the answer.
//!
//! An authority chooses the endpoint, so the client connects to what [`Targets`] allow only, whether the address is written
//! in the URL or comes from the DNS: the addresses that a name has are judged where the connection is made, so that a
//! second answer of the DNS can't lead elsewhere. Proxies named in the environment are not used.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use super::target::{NameService, Targets, system_names};

use chrono::{DateTime, Utc};
use reqwest::{
    StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect, tls,
};

/// Most header lines of one subscription, and most bytes of all of them.
const MOST_HEADERS: usize = 20;
const LONGEST_HEADERS: usize = 8192;
/// At most this much of an answer's body is read, and thrown away, in bytes.
const MOST_DISCARDED: usize = 64 * 1024;
/// Longest endpoint, in bytes.
const LONGEST_ENDPOINT: usize = 2048;
/// Headers that the client sets itself, or that say how the message is framed: not for a Subscription to choose.
const RESERVED_HEADERS: [&str; 15] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
];

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookTimeouts {
    /// Until TCP and TLS are up.
    pub connect: Duration,
    /// From the start to the end of the answer.
    pub total: Duration,
}

/// Why a notification wasn't taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct HookFault {
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The endpoint is there no more (410).
    pub gone: bool,
    /// How long the endpoint asks to be left alone; not capped.
    pub retry_after: Option<Duration>,
    /// Plain English; safe to log and to show to the Subscription's owner.
    pub text: String,
}

impl HookFault {
    fn unsent(text: impl Into<String>) -> Self {
        Self { status: None, gone: false, retry_after: None, text: text.into() }
    }
}

/// What is posted, and where to.
#[derive(Clone, Copy)]
pub struct Post<'a> {
    pub endpoint: &'a str,
    /// Lines `Name: value`.
    pub headers: &'a [String],
    /// Headers of our own: names in small letters.
    pub signature: &'a [(&'static str, String)],
    pub content_type: &'static str,
    /// Less than the client's own limit, if the endpoint asks for that.
    pub timeout: Option<Duration>,
}

/// The client. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct HookClient {
    client: reqwest::Client,
    targets: Targets,
}

impl HookClient {
    /// # Errors
    /// [`HookFault`] when TLS can't be set up.
    pub fn new(timeouts: HookTimeouts, targets: Targets) -> Result<Self, HookFault> {
        Self::with_names(timeouts, targets, system_names())
    }

    /// [`HookClient::new`] with another name service than the system's.
    ///
    /// # Errors
    /// As [`HookClient::new`].
    pub fn with_names(timeouts: HookTimeouts, targets: Targets, names: NameService) -> Result<Self, HookFault> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("cpis-gateway/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeouts.connect)
            .timeout(timeouts.total)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .tls_version_min(tls::Version::TLS_1_2)
            .https_only(!targets.plain)
            .dns_resolver(Arc::new(Names { names, targets: targets.clone() }))
            .build()
            .map_err(|_| HookFault::unsent("TLS cannot be set up on this machine: check its CA certificates"))?;
        Ok(Self { client, targets })
    }

    /// Posts `body`. Any 2xx is success.
    ///
    /// # Errors
    /// [`HookFault`]: refused beforehand, not reached, out of time, or answered with another status.
    pub async fn post(&self, post: &Post<'_>, body: Vec<u8>) -> Result<(), HookFault> {
        let url = endpoint_url(post.endpoint, &self.targets).map_err(HookFault::unsent)?;
        let headers = header_map(post.headers).map_err(HookFault::unsent)?;
        let mut request = self.client.post(url).headers(headers).header(CONTENT_TYPE, post.content_type).body(body);
        for (name, value) in post.signature {
            request = request.header(*name, value);
        }
        if let Some(timeout) = post.timeout {
            request = request.timeout(timeout);
        }
        let mut response = request.send().await.map_err(|error| HookFault::unsent(reason(&error)))?;
        let status = response.status();
        let retry_after = retry_after(response.headers(), Utc::now());
        discard(&mut response).await;
        if status.is_success() {
            return Ok(());
        }
        let gone = status == StatusCode::GONE;
        Err(HookFault { status: Some(status.as_u16()), gone, retry_after, text: refusal(status) })
    }
}

/// Whether an endpoint may be posted to, as far as its URL tells: what its name leads to is judged when it is called.
///
/// # Errors
/// What is wrong with it, in words for its owner.
pub fn check_endpoint(url: &str, targets: &Targets) -> Result<(), &'static str> {
    endpoint_url(url, targets).map(drop)
}

/// Whether header lines (`Name: value`) may be sent.
///
/// # Errors
/// What is wrong with them, in words for their owner, without the line.
pub fn check_headers(lines: &[String]) -> Result<(), &'static str> {
    header_map(lines).map(drop)
}

fn endpoint_url(text: &str, targets: &Targets) -> Result<Url, &'static str> {
    if text.len() > LONGEST_ENDPOINT {
        return Err("the endpoint is longer than 2048 characters");
    }
    // The URL parser drops such characters in silence; what is checked would differ from what was written.
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err("the endpoint holds white space, a control character or a backslash");
    }
    let url = Url::parse(text).map_err(|_| "the endpoint is not a URL")?;
    match url.scheme() {
        "https" => {}
        "http" if targets.plain => {}
        "http" => return Err("the endpoint must use https"),
        _ => return Err("the endpoint must be an https URL"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the endpoint holds a user name or password: send credentials in a header");
    }
    if url.fragment().is_some() {
        return Err("the endpoint has a fragment (#...)");
    }
    let this_machine = IpAddr::from(Ipv4Addr::LOCALHOST);
    let address = if names_this_machine(&url) { Some(this_machine) } else { literal_address(&url) };
    if address.is_some_and(|address| !targets.may_be(address)) {
        return Err(FORBIDDEN);
    }
    Ok(url)
}

fn names_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost")
}

fn literal_address(url: &Url) -> Option<IpAddr> {
    url.host_str()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Of an address that is not reachable from everywhere.
const FORBIDDEN: &str = "the endpoint is at an address that notifications are not sent to: this machine, a private or a \
                         special network; the operator may allow its network";

/// A name that leads to no address that may be connected to.
#[derive(Debug, thiserror::Error)]
#[error("{FORBIDDEN}")]
struct ForbiddenTarget;

/// A name service, less the addresses that may not be connected to.
struct Names {
    names: NameService,
    targets: Targets,
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, targets) = (self.names.clone(), self.targets.clone());
        Box::pin(async move {
            // Port 0 is replaced by that of the URL.
            let host = name.as_str().to_owned();
            let found = tokio::task::spawn_blocking(move || names(&host)).await??;
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|a| targets.may_be(a.ip())).collect();
            if allowed.is_empty() {
                return Err(ForbiddenTarget.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

fn header_map(lines: &[String]) -> Result<HeaderMap, &'static str> {
    if lines.len() > MOST_HEADERS || lines.iter().map(String::len).sum::<usize>() > LONGEST_HEADERS {
        return Err("there are more than 20 headers, or they are longer than 8192 bytes together");
    }
    let mut map = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').ok_or("a header is not written as Name: value")?;
        let name: HeaderName = name.parse().map_err(|_| "a header's name holds a character that is not allowed")?;
        if RESERVED_HEADERS.contains(&name.as_str()) {
            return Err("a header is one that this service sets itself, such as Host or Content-Length");
        }
        let mut value = HeaderValue::from_str(value.trim_matches([' ', '\t']))
            .map_err(|_| "a header's value holds a line break or another character that is not allowed")?;
        value.set_sensitive(true);
        map.try_append(name, value).map_err(|_| "there are too many headers")?;
    }
    Ok(map)
}

/// In words of our own: the error's own text names the URL.
fn reason(error: &reqwest::Error) -> String {
    let io = io_kind(error);
    let text = if error.is_timeout() && error.is_connect() {
        "no connection to the endpoint within the time allowed"
    } else if error.is_timeout() {
        "the endpoint did not answer within the time allowed"
    } else if io == Some(std::io::ErrorKind::ConnectionRefused) {
        "the endpoint refused the connection: nothing listens there"
    } else if causes(error).any(|cause| cause.is::<ForbiddenTarget>()) {
        FORBIDDEN
    } else if error.is_connect() && is_tls(error) {
        "TLS with the endpoint failed: check that its certificate is valid, names the host and is from a known authority"
    } else if error.is_connect() {
        "the endpoint could not be reached: check its name, and that the network lets the connection pass"
    } else if error.is_builder() {
        "the request could not be made from the endpoint and headers"
    } else {
        "the connection broke before the endpoint had answered"
    };
    text.to_owned()
}

fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source())
}

fn io_kind(error: &reqwest::Error) -> Option<std::io::ErrorKind> {
    causes(error).find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind)
}

fn is_tls(error: &reqwest::Error) -> bool {
    causes(error).any(|cause| cause.is::<openssl::ssl::Error>() || cause.is::<openssl::error::ErrorStack>())
}

fn refusal(status: StatusCode) -> String {
    let code = status.as_u16();
    match code {
        300..=399 => format!("the endpoint answered {code}; redirects are not followed: correct the endpoint"),
        401 | 403 => format!("the endpoint answered {code}: check the channel's headers"),
        410 => "the endpoint answered 410: it is there no more".to_owned(),
        429 => "the endpoint answered 429: too many notifications".to_owned(),
        _ => format!("the endpoint answered {code}"),
    }
}

/// Reads a little so that the connection can be used again; what fails here changes nothing, the status is known.
async fn discard(response: &mut reqwest::Response) {
    let mut discarded = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        discarded += chunk.len();
        if discarded >= MOST_DISCARDED {
            break;
        }
    }
}

/// `Retry-After` as seconds or as an HTTP date (RFC 9110 10.2.3). A date counts from the answer's own `Date` where there
/// is one, so that the clocks need not agree; a date that has passed is zero.
pub(super) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().map(Duration::from_secs);
    }
    let date = |text: &str| DateTime::parse_from_rfc2822(text).ok().map(|d| d.with_timezone(&Utc));
    let from = headers.get(DATE).and_then(|d| d.to_str().ok()).and_then(date).unwrap_or(now);
    Some((date(text)? - from).to_std().unwrap_or_default())
}

#[cfg(test)]
#[path = "hook_tests.rs"]
mod tests;
