//! A file that is a FHIR Bundle: the FHIR door answers it, with a Bundle (design 6).

use std::{
    fs::File,
    future::Future,
    io::{Read, Seek},
    pin::Pin,
};

use super::{
    Mailbox, Parts,
    file::{Fault, blocking, caller, refused},
};
use crate::cpis::types::{
    Organization,
    caller::{Caller, RequestContext},
    mesh::FileReply,
    upload::FileCode,
};

/// The answer to a Bundle.
pub struct BundleAnswer {
    pub code: FileCode,
    /// JSON.
    pub body: Vec<u8>,
}

/// The FHIR door.
pub trait Bundles: Send + Sync {
    /// Applies a Bundle; when it gives an answer, effect and audit are durable. `None` when it can't answer at the moment.
    fn answer(
        &self,
        caller: Caller,
        context: RequestContext,
        bundle: Vec<u8>,
    ) -> Pin<Box<dyn Future<Output = Option<BundleAnswer>> + Send + '_>>;
}

impl Mailbox {
    pub(super) async fn apply_bundle(
        &self,
        id: &str,
        from: &str,
        sender: Organization,
        mut file: File,
    ) -> Result<FileReply, Fault> {
        let Parts { bundles, settings, .. } = &*self.0;
        if file.metadata()?.len() > settings.max_bundle_bytes {
            let reason = "The Bundle is larger than this service takes. Send the records in several Bundles.";
            return Ok(refused(id, None, reason.to_owned()));
        }
        let bundle = blocking(move || {
            let mut bundle = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut bundle).map(|_| bundle)
        });
        let bundle = bundle.await??;
        let answer = bundles.answer(caller(sender, from), self.context(id), bundle).await.ok_or(Fault::Busy)?;
        Ok(FileReply { code: answer.code, body: Some(answer.body), ..refused(id, None, String::new()) })
    }
}
