//! The files by which sentence-transformers knows how a model makes vectors: `modules.json` and what it names.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::encoder::{Dense, FIRST_STEP, SentenceModules, SentenceStep, dense_folder};
use super::file_names::{WEIGHTS, bad};
use super::inputs::Pooling;
use super::weights::Saved;
use crate::error::Error;
use crate::files::{io_error, read_text, write_atomically};
use crate::nn::Activation;

/// Lists the modules and their folders.
pub(super) const MODULES: &str = "modules.json";
/// The configuration of a module within its folder.
const CONFIG: &str = "config.json";
/// How the transformer's texts are cut.
const TRANSFORMER: &str = "sentence_bert_config.json";
/// What else sentence-transformers keeps of a model.
const SETTINGS: &str = "config_sentence_transformers.json";
/// The largest of these files that is read.
const MOST_BYTES: u64 = 1 << 20;
/// The most modules behind the pooling.
const MOST_STEPS: usize = 16;
/// The most numbers of a vector.
const MOST_NUMBERS: u64 = 1 << 24;

/// Poolings by the names that sentence-transformers gives them, and the keys of their own that older files have.
const POOLINGS: [(&str, &str, Pooling); 6] = [
    ("cls", "pooling_mode_cls_token", Pooling::First),
    ("max", "pooling_mode_max_tokens", Pooling::Max),
    ("mean", "pooling_mode_mean_tokens", Pooling::Mean),
    ("mean_sqrt_len_tokens", "pooling_mode_mean_sqrt_len_tokens", Pooling::MeanSqrtLength),
    ("weightedmean", "pooling_mode_weightedmean_tokens", Pooling::WeightedMean),
    ("lasttoken", "pooling_mode_lasttoken", Pooling::Last),
];

/// Activations by their PyTorch classes; none is the identity.
const ACTIVATIONS: [(&str, Option<Activation>); 4] = [
    ("torch.nn.modules.linear.Identity", None),
    ("torch.nn.modules.activation.Tanh", Some(Activation::Tanh)),
    ("torch.nn.modules.activation.ReLU", Some(Activation::Relu)),
    ("torch.nn.modules.activation.GELU", Some(Activation::Gelu)),
];

/// What sentence-transformers knows of a folder.
pub(super) struct SentenceFiles {
    pub modules: SentenceModules,
    /// Most tokens of a text, if the files say so.
    pub max_length: Option<usize>,
    /// Whether texts are in small letters before they become tokens.
    pub lower_case: bool,
    /// Folders of linear layers, and what their parameters' names begin with here.
    pub dense: Vec<(String, String)>,
}

/// Reads a folder's files; nothing where it has no `modules.json`.
///
/// # Errors
/// [`Error::Model`] naming the file, and what in it is not supported.
pub(super) fn read(folder: &Path) -> Result<Option<SentenceFiles>, Error> {
    let path = folder.join(MODULES);
    if !path.exists() {
        return Ok(None);
    }
    let not = |problem: String| bad(&path, problem);
    let Value::Array(modules) = parse(&path)? else {
        return Err(not("it is no list of modules".to_owned()));
    };
    if modules.len() > MOST_STEPS + FIRST_STEP {
        return Err(not(format!("it lists {} modules", modules.len())));
    }
    let mut kinds = modules.iter().map(|module| {
        let kind = module["type"].as_str().unwrap_or_default();
        let own = kind.starts_with("sentence_transformers.");
        let name = kind.rsplit('.').next().filter(|_| own).unwrap_or(kind);
        (name.to_owned(), module["path"].as_str().unwrap_or_default().to_owned())
    });
    let supported = "Transformer, Pooling, and then Dense and Normalize are";
    match kinds.next() {
        Some((kind, place)) if kind == "Transformer" => {
            if !place.is_empty() {
                return Err(not(format!(
                    "its transformer lies in the folder {place}, which is not supported: save the model anew with \
                     sentence-transformers, SentenceTransformer(folder).save(another)"
                )));
            }
        }
        first => {
            let kind = first.map_or_else(|| "nothing".to_owned(), |(kind, _)| kind);
            return Err(not(format!("its first module is {kind}: {supported} supported")));
        }
    }
    let pooling = match kinds.next() {
        Some((kind, place)) if kind == "Pooling" => {
            pooling(&folder.join(inside(&place).map_err(not)?).join(CONFIG))?
        }
        _ => return Err(not(format!("its second module is no Pooling: {supported} supported"))),
    };
    let (mut steps, mut dense) = (Vec::new(), Vec::new());
    for (kind, place) in kinds {
        match &*kind {
            "Normalize" => {
                let path = folder.join(inside(&place).map_err(not)?).join(CONFIG);
                if path.exists() {
                    of_sentence(&path, &parse(&path)?)?;
                }
                steps.push(SentenceStep::Normalise);
            }
            "Dense" => {
                let place = inside(&place).map_err(not)?;
                dense.push((place.to_owned(), dense_folder(steps.len())));
                steps.push(SentenceStep::Dense(linear(&folder.join(place).join(CONFIG))?));
            }
            other => {
                return Err(not(format!("its module {other} is not supported: {supported}")));
            }
        }
    }
    let settings = settings(&folder.join(SETTINGS))?;
    let (max_length, lower_case) = transformer(&folder.join(TRANSFORMER))?;
    let modules = SentenceModules { pooling, steps, settings };
    Ok(Some(SentenceFiles { modules, max_length, lower_case, dense }))
}

