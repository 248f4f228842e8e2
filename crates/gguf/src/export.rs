//! A Hugging Face model written as a GGUF.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value as Json;

use crate::blocks::{Precision, TensorType, quantise};
use crate::config::{self, Pooling, Sizes};
use crate::error::Error;
use crate::names::{Architecture, Change, Names, permute, transpose};
use crate::rope::DIVISORS;
use crate::tokenizer::{self, Source};
use crate::value::Value;
use crate::write::{Outline, Writer};

/// What a tensor's values are read by, once, when they are written.
pub type ReadValues<'a> =
    Box<dyn FnOnce() -> Result<Vec<f32>, Box<dyn std::error::Error + Send + Sync>> + 'a>;

/// A tensor of a model that is to be written.
pub struct Tensor<'a> {
    /// Hugging Face's name.
    pub name: String,
    /// Its shape, as Hugging Face has it.
    pub shape: Vec<usize>,
    /// Its values, row by row.
    pub read: ReadValues<'a>,
}

/// How a model is written.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// What matrices are written as. Vectors (norms, biases) and learnt positions are F32; matrices whose rows are no
    /// multiple of 32 are F16 where blocks were asked for.
    pub precision: Precision,
    /// The model's name (`general.name`).
    pub name: Option<&'a str>,
    /// `tokenizer.ggml.pre` of the model that the tokenizer comes from. Where it is not given it is found by the
    /// structure of `tokenizer.json`.
    pub pre: Option<&'a str>,
    /// What a model of vectors makes of a text's hidden states.
    pub pooling: Option<Pooling>,
}

/// A tensor with its place in the file.
struct Placed<'a> {
    names: Names,
    outline: Outline,
    tensor: Tensor<'a>,
}

/// Checks that llama.cpp would run a model as it is: `config` is its `config.json`, `files` are its tokenizer's, by name.
///
/// # Errors
/// [`Error::Config`] and [`Error::Tokenizer`], as of [`write_model`].
pub fn check_model(
    config: &Json,
    files: &[(String, Vec<u8>)],
    options: Options<'_>,
) -> Result<(), Error> {
    let written = config::write(config, options.pooling)?;
    tokenizer_keys(config, files, options.pre, written.sizes.vocab).map(drop)
}

/// Writes a model: `config` is its `config.json`; `files` are its tokenizer's, by name, of which `tokenizer.json`,
/// `tokenizer_config.json` and `chat_template.jinja` are read. Values are asked for one tensor at a time. The file is
/// whole or not there: it has a temporary name until it is on the disk.
///
/// # Errors
/// [`Error::Config`] and [`Error::Tokenizer`] naming what llama.cpp would do otherwise; [`Error::Tensor`] naming a
/// tensor that is unknown, missing, of another shape than the configuration's, not finite, too large for F16, or whose
/// values cannot be read; [`Error::Io`].
pub fn write_model<'a>(
    path: &Path,
    config: &Json,
    files: &[(String, Vec<u8>)],
    tensors: impl IntoIterator<Item = Tensor<'a>>,
    options: Options<'_>,
) -> Result<(), Error> {
    let written = config::write(config, options.pooling)?;
    let architecture = written.architecture;
    let mut placed = Vec::new();
    for tensor in tensors {
        placed.extend(place(path, architecture, &written, tensor, options.precision)?);
    }
    whole(path, architecture, &written.sizes, written.tied, &placed)?;
    let mut outlines: Vec<Outline> = placed.iter().map(|one| one.outline.clone()).collect();
    if let Some(divisors) = &written.divisors {
        let shape = vec![divisors.len()];
        outlines.push(Outline { name: DIVISORS.into(), shape, kind: TensorType::F32 });
    }
    let mut keys = vec![
        ("general.architecture".to_owned(), Value::String(architecture.gguf().into())),
        ("general.type".to_owned(), Value::String("model".into())),
        ("general.file_type".to_owned(), Value::U32(options.precision.file_type())),
        ("general.quantization_version".to_owned(), Value::U32(2)),
    ];
    keys.extend(options.name.map(|name| ("general.name".to_owned(), Value::String(name.into()))));
    keys.extend(written.keys);
    keys.extend(tokenizer_keys(config, files, options.pre, written.sizes.vocab)?);
    let mut writer = Writer::create(path, &keys, &outlines)?;
    for one in placed {
        writer.write(&blocks(path, one, &written.sizes)?)?;
    }
    if let Some(divisors) = written.divisors {
        let mut bytes = Vec::new();
        quantise(Precision::F32, &divisors, &mut bytes);
        writer.write(&bytes)?;
    }
    writer.finish()
}

