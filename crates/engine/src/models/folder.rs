//! A model on disk: a folder with `config.json` and `model.safetensors`.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::{Architecture, ModelConfig};
use crate::error::Error;
use crate::files::{TensorFile, io_error, save_tensors, write_atomically};
use crate::store::ParameterSpec;

/// Name of a model's configuration.
pub const CONFIG: &str = "config.json";
/// Name of a model's file of parameters.
pub const WEIGHTS: &str = "model.safetensors";

fn bad(path: &Path, problem: impl Into<String>) -> Error {
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
    let path = folder.join(CONFIG);
    let json =
        serde_json::to_string_pretty(config).map_err(|error| bad(&path, error.to_string()))?;
    write_atomically(&path, format!("{json}\n").as_bytes())
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
    let config: ModelConfig = serde_json::from_str(&text)
        .map_err(|error| bad(&path, format!("not a model configuration: {error}")))?;
    check(&config).map_err(|problem| bad(&path, problem))?;
    Ok(config)
}

/// Loads a model folder: its configuration, and its parameters in the model's order.
///
/// # Errors
/// [`Error::Model`] when the folder is no model, a file is damaged, or tensors are missing, unexpected, of
/// another shape, or not finite.
pub fn load(folder: &Path) -> Result<(ModelConfig, Vec<Vec<f32>>), Error> {
    let config = load_config(folder)?;
    let path = folder.join(WEIGHTS);
    let file = TensorFile::read(&path)?;
    let specs = config.model().parameters();
    compare_names(&path, &specs, &file.names())?;
    let read = |spec: &ParameterSpec| file.tensor(&spec.name, &spec.shape);
    let values = specs.iter().map(read).collect::<Result<_, _>>()?;
    Ok((config, values))
}

/// Sizes that no file may make us believe.
fn check(config: &ModelConfig) -> Result<(), String> {
    const MOST: usize = 1 << 24;
    let Architecture::Mlp(mlp) = &config.architecture;
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

fn compare_names(path: &Path, specs: &[ParameterSpec], found: &[String]) -> Result<(), Error> {
    let missing: Vec<&str> =
        specs.iter().map(|s| &*s.name).filter(|name| !found.iter().any(|f| f == name)).collect();
    let unexpected: Vec<&str> = found
        .iter()
        .map(|name| &**name)
        .filter(|name| !specs.iter().any(|spec| spec.name == *name))
        .collect();
    if missing.is_empty() && unexpected.is_empty() {
        return Ok(());
    }
    let list = |what: &str, names: &[&str]| {
        if names.is_empty() { String::new() } else { format!("{what}: {}. ", names.join(", ")) }
    };
    let problem = format!(
        "its tensors are not those of config.json. {}{}",
        list("Missing", &missing),
        list("Unexpected", &unexpected)
    );
    Err(bad(path, problem.trim_end()))
}
