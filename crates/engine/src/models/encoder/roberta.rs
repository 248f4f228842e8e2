//! RoBERTa (Liu et al. 2019), and what is built like it: XLM-RoBERTa (Conneau et al. 2020) and CamemBERT (Martin et al.
//! 2020), whose tokenizers are others.

use serde_json::Value;

use super::bert::LAYER;
use super::family::{Encoder, Family, ReadFamily};
use super::folder::model_type;
use super::names::{ClassesNames, HeadNames, LanguageNames, Names};
use crate::models::model_type::ModelType;
use crate::nn::Activation;

/// RoBERTa's line in the registry.
pub const TYPE: ModelType = model_type::<Roberta>("roberta");
/// XLM-RoBERTa's line in the registry.
pub const XLM: ModelType = model_type::<Roberta>("xlm-roberta");
/// CamemBERT's line in the registry.
pub const CAMEMBERT: ModelType = model_type::<Roberta>("camembert");

pub(super) const ROBERTA: Names = Names {
    model_type: "roberta",
    class: "Roberta",
    tokenizer: "RobertaTokenizerFast",
    prefix: "roberta.",
    words: "roberta.embeddings.word_embeddings.weight",
    positions: "roberta.embeddings.position_embeddings.weight",
    types: "roberta.embeddings.token_type_embeddings.weight",
    norm: "roberta.embeddings.LayerNorm",
    stack: "roberta.encoder.layer.",
    layer: LAYER,
    classes: ClassesNames {
        dense: "classifier.dense",
        activation: Activation::Tanh,
        classifier: "classifier.out_proj",
        drop_first: true,
    },
    language: LanguageNames {
        dense: "lm_head.dense",
        norm: "lm_head.layer_norm",
        bias: "lm_head.bias",
        decoder: "lm_head.decoder",
        decoder_bias: "lm_head.decoder.bias",
    },
    span: "qa_outputs",
    heads: HeadNames {
        classes: &["classifier."],
        tokens: &["classifier."],
        span: &["qa_outputs."],
        language: &["lm_head."],
    },
    unused: &["embeddings.position_ids", "pooler."],
};

static NAMES: [Names; 3] = [
    ROBERTA,
    Names {
        model_type: "xlm-roberta",
        class: "XLMRoberta",
        tokenizer: "XLMRobertaTokenizerFast",
        ..ROBERTA
    },
    Names {
        model_type: "camembert",
        class: "Camembert",
        tokenizer: "CamembertTokenizerFast",
        ..ROBERTA
    },
];

/// BERT's layers; positions count from behind the padding token.
#[derive(Clone, Copy, Debug)]
pub struct Roberta(&'static Names);

/// RoBERTa itself.
impl Default for Roberta {
    fn default() -> Self {
        Self(&NAMES[0])
    }
}

impl Family for Roberta {
    fn names(&self) -> &'static Names {
        self.0
    }

    fn padding(&self) -> usize {
        1
    }

    fn counts_from_padding(&self) -> bool {
        true
    }

    /// The head has this one whatever the layers have.
    fn language_activation(&self, _: &Encoder) -> Activation {
        Activation::Gelu
    }
}

impl ReadFamily for Roberta {
    fn of_json(json: &Value) -> Result<Self, String> {
        let names = NAMES.iter().find(|names| json["model_type"] == names.model_type);
        Ok(Self(names.unwrap_or(&NAMES[0])))
    }
}
