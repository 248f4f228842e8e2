//! `distil.hidden` and `distil.relations`: what students learn from inside the teacher, besides its answers.

use serde::Serialize;

use super::document::Table;
use super::error::RecipeError;
use super::rules::{LAYER, POSITIVE};

/// One of `distil.hidden`: hidden states of the student drawn to the teacher's, token by token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HiddenLoss {
    /// How far two hidden states are apart.
    pub loss: HiddenDistance,
    /// Layer of the student: 0 for the embeddings, 1 for the output of the first layer, -1 for the last's; -1 unless
    /// given.
    pub student_layer: i32,
    /// Layer of the teacher, counted alike; -1 unless given.
    pub teacher_layer: i32,
    /// Weight of the term, above 0; 1 unless given.
    pub weight: f32,
}

/// How far two vectors are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HiddenDistance {
    /// 1 - cos of their angle, as DistilBERT has it.
    Cosine,
    /// The mean of their squared differences, as TinyBERT has it.
    Mse,
}

/// One of `distil.relations`: self-attention of the student drawn to the teacher's, as MiniLM does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RelationLoss {
    /// Of what.
    pub of: Relation,
    /// Layer of the student: 1 for the first, -1 for the last; -1 unless given.
    pub student_layer: i32,
    /// Layer of the teacher, counted alike; -1 unless given.
    pub teacher_layer: i32,
    /// Weight of the term, above 0; 1 unless given.
    pub weight: f32,
}

/// What a self-attention relation is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Relation {
    /// Queries and keys: the distributions of attention.
    Attention,
    /// Values and values.
    Values,
}

impl HiddenDistance {
    /// All of them, by the name that recipes give them.
    pub const ALL: [(&'static str, Self); 2] = [("cosine", Self::Cosine), ("mse", Self::Mse)];
}

impl Relation {
    /// All of them, by the name that recipes give them.
    pub const ALL: [(&'static str, Self); 2] =
        [("attention", Self::Attention), ("values", Self::Values)];
}

impl HiddenLoss {
    pub(super) fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        table.known(&["loss", "student_layer", "teacher_layer", "weight"])?;
        let loss = table.need_choice("loss", &HiddenDistance::ALL)?;
        let [student_layer, teacher_layer] = layers(table)?;
        Ok(Self { loss, student_layer, teacher_layer, weight: weight(table)? })
    }
}

impl RelationLoss {
    pub(super) fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        table.known(&["of", "student_layer", "teacher_layer", "weight"])?;
        let of = table.need_choice("of", &Relation::ALL)?;
        let [student_layer, teacher_layer] = layers(table)?;
        Ok(Self { of, student_layer, teacher_layer, weight: weight(table)? })
    }
}

fn layers(table: &Table<'_>) -> Result<[i32; 2], RecipeError> {
    let layer = |key| Ok(table.get(key, &LAYER)?.unwrap_or(-1));
    Ok([layer("student_layer")?, layer("teacher_layer")?])
}

fn weight(table: &Table<'_>) -> Result<f32, RecipeError> {
    Ok(table.get("weight", &POSITIVE)?.unwrap_or(1.0))
}
