//! Writes XML, indented, element by element, without keeping any of it.

use std::io::{self, Write};

use super::{HL7, LOCALISATION, is_allowed};

/// Writes one document. Names are ours and are written as they are; values are escaped.
pub struct Writer<W: Write> {
    out: W,
    open: Vec<&'static str>,
}

impl<W: Write> Writer<W> {
    /// Begins a document with this root, in the namespace of HL7 v3.
    ///
    /// # Errors
    /// Of `out`; so all others.
    pub fn begin(mut out: W, root: &'static str) -> io::Result<Self> {
        out.write_all(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n")?;
        let mut writer = Self { out, open: Vec::new() };
        writer.open(root, &[("xmlns", HL7), ("xmlns:npfitlc", LOCALISATION)])?;
        Ok(writer)
    }

    pub fn open(&mut self, name: &'static str, attributes: &[(&str, &str)]) -> io::Result<()> {
        self.tag(name, attributes, ">\n")?;
        self.open.push(name);
        Ok(())
    }

    pub fn close(&mut self) -> io::Result<()> {
        let Some(name) = self.open.pop() else { return Ok(()) };
        self.indent()?;
        writeln!(self.out, "</{name}>")
    }

    /// Opens all, writes what `content` does, and closes all.
    pub fn within(
        &mut self,
        names: &[&'static str],
        content: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        for name in names {
            self.open(name, &[])?;
        }
        content(self)?;
        names.iter().try_for_each(|_| self.close())
    }

    pub fn empty(&mut self, name: &'static str, attributes: &[(&str, &str)]) -> io::Result<()> {
        self.tag(name, attributes, "/>\n")
    }

    /// An element whose only attribute is `value`.
    pub fn value(&mut self, name: &'static str, value: &str) -> io::Result<()> {
        self.empty(name, &[("value", value)])
    }

    /// An `id`.
    pub fn id(&mut self, root: &str, extension: &str) -> io::Result<()> {
        self.empty("id", &[("root", root), ("extension", extension)])
    }

    pub fn text(&mut self, name: &'static str, text: &str) -> io::Result<()> {
        self.tag(name, &[], ">")?;
        self.escaped(text)?;
        writeln!(self.out, "</{name}>")
    }

    /// Closes everything.
    pub fn finish(mut self) -> io::Result<W> {
        while !self.open.is_empty() {
            self.close()?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn tag(&mut self, name: &str, attributes: &[(&str, &str)], end: &str) -> io::Result<()> {
        self.indent()?;
        write!(self.out, "<{name}")?;
        for (name, value) in attributes {
            write!(self.out, " {name}=\"")?;
            self.escaped(value)?;
            self.out.write_all(b"\"")?;
        }
        self.out.write_all(end.as_bytes())
    }

    fn indent(&mut self) -> io::Result<()> {
        (0..self.open.len()).try_for_each(|_| self.out.write_all(b"  "))
    }

    /// White space keeps its kind; what XML doesn't allow becomes a replacement character.
    fn escaped(&mut self, text: &str) -> io::Result<()> {
        let mut sign = [0; 4];
        text.chars().try_for_each(|character| match character {
            '&' => self.out.write_all(b"&amp;"),
            '<' => self.out.write_all(b"&lt;"),
            '>' => self.out.write_all(b"&gt;"),
            '"' => self.out.write_all(b"&quot;"),
            '\t' => self.out.write_all(b"&#9;"),
            '\n' => self.out.write_all(b"&#10;"),
            '\r' => self.out.write_all(b"&#13;"),
            other if is_allowed(other) => self.out.write_all(other.encode_utf8(&mut sign).as_bytes()),
            _ => self.out.write_all("\u{FFFD}".as_bytes()),
        })
    }
}
