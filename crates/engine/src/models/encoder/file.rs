//! `config.json` as Hugging Face transformers writes and reads it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::family::{Encoder, Family, ReadFamily};
use super::head::Head;
use super::parameters::INITIALISER_RANGE;
use super::sentence::SentenceModules;
use crate::models::json::{activation, short};
use crate::models::{ModelConfig, ProblemType, quantised};
use crate::words::counted;

/// The keys that matter, in all their spellings.
#[derive(Debug, Deserialize)]
struct File {
    vocab_size: usize,
    #[serde(alias = "dim")]
    hidden_size: usize,
    embedding_size: Option<usize>,
    #[serde(alias = "n_layers")]
    num_hidden_layers: usize,
    #[serde(alias = "n_heads")]
    num_attention_heads: usize,
    #[serde(alias = "hidden_dim")]
    intermediate_size: usize,
    #[serde(alias = "activation", alias = "hidden_activation", default = "gelu")]
    hidden_act: String,
    max_position_embeddings: usize,
    #[serde(default)]
    type_vocab_size: usize,
    #[serde(alias = "norm_eps", default = "epsilon")]
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
    problem_type: Option<String>,
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

/// What a configuration says of an encoder.
#[derive(Debug)]
pub struct Read {
    /// The encoder.
    pub encoder: Encoder,
    /// Names of its classes, if it has any.
    pub class_names: Vec<String>,
    /// What its numbers mean.
    pub problem: ProblemType,
}

/// The encoder that a configuration of a family describes; what is wrong with it otherwise.
pub fn of_json<F: ReadFamily>(json: &Value) -> Result<Read, String> {
    let file: File =
        Deserialize::deserialize(json).map_err(|error: serde_json::Error| error.to_string())?;
    let activation = activation("hidden_act", &file.hidden_act)?;
    if let Some(method) = quantised::foreign(json) {
        return Err(format!(
            "its weights are quantised (quantization_config: {method}), which is not supported: give the model that it \
             was made of, or save it with transformers, model.dequantize().save_pretrained(folder)"
        ));
    }
    if file.position_embedding_type.as_deref().is_some_and(|kind| kind != "absolute") {
        return Err("position_embedding_type must be `absolute`".to_owned());
    }
    let family = F::of_json(json)?;
    let class_names = class_names(&file.id2label)?;
    let architecture = file.architectures.first().map_or("", String::as_str);
    let head = head(architecture, &family, class_names.len());
    let mut encoder = Encoder {
        vocab_size: file.vocab_size,
        hidden_size: file.hidden_size,
        embedding_size: None,
        num_hidden_layers: file.num_hidden_layers,
        num_attention_heads: file.num_attention_heads,
        intermediate_size: file.intermediate_size,
        max_position_embeddings: file.max_position_embeddings,
        type_vocab_size: file.type_vocab_size,
        pad_token_id: file.pad_token_id.unwrap_or(family.padding()),
        activation,
        layer_norm_eps: file.layer_norm_eps,
        hidden_dropout: file.hidden_dropout_prob,
        attention_dropout: file.attention_probs_dropout_prob,
        classifier_dropout: file.classifier_dropout.unwrap_or(file.hidden_dropout_prob),
        head,
        tie_word_embeddings: file.tie_word_embeddings,
        sentence: SentenceModules::default(),
        family: family.into(),
    };
    if encoder.family.has_embedding_size() {
        encoder.embedding_size = file.embedding_size.filter(|&size| size != file.hidden_size);
    }
    let family = encoder.family.clone();
    family.read(json, &mut encoder)?;
    check(&encoder)?;
    let class_names = if head.classes() == 0 { Vec::new() } else { class_names };
    let problem = match file.problem_type {
        Some(name) => ProblemType::of_name(&name)?,
        // As transformers takes it.
        None if head == Head::Classes(1) => ProblemType::Regression,
        None => ProblemType::default(),
    };
    Ok(Read { encoder, class_names, problem })
}

/// The head of a model that transformers calls so; a classifier of so many classes unless the name says otherwise.
fn head(name: &str, family: &dyn Family, classes: usize) -> Head {
    match name.strip_prefix(family.names().class) {
        Some(suffix) => family.head_of(suffix, classes),
        None => Head::Classes(classes),
    }
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
        ("embedding_size", encoder.embedding_width()),
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
    let [hidden, width, wide, layers, tokens, positions] = [
        encoder.hidden_size,
        encoder.embedding_width(),
        encoder.intermediate_size,
        encoder.num_hidden_layers,
        encoder.vocab_size,
        encoder.max_position_embeddings,
    ]
    .map(|size| size as u128);
    width * (tokens + positions) + hidden * layers * (4 * hidden + 2 * wide)
}

/// `config.json` of an encoder in a model that says what its classes are.
pub fn to_json(encoder: &Encoder, config: &ModelConfig) -> Value {
    let numbered = || config.class_names.iter().enumerate();
    let id2label: Map<String, Value> =
        numbered().map(|(class, name)| (class.to_string(), Value::from(name.as_str()))).collect();
    let label2id: Map<String, Value> =
        numbered().map(|(class, name)| (name.clone(), Value::from(class))).collect();
    let family = &*encoder.family;
    let common = json!({
        "architectures": [format!("{}{}", family.names().class, encoder.head.suffix())],
        "model_type": family.names().model_type,
        "vocab_size": encoder.vocab_size,
        "max_position_embeddings": encoder.max_position_embeddings,
        "pad_token_id": encoder.pad_token_id,
        "initializer_range": short(INITIALISER_RANGE),
        "torch_dtype": "float32",
    });
    let classes = match encoder.head {
        Head::Classes(_) => json!({
            "id2label": id2label,
            "label2id": label2id,
            "problem_type": config.problem.name(),
        }),
        Head::Tokens(_) => json!({ "id2label": id2label, "label2id": label2id }),
        Head::Span | Head::MaskedLanguage | Head::Embedding => json!({}),
    };
    let width =
        family.has_embedding_size().then(|| json!({ "embedding_size": encoder.embedding_width() }));
    let untied = (!encoder.tie_word_embeddings).then(|| json!({ "tie_word_embeddings": false }));
    let mut json = family.sizes(encoder);
    let details = Some(Value::Object(family.details()));
    for more in [Some(common), Some(classes), width, untied, details].into_iter().flatten() {
        if let (Value::Object(json), Value::Object(more)) = (&mut json, more) {
            json.extend(more);
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use super::super::albert::Albert;
    use super::super::bert::Bert;
    use super::super::deberta::DebertaV2;
    use super::super::distilbert::DistilBert;
    use super::super::electra::Electra;
    use super::super::modernbert::ModernBert;
    use super::super::mpnet::MpNet;
    use super::super::roberta::Roberta;
    use super::*;

    fn base() -> Value {
        json!({
            "model_type": "bert", "vocab_size": 100, "hidden_size": 12, "num_hidden_layers": 2,
            "num_attention_heads": 3, "intermediate_size": 20, "max_position_embeddings": 16,
            "type_vocab_size": 2, "id2label": {"0": "bad", "1": "good", "2": "so so"},
        })
    }

    fn read<F: ReadFamily>(name: &str) {
        let mut json = base();
        json["model_type"] = name.into();
        let Read { encoder, class_names, problem } = of_json::<F>(&json).unwrap();
        assert_eq!((encoder.head, &*class_names[2]), (Head::Classes(3), "so so"));
        assert_eq!(problem, ProblemType::SingleLabel);
        for (head, suffix) in [
            (encoder.head, "ForSequenceClassification"),
            (Head::Tokens(3), "ForTokenClassification"),
            (Head::Span, "ForQuestionAnswering"),
            (Head::MaskedLanguage, "ForMaskedLM"),
            (Head::Embedding, "Model"),
        ] {
            let encoder = Encoder { head, ..encoder.clone() };
            let classes = if head.classes() == 0 { Vec::new() } else { class_names.clone() };
            let mut config = ModelConfig::of_encoder(encoder.clone(), classes);
            if let Head::Classes(_) = head {
                config.problem = ProblemType::MultiLabel;
            }
            let written = to_json(&encoder, &config);
            assert_eq!(written["model_type"], name);
            let architecture = written["architectures"][0].as_str().unwrap();
            assert!(architecture.ends_with(suffix), "{architecture}");
            let again = of_json::<F>(&written).unwrap();
            let found = (again.encoder, again.class_names, again.problem);
            assert_eq!(found, (encoder, config.class_names, config.problem));
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        read::<Bert>("bert");
        read::<DistilBert>("distilbert");
        for name in ["roberta", "xlm-roberta", "camembert"] {
            read::<Roberta>(name);
        }
        read::<Electra>("electra");
        read::<Albert>("albert");
        read::<MpNet>("mpnet");
        read::<ModernBert>("modernbert");
        read::<DebertaV2>("deberta-v2");
    }

    #[test]
    fn what_a_family_has_not_is_refused() {
        type Reader = fn(&Value) -> Result<Read, String>;
        let cases: [(Reader, &str, Value, &str); 11] = [
            (of_json::<DistilBert>, "sinusoidal_pos_embds", json!(true), "must be false"),
            (of_json::<Albert>, "num_hidden_groups", json!(2), "num_hidden_groups must be 1"),
            (of_json::<MpNet>, "relative_attention_num_buckets", json!(64), "must be 32"),
            (of_json::<MpNet>, "pad_token_id", json!(0), "pad_token_id must be 1"),
            (of_json::<ModernBert>, "rope_scaling", json!({"factor": 2}), "rope_scaling is not"),
            (of_json::<ModernBert>, "layer_types", json!(["full_attention"]), "names 1 layers"),
            (of_json::<ModernBert>, "global_attn_every_n_layers", json!(0), "at least 1"),
            (of_json::<ModernBert>, "hidden_act", json!("tanh"), "hidden_activation `tanh`"),
            (of_json::<DebertaV2>, "conv_kernel_size", json!(3), "conv_kernel_size must be 0"),
            (of_json::<DebertaV2>, "pos_att_type", json!("c2p|p2p"), "`p2p` is neither"),
            (of_json::<DebertaV2>, "attention_head_size", json!(8), "must be 4"),
        ];
        for (read, key, value, problem) in cases {
            let mut json = base();
            json[key] = value;
            let error = read(&json).unwrap_err();
            assert!(error.contains(problem), "{key}: {error}");
        }
        let mut json = base();
        json["relative_attention"] = true.into();
        json["position_buckets"] = 40.into();
        let error = of_json::<DebertaV2>(&json).unwrap_err();
        assert!(error.contains("position_buckets of 40 do not fit"), "{error}");
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
            ("problem_type", json!("ranking"), "`ranking` is none of single_label_classification"),
            ("id2label", json!({"0": "a", "2": "b"}), "id2label has no class 1"),
            ("num_hidden_layers", json!("two"), "invalid type"),
        ] {
            let mut json = base();
            json[key] = value;
            let error = of_json::<Bert>(&json).unwrap_err();
            assert!(error.contains(problem), "{key}: {error}");
        }
    }
}
