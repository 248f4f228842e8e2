//! DeBERTa-v2 and DeBERTa-v3 (He et al. 2021 and 2023): scores of contents and of relative positions, added up.

use serde_json::{Map, Value, json};

use super::bert::LAYER;
use super::family::{Encoder, Family, ReadFamily};
use super::folder::model_type;
use super::head::Head;
use super::names::{ClassesNames, HeadNames, LanguageNames, LayerNames, Names};
use super::parameters::{self, table};
use super::pass::{Pass, Trunk};
use crate::error::Error;
use crate::graph::TensorId;
use crate::models::json::{activation, activation_name, short};
use crate::models::model_type::ModelType;
use crate::models::{SelfAttention, TokenTensors};
use crate::nn::{self, Activation, Span};
use crate::store::ParameterSpec;

/// DeBERTa-v2's and v3's line in the registry.
pub const TYPE: ModelType = model_type::<DebertaV2>("deberta-v2");

/// What of a DeBERTa no other family has.
#[derive(Clone, Debug)]
pub struct DebertaV2 {
    /// Relative positions, if scores depend on them.
    pub relative: Option<RelativePositions>,
    /// Whether the scores of a query with the positions' keys count.
    pub c2p: bool,
    /// Whether the scores of a key with the positions' queries count.
    pub p2c: bool,
    /// Whether absolute positions are part of the embeddings.
    pub position_biased_input: bool,
    /// Whether the head of masked language models is the one that transformers had first.
    pub legacy: bool,
    /// Probability of dropping an element in front of the pooler in training.
    pub pooler_dropout: f32,
    /// Within the pooler.
    pub pooler_hidden_act: Activation,
}

/// The table of relative positions, and how it is used.
#[derive(Clone, Copy, Debug)]
pub struct RelativePositions {
    /// Buckets of distances in either direction; 0 where each distance has a row.
    pub position_buckets: usize,
    /// Distances in either direction, the largest standing for those beyond; `None` for `max_position_embeddings`.
    pub max_relative_positions: Option<usize>,
    /// Whether positions go through the projections of the contents.
    pub share_att_key: bool,
    /// Whether a norm follows the table.
    pub norm: bool,
}

impl RelativePositions {
    /// Distances in either direction.
    fn most(&self, encoder: &Encoder) -> usize {
        self.max_relative_positions.unwrap_or(encoder.max_position_embeddings)
    }

    /// Rows of the table.
    fn rows(&self, encoder: &Encoder) -> usize {
        match self.position_buckets {
            0 => 2 * self.most(encoder),
            buckets => 2 * buckets,
        }
    }
}

const V2: Names = Names {
    model_type: "deberta-v2",
    class: "DebertaV2",
    tokenizer: "DebertaV2TokenizerFast",
    prefix: "deberta.",
    words: "deberta.embeddings.word_embeddings.weight",
    positions: "deberta.embeddings.position_embeddings.weight",
    types: "deberta.embeddings.token_type_embeddings.weight",
    norm: "deberta.embeddings.LayerNorm",
    stack: "deberta.encoder.layer.",
    layer: LayerNames {
        query: "attention.self.query_proj",
        key: "attention.self.key_proj",
        value: "attention.self.value_proj",
        ..LAYER
    },
    classes: ClassesNames {
        dense: "pooler.dense",
        activation: Activation::Gelu,
        classifier: "classifier",
        drop_first: true,
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
        classes: &["pooler.", "classifier."],
        tokens: &["classifier."],
        span: &["qa_outputs."],
        language: &["cls.predictions."],
    },
    unused: &[
        "embeddings.position_ids",
        "embeddings.position_embeddings.",
        "lm_predictions.",
        "mask_predictions.",
    ],
};

/// With the head of transformers' first version, and with the one that the authors' own code has.
static NAMES: [Names; 2] = [
    V2,
    Names {
        language: LanguageNames {
            dense: "lm_predictions.lm_head.dense",
            norm: "lm_predictions.lm_head.LayerNorm",
            bias: "lm_predictions.lm_head.bias",
            decoder: "lm_predictions.lm_head.decoder",
            decoder_bias: "lm_predictions.lm_head.bias",
        },
        heads: HeadNames { language: &["lm_predictions.lm_head."], ..V2.heads },
        unused: &[
            "embeddings.position_ids",
            "embeddings.position_embeddings.",
            "cls.predictions.",
            "mask_predictions.",
        ],
        ..V2
    },
];

