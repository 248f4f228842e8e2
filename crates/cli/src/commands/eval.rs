//! `distil-gpu eval`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use distil_gpu_engine::data::classes::{self, LabelsKey};
use distil_gpu_engine::data::files::Format;
use distil_gpu_engine::data::text::Pairs;
use distil_gpu_engine::data::{self, Corpus, Dataset, Examples, LabelKind, LossOn};
use distil_gpu_engine::device::Device;
use distil_gpu_engine::kernels::DType;
use distil_gpu_engine::measure::Evaluator;
use distil_gpu_engine::measure::choices::choices;
use distil_gpu_engine::measure::neighbours::cosines;
use distil_gpu_engine::models::{self, BatchEncoder, Input, ModelConfig};
use distil_gpu_engine::objective::{ANSWERS_ALONE, store_of};
use distil_gpu_engine::recipe::{Column, Data, Recipe, Source};
use distil_gpu_engine::results::{ACCURACY, ERRORS, Speed};
use distil_gpu_engine::scores::correlation::{pearson, spearman};
use distil_gpu_engine::store::Store;
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
      that are masked are always the same
  distil-gpu eval runs/small-llama/student --data news.txt
      A causal language model: nats to guess each next token, bits per byte, and the like
  distil-gpu eval runs/small-llama/student --tasks questions.jsonl
      The same model: how often the right one of several choices is the likeliest (acc), and the likeliest for its
      length (acc_norm), as lm-evaluation-harness counts them")]
pub struct Args {
    #[command(flatten)]
    asked: super::ModelArgs,
    /// `embedded`, a recipe, a .csv or .safetensors file, or a folder of images
    #[arg(long, default_value = "", hide_default_value = true)]
    data: String,
    /// Of a causal language model: a .jsonl, .json or .parquet file of questions of several choices, each with `context`,
    /// `choices` and `gold`, the right one's number from 0
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    tasks: Option<PathBuf>,
    /// Column of the labels in a file with named columns; for a model that makes embeddings, of the pairs' scores
    #[arg(long, default_value = "label")]
    label: String,
}

pub fn run(args: Args, voice: Voice) -> Result<()> {
    if args.data.is_empty() && args.tasks.is_none() {
        bail!(Usage("give --data, what the model is to be measured on, or --tasks".to_owned()));
    }
    let (folder, config, source) = super::open_model(&args.asked.model, voice)?;
    let types = &args.asked.types(&folder, &source)?;
    let model = Model { args: &args, config: &config, source: &source, types, voice };
    if let Some(questions) = &args.tasks {
        return model.choices(questions);
    }
    let task = TaskRef::of_model(&config);
    let measured = match task.measuring() {
        Measuring::Answers => model.similarities()?,
        Measuring::Loss => model.guesses(task)?,
        Measuring::LossAndAnswers => model.labelled(task)?,
    };
    let Measured { mut report, lines, speed, table, device, notes } = measured;
    super::note_all(&notes, voice);
    let latency_ms = speed.latency.as_secs_f64() * 1e3;
    if voice.json {
        report["parameters"] = json!(config.parameter_count());
        report["latency_ms"] = json!(latency_ms);
        report["examples_per_second"] = json!(speed.examples_per_second);
        if let Some(rate) = speed.tokens_per_second {
            report["tokens_per_second"] = json!(rate);
        }
        report["device"] = json!(device);
        if !notes.is_empty() {
            report["notes"] = json!(notes);
        }
        return say_json(&report);
    }
    lines.iter().try_for_each(say)?;
    say(format_args!("latency       {latency_ms:.3} ms for one example"))?;
    match speed.tokens_per_second {
        Some(rate) => say(format_args!("throughput    {rate:.0} tokens/s"))?,
        None => say(format_args!("throughput    {:.0} examples/s", speed.examples_per_second))?,
    }
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
    source: &'a models::Source,
    types: &'a [DType],
    voice: Voice,
}

