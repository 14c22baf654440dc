//! A document as its root's children, one after the other.

use std::io::BufRead;

use quick_xml::{
    XmlVersion,
    events::{BytesRef, BytesStart, Event, attributes::Attribute},
    name::{Namespace, ResolveResult},
    reader::NsReader,
};

use super::{
    HL7, LOCALISATION,
    element::{Element, Space},
    input::{Input, InputFault},
    is_allowed,
};
use crate::hl7v3::FileFault;

/// How large the parts of a document may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one tag, text or comment.
    pub piece: usize,
    /// Bytes of one child of the root.
    pub child: u64,
    /// Elements within each other.
    pub depth: usize,
    /// Namespace declarations that hold at one place.
    pub namespaces: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { piece: 64 * 1024, child: 256 * 1024, depth: 64, namespaces: 64 }
    }
}

/// A document whose root was read.
pub struct Document<R: BufRead> {
    reader: NsReader<Input<R>>,
    buffer: Vec<u8>,
    limits: Limits,
    root: Element,
    /// The root has ended.
    closed: bool,
}

/// What the reader gives next.
enum Piece {
    Start(Element),
    /// An element without content.
    Whole(Element),
    End,
    Text(String),
    /// A comment, a processing instruction, the declaration.
    Nothing,
    EndOfFile,
}

impl<R: BufRead> Document<R> {
    /// Reads up to the root's start tag.
    ///
    /// # Errors
    /// [`FileFault`] when this is not XML, or has no root.
    pub fn open(input: R, limits: Limits) -> Result<Self, FileFault> {
        let mut reader = NsReader::from_reader(Input::new(input));
        reader.config_mut().check_comments = true;
        reader.resolver_mut().set_max_namespace_bindings(limits.namespaces);
        let root = Element {
            space: Space::Other,
            name: String::new(),
            attributes: Vec::new(),
            children: Vec::new(),
            text: String::new(),
        };
        let mut document = Self { reader, buffer: Vec::new(), limits, root, closed: false };
        loop {
            match document.piece()? {
                Piece::Start(root) => document.root = root,
                Piece::Whole(root) => {
                    document.root = root;
                    document.closed = true;
                    document.no_more()?;
                }
                Piece::Text(text) if text.trim().is_empty() => continue,
                Piece::Nothing => continue,
                Piece::EndOfFile => return Err(FileFault::new("The file is empty.")),
                Piece::Text(_) | Piece::End => return Err(document.ill_formed()),
            }
            return Ok(document);
        }
    }

    /// The root, without its children.
    pub fn root(&self) -> &Element {
        &self.root
    }

    /// The next child of the root, whole; `None` at the end.
    ///
    /// # Errors
    /// [`FileFault`]: nothing more can be read.
    pub fn next_child(&mut self) -> Result<Option<Element>, FileFault> {
        while !self.closed {
            match self.piece()? {
                Piece::Start(start) => return self.rest_of(start).map(Some),
                Piece::Whole(element) => return Ok(Some(element)),
                Piece::End => {
                    self.closed = true;
                    self.no_more()?;
                }
                Piece::Text(_) | Piece::Nothing => {}
                Piece::EndOfFile => return Err(self.ill_formed()),
            }
        }
        Ok(None)
    }

    /// Bytes that are held at one time; for the proof that it doesn't grow.
    #[cfg(test)]
    pub fn capacity(&mut self) -> usize {
        self.buffer.capacity() + self.reader.get_mut().capacity()
    }

    fn rest_of(&mut self, start: Element) -> Result<Element, FileFault> {
        let from = self.reader.buffer_position();
        let (mut element, mut around) = (start, Vec::new());
        loop {
            if self.reader.buffer_position() - from > self.limits.child {
                return Err(FileFault::new("A record of the file is too large."));
            }
            match self.piece()? {
                // The root and the element itself are around it too.
                Piece::Start(_) if around.len() + 3 > self.limits.depth => {
                    return Err(FileFault::new("The elements of the file lie too deep within each other."));
                }
                Piece::Start(child) => around.push(std::mem::replace(&mut element, child)),
                Piece::Whole(child) => element.children.push(child),
                Piece::Text(text) => element.text.push_str(&text),
                Piece::Nothing => {}
                Piece::End => match around.pop() {
                    None => return Ok(element),
                    Some(parent) => {
                        let child = std::mem::replace(&mut element, parent);
                        element.children.push(child);
                    }
                },
                Piece::EndOfFile => return Err(self.ill_formed()),
            }
        }
    }