const TABLE: &str = "deberta.encoder.rel_embeddings.weight";
const TABLE_NORM: &str = "deberta.encoder.LayerNorm";
const PROJECTION: &str = "deberta.embeddings.embed_proj";
const POSITION_KEY: &str = "attention.self.pos_key_proj";
const POSITION_QUERY: &str = "attention.self.pos_query_proj";

impl DebertaV2 {
    /// Terms of a score.
    fn terms(&self) -> usize {
        1 + usize::from(self.c2p) + usize::from(self.p2c)
    }

    /// The rows of relative positions [rows, hidden_size] that a text of the batch's length needs.
    fn positions(
        &self,
        pass: &mut Pass<'_>,
        length: usize,
    ) -> Result<Option<(Span, TensorId)>, Error> {
        let Some(relative) = self.relative.filter(|_| self.c2p || self.p2c) else {
            return Ok(None);
        };
        let span = Span::new(length, relative.position_buckets, relative.most(pass.model));
        let table = pass.graph.named(pass.store, TABLE);
        let rows = span.rows_of(pass.graph, table)?;
        let rows = if relative.norm { pass.norm(TABLE_NORM, rows)? } else { rows };
        Ok(Some((span, rows)))
    }

    fn layer(
        &self,
        pass: &mut Pass<'_>,
        layer: usize,
        x: TensorId,
        inputs: &TokenTensors,
        positions: Option<&(Span, TensorId)>,
    ) -> Result<(TensorId, SelfAttention), Error> {
        let (names, prefix) = (&V2.layer, Family::layer(self, layer));
        let name = |part: &str| format!("{prefix}{part}");
        let [query, key, value] = [names.query, names.key, names.value].map(name);
        let queries = pass.linear(&query, x)?;
        let keys = pass.linear(&key, x)?;
        let values = pass.linear(&value, x)?;
        let mut config = pass.attention_config();
        config.scale /= (self.terms() as f32).sqrt();
        let qkv = [queries, keys, values];
        let attended = match positions {
            None => pass.graph.attention(queries, keys, values, inputs.lengths, config)?,
            Some((span, rows)) => {
                let rows = pass.dropout(*rows, pass.model.hidden_dropout)?;
                let shared = self.relative.is_some_and(|relative| relative.share_att_key);
                let (of_key, of_query) = match shared {
                    true => (key, query),
                    false => (name(POSITION_KEY), name(POSITION_QUERY)),
                };
                let content =
                    if self.c2p { Some([queries, pass.linear(&of_key, rows)?]) } else { None };
                let position =
                    if self.p2c { Some([keys, pass.linear(&of_query, rows)?]) } else { None };
                let how = (config.heads, config.scale);
                let bias = nn::disentangled_bias(pass.graph, content, position, how, span)?;
                pass.graph.attention_with_bias(qkv, inputs.lengths, bias, config)?
            }
        };
        let (sum, rate) = ([names.attended, names.attention_norm], pass.model.hidden_dropout);
        let x = pass.add_and_norm(&prefix, sum, rate, attended, x)?;
        let state = pass.feed_forward(&prefix, x)?;
        Ok((state, SelfAttention { queries, keys, values }))
    }
}

