//! What an exported folder may have beside the model itself, a line each.

use std::cell::OnceCell;
use std::fs;
use std::path::Path;

use distil_gpu_engine::files::write_atomically;
use distil_gpu_engine::models::{self, Architecture, GgufPrecision, ModelConfig};
use distil_gpu_engine::store::Storage;
use distil_gpu_onnx::Model;

use crate::error::{Error, io};
use crate::export::Export;
use crate::onnx::onnx;

/// Files of a tokenizer, which are taken as they are.
const TOKENIZER: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
];

/// Something that a runtime takes.
#[derive(Debug)]
pub struct Part {
    /// What it is called by.
    pub name: &'static str,
    /// What it is, for people.
    pub about: &'static str,
    /// Whether it is written where nothing is asked for by name.
    pub by_default: bool,
    /// Why a model has it not, where that is so.
    unfit: fn(&ModelConfig) -> Option<String>,
    write: fn(&Work<'_>) -> Result<(), Error>,
}

/// All there are.
pub static PARTS: [Part; 6] = [
    Part {
        name: "onnx",
        about: "onnx/model.onnx, for onnxruntime and transformers.js",
        by_default: true,
        unfit: no_encoder,
        write: |work| work.write_onnx("onnx/model.onnx", |model| model),
    },
    Part {
        name: "onnx-int8",
        about: "onnx/model_quantized.onnx, its weights in eight bits",
        by_default: true,
        unfit: no_encoder,
        write: |work| work.write_onnx("onnx/model_quantized.onnx", Model::quantised),
    },
    Part {
        name: "onnx-f16",
        about: "onnx/model_fp16.onnx, its weights in f16",
        by_default: true,
        unfit: no_encoder,
        write: |work| work.write_onnx("onnx/model_fp16.onnx", Model::halved),
    },
    Part {
        name: "int8",
        about: "int8/, the model with its matrices in eight bits, for distil-gpu",
        by_default: true,
        unfit: |_| None,
        write: |work| work.write_bytes(),
    },
    Part {
        name: "gguf",
        about: "model.gguf in f16, for llama.cpp",
        by_default: true,
        unfit: |config| models::check_gguf(config).err().map(|error| error.to_string()),
        write: |work| work.write_gguf(),
    },
    Part {
        name: "web",
        about: "web/index.html, for a browser, and what it loads",
        by_default: true,
        unfit: |config| distil_gpu_web::shown(config).err().map(|error| error.to_string()),
        write: |work| work.write_web(),
    },
];

fn no_encoder(config: &ModelConfig) -> Option<String> {
    let is_decoder = matches!(config.architecture, Architecture::Decoder(_));
    is_decoder.then(|| "a model that guesses next tokens has no ONNX file here".to_owned())
}

impl Part {
    /// The one of this name.
    ///
    /// # Errors
    /// A sentence that lists those there are.
    pub fn named(name: &str) -> Result<&'static Self, String> {
        PARTS.iter().find(|part| part.name == name).ok_or_else(|| {
            let names: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
            format!("`{name}` is none of {}", names.join(", "))
        })
    }

    /// Those that a model has unless others are asked for.
    pub fn of(config: &ModelConfig) -> Vec<&'static Self> {
        let fits = |part: &&Self| part.by_default && (part.unfit)(config).is_none();
        PARTS.iter().filter(fits).collect()
    }

    /// Checks that a model can have it.
    ///
    /// # Errors
    /// [`Error::Unfit`] that says why not.
    pub fn check(&self, config: &ModelConfig) -> Result<(), Error> {
        match (self.unfit)(config) {
            Some(problem) => Err(Error::Unfit(format!("{}: {problem}", self.name))),
            None => Ok(()),
        }
    }

    pub(crate) fn write(&self, work: &Work<'_>) -> Result<(), Error> {
        self.check(work.config)?;
        (self.write)(work)
    }
}

/// A folder in the making.
pub(crate) struct Work<'a> {
    pub config: &'a ModelConfig,
    pub values: &'a [Vec<f32>],
    pub folder: &'a Path,
    /// Folder or file that the model comes from.
    from: &'a Path,
    web: &'a distil_gpu_web::Options,
    onnx: OnceCell<Model>,
}

impl<'a> Work<'a> {
    pub fn new(export: &'a Export<'a>, folder: &'a Path) -> Self {
        let Export { config, values, from, web, .. } = export;
        Self { config, values, folder, from, web, onnx: OnceCell::new() }
    }

    /// Writes what becomes of the model in ONNX.
    fn write_onnx(&self, file: &'static str, change: fn(Model) -> Model) -> Result<(), Error> {
        let model = match self.onnx.get() {
            Some(model) => model.clone(),
            None => {
                let made = onnx(self.config, self.values)?;
                self.onnx.get_or_init(|| made).clone()
            }
        };
        let bytes = change(model).to_bytes().map_err(|source| Error::Onnx { file, source })?;
        let path = self.folder.join(file);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io(folder))?;
        }
        Ok(write_atomically(&path, &bytes)?)
    }

    fn write_gguf(&self) -> Result<(), Error> {
        let path = self.folder.join("model.gguf");
        Ok(models::save_gguf(&path, self.config, self.values, GgufPrecision::F16)?)
    }

    fn write_bytes(&self) -> Result<(), Error> {
        let folder = self.folder.join("int8");
        models::save_stored(&folder, self.config, self.values, Storage::I8)?;
        copy_tokenizer(self.from, &folder)
    }

    fn write_web(&self) -> Result<(), Error> {
        let model = distil_gpu_web::Model {
            config: self.config,
            values: self.values,
            folder: Some(self.from),
        };
        distil_gpu_web::write_folder(&model, self.web, &self.folder.join("web"))?;
        Ok(())
    }
}

/// A tokenizer is its files: those that the model came with take the place of those that were made of it.
pub(crate) fn copy_tokenizer(from: &Path, folder: &Path) -> Result<(), Error> {
    for name in TOKENIZER.iter().filter(|name| from.join(name).is_file()) {
        let (source, copy) = (from.join(name), folder.join(name));
        fs::copy(&source, &copy).map_err(io(&source))?;
    }
    Ok(())
}
