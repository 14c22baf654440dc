//! One HTTP request and its reply.

use std::future::{Future, IntoFuture};

use serde_json::Value;

use super::{TestApp, answer};

/// A caller about to ask something; headers are added before the verb.
pub struct Request<'a> {
    app: &'a TestApp,
    token: Option<String>,
    headers: Vec<(String, String)>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    /// Null when the body is not JSON.
    pub json: Value,
}

impl<'a> Request<'a> {
    pub fn new(app: &'a TestApp, token: Option<String>) -> Self {
        Self { app, token, headers: Vec::new() }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    pub fn get(&self, path: &str) -> impl Future<Output = Reply> + use<> {
        self.send("GET", path, None)
    }

    pub fn delete(&self, path: &str) -> impl Future<Output = Reply> + use<> {
        self.send("DELETE", path, None)
    }

    /// Posts a FHIR resource.
    pub fn post(&self, path: &str, body: &Value) -> impl Future<Output = Reply> + use<> {
        self.send("POST", path, Some(("application/fhir+json", body.to_string().into_bytes())))
    }

    pub fn put(&self, path: &str, body: &Value) -> impl Future<Output = Reply> + use<> {
        self.send("PUT", path, Some(("application/fhir+json", body.to_string().into_bytes())))
    }

    /// Posts a form, as `_search` takes it.
    pub fn form(&self, path: &str, form: &str) -> impl Future<Output = Reply> + use<> {
        self.send("POST", path, Some(("application/x-www-form-urlencoded", form.as_bytes().to_vec())))
    }

    /// Any method and body; `path` is below the FHIR base, or below the root when it begins with `//`.
    pub fn send(&self, method: &str, path: &str, body: Option<(&str, Vec<u8>)>) -> impl Future<Output = Reply> + use<> {
        let url = match path.strip_prefix("//") {
            Some(path) => format!("{}/{path}", self.app.root),
            None if path.starts_with("http") => path.to_owned(),
            None => format!("{}{path}", self.app.base),
        };
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.app.client.request(method.clone(), &url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some((kind, body)) = body {
            if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                request = request.header("Content-Type", kind);
            }
            request = request.body(body);
        }
        let asked = format!("{method} {url}");
        async move {
            let response = request.send().into_future().await.expect("an answer");
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let text = response.text().await.expect("a body");
            let json = serde_json::from_str(&text).unwrap_or(Value::Null);
            let reply = Reply { status, headers, text, json };
            answer::check(&asked, &reply);
            reply
        }
    }
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// `Bundle.total`.
    pub fn total(&self) -> i64 {
        self.json["total"].as_i64().unwrap_or(-1)
    }

    /// The resources of one type in a Bundle, in order.
    pub fn resources(&self, resource_type: &str) -> Vec<Value> {
        let entries = self.json["entry"].as_array().cloned().unwrap_or_default();
        let resources = entries.into_iter().map(|entry| entry["resource"].clone());
        resources.filter(|resource| resource["resourceType"] == resource_type).collect()
    }

    /// The body for a snapshot: the gateway's address and every generated id are replaced, the same id always by the
    /// same name, so that what refers to what can still be seen.
    pub fn settled(&self) -> Value {
        let mut ids = Vec::new();
        let mut text = String::with_capacity(self.text.len());
        let mut rest = self.text.as_str();
        while let Some(first) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("http://127.0.0.1:") {
                text.push_str("http://gateway");
                rest = after.trim_start_matches(|c: char| c.is_ascii_digit());
            } else if let Some(id) = rest.get(..36).filter(|id| uuid::Uuid::try_parse(id).is_ok()) {
                let known = ids.iter().position(|known| *known == id).unwrap_or_else(|| {
                    ids.push(id);
                    ids.len() - 1
                });
                text.push_str(&format!("[id {}]", known + 1));
                rest = &rest[36..];
            } else {
                text.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        serde_json::from_str(&text).expect("JSON")
    }

    /// The address of the next page; empty on the last.
    pub fn next_page(&self) -> Option<String> {
        let links = self.json["link"].as_array()?;
        let next = links.iter().find(|link| link["relation"] == "next")?;
        next["url"].as_str().map(str::to_owned)
    }

    /// Spine codes of an `OperationOutcome`, in order.
    pub fn spine_codes(&self) -> Vec<String> {
        self.codes("https://fhir.nhs.uk/R4/CodeSystem/Spine-ErrorOrWarningCode")
    }

    /// CPR codes of an `OperationOutcome`, in order.
    pub fn record_codes(&self) -> Vec<String> {
        self.codes("urn:oid:2.16.840.1.113883.2.1.3.2.4.17.473")
    }

    fn codes(&self, system: &str) -> Vec<String> {
        let issues = self.json["issue"].as_array().cloned().unwrap_or_default();
        let codings = issues.iter().flat_map(|i| i["details"]["coding"].as_array().cloned().unwrap_or_default());
        codings.filter(|c| c["system"] == system).map(|c| c["code"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Asserts an `OperationOutcome` with this status, issue code and Spine code on its first issue.
    pub fn assert_refused(&self, status: u16, issue: &str, spine: &str) {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.json["resourceType"], "OperationOutcome", "{}", self.text);
        assert_eq!(self.json["issue"][0]["code"], issue, "{}", self.text);
        assert_eq!(self.spine_codes().first().map(String::as_str), Some(spine), "{}", self.text);
        assert!(self.json["issue"][0]["diagnostics"].as_str().is_some_and(|d| d.len() > 10), "{}", self.text);
        assert!(self.header("content-type").starts_with("application/fhir+json"), "{}", self.header("content-type"));
    }
}
