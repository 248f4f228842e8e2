//! A model on disk: a folder with `config.json` and `model.safetensors`, and the tokenizer's files if it reads
//! texts.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::weights::{self, Naming};
use super::{
    Architecture, Encoder, Family, Head, Input, Mlp, ModelConfig, SentenceModules, SentenceStep,
    TokenInput, Values, encoder, sentence_files,
};
use crate::data::text::SavedAs;
use crate::data::{Colour, Normalisation, Tokenizer};
use crate::error::Error;
use crate::files::{io_error, read_text, save_tensors, write_atomically};
use crate::recipe::Task;

/// Name of a model's configuration.
pub const CONFIG: &str = "config.json";
/// Name of a model's file of parameters.
pub const WEIGHTS: &str = "model.safetensors";

/// The largest configuration that is read.
const MOST_CONFIG_BYTES: u64 = 64 << 20;

/// `config.json` of a perceptron.
#[derive(Debug, Serialize, Deserialize)]
struct MlpFile {
    model_type: String,
    #[serde(flatten)]
    mlp: Mlp,
    /// Shape of one example.
    input_shape: Vec<usize>,
    /// Names of the classes, in the logits' order.
    class_names: Vec<String>,
    /// What inputs go through before the model sees them.
    normalisation: Normalisation,
    /// The colour that pictures showed in training where they were transparent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    background: Option<Colour>,
}

/// `model_type` of perceptrons.
const MLP: &str = "mlp";

pub(super) fn bad(path: &Path, problem: impl Into<String>) -> Error {
    Error::Model { path: path.display().to_string(), problem: problem.into() }
}

/// Saves a model into `folder`, which is made. `values` are in the order of the model's parameters. The
/// configuration is written last: a folder with one is complete.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn save(folder: &Path, config: &ModelConfig, values: &[Vec<f32>]) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    let specs = config.model().parameters();
    let named = specs.iter().zip(values);
    let (own, of_layers): (Vec<_>, Vec<_>) = named
        .map(|(spec, values)| (&*spec.name, spec.shape.clone(), values))
        .partition(|(name, ..)| sentence_files::layer(name).is_none());
    save_tensors(&folder.join(WEIGHTS), &own, HashMap::new())?;
    if let (Architecture::Encoder(encoder), Input::Tokens(tokens)) =
        (&config.architecture, &config.input)
    {
        if let Some(tokenizer) = &tokens.tokenizer {
            tokenizer.save(folder, &saved_as(encoder, tokens))?;
        }
        if encoder.head == Head::Embedding {
            sentence_files::save_dense(folder, &of_layers)?;
            let (width, most) = (encoder.hidden_size, tokens.max_length);
            sentence_files::write(folder, &encoder.sentence, width, most)?;
        } else {
            sentence_files::remove(folder)?;
        }
    }
    let json =
        serde_json::to_string_pretty(&to_json(config)).expect("a configuration is plain data");
    write_atomically(&folder.join(CONFIG), format!("{json}\n").as_bytes())
}

/// What a model's tokenizer is saved for.
fn saved_as(encoder: &Encoder, tokens: &TokenInput) -> SavedAs {
    SavedAs {
        max_length: tokens.max_length,
        class: encoder.family.tokenizer_class(),
        types: tokens.type_vocab_size > 1,
    }
}

fn to_json(config: &ModelConfig) -> Value {
    match (&config.architecture, &config.input) {
        (Architecture::Mlp(mlp), Input::Numbers { shape, normalisation, background }) => {
            let file = MlpFile {
                model_type: MLP.to_owned(),
                mlp: mlp.clone(),
                input_shape: shape.clone(),
                class_names: config.class_names.clone(),
                normalisation: normalisation.clone(),
                background: *background,
            };
            serde_json::to_value(file).expect("a configuration is plain data")
        }
        (Architecture::Encoder(encoder), _) => encoder::to_json(encoder, &config.class_names),
        (Architecture::Mlp(_), Input::Tokens(_)) => unreachable!("a perceptron reads numbers"),
    }
}

