//! `distil-gpu run`

use std::path::PathBuf;

use anyhow::{Context, Result};
use distil_gpu_engine::distill::{self, Observer, Silent};
use distil_gpu_engine::recipe::Recipe;

use crate::progress::Progress;
use crate::{Voice, say, table};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu run
      Fashion pictures that come with the program; no files needed
  distil-gpu run recipes/hinton-mnist.toml --set distil.temperature=8 --seed 1
      A recipe with one key changed, from another seed")]
pub struct Args {
    /// Recipe to run [default: the one that comes with the program]
    recipe: Option<PathBuf>,
    /// Set any key of the recipe; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder for the results [default: runs/<name>, numbered when that exists]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Seed of weights, order and dropout
    #[arg(long)]
    seed: Option<u32>,
    /// auto, cpu, gpu or gpu:N (see `distil-gpu devices`)
    #[arg(long)]
    device: Option<String>,
    /// Replace the results of an earlier run in the same folder
    #[arg(long)]
    force: bool,
    /// Keep the bounds checks in the GPU's kernels
    #[arg(long)]
    checked: bool,
    /// Hold the recipe's kernels and first steps to 64-bit arithmetic before training
    #[arg(long)]
    verify: bool,
}

pub fn run(args: Args, voice: Voice) -> Result<()> {
    let mut sets = args.set;
    sets.extend(args.seed.map(|seed| format!("seed={seed}")));
    sets.extend(args.device.map(|device| format!("device={}", toml_string(&device))));
    sets.extend(args.out.map(|out| format!("out={}", toml_string(&out.to_string_lossy()))));
    let recipe = match &args.recipe {
        Some(path) => Recipe::load(path, &sets)?,
        None => Recipe::embedded_default(&sets)?,
    };
    let mut device = super::open(&recipe.device, args.checked, voice)?;
    if args.verify {
        super::check::recipe(&mut *device, &recipe, voice)?;
    }
    let mut progress = Progress::new();
    let mut silent = Silent;
    let observer: &mut dyn Observer = if voice.progress() { &mut progress } else { &mut silent };
    let run = distill::run(&recipe, &mut *device, args.force, observer)?;
    if voice.json {
        let json = serde_json::to_string_pretty(&run.report).context("the report as JSON")?;
        return say(json);
    }
    say(table::report(&run.report))?;
    say(run.report.sentence())?;
    say(format_args!("Results: {}", run.folder.display()))
}

/// Any text as a TOML string: JSON escapes it in the same way.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
