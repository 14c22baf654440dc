//! `cpis-gateway register`: loads a file into the local register of demographics, with what it means for stored numbers, and
//! shows an entry. NHS numbers never stand on the command line.

mod file;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Seek, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use chrono::NaiveDate;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{FAILED, Layers, USAGE, counted, is_number, print, refuse_number, start_logging};
use crate::{
    app,
    clock::Clock,
    cpis::{
        Gateway,
        calendar::Calendar,
        types::{NhsNumber, child::RegisterEntry},
    },
};
use file::{Faults, Lines};

/// Entries of one transaction (design 6).
const AT_ONCE: usize = 64;

#[derive(Subcommand)]
pub enum Register {
    /// Add or replace entries from a CSV file: `nhs_number,family,given,birth_date,status,replaced_by,deceased`. Entries that
    /// it doesn't name stay.
    Load(Load),
    /// Show what the register holds of a number, which is typed at a prompt or read from standard input, alone. Audited.
    Show(Show),
}

#[derive(Args)]
pub struct Load {
    /// The CSV file; - for standard input.
    file: PathBuf,
    /// Write the lines that are good, though others are not.
    #[arg(long)]
    valid_only: bool,
    /// Print counts and faults as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    layers: Layers,
}

#[derive(Args)]
pub struct Show {
    /// For machines.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    layers: Layers,
}

impl Register {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Load(load) => load.run(),
            Self::Show(show) => show.run(),
        }
    }
}

/// What a file came to.
#[derive(Default)]
struct Loaded {
    /// Good lines.
    good: u64,
    written: u64,
    /// Entries that said something new of a stored number.
    changed: usize,
    faults: Faults,
    /// Lines that could not be read, after one of the faults.
    unread: u64,
}

impl Load {
    fn run(self) -> anyhow::Result<ExitCode> {
        if self.file.to_str().is_some_and(is_number) {
            return Ok(refuse_number());
        }
        let settings = self.layers.settings()?;
        start_logging(&settings)?;
        let mut file = opened(&self.file)?;
        let clock = Clock::system();
        let today = Calendar::new(settings.zone).day_of(clock.now());
        let mut loaded = checked(&mut file, today)?;
        if loaded.faults.lines == 0 || (self.valid_only && loaded.unread == 0) {
            let gateway = app::open_existing(&settings, &clock, &app::process_name())?;
            let written = write(&gateway, &mut file, today, &mut loaded);
            gateway.store.close(None);
            written.context("not all entries were written: load the file again")?;
        }
        print(&loaded.told(self.json))?;
        Ok(if loaded.faults.lines == 0 { ExitCode::SUCCESS } else { ExitCode::from(USAGE) })
    }
}

/// The file, to be read twice; what comes by standard input is put aside for that, in a file without a name.
fn opened(path: &Path) -> anyhow::Result<File> {
    if path != Path::new("-") {
        return File::open(path).with_context(|| format!("{} can't be read", path.display()));
    }
    let mut aside = tempfile::tempfile().context("standard input can't be put aside")?;
    io::copy(&mut io::stdin().lock(), &mut aside).context("standard input can't be put aside")?;
    Ok(aside)
}

fn bar(file: &File, doing: &str) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::new(file.metadata().map_or(0, |metadata| metadata.len()));
    bar.set_style(ProgressStyle::with_template(&format!("{doing} {{bar:40}} {{percent}} % {{msg}} {{eta}}"))?);
    Ok(bar)
}

/// Reads the whole file and writes nothing.
fn checked(file: &mut File, today: NaiveDate) -> anyhow::Result<Loaded> {
    let bar = bar(file, "Checking")?;
    file.rewind()?;
    let mut lines = Lines::of(BufReader::new(file), today)?;
    let mut loaded = Loaded::default();
    while let Some(line) = lines.next_line()? {
        match line.read {
            Ok(_) => loaded.good += 1,
            Err(wrong) => loaded.faults.add(line.number, &wrong),
        }
        bar.set_position(line.until);
    }
    loaded.unread = lines.unread();
    bar.finish_and_clear();
    Ok(loaded)
}

/// Reads the file again and writes its good lines, [`AT_ONCE`] in a transaction: it is never all in memory.
fn write(gateway: &Gateway, file: &mut File, today: NaiveDate, loaded: &mut Loaded) -> anyhow::Result<()> {
    let bar = bar(file, "Writing")?;
    file.rewind()?;
    let mut lines = Lines::of(BufReader::new(file), today)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut batch: Vec<RegisterEntry> = Vec::with_capacity(AT_ONCE);
    loop {
        let line = lines.next_line()?;
        let is_last = line.is_none();
        if let Some(line) = line {
            bar.set_position(line.until);
            batch.extend(line.read);
        }
        if batch.len() >= AT_ONCE || (is_last && !batch.is_empty()) {
            let entries = std::mem::replace(&mut batch, Vec::with_capacity(AT_ONCE));
            let count = u64::try_from(entries.len()).unwrap_or(0);
            loaded.changed += runtime.block_on(gateway.set_register_entries(entries))?;
            loaded.written += count;
            bar.set_message(format!("{} entries", loaded.written));
        }
        if is_last {
            break;
        }
    }
    bar.finish_and_clear();
    if loaded.written != loaded.good {
        bail!("the file was changed while it was read");
    }
    Ok(())
}

