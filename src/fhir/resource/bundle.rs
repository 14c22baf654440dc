//! `Bundle`: search results, uploads and their answers, notifications.

use super::Resource;
use crate::fhir::{
    datatype::{Extension, Identifier, Meta, fhir_struct},
    date::Instant,
};

fhir_struct! {
    /// <https://hl7.org/fhir/R4/bundle.html>
    #[serde(tag = "resourceType")]
    Bundle {
        id: Option<String>,
        meta: Option<Meta>,
        identifier: Option<Identifier>,
        #[serde(rename = "type")]
        kind: String,
        timestamp: Option<Instant>,
        total: Option<u64>,
        link: Vec<BundleLink>,
        entry: Vec<BundleEntry>,
    }
}

fhir_struct! {
    BundleLink {
        relation: String,
        url: String,
    }
}

fhir_struct! {
    BundleEntry {
        full_url: Option<String>,
        resource: Option<Resource>,
        search: Option<BundleEntrySearch>,
        request: Option<BundleEntryRequest>,
        response: Option<BundleEntryResponse>,
    }
}

fhir_struct! {
    BundleEntrySearch {
        extension: Vec<Extension>,
        /// match, include or outcome.
        mode: Option<String>,
        /// How sure a match is, from 0 to 1.
        score: Option<serde_json::Number>,
    }
}

fhir_struct! {
    BundleEntryRequest {
        method: String,
        url: String,
        if_none_match: Option<String>,
        if_modified_since: Option<Instant>,
        if_match: Option<String>,
        if_none_exist: Option<String>,
    }
}

fhir_struct! {
    BundleEntryResponse {
        /// HTTP status code, optionally with its reason.
        status: String,
        location: Option<String>,
        etag: Option<String>,
        last_modified: Option<Instant>,
        outcome: Option<Resource>,
    }
}

impl BundleEntry {
    /// An entry of a search result: `fullUrl` is absolute, `mode` is match, include or outcome.
    pub fn found(base_url: &str, resource: Resource, mode: &str) -> Self {
        let base = base_url.trim_end_matches('/');
        let full_url = resource.id().map(|id| format!("{base}/{}/{id}", resource.type_name()));
        let search = Some(BundleEntrySearch { mode: Some(mode.to_owned()), ..BundleEntrySearch::default() });
        Self { full_url, resource: Some(resource), search, ..Self::default() }
    }
}

impl Bundle {
    /// A search result. `total` counts the matches, not the includes.
    pub fn searchset(self_url: &str, total: Option<u64>, entry: Vec<BundleEntry>) -> Self {
        let link = vec![BundleLink { relation: "self".to_owned(), url: self_url.to_owned() }];
        Self { kind: "searchset".to_owned(), total, link, entry, ..Self::default() }
    }

    /// Versions, newest first.
    pub fn history(self_url: &str, entry: Vec<BundleEntry>) -> Self {
        Self { kind: "history".to_owned(), ..Self::searchset(self_url, None, entry) }
    }
}
