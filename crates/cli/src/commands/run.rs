//! `distil-gpu run`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use distil_gpu_engine::results::PAGE;
use distil_gpu_engine::run;
use distil_gpu_engine::run::Begin;

use super::toml_string;
use crate::watch::Watch;
use crate::{TARGET_MISSED, Voice, note, say, say_json, table};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu run
      Fashion pictures that come with the program; no files needed
  distil-gpu run recipes/hinton-mnist.toml --set distil.temperature=8 --seed 1
      A recipe with one key changed, from another seed
  distil-gpu run --resume runs/hinton-mnist
      Go on with a run that was interrupted, as if it had never stopped")]
pub struct Args {
    /// Recipe to run [default: the one that comes with the program]
    recipe: Option<PathBuf>,
    /// Set any key of the recipe; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder for the results [default: runs/NAME, numbered when that exists]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Seed of weights, order and dropout
    #[arg(long)]
    seed: Option<u32>,
    /// auto, cpu, gpu or gpu:N (see `distil-gpu devices`)
    #[arg(long, value_parser = super::device)]
    device: Option<String>,
    /// Replace the results of an earlier run in the same folder
    #[arg(long)]
    force: bool,
    /// Go on with the interrupted run in this folder, by its own recipe
    #[arg(long, value_name = "RUN", conflicts_with_all = ["recipe", "out", "seed", "force"])]
    resume: Option<PathBuf>,
    /// Go on though the recipe or the data are not those that the run began with; the report says so
    #[arg(long, requires = "resume", conflicts_with = "recipe")]
    accept_changes: bool,
    /// Keep the bounds checks in the GPU's kernels
    #[arg(long)]
    checked: bool,
    /// Run each kernel as it is by default, whatever was or could be tuned
    #[arg(long)]
    no_tune: bool,
    /// Hold the recipe's kernels and first steps to 64-bit arithmetic before training
    #[arg(long)]
    verify: bool,
}

pub fn run(args: Args, voice: Voice) -> Result<ExitCode> {
    let mut sets = args.set;
    sets.extend(args.seed.map(|seed| format!("seed={seed}")));
    sets.extend(args.device.map(|device| format!("device={}", toml_string(&device))));
    let out = args.out.as_ref().or(args.resume.as_ref());
    sets.extend(out.map(|out| format!("out={}", toml_string(&out.to_string_lossy()))));
    let recipe = match &args.resume {
        Some(run) => super::recipe(Some(&run.join("recipe.toml")), &sets, voice)
            .with_context(|| format!("{} cannot be resumed", run.display()))?,
        None => super::recipe(args.recipe.as_deref(), &sets, voice)?,
    };
    let begin = match (&args.resume, args.force) {
        (Some(_), _) => Begin::Resume { accept_changes: args.accept_changes },
        (None, true) => Begin::Replace,
        (None, false) => Begin::New,
    };
    let mut device = super::open(&recipe.device, args.checked, voice)?;
    recipe.precision.check(&device.caps(), &device.info().name)?;
    let prepared = run::prepare(&recipe, begin)?;
    if !args.no_tune {
        // What was interrupted goes on with the variants it began with.
        let setup = args.resume.is_none().then_some(prepared.setup());
        super::tune::apply(&mut *device, &recipe, setup, voice)?;
    }
    if args.verify {
        super::check::recipe(&mut *device, &recipe, prepared.setup(), voice)?;
    }
    let mut watch = Watch::new(voice)?;
    let run = match run::run(prepared, &mut *device, &mut watch) {
        Ok(run) => run,
        Err(error) => return watch.explain(error, "run"),
    };
    let report = &run.report;
    if voice.json {
        say_json(report)?;
    } else {
        say(table::report(report))?;
        say(report.sentence())?;
        report.before_training().map_or(Ok(()), say)?;
        report.warnings.iter().try_for_each(|warning| say(format_args!("Warning: {warning}")))?;
        say(format_args!("Results: {}", run.folder.display()))?;
        say(format_args!("Report: {}", run.folder.join(PAGE).display()))?;
    }
    distil_gpu_report::write_page(&run.folder).with_context(|| {
        format!("the run is finished; `distil-gpu report {}` makes its page", run.folder.display())
    })?;
    match report.target {
        Some(target) if !report.reaches_target() => {
            let kept = match report.not_retained() {
                Some(reason) => format!("nothing that can be told ({reason})"),
                None => report.retained.map_or_else(String::new, percent),
            };
            let wanted = percent(target.retain);
            note(format_args!(
                "target missed: the student keeps {kept}, the recipe asks for {wanted}"
            ));
            Ok(TARGET_MISSED.into())
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}
