//! The program: see `cpis_gateway::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cpis_gateway::cli::run(std::env::args_os())
}
