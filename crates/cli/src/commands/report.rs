//! `distil-gpu report`

use std::path::{Path, PathBuf};

use anyhow::Result;
use distil_gpu_engine::files::write_atomically;
use distil_gpu_engine::results::{PAGE, Record, SWEEP, SWEEP_PAGE, SweepReport};
use distil_gpu_report as report;
use serde_json::json;

use crate::{Voice, say, say_json};

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu report runs/default
      Makes runs/default/report.html again, from the files in the folder
  distil-gpu report runs/default-sweep
      Likewise the page of a sweep, sweep.html
  distil-gpu report runs/t1 runs/t4 runs/t20 --out temperatures.html
      One page that compares three runs

In a run's files, `control` is the student alone (folder control/), `distilled` the student distilled (folder \
student/).")]
pub struct Args {
    /// Folder of a finished run or sweep; several runs are compared on one page
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Page to write; one that exists is replaced [default: RUN/report.html, RUN/sweep.html for
    /// a sweep, or compare.html for several]
    #[arg(long)]
    out: Option<PathBuf>,
}

pub fn run(args: Args, voice: Voice) -> Result<()> {
    let (html, out) = match &args.runs[..] {
        [sweep] if sweep.join(SWEEP).is_file() => {
            (report::sweep_page(&SweepReport::read(sweep)?), sweep.join(SWEEP_PAGE))
        }
        [run] => (report::single(&Record::read(run)?), run.join(PAGE)),
        runs => {
            let records = runs.iter().map(|run| Record::read(run));
            let records = records.collect::<Result<Vec<_>, _>>()?;
            let named: Vec<_> = labels(runs).into_iter().zip(records).collect();
            (report::compare(&named), PathBuf::from("compare.html"))
        }
    };
    let out = args.out.unwrap_or(out);
    write_atomically(&out, html.as_bytes())?;
    if voice.json {
        return say_json(&json!({ "report": out }));
    }
    say(format_args!("Report: {}", out.display()))
}

/// What runs are called: their folders' names where these differ, else their paths.
fn labels(runs: &[PathBuf]) -> Vec<String> {
    let name = |run: &Path| run.file_name().map(|name| name.to_string_lossy().into_owned());
    let names: Vec<_> = runs.iter().map(|run| name(run)).collect();
    let alone = |name: &_| names.iter().filter(|other| *other == name).count() == 1;
    let path = |run: &Path| run.display().to_string();
    runs.iter()
        .zip(&names)
        .map(|(run, own)| own.clone().filter(|_| alone(own)).unwrap_or_else(|| path(run)))
        .collect()
}
