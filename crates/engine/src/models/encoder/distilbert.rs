//! DistilBERT (Sanh et al. 2019): no token types, no pooler.

use serde_json::{Value, json};

use super::family::{Encoder, Family, ReadFamily};
use super::folder::model_type;
use super::head::Head;
use super::names::{ClassesNames, HeadNames, LanguageNames, LayerNames, Names};
use super::pass::Pass;
use crate::error::Error;
use crate::graph::TensorId;
use crate::models::json::{activation_name, short};
use crate::models::model_type::ModelType;
use crate::nn::Activation;

/// DistilBERT's line in the registry.
pub const TYPE: ModelType = model_type::<DistilBert>("distilbert");

/// BERT's layers under other names.
#[derive(Clone, Copy, Debug)]
pub struct DistilBert;

static NAMES: Names = Names {
    model_type: "distilbert",
    class: "DistilBert",
    tokenizer: "DistilBertTokenizerFast",
    prefix: "distilbert.",
    words: "distilbert.embeddings.word_embeddings.weight",
    positions: "distilbert.embeddings.position_embeddings.weight",
    types: "",
    norm: "distilbert.embeddings.LayerNorm",
    stack: "distilbert.transformer.layer.",
    layer: LayerNames {
        query: "attention.q_lin",
        key: "attention.k_lin",
        value: "attention.v_lin",
        attended: "attention.out_lin",
        attention_norm: "sa_layer_norm",
        widen: "ffn.lin1",
        narrow: "ffn.lin2",
        output_norm: "output_layer_norm",
    },
    classes: ClassesNames {
        dense: "pre_classifier",
        activation: Activation::Relu,
        classifier: "classifier",
        drop_first: false,
    },
    language: LanguageNames {
        dense: "vocab_transform",
        norm: "vocab_layer_norm",
        bias: "vocab_projector.bias",
        decoder: "vocab_projector",
        decoder_bias: "vocab_projector.bias",
    },
    span: "qa_outputs",
    heads: HeadNames {
        classes: &["pre_classifier.", "classifier."],
        tokens: &["classifier."],
        span: &["qa_outputs."],
        language: &["vocab_transform.", "vocab_layer_norm.", "vocab_projector."],
    },
    unused: &["embeddings.position_ids"],
};

impl Family for DistilBert {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn read(&self, json: &Value, encoder: &mut Encoder) -> Result<(), String> {
        if json["sinusoidal_pos_embds"].as_bool() == Some(true) {
            return Err("sinusoidal_pos_embds must be false".to_owned());
        }
        encoder.type_vocab_size = 0;
        if json["seq_classif_dropout"].is_null() && json["classifier_dropout"].is_null() {
            encoder.classifier_dropout = 0.2;
        }
        Ok(())
    }

    fn sizes(&self, encoder: &Encoder) -> Value {
        json!({
            "activation": activation_name(encoder.activation),
            "dim": encoder.hidden_size,
            "n_layers": encoder.num_hidden_layers,
            "n_heads": encoder.num_attention_heads,
            "hidden_dim": encoder.intermediate_size,
            "dropout": short(encoder.hidden_dropout),
            "attention_dropout": short(encoder.attention_dropout),
            "seq_classif_dropout": short(encoder.classifier_dropout),
            "sinusoidal_pos_embds": false,
        })
    }

    /// A tagger drops what hidden states do; so does an extractive reader, by a key of its own whose default that is.
    fn before_linear(&self, pass: &mut Pass<'_>, x: TensorId) -> Result<TensorId, Error> {
        match pass.model.head {
            Head::Tokens(_) | Head::Span => pass.dropout(x, pass.model.hidden_dropout),
            _ => Ok(x),
        }
    }
}

impl ReadFamily for DistilBert {
    fn of_json(_: &Value) -> Result<Self, String> {
        Ok(Self)
    }
}
