//! `config.json` as Hugging Face transformers writes and reads it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Encoder, Family, Head, SentenceModules};
use crate::nn::Activation;
use crate::words::counted;

/// The keys that matter, in all their spellings.
#[derive(Debug, Deserialize)]
struct File {
    vocab_size: usize,
    #[serde(alias = "dim")]
    hidden_size: usize,
    #[serde(alias = "n_layers")]
    num_hidden_layers: usize,
    #[serde(alias = "n_heads")]
    num_attention_heads: usize,
    #[serde(alias = "hidden_dim")]
    intermediate_size: usize,
    #[serde(alias = "activation", default = "gelu")]
    hidden_act: String,
    max_position_embeddings: usize,
    #[serde(default)]
    type_vocab_size: usize,
    #[serde(default = "epsilon")]
    layer_norm_eps: f32,
    #[serde(alias = "dropout", default = "tenth")]
    hidden_dropout_prob: f32,
    #[serde(alias = "attention_dropout", default = "tenth")]
    attention_probs_dropout_prob: f32,
    #[serde(alias = "seq_classif_dropout")]
    classifier_dropout: Option<f32>,
    pad_token_id: Option<usize>,
    #[serde(default)]
    id2label: BTreeMap<String, String>,
    position_embedding_type: Option<String>,
    #[serde(default)]
    sinusoidal_pos_embds: bool,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
}

fn gelu() -> String {
    "gelu".to_owned()
}

fn epsilon() -> f32 {
    1e-12
}

fn tenth() -> f32 {
    0.1
}

fn yes() -> bool {
    true
}

