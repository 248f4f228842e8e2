//! `distil-gpu export`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use distil_gpu_engine::models::ModelConfig;
use distil_gpu_engine::results::Exports;
use distil_gpu_engine::store::Storage;
use distil_gpu_export::{Error, Export, Files, Measure, PARTS, Part};
use distil_gpu_web::{Model, Options, write_page};
use serde_json::json;

use crate::signals::{self, exit_code};
use crate::{Usage, Voice, note, say, say_json, table};

/// Arguments of `export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu export runs/movie-sentiment/student --to movie-sentiment
      A folder that transformers, onnxruntime, transformers.js and a browser load as it is
  distil-gpu export runs/movie-sentiment/student --to student.html
      One file that any browser with WebGPU opens, from a disk as well; it loads nothing from elsewhere
  distil-gpu export my-model --to my-folder --only onnx,onnx-int8 --license mit
  distil-gpu export runs/movie-sentiment/student --to movie-sentiment --measure --python venv/bin/python
      Each of its ways out is measured on the run's test data, by onnxruntime and Chromium where these are there

The folder always has the model itself (model.safetensors, config.json, the tokenizer's files) and a card, README.md.
Besides, unless --only picks of them, what a model can have of:
  onnx       onnx/model.onnx, for onnxruntime and transformers.js
  onnx-int8  onnx/model_quantized.onnx, its weights in eight bits
  onnx-f16   onnx/model_fp16.onnx, its weights in f16
  int8       int8/, the model with its matrices in eight bits, for distil-gpu
  gguf       model.gguf in f16, for llama.cpp
  web        web/index.html and what it loads, for a web server")]
pub struct Args {
    /// Folder with config.json and model.safetensors, a GGUF file, or hf:OWNER/NAME for a model of the hub
    model: PathBuf,
    /// Folder to write, whole or not at all; or a page for browsers, its name ending in .html
    #[arg(long, value_name = "FOLDER|FILE.html")]
    to: PathBuf,
    /// Only these of what the folder may have, separated by commas
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    only: Vec<String>,
    /// The model's licence for its card, by its name at SPDX, as in apache-2.0
    #[arg(long, value_name = "NAME")]
    license: Option<String>,
    /// How the page for browsers stores matrices; what it computes is f32 either way
    #[arg(long, value_name = "TYPE", default_value = "f16", value_parser = super::storage())]
    web_weights: Storage,
    /// A text that the page for browsers begins with; may be given several times
    #[arg(long, value_name = "TEXT")]
    example: Vec<String>,
    /// Replaces a folder that an export wrote, if nothing else is in it, or a page
    #[arg(long)]
    force: bool,
    /// Measures what is written on so many of the run's test examples, for a model in the folder of a run: the ONNX files by
    /// onnxruntime, the page for browsers by Chromium. The figures go into the card and onto the run's page
    #[arg(long, value_name = "EXAMPLES", num_args = 0..=1, require_equals = true, default_missing_value = MEASURED,
          value_parser = clap::value_parser!(u32).range(1..))]
    measure: Option<u32>,
    /// The Python that has onnxruntime, for --measure
    #[arg(long, value_name = "PATH", default_value = "python3", requires = "measure")]
    python: PathBuf,
    /// What runs the model itself, for --measure: auto, cpu, gpu or gpu:N
    #[arg(long, default_value = "auto", value_parser = super::device, requires = "measure")]
    device: String,
}

/// Examples that are measured on, unless another number is given.
const MEASURED: &str = "1000";

