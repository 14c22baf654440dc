//! `la upload`: sends a file under its number and shows what became of it.

use std::time::Duration;

use clap::Args;
use openssl::sha::sha256;
use reqwest::StatusCode;

use super::{
    LaFault, NONE_LOADED,
    answer::Outcome,
    bundle,
    config::Connection,
    console::Console,
    numbers::State,
    remote::{Remote, Reply},
    source::{Format, Prepared, Source},
};

#[derive(Args)]
pub struct Upload {
    /// The file; - for standard input.
    #[arg(value_name = "FILE")]
    file: String,
    /// Its form, if it is not to be told by its content.
    #[arg(long)]
    format: Option<Format>,
    /// Number of the file; else its own, else the next one. A file without an answer keeps its number.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    number: Option<i64>,
    /// How long to wait for the answer to a large file, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    wait: u64,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

impl Upload {
    pub async fn run(self, console: &mut Console) -> Result<u8, LaFault> {
        let source = Source::read(&self.file, self.format, console)?;
        let mut prepared = source.prepare()?;
        let settings = self.connection.settings()?;
        if let (Some(header), Some(own)) = (&prepared.header, &settings.authority)
            && header.sender != *own
        {
            return Err(LaFault::Failed("the file's sender is another authority".to_owned()));
        }
        if prepared.is_empty() {
            let outcome = Outcome {
                code: "CPF04".to_owned(),
                number: None,
                reason: None,
                refused: prepared.refused,
                warnings: Vec::new(),
            };
            outcome.show(self.json, console)?;
            return Ok(NONE_LOADED);
        }
        let remote = Remote::open(&settings).await?;
        let mut state = State::open(&settings.state)?;
        let digest = sha256(&source.bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let number = state.number_for(&digest, self.number.or(prepared.number))?;
        bundle::number(&mut prepared.bundle, number);
        let bar = console.progress("Uploading");
        let sent = send(&remote, &prepared, Duration::from_secs(self.wait)).await;
        bar.finish_and_clear();
        let mut outcome = sent?;
        outcome.number = Some(number);
        if outcome.is_final() {
            state.answered(number)?;
        }
        outcome.show(self.json, console)?;
        Ok(outcome.exit_code())
    }
}

async fn send(remote: &Remote, prepared: &Prepared, wait: Duration) -> Result<Outcome, LaFault> {
    let mut reply = remote.post_bundle(&prepared.bundle).await?;
    if reply.status == StatusCode::ACCEPTED {
        reply = follow(remote, &reply, wait).await?;
    }
    // An answer that is fetched later is an entry of a Bundle (R4, asynchronous request).
    let inner = reply.body.pointer("/entry/0/resource").filter(|_| reply.body.pointer("/meta/tag").is_none());
    match Outcome::of(&reply.body, prepared).or_else(|| inner.and_then(|inner| Outcome::of(inner, prepared))) {
        Some(outcome) => Ok(outcome),
        None => Err(reply.fault()),
    }
}

/// Asks where the gateway says until the answer is there.
async fn follow(remote: &Remote, accepted: &Reply, wait: Duration) -> Result<Reply, LaFault> {
    let place = accepted.header("content-location").map(str::to_owned);
    let place = place.ok_or_else(|| LaFault::Failed("the gateway doesn't say where its answer will be".to_owned()))?;
    let (mut waited, mut pause) = (Duration::ZERO, accepted.pause());
    while waited < wait {
        tokio::time::sleep(pause).await;
        waited += pause;
        let reply = remote.get(&place).await?;
        if reply.status != StatusCode::ACCEPTED {
            return Ok(reply);
        }
        pause = reply.pause();
    }
    let text = "the gateway is still judging the file: send the same file again later, it keeps its number";
    Err(LaFault::TryAgain(text.to_owned()))
}
