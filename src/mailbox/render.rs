//! The content of a message to an authority, written to an unnamed file from what is stored, the same each time but for
//! what has changed there.

use std::{
    fs::File,
    io::{self, BufWriter, Seek, Write},
};

use super::MailboxSettings;
use crate::{
    cpis::{
        Error, Gateway,
        types::mesh::{FileReply, MeshContent, MeshReady},
    },
    hl7v3::{
        access_notification::{self, Envelope},
        acknowledgement::{Acknowledgement, AcknowledgementWriter, RefusedRecord},
        inactive_number::{self, InactiveNumber},
    },
};

/// Refused records that are read at one time.
const AT_ONCE: usize = 500;

/// A message's content, ready to be read from its beginning.
pub(super) struct Body {
    pub file: File,
    pub length: u64,
    pub content_type: &'static str,
    /// Of the name under which it is sent.
    pub extension: &'static str,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Store(#[from] Error),
    #[error("its content can't be written to the data directory")]
    Local(#[from] io::Error),
}

/// Writes a message's content.
///
/// # Errors
/// [`Fault`].
pub(super) async fn body(gateway: &Gateway, settings: &MailboxSettings, ready: &MeshReady) -> Result<Body, Fault> {
    let out = BufWriter::new(tempfile::tempfile_in(&settings.data_dir)?);
    let (authority, zone) = (&ready.authority, gateway.calendar.zone());
    let envelope = |file_number| Envelope {
        id: ready.message.id,
        created: ready.message.created,
        zone,
        authority: &authority.ods,
        authority_name: Some(&authority.name),
        file_number,
    };
    let (mut content_type, mut extension) = ("application/xml", "xml");
    let written = match &ready.content {
        MeshContent::Acknowledgement(FileReply { body: Some(bundle), .. }) => {
            (content_type, extension) = ("application/fhir+json", "json");
            let mut out = out;
            out.write_all(bundle)?;
            out
        }
        MeshContent::Acknowledgement(reply) => acknowledgement(gateway, ready, reply, out).await?,
        MeshContent::Accesses { accesses, file_number } => {
            access_notification::write(out, &envelope(*file_number), accesses)?
        }
        MeshContent::InactiveNumber { nhs_number, replaced_by, file_number } => {
            let told = InactiveNumber { nhs_number: *nhs_number, replaced_by: *replaced_by };
            inactive_number::write(out, &envelope(*file_number), &[told])?
        }
    };
    let mut file = written.into_inner().map_err(io::IntoInnerError::into_error)?;
    let length = file.stream_position()?;
    file.rewind()?;
    Ok(Body { file, length, content_type, extension })
}

async fn acknowledgement(
    gateway: &Gateway,
    ready: &MeshReady,
    reply: &FileReply,
    out: BufWriter<File>,
) -> Result<BufWriter<File>, Fault> {
    let told = Acknowledgement {
        created: ready.message.created,
        zone: gateway.calendar.zone(),
        number: reply.number,
        records: reply.records,
        code: reply.code,
        reason: reply.reason.as_deref(),
        authority: &ready.authority.ods,
        authority_name: Some(&ready.authority.name),
        refused: reply.refused,
        detail_codes: None,
    };
    let mut writer = AcknowledgementWriter::begin(out, &told)?;
    let (mut after, mut left) = (None, reply.refused);
    while let (Some(upload), 1..) = (reply.upload, left) {
        let records = gateway.refused_records(upload, after, AT_ONCE).await?;
        let Some(last) = records.last() else { break };
        after = Some(last.position);
        left = left.saturating_sub(records.len());
        for record in &records {
            writer.refused(&RefusedRecord {
                position: record.position,
                nhs_number: record.nhs_number,
                code: record.code,
                problems: &record.problems,
            })?;
        }
    }
    Ok(writer.finish()?)
}
