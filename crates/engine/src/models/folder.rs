//! A model on disk: a folder with `config.json` and `model.safetensors`, and the tokenizer's files if it reads
//! texts.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::cnn::layout::{file_shape, to_file};
use super::linked::{LINK, Link};
use super::saved_as::{saved_as, saved_with};
use super::weights::Saved;
use super::{
    Architecture, Head, Input, ModelConfig, Source, Values, decoder, gguf_file, quantised,
    sentence_files, weights,
};
use crate::error::Error;
use crate::files::{io_error, read_text, save_with_counters, write_atomically};
use crate::store::{ParameterSpec, Storage};

use super::file_names::PREPROCESSOR;
pub(super) use super::file_names::bad;
pub use super::file_names::{CONFIG, INT8_WEIGHTS, WEIGHTS};

/// The largest configuration that is read.
const MOST_CONFIG_BYTES: u64 = 64 << 20;

/// Saves a model into `folder`, which is made. `values` are in the order of the model's parameters. The
/// configuration is written last: a folder with one is complete.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn save(folder: &Path, config: &ModelConfig, values: &[Vec<f32>]) -> Result<(), Error> {
    save_stored(folder, config, values, Storage::F32)
}

/// As [`save`], with matrices in bytes where `storage` says so: such a folder is for this program.
///
/// # Errors
/// As [`save`].
pub fn save_stored(
    folder: &Path,
    config: &ModelConfig,
    values: &[Vec<f32>],
    storage: Storage,
) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    let specs = config.model().parameters();
    let named = specs.iter().zip(values);
    let (own, of_layers): (Vec<_>, Vec<_>) = named
        .map(|(spec, values)| (&*spec.name, file_shape(&spec.shape), to_file(&spec.shape, values)))
        .partition(|(name, ..)| sentence_files::layer(name).is_none());
    match storage {
        Storage::I8 => quantised::save(&folder.join(INT8_WEIGHTS), &own)?,
        _ => {
            save_with_counters(&folder.join(WEIGHTS), &own, &counters(&specs))?;
        }
    }
    save_rest(folder, config, &of_layers, storage)
}

/// Saves a model into `folder`, which is made, but for its weights: a file says where they lie.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub fn save_linked(folder: &Path, config: &ModelConfig, source: &Source) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    source.link()?.write(folder)?;
    save_rest(folder, config, &[], Storage::F32)
}

