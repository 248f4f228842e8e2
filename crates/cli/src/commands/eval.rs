//! `distil-gpu eval`

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use distil_gpu_engine::data::classes::{self, LabelsKey};
use distil_gpu_engine::data::files::Format;
use distil_gpu_engine::data::text::Pairs;
use distil_gpu_engine::data::{self, Dataset, Examples, LabelKind};
use distil_gpu_engine::device::Device;
use distil_gpu_engine::measure::Evaluator;
use distil_gpu_engine::measure::neighbours::cosines;
use distil_gpu_engine::models::{Feed, Input, ModelConfig};
use distil_gpu_engine::objective::{ANSWERS_ALONE, frozen_store};
use distil_gpu_engine::recipe::{Column, Data, Recipe, Source};
use distil_gpu_engine::results::{ACCURACY, ERRORS, Speed};
use distil_gpu_engine::scores::correlation::{pearson, spearman};
use distil_gpu_engine::store::{Storage, Store};
use distil_gpu_engine::task::{self, Measuring, TaskRef};
use distil_gpu_engine::words::counted;
use serde_json::{Value, json};

use crate::table::Table;
use crate::{Usage, Voice, say, say_json, table};

/// Arguments of `eval`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu eval runs/default/student --data embedded
      The test pictures that come with the program
  distil-gpu eval runs/hinton-mnist/student --data recipes/hinton-mnist.toml
      The test data of a recipe
  distil-gpu eval my-model --data flowers.csv --label species
      A file: .csv, .tsv, .safetensors (features, labels), or a folder with a folder of images a class, which are
      brought to the model's size and channels as in its training
  distil-gpu eval runs/movie-sentiment/student --data reviews.csv --text review --label sentiment
      Labelled texts: .csv, .tsv, .json, .jsonl, .ndjson or .parquet; all but the last also zipped, as .csv.gz
  distil-gpu eval my-nli-model --data nli.csv --labels 0=entailment,1=neutral,2=contradiction
      A model whose classes have other names than the data's
  distil-gpu eval my-embedder --data sts-test.csv --text sentence1 --text sentence2 --label score
      A model that makes embeddings: how well the cosines of pairs of texts follow their scores (Spearman, Pearson)
  distil-gpu eval runs/masked-words/student --data news.txt
      A masked language model: the share of masked tokens that it guesses, and perplexity, on plain text; the tokens
      that are masked are always the same")]
pub struct Args {
    #[command(flatten)]
    asked: super::ModelArgs,
    /// `embedded`, a recipe, a .csv or .safetensors file, or a folder of images
    #[arg(long)]
    data: String,
    /// Column of the labels in a file with named columns; for a model that makes embeddings, of the pairs' scores
    #[arg(long, default_value = "label")]
    label: String,
}

pub fn run(args: Args, voice: Voice) -> Result<()> {
    let (_, config, values) = super::load_model(&args.asked.model, voice)?;
    let model = Model { args: &args, config: &config, values: &values, voice };
    let task = TaskRef::of_model(&config);
    let measured = match task.measuring() {
        Measuring::Answers => model.similarities()?,
        Measuring::Loss => model.guesses()?,
        Measuring::LossAndAnswers => model.labelled(task)?,
    };
    let Measured { mut report, lines, speed, table, device, notes } = measured;
    super::note_all(&notes, voice);
    let latency_ms = speed.latency.as_secs_f64() * 1e3;
    if voice.json {
        report["parameters"] = json!(config.parameter_count());
        report["latency_ms"] = json!(latency_ms);
        report["examples_per_second"] = json!(speed.examples_per_second);
        report["device"] = json!(device);
        if !notes.is_empty() {
            report["notes"] = json!(notes);
        }
        return say_json(&report);
    }
    lines.iter().try_for_each(say)?;
    say(format_args!("latency       {latency_ms:.3} ms for one example"))?;
    say(format_args!("throughput    {:.0} examples/s", speed.examples_per_second))?;
    table.map_or(Ok(()), say)
}

/// What was measured of a model.
struct Measured {
    /// For programs; what all models have is added.
    report: Value,
    /// For people.
    lines: Vec<String>,
    speed: Speed,
    table: Option<Table>,
    device: String,
    /// What a person should know of how the data were read.
    notes: Vec<String>,
}

/// A model, and what it is to be measured on.
#[derive(Clone, Copy)]
struct Model<'a> {
    args: &'a Args,
    config: &'a ModelConfig,
    values: &'a [Vec<f32>],
    voice: Voice,
}

