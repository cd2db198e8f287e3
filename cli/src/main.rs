//! The `anychip` command: a thin shell over the libraries of this workspace.
//!
//! Exit codes are an interface: 0 passed, 1 something failed, 2 could not run, with the reason and the mend on standard
//! error. With `--json` standard output holds one document and nothing else.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod devices;
mod error;
mod interrupt;
mod output;
mod progress;

use args::{Args, Command};
use clap::Parser;
use clap::error::ErrorKind;
use error::Failure;
use std::process::ExitCode;

/// What a command that could run found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
}

impl From<bool> for Outcome {
    fn from(passed: bool) -> Outcome {
        if passed { Outcome::Passed } else { Outcome::Failed }
    }
}

const COULD_NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    match interrupt::install().and_then(|()| run(&args)) {
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        // Whatever stopped first after Ctrl-C, the reason is Ctrl-C.
        Err(_) if interrupt::raised() => could_not_run("interrupted"),
        Err(failure) => could_not_run(&failure.to_string()),
    }
}

fn run(args: &Args) -> Result<Outcome, Failure> {
    match &args.command {
        None => commands::demo::run(),
        Some(Command::Devices(args)) => commands::devices::run(args),
        Some(Command::Conformance(args)) => commands::conformance::run(args),
        Some(Command::Faults(args)) => commands::faults::run(args),
        Some(Command::Verify(args)) => commands::verify::run(args),
        Some(Command::Generate(args)) => commands::generate::run(args),
        Some(Command::Bench(args)) => commands::bench::run(args),
        Some(Command::Calibrate(args)) => commands::calibrate::run(args),
        Some(Command::Trace(args)) => commands::trace::run(args),
        Some(Command::Plan(args)) => commands::plan::run(args),
        Some(Command::Synth(args)) => commands::synth::run(args),
    }
}

fn could_not_run(reason: &str) -> ExitCode {
    output::note(&format!("error: {reason}"));
    ExitCode::from(COULD_NOT_RUN)
}

/// Help and version are no errors; everything else that clap finds is.
fn usage(error: &clap::Error) -> ExitCode {
    // A closed terminal cannot be told about.
    let _ = error.print();
    if error.kind() == ErrorKind::MissingRequiredArgument && std::env::args().any(|arg| arg == "--json") {
        output::note("hint: `--json` takes the word after it as its file; put it last, or write `--json=-`");
    }
    ExitCode::from(if error.use_stderr() { COULD_NOT_RUN } else { 0 })
}