impl Model<'_> {
    fn unfit(&self) -> String {
        format!("{} cannot be measured on {}", self.args.asked.model.display(), self.args.data)
    }

    /// The device, and the model on it.
    fn open(&self) -> Result<(Box<dyn Device>, Store)> {
        let mut device = super::open(&self.args.asked.device, false, self.voice)?;
        let store = store_of(&mut *device, self.config, self.source, self.types)?;
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
            test = test.with_outputs_of_model(&config.class_names).with_context(|| self.unfit())?;
        }
        let feed = BatchEncoder::of_data(&config.input, &test).with_context(|| self.unfit())?;
        let (mut device, store) = self.open()?;
        let (device, mut evaluator) = (&mut *device, Evaluator::new(config, &store));
        let begun = Instant::now();
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
            speed: evaluator.speed_within(device, &feed, most_for_speed(begun))?,
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
        let feed = |texts| BatchEncoder::new(&config.input, texts).with_context(|| self.unfit());
        let (first, second) = (feed(&first)?, feed(&second)?);
        let (mut device, store) = self.open()?;
        let (device, mut evaluator) = (&mut *device, Evaluator::new(config, &store));
        let begun = Instant::now();
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
            speed: evaluator.speed_within(device, &first, most_for_speed(begun))?,
            table: None,
            device: device.info().name.clone(),
            notes,
        })
    }

    /// How often a causal language model finds the right one of several choices likeliest.
    fn choices(self, path: &Path) -> Result<()> {
        let questions = data::text::read_choices(path)?;
        if self.config.decoder().is_none() {
            let model = self.args.asked.model.display();
            bail!(
                "{model} guesses no next tokens: questions of several choices are for causal language models"
            );
        }
        let (mut device, store) = self.open()?;
        let scores = choices(&mut *device, (self.config, &store), &questions)
            .with_context(|| format!("{} cannot be asked", self.args.asked.model.display()))?;
        if self.voice.json {
            let mut report = serde_json::to_value(scores).expect("scores are plain data");
            report["device"] = json!(device.info().name);
            return say_json(&report);
        }
        let line = |name: &str, share: f64, error: f64| {
            say(format_args!("{name:9} {:.2} % ± {:.2}", 100.0 * share, 100.0 * error))
        };
        line("acc", scores.acc, scores.acc_stderr)?;
        line("acc_norm", scores.acc_norm, scores.acc_norm_stderr)?;
        say(format_args!("of {}", counted(scores.questions, "question")))
    }

    /// A language model's guesses: of masked tokens, the same in every call, or of each next one.
    fn guesses(self, task: TaskRef) -> Result<Measured> {
        let Self { args, config, .. } = self;
        let path = Path::new(&args.data);
        let next = task.labels() == LabelKind::Documents;
        let (column, skip_empty) = (&args.asked.text, args.asked.skip_empty);
        let mut notes = Vec::new();
        let examples = match path.extension().is_some_and(|extension| extension == "toml") {
            true => {
                data::load(&Recipe::load(path, &[])?.data, task.labels())?.test.examples().clone()
            }
            false if next => {
                let column = column.first().map_or("text", String::as_str);
                let read = data::text::read_documents(path, column, skip_empty)?;
                notes.extend(data::text::skipped_note(path, read.skipped));
                Examples::from(Corpus::new(read.documents, LossOn::default(), true))
            }
            false => {
                let (texts, skipped) = data::text::read_texts(path, column, skip_empty)?;
                notes.extend(data::text::skipped_note(path, skipped));
                Examples::from(texts)
            }
        };
        let feed = BatchEncoder::new(&config.input, &examples).with_context(|| self.unfit())?;
        let (mut device, store) = self.open()?;
        let (device, mut evaluator) = (&mut *device, Evaluator::new(config, &store));
        let begun = Instant::now();
        let data = Dataset::unlabelled(examples.clone());
        let metrics = evaluator.metrics(device, (&feed, &data), None, &ANSWERS_ALONE)?;
        let measured = task::Measured {
            config,
            feed: &feed,
            data: &data,
            answers: &[],
            teacher: None,
            loss: Some(&metrics),
        };
        let scores = task.scores(&measured)?.filtered(|key| key != ERRORS);
        let tokens = feed.guessed_tokens();
        let mut report = serde_json::to_value(&scores).expect("scores are plain data");
        report["examples"] = json!(examples.len());
        report[if next { "tokens" } else { "masked" }] = json!(tokens);
        let of = format!(
            "of {} in {}",
            counted(tokens, if next { "token" } else { "masked token" }),
            counted(examples.len(), if next { "document" } else { "text" })
        );
        let shown = |(title, key, digits): (&str, &str, usize)| {
            let value = scores.get(key).unwrap_or(f64::NAN);
            match key {
                ACCURACY => format!("{title:13} {:.2} % {of}", 100.0 * value),
                _ => format!("{title:13} {value:.digits$}"),
            }
        };
        let masked = [
            ("accuracy", ACCURACY, 2),
            ("perplexity", "perplexity", 3),
            ("cross-entropy", "cross_entropy", 4),
        ];
        let following = [
            ("nats a token", "cross_entropy", 4),
            ("bits a byte", "bits_per_byte", 4),
            ("perplexity", "perplexity", 3),
            ("next right", ACCURACY, 2),
        ];
        let lines: &[(&str, &str, usize)] = if next { &following } else { &masked };
        Ok(Measured {
            report,
            lines: lines.iter().copied().map(shown).collect(),
            speed: evaluator.speed_within(device, &feed, most_for_speed(begun))?,
            table: None,
            device: device.info().name.clone(),
            notes,
        })
    }
}

/// Measuring speed takes as long as measuring the answers did at most, beyond a second.
fn most_for_speed(begun: Instant) -> Duration {
    begun.elapsed().max(Duration::from_secs(1))
}

/// Raw answers to all examples of each of these.
fn answers(
    data: &[&BatchEncoder<'_>],
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
            loss_on: LossOn::default(),
            pack: true,
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
