//! ModernBERT (Warner et al. 2024): norms in front of the sums, rotary positions, layers that see all tokens or those
//! near by, gated feed-forward networks.

use distil_gpu_kernels::glu::Gate;
use serde_json::{Map, Value, json};

use super::family::{Encoder, Family, ReadFamily, SharedFamily};
use super::folder::model_type;
use super::head::Head;
use super::names::{ClassesNames, HeadNames, LanguageNames, LayerNames, Names};
use super::parameters::{self, table};
use super::pass::{Pass, TAGGER, Trunk};
use crate::error::Error;
use crate::graph::TensorId;
use crate::models::json::{activation, activation_name, short};
use crate::models::model_type::ModelType;
use crate::models::{Pooling, SelfAttention, TokenTensors};
use crate::nn::{self, Activation};
use crate::store::ParameterSpec;

/// ModernBERT's line in the registry.
pub const TYPE: ModelType = model_type::<ModernBert>("modernbert");

/// What of a ModernBERT no other family has.
#[derive(Clone, Debug)]
pub struct ModernBert {
    /// Whether each layer sees all tokens.
    pub global: Vec<bool>,
    /// Tokens that a query sees in the other layers, those of both sides together.
    pub local_attention: usize,
    /// Base of the angles in layers that see all tokens.
    pub global_rope_theta: f64,
    /// Base of the angles in the others.
    pub local_rope_theta: f64,
    /// Whether attention's linear layers have biases.
    pub attention_bias: bool,
    /// Whether the feed-forward network's have.
    pub mlp_bias: bool,
    /// Whether norms have.
    pub norm_bias: bool,
    /// Whether the first layer of a head has.
    pub classifier_bias: bool,
    /// Whether the decoder has.
    pub decoder_bias: bool,
    /// What of a text a classifier works on: its first token, or the mean.
    pub classifier_pooling: Pooling,
    /// Within heads.
    pub classifier_activation: Activation,
    /// Probability of dropping an element of an embedding in training.
    pub embedding_dropout: f32,
}

static NAMES: Names = Names {
    model_type: "modernbert",
    class: "ModernBert",
    tokenizer: "PreTrainedTokenizerFast",
    prefix: "model.",
    words: "model.embeddings.tok_embeddings.weight",
    positions: "",
    types: "",
    norm: "model.embeddings.norm",
    stack: "model.layers.",
    layer: LayerNames {
        query: "attn.Wqkv",
        key: "attn.Wqkv",
        value: "attn.Wqkv",
        attended: "attn.Wo",
        attention_norm: "attn_norm",
        widen: "mlp.Wi",
        narrow: "mlp.Wo",
        output_norm: "mlp_norm",
    },
    classes: ClassesNames {
        dense: "head.dense",
        activation: Activation::Gelu,
        classifier: TAGGER,
        drop_first: false,
    },
    language: LanguageNames {
        dense: "head.dense",
        norm: "head.norm",
        bias: "decoder.bias",
        decoder: "decoder",
        decoder_bias: "decoder.bias",
    },
    span: TAGGER,
    heads: HeadNames {
        classes: &["head.", "classifier."],
        tokens: &["head.", "classifier."],
        span: &["head.", "classifier."],
        language: &["head.", "decoder."],
    },
    unused: &[],
};

const FINAL_NORM: &str = "model.final_norm";

/// Those of these parameters that a model with or without biases has.
fn kept(specs: [ParameterSpec; 2], bias: bool) -> impl Iterator<Item = ParameterSpec> {
    specs.into_iter().take(if bias { 2 } else { 1 })
}

