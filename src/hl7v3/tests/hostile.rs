//! Files that are broken, too large, or made to do harm: a reason that can be read, and no memory that grows.

use std::io::{self, BufReader, Read};

use super::*;

#[test]
fn a_broken_envelope_is_a_fault_of_the_file() {
    let good = file_of(&[record(&[CHILD, CPP])]);
    assert!(read(&good).is_ok());
    let number = Some(418);
    for (file, word, number) in [
        (String::new(), "empty", None),
        ("<!-- nothing -->".to_owned(), "empty", None),
        ("nhs_number,family\n".to_owned(), "well-formed", None),
        (good.replace("urn:hl7-org:v3", "urn:hl7-org:v2"), "namespace", None),
        (good.replace("<File", "<Datei").replace("</File", "</Datei"), "root", None),
        (good.replace("<id extension='418'/>", ""), "number", None),
        (good.replace("'418'", "'4x8'"), "number", None),
        (good.replace("'418'", "'-1'"), "number", None),
        (good.replace("'418'", "'99999999999999999999'"), "number", None),
        (good.replace("<transmissionQuantity value='1'/>", ""), "transmissionQuantity", number),
        (
            good.replace("<transmissionQuantity value='1'", "<transmissionQuantity value='0'"),
            "transmissionQuantity",
            number,
        ),
        (
            good.replace("<transmissionQuantity value='1'", "<transmissionQuantity value='2'"),
            "number of records",
            number,
        ),
        (good.replace("<record>", &format!("{}<record>", record(&[CHILD, CPP]))), "number of records", number),
        (good.replace("<id extension='Z9A'/>", "<id extension='z9a'/>"), "ODS", number),
        (good.replace("<id extension='Z9A'/>", ""), "ODS", number),
        (good.replace("</record>", "</record><id extension='9'/>"), "before", number),
        (good.replace("<record>", "<id extension='9'/><record>"), "twice", number),
        (good.replace("</record>", "</record><x xmlns='urn:x'/>"), "namespace", number),
        (good.replace("<record>", "<record xmlns='urn:x'>"), "namespace", number),
        (good.replace("</record>", ""), "well-formed", number),
        (good.replace("</File>", ""), "well-formed", number),
        (good.replace("</File>", "</File><File/>"), "well-formed", number),
        (good.replace("</File>", "</File>more"), "well-formed", number),
        (good.replace("<record>", "<p:record>").replace("</record>", "</p:record>"), "well-formed", number),
        (good.replace("<record>", "<record a='1' a='2'>"), "well-formed", number),
        (good.replace("Robin", "&robin;"), "entity", number),
        (good.replace("Robin", "&#1;"), "entity", number),
        (good.replace("Robin", "\u{1}"), "control", None),
        (good.replace("Robin", "\u{FFFF}"), "well-formed", number),
        (good.replace("'20170511'", "'&date;'"), "well-formed", number),
        (good.replace("<record>", "<?xml version='1.0'?><record>"), "well-formed", number),
    ] {
        let fault = fault(&file);
        assert!(fault.reason.contains(word), "{}: {file}", fault.reason);
        assert!(!fault.interrupted);
        if fault.number.is_none() && number.is_some() {
            panic!("{} lost its number: {file}", fault.reason);
        }
        assert!(!fault.reason.contains("Robin") && !fault.reason.contains("9990000018"), "{}", fault.reason);
    }
}

#[test]
fn all_that_is_missing_in_the_header_is_told_at_once() {
    let fault = fault("<File xmlns='urn:hl7-org:v3'/>");
    for word in ["number of the file", "number of records", "ODS", "no record"] {
        assert!(fault.reason.contains(word), "{}", fault.reason);
    }
}

#[test]
fn no_document_type_is_read_and_no_entity_is_resolved() {
    let good = file_of(&[record(&[CHILD, CPP])]);
    let bomb = "<!DOCTYPE File [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>]>";
    for prologue in [
        bomb,
        "<!DOCTYPE File SYSTEM 'file:///etc/passwd'>",
        "<!DOCTYPE File [<!ENTITY robin SYSTEM 'http://127.0.0.1:9/x'>]>",
        "<!DOCTYPE File>",
    ] {
        let fault = fault(format!("{prologue}{}", good.replace("Robin", "&b;&robin;")));
        assert!(fault.reason.contains("DOCTYPE"), "{}", fault.reason);
    }
}