    /// After the root there may only be comments and the like.
    fn no_more(&mut self) -> Result<(), FileFault> {
        loop {
            match self.piece()? {
                Piece::EndOfFile => return Ok(()),
                Piece::Nothing => {}
                Piece::Text(text) if text.trim().is_empty() => {}
                _ => return Err(self.ill_formed()),
            }
        }
    }

    fn piece(&mut self) -> Result<Piece, FileFault> {
        self.buffer.clear();
        self.reader.get_mut().allow(self.limits.piece);
        let at = self.reader.buffer_position();
        let ill_formed = || ill_formed(at);
        let (resolved, event) = match self.reader.read_resolved_event_into(&mut self.buffer) {
            Ok(read) => read,
            Err(error) => return Err(fault_of(&error, at)),
        };
        Ok(match event {
            Event::Start(start) => Piece::Start(element(&resolved, &start).ok_or_else(ill_formed)?),
            Event::Empty(start) => Piece::Whole(element(&resolved, &start).ok_or_else(ill_formed)?),
            Event::End(_) => Piece::End,
            Event::Text(text) => Piece::Text(allowed(text.xml10_content().into_owned()).ok_or_else(ill_formed)?),
            Event::CData(text) => Piece::Text(allowed(text.xml10_content().into_owned()).ok_or_else(ill_formed)?),
            Event::GeneralRef(reference) => Piece::Text(character(&reference).ok_or_else(unknown_entity)?),
            Event::DocType(_) => {
                return Err(FileFault::new("The file has a DOCTYPE, which is never read. Send it without one."));
            }
            Event::Decl(_) if at > 0 => return Err(ill_formed()),
            Event::Comment(_) | Event::PI(_) | Event::Decl(_) => Piece::Nothing,
            Event::Eof => Piece::EndOfFile,
        })
    }

    fn ill_formed(&self) -> FileFault {
        ill_formed(self.reader.buffer_position())
    }
}

fn ill_formed(at: u64) -> FileFault {
    FileFault::new(format!("The file is not well-formed XML, near byte {}.", at.saturating_add(1)))
}

fn unknown_entity() -> FileFault {
    FileFault::new("The file refers to an entity that XML doesn't know. Write the character itself.")
}

fn fault_of(error: &quick_xml::Error, at: u64) -> FileFault {
    match error {
        quick_xml::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<InputFault>()) {
            Some(fault) => FileFault::new(fault.0),
            None => FileFault { interrupted: true, ..FileFault::new("The file could not be read to its end.") },
        },
        quick_xml::Error::Encoding(_) => {
            FileFault::new("The file holds bytes that don't belong to its encoding. Send it as UTF-8.")
        }
        _ => ill_formed(at),
    }
}

fn element(resolved: &ResolveResult<'_>, start: &BytesStart<'_>) -> Option<Element> {
    let space = match resolved {
        ResolveResult::Bound(Namespace(HL7)) => Space::Hl7,
        ResolveResult::Bound(Namespace(LOCALISATION)) => Space::Localisation,
        ResolveResult::Unknown(_) => return None,
        ResolveResult::Bound(_) | ResolveResult::Unbound => Space::Other,
    };
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.ok()?;
        let value = value(&attribute)?;
        if attribute.key.prefix().is_none() && attribute.key.as_namespace_binding().is_none() {
            attributes.push((attribute.key.as_ref().to_owned(), value));
        }
    }
    let name = start.local_name().as_ref().to_owned();
    Some(Element { space, name, attributes, children: Vec::new(), text: String::new() })
}

fn value(attribute: &Attribute<'_>) -> Option<String> {
    let value = attribute.normalized_value(XmlVersion::Implicit1_0).ok()?;
    if attribute.value.contains('<') { None } else { allowed(value.into_owned()) }
}

fn allowed(text: String) -> Option<String> {
    text.chars().all(is_allowed).then_some(text)
}

/// A character reference, or one of the five entities of XML itself.
fn character(reference: &BytesRef<'_>) -> Option<String> {
    let character = match reference.as_ref() {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        _ => reference.resolve_char_ref().ok().flatten()?,
    };
    is_allowed(character).then(|| character.to_string())
}
