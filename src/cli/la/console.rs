//! Where a command reads and writes: the terminal, or a test.

use std::{
    io::{self, BufRead, BufReader, IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::clock::Clock;

/// Standard input, output and error of a command, and the time.
pub struct Console {
    pub input: Box<dyn BufRead + Send>,
    pub out: Box<dyn Write + Send>,
    pub err: Box<dyn Write + Send>,
    /// Progress is shown.
    pub interactive: bool,
    pub clock: Clock,
}

impl Console {
    pub fn standard() -> Self {
        Self {
            input: Box::new(BufReader::new(io::stdin())),
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            interactive: io::stderr().is_terminal(),
            clock: Clock::system(),
        }
    }

    /// A result.
    pub fn print(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// A result as one line of JSON.
    pub fn print_json(&mut self, value: &serde_json::Value) -> io::Result<()> {
        self.print(&format!("{value}\n"))
    }

    /// A word to the user, who may not be listening.
    pub fn say(&mut self, text: &str) {
        let _heard = writeln!(self.err, "{}", text.trim_end());
    }

    /// Takes standard input, once.
    pub fn take_input(&mut self) -> Box<dyn BufRead + Send> {
        std::mem::replace(&mut self.input, Box::new(io::empty()))
    }

    /// A sign that something is going on, on a terminal.
    pub fn progress(&self, what: &'static str) -> ProgressBar {
        let bar = ProgressBar::new_spinner();
        if !self.interactive {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {pos} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what);
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }
}
