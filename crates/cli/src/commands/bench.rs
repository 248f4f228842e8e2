//! `distil-gpu bench`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use distil_gpu_engine::bench::{self, Baseline, Comparison, Growth, Report, Startup};
use distil_gpu_engine::device::{Choice, DeviceKind, GpuOptions, select};
use serde_json::json;

use crate::table::Table;
use crate::{Voice, note, say, say_json, table};

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu bench
      The models of the default recipe, on the device that `auto` takes and on the CPU path
  distil-gpu bench recipes/hinton-mnist.toml --device gpu:0 --seconds 1
      Another recipe's models, less patiently
  distil-gpu bench --only matmul
      One kernel of the distillation step
  distil-gpu bench --scaling --device cpu
      How a distillation step grows with batch, text length, vocabulary and width
  distil-gpu bench --json > before.json; distil-gpu bench --baseline before.json
      What became slower or faster since, each time in units of the copy kernel's

Training steps include handing the batch to the device, forward passes reading the answers back. Every figure \
is a median. A kernel's share is of the roof nearer to it: multiply-adds in registers, or a plain copy; \
it is above 100 % where caches hold the tensors.")]
pub struct Args {
    /// Recipe whose models are measured [default: the one that comes with the program]
    recipe: Option<PathBuf>,
    /// auto, cpu, gpu or gpu:N; the CPU path is measured beside it
    #[arg(long, default_value = "auto", value_parser = super::device)]
    device: String,
    /// Set any key of the recipe; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Seconds for each measurement
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Measure instead how a distillation step grows with its batch, its texts, the vocabulary and the models' width
    #[arg(long, conflicts_with_all = ["recipe", "set", "baseline"])]
    scaling: bool,
    /// Time this kernel alone, as a distillation step calls it
    #[arg(long, value_name = "KERNEL", conflicts_with = "scaling")]
    only: Option<String>,
    /// Compare with an earlier `bench --json`
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// With --baseline: end with exit code 1 when anything takes more than so many times as long
    #[arg(long, value_name = "RATIO", default_value_t = 1.25, value_parser = ratio)]
    slower: f64,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.001..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.001 to 3600".to_owned()),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(ratio) if (1.0..=1000.0).contains(&ratio) => Ok(ratio),
        _ => Err("a number from 1 to 1000".to_owned()),
    }
}

pub fn run(args: Args, voice: Voice) -> Result<()> {
    if args.scaling {
        return scaling(&args, voice);
    }
    let recipe = super::recipe(args.recipe.as_deref(), &args.set, voice)?;
    let earlier =
        args.baseline.as_deref().map(|path| Baseline::read(path, &recipe.name)).transpose()?;
    let asked: Choice = args.device.parse()?;
    let chosen = select(asked, GpuOptions::default())?;
    if voice.progress() {
        note(format_args!("Device: {}", chosen.reason));
    }
    let mut choices = vec![asked];
    if chosen.device.info().kind != DeviceKind::Cpu {
        choices.push(Choice::Cpu);
    }
    drop(chosen);
    let budget = Duration::from_secs_f64(args.seconds);
    let spinner = super::spinner(voice);
    let mut reports = Vec::new();
    for choice in choices {
        reports.push(bench::bench(choice, &recipe, budget, args.only.as_deref(), &mut |next| {
            spinner.set_message(&format!("{choice}: {next}"));
        })?);
    }
    spinner.finish_and_clear();
    let comparisons = earlier.map(|earlier| earlier.compare(&reports));
    ensure!(
        comparisons.as_ref().is_none_or(|found| !found.is_empty()),
        "the baseline is of other devices: there is nothing to compare"
    );
    if voice.json {
        let version = env!("CARGO_PKG_VERSION");
        let mut all = json!({ "version": version, "recipe": recipe.name, "devices": reports });
        if let Some(comparisons) = &comparisons {
            all["comparisons"] = json!(comparisons);
        }
        say_json(&all)?;
    } else {
        say(devices(&reports))?;
        if args.only.is_none() {
            say(throughput(&reports))?;
        }
        reports.iter().try_for_each(kernels)?;
        comparisons.iter().flatten().try_for_each(changes)?;
    }
    let slower = comparisons.iter().flatten().filter_map(|comparison| {
        let worst = comparison.changes.first()?;
        (worst.ratio > args.slower).then(|| {
            format!("{}: {} takes {:.2} times as long", comparison.device, worst.name, worst.ratio)
        })
    });
    let slower: Vec<String> = slower.collect();
    ensure!(slower.is_empty(), "slower than in the baseline: {}", slower.join("; "));
    Ok(())
}