fn tokenizer_keys(
    config: &Json,
    files: &[(String, Vec<u8>)],
    pre: Option<&str>,
    rows: usize,
) -> Result<Vec<(String, Value)>, Error> {
    let file =
        |name: &str| files.iter().find(|(other, _)| other == name).map(|(_, bytes)| &**bytes);
    let json = |name: &str| match file(name) {
        None => Ok(Json::Null),
        Some(bytes) => {
            serde_json::from_slice(bytes).map_err(|error| Error::tokenizer(name, error.to_string()))
        }
    };
    let (tokenizer, settings) = (json("tokenizer.json")?, json("tokenizer_config.json")?);
    if tokenizer.is_null() {
        return Err(Error::tokenizer(
            "tokenizer.json",
            "it is not there, and llama.cpp needs a tokenizer",
        ));
    }
    let own = file("chat_template.jinja").map(|bytes| {
        std::str::from_utf8(bytes)
            .map_err(|_| Error::tokenizer("chat_template.jinja", "it is no UTF-8"))
    });
    let template = own.transpose()?.or_else(|| chat_template(&settings["chat_template"]));
    tokenizer::write(&Source {
        tokenizer: &tokenizer,
        settings: &settings,
        config,
        template,
        pre,
        rows,
    })
}

/// A template that stands by itself, or that of several which is named `default`.
fn chat_template(setting: &Json) -> Option<&str> {
    let of_several =
        || setting.as_array()?.iter().find(|one| one["name"] == "default")?["template"].as_str();
    setting.as_str().or_else(of_several)
}

/// What GPT-2's files hold beside weights: masks; and Llama's, frequencies.
fn is_no_weight(name: &str) -> bool {
    name.ends_with(".attn.bias")
        || name.ends_with(".attn.masked_bias")
        || name.ends_with(".rotary_emb.inv_freq")
        || name.ends_with("embeddings.position_ids")
}

fn place<'a>(
    path: &Path,
    architecture: Architecture,
    written: &config::Written,
    tensor: Tensor<'a>,
    precision: Precision,
) -> Result<Option<Placed<'a>>, Error> {
    if is_no_weight(&tensor.name) {
        return Ok(None);
    }
    let wrong = |problem: String| Error::tensor(path, &tensor.name, problem);
    let names = architecture.by_hf(&tensor.name);
    let names =
        names.ok_or_else(|| wrong(format!("a {} has no such tensor", architecture.gguf())))?;
    let sizes = &written.sizes;
    if names.layer.is_some_and(|layer| layer >= sizes.layers) {
        return Err(wrong(format!("the configuration has {} layers", sizes.layers)));
    }
    // A head that is the embedding is not there twice.
    if written.tied && names.gguf == "output.weight" {
        return Ok(None);
    }
    let mut shape = tensor.shape.clone();
    if shape.len() > 2 {
        return Err(wrong(format!("a shape of {shape:?}; vectors and matrices are written")));
    }
    if names.change == Change::Transpose {
        shape.reverse();
    }
    if names.change == Change::FromFirst {
        let first = sizes.first_position;
        shape[0] = shape[0].checked_sub(first).filter(|&rows| rows > 0).ok_or_else(|| {
            let problem = format!("{} rows, of which the first {first} are no positions", shape[0]);
            wrong(problem)
        })?;
    }
    let table = matches!(&*names.gguf, "token_embd.weight" | "output.weight");
    if table && shape != [sizes.vocab, sizes.hidden] {
        let due = [sizes.vocab, sizes.hidden];
        return Err(wrong(format!("a shape of {shape:?}, and by the configuration it is {due:?}")));
    }
    let learnt = ["position_embd", "token_types"];
    let narrow = shape.len() < 2 || learnt.iter().any(|start| names.gguf.starts_with(start));
    let row = shape.last().copied().unwrap_or(1);
    let kind = match precision.kind() {
        _ if narrow => TensorType::F32,
        kind if row % kind.block_len() == 0 => kind,
        TensorType::Q4_K if row % TensorType::Q8_0.block_len() == 0 => TensorType::Q8_0,
        _ => TensorType::F16,
    };
    let outline = Outline { name: names.gguf.clone(), shape, kind };
    Ok(Some(Placed { names, outline, tensor }))
}

