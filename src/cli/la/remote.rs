//! The gateway as the client calls it, by FHIR.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode, Url, header::HeaderMap};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{
    LaFault,
    config::{Credentials, Settings},
};

/// Longest time of a call: a large file takes its time.
const TIMEOUT: Duration = Duration::from_secs(300);
const CONNECT: Duration = Duration::from_secs(10);

/// A gateway, and a token for it.
pub struct Remote {
    client: reqwest::Client,
    base: Url,
    token: SecretString,
}

/// What came back.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Null when the body is not JSON.
    pub body: Value,
}

impl Remote {
    /// Gets a token of the sandbox first, if that is what was asked for.
    ///
    /// # Errors
    /// [`LaFault::Usage`] when URL or token are missing or can't be used; others as in [`Remote::get`].
    pub async fn open(settings: &Settings) -> Result<Self, LaFault> {
        let usage = |text: &str| LaFault::Usage(text.to_owned());
        if settings.url.is_empty() {
            return Err(usage("say where the gateway is: --url, CPISLA_URL, or url in the configuration file"));
        }
        let mut base = Url::parse(&settings.url).map_err(|_| usage("the gateway's URL can't be read"))?;
        let loopback = base.host_str().is_some_and(|host| {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        });
        if base.scheme() != "https" && !(base.scheme() == "http" && loopback) {
            return Err(usage("the gateway's URL must begin with https://; http:// is for this machine only"));
        }
        // So that paths are added to it.
        base.set_path(&format!("{}/", base.path().trim_end_matches('/')));
        let client = reqwest::Client::builder().connect_timeout(CONNECT).timeout(TIMEOUT);
        // Nothing of an upload goes to where a redirect points.
        let client = client.redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|_| LaFault::Failed("the HTTP client can't be made".to_owned()))?;
        let token = match &settings.credentials {
            None => return Err(usage("give a token: --token-file, CPISLA_TOKEN, or --sandbox-authority")),
            Some(Credentials::Token(token)) => token.clone(),
            Some(Credentials::Sandbox(ods)) => {
                let url = base.join("/sandbox/token").map_err(|_| usage("the gateway's URL can't be read"))?;
                let form = format!("role=local-authority&organization={}", ods.as_str());
                let request = client.post(url).header("Content-Type", "application/x-www-form-urlencoded").body(form);
                let reply = send(request).await?;
                let token = reply.body.get("access_token").and_then(Value::as_str);
                let refused = || usage("no token: the gateway is no sandbox, or knows no such authority");
                SecretString::from(token.ok_or_else(refused)?.to_owned())
            }
        };
        Ok(Self { client, base, token })
    }

    /// A path below the base, or an absolute URL of the same gateway.
    ///
    /// # Errors
    /// [`LaFault::TryAgain`] when the gateway can't be reached.
    pub async fn get(&self, path: &str) -> Result<Reply, LaFault> {
        send(self.request(Method::GET, path)?).await
    }

    /// Posts a Bundle to the base.
    ///
    /// # Errors
    /// As [`Remote::get`].
    pub async fn post_bundle(&self, bundle: &Value) -> Result<Reply, LaFault> {
        let request = self.request(Method::POST, "")?.header("Content-Type", "application/fhir+json");
        send(request.body(bundle.to_string())).await
    }

    /// Searches by a form, so that no NHS number gets into an address.
    ///
    /// # Errors
    /// As [`Remote::get`].
    pub async fn search(&self, resource_type: &str, form: String) -> Result<Reply, LaFault> {
        let request = self.request(Method::POST, &format!("{resource_type}/_search"))?;
        send(request.header("Content-Type", "application/x-www-form-urlencoded").body(form)).await
    }

    /// Gives every resource of a search to `take`, page by page.
    ///
    /// # Errors
    /// As [`Remote::get`], and those of `take`.
    pub async fn all(&self, first: Reply, take: &mut dyn FnMut(&Value) -> Result<(), LaFault>) -> Result<(), LaFault> {
        let mut page = first.good()?;
        loop {
            resources(&page.body).try_for_each(&mut *take)?;
            match next(&page.body).map(str::to_owned) {
                Some(place) => page = self.get(&place).await?.good()?,
                None => return Ok(()),
            }
        }
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, LaFault> {
        let elsewhere = || LaFault::Failed("the gateway's answer leads to another place".to_owned());
        let url = self.base.join(path).map_err(|_| elsewhere())?;
        // The token is for this gateway only.
        if url.origin() != self.base.origin() {
            return Err(elsewhere());
        }
        let request = self.client.request(method, url).bearer_auth(self.token.expose_secret());
        Ok(request.header("Accept", "application/fhir+json"))
    }
}

async fn send(request: RequestBuilder) -> Result<Reply, LaFault> {
    // Without the URL: it may hold an NHS number.
    let away =
        |error: reqwest::Error| LaFault::TryAgain(format!("the gateway can't be reached: {}", error.without_url()));
    let response = request.send().await.map_err(away)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.bytes().await.map_err(away)?;
    Ok(Reply { status, headers, body: serde_json::from_slice(&body).unwrap_or(Value::Null) })
}

impl Reply {
    /// The reply, if it is what was asked for.
    ///
    /// # Errors
    /// What the gateway says against it: [`LaFault::TryAgain`] when it is busy or away.
    pub fn good(self) -> Result<Self, LaFault> {
        if self.status == StatusCode::OK { Ok(self) } else { Err(self.fault()) }
    }

    /// Why there is no result.
    pub fn fault(&self) -> LaFault {
        let issues = self.body.get("issue").and_then(Value::as_array).into_iter().flatten();
        let words: Vec<&str> =
            issues.filter_map(|issue| issue.get("diagnostics").and_then(Value::as_str)).take(10).collect();
        let text = format!("the gateway answers {}: {}", self.status, words.join(" "));
        let busy = self.status.is_server_error() && self.status != StatusCode::INTERNAL_SERVER_ERROR;
        if busy || self.status == StatusCode::TOO_MANY_REQUESTS {
            LaFault::TryAgain(text)
        } else {
            LaFault::Failed(text)
        }
    }

    /// `Retry-After` in seconds, at most a minute; five without it.
    pub fn pause(&self) -> Duration {
        let seconds = self.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        Duration::from_secs(seconds.unwrap_or(5).clamp(1, 60))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// The link of a Bundle that leads on.
pub fn next(bundle: &Value) -> Option<&str> {
    let links = bundle.get("link").and_then(Value::as_array)?;
    links.iter().find(|link| link.get("relation").is_some_and(|relation| relation == "next"))?.get("url")?.as_str()
}

/// The resources of a Bundle.
pub fn resources(bundle: &Value) -> impl Iterator<Item = &Value> {
    let entries = bundle.get("entry").and_then(Value::as_array).into_iter().flatten();
    entries.filter_map(|entry| entry.get("resource"))
}
