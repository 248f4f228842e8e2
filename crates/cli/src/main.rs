//! The `distil-gpu` program: arguments, progress and exit codes. The work is the engine's.
//!
//! Exit codes: 0 done; 1 something failed, said on stderr; 2 the arguments make no sense; 3 the student missed
//! the recipe's target; 4 students of a sweep failed; 128 and the number of the signal where one stopped it, with all that
//! was learned saved: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.

mod commands;
mod progress;
mod signals;
mod table;
mod watch;

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};

/// Distils a strong, heavy model into a small, fast one, on whatever GPU there is.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Begin with `distil-gpu run`: it needs no files and takes under a minute.

Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 the student missed the recipe's target,
4 students of a sweep failed, 130 stopped by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP (what was learned
is saved)")]
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
    /// Make the page of a run again, or one page that compares several runs
    Report(commands::report::Args),
    /// Measure a saved model on labelled data
    Eval(commands::eval::Args),
    /// Write a model's raw outputs for any inputs
    Logits(commands::logits::Args),
    /// Tell what a recipe will need of each device, before anything is allocated
    Plan(commands::plan::Args),
    /// Train students over a grid of settings and seeds, from one teacher
    Sweep(commands::sweep::Args),
    /// Hold this machine's kernels and training steps to 64-bit arithmetic
    Check(commands::check::Args),
    /// Measure a recipe's training steps, forward passes and kernels
    Bench(commands::bench::Args),
    /// Find the fastest variant of each of a recipe's kernels on this GPU
    Tune(commands::tune::Args),
    /// List the GPUs and drivers this program can use
    Devices(commands::devices::Args),
    /// Write a commented starter recipe
    Init(commands::init::Args),
    /// Print a script that lets a shell complete commands and options
    Completions(commands::completions::Args),
    /// Print or write the manual pages
    Man(commands::man::Args),
    /// List the licences of what the program contains
    Licences(commands::licences::Args),
}

/// The program's name, as it is called.
const NAME: &str = "distil-gpu";

/// Exit code of a run whose student missed the recipe's target.
const TARGET_MISSED: u8 = 3;
/// Exit code of a sweep in which the loss of a student stopped being a number.
const STUDENTS_FAILED: u8 = 4;

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
    let success = |()| ExitCode::SUCCESS;
    let done = match cli.command {
        Command::Run(args) => commands::run::run(args, voice),
        Command::Report(args) => commands::report::run(args, voice).map(success),
        Command::Eval(args) => commands::eval::run(args, voice).map(success),
        Command::Logits(args) => commands::logits::run(args, voice).map(success),
        Command::Plan(args) => commands::plan::run(args, voice).map(success),
        Command::Sweep(args) => commands::sweep::run(args, voice),
        Command::Check(args) => commands::check::run(args, voice).map(success),
        Command::Bench(args) => commands::bench::run(args, voice).map(success),
        Command::Tune(args) => commands::tune::run(args, voice).map(success),
        Command::Devices(args) => commands::devices::run(args, voice).map(success),
        Command::Init(args) => commands::init::run(args, voice).map(success),
        Command::Completions(args) => {
            commands::completions::run(args, Cli::command(), voice).map(success)
        }
        Command::Man(args) => commands::man::run(args, Cli::command(), voice).map(success),
        Command::Licences(args) => commands::licences::run(args, voice).map(success),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            note(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
