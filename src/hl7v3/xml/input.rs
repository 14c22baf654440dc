//! The bytes of a file as UTF-8: a byte order mark or the declaration says what they are. Of one piece of markup no more is
//! handed out than is allowed, so that no buffer behind it grows.

use std::io::{self, BufRead, Read};

/// A fault of the file that is found while its bytes are read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InputFault(pub &'static str);

fn fault(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, InputFault(reason))
}

const ENCODING: &str = "The file's encoding isn't known here. Send it as UTF-8.";
const BAD_BYTES: &str = "The file holds bytes that don't belong to its encoding. Send it as UTF-8.";
const BAD_CHARACTER: &str = "The file holds control characters, which XML doesn't allow.";
const TOO_LONG: &str = "A tag, a text or a comment of the file is too long.";

/// Bytes taken from the file at a time.
const CHUNK: usize = 8 * 1024;
/// Within so many bytes the XML declaration ends.
const LONGEST_DECLARATION: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Utf8,
    Utf16 {
        big_endian: bool,
    },
    /// Also for ISO-8859-1, as everybody reads it.
    Windows1252,
}

/// A file whose bytes become UTF-8 as they are read.
pub struct Input<R> {
    inner: R,
    encoding: Option<Encoding>,
    /// Read to find out the encoding, not decoded yet.
    head: Vec<u8>,
    /// Bytes of a character that goes on in the next chunk (UTF-16).
    carry: Vec<u8>,
    decoded: Vec<u8>,
    at: usize,
    allowed: usize,
}