/// Loads the configuration of a model folder.
///
/// # Errors
/// [`Error::Model`] when there is none, or it makes no sense.
pub fn load_config(folder: &Path) -> Result<ModelConfig, Error> {
    let path = folder.join(CONFIG);
    if !path.is_file() {
        // A model of sentence-transformers may have its transformer in another folder, which is told by this.
        sentence_files::read(folder)?;
        let problem = "no such file; a model is a folder with config.json and model.safetensors";
        return Err(bad(&path, problem));
    }
    let text = read_text(&path, MOST_CONFIG_BYTES)?;
    let not_one =
        |error: serde_json::Error| bad(&path, format!("not a model configuration: {error}"));
    let json: Value = serde_json::from_str(&text).map_err(not_one)?;
    let kind = json["model_type"].as_str().unwrap_or_default();
    if let Some((_, family)) = Family::ALL.iter().find(|(name, _)| *name == kind) {
        let read = encoder::from_json(*family, &json);
        let (mut encoder, class_names) = read.map_err(|problem| bad(&path, problem))?;
        let tokenizer = Tokenizer::load(folder)?;
        tokenizer.check(encoder.vocab_size)?;
        let mut most = tokenizer.files().max_length();
        let mut class_names = class_names;
        if let Some(files) = sentence_files::read(folder)? {
            if files.lower_case && !tokenizer.lower_cases() {
                let problem = "do_lower_case is not supported where the tokenizer keeps capitals: let its normalizer \
                               have lowercase = true";
                return Err(bad(&folder.join("sentence_bert_config.json"), problem));
            }
            fits(&files.modules, encoder.hidden_size)
                .map_err(|problem| bad(&folder.join(sentence_files::MODULES), problem))?;
            encoder.set_head(Head::Embedding);
            (encoder.sentence, class_names) = (files.modules, Vec::new());
            most = files.max_length.or(most);
        }
        let mut tokens = encoder.input();
        tokens.tokenizer = Some(Arc::new(tokenizer));
        tokens.max_length = most.map_or(tokens.max_length, |most| most.min(tokens.max_length));
        if tokens.max_length == 0 {
            return Err(bad(&path, "its texts may have no token at all"));
        }
        let (architecture, input) = (Architecture::Encoder(encoder), Input::Tokens(tokens));
        return Ok(ModelConfig { architecture, input, class_names });
    }
    if kind != MLP {
        let known = Family::ALL.map(|(name, _)| name).join(", ");
        return Err(bad(&path, format!("its model_type `{kind}` is none of {MLP}, {known}")));
    }
    let file: MlpFile = serde_json::from_value(json).map_err(not_one)?;
    check(&file).map_err(|problem| bad(&path, problem))?;
    let MlpFile { mlp, input_shape: shape, class_names, normalisation, background, .. } = file;
    let input = Input::Numbers { shape, normalisation, background };
    Ok(ModelConfig { architecture: Architecture::Mlp(mlp), input, class_names })
}

/// Checks that the linear layers behind the pooling take what comes before them.
fn fits(modules: &SentenceModules, hidden_size: usize) -> Result<(), String> {
    let mut width = hidden_size;
    for step in &modules.steps {
        if let SentenceStep::Dense(dense) = step {
            if dense.inputs != width {
                return Err(format!(
                    "a Dense module takes {} numbers, and {width} come before it",
                    dense.inputs
                ));
            }
            width = dense.outputs;
        }
    }
    Ok(())
}

/// What a person should know of how a folder's model makes vectors: that the folder does not say it.
pub fn assumed_pooling(folder: &Path, config: &ModelConfig) -> Option<String> {
    let silent = config.embeds() && !folder.join(sentence_files::MODULES).exists();
    silent.then(|| {
        format!(
            "{} has no modules.json: its vectors are taken to be the mean of the last hidden states, of length 1",
            folder.display()
        )
    })
}

/// Refuses a classifier whose `config.json` says that it does another thing than choose one of its classes.
///
/// # Errors
/// [`Error::Model`], naming the key.
pub fn check_single_label(folder: &Path) -> Result<(), Error> {
    let path = folder.join(CONFIG);
    let text = fs::read_to_string(&path).map_err(io_error(&path))?;
    let json: Value = serde_json::from_str(&text).unwrap_or_default();
    let what = match json["problem_type"].as_str() {
        Some("regression") => "answers with a number",
        Some("multi_label_classification") => "says of each class by itself whether it applies",
        _ => return Ok(()),
    };
    Err(bad(
        &path,
        format!(
            "its `problem_type` is {}, a model that {what}, and here each example has one of the classes: give a model of \
             `single_label_classification`",
            json["problem_type"]
        ),
    ))
}

