//! A language model in a GGUF file, read as its Hugging Face folder would be; and written for llama.cpp, as models of vectors
//! are.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

pub use distil_gpu_gguf::Precision as GgufPrecision;
use distil_gpu_gguf::{Error as GgufError, Options, Pooling, Tensor, TensorType};
use distil_gpu_kernels::{Blocks, DType};

use super::encoder::{Head, SentenceStep};
use super::file_names::bad;
use super::saved_as::{saved_as, saved_with};
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

/// The tensors of some parameters, in a file.
#[derive(Debug)]
pub(super) struct Tensors {
    model: distil_gpu_gguf::Model,
    path: PathBuf,
}

impl Tensors {
    /// Finds these parameters.
    ///
    /// # Errors
    /// [`Error::Model`] when the file is damaged, or tensors are missing or of another shape.
    pub fn find(path: &Path, specs: &[ParameterSpec]) -> Result<Self, Error> {
        let model = open(path)?;
        let shapes: HashMap<String, Vec<usize>> =
            model.tensors().map(|entry| (entry.name, entry.shape)).collect();
        for ParameterSpec { name, shape: wanted, .. } in specs {
            match shapes.get(name) {
                None => return Err(bad(path, format!("it has no {name}"))),
                Some(shape) if shape != wanted => {
                    let problem = format!("{name} is {shape:?}, and must be {wanted:?}");
                    return Err(bad(path, problem));
                }
                Some(_) => {}
            }
        }
        Ok(Self { model, path: path.to_owned() })
    }

    /// The values of the parameter of this name.
    ///
    /// # Errors
    /// [`Error::Model`] when they are not finite; [`Error::Io`].
    pub fn values(&self, name: &str) -> Result<Vec<f32>, Error> {
        let values = self.model.read_f32(name).map_err(of_gguf(&self.path))?;
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(self.not_finite(name, values[at], at)),
            None => Ok(values),
        }
    }

    /// The error of a number that is none.
    fn not_finite(&self, name: &str, value: f32, at: usize) -> Error {
        bad(&self.path, format!("{name} holds {value} at element {at}"))
    }

    /// The type that the file has the rows of a matrix in, where a device reads it.
    pub fn dtype(&self, name: &str) -> DType {
        match self.model.raw_kind(name) {
            Some(TensorType::F16) => DType::F16,
            Some(kind) => blocks(kind).map_or(DType::F32, DType::Blocks),
            None => DType::F32,
        }
    }

    /// The words of a matrix in blocks, as the file has them.
    ///
    /// # Errors
    /// [`Error::Model`] when numbers are not finite; [`Error::Io`].
    pub fn words(&self, name: &str, blocks: Blocks) -> Result<Vec<u32>, Error> {
        let raw = self.model.read_raw(name).map_err(of_gguf(&self.path))?;
        let mut words = Vec::with_capacity(raw.bytes.len() / blocks.file_bytes() * blocks.words());
        blocks.pack(&raw.bytes, &mut words);
        drop(raw);
        match blocks.first_not_finite(&words) {
            Some((at, value)) => Err(self.not_finite(name, value, at)),
            None => Ok(words),
        }
    }
}

/// The blocks that a type of tensors is, if a device reads them.
fn blocks(kind: TensorType) -> Option<Blocks> {
    Some(match kind {
        TensorType::BF16 => Blocks::BF16,
        TensorType::Q8_0 => Blocks::Q8_0,
        TensorType::Q4_0 => Blocks::Q4_0,
        TensorType::Q4_1 => Blocks::Q4_1,
        TensorType::Q5_0 => Blocks::Q5_0,
        TensorType::Q5_1 => Blocks::Q5_1,
        TensorType::Q4_K => Blocks::Q4_K,
        TensorType::Q5_K => Blocks::Q5_K,
        TensorType::Q6_K => Blocks::Q6_K,
        _ => return None,
    })
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
        (Some(decoder), _) => saved_with(decoder, tokens),
        (None, Some(encoder)) => saved_as(encoder, tokens),
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
