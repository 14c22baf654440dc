//! `cpis-gateway audit verify`: whether the audit is as it was written.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::{Layers, print, start_logging};
use crate::{
    app,
    auth::checkpoint_key::PublicKey,
    clock::Clock,
    config::Settings,
    cpis::{
        types::audit::AuditSearch,
        verify::{Finding, Report, verify},
    },
    store::{Location, Options, Store, audit},
};

/// The audit is not whole.
const FOUND_SOMETHING: u8 = 3;

#[derive(Subcommand)]
pub enum Audit {
    /// Check the whole audit against its hashes and signed checkpoints. Exit code 3 when something is wrong.
    Verify(Verify),
}

#[derive(Args)]
pub struct Verify {
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// Public key (PEM) of the checkpoints; several when the key was changed. Else that of the configured signing key.
    #[arg(long, value_name = "FILE")]
    public_key: Vec<PathBuf>,
    #[command(flatten)]
    layers: Layers,
}

impl Audit {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let Self::Verify(verify) = self;
        verify.run()
    }
}

impl Verify {
    fn run(self) -> anyhow::Result<ExitCode> {
        let settings = self.layers.settings()?;
        start_logging(&settings)?;
        // First: without a database no key is looked for.
        let store = open(&settings)?;
        let keys = public_keys(&self.public_key, &settings)?;
        let trusted = |key_id: &str, content: &[u8], signature: &[u8]| {
            keys.iter().any(|key| key.key_id() == key_id && key.verify(content, signature))
        };
        let rows = store.read_blocking(|conn| audit::count(conn, &AuditSearch::default()))?;
        let bar = progress(u64::try_from(rows).unwrap_or(0));
        let report = verify(&store, &trusted, &mut |seen| bar.set_position(seen));
        bar.finish_and_clear();
        store.close(None);
        let report = report.context("the audit can't be read")?;
        let text = if self.json { format!("{}\n", serde_json::to_string_pretty(&report)?) } else { summary(&report) };
        print(&text)?;
        Ok(if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(FOUND_SOMETHING) })
    }
}

fn public_keys(files: &[PathBuf], settings: &Settings) -> anyhow::Result<Vec<PublicKey>> {
    if !files.is_empty() {
        return files.iter().map(|file| PublicKey::load(file).with_context(|| file.display().to_string())).collect();
    }
    let key = app::checkpoint_public_key(settings).context("give the checkpoints' public key with --public-key")?;
    Ok(vec![key])
}

/// The database as it is: nothing is made or migrated.
fn open(settings: &Settings) -> anyhow::Result<Store> {
    let url = settings.database_url();
    let location = Location::parse(url.expose())?;
    if let Location::Sqlite(path) = &location
        && !Path::new(path).exists()
    {
        bail!("there is no database {url}: say where it is (--data, --database-url or --config)");
    }
    let options = Options { location, readers: 1, process: "audit-verify".to_owned(), clock: Clock::system() };
    Store::open(options).with_context(|| format!("the database {url} can't be opened"))
}

/// On a terminal only.
fn progress(rows: u64) -> ProgressBar {
    let bar = ProgressBar::new(rows);
    if let Ok(style) = ProgressStyle::with_template("Verifying {pos} of {len} records {bar:40} {eta}") {
        bar.set_style(style);
    }
    bar
}

fn summary(report: &Report) -> String {
    let mut text = String::new();
    for (what, count) in [
        ("Chains", report.chains),
        ("Records", report.rows),
        ("Checkpoints", report.checkpoints),
        ("Records since the newest checkpoint", report.not_yet_covered),
    ] {
        // Writing to a string can't fail.
        let _written = writeln!(text, "{what:<36}{count:>12}");
    }
    text.push('\n');
    if report.is_whole() {
        text.push_str("The audit is whole.\n");
        return text;
    }
    let found = u64::try_from(report.findings.len()).unwrap_or(u64::MAX).saturating_add(report.more_findings);
    let _written = writeln!(text, "THE AUDIT IS NOT WHOLE: {found} found.");
    for finding in &report.findings {
        let _written = writeln!(text, "  {}: {}", place(finding), finding.what);
    }
    if report.more_findings > 0 {
        let _written = writeln!(text, "  and {} more", report.more_findings);
    }
    text
}

fn place(finding: &Finding) -> String {
    match (finding.chain, finding.seq, finding.checkpoint) {
        (Some(chain), Some(seq), _) => format!("chain {chain}, record {seq}"),
        (Some(chain), None, _) => format!("chain {chain}"),
        (None, _, Some(checkpoint)) => format!("checkpoint {checkpoint}"),
        (None, _, None) => "the audit".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_and_names_every_place() {
        let whole = Report { chains: 2, rows: 812, checkpoints: 3, not_yet_covered: 7, ..Report::default() };
        let text = summary(&whole);
        assert!(text.contains("Records                                      812\n"), "{text}");
        assert!(text.ends_with("\nThe audit is whole.\n"), "{text}");
        let at = |chain, seq, checkpoint| Finding { chain, seq, checkpoint, what: "it was changed" };
        let bad =
            Report { findings: vec![at(Some(1), Some(17), None), at(None, None, Some(3))], more_findings: 4, ..whole };
        let text = summary(&bad);
        for line in ["NOT WHOLE: 6 found", "chain 1, record 17: it was changed", "checkpoint 3: it was", "and 4 more"] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(!text.contains("The audit is whole"));
    }
}