impl ModernBert {
    fn linear(
        name: &str,
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> impl Iterator<Item = ParameterSpec> {
        kept(parameters::linear(name, inputs, outputs), bias)
    }

    fn norm(&self, name: &str, size: usize) -> impl Iterator<Item = ParameterSpec> + use<> {
        kept(parameters::norm(name, size), self.norm_bias)
    }

    /// x + attention(norm(x)), and what it attends with.
    fn attend(
        &self,
        pass: &mut Pass<'_>,
        layer: usize,
        x: TensorId,
        inputs: &TokenTensors,
    ) -> Result<(TensorId, SelfAttention), Error> {
        let (names, prefix, model) = (&NAMES.layer, self.layer(layer), pass.model);
        let normed = match layer {
            0 => x,
            _ => pass.norm(&format!("{prefix}{}", names.attention_norm), x)?,
        };
        let joined = pass.linear(&format!("{prefix}{}", names.query), normed)?;
        let global = self.global[layer];
        let theta = if global { self.global_rope_theta } else { self.local_rope_theta };
        let head_dim = model.hidden_size / model.num_attention_heads;
        let parts = pass.graph.split_last(joined, 3)?;
        let [cos, sin] = pass.graph.rotary_angles(inputs.shape.length, head_dim, theta)?;
        let mut config = pass.attention_config();
        let queries = pass.graph.rotary(parts[0], cos, sin, config.heads)?;
        let keys = pass.graph.rotary(parts[1], cos, sin, config.heads)?;
        config.window = (!global).then_some(self.local_attention / 2);
        let values = parts[2];
        let attended = pass.graph.attention(queries, keys, values, inputs.lengths, config)?;
        let out = pass.linear(&format!("{prefix}{}", names.attended), attended)?;
        let out = pass.dropout(out, model.attention_dropout)?;
        Ok((pass.graph.plus(x, out)?, SelfAttention { queries, keys, values }))
    }

    /// x + Wo · dropout(act(a) · b), a and b being Wi · norm(x).
    fn feed_forward(
        &self,
        pass: &mut Pass<'_>,
        layer: usize,
        x: TensorId,
    ) -> Result<TensorId, Error> {
        let (names, prefix) = (&NAMES.layer, self.layer(layer));
        let normed = pass.norm(&format!("{prefix}{}", names.output_norm), x)?;
        let wide = pass.linear(&format!("{prefix}{}", names.widen), normed)?;
        let gate = gate(pass.model.activation).unwrap_or(Gate::Gelu);
        let gated = pass.graph.glu(wide, gate, false)?;
        let gated = pass.dropout(gated, pass.model.hidden_dropout)?;
        let narrow = pass.linear(&format!("{prefix}{}", names.narrow), gated)?;
        pass.graph.plus(x, narrow)
    }
}

/// The gate of a feed-forward network with this activation, if there is one.
fn gate(activation: Activation) -> Option<Gate> {
    match activation {
        Activation::Relu => Some(Gate::Relu),
        Activation::Gelu => Some(Gate::Gelu),
        Activation::GeluTanh => Some(Gate::GeluTanh),
        Activation::Tanh => None,
    }
}

impl Family for ModernBert {
    fn names(&self) -> &'static Names {
        &NAMES
    }

    fn padding(&self) -> usize {
        50_283
    }

    fn has_positions(&self) -> bool {
        false
    }

    fn read(&self, json: &Value, encoder: &mut Encoder) -> Result<(), String> {
        if self.global.len() != encoder.num_hidden_layers {
            let (kinds, layers) = (self.global.len(), encoder.num_hidden_layers);
            return Err(format!(
                "layer_types names {kinds} layers, and num_hidden_layers {layers}"
            ));
        }
        if gate(encoder.activation).is_none() {
            let name = activation_name(encoder.activation);
            return Err(format!("hidden_activation `{name}` is not supported"));
        }
        if !(encoder.hidden_size / encoder.num_attention_heads.max(1)).is_multiple_of(2) {
            return Err("rotary positions need heads of an even width: hidden_size / \
                        num_attention_heads is odd"
                .to_owned());
        }
        let rate = |key: &str| json[key].as_f64().unwrap_or(0.0) as f32;
        encoder.type_vocab_size = 0;
        encoder.hidden_dropout = rate("mlp_dropout");
        encoder.attention_dropout = rate("attention_dropout");
        encoder.classifier_dropout = rate("classifier_dropout");
        if json["norm_eps"].is_null() && json["layer_norm_eps"].is_null() {
            encoder.layer_norm_eps = 1e-5;
        }
        Ok(())
    }

    fn sizes(&self, encoder: &Encoder) -> Value {
        json!({
            "hidden_activation": activation_name(encoder.activation),
            "hidden_size": encoder.hidden_size,
            "num_hidden_layers": encoder.num_hidden_layers,
            "num_attention_heads": encoder.num_attention_heads,
            "intermediate_size": encoder.intermediate_size,
            "norm_eps": short(encoder.layer_norm_eps),
            "mlp_dropout": short(encoder.hidden_dropout),
            "attention_dropout": short(encoder.attention_dropout),
            "classifier_dropout": short(encoder.classifier_dropout),
        })
    }