/// How a step grows on one device.
fn scaling(args: &Args, voice: Voice) -> Result<()> {
    let mut chosen = select(args.device.parse()?, GpuOptions::default())?;
    if voice.progress() {
        note(format_args!("Device: {}", chosen.reason));
    }
    let spinner = super::spinner(voice);
    let budget = Duration::from_secs_f64(args.seconds);
    let growths = bench::scaling(&mut *chosen.device, budget, &mut |next| {
        spinner.set_message(next);
    })?;
    spinner.finish_and_clear();
    if voice.json {
        let device = &chosen.device.info().name;
        return say_json(&json!({ "device": device, "growths": growths }));
    }
    let megabytes = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    for Growth { axis, points, time_exponent, memory_exponent } in growths {
        let mut table = table::new([axis, "ms a step", "MB between kernels", "MB on the device"]);
        for point in points {
            table.add_row([
                point.size.to_string(),
                format!("{:.1}", point.milliseconds),
                megabytes(point.planned_bytes),
                megabytes(point.device_bytes),
            ]);
        }
        table.add_row([
            "grows with the power".to_owned(),
            format!("{time_exponent:.2}"),
            format!("{memory_exponent:.2}"),
            String::new(),
        ]);
        table::right(&mut table, 1..4);
        say(table)?;
    }
    Ok(())
}

/// A device's changes, what became slower first.
fn changes(comparison: &Comparison) -> Result<()> {
    say(format_args!(
        "\n{} against the baseline, in units of the copy kernel:",
        comparison.device
    ))?;
    let mut table = table::new(["", "time now / then"]);
    for change in &comparison.changes {
        table.add_row([change.name.clone(), format!("{:.2}", change.ratio)]);
    }
    table::right(&mut table, 1..2);
    say(table)
}

/// The devices, each measurement on one below the other.
fn throughput(reports: &[Report]) -> Table {
    let mut table = table::new(["", "device", "ms", "examples/s", "GFLOP/s"]);
    for (index, measured) in reports[0].throughput.iter().enumerate() {
        let mut title = format!("{}, batch of {}", measured.name, measured.rows);
        for report in reports {
            let found = &report.throughput[index];
            // A device without f16 was measured in f32.
            let other = if found.name == measured.name { "" } else { " in f32" };
            table.add_row([
                std::mem::take(&mut title),
                format!("{}{other}", short(report)),
                format!("{:.3}", found.milliseconds),
                format!("{:.0}", found.examples_per_second),
                format!("{:.1}", found.gflops),
            ]);
        }
    }
    table::right(&mut table, 2..5);
    table
}

/// What tells a GPU from the CPU path beside it.
fn short(report: &Report) -> &'static str {
    if report.backend == "cpu" { "cpu" } else { "gpu" }
}

/// What the devices are, how long they take to start, and what they can do at most.
fn devices(reports: &[Report]) -> Table {
    let mut table = table::new([
        "device",
        "what it is",
        "ms to open, load, first step",
        "roof: GFLOP/s",
        "roof: copy GB/s",
    ]);
    for report in reports {
        let Startup { open_ms, load_ms, first_step_ms } = report.startup;
        let backend = format!("{} {}", report.backend, report.driver);
        table.add_row([
            short(report).to_owned(),
            format!("{}\n{}", report.device, backend.trim()),
            format!("{open_ms:.0} + {load_ms:.0} + {first_step_ms:.0}"),
            format!("{:.1}", report.roofs.gflops),
            format!("{:.1}", report.roofs.gigabytes_per_second),
        ]);
    }
    table::right(&mut table, 2..5);
    table
}

/// A step of one device, kernel by kernel.
fn kernels(report: &Report) -> Result<()> {
    let Some(kernels) = &report.kernels else {
        return say(format_args!("\n{} cannot time its kernels", report.device));
    };
    say(format_args!("\nA distillation step on {}, kernel by kernel:", report.device))?;
    let mut table =
        table::new(["kernel and what it makes", "calls", "µs", "GFLOP/s", "GB/s", "of the roof"]);
    for kernel in kernels {
        table.add_row([
            kernel.name.clone(),
            kernel.calls.to_string(),
            format!("{:.1}", kernel.microseconds),
            format!("{:.1}", kernel.gflops),
            format!("{:.1}", kernel.gigabytes_per_second),
            format!("{:.0} %", 100.0 * kernel.share_of_roof),
        ]);
    }
    table::right(&mut table, 1..6);
    say(table)
}