#[test]
fn every_part_is_bounded() {
    let good = file_of(&[record(&[CHILD, CPP])]);
    let long = "x".repeat(70_000);
    for file in [
        good.replace("Robin", &long),
        good.replace("<record>", &format!("<record a='{long}'>")),
        good.replace("<record>", &format!("<!-- {long} --><record>")),
        good.replace("<record>", &format!("<{long}/><record>")),
        good.replace("Robin", &format!("<![CDATA[{long}]]>")),
        format!("<{long}"),
        format!("<?xml {long}"),
    ] {
        assert!(fault(&file).reason.contains("too long"), "{}", fault(&file).reason);
    }
    let deep = format!("{}{}", "<a>".repeat(100), "</a>".repeat(100));
    assert!(fault(good.replace("<record>", &format!("<record>{deep}"))).reason.contains("too deep"));
    let wide = "<a><b/></a>".repeat(40_000);
    assert!(fault(good.replace("<record>", &format!("<record>{wide}"))).reason.contains("too large"));
    let declarations: String = (0..200).map(|n| format!(" xmlns:p{n}='urn:x'")).collect();
    assert!(fault(good.replace("<record>", &format!("<record{declarations}>"))).reason.contains("well-formed"));
}

#[test]
fn a_reader_that_fails_says_nothing_of_the_file() {
    struct Failing<'a>(&'a [u8]);
    impl Read for Failing<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() { Err(io::Error::other("the disk is gone")) } else { self.0.read(buffer) }
        }
    }
    let good = file_of(&[record(&[CHILD, CPP])]);
    let half = &good.as_bytes()[..good.len() - 200];
    let file = UploadFile::open(BufReader::new(Failing(half)));
    let fault = file.and_then(|file| file.collect::<Result<Vec<_>, _>>()).unwrap_err();
    assert!(fault.interrupted && !fault.reason.contains("disk"));
}

/// A file that comes into being while it is read.
struct Endless {
    ready: Vec<u8>,
    at: usize,
    next: u32,
    records: u32,
}

impl Endless {
    fn of(records: u32) -> Self {
        let head = file_of(&[]).replace("value='0'", &format!("value='{records}'")).replace("</File>", "");
        Self { ready: head.into_bytes(), at: 0, next: 0, records }
    }
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.ready.len() {
            self.at = 0;
            self.ready = match self.next {
                next if next < self.records => record(&[CHILD, CPP]).into_bytes(),
                next if next == self.records => b"</File>".to_vec(),
                _ => Vec::new(),
            };
            self.next += 1;
        }
        let count = (&self.ready[self.at..]).read(buffer)?;
        self.at += count;
        Ok(count)
    }
}

#[test]
fn memory_does_not_grow_with_the_file() {
    const RECORDS: u32 = 50_000;
    let mut file = UploadFile::open(BufReader::new(Endless::of(RECORDS))).unwrap();
    let (mut records, mut most) = (0, 0);
    while let Some(read) = file.next() {
        assert!(matches!(read, Ok(ReadRecord::Change(_))));
        records += 1;
        most = most.max(file.capacity());
    }
    // All that outlives a record: what was read ahead, and one piece of markup.
    assert!(records == RECORDS && most < 100_000, "{records} records, {most} bytes");
}

#[test]
fn text_without_end_is_refused_before_it_is_read() {
    struct Zeros(u64);
    impl Read for Zeros {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(b'x');
            self.0 += buffer.len() as u64;
            assert!(self.0 < 1_000_000, "read on");
            Ok(buffer.len())
        }
    }
    let begun = &b"<File xmlns='urn:hl7-org:v3'><id extension='1'/><creationTime value='"[..];
    let fault = UploadFile::open(BufReader::new(begun.chain(Zeros(0)))).err().unwrap();
    assert!(fault.reason.contains("too long") && fault.number == Some(1), "{fault}");
}