    fn details(&self) -> Map<String, Value> {
        let kind = |global: &bool| if *global { "full_attention" } else { "sliding_attention" };
        let rope = |theta: f64| json!({ "rope_type": "default", "rope_theta": theta });
        let every = (1..=self.global.len().max(1))
            .find(|every| self.global.iter().enumerate().all(|(n, all)| *all == (n % every == 0)));
        let details = json!({
            "layer_types": self.global.iter().map(kind).collect::<Vec<_>>(),
            "rope_parameters": {
                "full_attention": rope(self.global_rope_theta),
                "sliding_attention": rope(self.local_rope_theta),
            },
            "global_attn_every_n_layers": every,
            "global_rope_theta": self.global_rope_theta,
            "local_rope_theta": self.local_rope_theta,
            "local_attention": self.local_attention,
            "attention_bias": self.attention_bias,
            "mlp_bias": self.mlp_bias,
            "norm_bias": self.norm_bias,
            "classifier_bias": self.classifier_bias,
            "decoder_bias": self.decoder_bias,
            "classifier_pooling": if self.classifier_pooling == Pooling::Mean { "mean" } else { "cls" },
            "classifier_activation": activation_name(self.classifier_activation),
            "embedding_dropout": short(self.embedding_dropout),
        });
        let Value::Object(mut details) = details else { unreachable!("it is written so") };
        // Older versions of transformers count layers, and know no others.
        details.retain(|_, value| !value.is_null());
        details
    }

    fn classifier_pooling(&self) -> Pooling {
        self.classifier_pooling
    }

    fn with_layers(&self, taken: &[usize]) -> Option<SharedFamily> {
        let global = taken.iter().map(|&layer| self.global[layer]).collect();
        Some(Self { global, ..self.clone() }.into())
    }

    /// Of queries, keys and values, and of both halves of the gated layer, the first rows each.
    fn rows_of(&self, name: &str, ours: &Encoder, theirs: &Encoder) -> Option<Vec<u32>> {
        let (parts, ours, theirs) = if name.contains(".attn.Wqkv.") {
            (3, ours.hidden_size, theirs.hidden_size)
        } else if name.contains(".mlp.Wi.") {
            (2, ours.intermediate_size, theirs.intermediate_size)
        } else {
            return None;
        };
        let rows = |part: usize| part * theirs..part * theirs + ours;
        Some((0..parts).flat_map(rows).map(|row| row as u32).collect())
    }

    fn trunk(&self, encoder: &Encoder) -> Vec<ParameterSpec> {
        let (hidden, wide) = (encoder.hidden_size, encoder.intermediate_size);
        let mut specs = vec![table(NAMES.words.to_owned(), encoder.vocab_size, hidden)];
        specs.extend(self.norm(NAMES.norm, hidden));
        for layer in 0..encoder.num_hidden_layers {
            let prefix = self.layer(layer);
            let name = |part: &str| format!("{prefix}{part}");
            let (names, bias) = (&NAMES.layer, self.attention_bias);
            if layer > 0 {
                specs.extend(self.norm(&name(names.attention_norm), hidden));
            }
            specs.extend(Self::linear(&name(names.query), hidden, 3 * hidden, bias));
            specs.extend(Self::linear(&name(names.attended), hidden, hidden, bias));
            specs.extend(self.norm(&name(names.output_norm), hidden));
            specs.extend(Self::linear(&name(names.widen), hidden, 2 * wide, self.mlp_bias));
            specs.extend(Self::linear(&name(names.narrow), wide, hidden, self.mlp_bias));
        }
        specs.extend(self.norm(FINAL_NORM, hidden));
        specs
    }

    fn head(&self, encoder: &Encoder) -> Vec<ParameterSpec> {
        let hidden = encoder.hidden_size;
        let outputs = match encoder.head {
            Head::Embedding => return encoder.sentence.parameters(),
            Head::MaskedLanguage => None,
            Head::Classes(classes) | Head::Tokens(classes) => Some(classes),
            Head::Span => Some(2),
        };
        let dense = Self::linear(NAMES.classes.dense, hidden, hidden, self.classifier_bias);
        let mut specs: Vec<_> = dense.chain(self.norm(NAMES.language.norm, hidden)).collect();
        match outputs {
            Some(outputs) => specs.extend(parameters::linear(TAGGER, hidden, outputs)),
            None => {
                let decoder = encoder.decoder_parameters().into_iter();
                let has = |spec: &ParameterSpec| self.decoder_bias || spec.shape.len() > 1;
                specs.extend(decoder.filter(has));
            }
        }
        specs
    }

    fn encode(&self, pass: &mut Pass<'_>, inputs: &TokenTensors) -> Result<Trunk, Error> {
        let words = pass.sum_of_tables(inputs)?;
        let normed = pass.norm(NAMES.norm, words)?;
        let mut states = vec![pass.dropout(normed, self.embedding_dropout)?];
        let mut attention = Vec::new();
        for layer in 0..pass.model.num_hidden_layers {
            let (x, attends) = self.attend(pass, layer, states[layer], inputs)?;
            states.push(self.feed_forward(pass, layer, x)?);
            attention.push(attends);
        }
        // What comes out of the last layer is what heads see, as in transformers.
        if let Some(last) = states.last_mut() {
            *last = pass.norm(FINAL_NORM, *last)?;
        }
        Ok(Trunk { states, attention })
    }