impl Family for DebertaV2 {
    fn names(&self) -> &'static Names {
        &NAMES[usize::from(!self.legacy)]
    }

    fn has_positions(&self) -> bool {
        self.position_biased_input
    }

    fn has_embedding_size(&self) -> bool {
        true
    }

    fn read(&self, json: &Value, encoder: &mut Encoder) -> Result<(), String> {
        if json["conv_kernel_size"].as_u64().is_some_and(|size| size > 0) {
            let problem = "conv_kernel_size must be 0: the convolution behind the first layer is not supported";
            return Err(problem.to_owned());
        }
        for (key, wanted) in [
            ("pooler_hidden_size", encoder.hidden_size),
            ("attention_head_size", encoder.hidden_size / encoder.num_attention_heads.max(1)),
        ] {
            if json[key].as_u64().is_some_and(|size| size != wanted as u64) {
                return Err(format!("{key} must be {wanted}: {} is not supported", json[key]));
            }
        }
        if json["layer_norm_eps"].is_null() {
            encoder.layer_norm_eps = 1e-7;
        }
        let rate = json["cls_dropout"].as_f64().map(|rate| rate as f32);
        encoder.classifier_dropout = rate.unwrap_or(encoder.hidden_dropout);
        if !self.legacy {
            if encoder.embedding_size.is_some() {
                return Err("embedding_size must be hidden_size where legacy is false".to_owned());
            }
            // That head has no other weight than the table's.
            encoder.tie_word_embeddings = true;
        }
        Ok(())
    }

    fn sizes(&self, encoder: &Encoder) -> Value {
        json!({
            "hidden_act": activation_name(encoder.activation),
            "hidden_size": encoder.hidden_size,
            "pooler_hidden_size": encoder.hidden_size,
            "num_hidden_layers": encoder.num_hidden_layers,
            "num_attention_heads": encoder.num_attention_heads,
            "intermediate_size": encoder.intermediate_size,
            "type_vocab_size": encoder.type_vocab_size,
            "layer_norm_eps": short(encoder.layer_norm_eps),
            "hidden_dropout_prob": short(encoder.hidden_dropout),
            "attention_probs_dropout_prob": short(encoder.attention_dropout),
            "cls_dropout": short(encoder.classifier_dropout),
        })
    }

    fn details(&self) -> Map<String, Value> {
        let terms = [("p2c", self.p2c), ("c2p", self.c2p)];
        let mut details = json!({
            "relative_attention": self.relative.is_some(),
            "pos_att_type": terms.iter().filter(|term| term.1).map(|term| term.0).collect::<Vec<_>>(),
            "position_biased_input": self.position_biased_input,
            "legacy": self.legacy,
            "pooler_dropout": short(self.pooler_dropout),
            "pooler_hidden_act": activation_name(self.pooler_hidden_act),
        });
        if let Some(relative) = self.relative {
            let or_none = |size: usize| if size == 0 { json!(-1) } else { json!(size) };
            details["position_buckets"] = or_none(relative.position_buckets);
            let most = relative.max_relative_positions;
            details["max_relative_positions"] = or_none(most.unwrap_or(0));
            details["share_att_key"] = relative.share_att_key.into();
            details["norm_rel_ebd"] = if relative.norm { "layer_norm" } else { "none" }.into();
        }
        let Value::Object(details) = details else { unreachable!("it is written so") };
        details
    }

    fn trunk(&self, encoder: &Encoder) -> Vec<ParameterSpec> {
        let (hidden, width) = (encoder.hidden_size, encoder.embedding_width());
        let mut specs = encoder.tables();
        if width != hidden {
            specs.push(table(format!("{PROJECTION}.weight"), hidden, width));
        }
        specs.extend(parameters::norm(V2.norm, hidden));
        for layer in 0..encoder.num_hidden_layers {
            let prefix = Family::layer(self, layer);
            specs.extend(encoder.layer_parameters(&prefix));
            if self.relative.is_some_and(|relative| !relative.share_att_key) {
                for (name, has) in [(POSITION_KEY, self.c2p), (POSITION_QUERY, self.p2c)] {
                    if has {
                        specs.extend(parameters::linear(
                            &format!("{prefix}{name}"),
                            hidden,
                            hidden,
                        ));
                    }
                }
            }
        }
        if let Some(relative) = self.relative {
            specs.push(table(TABLE.to_owned(), relative.rows(encoder), hidden));
            if relative.norm {
                specs.extend(parameters::norm(TABLE_NORM, hidden));
            }
        }
        specs
    }

    fn encode(&self, pass: &mut Pass<'_>, inputs: &TokenTensors) -> Result<Trunk, Error> {
        let mut x = pass.sum_of_tables(inputs)?;
        if pass.model.embedding_size.is_some() {
            x = pass.linear(PROJECTION, x)?;
        }
        let normed = pass.norm(V2.norm, x)?;
        let mut states = vec![pass.dropout(normed, pass.model.hidden_dropout)?];
        let mut attention = Vec::new();
        let positions = self.positions(pass, inputs.shape.length)?;
        for layer in 0..pass.model.num_hidden_layers {
            let x = states[layer];
            let (state, attends) = self.layer(pass, layer, x, inputs, positions.as_ref())?;
            states.push(state);
            attention.push(attends);
        }
        Ok(Trunk { states, attention })
    }

    fn classify(&self, pass: &mut Pass<'_>, pooled: TensorId) -> Result<TensorId, Error> {
        let dropped = pass.dropout(pooled, self.pooler_dropout)?;
        let dense = pass.linear(V2.classes.dense, dropped)?;
        let active = nn::activate(pass.graph, self.pooler_hidden_act, dense, 0.0, 0)?;
        let active = pass.dropout(active, pass.model.classifier_dropout)?;
        pass.linear(V2.classes.classifier, active)
    }

    /// A tagger drops what hidden states do.
    fn before_linear(&self, pass: &mut Pass<'_>, x: TensorId) -> Result<TensorId, Error> {
        match pass.model.head {
            Head::Tokens(_) => pass.dropout(x, pass.model.hidden_dropout),
            _ => Ok(x),
        }
    }
}

