//! The command line: one file a command. Results go to standard output, everything else to standard error.
//!
//! Exit codes: 0 good, 1 failed, 2 wrong use (arguments, configuration), 3 `audit verify` found something; `la` has some of
//! its own.

mod audit;
mod config;
pub mod la;
mod mesh;
mod migrate;
mod notifications;
mod organizations;
mod register;
pub mod sandbox;
mod serve;
mod token;
mod trace;

use std::{
    convert::Infallible,
    ffi::OsString,
    fmt::Display,
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::{ConfigFault, DatabaseUrl, LogFormat, Overrides, Settings},
    cpis::types::{NhsNumber, OdsCode, nhs_number::InvalidNhsNumber},
    http::sandbox::TokenRefusal,
    telemetry,
};

/// Something went wrong.
const FAILED: u8 = 1;
/// The program was not used as it is meant to be.
const USAGE: u8 = 2;

/// FHIR R4 gateway for Child Protection - Information Sharing. Without arguments: a sandbox with synthetic data.
#[derive(Parser)]
#[command(name = "cpis-gateway", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Serve requests (also without a command).
    Serve(serve::Serve),
    /// Print an access token of a sandbox.
    Token(token::Token),
    /// Bring the database to this version.
    Migrate(migrate::Migrate),
    /// Print the effective configuration, passwords as ***.
    Config(config::Config),
    /// Look after organisations.
    #[command(subcommand)]
    Organizations(organizations::Organizations),
    /// Look after the local register of demographics.
    #[command(subcommand)]
    Register(register::Register),
    /// Trace all stored numbers with visible plans once more, now.
    Trace(trace::Trace),
    /// Look after the audit.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// The client of a local authority: check, send, watch, export.
    #[command(subcommand)]
    La(la::La),
    /// Look after the notifications to local authorities.
    #[command(subcommand)]
    Notifications(notifications::Notifications),
    /// Exchange with local authorities over MESH.
    #[command(subcommand)]
    Mesh(mesh::Mesh),
}

/// Where the configuration comes from; the command line wins over environment and file.
#[derive(Args, Clone)]
struct Layers {
    /// Configuration file (TOML); cpis.example.toml names every setting.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Synthetic data, own tokens, this machine only.
    #[arg(long)]
    sandbox: bool,
    /// Address and port to listen on, such as 127.0.0.1:8080.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Directory of the SQLite database and of what the sandbox makes.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// `sqlite:PATH` or `postgres://user@host/database`.
    #[arg(long, value_name = "URL", value_parser = database_url)]
    database_url: Option<DatabaseUrl>,
}

/// An argument that is an ODS code.
fn ods(text: &str) -> Result<OdsCode, &'static str> {
    OdsCode::parse(text).map_err(|_| "give an ODS code: capital letters and digits")
}

fn database_url(text: &str) -> Result<DatabaseUrl, Infallible> {
    Ok(DatabaseUrl::new(text))
}

impl Layers {
    fn settings(self) -> Result<Settings, ConfigFault> {
        let overrides = Overrides {
            sandbox: self.sandbox.then_some(true),
            listen: self.listen,
            data_dir: self.data,
            database_url: self.database_url,
        };
        Settings::load(self.config.as_deref(), environment(), overrides)
    }
}

/// Variables that aren't Unicode can't be settings of ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Runs the command that `arguments` (with the program's name first) say.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let Arguments { command, serve } = match Arguments::try_parse_from(&arguments) {
        Ok(arguments) => arguments,
        Err(error) if error.use_stderr() && may_hold_number(&arguments) => return refuse_number(),
        Err(error) => {
            // Help and version go to standard output and are good.
            let _shown = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    let done = match command.unwrap_or(Command::Serve(serve)) {
        Command::Serve(serve) => serve.run(),
        Command::Token(token) => token.run(),
        Command::Migrate(migrate) => migrate.run(),
        Command::Config(config) => config.run(),
        Command::Organizations(organizations) => organizations.run(),
        Command::Register(register) => register.run(),
        Command::Trace(trace) => trace.run(),
        Command::Audit(audit) => audit.run(),
        Command::La(la) => la.run(),
        Command::Notifications(notifications) => notifications.run(),
        Command::Mesh(mesh) => mesh.run(),
    };
    done.unwrap_or_else(|error| {
        let _shown = writeln!(io::stderr(), "cpis-gateway: {error:#}");
        let misused = error.is::<ConfigFault>()
            || error.is::<clap::Error>()
            || error.downcast_ref().is_some_and(TokenRefusal::is_of_the_caller);
        ExitCode::from(if misused { USAGE } else { FAILED })
    })
}

/// Whether arguments that can't be understood may hold an NHS number: `register show` is about one, whatever follows it.
fn may_hold_number(arguments: &[OsString]) -> bool {
    let shows = arguments.windows(2).any(|pair| pair[0] == "register" && pair[1] == "show");
    let number =
        |argument: &OsString| argument.to_str().is_some_and(|text| text.rsplit('=').next().is_some_and(is_number));
    shows || arguments.iter().any(number)
}

/// Whether somebody means an NHS number by it, perhaps with a typing error.
fn is_number(text: &str) -> bool {
    matches!(NhsNumber::typed(text), Ok(_) | Err(InvalidNhsNumber::CheckDigit))
}

/// Says that no number belongs where it was found, without repeating it.
fn refuse_number() -> ExitCode {
    let _shown = writeln!(
        io::stderr(),
        "cpis-gateway: an NHS number never stands on a command line, where others can read it: `cpis-gateway register show` \
         takes options only, and asks for the number or reads it from a pipe. --help has the options. If you gave a number, \
         take it out of your shell's history"
    );
    ExitCode::from(USAGE)
}

/// So many of something.
fn counted<N: From<u8> + PartialEq + Display>(count: N, one: &str, many: &str) -> String {
    format!("{count} {}", if count == N::from(1) { one } else { many })
}

/// Writes a result to standard output.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn start_logging(settings: &Settings) -> anyhow::Result<()> {
    let format = match settings.log.format {
        LogFormat::Pretty => telemetry::Format::Pretty,
        LogFormat::Json => telemetry::Format::Json,
    };
    Ok(telemetry::init(format, &settings.log.filter)?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn serve_may_be_left_out() {
        let Ok(bare) = parsed("cpis-gateway --data here --reset") else { panic!("refused") };
        assert!(bare.command.is_none() && bare.serve.reset);
        let Ok(named) = parsed("cpis-gateway serve --sandbox --listen 127.0.0.1:0") else { panic!("refused") };
        let Some(Command::Serve(serve)) = named.command else { panic!("not serve") };
        assert!(serve.layers.sandbox && serve.layers.listen.is_some());
        for wrong in
            ["cpis-gateway --listen here", "cpis-gateway token", "cpis-gateway token --role nurse", "cpis-gateway x"]
        {
            assert_eq!(parsed(wrong).map(|_| ()).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }

    #[test]
    fn a_password_on_the_command_line_is_not_echoed() {
        let Ok(arguments) = parsed("cpis-gateway --database-url postgres://u:hunter2@h/d") else { panic!("refused") };
        assert!(!format!("{:?}", arguments.serve.layers.database_url).contains("hunter2"));
    }
}