pub fn run(args: Args, voice: Voice) -> Result<ExitCode> {
    let named = |name: &String| {
        Part::named(name).map_err(|problem| anyhow::Error::new(Usage(format!("--only: {problem}"))))
    };
    let only = args.only.iter().map(named).collect::<Result<Vec<_>>>()?;
    if let Some(licence) = &args.license
        && !licence.chars().all(|letter| letter.is_ascii_alphanumeric() || "-.+".contains(letter))
    {
        anyhow::bail!(Usage(format!(
            "--license {licence}: it must be a name of letters, digits, `-`, `.` and `+`, as in apache-2.0"
        )));
    }
    let web = Options { weights: args.web_weights, examples: args.example };
    let to = &args.to;
    let is_page = to.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("html"));
    if is_page && !(only.is_empty() && args.license.is_none() && args.measure.is_none()) {
        anyhow::bail!(Usage(format!(
            "--to {} is one page: --only, --license and --measure are for a folder",
            to.display()
        )));
    }
    if is_page && to.exists() && !args.force {
        anyhow::bail!("{} is there already: give another name, or --force", to.display());
    }
    let (from, config, values) = super::load_model(&args.model, voice)?;
    if is_page {
        return page(&from, (&config, &values), &web, to, voice).map(|()| ExitCode::SUCCESS);
    }
    let parts = if only.is_empty() {
        Part::of(&config)
    } else {
        PARTS.iter().filter(|part| only.iter().any(|asked| asked.name == part.name)).collect()
    };
    let measure =
        args.measure.map(|examples| Measure::of(&from, &config, (examples as usize, &args.python)));
    let measure = measure.transpose()?;
    let mut device = match &measure {
        Some(measure) => {
            super::note_all(measure.notes(), voice);
            Some(super::open(&args.device, false, voice)?)
        }
        None => None,
    };
    let export = Export {
        from: &from,
        config: &config,
        values: &values,
        parts,
        licence: args.license,
        web,
        force: args.force,
    };
    let signal = signals::watch().context("signals cannot be watched")?;
    let stop = || signal.load(Ordering::Relaxed) != 0;
    let spinner = super::spinner(voice);
    let written = export.write_measured(to, &stop, |folder| match (&measure, &mut device) {
        (Some(measure), Some(device)) => {
            measure.run(&mut **device, (&values, folder), &stop).map(Some)
        }
        _ => Ok(None),
    });
    spinner.finish_and_clear();
    if let Err(error @ Error::Stopped) = &written {
        note(error);
        return Ok(exit_code(signal.load(Ordering::Relaxed)).into());
    }
    let (files, exports) = written.with_context(|| format!("cannot export to {}", to.display()))?;
    if let (Some(measure), Some(exports)) = (&measure, &exports) {
        measure.keep(exports)?;
    }
    tell(to, &files, exports.as_ref(), voice).map(|()| ExitCode::SUCCESS)
}

/// Says what was written, and what was measured of it.
fn tell(to: &Path, files: &Files, exports: Option<&Exports>, voice: Voice) -> Result<()> {
    if voice.json {
        let mut said = json!({ "to": to, "files": files });
        if let Some(exports) = exports {
            said["measured"] = serde_json::to_value(exports).expect("figures are plain data");
        }
        return say_json(&said);
    }
    say(format_args!("{} is written", to.display()))?;
    for (name, bytes) in files {
        say(format_args!("  {name}, {:.2} MB", *bytes as f64 / 1e6))?;
    }
    let Some(exports) = exports else { return Ok(()) };
    let mut table = table::new(exports.head());
    exports.rows().into_iter().for_each(|row| table.add_row(row));
    table::right(&mut table, 2..8);
    table.spare([5]);
    say(format_args!("\n{table}\n{}", exports.note()))
}

/// Writes a model as one file for browsers.
fn page(
    from: &Path,
    (config, values): (&ModelConfig, &[Vec<f32>]),
    options: &Options,
    to: &Path,
    voice: Voice,
) -> Result<()> {
    let spinner = super::spinner(voice);
    let written = write_page(&Model { config, values, folder: Some(from) }, options, to);
    spinner.finish_and_clear();
    let written = written.with_context(|| format!("cannot make a page of {}", from.display()))?;
    let weights = options.weights.name();
    if voice.json {
        return say_json(&json!({
            "to": to, "bytes": written.bytes, "weights": weights, "weight_bytes": written.weights,
            "plans": written.plans, "parameters": config.parameter_count(),
        }));
    }
    say(format_args!(
        "{} is written, {:.1} MB, its weights in {weights}: open it in a browser with WebGPU",
        to.display(),
        written.bytes as f64 / 1e6
    ))
}