impl ReadFamily for DebertaV2 {
    fn of_json(json: &Value) -> Result<Self, String> {
        let flag = |key: &str, default: bool| json[key].as_bool().unwrap_or(default);
        let terms: Vec<String> = match &json["pos_att_type"] {
            Value::String(terms) => {
                terms.split('|').map(|term| term.trim().to_lowercase()).collect()
            }
            Value::Array(terms) => {
                terms.iter().filter_map(Value::as_str).map(str::to_lowercase).collect()
            }
            _ => Vec::new(),
        };
        let known = |term: &&String| !matches!(&***term, "c2p" | "p2c" | "");
        if let Some(other) = terms.iter().find(known) {
            return Err(format!("pos_att_type `{other}` is neither c2p nor p2c"));
        }
        let pooler_dropout = json["pooler_dropout"].as_f64().unwrap_or(0.0) as f32;
        if !(0.0..1.0).contains(&pooler_dropout) {
            return Err("pooler_dropout must be at least 0 and below 1".to_owned());
        }
        let act = json["pooler_hidden_act"].as_str().unwrap_or("gelu");
        Ok(Self {
            relative: flag("relative_attention", false).then(|| relative(json)).transpose()?,
            c2p: terms.iter().any(|term| term == "c2p"),
            p2c: terms.iter().any(|term| term == "p2c"),
            position_biased_input: flag("position_biased_input", true),
            legacy: flag("legacy", true),
            pooler_dropout,
            pooler_hidden_act: activation("pooler_hidden_act", act)?,
        })
    }
}

/// The relative positions that a configuration describes.
fn relative(json: &Value) -> Result<RelativePositions, String> {
    const MOST: i64 = 1 << 20;
    let size = |key: &str| json[key].as_i64().unwrap_or(-1);
    let told = Some(size("max_relative_positions")).filter(|&most| most > 0);
    let most = told.unwrap_or_else(|| size("max_position_embeddings"));
    let buckets = size("position_buckets").max(0);
    if !(1..=MOST).contains(&most) || buckets > MOST {
        return Err(format!("max_relative_positions and position_buckets must be at most {MOST}"));
    }
    // Distances below half of the buckets have one each, and the others share theirs up to the most.
    if buckets > 0 && (buckets < 4 || most - 1 <= buckets / 2) {
        return Err(format!(
            "position_buckets of {buckets} do not fit max_relative_positions of {most}: there are at least 4, and half \
             of them are below the latter"
        ));
    }
    let norms = json["norm_rel_ebd"].as_str().unwrap_or("none").to_lowercase();
    Ok(RelativePositions {
        position_buckets: buckets as usize,
        max_relative_positions: told.map(|most| most as usize),
        share_att_key: json["share_att_key"].as_bool().unwrap_or(false),
        norm: norms.split('|').any(|norm| norm.trim() == "layer_norm"),
    })
}
