//! `cpis-gateway token`: an access token of a sandbox, alone on standard output.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, builder::PossibleValuesParser};

use super::{print, sandbox};
use crate::{clock::Clock, cpis::types::caller::Role, http::sandbox::TokenForm};

#[derive(Args)]
pub struct Token {
    /// Role of the caller.
    #[arg(long, required_unless_present = "user", value_parser = PossibleValuesParser::new(Role::ALL.map(Role::code)))]
    role: Option<String>,
    /// ODS code of the caller's organisation; else the sandbox's first of that role.
    #[arg(long, value_name = "ODS")]
    organization: Option<String>,
    /// User id, or the device's, as in sandbox.json; else the organisation's first. Brings role and organisation along.
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Activity codes, separated by commas; else B0107 in unscheduled, B0170 in scheduled care.
    #[arg(long, value_name = "CODES")]
    activity: Option<String>,
    /// The sandbox's directory.
    #[arg(long, value_name = "DIR", env = "CPIS_DATA_DIR", default_value = "data")]
    data: PathBuf,
}

impl Token {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let Self { role, organization, user, activity, data } = self;
        let form = TokenForm { role, organization, user, activity };
        let answer = sandbox::open_tokens(&data)?.token(&form, sandbox::LIFETIME, Clock::system().now())?;
        print(&format!("{}\n", answer.access_token))?;
        Ok(ExitCode::SUCCESS)
    }
}
