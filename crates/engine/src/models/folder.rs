//! A model on disk: a folder with `config.json` and `model.safetensors`, and the tokenizer's files if it reads
//! texts.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::weights::{self, Naming};
use super::{
    Architecture, Encoder, Family, Head, Input, Mlp, ModelConfig, TokenInput, Values, encoder,
};
use crate::data::{Normalisation, Tokenizer};
use crate::error::Error;
use crate::files::{io_error, save_tensors, write_atomically};
use crate::recipe::Task;

/// Name of a model's configuration.
pub const CONFIG: &str = "config.json";
/// Name of a model's file of parameters.
pub const WEIGHTS: &str = "model.safetensors";

/// What transformers reads of a tokenizer beside its file.
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
/// Its key for the most tokens of a text.
const MAX_LENGTH: &str = "model_max_length";

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
    let tensors: Vec<_> =
        named.map(|(spec, values)| (&*spec.name, spec.shape.clone(), values)).collect();
    save_tensors(&folder.join(WEIGHTS), &tensors, HashMap::new())?;
    if let Input::Tokens(tokens) = &config.input
        && let Some(tokenizer) = &tokens.tokenizer
    {
        tokenizer.save(folder)?;
        let path = folder.join(TOKENIZER_CONFIG);
        write_atomically(&path, format!("{:#}\n", tokenizer_config(config, tokens)).as_bytes())?;
    }
    let json =
        serde_json::to_string_pretty(&to_json(config)).expect("a configuration is plain data");
    write_atomically(&folder.join(CONFIG), format!("{json}\n").as_bytes())
}

/// What transformers is told of a tokenizer beside its file.
fn tokenizer_config(config: &ModelConfig, tokens: &TokenInput) -> Value {
    let class = match &config.architecture {
        Architecture::Encoder(encoder) => encoder.family.tokenizer_class(),
        Architecture::Mlp(_) => unreachable!("a perceptron reads numbers"),
    };
    json!({ MAX_LENGTH: tokens.max_length, "tokenizer_class": class })
}

/// Most tokens of a text, if the folder says so.
fn max_length(folder: &Path) -> Option<usize> {
    let text = fs::read_to_string(folder.join(TOKENIZER_CONFIG)).ok()?;
    let json: Value = serde_json::from_str(&text).ok()?;
    json[MAX_LENGTH].as_u64()?.try_into().ok()
}

fn to_json(config: &ModelConfig) -> Value {
    match (&config.architecture, &config.input) {
        (Architecture::Mlp(mlp), Input::Numbers { shape, normalisation }) => {
            let file = MlpFile {
                model_type: MLP.to_owned(),
                mlp: mlp.clone(),
                input_shape: shape.clone(),
                class_names: config.class_names.clone(),
                normalisation: normalisation.clone(),
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
        let problem = "no such file; a model is a folder with config.json and model.safetensors";
        return Err(bad(&path, problem));
    }
    let text = fs::read_to_string(&path).map_err(io_error(&path))?;
    let not_one =
        |error: serde_json::Error| bad(&path, format!("not a model configuration: {error}"));
    let json: Value = serde_json::from_str(&text).map_err(not_one)?;
    let kind = json["model_type"].as_str().unwrap_or_default();
    if let Some((_, family)) = Family::ALL.iter().find(|(name, _)| *name == kind) {
        let read = encoder::from_json(*family, &json);
        let (encoder, class_names) = read.map_err(|problem| bad(&path, problem))?;
        let mut tokens = encoder.input();
        let tokenizer = Tokenizer::load(folder)?;
        tokenizer.check(encoder.vocab_size)?;
        tokens.tokenizer = Some(Arc::new(tokenizer));
        tokens.max_length =
            max_length(folder).map_or(tokens.max_length, |n| n.min(tokens.max_length));
        let (architecture, input) = (Architecture::Encoder(encoder), Input::Tokens(tokens));
        return Ok(ModelConfig { architecture, input, class_names });
    }
    if kind != MLP {
        let known = Family::ALL.map(|(name, _)| name).join(", ");
        return Err(bad(&path, format!("its model_type `{kind}` is none of {MLP}, {known}")));
    }
    let file: MlpFile = serde_json::from_value(json).map_err(not_one)?;
    check(&file).map_err(|problem| bad(&path, problem))?;
    let MlpFile { mlp, input_shape: shape, class_names, normalisation, .. } = file;
    let input = Input::Numbers { shape, normalisation };
    Ok(ModelConfig { architecture: Architecture::Mlp(mlp), input, class_names })
}

/// Loads a model folder: its configuration, and its parameters in the model's order.
///
/// # Errors
/// [`Error::Model`] when the folder is no model, a file is damaged, or tensors are missing, unexpected, of
/// another shape, or not finite.
pub fn load(folder: &Path) -> Result<(ModelConfig, Vec<Vec<f32>>), Error> {
    let config = load_config(folder)?;
    let naming = naming(&config.architecture, &[]);
    let values = weights::read(folder, &config.model().parameters(), naming)?;
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
            encoder.head = Head::of_task(task, config.class_names.len());
            tokens.pooling = encoder.head.pooling();
            encoder.family.of_head(encoder.head)
        }
        _ => &[],
    };
    if random {
        let values = vec![None; config.model().parameters().len()];
        return Ok((config, values));
    }
    let naming = naming(&config.architecture, fresh);
    let parameters = weights::read(folder, &config.model().parameters(), naming)?;
    Ok((config, parameters))
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
    let mlp = &config.mlp;
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