/// Holds what is to be written to what the architecture needs.
fn whole(
    path: &Path,
    architecture: Architecture,
    sizes: &Sizes,
    tied: bool,
    placed: &[Placed<'_>],
) -> Result<(), Error> {
    let mut there = HashSet::new();
    for one in placed {
        if !there.insert(&*one.outline.name) {
            return Err(Error::tensor(path, &one.names.hf, "it is there twice"));
        }
    }
    let head = (!tied).then(|| "output.weight".to_owned());
    let missing =
        architecture.needed(sizes.layers).chain(head).find(|name| !there.contains(&**name));
    match missing.and_then(|name| architecture.by_gguf(&name)) {
        Some(names) => Err(Error::tensor(path, &names.hf, "it is missing")),
        None => Ok(()),
    }
}

/// A tensor's blocks, as GGUF has them.
fn blocks(path: &Path, one: Placed<'_>, sizes: &Sizes) -> Result<Vec<u8>, Error> {
    let Placed { names, outline, tensor } = one;
    let wrong = |problem: String| Error::tensor(path, &tensor.name, problem);
    let values = (tensor.read)().map_err(|error| wrong(error.to_string()))?;
    let elements: usize = tensor.shape.iter().product();
    if values.len() != elements {
        return Err(wrong(format!("{} values, and its shape has {elements}", values.len())));
    }
    // Of a vector, a row is a number.
    let width = if outline.shape.len() < 2 { 1 } else { outline.shape[1] };
    let odd = || wrong("its rows are no whole heads".into());
    let values = match names.change {
        Change::Nothing => values,
        Change::Queries => permute(&values, sizes.heads, width, false).ok_or_else(odd)?,
        Change::Keys => permute(&values, sizes.kv_heads, width, false).ok_or_else(odd)?,
        Change::Transpose if tensor.shape.len() == 2 => {
            transpose(&values, tensor.shape[0], tensor.shape[1])
        }
        Change::Transpose => return Err(wrong("it is no matrix".into())),
        Change::PlusOne => values.into_iter().map(|v| v + 1.0).collect(),
        Change::FromFirst => values[sizes.first_position * width..].to_vec(),
    };
    let precision = match outline.kind {
        TensorType::F16 => Precision::F16,
        TensorType::BF16 => Precision::BF16,
        TensorType::Q8_0 => Precision::Q8_0,
        TensorType::Q4_K => Precision::Q4_K,
        _ => Precision::F32,
    };
    // A block's scale is an f16 of a 127th, or of a 63rd of a 15th at most.
    let most = match precision {
        Precision::F16 => f32::from(half::f16::MAX),
        Precision::Q8_0 | Precision::Q4_K => f32::from(half::f16::MAX) * 127.0,
        _ => f32::MAX,
    };
    if let Some(value) = values.iter().find(|v| !v.is_finite() || v.abs() > most) {
        return Err(wrong(format!("it holds {value}, which {} cannot", outline.kind.name())));
    }
    let mut bytes = Vec::with_capacity(outline.kind.bytes(&outline.shape).unwrap_or_default());
    quantise(precision, &values, &mut bytes);
    Ok(bytes)
}
