//! The `distil-gpu` program: arguments, progress and exit codes. The work is the engine's.
//!
//! Exit codes: 0 done; 1 something failed, said on stderr; 2 the arguments make no sense.

mod commands;
mod progress;
mod table;

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

/// Distils a strong, heavy model into a small, fast one, on whatever GPU there is.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Begin with `distil-gpu run`: it needs no files and takes under a minute.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Show no progress, only the result
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Print the result as JSON and nothing else
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train or load a teacher, train the student without and with it, and compare the three
    Run(commands::run::Args),
    /// Measure a saved model on labelled data
    Eval(commands::eval::Args),
    /// Write a model's raw outputs for any inputs
    Logits(commands::logits::Args),
    /// Hold this machine's kernels and training steps to 64-bit arithmetic
    Check(commands::check::Args),
    /// Measure a recipe's training steps, forward passes and kernels
    Bench(commands::bench::Args),
    /// List the GPUs and drivers this program can use
    Devices(commands::devices::Args),
    /// Write a commented starter recipe
    Init(commands::init::Args),
}

/// How a command talks.
#[derive(Clone, Copy, Debug)]
struct Voice {
    quiet: bool,
    json: bool,
}

impl Voice {
    /// Whether progress and notes are shown.
    fn progress(self) -> bool {
        !self.quiet && !self.json
    }
}

/// Prints a result. That nobody reads on, as in `| head`, is no error.
fn say(result: impl Display) -> Result<()> {
    match writeln!(io::stdout(), "{result}") {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot write to the standard output"),
    }
}

/// Prints what is beside the result. Where nobody can read it, nothing is lost.
fn note(note: impl Display) {
    let _ = writeln!(io::stderr(), "{note}");
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let voice = Voice { quiet: cli.quiet, json: cli.json };
    let done = match cli.command {
        Command::Run(args) => commands::run::run(args, voice),
        Command::Eval(args) => commands::eval::run(args, voice),
        Command::Logits(args) => commands::logits::run(args, voice),
        Command::Check(args) => commands::check::run(args, voice),
        Command::Bench(args) => commands::bench::run(args, voice),
        Command::Devices(args) => commands::devices::run(args, voice),
        Command::Init(args) => commands::init::run(args, voice),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