fn parse(path: &Path) -> Result<Value, Error> {
    let text = read_text(path, MOST_BYTES)?;
    serde_json::from_str(&text).map_err(|error| bad(path, format!("it is no JSON: {error}")))
}

/// A module's folder, which must lie within the model's.
fn inside(place: &str) -> Result<&str, String> {
    match place.contains(['/', '\\', ':']) || matches!(place, "" | "." | "..") {
        true => Err(format!("it names {place:?}, which is no folder within its own")),
        false => Ok(place),
    }
}

fn pooling(path: &Path) -> Result<Pooling, Error> {
    let json = parse(path)?;
    let named: Vec<&str> = match &json["pooling_mode"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        _ => {
            let asked = |key: &str| json[key].as_bool() == Some(true);
            POOLINGS.iter().filter(|(_, key, _)| asked(key)).map(|(name, ..)| *name).collect()
        }
    };
    match named[..] {
        // As sentence-transformers does.
        [] => Ok(Pooling::Mean),
        [name] => {
            let known = POOLINGS.iter().find(|(known, ..)| *known == name);
            let names = || POOLINGS.map(|(name, ..)| name).join(", ");
            known.map(|(_, _, pooling)| *pooling).ok_or_else(|| {
                bad(path, format!("its pooling_mode `{name}` is none of {}", names()))
            })
        }
        _ => Err(bad(
            path,
            format!("it joins the vectors of {}: one pooling alone is supported", named.join(", ")),
        )),
    }
}

fn linear(path: &Path) -> Result<Dense, Error> {
    let json = parse(path)?;
    let size = |key: &str| {
        let size = json[key].as_u64().filter(|size| (1..=MOST_NUMBERS).contains(size));
        size.map(|size| size as usize).ok_or_else(|| bad(path, format!("its {key} is no size")))
    };
    of_sentence(path, &json)?;
    if json["use_residual"].as_bool() == Some(true) {
        return Err(bad(path, "use_residual is not supported: it must be false"));
    }
    // As sentence-transformers does where the key is not there.
    let name = json["activation_function"].as_str().unwrap_or(ACTIVATIONS[1].0);
    let Some((_, activation)) = ACTIVATIONS.iter().find(|(known, _)| *known == name) else {
        let names = ACTIVATIONS.map(|(name, _)| name).join(", ");
        return Err(bad(path, format!("its activation_function `{name}` is none of {names}")));
    };
    Ok(Dense {
        inputs: size("in_features")?,
        outputs: size("out_features")?,
        bias: json["bias"].as_bool() != Some(false),
        activation: *activation,
    })
}

/// Refuses a module that works on something else than a text's vector.
fn of_sentence(path: &Path, json: &Value) -> Result<(), Error> {
    for key in ["module_input_name", "module_output_name"] {
        if json[key].as_str().is_some_and(|name| name != "sentence_embedding") {
            return Err(bad(path, format!("its {key} must be `sentence_embedding`")));
        }
    }
    Ok(())
}

/// Most tokens of a text, and whether it is in small letters.
fn transformer(path: &Path) -> Result<(Option<usize>, bool), Error> {
    if !path.exists() {
        return Ok((None, false));
    }
    let json = parse(path)?;
    if let Some(task) = json["transformer_task"].as_str()
        && task != "feature-extraction"
    {
        return Err(bad(path, format!("its transformer_task `{task}` is not feature-extraction")));
    }
    let most = json["max_seq_length"].as_u64().and_then(|most| most.try_into().ok());
    Ok((most, json["do_lower_case"].as_bool() == Some(true)))
}

