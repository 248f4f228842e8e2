//! A language model in a GGUF file, read as its Hugging Face folder would be; and written for llama.cpp, as models of vectors
//! are.

use std::fs;
use std::path::Path;

pub use distil_gpu_gguf::Precision as GgufPrecision;
use distil_gpu_gguf::{Error as GgufError, Options, Pooling, Tensor};

use super::encoder::{Head, SentenceStep};
use super::folder::{self, bad};
use super::{Input, ModelConfig, registry};
use crate::error::Error;
use crate::files::io_error;
use crate::store::ParameterSpec;

/// Whether a path is one of a GGUF file.
pub(super) fn is_one(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf")) && path.is_file()
}

fn of_gguf(path: &Path) -> impl Fn(GgufError) -> Error {
    move |error| {
        let told = error.to_string();
        let named = format!("{}: ", path.display());
        bad(path, told.strip_prefix(&named).unwrap_or(&told))
    }
}

fn open(path: &Path) -> Result<distil_gpu_gguf::Model, Error> {
    distil_gpu_gguf::Model::open(path).map_err(of_gguf(path))
}

/// The model that a file describes.
///
/// # Errors
/// [`Error::Model`] when it is damaged, or of a kind that is not known.
pub(super) fn load_config(path: &Path) -> Result<ModelConfig, Error> {
    let model = open(path)?;
    // A tokenizer is its files, which lie in a folder for as long as they are read.
    let files = tempfile::tempdir().map_err(io_error(path))?;
    for (name, contents) in model.tokenizer_files().map_err(of_gguf(path))? {
        let file = files.path().join(name);
        fs::write(&file, contents).map_err(io_error(&file))?;
    }
    let json = model.config();
    let kind = registry::of_json(json).map_err(|problem| bad(path, problem))?;
    let named = files.path().display().to_string();
    kind.read(files.path(), json).map_err(|error| {
        // The folder is nobody's: its files are what the file says.
        bad(path, error.to_string().replace(&format!("{named}/"), "").replace(&named, "the file"))
    })
}

/// The values of these parameters, in their order.
///
/// # Errors
/// [`Error::Model`] when it is damaged, or tensors are missing, of another shape, or not finite.
pub(super) fn read(path: &Path, specs: &[ParameterSpec]) -> Result<Vec<Vec<f32>>, Error> {
    let model = open(path)?;
    let shapes: std::collections::HashMap<String, Vec<usize>> =
        model.tensors().map(|entry| (entry.name, entry.shape)).collect();
    let values = |spec: &ParameterSpec| {
        let name = &spec.name;
        match shapes.get(name) {
            None => return Err(bad(path, format!("it has no {name}"))),
            Some(shape) if *shape != spec.shape => {
                let wanted = &spec.shape;
                return Err(bad(path, format!("{name} is {shape:?}, and must be {wanted:?}")));
            }
            Some(_) => {}
        }
        let values = model.read_f32(name).map_err(of_gguf(path))?;
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(bad(path, format!("{name} holds {} at element {at}", values[at]))),
            None => Ok(values),
        }
    };
    specs.iter().map(values).collect()
}

/// Encoders that llama.cpp runs: BERT's layers, with what is in front of them.
const ENCODERS: [&str; 5] = ["bert", "distilbert", "roberta", "xlm-roberta", "camembert"];

/// Checks that a GGUF file can hold a model for llama.cpp, with its tokenizer.
///
/// # Errors
/// [`Error::Unsupported`] that says what it can hold, or what llama.cpp would do otherwise.
pub fn check_gguf(config: &ModelConfig) -> Result<(), Error> {
    let pooling = pooling(config)?;
    let unfit = |error: GgufError| Error::Unsupported {
        what: format!("llama.cpp would not run it as it is: {error}"),
        instead: "leave GGUF out".to_owned(),
    };
    let options = Options { precision: GgufPrecision::F16, name: None, pre: None, pooling };
    let files = tokenizer_files(Path::new("the model"), config)?;
    distil_gpu_gguf::check_model(&config.model().to_json(config), &files, options).map_err(unfit)
}

