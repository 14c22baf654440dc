//! One call: its address, its authorization, and whether it is tried again.

use chrono::Utc;
use reqwest::{
    RequestBuilder, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderValue},
};
use uuid::Uuid;

use super::{FaultKind, MeshClient, MeshFault, token};

/// Version 2 of the API.
const MEDIA_TYPE: &str = "application/vnd.mesh.v2+json";
/// Tries after the first of a call that may be repeated.
const TRIES_AGAIN: u32 = 3;

impl MeshClient {
    /// The address of a part of this mailbox.
    pub(super) fn url(&self, parts: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(&self.mailbox).extend(parts);
        }
        url
    }

    /// Makes a call once, under a token of its own.
    ///
    /// # Errors
    /// [`MeshFault`] for anything but a success.
    pub(super) async fn call_once(&self, request: RequestBuilder) -> Result<Response, MeshFault> {
        let token = token::authorization(&self.mailbox, &self.password, &self.shared_key, Uuid::new_v4(), Utc::now())
            .ok()
            .and_then(|token| HeaderValue::from_str(&token).ok());
        let mut token = token.ok_or_else(|| MeshFault::new(FaultKind::Local, "the MESH token could not be made"))?;
        token.set_sensitive(true);
        let request = request.header(AUTHORIZATION, token).header(ACCEPT, MEDIA_TYPE);
        let response = request.send().await.map_err(|error| MeshFault::of_transport(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(MeshFault::of_answer(response).await) }
    }

    /// Makes a call that may be repeated: again after a pause when MESH is busy, away, or the answer did not come.
    ///
    /// # Errors
    /// [`MeshFault`] of the last try.
    pub(super) async fn call_again(&self, make: impl Fn() -> RequestBuilder) -> Result<Response, MeshFault> {
        let mut pause = self.retry_pause;
        for _ in 0..TRIES_AGAIN {
            match self.call_once(make()).await {
                Err(fault) if is_passing(&fault) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                done => return done,
            }
        }
        self.call_once(make()).await
    }
}

/// Whether a moment later may be better: the statuses that NHS's own client tries again, and a broken connection.
fn is_passing(fault: &MeshFault) -> bool {
    let again = [
        StatusCode::TOO_EARLY,
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ];
    match fault.status {
        Some(status) => again.iter().any(|known| known.as_u16() == status),
        None => matches!(fault.kind, FaultKind::Unavailable | FaultKind::Unknown),
    }
}