const ACTIVATIONS: [(&str, Activation); 5] = [
    ("gelu", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("relu", Activation::Relu),
    ("tanh", Activation::Tanh),
];

/// The encoder that a configuration of that family describes, and its classes' names; what is wrong with it
/// otherwise.
pub fn from_json(family: Family, json: &Value) -> Result<(Encoder, Vec<String>), String> {
    let file: File =
        Deserialize::deserialize(json).map_err(|error: serde_json::Error| error.to_string())?;
    let known = ACTIVATIONS.iter().find(|(name, _)| *name == file.hidden_act);
    let Some((_, activation)) = known else {
        let names = ACTIVATIONS.map(|(name, _)| name).join(", ");
        return Err(format!("hidden_act `{}` is none of {names}", file.hidden_act));
    };
    if let Some(quantised) = json.get("quantization_config").filter(|config| !config.is_null()) {
        let method = quantised["quant_method"].as_str().unwrap_or("an unnamed method");
        return Err(format!(
            "its weights are quantised (quantization_config: {method}), which is not supported: give the model that it \
             was made of, or save it with transformers, model.dequantize().save_pretrained(folder)"
        ));
    }
    if file.position_embedding_type.as_deref().is_some_and(|kind| kind != "absolute") {
        return Err("position_embedding_type must be `absolute`".to_owned());
    }
    if !file.tie_word_embeddings {
        return Err("tie_word_embeddings must be true".to_owned());
    }
    if file.sinusoidal_pos_embds {
        return Err("sinusoidal_pos_embds must be false".to_owned());
    }
    let class_names = class_names(&file.id2label)?;
    let architecture = file.architectures.first().map_or("", String::as_str);
    let head = Head::of_architecture(architecture, family, class_names.len());
    let encoder = Encoder {
        family,
        vocab_size: file.vocab_size,
        hidden_size: file.hidden_size,
        num_hidden_layers: file.num_hidden_layers,
        num_attention_heads: file.num_attention_heads,
        intermediate_size: file.intermediate_size,
        max_position_embeddings: file.max_position_embeddings,
        type_vocab_size: if family == Family::DistilBert { 0 } else { file.type_vocab_size },
        pad_token_id: file.pad_token_id.unwrap_or(if family == Family::Roberta { 1 } else { 0 }),
        activation: *activation,
        layer_norm_eps: file.layer_norm_eps,
        hidden_dropout: file.hidden_dropout_prob,
        attention_dropout: file.attention_probs_dropout_prob,
        classifier_dropout: file.classifier_dropout.unwrap_or(match family {
            Family::DistilBert => 0.2,
            _ => file.hidden_dropout_prob,
        }),
        head,
        sentence: SentenceModules::default(),
    };
    check(&encoder)?;
    let class_names = if head.classes() == 0 { Vec::new() } else { class_names };
    Ok((encoder, class_names))
}

/// Names of the classes by their numbers; two without a list, as transformers has it.
fn class_names(id2label: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    if id2label.is_empty() {
        return Ok(["LABEL_0", "LABEL_1"].map(str::to_owned).to_vec());
    }
    let name = |class: usize| {
        let missing =
            || format!("id2label has no class {class}, but {}", counted(id2label.len(), "class"));
        id2label.get(&class.to_string()).cloned().ok_or_else(missing)
    };
    (0..id2label.len()).map(name).collect()
}

/// Sizes that no file may make us believe.
fn check(encoder: &Encoder) -> Result<(), String> {
    const MOST: usize = 1 << 24;
    const MOST_LAYERS: usize = 4096;
    const MOST_PARAMETERS: u128 = 1 << 36;
    let sizes = [
        ("vocab_size", encoder.vocab_size),
        ("hidden_size", encoder.hidden_size),
        ("num_attention_heads", encoder.num_attention_heads),
        ("intermediate_size", encoder.intermediate_size),
        ("max_position_embeddings", encoder.max_position_embeddings),
    ];
    let sizes = sizes.map(|(key, size)| (key, size, MOST));
    let layers = ("num_hidden_layers", encoder.num_hidden_layers, MOST_LAYERS);
    for (key, size, most) in sizes.into_iter().chain([layers]) {
        if size == 0 || size > most {
            return Err(format!("a {key} of {size} is not possible (1 to {most} are)"));
        }
    }
    let numbers = parameters(encoder);
    if numbers > MOST_PARAMETERS {
        return Err(format!(
            "its sizes make {numbers} parameters, and {MOST_PARAMETERS} are the most"
        ));
    }
    let Encoder { hidden_size, num_attention_heads: heads, .. } = *encoder;
    if !hidden_size.is_multiple_of(heads) {
        return Err(format!(
            "a hidden_size of {hidden_size} cannot be shared by {heads} attention heads"
        ));
    }
    if encoder.type_vocab_size > MOST || encoder.max_length() < 2 {
        return Err("type_vocab_size or max_position_embeddings is not possible".to_owned());
    }
    let rates = [encoder.hidden_dropout, encoder.attention_dropout, encoder.classifier_dropout];
    if rates.iter().any(|rate| !(0.0..1.0).contains(rate)) {
        return Err("dropout must be at least 0 and below 1".to_owned());
    }
    if !(encoder.layer_norm_eps > 0.0 && encoder.layer_norm_eps < 1.0) {
        return Err("layer_norm_eps must be above 0 and below 1".to_owned());
    }
    Ok(())
}

/// About how many parameters an encoder of these sizes has, before any is listed.
fn parameters(encoder: &Encoder) -> u128 {
    let [hidden, wide, layers, tokens, positions] = [
        encoder.hidden_size,
        encoder.intermediate_size,
        encoder.num_hidden_layers,
        encoder.vocab_size,
        encoder.max_position_embeddings,
    ]
    .map(|size| size as u128);
    hidden * (tokens + positions + layers * (4 * hidden + 2 * wide))
}

/// A number as a person would write it: 0.1, not the f32 nearest to it in all its digits.
fn short(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// `config.json` of an encoder with these classes.
pub fn to_json(encoder: &Encoder, class_names: &[String]) -> Value {
    let numbered = || class_names.iter().enumerate();
    let id2label: Map<String, Value> =
        numbered().map(|(class, name)| (class.to_string(), Value::from(name.as_str()))).collect();
    let label2id: Map<String, Value> =
        numbered().map(|(class, name)| (name.clone(), Value::from(class))).collect();
    let activation = ACTIVATIONS.iter().find(|(_, known)| *known == encoder.activation);
    let activation = activation.map_or("gelu", |(name, _)| name);
    let mut json = match encoder.family {
        Family::DistilBert => json!({
            "activation": activation,
            "dim": encoder.hidden_size,
            "n_layers": encoder.num_hidden_layers,
            "n_heads": encoder.num_attention_heads,
            "hidden_dim": encoder.intermediate_size,
            "dropout": short(encoder.hidden_dropout),
            "attention_dropout": short(encoder.attention_dropout),
            "seq_classif_dropout": short(encoder.classifier_dropout),
            "sinusoidal_pos_embds": false,
        }),
        _ => json!({
            "hidden_act": activation,
            "hidden_size": encoder.hidden_size,
            "num_hidden_layers": encoder.num_hidden_layers,
            "num_attention_heads": encoder.num_attention_heads,
            "intermediate_size": encoder.intermediate_size,
            "type_vocab_size": encoder.type_vocab_size,
            "layer_norm_eps": short(encoder.layer_norm_eps),
            "hidden_dropout_prob": short(encoder.hidden_dropout),
            "attention_probs_dropout_prob": short(encoder.attention_dropout),
            "classifier_dropout": short(encoder.classifier_dropout),
        }),
    };
    let common = json!({
        "architectures": [encoder.head.architecture(encoder.family)],
        "model_type": encoder.family.name(),
        "vocab_size": encoder.vocab_size,
        "max_position_embeddings": encoder.max_position_embeddings,
        "pad_token_id": encoder.pad_token_id,
        "initializer_range": short(super::INITIALISER_RANGE),
        "torch_dtype": "float32",
    });
    let classes = match encoder.head {
        Head::Classes(_) => json!({
            "id2label": id2label,
            "label2id": label2id,
            "problem_type": "single_label_classification",
        }),
        Head::MaskedLanguage | Head::Embedding => json!({}),
    };
    for more in [common, classes] {
        if let (Value::Object(json), Value::Object(more)) = (&mut json, more) {
            json.extend(more);
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Value {
        json!({
            "model_type": "bert", "vocab_size": 100, "hidden_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 3, "intermediate_size": 20, "max_position_embeddings": 16,
            "type_vocab_size": 2, "id2label": {"0": "bad", "1": "good", "2": "so so"},
        })
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (name, family) in Family::ALL {
            let mut json = base();
            json["model_type"] = name.into();
            let (encoder, classes) = from_json(family, &json).unwrap();
            assert_eq!((encoder.head, &*classes[2]), (Head::Classes(3), "so so"));
            for (head, suffix) in [
                (encoder.head, "ForSequenceClassification"),
                (Head::MaskedLanguage, "ForMaskedLM"),
                (Head::Embedding, "Model"),
            ] {
                let encoder = Encoder { head, ..encoder.clone() };
                let classes = if head.classes() == 0 { Vec::new() } else { classes.clone() };
                let written = to_json(&encoder, &classes);
                assert_eq!(written["model_type"], name);
                let architecture = written["architectures"][0].as_str().unwrap();
                assert!(architecture.ends_with(suffix), "{architecture}");
                assert_eq!(from_json(family, &written).unwrap(), (encoder, classes));
            }
        }
    }

    #[test]
    fn impossible_configurations_are_refused() {
        for (key, value, problem) in [
            ("hidden_size", json!(0), "a hidden_size of 0 is not possible"),
            ("vocab_size", json!(1_u64 << 60), "is not possible"),
            ("num_attention_heads", json!(5), "cannot be shared by 5 attention heads"),
            ("hidden_act", json!("swish"), "hidden_act `swish` is none of gelu"),
            ("hidden_dropout_prob", json!(1.0), "below 1"),
            ("layer_norm_eps", json!(-1.0), "layer_norm_eps"),
            ("position_embedding_type", json!("relative_key"), "must be `absolute`"),
            ("tie_word_embeddings", json!(false), "must be true"),
            ("id2label", json!({"0": "a", "2": "b"}), "id2label has no class 1"),
            ("num_hidden_layers", json!("two"), "invalid type"),
        ] {
            let mut json = base();
            json[key] = value;
            let error = from_json(Family::Bert, &json).unwrap_err();
            assert!(error.contains(problem), "{key}: {error}");
        }
    }
}
