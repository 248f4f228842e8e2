//! The `distil-gpu` program: arguments, progress and exit codes. The work is the engine's.
//!
//! Exit codes: 0 done; 1 something failed, said on stderr; 2 the arguments make no sense, whoever noticed; 3 the student
//! missed the recipe's target; 4 students of a sweep failed; 128 and the number of the signal where one stopped it, with
//! all that was learned saved: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP.

mod commands;
mod environment;
mod progress;
mod signals;
mod table;
mod terminal;
mod watch;

use std::fmt;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use distil_gpu_engine::Error;
use distil_gpu_engine::recipe::{RecipeError, path_of_key};

use terminal::{clean, note, say, say_json};

/// Distils a strong, heavy model into a small, fast one, on whatever GPU there is.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Begin with `distil-gpu run`: it needs no files and takes under a minute.

Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 the student missed the recipe's target, \
4 students of a sweep failed, 130 stopped by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP (what was learned is saved)")]
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
    /// Go on with a text, or answer a question, by a language model
    Generate(commands::generate::Args),
    /// Write a language model as a GGUF file, or a GGUF file as a folder
    Convert(commands::convert::Args),
    /// Write a model as a folder that transformers, onnxruntime, transformers.js, llama.cpp and browsers take, or as a page
    Export(commands::export::Args),
    /// Write a model's raw outputs for any inputs
    Logits(commands::logits::Args),
    /// Keep what a recipe's teacher answers to its training data, so that students learn without asking it again
    Label(commands::label::Args),
    /// Answer requests over HTTP by one or several models
    #[cfg(feature = "serve")]
    Serve(commands::serve::Args),
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
    /// Explain the keys of a recipe: what each may be, and what it is unless given
    Keys(commands::keys::Args),
    /// Print a script that lets a shell complete commands and options
    Completions(commands::completions::Args),
    /// Print or write the manual pages
    Man(commands::man::Args),
    /// List the licences of what the program contains
    Licences(commands::licences::Args),
}

/// The program's name, as it is called.
const NAME: &str = "distil-gpu";

/// Exit code for arguments that make no sense, as clap has it.
const WRONG_ARGUMENTS: u8 = 2;
/// Exit code of a run whose student missed the recipe's target.
const TARGET_MISSED: u8 = 3;
/// Exit code of a sweep in which the training of a student diverged.
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

/// Arguments that make no sense together or to a command, where the parser cannot know.
#[derive(Debug)]
struct Usage(String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Whether an error is about the arguments: one of our own, or about the value of a `--set`.
fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let recipe = match cause.downcast_ref() {
            Some(Error::Recipe(recipe)) => Some(recipe),
            _ => cause.downcast_ref::<RecipeError>(),
        };
        cause.is::<Usage>() || recipe.is_some_and(RecipeError::is_of_set)
    })
}

/// The arguments, or the exit code where there are none to go on with.
fn arguments() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        let text = error.render().to_string();
        match tip(&error) {
            None if clean(&text) == text => error.exit(),
            // What was typed commands the terminal: clap would print it as it is.
            None => note(text.trim_end()),
            Some(tip) => {
                let found = text.lines().next().unwrap_or_default();
                note(format_args!(
                    "{found}\n\n  tip: {tip}\n\nFor more information, try '--help'."
                ));
            }
        }
        WRONG_ARGUMENTS.into()
    })
}

/// A better way out of what newcomers type than the parser's own.
fn tip(error: &clap::Error) -> Option<String> {
    let value = |kind| match error.get(kind) {
        Some(ContextValue::String(value)) => Some(value),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let recipe = value(ContextKind::InvalidSubcommand)?;
            recipe.ends_with(".toml").then(|| format!("to run a recipe: distil-gpu run {recipe}"))
        }
        ErrorKind::UnknownArgument => {
            let argument = value(ContextKind::InvalidArg)?;
            let key = path_of_key(argument.trim_start_matches('-'))?;
            let has_set = ["run", "sweep", "plan", "bench", "tune"];
            let command = std::env::args().nth(1)?;
            has_set
                .contains(&&*command)
                .then(|| format!("keys of the recipe are set by --set, as in --set {key}=VALUE"))
        }
        _ => None,
    }
}

fn main() -> ExitCode {
    environment::prepare();
    let cli = match arguments() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let voice = Voice { quiet: cli.quiet, json: cli.json };
    let success = |()| ExitCode::SUCCESS;
    let done = match cli.command {
        Command::Run(args) => commands::run::run(args, voice),
        Command::Report(args) => commands::report::run(args, voice).map(success),
        Command::Eval(args) => commands::eval::run(args, voice).map(success),
        Command::Generate(args) => commands::generate::run(args, voice).map(success),
        Command::Convert(args) => commands::convert::run(args, voice).map(success),
        Command::Export(args) => commands::export::run(args, voice),
        Command::Label(args) => commands::label::run(args, voice).map(success),
        Command::Logits(args) => commands::logits::run(args, voice).map(success),
        #[cfg(feature = "serve")]
        Command::Serve(args) => commands::serve::run(args, voice).map(success),
        Command::Plan(args) => commands::plan::run(args, voice).map(success),
        Command::Sweep(args) => commands::sweep::run(args, voice),
        Command::Check(args) => commands::check::run(args, voice).map(success),
        Command::Bench(args) => commands::bench::run(args, voice).map(success),
        Command::Tune(args) => commands::tune::run(args, voice).map(success),
        Command::Devices(args) => commands::devices::run(args, voice).map(success),
        Command::Init(args) => commands::init::run(args, voice).map(success),
        Command::Keys(args) => commands::keys::run(args, voice).map(success),
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
            if is_usage(&error) { WRONG_ARGUMENTS.into() } else { ExitCode::FAILURE }
        }
    }
}
