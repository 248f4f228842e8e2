//! `distil-gpu check`

use anyhow::{Result, bail};
use distil_gpu_engine::device::{Device, DeviceKind, adapters};
use distil_gpu_engine::recipe::Recipe;
use distil_gpu_engine::run::Setup;
use distil_gpu_engine::tune::Cache;
use distil_gpu_engine::verify::{self, Report, Variants};
use serde_json::json;

use crate::table::Table;
use crate::{Voice, note, say, say_json, table};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu check
      Every kernel and whole training steps, on the device that `auto` takes, held to 64-bit arithmetic
  distil-gpu check --all
      The same on every driver of this machine and on the CPU path
  distil-gpu check --variants
      The kernels in every variant, not only in those that this device runs
  distil-gpu check --only matmul --variants
      One kernel, in every variant

An error is a normalised mean square error; a limit is what rounding to 32 bits explains. Exit code 1 when \
one is above its limit.")]
pub struct Args {
    /// auto, cpu, gpu or gpu:N
    #[arg(long, default_value = "auto", value_parser = super::device)]
    device: String,
    /// Check every driver of this machine and the CPU path
    #[arg(long, conflicts_with = "device")]
    all: bool,
    /// Check the variants of kernels as well that are not in use: drivers take minutes to compile them
    #[arg(long)]
    variants: bool,
    /// Check this kernel alone, by its name in the table
    #[arg(long, value_name = "KERNEL")]
    only: Option<String>,
}

pub fn run(args: Args, voice: Voice) -> Result<()> {
    let devices = match args.all {
        true => (0..adapters().len())
            .map(|number| format!("gpu:{number}"))
            .chain(["cpu".to_owned()])
            .collect(),
        false => vec![args.device],
    };
    let mut reports = Vec::new();
    for name in devices {
        let mut device = super::open(&name, false, voice)?;
        if device.info().kind != DeviceKind::Cpu {
            device.choose(Cache::open(device.info())?.choices());
        }
        let variants = if args.variants { Variants::All } else { Variants::InUse };
        let bar = super::bar(voice, 0, "checks");
        let report =
            verify::check(&mut *device, variants, args.only.as_deref(), &mut |done, total| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
            });
        bar.finish_and_clear();
        let report = report?;
        if !voice.json {
            show(&report)?;
        }
        reports.push(report);
    }
    if voice.json {
        let ok = reports.iter().all(|report| report.ok);
        let version = env!("CARGO_PKG_VERSION");
        let all = json!({ "version": version, "ok": ok, "devices": reports });
        say_json(&all)?;
    }
    verdict(&reports)
}

/// Holds a recipe's trainings to the oracle; an error when one is off.
pub fn recipe(device: &mut dyn Device, recipe: &Recipe, setup: &Setup, voice: Voice) -> Result<()> {
    let bar = super::bar(voice, 0, "checks of the recipe's kernels and steps");
    let report = verify::recipe(device, recipe, setup, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let report = report?;
    if voice.progress() {
        match report.ok {
            true => note(format_args!("Verified: {}", report.sentence())),
            false => note(rows(&report)),
        }
    }
    verdict(&[report])
}

fn show(report: &Report) -> Result<()> {
    say(rows(report))?;
    for row in report.rows.iter().filter(|row| !row.ok) {
        row.refused.iter().try_for_each(|refused| say(format_args!("{}: {refused}", row.name)))?;
        if row.error > row.limit {
            say(format_args!("{}: worst in {}", row.name, row.worst))?;
        }
    }
    match report.ok {
        true => say(format_args!("{} ({:.1} s)", report.sentence(), report.seconds)),
        // The error says it.
        false => Ok(()),
    }
}

fn rows(report: &Report) -> Table {
    let mut table = table::new(["", "results", "largest error", "limit", ""]);
    let small = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1e}"));
    for row in &report.rows {
        table.add_row([
            row.name.clone(),
            row.results.to_string(),
            small(row.error),
            small(row.limit),
            if row.ok { "ok" } else { "OFF" }.to_owned(),
        ]);
    }
    table
}

/// An error when a device computes wrong, naming what.
fn verdict(reports: &[Report]) -> Result<()> {
    let wrong: Vec<String> =
        reports.iter().filter(|report| !report.ok).map(Report::sentence).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("{}", wrong.join(" "))
}

#[cfg(test)]
mod tests {
    use distil_gpu_engine::verify::Row;

    use super::*;

    fn report(ok: bool) -> Report {
        let row = Row {
            name: "matmul".to_owned(),
            results: 3,
            error: Some(if ok { 1e-14 } else { 1e-3 }),
            limit: Some(3e-13),
            worst: "out".to_owned(),
            ok,
            refused: Vec::new(),
        };
        Report {
            device: "a card".to_owned(),
            backend: "Vulkan".to_owned(),
            driver: "1.0".to_owned(),
            rows: vec![row],
            ok,
            seconds: 1.0,
        }
    }

    #[test]
    fn one_device_that_is_off_is_an_error_that_names_the_kernel() {
        verdict(&[report(true)]).unwrap();
        let error = verdict(&[report(true), report(false)]).unwrap_err().to_string();
        assert!(error.contains("a card computes wrong: matmul is off"), "{error}");
        let shown = rows(&report(false)).to_string();
        assert!(shown.contains("OFF") && shown.contains("1.0e-3"), "{shown}");
    }
}
