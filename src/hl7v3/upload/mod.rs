//! The upload of a local authority, `File` (`REPC_MT000002GB01`; domain.md 1.7 and 2): read record by record, and written.
//!
//! The envelope is strict (what is wrong with it is a [`FileFault`], CPF01), a record is judged by itself: what can't be
//! read of it makes it an [`UnreadableRecord`] with every problem at once. Where the schemas are not known, wrappers, order
//! and fixed attributes don't matter; a template, a date or a number that can't be read always does, so that nothing of a
//! record is dropped in silence.
//!
//! The authority's own details (name, telephone numbers) are those of the file's sender. Details that can't be read refuse
//! no record and no file: those on file stay, and [`FileHeader::organization_fault`] says why.

mod header;
mod location;
mod record;
mod template;
mod writer;

use std::io::BufRead;

use super::{
    FileFault,
    xml::{Document, Element, Limits},
};
use crate::cpis::types::upload::ReadRecord;
#[cfg(doc)]
use crate::cpis::types::upload::UnreadableRecord;

pub use header::FileHeader;
pub use location::location;
pub use writer::{FileWriter, WrittenFile};

/// The root element of an upload.
pub(super) const ROOT: &str = "File";

/// An upload whose header was read; its records come one by one, in the order of the file.
///
/// After the last record the count is compared with what the header said; a fault anywhere is the last item.
pub struct UploadFile<R: BufRead> {
    document: Document<R>,
    header: FileHeader,
    /// The first record, which ended the header.
    first: Option<Element>,
    seen: usize,
    done: bool,
}

impl<R: BufRead> UploadFile<R> {
    /// Reads the header: everything before the first record.
    ///
    /// # Errors
    /// [`FileFault`] when it isn't an upload, or the header lacks number, count or sender.
    pub fn open(input: R) -> Result<Self, FileFault> {
        Self::open_within(input, Limits::default())
    }

    fn open_within(input: R, limits: Limits) -> Result<Self, FileFault> {
        let mut document = Document::open(input, limits)?;
        if !document.root().is(ROOT) {
            return Err(FileFault::new("The root element must be File in the namespace urn:hl7-org:v3."));
        }
        let (header, first) = header::read(&mut document)?;
        Ok(Self { document, header, first, seen: 0, done: false })
    }

    pub fn header(&self) -> &FileHeader {
        &self.header
    }

    fn next_record(&mut self) -> Result<Option<ReadRecord>, FileFault> {
        loop {
            let child = match self.first.take() {
                Some(first) => Some(first),
                None => self.document.next_child()?,
            };
            let Some(child) = child else { break };
            if child.is("record") {
                self.seen += 1;
                if self.seen > self.header.records {
                    return Err(FileFault::new(OTHER_COUNT));
                }
                return Ok(Some(record::read(&child, &self.header)));
            }
            header::judge_among_records(&child)?;
        }
        if self.seen == self.header.records { Ok(None) } else { Err(FileFault::new(OTHER_COUNT)) }
    }

    /// Bytes that are held at one time, beside the record itself.
    #[cfg(test)]
    pub fn capacity(&mut self) -> usize {
        self.document.capacity()
    }
}

const OTHER_COUNT: &str =
    "The file has another number of records than transmissionQuantity says. Send the whole file again.";

impl<R: BufRead> Iterator for UploadFile<R> {
    type Item = Result<ReadRecord, FileFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.next_record().map_err(|fault| FileFault { number: Some(self.header.number), ..fault });
        self.done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}