impl Loaded {
    fn told(&self, as_json: bool) -> String {
        let Self { good, written, changed, faults, unread } = self;
        if as_json {
            let shown = |(what, count, lines)| json!({"what": what, "count": count, "lines": lines});
            let faults: Vec<serde_json::Value> = faults.by_kind().map(shown).collect();
            let told = json!({
                "good": good, "written": written, "changed_numbers": changed, "faults": faults, "unread": unread,
            });
            return format!("{told}\n");
        }
        let wrote = format!(
            "{} written; something new was said of {}.",
            counted(*written, "entry", "entries"),
            counted(*changed, "stored number", "stored numbers")
        );
        let wrong = counted(faults.lines, "line is wrong", "lines are wrong");
        let mut text = match (faults.lines, *written) {
            (0, _) => format!("{wrote}\n"),
            (_, 0) => {
                let good = counted(*good, "line is good", "lines are good");
                let wrong = counted(faults.lines, "is wrong", "are wrong");
                match unread {
                    0 => format!("Nothing was written: {good}, {wrong}.\n"),
                    _ => format!(
                        "Nothing was written: {good}, {wrong}, and the {} after it could not be read: mend it first.\n",
                        counted(*unread, "line", "lines")
                    ),
                }
            }
            _ => format!("{wrote} {wrong}.\n"),
        };
        for (what, count, lines) in faults.by_kind() {
            let lines = lines.join(", ");
            text.push_str(&match count {
                1 => format!("  {what}: line {lines}\n"),
                _ => format!("  {what}: {count} lines: {lines}\n"),
            });
        }
        text
    }
}

impl Show {
    fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.layers.settings()?;
        start_logging(&settings)?;
        let number = typed_number()?;
        let clock = Clock::system();
        let gateway = app::open_existing(&settings, &clock, &app::process_name())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shown = runtime.block_on(gateway.show_register_entry(number));
        gateway.store.close(None);
        let entry = shown.context("the register can't be asked")?;
        print(&told_entry(entry.as_ref(), self.json))?;
        Ok(if entry.is_some() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
    }
}

/// A number from standard input, asked for where somebody types; else all there is, which is to be one number.
fn typed_number() -> anyhow::Result<NhsNumber> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return only_number(stdin.lock());
    }
    let mut out = io::stderr();
    write!(out, "NHS number: ")?;
    out.flush()?;
    let mut line = String::new();
    stdin.read_line(&mut line)?;
    only_number(line.as_bytes())
}

fn only_number(source: impl BufRead) -> anyhow::Result<NhsNumber> {
    let mut number = None;
    for line in source.lines() {
        let line = line.context("standard input can't be read")?;
        if line.trim().is_empty() {
            continue;
        }
        if number.replace(line).is_some() {
            bail!("one number at a time is shown, and more than one line was given");
        }
    }
    let Some(number) = number else { bail!("no number was given") };
    NhsNumber::typed(&number).map_err(anyhow::Error::from)
}

fn told_entry(entry: Option<&RegisterEntry>, as_json: bool) -> String {
    let Some(entry) = entry else {
        return if as_json {
            format!("{}\n", json!({"known": false}))
        } else {
            "The register doesn't know this number.\n".to_owned()
        };
    };
    let RegisterEntry { nhs_number: _, demographics, status, replaced_by, deceased } = entry;
    let replaced_by = replaced_by.as_ref().map(NhsNumber::as_str);
    let (given, birth_date) = (demographics.given.join(" "), demographics.birth_date.to_string());
    if as_json {
        let shown = json!({
            "known": true, "status": status.code(), "replaced_by": replaced_by, "deceased": deceased,
            "family": demographics.family, "given": given, "birth_date": birth_date,
        });
        return format!("{shown}\n");
    }
    let mut text = format!("Status:      {}\n", status.code());
    if let Some(replaced_by) = replaced_by {
        text.push_str(&format!("Replaced by: {replaced_by}\n"));
    }
    text.push_str(&format!("Family:      {}\nGiven:       {given}\nBirth date:  {birth_date}\n", demographics.family));
    text.push_str(&format!("Deceased:    {}\n", if *deceased { "yes" } else { "no" }));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_loaded_is_told_with_every_fault() {
        let mut loaded = Loaded { good: 5, written: 5, changed: 1, ..Loaded::default() };
        assert_eq!(loaded.told(false), "5 entries written; something new was said of 1 stored number.\n");
        loaded.written = 0;
        (2..=4).for_each(|line| loaded.faults.add(line, &["it is wrong"]));
        loaded.faults.add(9, &["it is wrong", "so is this"]);
        assert_eq!(
            loaded.told(false),
            "Nothing was written: 5 lines are good, 4 are wrong.\n  \
             it is wrong: 4 lines: 2-4, 9\n  so is this: line 9\n"
        );
        let told: serde_json::Value = serde_json::from_str(&loaded.told(true)).unwrap();
        assert_eq!(told["faults"][0], json!({"what": "it is wrong", "count": 4, "lines": ["2-4", "9"]}));
        loaded.unread = 1;
        let told = loaded.told(false);
        assert!(told.contains("4 are wrong, and the 1 line after it could not be read: mend it first."), "{told}");
    }

    #[test]
    fn an_entry_is_told_without_the_number_that_was_typed() {
        let entry = RegisterEntry {
            nhs_number: NhsNumber::parse("9990000018").unwrap(),
            demographics: crate::cpis::types::child::Demographics {
                family: "Testcase".to_owned(),
                given: vec!["Robin".to_owned(), "Sky".to_owned()],
                birth_date: "2019-05-11".parse().unwrap(),
            },
            status: crate::cpis::types::child::NumberStatus::Superseded,
            replaced_by: NhsNumber::parse("9990000026").ok(),
            deceased: false,
        };
        let told = told_entry(Some(&entry), false);
        assert!(told.contains("Status:      superseded\nReplaced by: 9990000026\n"), "{told}");
        assert!(!told.contains("9990000018"), "{told}");
        assert_eq!(told_entry(None, true), "{\"known\":false}\n");
    }
}