fn settings(path: &Path) -> Result<Option<Map<String, Value>>, Error> {
    if !path.exists() {
        return Ok(None);
    }
    let Value::Object(settings) = parse(path)? else {
        return Err(bad(path, "it is no JSON object"));
    };
    let prompt = settings.get("default_prompt_name").and_then(Value::as_str);
    let prompt = prompt.filter(|name| is_put_in_front(&settings, name));
    if let Some(name) = prompt {
        return Err(bad(
            path,
            format!(
                "it puts the prompt `{name}` in front of every text, which is not supported: set default_prompt_name \
                 to null, and write the prompt into the texts"
            ),
        ));
    }
    match settings.get("model_type").and_then(Value::as_str) {
        Some(kind) if kind != "SentenceTransformer" => {
            Err(bad(path, format!("its model_type `{kind}` is not SentenceTransformer")))
        }
        _ => Ok(Some(settings)),
    }
}

/// Whether a prompt's name stands for any text.
fn is_put_in_front(settings: &Map<String, Value>, name: &str) -> bool {
    let prompt = settings.get("prompts").and_then(|prompts| prompts[name].as_str());
    prompt.is_some_and(|prompt| !prompt.is_empty())
}

/// Writes the files of a model into its folder, all but the linear layers' parameters.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub(super) fn write(
    folder: &Path,
    modules: &SentenceModules,
    hidden_size: usize,
    max_length: usize,
) -> Result<(), Error> {
    let module = |place: usize, path: String, kind: &str| {
        json!({
            "idx": place,
            "name": place.to_string(),
            "path": path,
            "type": format!("sentence_transformers.models.{kind}"),
        })
    };
    let mut list =
        vec![module(0, String::new(), "Transformer"), module(1, "1_Pooling".to_owned(), "Pooling")];
    let mut pooling = Map::from_iter([
        ("word_embedding_dimension".to_owned(), hidden_size.into()),
        ("include_prompt".to_owned(), true.into()),
    ]);
    for (_, key, kind) in POOLINGS {
        pooling.insert(key.to_owned(), (kind == modules.pooling).into());
    }
    save(&folder.join("1_Pooling").join(CONFIG), &pooling.into())?;
    for (step, kind) in modules.steps.iter().enumerate() {
        let place = step + FIRST_STEP;
        match kind {
            SentenceStep::Normalise => {
                list.push(module(place, format!("{place}_Normalize"), "Normalize"));
                let path = folder.join(format!("{place}_Normalize"));
                fs::create_dir_all(&path).map_err(io_error(&path))?;
            }
            SentenceStep::Dense(dense) => {
                list.push(module(place, dense_folder(step), "Dense"));
                let known = ACTIVATIONS.iter().find(|(_, kind)| *kind == dense.activation);
                let config = json!({
                    "in_features": dense.inputs,
                    "out_features": dense.outputs,
                    "bias": dense.bias,
                    "activation_function": known.map(|(name, _)| *name),
                });
                save(&folder.join(dense_folder(step)).join(CONFIG), &config)?;
            }
        }
    }
    let transformer = json!({ "max_seq_length": max_length, "do_lower_case": false });
    save(&folder.join(TRANSFORMER), &transformer)?;
    if let Some(settings) = &modules.settings {
        save(&folder.join(SETTINGS), &settings.clone().into())?;
    }
    save(&folder.join(MODULES), &list.into())
}

/// Writes a JSON file, and its folder if there is none.
fn save(path: &Path, json: &Value) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    write_atomically(path, format!("{json:#}\n").as_bytes())
}

/// Removes the list of modules that another model left in a folder.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub(super) fn remove(folder: &Path) -> Result<(), Error> {
    let path = folder.join(MODULES);
    if path.exists() { fs::remove_file(&path).map_err(io_error(&path)) } else { Ok(()) }
}

/// Saves parameters of linear layers, whose names begin with the layer's folder, into files of their own.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub(super) fn save_dense(folder: &Path, tensors: &[Saved<'_>]) -> Result<(), Error> {
    for group in tensors.chunk_by(|a, b| layer(a.0) == layer(b.0)) {
        let place = folder.join(layer(group[0].0).unwrap_or_default());
        fs::create_dir_all(&place).map_err(io_error(&place))?;
        let own: Vec<_> = group
            .iter()
            .map(|(name, shape, values)| {
                (name.split_once('/').map_or(*name, |(_, own)| own), shape.clone(), &**values)
            })
            .collect();
        crate::files::save_tensors(&place.join(WEIGHTS), &own, HashMap::new())?;
    }
    Ok(())
}

/// The folder that a parameter's name begins with; none of the transformer's own.
pub(super) fn layer(name: &str) -> Option<&str> {
    name.split_once('/').map(|(folder, _)| folder)
}
