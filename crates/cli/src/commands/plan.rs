//! `distil-gpu plan`

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;
use distil_gpu_engine::device::{Adapter, Outlook, adapters};
use distil_gpu_engine::forecast::main_memory::MainMemory;
use distil_gpu_engine::forecast::{DeviceForecast, Forecast, Memory};
use distil_gpu_engine::tune::Cache;
use distil_gpu_engine::words::thousands;

use crate::table::Table;
use crate::{Voice, say, say_json, table};

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu plan
      What the recipe that comes with the program will need of each device of this machine
  distil-gpu plan recipes/hinton-mnist.toml --set train.batch=4096
      Whether a larger batch still fits, before anything is allocated")]
pub struct Args {
    /// Recipe to plan [default: the one that comes with the program]
    recipe: Option<PathBuf>,
    /// Set any key of the recipe; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub fn run(args: Args, voice: Voice) -> Result<()> {
    let recipe = super::recipe(args.recipe.as_deref(), &args.set, voice)?;
    let gpus = adapters();
    let choices = |gpu: &Adapter| Cache::open(&gpu.info).map(|cache| cache.choices());
    let outlook = |gpu: &Adapter| Outlook::of(gpu, choices(gpu).unwrap_or_default());
    let devices: Vec<Outlook> = gpus.iter().map(outlook).chain([Outlook::cpu()]).collect();
    let forecast = Forecast::of(&recipe, &devices)?;
    if voice.json {
        return say_json(&forecast);
    }
    let mut models = table::new(["model", "parameters", "sizes"]);
    for model in &forecast.models {
        let parameters = thousands(model.parameters);
        models.add_row([model.name.to_owned(), parameters, model.sizes.clone()]);
    }
    table::right(&mut models, 1..2);
    say(models)?;
    for model in &forecast.models {
        let Some(stored) = &model.stored else { continue };
        say(format_args!(
            "The {}'s weights take {}, {} less than in f32: {}",
            model.name,
            size(stored.bytes),
            size(stored.f32_bytes.saturating_sub(stored.bytes)),
            stored.in_words()
        ))?;
    }
    if !forecast.cuts.is_empty() {
        say(cuts(&forecast))?;
    }
    say(steps(&forecast))?;
    for arm in &forecast.arms {
        if let Some([kept, again]) = arm.activations {
            say(format_args!(
                "Activations of a batch, {}: {} kept, {} with recompute = \"layers\"",
                arm.arm.title(),
                size(kept),
                size(again)
            ))?;
        }
    }
    say("\nLargest tensors of a step")?;
    let mut largest = table::new(["tensor", "size"]);
    for tensor in &forecast.largest {
        largest.add_row([tensor.name.clone(), size(tensor.bytes)]);
    }
    table::right(&mut largest, 1..2);
    say(largest)?;
    for (index, device) in forecast.devices.iter().enumerate() {
        let name = if index < gpus.len() { format!("gpu:{index}") } else { "cpu".to_owned() };
        say(format_args!(
            "\nMemory on {name}, {}: {} at most",
            device.device,
            size(device.peak_bytes)
        ))?;
        say(memory(device))?;
        if let Some(main) = &device.main_memory {
            say(main_memory(main))?;
        }
        for (tensor, parts) in &device.tiled {
            say(format_args!("In {parts} tiles: {tensor}"))?;
        }
        match device.exceeded.as_slice() {
            [] => say("Every tensor is within this device's limits.")?,
            all => all.iter().try_for_each(|problem| say(format_args!("Refused: {problem}")))?,
        }
    }
    Ok(())
}

/// What is found out of a model before students are cut out of it.
fn cuts(forecast: &Forecast) -> Table {
    let heads = ["before the students", "parameters", "passes", "operations", "bytes", "launches"];
    let mut table = table::new(heads);
    for (index, cut) in forecast.cuts.iter().enumerate() {
        let on = |device: &DeviceForecast| device.cut_launches[index];
        table.add_row([
            cut.phase.to_owned(),
            thousands(cut.parameters),
            thousands(cut.passes),
            format!("{:.1} M", cut.flops as f64 / 1e6),
            size(cut.bytes_moved),
            launches(forecast, on),
        ]);
    }
    table::right(&mut table, 1..6);
    table
}

/// The numbers of launches that devices need, each once.
fn launches(forecast: &Forecast, on: impl Fn(&DeviceForecast) -> usize) -> String {
    let all: BTreeSet<usize> = forecast.devices.iter().map(on).collect();
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    all.join(" or ")
}

/// What a step of each arm is.
fn steps(forecast: &Forecast) -> Table {
    let mut table = table::new([
        "training",
        "parameters",
        "batch",
        "steps",
        "operations a step",
        "bytes a step",
        "launches a step",
    ]);
    for (index, arm) in forecast.arms.iter().enumerate() {
        table.add_row([
            arm.arm.title().to_owned(),
            thousands(arm.parameters),
            arm.batch.to_string(),
            thousands(arm.steps as usize),
            format!("{:.1} M", arm.flops as f64 / 1e6),
            size(arm.bytes_moved),
            launches(forecast, |device| device.launches[index]),
        ]);
    }
    table::right(&mut table, 1..7);
    table
}

/// What a run takes of the machine's memory.
fn main_memory(main: &MainMemory) -> String {
    let MainMemory { program, data, models, work, phase, checkpoint, installed } = main;
    let has = installed.map_or_else(String::new, |all| format!("; this machine has {}", size(all)));
    format!(
        "The whole program takes {} at most: itself {}, data {}, first values of models {}, {phase} {}. While a \
         checkpoint is written, {} more{has}.",
        size(main.total()),
        size(*program),
        size(*data),
        size(*models),
        size(*work),
        size(*checkpoint),
    )
}

/// Memory of each phase by purpose. What is staged for the device lies beside the data.
fn memory(device: &DeviceForecast) -> Table {
    let mut table = table::new([
        "while",
        "parameters",
        "gradients",
        "moments",
        "activations",
        "data",
        "in all",
    ]);
    for phase in &device.phases {
        let Memory {
            phase: name, parameters, gradients, moments, activations, data, staging, ..
        } = phase;
        let bytes = [*parameters, *gradients, *moments, *activations, data + staging];
        let cells = bytes.map(size).into_iter().chain([size(phase.total())]);
        table.add_row([name.clone()].into_iter().chain(cells));
    }
    table::right(&mut table, 1..7);
    table
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    match bytes {
        0 => "-".to_owned(),
        1..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