/// Saves all of a model but its weights, those of the layers behind an encoder's pooling aside.
fn save_rest(
    folder: &Path,
    config: &ModelConfig,
    of_layers: &[Saved<'_>],
    storage: Storage,
) -> Result<(), Error> {
    if let (Some(encoder), Input::Tokens(tokens)) = (config.encoder(), &config.input) {
        if let Some(tokenizer) = &tokens.tokenizer {
            tokenizer.save(folder, &saved_as(encoder, tokens))?;
        }
        if encoder.head == Head::Embedding {
            sentence_files::save_dense(folder, of_layers)?;
            let (width, most) = (encoder.hidden_size, tokens.max_length);
            sentence_files::write(folder, &encoder.sentence, width, most)?;
        } else {
            sentence_files::remove(folder)?;
        }
    }
    if let (Some(decoder), Input::Tokens(tokens)) = (config.decoder(), &config.input) {
        if let Some(tokenizer) = &tokens.tokenizer {
            tokenizer.save(folder, &saved_with(decoder, tokens))?;
        }
        if let Some(generation) = &decoder.generation {
            write_json(&folder.join(decoder::folder::GENERATION), &generation.0)?;
        }
    }
    if let Some(preprocessor) = preprocessor(config) {
        write_json(&folder.join(PREPROCESSOR), &preprocessor)?;
    }
    let mut json = config.model().to_json(config);
    if storage == Storage::I8 {
        quantised::mark(&mut json);
    }
    write_json(&folder.join(CONFIG), &json)
}

/// Names of what PyTorch counts beside each pair of running statistics: batches, which nothing here hangs on.
fn counters(specs: &[ParameterSpec]) -> Vec<String> {
    let norms = specs.iter().filter_map(|spec| spec.name.strip_suffix("running_var"));
    norms.map(|norm| format!("{norm}num_batches_tracked")).collect()
}

/// What transformers' image processors do to a picture for this model, where it reads pictures and has convolutions.
fn preprocessor(config: &ModelConfig) -> Option<Value> {
    let (Architecture::ResNet(resnet), Some(normalisation)) =
        (&config.architecture, config.normalisation())
    else {
        return None;
    };
    let [channels, height, width] = resnet.input_shape();
    let each = |list: &[f32]| match list {
        [one] => vec![*one; channels],
        _ => list.to_vec(),
    };
    Some(serde_json::json!({
        "image_processor_type": "ViTImageProcessor",
        "do_resize": true,
        "size": { "height": height, "width": width },
        "resample": 2,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": each(&normalisation.mean),
        "image_std": each(&normalisation.std),
    }))
}

/// How the matrices of a folder's model are stored there: in bytes or in floats, which are f32 to this program.
///
/// # Errors
/// As [`load`].
pub fn storage(folder: &Path) -> Result<Storage, Error> {
    if Link::is_in(folder) {
        return storage(&Link::read(&folder.join(LINK))?.from);
    }
    let in_bytes = !gguf_file::is_one(folder) && weights::hold_bytes(folder)?;
    Ok(if in_bytes { Storage::I8 } else { Storage::F32 })
}

fn write_json(path: &Path, json: &Value) -> Result<(), Error> {
    let json = serde_json::to_string_pretty(json).expect("a configuration is plain data");
    write_atomically(path, format!("{json}\n").as_bytes())
}

/// Loads the configuration of a model folder, or of a GGUF file.
///
/// # Errors
/// [`Error::Model`] when there is none, or it makes no sense.
pub fn load_config(folder: &Path) -> Result<ModelConfig, Error> {
    if gguf_file::is_one(folder) {
        return gguf_file::load_config(folder);
    }
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
    let kind = super::registry::of_json(&json).map_err(|problem| bad(&path, problem))?;
    kind.read(folder, &json)
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

/// Opens a model folder, or a GGUF file: its configuration, and its parameters where they lie.
///
/// # Errors
/// [`Error::Model`] when the folder is no model, a file is damaged, or tensors are missing, unexpected or of another shape.
pub fn open(folder: &Path) -> Result<(ModelConfig, Source), Error> {
    let config = load_config(folder)?;
    let specs = config.model().parameters();
    let source = if Link::is_in(folder) {
        let path = folder.join(LINK);
        let link = Link::read(&path)?;
        link.check(&path)?;
        open(&link.from)?.1.linked(&link, &path, &specs)?
    } else if gguf_file::is_one(folder) {
        Source::of_gguf(folder, specs)?
    } else {
        let layers = layers(folder, &config)?;
        Source::of_folder(folder, specs, &config.model().naming(false), &layers)?
    };
    Ok((config, source))
}

/// Loads a model folder, or a GGUF file: its configuration, and its parameters in the model's order.
///
/// # Errors
/// As [`open`]; when values are not finite.
pub fn load(folder: &Path) -> Result<(ModelConfig, Vec<Vec<f32>>), Error> {
    let (config, source) = open(folder)?;
    Ok((config, source.all()?))
}

/// Bytes of a model's weights in the files where a run's folder has them, or says that they lie; nothing where it has none.
pub fn bytes(folder: &Path) -> Option<u64> {
    match Link::read(&folder.join(LINK)) {
        Ok(link) => Some(link.bytes()),
        Err(_) => fs::metadata(folder.join(WEIGHTS)).map(|metadata| metadata.len()).ok(),
    }
}

/// A model to start from, with this head on it where it is an encoder: its configuration, and the parameters that it
/// has, in the model's order. The number of classes stays the folder's own. Parameters of the head may be missing, and
/// the last layer of a head of another kind is; with `random`, all start afresh.
///
/// # Errors
/// As [`load`].
pub fn load_start(folder: &Path, head: Head, random: bool) -> Result<(ModelConfig, Values), Error> {
    let mut config = load_config(folder)?;
    let mut same = true;
    let classes = config.class_names.len();
    if let (Architecture::Encoder(encoder), Input::Tokens(tokens)) =
        (&mut config.architecture, &mut config.input)
    {
        same = encoder.head.is_like(head);
        encoder.set_head(head.with_classes(classes));
        tokens.pooling = encoder.pooling();
    }
    let model = config.model();
    let specs = model.parameters();
    if random {
        let values = vec![None; specs.len()];
        return Ok((config, values));
    }
    let wanted = |spec: &&ParameterSpec| same || !model.is_output(&spec.name);
    let read: Vec<ParameterSpec> = specs.iter().filter(wanted).cloned().collect();
    let naming = model.naming(true);
    let values = match Link::is_in(folder) {
        true => of_linked(folder, &read, naming.fresh)?,
        false => weights::read(folder, &read, &naming, &layers(folder, &config)?)?,
    };
    let mut values = values.into_iter();
    let value = |spec: &ParameterSpec| wanted(&spec).then(|| values.next().flatten()).flatten();
    let values = specs.iter().map(value).collect();
    Ok((config, values))
}

/// The values of these parameters of a folder whose weights lie elsewhere; nothing of those that may start afresh and are not
/// there.
fn of_linked(folder: &Path, specs: &[ParameterSpec], fresh: &[&str]) -> Result<Values, Error> {
    let values = open(folder)?.1.by_name(specs)?;
    let lacks = |(spec, values): &(&ParameterSpec, &Option<Vec<f32>>)| {
        values.is_none() && !fresh.iter().any(|start| spec.name.starts_with(start))
    };
    match specs.iter().zip(&values).find(lacks) {
        Some((spec, _)) => Err(bad(&folder.join(LINK), format!("there is no {}", spec.name))),
        None => Ok(values),
    }
}

/// Folders of linear layers behind the pooling, and what their parameters' names begin with.
fn layers(folder: &Path, config: &ModelConfig) -> Result<Vec<(String, String)>, Error> {
    Ok(match config.embeds() {
        true => sentence_files::read(folder)?.map_or(Vec::new(), |files| files.dense),
        false => Vec::new(),
    })
}