    fn classify(&self, pass: &mut Pass<'_>, pooled: TensorId) -> Result<TensorId, Error> {
        let x = self.before_linear(pass, pooled)?;
        pass.linear(TAGGER, x)
    }

    fn before_linear(&self, pass: &mut Pass<'_>, x: TensorId) -> Result<TensorId, Error> {
        let dense = pass.linear(NAMES.classes.dense, x)?;
        let active = nn::activate(pass.graph, self.classifier_activation, dense, 0.0, 0)?;
        let normed = pass.norm(NAMES.language.norm, active)?;
        pass.dropout(normed, pass.model.classifier_dropout)
    }

    fn language_activation(&self, _: &Encoder) -> Activation {
        self.classifier_activation
    }
}

/// Which layers see all tokens.
fn global_layers(json: &Value) -> Result<Vec<bool>, String> {
    const MOST: u64 = 4096;
    if let Some(types) = json["layer_types"].as_array() {
        return types
            .iter()
            .map(|kind| match kind.as_str() {
                Some("full_attention") => Ok(true),
                Some("sliding_attention") => Ok(false),
                _ => Err(format!(
                    "layer_types has {kind}, which is neither full_attention nor sliding_attention"
                )),
            })
            .collect();
    }
    let layers = json["num_hidden_layers"].as_u64().unwrap_or(0).min(MOST);
    let every = json["global_attn_every_n_layers"].as_u64().unwrap_or(3);
    if every == 0 {
        return Err("global_attn_every_n_layers must be at least 1".to_owned());
    }
    Ok((0..layers).map(|layer| layer % every == 0).collect())
}

/// The base of the angles of one kind of layers: under the key of newer versions, or of older ones.
fn theta(json: &Value, kind: &str, key: &str, default: f64) -> Result<f64, String> {
    let newer = &json["rope_parameters"][kind];
    if newer["rope_type"].as_str().is_some_and(|kind| kind != "default") {
        return Err(format!(
            "rope_type {} is not supported: it must be \"default\"",
            newer["rope_type"]
        ));
    }
    let told = [&newer["rope_theta"], &json[key]].into_iter().find_map(Value::as_f64);
    let theta = told.unwrap_or(default);
    if theta > 1.0 && theta.is_finite() {
        Ok(theta)
    } else {
        Err(format!("{key} of {theta} is not possible: it is above 1"))
    }
}

impl ReadFamily for ModernBert {
    fn of_json(json: &Value) -> Result<Self, String> {
        const MOST: u64 = 1 << 24;
        if !json["rope_scaling"].is_null() {
            return Err("rope_scaling is not supported: it must be null".to_owned());
        }
        let flag = |key: &str, default: bool| json[key].as_bool().unwrap_or(default);
        let global_rope_theta = theta(json, "full_attention", "global_rope_theta", 160_000.0)?;
        let default =
            if json["local_rope_theta"].is_null() && json.get("local_rope_theta").is_some() {
                global_rope_theta
            } else {
                10_000.0
            };
        let local_attention = json["local_attention"].as_u64().unwrap_or(128);
        if local_attention > MOST {
            return Err(format!("a local_attention of {local_attention} is not possible"));
        }
        let embedding_dropout = json["embedding_dropout"].as_f64().unwrap_or(0.0) as f32;
        if !(0.0..1.0).contains(&embedding_dropout) {
            return Err("embedding_dropout must be at least 0 and below 1".to_owned());
        }
        Ok(Self {
            global: global_layers(json)?,
            local_attention: local_attention as usize,
            global_rope_theta,
            local_rope_theta: theta(json, "sliding_attention", "local_rope_theta", default)?,
            attention_bias: flag("attention_bias", false),
            mlp_bias: flag("mlp_bias", false),
            norm_bias: flag("norm_bias", false),
            classifier_bias: flag("classifier_bias", false),
            decoder_bias: flag("decoder_bias", true),
            classifier_pooling: match json["classifier_pooling"].as_str() {
                None | Some("cls") => Pooling::First,
                Some("mean") => Pooling::Mean,
                Some(other) => {
                    return Err(format!("classifier_pooling `{other}` is neither cls nor mean"));
                }
            },
            classifier_activation: activation(
                "classifier_activation",
                json["classifier_activation"].as_str().unwrap_or("gelu"),
            )?,
            embedding_dropout,
        })
    }
}
