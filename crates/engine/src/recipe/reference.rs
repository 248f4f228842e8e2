//! What is said of every key of a recipe, for people: `distil-gpu keys`, `docs/recipe.md`, the starter recipe.

use serde::Serialize;

use super::key::{Described, KeyGroup};
use super::keys::GROUPS;

/// Keys that stand in a table of a recipe together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableReference {
    /// The table's path, as `train.optimizer`; empty for the outermost one. What `train` and `student.model` have,
    /// `teacher.train` and `teacher.model` have as well.
    pub table: &'static str,
    /// The key of the table, and its words, with which these keys go; absent where they go with all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with: Option<(&'static str, &'static [&'static str])>,
    /// What they are for.
    pub title: &'static str,
    /// The keys, in the order in which errors list them.
    pub keys: Vec<KeyReference>,
}

/// A key of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeyReference {
    /// What it is called in its table.
    pub key: &'static str,
    /// What it may be: ends the sentence "it must be …".
    pub allowed: String,
    /// What it is unless given, as TOML or in words; absent where nothing is, or where it must be given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<&'static str>,
    /// Whether its table must have it.
    pub needed: bool,
    /// A value that it may have, as TOML.
    pub example: &'static str,
    /// What it does.
    pub doc: &'static str,
}

impl TableReference {
    /// With which word of its table these keys go, as `source = "csv"`; nothing where they go with all.
    pub fn condition(&self) -> Option<String> {
        let (key, words) = self.with?;
        let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        Some(format!("{key} = {}", words.join(" or ")))
    }
}

/// Every key of a recipe, by the tables that they stand in.
pub fn reference() -> Vec<TableReference> {
    let table = |group: &&'static KeyGroup| TableReference {
        table: group.table,
        with: group.form,
        title: group.title.trim(),
        keys: group.keys.iter().map(|key| explained(*key)).collect(),
    };
    GROUPS.iter().map(table).collect()
}

fn explained(key: &'static dyn Described) -> KeyReference {
    let about = key.about();
    let otherwise = Some(about.otherwise).filter(|words| !words.is_empty());
    KeyReference {
        key: about.name,
        allowed: key.allowed(),
        default: about.default.or(otherwise),
        needed: about.needed,
        example: about.example,
        doc: about.doc.trim(),
    }
}
