//! `groups = [{ … }]`: parameters that are trained otherwise than the rest.

use serde::Serialize;

use super::document::Table;
use super::error::RecipeError;
use super::key::{key, keys};
use super::rules::{NOT_NEGATIVE, TEXT};

keys! {
    /// Parameters that are trained otherwise than the rest: a list of tables with these keys, each parameter being of the
    /// first that matches its name.
    GROUP_KEYS in "train.groups";

    /// Which: those whose names, or the first parts of them, are this; `*` is any text.
    MATCH: String = key("match", TEXT)
        .needed()
        .like("\"*.layer.0\"")
        .also(&["pattern", "params", "regex"]);
    /// Their learning rate before any schedule; 0 leaves them as they are, and costs no gradient.
    LR: f32 = key("lr", NOT_NEGATIVE).otherwise("the optimizer's").like("1e-3").also(&["learning_rate"]);
    /// In the place of `lr`: what the optimizer's is multiplied by.
    LR_FACTOR: f32 = key("lr_factor", NOT_NEGATIVE)
        .otherwise("1")
        .like("0.5")
        .also(&["lr_mult", "lr_multiplier", "lr_scale"]);
    /// The weight decay of those that decay at all: weights, not biases and norms.
    WEIGHT_DECAY: f32 = key("weight_decay", NOT_NEGATIVE)
        .otherwise("the optimizer's")
        .like("0.0")
        .also(&["wd"]);
}

/// Parameters that have a learning rate or a weight decay of their own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// Which: those whose names, or the first parts of them, are this; `*` is any text.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Their learning rate before any schedule; 0 leaves them as they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f32>,
    /// In the place of `lr`: what the optimizer's is multiplied by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr_factor: Option<f32>,
    /// The weight decay of those that decay at all: weights, not biases and norms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f32>,
}

impl Group {
    pub(super) fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        table.known(&[&GROUP_KEYS])?;
        let group = Self {
            pattern: table.value(&MATCH)?,
            lr: table.get(&LR)?,
            lr_factor: table.get(&LR_FACTOR)?,
            weight_decay: table.get(&WEIGHT_DECAY)?,
        };
        match (group.lr, group.lr_factor, group.weight_decay) {
            (Some(_), Some(_), _) => {
                let problem = "give `lr` or `lr_factor`, not both: leave one out";
                Err(table.conflict("lr_factor", problem))
            }
            (None, None, None) => {
                Err(table.lacks("`lr`, `lr_factor` or `weight_decay`", NOT_NEGATIVE.allowed))
            }
            _ => Ok(group),
        }
    }

    /// Whether it has the parameter of this name: `classifier` has `classifier.weight`, `*.layer.1` has all of
    /// layer 1 and none of layer 10.
    pub fn has(&self, name: &str) -> bool {
        let ends = name.match_indices('.').map(|(end, _)| end).chain([name.len()]);
        ends.into_iter().any(|end| fits(&self.pattern, &name[..end]))
    }
}

/// Whether a text is what a pattern says, `*` being any text.
fn fits(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(head) else { return false };
    let starts = text.char_indices().map(|(start, _)| start).chain([text.len()]);
    starts.into_iter().any(|start| fits(rest, &text[start..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_beginnings_in_whole_parts() {
        let has = |pattern: &str, name: &str| {
            let pattern = pattern.to_owned();
            Group { pattern, lr: None, lr_factor: None, weight_decay: None }.has(name)
        };
        for (pattern, name) in [
            ("classifier", "classifier.weight"),
            ("classifier.bias", "classifier.bias"),
            ("*.layer.1", "bert.encoder.layer.1.output.dense.bias"),
            ("*.bias", "bert.pooler.dense.bias"),
            ("bert.*.LayerNorm", "bert.embeddings.LayerNorm.weight"),
            ("*", "layers.0.weight"),
            ("*embeddings*", "bert.embeddings.word_embeddings.weight"),
        ] {
            assert!(has(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("classifier", "classifiers.weight"),
            ("*.layer.1", "bert.encoder.layer.10.output.dense.bias"),
            ("dense", "bert.pooler.dense.bias"),
            ("*.bias", "bert.pooler.dense.weight"),
            ("classifier.weight.", "classifier.weight"),
        ] {
            assert!(!has(pattern, name), "{pattern} {name}");
        }
    }
}