/// What a model of vectors makes of a text's hidden states; none of a model of next tokens.
///
/// # Errors
/// [`Error::Unsupported`] that says what a GGUF file can hold.
fn pooling(config: &ModelConfig) -> Result<Option<Pooling>, Error> {
    let unfit =
        |what: String, instead: &str| Err(Error::Unsupported { what, instead: instead.to_owned() });
    let Some(encoder) = config.encoder() else {
        return match config.decoder() {
            Some(_) => Ok(None),
            None => unfit(HELD.to_owned(), "give one of these"),
        };
    };
    if encoder.head != Head::Embedding {
        return unfit(HELD.to_owned(), "give one of these");
    }
    let family = encoder.family.names().model_type;
    if !ENCODERS.contains(&family) {
        let what = format!("llama.cpp runs {}, and no `{family}`", ENCODERS.join(", "));
        return unfit(what, "leave GGUF out");
    }
    let dense = |step: &SentenceStep| matches!(step, SentenceStep::Dense(_));
    if encoder.sentence.steps.iter().any(dense) {
        let what = "llama.cpp has no linear layer behind a text's vector".to_owned();
        return unfit(what, "leave GGUF out");
    }
    match encoder.sentence.pooling {
        super::Pooling::Mean => Ok(Some(Pooling::Mean)),
        super::Pooling::First => Ok(Some(Pooling::First)),
        super::Pooling::Last => Ok(Some(Pooling::Last)),
        _ => {
            let what = "llama.cpp makes a text's vector of its mean, its first or its last hidden state alone";
            unfit(what.to_owned(), "leave GGUF out")
        }
    }
}

/// What GGUF files hold.
const HELD: &str = "a GGUF file holds a model of next tokens (Llama, Mistral, Qwen, Gemma 3, GPT-2), or a model of vectors (BERT, \
                    DistilBERT, RoBERTa, XLM-RoBERTa, CamemBERT)";

/// The files of a model's tokenizer, by name.
fn tokenizer_files(path: &Path, config: &ModelConfig) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let Input::Tokens(tokens) = &config.input else { return Err(bad(path, HELD)) };
    let Some(tokenizer) = &tokens.tokenizer else { return Err(bad(path, "it has no tokenizer")) };
    let saved = match (config.decoder(), config.encoder()) {
        (Some(decoder), _) => folder::saved_with(decoder, tokens),
        (None, Some(encoder)) => folder::saved_as(encoder, tokens),
        (None, None) => return Err(bad(path, HELD)),
    };
    let scratch = tempfile::tempdir().map_err(io_error(path))?;
    tokenizer.save(scratch.path(), &saved)?;
    let mut files = Vec::new();
    for entry in fs::read_dir(scratch.path()).map_err(io_error(path))? {
        let file = entry.map_err(io_error(path))?.path();
        let contents = fs::read(&file).map_err(io_error(&file))?;
        files.extend(file.file_name().and_then(|name| Some((name.to_str()?.to_owned(), contents))));
    }
    Ok(files)
}

/// Writes a model as a GGUF file that llama.cpp runs: matrices in this precision, norms and biases in f32.
///
/// # Errors
/// As [`check_gguf`]; [`Error::Model`] when llama.cpp could not run it as it is, or it has no tokenizer; [`Error::Io`].
pub fn save_gguf(
    path: &Path,
    config: &ModelConfig,
    values: &[Vec<f32>],
    precision: GgufPrecision,
) -> Result<(), Error> {
    let pooling = pooling(config)?;
    let files = tokenizer_files(path, config)?;
    let model = config.model();
    let specs = model.parameters();
    let tensors = specs.iter().zip(values).map(|(spec, values)| Tensor {
        name: spec.name.clone(),
        shape: spec.shape.clone(),
        read: Box::new(move || Ok(values.clone())),
    });
    let options = Options { precision, name: None, pre: None, pooling };
    distil_gpu_gguf::write_model(path, &model.to_json(config), &files, tensors, options)
        .map_err(of_gguf(path))
}
