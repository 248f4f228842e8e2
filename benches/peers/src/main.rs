//! Runs the engine and its peers at the same work, in turns, in one process, on the same device.

mod compare;
mod ours;
mod peers;
mod work;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use compare::{Comparison, Work, compare};
use distil_gpu_engine::device::{Choice, GpuOptions, select};
use work::{PRODUCTS, Product};

/// Greatest distance of two results in f32; of the changes that training makes, the parameters' rounding is
/// part.
const LIMIT: f64 = 1e-3;

/// Compares the engine with its peers.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only the comparisons whose peer or work contains this.
    #[arg(long)]
    only: Option<String>,
    /// Seconds to measure each side for.
    #[arg(long, default_value = "3", value_parser = seconds)]
    seconds: Duration,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut comparisons = Vec::new();
    for tune in [false, true] {
        for job in products().chain([Job::Training, Job::Forward]) {
            let peer = if tune { "meganeura, tuned" } else { "meganeura" };
            if arguments.wants(peer, &job.name()) {
                comparisons.push(meganeura(job, peer, tune, arguments.seconds)?);
            }
        }
    }
    #[cfg(feature = "burn")]
    for job in products().chain([Job::Distillation]) {
        if arguments.wants("burn flex", &job.name()) {
            comparisons.push(burn(job, arguments.seconds)?);
        }
    }
    ensure!(!comparisons.is_empty(), "nothing is called so: leave out --only for all");
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&comparisons)?);
    } else {
        print(&comparisons);
    }
    Ok(())
}

/// What both sides do.
#[derive(Clone, Copy, Debug)]
enum Job {
    Matmul(Product),
    Training,
    Forward,
    #[cfg(feature = "burn")]
    Distillation,
}

impl Job {
    fn name(&self) -> String {
        match self {
            Self::Matmul(product) => product.name(),
            Self::Training => "student training step".to_owned(),
            Self::Forward => "teacher forward".to_owned(),
            #[cfg(feature = "burn")]
            Self::Distillation => "distillation step".to_owned(),
        }
    }
}

fn products() -> impl Iterator<Item = Job> {
    PRODUCTS.into_iter().map(Job::Matmul)
}

impl Arguments {
    fn wants(&self, peer: &str, work: &str) -> bool {
        self.only.as_ref().is_none_or(|only| peer.contains(only) || work.contains(only))
    }
}

/// One work on one GPU driver, even if it runs on the processor.
fn meganeura(job: Job, peer: &str, tune: bool, budget: Duration) -> Result<Comparison> {
    let mut selected = select(Choice::Gpu(None), GpuOptions::default())?;
    let device = &mut *selected.device;
    let info = device.info().clone();
    let theirs = peers::meganeura::device();
    ensure!(
        info.name == theirs,
        "the engine runs on {}, meganeura on {theirs}: leave one driver, with VK_DRIVER_FILES, or set \
         MEGANEURA_DEVICE_ID",
        info.name
    );
    let work = Work {
        name: &job.name(),
        peer,
        device: &format!("{}, {}", info.name, info.driver),
        limit: LIMIT,
        budget,
    };
    match job {
        Job::Matmul(product) => compare(
            work,
            &mut ours::Matmul::new(device, product)?,
            &mut peers::meganeura::Matmul::new(product, tune),
        ),
        Job::Training => compare(
            work,
            &mut ours::Training::alone(device)?,
            &mut peers::meganeura::Training::new(tune),
        ),
        _ => compare(
            work,
            &mut ours::Forward::new(device)?,
            &mut peers::meganeura::Forward::new(tune),
        ),
    }
}

#[cfg(feature = "burn")]
/// One work on the processor.
fn burn(job: Job, budget: Duration) -> Result<Comparison> {
    let mut selected = select(Choice::Cpu, GpuOptions::default())?;
    let device = &mut *selected.device;
    let name = &job.name();
    let work = Work { name, peer: "burn flex", device: "CPU", limit: LIMIT, budget };
    match job {
        Job::Matmul(product) => compare(
            work,
            &mut ours::Matmul::new(device, product)?,
            &mut peers::burn::Matmul::new(product),
        ),
        _ => compare(
            work,
            &mut ours::Training::distilled(device)?,
            &mut peers::burn::Distillation::new(),
        ),
    }
}

fn print(comparisons: &[Comparison]) {
    println!(
        "{:<27}{:<18}{:>10}{:>11}{:>8}{:>14}{:>7}{:>10}  device",
        "work", "peer", "ours ms", "peer ms", "ratio", "range", "turns", "apart"
    );
    for row in comparisons {
        let [low, high] = row.ratio_range;
        println!(
            "{:<27}{:<18}{:>10.3}{:>11.3}{:>8.2}{:>14}{:>7}{:>10.1e}  {}",
            row.work,
            row.peer,
            row.ours_milliseconds,
            row.peer_milliseconds,
            row.ratio,
            format!("{low:.2}-{high:.2}"),
            row.turns,
            row.distance,
            row.device,
        );
    }
}
