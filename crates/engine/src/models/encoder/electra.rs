//! ELECTRA (Clark et al. 2020): BERT whose embeddings may be narrower than its hidden states.

use serde_json::Value;

use super::bert::LAYER;
use super::family::{Encoder, Family, ReadFamily};
use super::folder::model_type;
use super::head::Head;
use super::names::{ClassesNames, HeadNames, LanguageNames, Names};
use crate::models::model_type::ModelType;
use crate::nn::Activation;

/// ELECTRA's line in the registry.
pub const TYPE: ModelType = model_type::<Electra>("electra");

/// Discriminators and generators; what tells real tokens from replaced ones has no counterpart here.
#[derive(Clone, Copy, Debug)]
pub struct Electra;

static NAMES: Names = Names {
    model_type: "electra",
    class: "Electra",
    tokenizer: "ElectraTokenizerFast",
    prefix: "electra.",
    words: "electra.embeddings.word_embeddings.weight",
    positions: "electra.embeddings.position_embeddings.weight",
    types: "electra.embeddings.token_type_embeddings.weight",
    norm: "electra.embeddings.LayerNorm",
    stack: "electra.encoder.layer.",
    layer: LAYER,
    classes: ClassesNames {
        dense: "classifier.dense",
        activation: Activation::Gelu,
        classifier: "classifier.out_proj",
        drop_first: true,
    },
    language: LanguageNames {
        dense: "generator_predictions.dense",
        norm: "generator_predictions.LayerNorm",
        bias: "generator_lm_head.bias",
        decoder: "generator_lm_head",
        decoder_bias: "generator_lm_head.bias",
    },
    span: "qa_outputs",
    heads: HeadNames {
        classes: &["classifier."],
        tokens: &["classifier."],
        span: &["qa_outputs."],
        language: &["generator_predictions.", "generator_lm_head."],
    },
    unused: &["embeddings.position_ids", "discriminator_predictions.", "sequence_summary."],
};

impl Family for Electra {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn has_embedding_size(&self) -> bool {
        true
    }

    /// What is trained before fine-tuning is a discriminator as a rule, which guesses no tokens.
    fn head_of(&self, suffix: &str, classes: usize) -> Head {
        match suffix {
            "ForPreTraining" => Head::Embedding,
            _ => Head::of_suffix(suffix, classes),
        }
    }

    fn projection(&self, encoder: &Encoder) -> Option<&'static str> {
        encoder.embedding_size.map(|_| "electra.embeddings_project")
    }

    /// The head has this one whatever the layers have.
    fn language_activation(&self, _: &Encoder) -> Activation {
        Activation::Gelu
    }
}

impl ReadFamily for Electra {
    fn of_json(_: &Value) -> Result<Self, String> {
        Ok(Self)
    }
}
