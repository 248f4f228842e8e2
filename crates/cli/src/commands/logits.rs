//! `distil-gpu logits`

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use distil_gpu_engine::data::classes::{self, LabelsKey};
use distil_gpu_engine::data::{self, Examples};
use distil_gpu_engine::measure::Evaluator;
use distil_gpu_engine::models::{BatchEncoder, Input};
use distil_gpu_engine::objective::frozen_store;
use distil_gpu_engine::recipe::{Data, Recipe};
use distil_gpu_engine::run;
use distil_gpu_engine::run::Answerer;
use distil_gpu_engine::task::TaskRef;
use serde_json::{Value, json};

use crate::{Usage, Voice, say, say_json};

/// Arguments of `logits`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu logits my-model --input inputs.safetensors --out answers.safetensors
      Reads the tensor `features` [rows, ..], writes the tensor `logits` [rows, classes].
      Bytes are taken as pixels and divided by 255; then the model's own normalisation applies.
  distil-gpu logits my-model --input reviews.txt --out answers.safetensors
      Answers to the texts of a .txt file, one a line, or of .csv, .tsv, .json, .jsonl, .ndjson or .parquet with
      named columns
  distil-gpu logits my-model --input pictures --out answers.safetensors
      Answers to the pictures of a folder, in the order of their paths, brought to the model's size and channels
  distil-gpu logits my-model --input recipes/hinton-mnist.toml --out teacher.safetensors
      Writes `train` and `test` [rows, classes] for a recipe's data, the classes in the recipe's order: a file for
      `teacher.logits`")]
pub struct Args {
    #[command(flatten)]
    asked: super::ModelArgs,
    /// File of inputs, one example a row; a folder of pictures; or a recipe, for its data
    #[arg(long)]
    input: PathBuf,
    /// Name of the inputs' tensor
    #[arg(long, default_value = "features")]
    tensor: String,
    /// File to write; one that exists is replaced
    #[arg(long)]
    out: PathBuf,
}

pub fn run(args: Args, voice: Voice) -> Result<()> {
    let (folder, mut config, source) = super::open_model(&args.asked.model, voice)?;
    let types = args.asked.types(&folder, &source)?;
    let mut values = source.all()?;
    let task = TaskRef::of_model(&config);
    if !task.answers_once() {
        bail!(
            "{} does `{}`: its answer to an example is as long as the example, and no file of answers is read for that; \
             `eval` measures it, and `run` distils it as a model",
            args.asked.model.display(),
            task.name()
        );
    }
    let (model, input) = (args.asked.model.display(), args.input.display());
    let unfit = || format!("{model} cannot answer {input}");
    let (split, examples);
    let inputs: Vec<(&str, &Examples)> = if args.input.extension().is_some_and(|e| e == "toml") {
        // A teacher's logits are of all examples: what is kept for validation is chosen when students learn.
        let recipe = Recipe::load(&args.input, &[])?;
        let of_recipe = recipe.teacher.labels().clone();
        split = data::load(&Data { validation: None, ..recipe.data }, recipe.task.labels())?;
        if let (Some(ours), true) = (split.train.class_labels(), config.classes() > 0) {
            let labels = super::labels(&args.asked.labels, of_recipe, &config.class_names)?;
            let ours = ours.class_names();
            let places = classes::places(&config.class_names, &labels, ours, LabelsKey::Flag)
                .with_context(unfit)?;
            config.order_classes(&mut values[..], &places, ours);
        }
        vec![("train", split.train.examples()), ("test", split.test.examples())]
    } else if !args.asked.labels.is_empty() {
        bail!(Usage(
            "--labels goes with a recipe as --input, whose classes have an order: to inputs without labels the model answers \
             in its own, so leave it out"
                .to_owned()
        ));
    } else {
        examples = match config.input {
            Input::Tokens(_) => {
                let (texts, skipped) =
                    data::text::read_texts(&args.input, &args.asked.text, args.asked.skip_empty)?;
                let note = data::text::skipped_note(&args.input, skipped);
                super::note_all(note.as_slice(), voice);
                Examples::from(texts)
            }
            Input::Numbers { .. } if args.input.is_dir() || data::is_image(&args.input) => {
                let conversion = args.asked.images.conversion(&config.input);
                Examples::from(data::load_images(&args.input, &conversion)?)
            }
            Input::Numbers { .. } => {
                Examples::from(data::load_features(&args.input, &args.tensor)?)
            }
        };
        vec![("logits", &examples)]
    };
    let feed = |&(name, data): &(_, _)| {
        Ok((name, BatchEncoder::new(&config.input, data).with_context(unfit)?))
    };
    let feeds = inputs.iter().map(feed).collect::<Result<Vec<_>>>()?;
    let mut device = super::open(&args.asked.device, false, voice)?;
    let store = frozen_store(&mut *device, &config, &values, &*types)?;
    let mut evaluator = Evaluator::new(&config, &store);
    let bar = super::bar(voice, feeds.iter().map(|(_, data)| data.len()).sum(), "examples");
    let mut tensors = Vec::new();
    for (name, data) in &feeds {
        let logits = evaluator.logits(&mut *device, data, &mut |rows| bar.inc(rows as u64))?;
        tensors.push((*name, vec![data.len(), config.answer_len()], logits));
    }
    bar.finish_and_clear();
    let answers = inputs
        .iter()
        .zip(&tensors)
        .map(|((name, examples), (_, _, logits))| run::Answers { name, examples, logits });
    let answers: Vec<_> = answers.collect();
    let answerer = Answerer { config: &config, parameters: &values, classes: &config.class_names };
    run::save_answers(&args.out, answerer, &answers)?;
    if voice.json {
        let written =
            tensors.iter().map(|(name, shape, _)| json!({ "name": name, "shape": shape }));
        let written: Vec<Value> = written.collect();
        return say_json(&json!({ "file": args.out, "tensors": written }));
    }
    if voice.progress() {
        for (name, shape, _) in &tensors {
            say(format_args!("Wrote {}: `{name}` {shape:?}", args.out.display()))?;
        }
    }
    Ok(())
}