impl Model<'_> {
    fn unfit(&self) -> String {
        format!("{} cannot be measured on {}", self.args.asked.model.display(), self.args.data)
    }

    /// The device, and the model on it.
    fn open(&self) -> Result<(Box<dyn Device>, Store)> {
        let mut device = super::open(&self.args.asked.device, false, self.voice)?;
        let store = frozen_store(&mut *device, self.config, self.values, Storage::F32)?;
        Ok((device, store))
    }

    /// A model's scores on labelled examples.
    fn labelled(self, task: TaskRef) -> Result<Measured> {
        let Self { args, config, voice, .. } = self;
        let Loaded { mut test, labels: of_recipe, notes } = load(args, &config.input, task)?;
        if task.has_classes() {
            let labels = super::labels(&args.asked.labels, of_recipe, &config.class_names)?;
            let ours = test.need_classes().with_context(|| self.unfit())?.class_names();
            let class_names = classes::named(&config.class_names, &labels, ours, LabelsKey::Flag)
                .with_context(|| self.unfit())?;
            test = test.with_classes(&class_names)?;
        } else {
            test.need_labels().with_context(|| self.unfit())?;
            // By name, unless there is one output, or the model's have no names of their own.
            let names = &config.class_names;
            let nameless = names.len() < 2 || names.iter().all(|name| name.starts_with("LABEL_"));
            if !nameless || names.len() != test.outputs().len() && !names.is_empty() {
                test = test.with_outputs(names).with_context(|| self.unfit())?;
            }
        }
        let feed = Feed::of_data(&config.input, &test).with_context(|| self.unfit())?;
        let (mut device, store) = self.open()?;
        let (device, mut evaluator) = (&mut *device, Evaluator::new(config, &store));
        let answers = answers(&[&feed], device, &mut evaluator, voice)?.concat();
        let loss = evaluator.metrics(device, (&feed, &test), None, &ANSWERS_ALONE)?;
        let measured = task::Measured {
            config,
            feed: &feed,
            data: &test,
            answers: &answers,
            teacher: None,
            loss: Some(&loss),
        };
        let (scores, per_class) = (task.scores(&measured)?, task.errors_per_class(&measured));
        let mut report = serde_json::to_value(&scores).expect("scores are plain data");
        report["examples"] = json!(test.len());
        let name = task.loss_name();
        report[name.replace(['-', ' '], "_")] = json!(loss.hard);
        let mut lines: Vec<(String, String)> = Vec::new();
        for measure in task.measures().iter().filter(|measure| measure.key != ERRORS) {
            let Some(shown) = measure.shown(&scores) else { continue };
            let title = measure.title.trim_end_matches(" correlation").to_owned();
            let more = match scores.get(ERRORS) {
                _ if !lines.is_empty() => String::new(),
                Some(errors) => {
                    format!(" ({} in {})", counted(errors as usize, "error"), test.len())
                }
                None => format!(" ({})", counted(test.len(), "example")),
            };
            lines.push((title, format!("{shown}{more}")));
        }
        lines.extend(loss.hard.map(|hard| (name.to_owned(), format!("{hard:.4}"))));
        let width = lines.iter().map(|(title, _)| title.len()).max().unwrap_or(0).max(13);
        let lines = lines.iter().map(|(title, shown)| format!("{title:width$} {shown}")).collect();
        let table = test.class_labels().filter(|_| !per_class.is_empty()).map(|labels| {
            let mut table = table::new(["class", "examples", "errors"]);
            let counts = labels.per_class_counts();
            for ((name, count), wrong) in labels.class_names().iter().zip(&counts).zip(&per_class) {
                table.add_row([name.clone(), count.to_string(), wrong.to_string()]);
            }
            report["errors_per_class"] = json!(per_class);
            table
        });
        Ok(Measured {
            report,
            lines,
            speed: evaluator.speed(device, &feed)?,
            table,
            device: device.info().name.clone(),
            notes,
        })
    }

    /// How well the cosines of embedded pairs follow the pairs' scores.
    fn similarities(self) -> Result<Measured> {
        let Self { args, config, voice, .. } = self;
        let path = Path::new(&args.data);
        let pairs =
            data::text::read_pairs(path, &args.asked.text, &args.label, args.asked.skip_empty);
        let Pairs { first, second, scores, skipped } = pairs.context(
        "a model that makes embeddings is measured on pairs of texts with a score each: --text and --text name the \
         columns of the texts, --label that of the score",
    )?;
        let notes = data::text::skipped_note(path, skipped).into_iter().collect();
        let (first, second) = (Examples::from(first), Examples::from(second));
        let feed = |texts| Feed::new(&config.input, texts).with_context(|| self.unfit());
        let (first, second) = (feed(&first)?, feed(&second)?);
        let (mut device, store) = self.open()?;
        let (device, mut evaluator) = (&mut *device, Evaluator::new(config, &store));
        let embedded = answers(&[&first, &second], device, &mut evaluator, voice)?;
        let cosines = cosines(&embedded[0], &embedded[1], config.answer_len());
        let (spearman, pearson) = (spearman(&cosines, &scores), pearson(&cosines, &scores));
        let shown = |value: Option<f64>| {
            value.map_or("none, as one side never varies".to_owned(), |value| format!("{value:.4}"))
        };
        Ok(Measured {
            report: json!({ "spearman": spearman, "pearson": pearson, "examples": scores.len() }),
            lines: vec![
                format!("Spearman      {} ({})", shown(spearman), counted(scores.len(), "pair")),
                format!("Pearson       {}", shown(pearson)),
            ],
            speed: evaluator.speed(device, &first)?,
            table: None,
            device: device.info().name.clone(),
            notes,
        })
    }

    /// A language model's guesses of masked tokens, the same in every call.
    fn guesses(self) -> Result<Measured> {
        let Self { args, config, .. } = self;
        let path = Path::new(&args.data);
        let mut notes = Vec::new();
        let examples = match path.extension().is_some_and(|extension| extension == "toml") {
            true => {
                data::load(&Recipe::load(path, &[])?.data, LabelKind::None)?.test.examples().clone()
            }
            false => {
                let (texts, skipped) =
                    data::text::read_texts(path, &args.asked.text, args.asked.skip_empty)?;
                notes.extend(data::text::skipped_note(path, skipped));
                Examples::from(texts)
            }
        };
        let feed = Feed::new(&config.input, &examples).with_context(|| self.unfit())?;
        let (mut device, store) = self.open()?;
        let (device, mut evaluator) = (&mut *device, Evaluator::new(config, &store));
        let data = Dataset::unlabelled(examples.clone());
        let metrics = evaluator.metrics(device, (&feed, &data), None, &ANSWERS_ALONE)?;
        let (texts, masked) = (feed.len(), feed.masked_tokens());
        let accuracy = metrics.scores.get(ACCURACY).unwrap_or(f64::NAN);
        let perplexity = metrics.hard.map(f64::exp);
        Ok(Measured {
            report: json!({
                "accuracy": accuracy,
                "cross_entropy": metrics.hard,
                "perplexity": perplexity,
                "examples": texts,
                "masked": masked,
            }),
            lines: vec![
                format!(
                    "accuracy      {:.2} % of {} in {}",
                    100.0 * accuracy,
                    counted(masked, "masked token"),
                    counted(texts, "text")
                ),
                format!("perplexity    {:.3}", perplexity.unwrap_or(f64::NAN)),
                format!("cross-entropy {:.4}", metrics.hard.unwrap_or(f64::NAN)),
            ],
            speed: evaluator.speed(device, &feed)?,
            table: None,
            device: device.info().name.clone(),
            notes,
        })
    }
}

