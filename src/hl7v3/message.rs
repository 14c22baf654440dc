//! A message to an authority, whichever it is: told by its root element.

use std::io::BufRead;

use super::{
    FileFault, access_notification, acknowledgement, inactive_number,
    xml::{Document, Limits},
};

/// A message to an authority as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Acknowledgement(acknowledgement::ReadAcknowledgement),
    Access(access_notification::ReadNotification),
    InactiveNumber(inactive_number::ReadNotification),
}

/// Reads a message; unknown elements don't matter.
///
/// # Errors
/// [`FileFault`] when it can't be read, or is none of these.
pub fn read(input: impl BufRead) -> Result<Message, FileFault> {
    let mut document = Document::open(input, Limits::default())?;
    let root = document.root();
    let mut message = if root.is(acknowledgement::ROOT) {
        Message::Acknowledgement(acknowledgement::ReadAcknowledgement::default())
    } else if root.is(access_notification::ROOT) {
        Message::Access(access_notification::ReadNotification::default())
    } else if root.is(inactive_number::ROOT) {
        Message::InactiveNumber(inactive_number::ReadNotification::default())
    } else {
        return Err(FileFault::new("The root element is none of a message to an authority."));
    };
    while let Some(child) = document.next_child()? {
        match &mut message {
            Message::Acknowledgement(read) => read.take(&child),
            Message::Access(read) => read.take(&child)?,
            Message::InactiveNumber(read) => read.take(&child)?,
        }
    }
    match &message {
        Message::Acknowledgement(read) if read.code.is_empty() => {
            Err(FileFault::new("The acknowledgement has no code for the file."))
        }
        _ => Ok(message),
    }
}