impl<R: BufRead> Input<R> {
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            encoding: None,
            head: Vec::new(),
            carry: Vec::new(),
            decoded: Vec::new(),
            at: 0,
            allowed: usize::MAX,
        }
    }

    /// So many bytes may be read until this is called again.
    pub fn allow(&mut self, bytes: usize) {
        self.allowed = bytes;
    }

    /// Bytes that are held at most at one time; for the proof that it doesn't grow.
    #[cfg(test)]
    pub fn capacity(&self) -> usize {
        self.head.capacity() + self.carry.capacity() + self.decoded.capacity()
    }

    /// The next raw bytes, at most [`CHUNK`]; empty at the end.
    fn raw(&mut self) -> io::Result<Vec<u8>> {
        if !self.head.is_empty() {
            return Ok(std::mem::take(&mut self.head));
        }
        loop {
            match self.inner.fill_buf() {
                Ok(available) => {
                    let taken = available.get(..CHUNK).unwrap_or(available).to_vec();
                    self.inner.consume(taken.len());
                    return Ok(taken);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads as far as the encoding shows: a byte order mark, or the end of the XML declaration.
    fn find_encoding(&mut self) -> io::Result<Encoding> {
        let mut head = Vec::new();
        loop {
            let undecided = head.len() < b"<?xml".len()
                || (head.starts_with(b"<?xml") && !head.contains(&b'>') && head.len() < LONGEST_DECLARATION);
            let more = if undecided { self.raw()? } else { Vec::new() };
            if more.is_empty() {
                break;
            }
            head.extend(more);
        }
        let (encoding, mark) = match head.as_slice() {
            [0xEF, 0xBB, 0xBF, ..] => (Encoding::Utf8, 3),
            [0xFE, 0xFF, ..] => (Encoding::Utf16 { big_endian: true }, 2),
            [0xFF, 0xFE, ..] => (Encoding::Utf16 { big_endian: false }, 2),
            [0, b'<', 0, b'?', ..] => (Encoding::Utf16 { big_endian: true }, 0),
            [b'<', 0, b'?', 0, ..] => (Encoding::Utf16 { big_endian: false }, 0),
            declared => (declared_encoding(declared).ok_or_else(|| fault(ENCODING))?, 0),
        };
        head.drain(..mark);
        self.head = head;
        Ok(encoding)
    }

    fn decode(&mut self, raw: &[u8], encoding: Encoding) -> io::Result<()> {
        match encoding {
            Encoding::Utf8 => self.decoded.extend_from_slice(raw),
            Encoding::Windows1252 => {
                let mut sign = [0; 4];
                for byte in raw {
                    let character = windows_1252(*byte).ok_or_else(|| fault(BAD_BYTES))?;
                    self.decoded.extend_from_slice(character.encode_utf8(&mut sign).as_bytes());
                }
            }
            Encoding::Utf16 { big_endian } => {
                self.carry.extend_from_slice(raw);
                let units: Vec<u16> = self
                    .carry
                    .chunks_exact(2)
                    .filter_map(|pair| pair.try_into().ok())
                    .map(|pair| if big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
                    .collect();
                // The first half of a pair waits for the second.
                let halved = units.last().is_some_and(|unit| (0xD800..0xDC00).contains(unit));
                let whole = units.len() - usize::from(halved);
                self.carry.drain(..whole * 2);
                let mut sign = [0; 4];
                for character in char::decode_utf16(units.into_iter().take(whole)) {
                    let character = character.map_err(|_| fault(BAD_BYTES))?;
                    self.decoded.extend_from_slice(character.encode_utf8(&mut sign).as_bytes());
                }
            }
        }
        Ok(())
    }
}

/// What the XML declaration says; UTF-8 without one.
fn declared_encoding(head: &[u8]) -> Option<Encoding> {
    let declaration = head.strip_prefix(b"<?xml").and_then(|rest| rest.split(|b| *b == b'>').next());
    let Some(declaration) = declaration else { return Some(Encoding::Utf8) };
    let declaration = String::from_utf8_lossy(declaration).to_ascii_lowercase();
    let Some((_, value)) = declaration.split_once("encoding") else { return Some(Encoding::Utf8) };
    let name = value.split(['"', '\'']).nth(1)?;
    match name {
        "utf-8" | "utf8" | "us-ascii" | "ascii" => Some(Encoding::Utf8),
        "iso-8859-1" | "latin1" | "windows-1252" | "cp1252" => Some(Encoding::Windows1252),
        _ => None,
    }
}

fn windows_1252(byte: u8) -> Option<char> {
    const HIGH: [char; 32] = [
        '€', '\0', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\0', 'Ž', '\0', '\0', '‘', '’', '“', '”',
        '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\0', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9F => HIGH.get(usize::from(byte - 0x80)).copied().filter(|c| *c != '\0'),
        _ => Some(char::from(byte)),
    }
}

impl<R: BufRead> BufRead for Input<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.decoded.len() {
            self.decoded.clear();
            self.at = 0;
            let encoding = match self.encoding {
                Some(encoding) => encoding,
                None => {
                    let found = self.find_encoding()?;
                    *self.encoding.insert(found)
                }
            };
            while self.decoded.is_empty() {
                let raw = self.raw()?;
                if raw.is_empty() {
                    return if self.carry.is_empty() { Ok(&[]) } else { Err(fault(BAD_BYTES)) };
                }
                self.decode(&raw, encoding)?;
            }
            if self.decoded.iter().any(|byte| *byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r')) {
                return Err(fault(BAD_CHARACTER));
            }
        }
        let available = self.decoded.get(self.at..).unwrap_or_default();
        if self.allowed == 0 {
            return Err(fault(TOO_LONG));
        }
        Ok(available.get(..self.allowed).unwrap_or(available))
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount;
        self.allowed = self.allowed.saturating_sub(amount);
    }
}

impl<R: BufRead> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(available) {
            *to = *from;
        }
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn read(bytes: &[u8], step: usize) -> Result<String, String> {
        let mut text = String::new();
        let mut input = Input::new(BufReader::with_capacity(step, bytes));
        input.read_to_string(&mut text).map(|_| text).map_err(|error| error.to_string())
    }

    fn utf16(text: &str, big_endian: bool) -> Vec<u8> {
        let bytes = |unit: u16| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() };
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn every_encoding_becomes_utf_8_in_steps_of_any_size() {
        let text = "<?xml version='1.0'?><n>Zoë 🦉 €</n>";
        for step in [1, 2, 3, 7, 64, 4096] {
            assert_eq!(read(text.as_bytes(), step).as_deref(), Ok(text));
            assert_eq!(read(&[b"\xEF\xBB\xBF", text.as_bytes()].concat(), step).as_deref(), Ok(text));
            for big_endian in [true, false] {
                let mark: &[u8] = if big_endian { b"\xFE\xFF" } else { b"\xFF\xFE" };
                assert_eq!(read(&[mark, &utf16(text, big_endian)].concat(), step).as_deref(), Ok(text));
                assert_eq!(read(&utf16(text, big_endian), step).as_deref(), Ok(text));
            }
            let latin = b"<?xml version=\"1.0\"  encoding=\"ISO-8859-1\" standalone=\"yes\"?><n>Zo\xEB \x80</n>";
            assert!(read(latin, step).unwrap().ends_with("<n>Zoë €</n>"));
        }
        assert_eq!(read(b"", 8).as_deref(), Ok(""));
        assert_eq!(read(b"<a", 8).as_deref(), Ok("<a"));
    }

    #[test]
    fn what_does_not_fit_the_encoding_is_refused() {
        assert_eq!(read(b"<?xml version=\"1.0\" encoding=\"EBCDIC\"?>", 8).unwrap_err(), ENCODING);
        assert_eq!(read(b"<?xml version=\"1.0\" encoding=\"UTF-16\"?><a/>", 8).unwrap_err(), ENCODING);
        assert_eq!(read(b"\xFF\xFE<\0a\0>", 8).unwrap_err(), BAD_BYTES);
        assert_eq!(read(b"\xFE\xFF\xD8\x00\x00<", 8).unwrap_err(), BAD_BYTES);
        assert_eq!(read(b"<?xml version='1.0' encoding='windows-1252'?>\x81", 8).unwrap_err(), BAD_BYTES);
        assert_eq!(read(b"<a>\0</a>", 8).unwrap_err(), BAD_CHARACTER);
    }

    #[test]
    fn no_more_than_allowed_is_handed_out() {
        let mut input = Input::new(&b"0123456789"[..]);
        input.allow(10);
        let mut text = String::new();
        assert!(input.read_to_string(&mut text).is_ok());
        let mut input = Input::new(&b"0123456789"[..]);
        input.allow(9);
        assert_eq!(input.read_to_string(&mut text).unwrap_err().to_string(), TOO_LONG);
    }
}
