//! `la export`: what the gateway holds for the authority, in the form in which it can be sent again.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::PathBuf,
};

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use serde_json::Value;

use super::{
    LaFault,
    bundle::Entries,
    config::Connection,
    console::Console,
    csv::{self, Line, Plan},
    numbers::write_privately,
    remote::Remote,
};
use crate::{cpis::types::PlanType, fhir::system};

/// Rows of a page.
const PAGE: usize = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// As `la upload` takes it.
    Csv,
    /// A FHIR Bundle, as `la upload` takes it.
    Json,
}

#[derive(Args)]
pub struct Export {
    /// The file to write, readable for its owner only; standard output without it.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    #[arg(long, default_value = "csv")]
    format: Form,
    #[command(flatten)]
    connection: Connection,
}

impl Export {
    pub async fn run(self, console: &mut Console) -> Result<u8, LaFault> {
        let remote = Remote::open(&self.connection.settings()?).await?;
        let bar = console.progress("Exporting");
        let lines = lines(&remote, &bar).await;
        bar.finish_and_clear();
        let lines = lines?;
        match self.output {
            Some(path) => write_privately(&path, |file| write(file, self.format, &lines))?,
            None => write(&mut console.out, self.format, &lines)?,
        }
        let plans = lines.iter().filter(|line| line.plan.is_some()).count();
        console.say(&format!("{plans} plans exported."));
        Ok(0)
    }
}

fn write(mut out: impl Write, form: Form, lines: &[Line]) -> Result<(), LaFault> {
    match form {
        Form::Csv => csv::write(&mut out, lines)?,
        Form::Json => {
            let (bundle, _) = Entries::of_lines(lines).into_bundle();
            serde_json::to_writer_pretty(&mut out, &bundle)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(())
}

/// A line for each plan, and one for each child without a plan; by NHS number.
async fn lines(remote: &Remote, bar: &ProgressBar) -> Result<Vec<Line>, LaFault> {
    let mut children: BTreeMap<String, Line> = BTreeMap::new();
    let mut plans: Vec<(String, Plan)> = Vec::new();
    let flags = remote.get(&format!("Flag?_count={PAGE}&_include=Flag:patient")).await?;
    let mut one = |resource: &Value| {
        bar.inc(1);
        take(resource, &mut children, &mut plans)
    };
    remote.all(flags, &mut one).await?;
    remote.all(remote.get(&format!("Patient?_count={PAGE}")).await?, &mut one).await?;
    plans.sort_by(|one, other| {
        (&one.0, one.1.plan_type, &one.1.start).cmp(&(&other.0, other.1.plan_type, &other.1.start))
    });
    let planned: BTreeSet<&String> = plans.iter().map(|(number, _)| number).collect();
    let mut lines: Vec<Line> =
        children.values().filter(|child| !planned.contains(&child.nhs_number)).cloned().collect();
    for (number, plan) in &plans {
        let child =
            children.get(number).cloned().unwrap_or_else(|| Line { nhs_number: number.clone(), ..Line::default() });
        lines.push(Line { plan: Some(plan.clone()), ..child });
    }
    lines.sort_by(|one, other| one.nhs_number.cmp(&other.nhs_number));
    Ok(lines)
}

fn take(
    resource: &Value,
    children: &mut BTreeMap<String, Line>,
    plans: &mut Vec<(String, Plan)>,
) -> Result<(), LaFault> {
    match resource.get("resourceType").and_then(Value::as_str) {
        Some("Patient") => {
            let child = child(resource);
            children.insert(child.nhs_number.clone(), child);
        }
        Some("Flag") => plans.push(plan(resource)?),
        _ => {}
    }
    Ok(())
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The value of the identifier of a system.
fn identified(resource: &Value, of: &str) -> String {
    let identifiers = resource.get("identifier").and_then(Value::as_array).into_iter().flatten();
    let mut of_system = identifiers.filter(|identifier| identifier.get("system").is_some_and(|system| system == of));
    of_system.next().map(|identifier| text(identifier, "/value")).unwrap_or_default()
}

fn child(patient: &Value) -> Line {
    let given = patient.pointer("/name/0/given").and_then(Value::as_array).into_iter().flatten();
    Line {
        number: 0,
        nhs_number: text(patient, "/id"),
        local_id: identified(patient, system::LOCAL_ID),
        family: text(patient, "/name/0/family"),
        given: given.filter_map(Value::as_str).map(str::to_owned).collect(),
        birth_date: text(patient, "/birthDate"),
        plan: None,
    }
}

fn plan(flag: &Value) -> Result<(String, Plan), LaFault> {
    let codings = flag.pointer("/code/coding").and_then(Value::as_array).into_iter().flatten();
    let plan_type = codings.filter_map(|coding| PlanType::from_snomed(coding.get("code")?.as_str()?)).next();
    let subject = text(flag, "/subject/reference");
    let number = subject.rsplit('/').next().filter(|number| !number.is_empty()).map(str::to_owned);
    let (Some(number), Some(plan_type)) = (number, plan_type) else {
        return Err(LaFault::Failed("the gateway sent a Flag that can't be read".to_owned()));
    };
    let plan = Plan {
        plan_type: Some(plan_type),
        start: text(flag, "/period/start"),
        end: text(flag, "/period/end"),
        plan_id: text(flag, "/identifier/0/value"),
        delete: false,
    };
    Ok((number, plan))
}
