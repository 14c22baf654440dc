//! The rest-hook client: posts one FHIR JSON body to an authority's endpoint and says whether it was taken.
//!
//! - [`HookClient::new`] with [`HookTimeouts`]; [`HookClient::post`] sends, once, without retries or redirects.
//! - [`check_endpoint`] and [`check_headers`] judge a Subscription's channel when it is created; `post` judges it again.
//! - [`HookFault`] has a text fit for a log and for the Subscription's owner: never the endpoint's path or query, never
//!   a header's value, nothing of the body sent or of the answer.
//!
//! An authority chooses the endpoint, so outside the sandbox the client doesn't connect to this machine or to link-local
//! addresses, whether they are written in the URL or come from the DNS. Proxies named in the environment are not used.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

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
/// Content type of what is sent.
pub const CONTENT_TYPE_SENT: &str = "application/fhir+json";
/// At most this much of an answer's body is read, and thrown away, in bytes.
const MOST_DISCARDED: usize = 64 * 1024;
/// Longest endpoint, in bytes.
const LONGEST_ENDPOINT: usize = 2048;
/// Headers that the client sets itself, or that say how the message is framed: not for a Subscription to choose.
const RESERVED_HEADERS: [&str; 12] = [
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
    /// How long the endpoint asks to be left alone; not capped.
    pub retry_after: Option<Duration>,
    /// Plain English; safe to log and to show to the Subscription's owner.
    pub text: String,
}

impl HookFault {
    fn unsent(text: impl Into<String>) -> Self {
        Self { status: None, retry_after: None, text: text.into() }
    }
}

/// The client. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct HookClient {
    client: reqwest::Client,
    allow_plain_and_loopback: bool,
}

impl HookClient {
    /// `allow_plain_and_loopback` is for the sandbox: plain HTTP, and endpoints on this machine.
    ///
    /// # Errors
    /// [`HookFault`] when TLS can't be set up.
    pub fn new(timeouts: HookTimeouts, allow_plain_and_loopback: bool) -> Result<Self, HookFault> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("cpis-gateway/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeouts.connect)
            .timeout(timeouts.total)
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .tls_version_min(tls::Version::TLS_1_2)
            .https_only(!allow_plain_and_loopback)
            .dns_resolver(Arc::new(Names { allow_loopback: allow_plain_and_loopback }))
            .build()
            .map_err(|_| HookFault::unsent("TLS cannot be set up on this machine: check its CA certificates"))?;
        Ok(Self { client, allow_plain_and_loopback })
    }

    /// Posts `body` to `endpoint` with `headers` (lines `Name: value`). Any 2xx is success.
    ///
    /// # Errors
    /// [`HookFault`]: refused beforehand, not reached, out of time, or answered with another status.
    pub async fn post(&self, endpoint: &str, headers: &[String], body: Vec<u8>) -> Result<(), HookFault> {
        let url = endpoint_url(endpoint, self.allow_plain_and_loopback).map_err(HookFault::unsent)?;
        let headers = header_map(headers).map_err(HookFault::unsent)?;
        let request = self.client.post(url).headers(headers).header(CONTENT_TYPE, CONTENT_TYPE_SENT).body(body);
        let mut response = request.send().await.map_err(|error| HookFault::unsent(reason(&error)))?;
        let status = response.status();
        let retry_after = retry_after(response.headers(), Utc::now());
        discard(&mut response).await;
        if status.is_success() {
            return Ok(());
        }
        Err(HookFault { status: Some(status.as_u16()), retry_after, text: refusal(status) })
    }
}

/// Whether an endpoint may be posted to. `allow_plain_and_loopback` is for the sandbox.
///
/// # Errors
/// What is wrong with it, in words for its owner.
pub fn check_endpoint(url: &str, allow_plain_and_loopback: bool) -> Result<(), &'static str> {
    endpoint_url(url, allow_plain_and_loopback).map(drop)
}

/// Whether header lines (`Name: value`) may be sent.
///
/// # Errors
/// What is wrong with them, in words for their owner, without the line.
pub fn check_headers(lines: &[String]) -> Result<(), &'static str> {
    header_map(lines).map(drop)
}

fn endpoint_url(text: &str, allow_plain_and_loopback: bool) -> Result<Url, &'static str> {
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
        "http" if allow_plain_and_loopback => {}
        "http" => return Err("the endpoint must use https"),
        _ => return Err("the endpoint must be an https URL"),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the endpoint holds a user name or password: send credentials in a header");
    }
    if url.fragment().is_some() {
        return Err("the endpoint has a fragment (#...)");
    }
    if !allow_plain_and_loopback && (names_this_machine(&url) || literal_address(&url).is_some_and(is_forbidden)) {
        return Err("the endpoint is an address of this machine or of its own link, not of another system");
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

/// Addresses that are never another organisation's: this machine, its link (cloud metadata), many at once.
/// Private networks are allowed: health networks use them.
fn is_forbidden(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() || v4.octets()[0] == 0
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local(),
    }
}

/// The system's name service, less the addresses that may not be connected to.
struct Names {
    allow_loopback: bool,
}

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_loopback = self.allow_loopback;
        Box::pin(async move {
            // Port 0 is replaced by that of the URL.
            let host = name.as_str().to_owned();
            let found =
                tokio::task::spawn_blocking(move || std::net::ToSocketAddrs::to_socket_addrs(&(host, 0))).await??;
            let allowed: Vec<SocketAddr> = found.filter(|a| allow_loopback || !is_forbidden(a.ip())).collect();
            if allowed.is_empty() {
                return Err("the name has no address that may be connected to".into());
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
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
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
