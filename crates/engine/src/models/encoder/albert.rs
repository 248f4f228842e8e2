//! ALBERT (Lan et al. 2020): one layer's parameters for all layers, behind narrow embeddings.

use serde_json::{Value, json};

use super::family::{Encoder, Family, ReadFamily};
use super::folder::model_type;
use super::names::{ClassesNames, HeadNames, LanguageNames, LayerNames, Names};
use crate::models::json::{activation_name, short};
use crate::models::model_type::ModelType;
use crate::nn::Activation;
use crate::store::ParameterSpec;

/// ALBERT's line in the registry.
pub const TYPE: ModelType = model_type::<Albert>("albert");

/// BERT's layers, all of one group.
#[derive(Clone, Copy, Debug)]
pub struct Albert;

static NAMES: Names = Names {
    model_type: "albert",
    class: "Albert",
    tokenizer: "AlbertTokenizerFast",
    prefix: "albert.",
    words: "albert.embeddings.word_embeddings.weight",
    positions: "albert.embeddings.position_embeddings.weight",
    types: "albert.embeddings.token_type_embeddings.weight",
    norm: "albert.embeddings.LayerNorm",
    stack: "",
    layer: LayerNames {
        query: "attention.query",
        key: "attention.key",
        value: "attention.value",
        attended: "attention.dense",
        attention_norm: "attention.LayerNorm",
        widen: "ffn",
        narrow: "ffn_output",
        output_norm: "full_layer_layer_norm",
    },
    classes: ClassesNames {
        dense: "albert.pooler",
        activation: Activation::Tanh,
        classifier: "classifier",
        drop_first: false,
    },
    language: LanguageNames {
        dense: "predictions.dense",
        norm: "predictions.LayerNorm",
        bias: "predictions.bias",
        decoder: "predictions.decoder",
        decoder_bias: "predictions.decoder.bias",
    },
    span: "qa_outputs",
    heads: HeadNames {
        classes: &["albert.pooler.", "classifier."],
        tokens: &["classifier."],
        span: &["qa_outputs."],
        language: &["predictions."],
    },
    unused: &["embeddings.position_ids", "sop_classifier."],
};

const LAYER: &str = "albert.encoder.albert_layer_groups.0.albert_layers.0.";

impl Family for Albert {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn has_embedding_size(&self) -> bool {
        true
    }

    fn read(&self, json: &Value, encoder: &mut Encoder) -> Result<(), String> {
        for key in ["num_hidden_groups", "inner_group_num"] {
            if json[key].as_u64().is_some_and(|groups| groups != 1) {
                return Err(format!("{key} must be 1: {} is not supported", json[key]));
            }
        }
        if json["hidden_act"].is_null() {
            encoder.activation = Activation::GeluTanh;
        }
        if json["hidden_dropout_prob"].is_null() {
            encoder.hidden_dropout = 0.0;
        }
        if json["attention_probs_dropout_prob"].is_null() {
            encoder.attention_dropout = 0.0;
        }
        let rate = json["classifier_dropout_prob"].as_f64();
        encoder.classifier_dropout = rate.map_or(0.1, |rate| rate as f32);
        Ok(())
    }

    fn sizes(&self, encoder: &Encoder) -> Value {
        json!({
            "hidden_act": activation_name(encoder.activation),
            "hidden_size": encoder.hidden_size,
            "num_hidden_layers": encoder.num_hidden_layers,
            "num_hidden_groups": 1,
            "inner_group_num": 1,
            "num_attention_heads": encoder.num_attention_heads,
            "intermediate_size": encoder.intermediate_size,
            "type_vocab_size": encoder.type_vocab_size,
            "layer_norm_eps": short(encoder.layer_norm_eps),
            "hidden_dropout_prob": short(encoder.hidden_dropout),
            "attention_probs_dropout_prob": short(encoder.attention_dropout),
            "classifier_dropout_prob": short(encoder.classifier_dropout),
        })
    }

    fn projection(&self, _: &Encoder) -> Option<&'static str> {
        Some("albert.encoder.embedding_hidden_mapping_in")
    }

    fn layer(&self, _: usize) -> String {
        LAYER.to_owned()
    }

    fn trunk(&self, encoder: &Encoder) -> Vec<ParameterSpec> {
        let mut specs = encoder.embedding_parameters();
        specs.extend(encoder.layer_parameters(LAYER));
        specs
    }

    /// The feed-forward network ends without dropout.
    fn output_dropout(&self, _: &Encoder) -> f32 {
        0.0
    }
}

impl ReadFamily for Albert {
    fn of_json(_: &Value) -> Result<Self, String> {
        Ok(Self)
    }
}
