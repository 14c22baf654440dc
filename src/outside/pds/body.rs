//! A response's body, read up to a limit.

use reqwest::Response;

use super::PdsFault;

/// The whole body.
///
/// # Errors
/// [`PdsFault`]: it breaks off, or is longer than `most` bytes.
pub(super) async fn read(mut response: Response, most: usize, whom: &str) -> Result<Vec<u8>, PdsFault> {
    let too_long = || PdsFault::unreadable("it is longer than any that is known");
    if response.content_length().is_some_and(|length| usize::try_from(length).is_ok_and(|length| length > most)) {
        return Err(too_long());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| PdsFault::of_transport(&error, whom))? {
        if body.len() + chunk.len() > most {
            return Err(too_long());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
