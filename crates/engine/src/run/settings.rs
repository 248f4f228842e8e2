//! What trainings depend on: a recipe's keys with their values, to be compared when an interrupted run goes on.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use toml::Value;

use crate::error::Error;
use crate::recipe::Recipe;
use crate::results::Arm;

/// Keys that change no result: where it lies, how often it is saved, what is measured or asked of it. On another
/// device the last bits may differ, which has a note of its own.
const FREE: [&str; 7] = [
    "name",
    "out",
    "device",
    "checkpoint_seconds",
    "tensorboard",
    "target.retain",
    "distil.gradient_shares",
];

/// Keys of a resolved recipe with their values, as TOML; those that change no result are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Settings {
    by_key: BTreeMap<String, String>,
}

impl Settings {
    /// Those of a recipe.
    ///
    /// # Errors
    /// When the recipe cannot be written.
    pub fn of(recipe: &Recipe) -> Result<Self, Error> {
        let table: toml::Table = toml::from_str(&recipe.to_toml()?).expect("it was written so");
        let mut settings = Self::default();
        settings.add("", table);
        Ok(settings)
    }

    fn add(&mut self, prefix: &str, table: toml::Table) {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            match value {
                Value::Table(inner) => self.add(&format!("{key}."), inner),
                _ if FREE.contains(&&*key) => {}
                // As people write it: 1e30, without its thirty zeros.
                Value::Float(value) => _ = self.by_key.insert(key, format!("{value:?}")),
                value => _ = self.by_key.insert(key, value.to_string()),
            }
        }
    }

    /// Those that the training of an arm depends on.
    pub fn of_arm(mut self, arm: Arm) -> Self {
        let follows = |(key, value): (&String, &String)| {
            key == "student.model.from" && value == "\"teacher\""
        };
        let from_teacher = self.by_key.iter().any(follows);
        // A language model that is loaded as the teacher knows its student's tokens alone.
        let guesses_next = self.by_key.get("task").is_some_and(|task| task == "\"causal-lm\"");
        self.by_key.retain(|key, _| {
            let table = key.split('.').next().unwrap_or_default();
            match (arm, table) {
                // The distilled student alone learns from it.
                (Arm::Teacher | Arm::Control, _) if key == "teacher.cache" => false,
                (Arm::Teacher, "student") => {
                    guesses_next && key.starts_with("student.model.vocabulary")
                }
                (Arm::Teacher, "distil" | "train") => false,
                (Arm::Control, "teacher") => from_teacher,
                (Arm::Control, "distil") => {
                    ["distil.omit_classes", "distil.train_limit"].contains(&&**key)
                }
                _ => true,
            }
        });
        self
    }

    /// What is another value `now`, key by key: the old value and the new one.
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let keys: BTreeSet<&String> = self.by_key.keys().chain(now.by_key.keys()).collect();
        let shown = |settings: &Self, key: &String| {
            settings.by_key.get(key).cloned().unwrap_or_else(|| "not set".to_owned())
        };
        let pairs = keys.into_iter().map(|key| (key, shown(self, key), shown(now, key)));
        pairs
            .filter(|(_, old, new)| old != new)
            .map(|(key, old, new)| format!("{key}: {old} → {new}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sets: &[&str]) -> Settings {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        Settings::of(&Recipe::embedded_default(&sets).unwrap()).unwrap()
    }

    #[test]
    fn changes_are_told_key_by_key() {
        let sets = ["seed=3", "train.epochs=61", "data.train_limit=9", "train.optimizer.lr=0.5"];
        assert_eq!(
            of(&[]).changes(&of(&sets)),
            [
                "data.train_limit: not set → 9",
                "seed: 0 → 3",
                "train.epochs: 60 → 61",
                "train.optimizer.lr: 0.05 → 0.5",
            ]
        );
        let other = of(&["train.optimizer={name=\"adam\",lr=0.05}"]);
        assert!(
            other
                .changes(&of(&[]))
                .contains(&"train.optimizer.name: \"adam\" → \"sgd\"".to_owned())
        );
    }

    #[test]
    fn what_changes_no_result_is_free() {
        let free = [
            "name=\"other\"",
            "out=\"there\"",
            "device=\"cpu\"",
            "checkpoint_seconds=1",
            "tensorboard=true",
            "target.retain=0.5",
            "distil.gradient_shares=true",
        ];
        assert_eq!(of(&[]).changes(&of(&free)), [""; 0]);
    }

    #[test]
    fn an_arm_depends_on_its_own_keys() {
        let of_arm = |arm, set: &str| of(&[]).of_arm(arm).changes(&of(&[set]).of_arm(arm)).len();
        for (set, wanted) in [
            ("seed=1", [1, 1, 1]),
            ("teacher.train.epochs=1", [1, 0, 1]),
            ("student.model.hidden_sizes=[3]", [0, 1, 1]),
            ("train.epochs=1", [0, 1, 1]),
            ("distil.train_limit=50", [0, 1, 1]),
            ("distil.temperature=1", [0, 0, 1]),
            ("data.test_limit=10", [1, 1, 1]),
        ] {
            assert_eq!(Arm::ALL.map(|arm| of_arm(arm, set)), wanted, "{set}");
        }
    }
}
