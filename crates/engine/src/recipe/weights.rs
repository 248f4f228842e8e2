//! `class_weights`: how much the labels' loss of each class counts.

use std::collections::BTreeMap;

use serde::Serialize;

use super::document::Table;
use super::error::RecipeError;
use super::key::{keys, word};
use super::rules::NOT_NEGATIVE;
use crate::data::{DataError, Dataset};

keys! {
    /// For classes of unequal size.
    WEIGHING in "train";

    /// How much the labels' loss of each class counts: "balanced" lets each count as much in all, a table names classes,
    /// { rare = 5.0 }, all others having 1. Measurements count each example once.
    CLASS_WEIGHTS: Balanced = word("class_weights", || vec![("balanced", Balanced::Balanced)])
        .otherwise("all alike")
        .like("\"balanced\"")
        .hint("\"balanced\" or a table of classes")
        .also(&["class_weight", "loss_weights", "pos_weight", "sample_weights"]);
}

/// How much the labels' loss of an example counts, by its class.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ClassWeights {
    /// `"balanced"`: every class as much in all, as scikit-learn's `compute_class_weight` has it.
    Balanced(Balanced),
    /// By name; the others' is 1.
    ByName(BTreeMap<String, f32>),
}

/// The word "balanced".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Balanced {
    /// The only one.
    Balanced,
}

impl ClassWeights {
    pub(super) fn read(table: &Table<'_>) -> Result<Option<Self>, RecipeError> {
        if !table.has_table(CLASS_WEIGHTS.about.name) {
            return Ok(table.get(&CLASS_WEIGHTS)?.map(Self::Balanced));
        }
        let Some(weights) = table.table(&CLASS_WEIGHTS)? else { return Ok(None) };
        let names = weights.keys();
        let weight = |name: &String| Ok((name.clone(), weights.named(name, &NOT_NEGATIVE)?));
        let weights: BTreeMap<_, _> =
            names.iter().map(weight).collect::<Result<_, RecipeError>>()?;
        if weights.values().all(|weight| *weight == 0.0) {
            let problem = "`class_weights` needs a class with a weight above 0, or leave it out";
            return Err(table.conflict(CLASS_WEIGHTS.about.name, problem));
        }
        Ok(Some(Self::ByName(weights)))
    }

    /// The weight of each class of the data. Balanced ones are examples / (classes · examples of the class), over the
    /// classes that these data hold; of others it is 1.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when a name is none of the data's classes, or they have no labels.
    pub fn of(&self, data: &Dataset) -> Result<Vec<f32>, DataError> {
        let labels = data.need_classes()?;
        let names = labels.class_names();
        match self {
            Self::Balanced(_) => {
                let counts = labels.per_class_counts();
                let held = counts.iter().filter(|&&count| count > 0).count();
                let all: usize = counts.iter().sum();
                let weight = |&count: &usize| match count {
                    0 => 1.0,
                    count => (all as f64 / (held * count) as f64) as f32,
                };
                Ok(counts.iter().map(weight).collect())
            }
            Self::ByName(weights) => {
                let mut all = vec![1.0; names.len()];
                for (name, weight) in weights {
                    let class = names.iter().position(|known| known == name).ok_or_else(|| {
                        const SHOWN: usize = 20;
                        let shown = names.iter().take(SHOWN).map(|name| format!("{name:?}"));
                        let shown = shown.collect::<Vec<_>>().join(", ");
                        let more = if names.len() > SHOWN { ", …" } else { "" };
                        DataError::Unfit(format!(
                            "`class_weights` names the class {name:?}; the data have {shown}{more}"
                        ))
                    })?;
                    all[class] = *weight;
                }
                Ok(all)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Features, Numbers};

    fn data(labels: Vec<u32>) -> Dataset {
        let numbers = Numbers::new(Features::F32(vec![0.0; labels.len()]), vec![1]).unwrap();
        let names = ["cat", "dog", "owl"].map(str::to_owned).to_vec();
        Dataset::new(numbers, labels, names).unwrap()
    }

    #[test]
    fn balanced_classes_count_alike_in_all() {
        let balanced = ClassWeights::Balanced(Balanced::Balanced);
        // sklearn.utils.class_weight.compute_class_weight("balanced", classes=[0, 1, 2], y=[0, 0, 0, 1, 1, 2])
        let weights = balanced.of(&data(vec![0, 0, 0, 1, 1, 2])).unwrap();
        assert_eq!(weights, [6.0_f32 / 9.0, 1.0, 2.0]);
        // One that is not there takes no part.
        assert_eq!(balanced.of(&data(vec![0, 0, 0, 2])).unwrap(), [4.0_f32 / 6.0, 1.0, 2.0]);
    }

    #[test]
    fn names_have_to_be_classes() {
        let weights = |name: &str| ClassWeights::ByName(BTreeMap::from([(name.to_owned(), 2.5)]));
        assert_eq!(weights("dog").of(&data(vec![0])).unwrap(), [1.0, 2.5, 1.0]);
        let error = weights("dogs").of(&data(vec![0])).unwrap_err().to_string();
        assert!(error.contains("\"dogs\"; the data have \"cat\", \"dog\", \"owl\""), "{error}");
    }
}