/// Raw answers to all examples of each of these.
fn answers(
    data: &[&Feed<'_>],
    device: &mut dyn Device,
    evaluator: &mut Evaluator<'_>,
    voice: Voice,
) -> Result<Vec<Vec<f32>>> {
    let bar = super::bar(voice, data.iter().map(|feed| feed.len()).sum(), "examples");
    let answers: Result<Vec<_>, _> = data
        .iter()
        .map(|feed| evaluator.logits(device, feed, &mut |rows| bar.inc(rows as u64)))
        .collect();
    bar.finish_and_clear();
    Ok(answers?)
}

/// What a model is measured on.
struct Loaded {
    /// The labelled examples.
    test: Dataset,
    /// What a recipe says of its teacher's classes.
    labels: BTreeMap<String, String>,
    /// What is to be said of the examples.
    notes: Vec<String>,
}

/// What `--data` names, for a model that reads `input`.
fn load(args: &Args, input: &Input, task: TaskRef) -> Result<Loaded> {
    let path = Path::new(&args.data);
    let (train, test) = (path.to_owned(), path.to_owned());
    let texts = matches!(input, Input::Tokens(_));
    let ends_with = |ending: &str| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending));
    let source = match Format::of(path) {
        _ if args.data == "embedded" => Source::Embedded,
        _ if ends_with("toml") => {
            let recipe = Recipe::load(path, &[])?;
            let split = data::load(&recipe.data, task.labels())?;
            let labels = recipe.teacher.labels().clone();
            return Ok(Loaded { test: split.test, labels, notes: split.notes });
        }
        _ if path.is_dir() => {
            let test = data::load_image_classes(path, &args.asked.images.conversion(input))?;
            return Ok(Loaded { test, labels: BTreeMap::new(), notes: Vec::new() });
        }
        Some(format) if texts && format.is_table() => Source::Text {
            train,
            test,
            text: args.asked.text.clone(),
            label: vec![args.label.clone()],
            skip_empty: args.asked.skip_empty,
        },
        Some(Format::Csv | Format::Tsv) => {
            let label = vec![Column::Name(args.label.clone())];
            Source::Csv { train, test, label, header: true }
        }
        _ if ends_with("safetensors") => {
            let (features, labels) = ("features".to_owned(), "labels".to_owned());
            Source::Safetensors { train, test, features, labels }
        }
        _ => bail!(Usage(format!(
            "--data {}: no such folder, and neither `embedded`, a .toml recipe, a .csv or .tsv nor a .safetensors \
             file; for a model of texts, .csv, .tsv, .json, .jsonl, .ndjson and .parquet files",
            args.data
        ))),
    };
    let data = Data {
        source,
        train_limit: None,
        test_limit: None,
        validation: None,
        unlabelled: None,
        normalise: None,
    };
    let split = data::load(&data, task.labels())?;
    // The file stands for both sets, and is told of once.
    let mut notes = split.notes;
    notes.dedup();
    Ok(Loaded { test: split.test, labels: BTreeMap::new(), notes })
}
