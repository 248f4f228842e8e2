//! One file a command.

pub mod bench;
pub mod check;
pub mod completions;
pub mod convert;
pub mod devices;
pub mod eval;
pub mod export;
pub mod generate;
mod images;
pub mod init;
pub mod keys;
pub mod label;
pub mod licences;
pub mod logits;
pub mod man;
mod model_args;
pub mod plan;
pub mod report;
pub mod run;
#[cfg(feature = "serve")]
pub mod serve;
pub mod sweep;
pub mod tune;
mod written;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use distil_gpu_engine::data::classes;
use distil_gpu_engine::device::{Choice, Device, GpuOptions, select};
use distil_gpu_engine::models::{self, ModelConfig, Origin, Source, hub};
use distil_gpu_engine::recipe::{Recipe, Weights};
use distil_gpu_engine::store::Storage;

pub use images::Images;
pub use model_args::ModelArgs;

use crate::progress::{Download, Meter};
use crate::{Usage, Voice, note};

/// The recipe at a path, or the one that comes with the program. What its models need of the hub is fetched.
fn recipe(path: Option<&Path>, sets: &[String], voice: Voice) -> Result<Recipe> {
    let mut recipe = match path {
        Some(path) => Recipe::load(path, sets)?,
        None => Recipe::embedded_default(sets)?,
    };
    recipe.fetch(&mut downloads(voice))?;
    Ok(recipe)
}

/// The folder of a model that is named by its path or as on the hub, from where it is fetched.
fn model_folder(path: &Path, voice: Voice) -> Result<PathBuf> {
    let mut origin = Origin::of(path)?;
    origin.fetch(&mut downloads(voice))?;
    Ok(origin.folder()?)
}

/// The model at a path or on the hub, with its folder; a person is told how it was read.
fn load_model(path: &Path, voice: Voice) -> Result<(PathBuf, ModelConfig, Vec<Vec<f32>>)> {
    let (folder, config, source) = open_model(path, voice)?;
    Ok((folder, config, source.all()?))
}

/// The same, its parameters where they lie.
fn open_model(path: &Path, voice: Voice) -> Result<(PathBuf, ModelConfig, Source)> {
    let folder = model_folder(path, voice)?;
    let (config, source) = models::open(&folder)?;
    if let Some(assumed) = models::assumed_pooling(&folder, &config)
        && voice.progress()
    {
        note(assumed);
    }
    Ok((folder, config, source))
}

/// What matrices may be stored in.
fn storage() -> impl TypedValueParser<Value = Storage> {
    let names = PossibleValuesParser::new(Storage::NAMES.map(|(name, _)| name));
    names.map(|name| Storage::named(&name).unwrap_or_default())
}

/// The same, or as files have them.
fn weights() -> impl TypedValueParser<Value = Weights> {
    let names = PossibleValuesParser::new(Weights::all().map(|(name, _)| name));
    names.map(|name| Weights::named(&name).unwrap_or_default())
}

/// A model's names of classes to the data's: those that `--labels` gives, else a recipe's, where they are this model's.
fn labels(
    given: &[String],
    of_recipe: BTreeMap<String, String>,
    class_names: &[String],
) -> Result<BTreeMap<String, String>> {
    if given.is_empty() {
        return Ok(classes::meant(&of_recipe, class_names));
    }
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    let mut last = None;
    for piece in given.iter().flat_map(|given| given.split(',')) {
        match (piece.split_once('='), &last) {
            (Some((model, data)), _) => {
                if labels.insert(model.to_owned(), data.to_owned()).is_some() {
                    bail!(Usage(format!(
                        "--labels names the class `{model}` twice: leave one out"
                    )));
                }
                last = Some(model.to_owned());
            }
            // A comma within the data's name.
            (None, Some(model)) => {
                let name = labels.entry(model.clone()).or_default();
                *name = format!("{name},{piece}");
            }
            (None, None) => bail!(Usage(format!(
                "--labels {}: it must be NAME=NAME, the model's name of a class and the data's, as in --labels 0=no,1=yes",
                given.join(" ")
            ))),
        }
    }
    Ok(labels)
}

/// Shows downloads.
fn downloads(voice: Voice) -> impl FnMut(hub::Progress<'_>) {
    let mut download = Download::default();
    move |progress| {
        if voice.progress() {
            download.show(&progress);
        }
    }
}

/// Opens a device and says which and why.
fn open(choice: &str, checked: bool, voice: Voice) -> Result<Box<dyn Device>> {
    let choice: Choice = choice.parse()?;
    let selected = select(choice, GpuOptions { checked, ..GpuOptions::default() })?;
    if voice.progress() {
        note(format_args!("Device: {}", selected.reason));
    }
    Ok(selected.device)
}

/// Says what a person should know of how data were read.
fn note_all(notes: &[String], voice: Voice) {
    if voice.progress() {
        notes.iter().for_each(note);
    }
}

/// A `--device` as it was given, if there can be such a device.
fn device(text: &str) -> Result<String, String> {
    let choice: Result<Choice, _> = text.parse();
    choice.map(|choice| choice.to_string()).map_err(|error| error.to_string())
}

/// A bar over so many examples, or what else is counted.
fn bar(voice: Voice, len: usize, unit: &'static str) -> Meter {
    if voice.progress() { Meter::counting(len, unit) } else { Meter::hidden() }
}

/// Says what is being done, where nobody knows for how long.
fn spinner(voice: Voice) -> Meter {
    if voice.progress() { Meter::spinner() } else { Meter::hidden() }
}

/// Any text as a TOML string: JSON escapes it in the same way.
fn toml_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
