//! How an upload stands that was answered 202 (R4 async.html): its answer, in the shape of R5's async-bundle, once it has
//! one; and the end of it, if its authority takes it back.

use actix_web::http::StatusCode;

use super::{
    answer::Answer,
    bundle::{ASK_AGAIN, Sent, not_applied, number_refused},
    dispatch::Call,
    refusal::{Case, Refusal},
};
use crate::{
    cpis::{
        self,
        types::audit::RequestEvent,
        upload::{answer::NotApplied, status::UploadStatus},
    },
    fhir::resource::{Bundle, BundleEntry, BundleEntryResponse},
};

const STOPPED: &str =
    "The gateway stopped judging this upload before it was done. Nothing of it was stored: please send it again.";

/// `GET upload-status/{id}`: 202 while it goes on, then 200 with what the upload is answered with as the one entry of a
/// batch-response Bundle.
///
/// # Errors
/// [`Refusal`] 404 for an upload that is not the caller's, was cancelled, or whose answer is not kept any more.
pub async fn read(call: Call) -> Result<Answer, Refusal> {
    let id = call.uuid()?;
    let gateway = &call.service.gateway;
    let authority = &call.caller.organization;
    let status = gateway.upload_status(authority, id).await?.ok_or_else(Refusal::not_found)?;
    gateway.audit(event(&call)).await?;
    let answered = match status {
        UploadStatus::Going { judged, records } => {
            let progress = format!("{judged} of {records} records are judged");
            let answer = Answer::empty(StatusCode::ACCEPTED).with_header("X-Progress", progress);
            return Ok(answer.with_header("Retry-After", ASK_AGAIN));
        }
        UploadStatus::Final { applied, form, records } => {
            Sent::kept(&form, &records)?.answer(&call.service, authority, &applied).await
        }
        UploadStatus::NotApplied { why } => Err(refusal_of(why)),
        UploadStatus::Died => Err(Refusal::new(Case::Store, STOPPED)),
    };
    let answer = answered.unwrap_or_else(|refusal| Answer::from(&refusal));
    let entry = BundleEntry {
        resource: answer.resource,
        response: Some(BundleEntryResponse { status: answer.status.to_string(), ..BundleEntryResponse::default() }),
        ..BundleEntry::default()
    };
    Ok(Answer::ok(Bundle { kind: "batch-response".to_owned(), entry: vec![entry], ..Bundle::default() }))
}

fn event(call: &Call) -> RequestEvent {
    let mut event = call.event();
    event.upload = call.uuid().ok();
    event
}

fn refusal_of(why: NotApplied) -> Refusal {
    match why {
        NotApplied::Refused(reason) => number_refused(&reason),
        NotApplied::Demographics => not_applied(cpis::Error::DemographicsUnavailable),
        NotApplied::Occupied => not_applied(cpis::Error::Occupied),
        NotApplied::Failed => Refusal::new(Case::Store, STOPPED),
        NotApplied::Cancelled => Refusal::not_found(),
    }
}

/// `DELETE upload-status/{id}`: an upload that is not applied yet is taken back; of one that is, the answer is given no
/// more, and its effect stays.
///
/// # Errors
/// [`Refusal`] 404 as in [`read`].
pub async fn cancel(call: Call) -> Result<Answer, Refusal> {
    let id = call.uuid()?;
    let event = event(&call);
    if call.service.gateway.cancel_upload(&call.caller.organization, id, event).await? {
        Ok(Answer::empty(StatusCode::ACCEPTED))
    } else {
        Err(Refusal::not_found())
    }
}