/// Loads a model folder: its configuration, and its parameters in the model's order.
///
/// # Errors
/// [`Error::Model`] when the folder is no model, a file is damaged, or tensors are missing, unexpected, of
/// another shape, or not finite.
pub fn load(folder: &Path) -> Result<(ModelConfig, Vec<Vec<f32>>), Error> {
    let config = load_config(folder)?;
    let naming = naming(&config.architecture, &[]);
    let layers = layers(folder, &config)?;
    let values = weights::read(folder, &config.model().parameters(), naming, &layers)?;
    Ok((config, values.into_iter().flatten().collect()))
}

/// A model to start from for a task: its configuration, with the task's head, and the parameters that it has, in
/// the model's order. Those of the head may be missing; with `random`, all start afresh.
///
/// # Errors
/// As [`load`].
pub fn load_start(folder: &Path, task: Task, random: bool) -> Result<(ModelConfig, Values), Error> {
    let mut config = load_config(folder)?;
    let fresh = match (&mut config.architecture, &mut config.input) {
        (Architecture::Encoder(encoder), Input::Tokens(tokens)) => {
            encoder.set_head(Head::of_task(task, config.class_names.len()));
            tokens.pooling = encoder.pooling();
            encoder.family.of_head(encoder.head)
        }
        _ => &[],
    };
    if random {
        let values = vec![None; config.model().parameters().len()];
        return Ok((config, values));
    }
    let naming = naming(&config.architecture, fresh);
    let layers = layers(folder, &config)?;
    let parameters = weights::read(folder, &config.model().parameters(), naming, &layers)?;
    Ok((config, parameters))
}

/// Folders of linear layers behind the pooling, and what their parameters' names begin with.
fn layers(folder: &Path, config: &ModelConfig) -> Result<Vec<(String, String)>, Error> {
    Ok(match config.embeds() {
        true => sentence_files::read(folder)?.map_or(Vec::new(), |files| files.dense),
        false => Vec::new(),
    })
}

fn naming(architecture: &Architecture, fresh: &'static [&'static str]) -> Naming {
    match architecture {
        Architecture::Encoder(encoder) => {
            let Encoder { family, head, .. } = encoder;
            Naming { prefix: family.prefix(), unneeded: family.unneeded(*head), fresh }
        }
        Architecture::Mlp(_) => Naming { fresh, ..Naming::default() },
    }
}

/// Sizes that no file may make us believe.
fn check(config: &MlpFile) -> Result<(), String> {
    const MOST: usize = 1 << 24;
    const MOST_LAYERS: usize = 4096;
    let mlp = &config.mlp;
    if mlp.hidden_sizes.len() > MOST_LAYERS {
        return Err(format!(
            "{} hidden_sizes are more than the {MOST_LAYERS} that are possible",
            mlp.hidden_sizes.len()
        ));
    }
    let sizes =
        [&[mlp.input_size, mlp.num_classes][..], &mlp.hidden_sizes, &config.input_shape].concat();
    if let Some(size) = sizes.iter().find(|&&size| size == 0 || size > MOST) {
        return Err(format!("a size of {size} is not possible (1 to {MOST} are)"));
    }
    let elements = config.input_shape.iter().try_fold(1_usize, |all, &n| all.checked_mul(n));
    if elements != Some(mlp.input_size) {
        return Err(format!(
            "input_shape {:?} is not input_size {}",
            config.input_shape, mlp.input_size
        ));
    }
    if config.class_names.len() != mlp.num_classes {
        let names = config.class_names.len();
        return Err(format!("{names} class_names for num_classes {}", mlp.num_classes));
    }
    config.normalisation.check(&config.input_shape).map_err(|error| error.to_string())?;
    if !(0.0..1.0).contains(&mlp.dropout) || !(0.0..1.0).contains(&mlp.input_dropout) {
        return Err("dropout must be at least 0 and below 1".to_owned());
    }
    Ok(())
}
