//! `distil.hidden` and `distil.relations`: what students learn from inside the teacher, besides its answers.

use serde::Serialize;

use super::document::Table;
use super::error::RecipeError;
use super::key::{key, keys, word};
use super::rules::{LAYER, POSITIVE};

keys! {
    /// Hidden states of the student drawn to the teacher's, token by token: a list of tables with these keys.
    HIDDEN_KEYS in "distil.hidden";

    /// How far two hidden states are apart: 1 - cos of their angle, or the mean of their squared differences.
    HIDDEN_LOSS: HiddenDistance = word("loss", || HiddenDistance::ALL.to_vec()).needed().like("\"mse\"");
    /// Layer of the student: 0 for the embeddings, 1 for the output of the first layer, -1 for the last's.
    STUDENT_STATE: i32 = key("student_layer", LAYER).or("-1").like("-1");
    /// Layer of the teacher, counted alike.
    TEACHER_STATE: i32 = key("teacher_layer", LAYER).or("-1").like("-1");
    /// Weight of the term.
    HIDDEN_WEIGHT: f32 = key("weight", POSITIVE).or("1.0").like("1.0").also(&["loss_weight"]);
}

keys! {
    /// Self-attention of the student drawn to the teacher's, as MiniLM does: a list of tables with these keys.
    RELATION_KEYS in "distil.relations";

    /// Of queries and keys, or of values and values.
    OF: Relation = word("of", || Relation::ALL.to_vec()).needed().like("\"values\"");
    /// Layer of the student: 1 for the first, -1 for the last.
    STUDENT_LAYER: i32 = key("student_layer", LAYER).or("-1").like("-1");
    /// Layer of the teacher, counted alike.
    TEACHER_LAYER: i32 = key("teacher_layer", LAYER).or("-1").like("-1");
    /// Weight of the term.
    RELATION_WEIGHT: f32 = key("weight", POSITIVE).or("1.0").like("1.0").also(&["loss_weight"]);
}

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
        table.known(&[&HIDDEN_KEYS])?;
        Ok(Self {
            loss: table.value(&HIDDEN_LOSS)?,
            student_layer: table.value(&STUDENT_STATE)?,
            teacher_layer: table.value(&TEACHER_STATE)?,
            weight: table.value(&HIDDEN_WEIGHT)?,
        })
    }
}

impl RelationLoss {
    pub(super) fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        table.known(&[&RELATION_KEYS])?;
        Ok(Self {
            of: table.value(&OF)?,
            student_layer: table.value(&STUDENT_LAYER)?,
            teacher_layer: table.value(&TEACHER_LAYER)?,
            weight: table.value(&RELATION_WEIGHT)?,
        })
    }
}
