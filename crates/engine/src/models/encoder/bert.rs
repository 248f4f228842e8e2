//! BERT (Devlin et al. 2019), and MiniLM, which is a small one.

use serde_json::Value;

use super::family::{Family, ReadFamily};
use super::folder::model_type;
use super::names::{ClassesNames, HeadNames, LanguageNames, LayerNames, Names};
use crate::models::model_type::ModelType;
use crate::nn::Activation;

/// BERT's line in the registry.
pub const TYPE: ModelType = model_type::<Bert>("bert");

/// Post-norm layers, learnt positions, token types and a pooler.
#[derive(Clone, Copy, Debug)]
pub struct Bert;

/// A layer's parts as BERT, and many after it, call them.
pub(super) const LAYER: LayerNames = LayerNames {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attended: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    widen: "intermediate.dense",
    narrow: "output.dense",
    output_norm: "output.LayerNorm",
};

static NAMES: Names = Names {
    model_type: "bert",
    class: "Bert",
    tokenizer: "BertTokenizerFast",
    prefix: "bert.",
    words: "bert.embeddings.word_embeddings.weight",
    positions: "bert.embeddings.position_embeddings.weight",
    types: "bert.embeddings.token_type_embeddings.weight",
    norm: "bert.embeddings.LayerNorm",
    stack: "bert.encoder.layer.",
    layer: LAYER,
    classes: ClassesNames {
        dense: "bert.pooler.dense",
        activation: Activation::Tanh,
        classifier: "classifier",
        drop_first: false,
    },
    language: LanguageNames {
        dense: "cls.predictions.transform.dense",
        norm: "cls.predictions.transform.LayerNorm",
        bias: "cls.predictions.bias",
        decoder: "cls.predictions.decoder",
        decoder_bias: "cls.predictions.decoder.bias",
    },
    span: "qa_outputs",
    heads: HeadNames {
        classes: &["bert.pooler.", "classifier."],
        tokens: &["classifier."],
        span: &["qa_outputs."],
        language: &["cls.predictions."],
    },
    unused: &["embeddings.position_ids", "cls.seq_relationship."],
};

impl Family for Bert {
    fn names(&self) -> &'static Names {
        &NAMES
    }
}

impl ReadFamily for Bert {
    fn of_json(_: &Value) -> Result<Self, String> {
        Ok(Self)
    }
}
