//! An encoder's folder: `config.json`, the tokenizer, and what sentence-transformers says of it.

use std::path::Path;
use std::sync::Arc;

use super::family::ReadFamily;
use super::file::{self, Read};
use super::head::Head;
use super::sentence::{SentenceModules, SentenceStep};
use crate::data::Tokenizer;
use crate::error::Error;
use crate::models::file_names::{CONFIG, bad};
use crate::models::model_type::ModelType;
use crate::models::{Architecture, Input, ModelConfig, sentence_files};

/// A family's line in the registry.
pub const fn model_type<F: ReadFamily>(name: &'static str) -> ModelType {
    ModelType::new(name, |folder, json| read(folder, file::of_json::<F>(json)))
}

/// The encoder of a folder, `read` being what its `config.json` says.
///
/// # Errors
/// [`Error::Model`] when that makes no sense, or the tokenizer does not.
fn read(folder: &Path, read: Result<Read, String>) -> Result<ModelConfig, Error> {
    let path = folder.join(CONFIG);
    let Read { mut encoder, mut class_names, problem } =
        read.map_err(|problem| bad(&path, problem))?;
    let tokenizer = Tokenizer::load(folder)?;
    tokenizer.check(encoder.vocab_size)?;
    let mut most = tokenizer.files().max_length();
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
    Ok(ModelConfig { architecture, input, class_names, problem })
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
