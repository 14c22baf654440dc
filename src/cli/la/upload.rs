//! `la upload`: sends a file under its number and shows what became of it. By MESH the answer comes later, to `la watch`.

use std::time::Duration;

use chrono_tz::Europe::London;
use clap::Args;
use openssl::sha::sha256;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{
    LaFault, NONE_LOADED, SOME_REFUSED,
    answer::{NOT_ACCEPTED, Outcome},
    bundle,
    check::table,
    config::{Connection, Settings},
    console::Console,
    mailbox::{Mailbox, Sending},
    numbers::State,
    remote::{Remote, Reply},
    source::{Format, Prepared, Row, Source},
};
use crate::hl7v3::upload::WrittenFile;

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
    /// Send it from the authority's MESH mailbox ([mesh] in the configuration file).
    #[arg(long)]
    mesh: bool,
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
            return nothing_sent(prepared.refused, self.json, console);
        }
        let mut state = State::open(&settings.state)?;
        let digest = sha256(&source.bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let again = state.pending(&digest).is_some();
        if self.mesh {
            let mailbox = Mailbox::open(settings.mesh.as_ref()).await?;
            let number = state.number_for(&digest, self.number.or(prepared.number))?;
            let (bytes, refused) = payload(&source, prepared, &settings, number, console)?;
            if bytes.is_empty() {
                return nothing_sent(refused, self.json, console);
            }
            let is_xml = source.format != Format::Fhir;
            let file = Sending { number, digest: &digest, bytes: &bytes, is_xml, again };
            let bar = console.progress("Sending");
            let sent = mailbox.send(&file, console.clock.now()).await;
            bar.finish_and_clear();
            let message = sent?;
            if self.json {
                console.print_json(&json!({"sent": message, "number": number, "refused": refused}))?;
            } else {
                let words =
                    format!("File {number}: sent as {message}. Its acknowledgement comes to la watch --mesh.\n");
                console.print(&(words + &table(&refused)))?;
            }
            return Ok(if refused.is_empty() { 0 } else { SOME_REFUSED });
        }
        let remote = Remote::open(&settings).await?;
        let number = state.number_for(&digest, self.number.or(prepared.number))?;
        bundle::number(&mut prepared.bundle, number);
        let bar = console.progress("Uploading");
        let sent = send(&remote, &prepared, Duration::from_secs(self.wait)).await;
        bar.finish_and_clear();
        let mut outcome = sent?;
        outcome.number = Some(number);
        if outcome.is_final() {
            state.answered(number)?;
        } else if outcome.code == NOT_ACCEPTED {
            state.not_accepted(number)?;
        }
        outcome.show(self.json, console)?;
        Ok(outcome.exit_code())
    }
}

fn nothing_sent(refused: Vec<Row>, as_json: bool, console: &mut Console) -> Result<u8, LaFault> {
    let outcome = Outcome { code: "CPF04".to_owned(), number: None, reason: None, refused, warnings: Vec::new() };
    outcome.show(as_json, console)?;
    Ok(NONE_LOADED)
}

/// What is sent by MESH: HL7 v3 and FHIR as they are, CSV as an HL7 v3 file; and the records that are not in it.
fn payload(
    source: &Source,
    mut prepared: Prepared,
    settings: &Settings,
    number: i64,
    console: &Console,
) -> Result<(Vec<u8>, Vec<Row>), LaFault> {
    match source.format {
        Format::Hl7 if prepared.number != Some(number) => {
            Err(LaFault::Usage("an HL7 v3 file goes by MESH under its own number: leave --number out".to_owned()))
        }
        // Whole, with what can't be read of it: the gateway judges and answers it.
        Format::Hl7 => Ok((source.bytes.clone(), Vec::new())),
        Format::Fhir => {
            bundle::number(&mut prepared.bundle, number);
            Ok((prepared.bundle.to_string().into_bytes(), Vec::new()))
        }
        Format::Csv => {
            let sender = settings.authority.as_ref();
            let missing =
                || LaFault::Usage("say which authority sends: --authority, or authority in the file".to_owned());
            prepared.to_hl7(&WrittenFile {
                created: console.clock.now(),
                zone: London,
                number,
                records: 0,
                sender: sender.ok_or_else(missing)?,
                sender_name: settings.name.as_deref(),
                duty_phone: settings.duty_phone.as_ref(),
                office_phone: settings.office_phone.as_ref(),
            })
        }
    }
}

async fn send(remote: &Remote, prepared: &Prepared, wait: Duration) -> Result<Outcome, LaFault> {
    let mut reply = remote.post_bundle(&prepared.bundle).await?;
    if reply.status == StatusCode::ACCEPTED {
        reply = follow(remote, &reply, wait).await?;
    }
    Outcome::of(&reply.body, prepared).ok_or_else(|| reply.fault())
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
            return Ok(fetched(reply));
        }
        pause = reply.pause();
    }
    let text = "the gateway is still judging the file: send the same file again later, it keeps its number";
    Err(LaFault::TryAgain(text.to_owned()))
}

/// An answer that is fetched later is the one entry of a Bundle, which has no file code itself.
fn fetched(mut reply: Reply) -> Reply {
    let status = reply.body.pointer("/entry/0/response/status").and_then(Value::as_str);
    let status: Option<StatusCode> = status.and_then(|status| status.get(..3)?.parse().ok());
    if reply.body.pointer("/meta/tag").is_some() {
        return reply;
    }
    match (status, reply.body.pointer_mut("/entry/0/resource").map(Value::take)) {
        (Some(status), Some(body)) => Reply { status, body, ..reply },
        _ => reply,
    }
}
