//! `distil-gpu eval`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use distil_gpu_engine::data::{self, Dataset};
use distil_gpu_engine::distill::evaluate::errors_per_class;
use distil_gpu_engine::distill::{Evaluator, frozen_store};
use distil_gpu_engine::models::{self, Feed, Input};
use distil_gpu_engine::recipe::{Column, Data, Recipe, Source};
use serde_json::json;

use crate::{Voice, say, table};

/// Arguments of `eval`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu eval runs/default/student --data embedded
      The test pictures that come with the program
  distil-gpu eval runs/hinton-mnist/student --data recipes/hinton-mnist.toml
      The test data of a recipe
  distil-gpu eval my-model --data flowers.csv --label species
      A file: .csv, .safetensors (features, labels), or a folder with a folder of images a class
  distil-gpu eval runs/movie-sentiment/student --data reviews.csv --text review --label sentiment
      Labelled texts: .csv, .tsv, .jsonl or .parquet")]
pub struct Args {
    /// Folder with config.json and model.safetensors, or hf:OWNER/NAME for a model of the hub
    model: PathBuf,
    /// `embedded`, a recipe, a .csv or .safetensors file, or a folder of images
    #[arg(long)]
    data: String,
    /// Column of the labels in a file with named columns
    #[arg(long, default_value = "label")]
    label: String,
    /// Column of the texts, for a model that reads texts; given twice, those of a pair
    #[arg(long, value_name = "COLUMN", default_value = "text")]
    text: Vec<String>,
    /// auto, cpu, gpu or gpu:N
    #[arg(long, default_value = "auto")]
    device: String,
}

pub fn run(args: Args, voice: Voice) -> Result<()> {
    let (config, values) = models::load(&super::model_folder(&args.model, voice)?)?;
    let other = match (config.embeds(), config.input.masks()) {
        (true, _) => Some("makes embeddings"),
        (_, true) => Some("guesses masked tokens"),
        _ => None,
    };
    if let Some(other) = other {
        bail!("{} {other}: `eval` measures classifiers", args.model.display());
    }
    let unfit = || format!("{} cannot be measured on {}", args.model.display(), args.data);
    let test = load(&args, matches!(config.input, Input::Tokens(_)))?;
    let test = test.with_classes(&config.class_names).with_context(unfit)?;
    let feed = Feed::new(&config.input, test.examples()).with_context(unfit)?;
    let mut device = super::open(&args.device, false, voice)?;
    let device = &mut *device;
    let store = frozen_store(device, &config, &values)?;
    let mut evaluator = Evaluator::new(&config, &store);
    let bar = super::bar(voice, test.len(), "examples");
    let logits = evaluator.logits(device, &feed, &mut |rows| bar.inc(rows as u64))?;
    bar.finish_and_clear();
    let metrics = evaluator.metrics(device, &feed, test.labels(), None, 1.0, 0.0)?;
    let speed = evaluator.speed(device, &feed)?;
    let per_class = errors_per_class(&logits, test.labels(), config.classes(), None);
    let errors: usize = per_class.iter().sum();
    let accuracy = (test.len() - errors) as f64 / test.len() as f64;
    let latency_ms = speed.latency.as_secs_f64() * 1e3;
    if voice.json {
        let report = json!({
            "accuracy": accuracy,
            "errors": errors,
            "macro_f1": metrics.macro_f1,
            "matthews": metrics.matthews,
            "errors_per_class": per_class,
            "examples": test.len(),
            "cross_entropy": metrics.hard,
            "parameters": config.parameter_count(),
            "latency_ms": latency_ms,
            "examples_per_second": speed.examples_per_second,
            "device": device.info().name,
        });
        return say(format_args!("{report:#}"));
    }
    let examples = test.len();
    say(format_args!("accuracy      {:.2} % ({errors} errors in {examples})", 100.0 * accuracy))?;
    say(format_args!("macro F1      {:.4}", metrics.macro_f1.unwrap_or(f64::NAN)))?;
    say(format_args!("Matthews      {:.4}", metrics.matthews.unwrap_or(f64::NAN)))?;
    say(format_args!("cross-entropy {:.4}", metrics.hard.unwrap_or(f64::NAN)))?;
    say(format_args!("latency       {latency_ms:.3} ms for one example"))?;
    say(format_args!("throughput    {:.0} examples/s", speed.examples_per_second))?;
    let counts = test.per_class_counts();
    let mut table = table::new(["class", "examples", "errors"]);
    for ((name, count), wrong) in config.class_names.iter().zip(&counts).zip(&per_class) {
        table.add_row([name.clone(), count.to_string(), wrong.to_string()]);
    }
    say(table)
}

/// The labelled examples that `--data` names.
fn load(args: &Args, texts: bool) -> Result<Dataset> {
    let path = Path::new(&args.data);
    let (train, test) = (path.to_owned(), path.to_owned());
    let extension = path.extension().and_then(|extension| extension.to_str());
    let source = match extension {
        _ if args.data == "embedded" => Source::Embedded,
        Some("toml") => return Ok(data::load(&Recipe::load(path, &[])?.data)?.test),
        Some("csv" | "tsv" | "jsonl" | "parquet") if texts => {
            Source::Text { train, test, text: args.text.clone(), label: args.label.clone() }
        }
        Some("csv") => {
            Source::Csv { train, test, label: Column::Name(args.label.clone()), header: true }
        }
        Some("safetensors") => {
            let (features, labels) = ("features".to_owned(), "labels".to_owned());
            Source::Safetensors { train, test, features, labels }
        }
        _ if path.is_dir() => Source::Images { train, test, size: None, channels: None },
        _ => bail!(
            "--data {}: no such folder, and neither `embedded`, a .toml recipe, a .csv nor a \
             .safetensors file; for a model of texts, .csv, .tsv, .jsonl and .parquet files",
            args.data
        ),
    };
    let data =
        Data { source, train_limit: None, test_limit: None, validation: None, normalise: None };
    Ok(data::load(&data)?.test)
}
