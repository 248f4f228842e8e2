//! `distil-gpu tune`, and what runs do of it by themselves.

use std::path::PathBuf;

use anyhow::{Result, bail};
use distil_gpu_engine::device::{Choice, Device, DeviceKind, GpuOptions, select};
use distil_gpu_engine::forecast;
use distil_gpu_engine::recipe::Recipe;
use distil_gpu_engine::run::Setup;
use distil_gpu_engine::tune::{self, Cache, Finding};
use serde_json::json;

use crate::table::Table;
use crate::{Voice, note, say, say_json, table};

/// Arguments of `tune`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu tune recipes/hinton-mnist.toml
      The kernels of this recipe's steps, in every variant that the GPU can run
  distil-gpu tune --device gpu:1 --set train.batch=512
      Those of the default recipe at another batch size, on the second GPU

A variant must agree with 64-bit arithmetic before it is timed. The fastest are remembered for this GPU and \
driver, and runs use them. A run on a GPU tunes what it needs by itself, unless it is told --no-tune.")]
pub struct Args {
    /// Recipe whose kernels are timed [default: the one that comes with the program]
    recipe: Option<PathBuf>,
    /// auto or gpu:N
    #[arg(long, default_value = "auto", value_parser = super::device)]
    device: String,
    /// Set any key of the recipe; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub fn run(args: Args, voice: Voice) -> Result<()> {
    let recipe = super::recipe(args.recipe.as_deref(), &args.set, voice)?;
    let selected =
        select(args.device.parse()?, GpuOptions { timestamps: true, ..GpuOptions::default() })?;
    let mut device = selected.device;
    if device.info().kind == DeviceKind::Cpu {
        bail!(
            "there is nothing to tune, since kernels have variants on GPUs alone: {}",
            selected.reason
        );
    }
    recipe.precision.check(&device.caps(), &device.info().name)?;
    let kernels = forecast::kernels(&recipe, &Setup::read(&recipe, None)?, device.limits())?;
    let mut cache = Cache::open(device.info())?;
    let findings =
        with_bar(voice, |progress| tune::tune(&mut *device, &kernels, &mut cache, progress))?;
    if voice.json {
        let info = device.info();
        let all = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "device": info.name,
            "backend": info.backend,
            "driver": info.driver,
            "cache": cache.path(),
            "findings": findings,
        });
        return say_json(&all);
    }
    say(rows(&findings))?;
    for finding in &findings {
        for (variant, reason) in &finding.found.refused {
            let Finding { kernel, bucket, .. } = finding;
            say(format_args!("Never again {kernel} {bucket} as {variant}: {reason}"))?;
        }
    }
    say(format_args!("Kept in {}", cache.path().display()))
}

/// Has a run's device use what is known of it. A real GPU is tuned to the recipe first where it is not yet.
/// What hinders that is told, and hinders no run.
pub fn apply(
    device: &mut dyn Device,
    recipe: &Recipe,
    setup: Option<&Setup>,
    voice: Voice,
) -> Result<()> {
    let kind = device.info().kind;
    if kind == DeviceKind::Cpu {
        return Ok(());
    }
    let mut cache = match Cache::open(device.info()) {
        Ok(cache) => cache,
        Err(error) => {
            if !voice.quiet {
                note(format_args!("Not tuned: {error}"));
            }
            return Ok(());
        }
    };
    if let Some(setup) = setup.filter(|_| kind < DeviceKind::SoftwareGpu) {
        let kernels = forecast::kernels(recipe, setup, device.limits())?;
        if tune::is_needed(device, &kernels, &mut cache) {
            let choice: Choice = recipe.device.parse()?;
            // Timestamps cost time: the run's own device has none.
            let mut timed =
                select(choice, GpuOptions { timestamps: true, ..GpuOptions::default() })?.device;
            let tuned =
                with_bar(voice, |progress| tune::tune(&mut *timed, &kernels, &mut cache, progress));
            if let Err(error) = tuned
                && !voice.quiet
            {
                note(format_args!("Tuning ended early: {error:#}"));
            }
        }
    }
    device.choose(cache.choices());
    Ok(())
}

fn with_bar<T>(
    voice: Voice,
    work: impl FnOnce(&mut dyn FnMut(usize, usize)) -> Result<T, distil_gpu_engine::Error>,
) -> Result<T> {
    let bar = super::bar(voice, 0, "kernels tuned");
    let result = work(&mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    Ok(result?)
}

fn rows(findings: &[Finding]) -> Table {
    let mut table = table::new(["kernel", "variants", "fastest", "µs", "as fast as the default"]);
    for finding in findings {
        let found = &finding.found;
        let chosen = found.chosen.as_deref().unwrap_or("none computes right");
        let time = found.microseconds.get(chosen);
        table.add_row([
            format!("{} {}", finding.kernel, finding.bucket),
            (found.microseconds.len() + found.refused.len()).to_string(),
            chosen.to_owned(),
            time.map_or("-".to_owned(), |time| format!("{time:.1}")),
            finding.gain().map_or("-".to_owned(), |gain| format!("{gain:.2} times")),
        ]);
    }
    table::right(&mut table, 3..5);
    table
}
