//! The kinds of models there are: a line each.

use serde_json::Value;

use super::cnn::{efficientnet, resnet};
use super::decoder::{gemma, gpt2, llama, qwen};
use super::encoder::{albert, bert, deberta, distilbert, electra, modernbert, mpnet, roberta};
use super::mlp;
use super::model_type::ModelType;

/// Every kind of model, by its name in `model_type`.
pub const REGISTRY: &[ModelType] = &[
    mlp::TYPE,
    resnet::TYPE,
    efficientnet::TYPE,
    bert::TYPE,
    distilbert::TYPE,
    roberta::TYPE,
    roberta::XLM,
    roberta::CAMEMBERT,
    electra::TYPE,
    albert::TYPE,
    mpnet::TYPE,
    modernbert::TYPE,
    deberta::TYPE,
    llama::TYPE,
    llama::MISTRAL,
    qwen::QWEN2,
    qwen::QWEN3,
    gpt2::TYPE,
    gemma::GEMMA3,
];

/// The kind that a configuration names.
///
/// # Errors
/// A sentence that lists the kinds there are, and the one whose name is nearest.
pub fn of_json(json: &Value) -> Result<&'static ModelType, String> {
    // timm's files have the name of an architecture in its place.
    let other = if json["architecture"].is_string() { "timm" } else { "" };
    let name = json["model_type"].as_str().unwrap_or(other);
    if let Some(known) = REGISTRY.iter().find(|known| known.name == name) {
        return Ok(known);
    }
    let names: Vec<&str> = REGISTRY.iter().map(|known| known.name).collect();
    let mut problem = format!("its model_type `{name}` is none of {}", names.join(", "));
    if let Some(nearest) = nearest(name, &names) {
        problem.push_str(&format!("; the nearest is `{nearest}`"));
    }
    Err(problem)
}

/// The name most like another one, if any is like it.
fn nearest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    const ALIKE: f64 = 0.5;
    let likeness = |known: &&str| strsim::normalized_damerau_levenshtein(name, known);
    let best = names.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= ALIKE).then_some(*best)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_found_or_the_nearest_is_told() {
        for known in REGISTRY {
            let found = of_json(&json!({ "model_type": known.name })).unwrap();
            assert_eq!(found.name, known.name);
        }
        let told = |name: Value| of_json(&json!({ "model_type": name })).unwrap_err();
        let error = told("robertta".into());
        assert!(error.contains("`robertta` is none of mlp, resnet, timm, bert,"), "{error}");
        assert!(error.ends_with("; the nearest is `roberta`"), "{error}");
        assert!(!told("llava_next".into()).contains("nearest"));
        assert!(!told(Value::Null).contains("nearest"));
    }
}
