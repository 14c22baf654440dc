//! `la validate`: everything that is wrong with a file, on this machine.

use clap::Args;
use comfy_table::{Cell, ContentArrangement, Table, presets::UTF8_HORIZONTAL_ONLY};
use serde_json::json;

use super::{
    LaFault, SOME_REFUSED,
    console::Console,
    source::{Format, Row, Source},
};
use crate::{cpis::calendar::Calendar, cpis::types::OdsCode};

#[derive(Args)]
pub struct Validate {
    /// The file; - for standard input.
    #[arg(value_name = "FILE")]
    file: String,
    /// Its form, if it is not to be told by its content.
    #[arg(long)]
    format: Option<Format>,
    /// ODS code of the authority: a file may name no other.
    #[arg(long, value_name = "ODS", env = "CPISLA_AUTHORITY")]
    authority: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Validate {
    pub fn run(self, console: &mut Console) -> Result<u8, LaFault> {
        let sender = self.authority.as_deref().map(OdsCode::parse).transpose();
        let sender = sender.map_err(|invalid| LaFault::Usage(format!("--authority: {invalid}")))?;
        let source = Source::read(&self.file, self.format, console)?;
        let prepared = source.prepare()?;
        let named = prepared.header.as_ref().map(|header| &header.sender);
        if let (Some(own), Some(named)) = (&sender, named)
            && own != named
        {
            return Err(LaFault::Failed("the file's sender is another authority".to_owned()));
        }
        let today = Calendar::new(chrono_tz::Europe::London).day_of(console.clock.now());
        let checked = prepared.check(sender.as_ref(), today)?;
        let fault = prepared.header.as_ref().and_then(|header| header.organization_fault.as_deref());
        if self.json {
            console.print_json(&json!({
                "format": prepared.format.code(),
                "number": prepared.number,
                "records": checked.records,
                "problems": checked.rows,
                "authority_problem": fault,
            }))?;
        } else {
            console.print(&table(&checked.rows))?;
            if let Some(fault) = fault {
                console.print(&format!("{fault}\n"))?;
            }
            let problems = match checked.rows.len() {
                0 => "no problems".to_owned(),
                1 => "1 problem".to_owned(),
                several => format!("{several} problems"),
            };
            let records = if checked.records == 1 { "record" } else { "records" };
            console.print(&format!("{} {records}, {problems}.\n", checked.records))?;
        }
        Ok(if checked.rows.is_empty() && fault.is_none() { 0 } else { SOME_REFUSED })
    }
}

/// Problems as a table; nothing when there are none.
pub fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["Where", "What", "Code", "What to do"]);
    for row in rows {
        table.add_row([&row.place, &row.element, &row.code, &row.reason].map(Cell::new));
    }
    format!("{table}\n")
}
