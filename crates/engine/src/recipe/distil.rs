//! `[distil]`: how the teacher's knowledge passes on.

use serde::Serialize;

use super::divergence::{self, BETA, DIVERGENCES, DKD_WEIGHT, SKEW};
use super::document::Table;
use super::error::RecipeError;
use super::key::{Nested, key, keys, list, nested, word};
use super::rules::{CLASSES, FLAG, FRACTION, NOT_NEGATIVE, SIZE, TEMPERATURE};
use super::{ClassRef, HiddenLoss, OnPolicy, RelationLoss};
use crate::kernels::Divergence;

keys! {
    /// How the teacher's knowledge passes on.
    DISTIL in "distil";

    /// Softens both models' answers; above 1 it shows the student how classes resemble each other.
    SOFTENED_BY: f32 = key("temperature", TEMPERATURE)
        .or("4.0")
        .like("4.0")
        .also(&["t", "temp", "tau", "kd_temperature", "distillation_temperature"]);
    /// Weight of the soft term, which compares the student's answers with the teacher's; the labels' term has the rest.
    ALPHA: f32 = key("alpha", FRACTION)
        .or("0.9")
        .like("0.9")
        .also(&["kd_alpha", "distillation_alpha", "lambda", "lambda_kd", "kd_weight", "soft_ratio"]);
    /// In the place of `alpha`, together with `hard_weight`: a weight of any size for the soft term.
    SOFT_WEIGHT: f32 = key("soft_weight", NOT_NEGATIVE)
        .like("5.0")
        .also(&["alpha_ce", "alpha_kd", "kl_weight", "soft_loss_weight"]);
    /// In the place of `alpha`, together with `soft_weight`: a weight of any size for the labels' term.
    HARD_WEIGHT: f32 = key("hard_weight", NOT_NEGATIVE)
        .like("2.0")
        .also(&["alpha_mlm", "alpha_clm", "alpha_hard", "ce_weight", "hard_loss_weight"]);
    /// Of the student's answers from the teacher's, in the soft term: KL(teacher, student), KL(student, teacher), the
    /// generalised Jensen-Shannon divergence, KL to a mean of both that is near the student's or the teacher's (DistiLLM), half
    /// the sum of absolute differences, KL of a target that moves from near the student to the teacher (TAID), or KL of the label
    /// against all other classes and of these among themselves, each with a weight of its own (DKD).
    DIVERGENCE: Divergence = word("divergence", || DIVERGENCES.to_vec())
        .or("\"forward-kl\"")
        .like("\"reverse-kl\"")
        .also(&["kl_type", "loss_type", "distance"]);
    /// With divergence = "jsd": the weight of the teacher's distribution in the mean of both.
    JSD_BETA: f32 = key("beta", BETA)
        .or("0.5")
        .like("0.5")
        .also(&["gkd_beta", "jsd_beta"]);
    /// With a skew divergence: the weight of the teacher's distribution in the mean, of "skew-reverse-kl" the student's.
    SKEWED_BY: f32 = key("skew", SKEW).or("0.1").like("0.1").also(&["skew_alpha"]);
    /// With divergence = "taid": how much of the teacher the first step's target has; the last step's has all.
    TAID_START: f32 = key("taid_start", FRACTION).or("0.4").like("0.4").also(&["t_start"]);
    /// With divergence = "dkd": the weight of the label against all other classes.
    DKD_ALPHA: f32 = key("dkd_alpha", DKD_WEIGHT).or("1.0").like("1.0").also(&["ce_alpha", "tckd_weight"]);
    /// With divergence = "dkd": the weight of the other classes among themselves.
    DKD_BETA: f32 = key("dkd_beta", DKD_WEIGHT).or("8.0").like("2.0").also(&["nckd_weight"]);
    /// Whether the soft term is of each model's logits less their mean, over their standard deviation, example by example.
    STANDARDISE: bool = key("standardise", FLAG)
        .or("false")
        .like("true")
        .also(&["standardize", "logit_stand", "logit_standardization", "lskd"]);
    /// Classes that the students never see in training.
    OMIT_CLASSES: Vec<ClassRef> = key("omit_classes", CLASSES)
        .or("[]")
        .like("[3]")
        .also(&["exclude_classes", "skip_classes"]);
    /// Only so many of the training examples for the students, the first.
    STUDENTS_LIMIT: usize = key("train_limit", SIZE).otherwise("all").like("1000");
    /// Whether each measurement in `metrics.jsonl` tells how much of the gradient is each term's.
    GRADIENT_SHARES: bool = key("gradient_shares", FLAG).or("false").like("true");
    /// Language models: steps in which the student learns from what it writes itself. `divergence` = "reverse-kl" or "jsd"
    /// suits them; the labels' term has no part in them.
    ON_POLICY_TABLE: Nested = nested("on_policy", "a table")
        .otherwise("none")
        .like("{ fraction = 0.5 }")
        .hint("as { fraction = 0.5 }")
        .also(&["gkd", "on_policy_distillation"]);
    /// Encoders: hidden states of the student that are drawn to the teacher's, token by token.
    HIDDEN: Nested = list("hidden")
        .otherwise("none")
        .like("[{ loss = \"mse\", student_layer = -1, teacher_layer = -1, weight = 1.0 }]")
        .hint("a list of { loss = .. }")
        .also(&["hidden_loss", "alpha_cos", "alpha_mse", "hidden_states", "feature_loss"]);
    /// Encoders: self-attention relations of the student that are drawn to the teacher's, as MiniLM does.
    RELATIONS: Nested = list("relations")
        .otherwise("none")
        .like("[{ of = \"attention\" }, { of = \"values\" }]")
        .hint("a list of { of = .. }")
        .also(&["relation_loss", "attention_loss", "minilm"]);
}

/// `[distil]`: how the teacher's knowledge passes on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Distil {
    /// Temperature T of the soft targets, from 0.01 to 10,000; 4 unless given.
    pub temperature: f32,
    /// Weight of the soft term, in [0, 1]; the hard term has the rest; 0.9 unless given. Its share of both, where
    /// both have weights of their own.
    pub alpha: f32,
    /// Weight of the soft term, of any size; `hard_weight` goes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_weight: Option<f32>,
    /// Weight of the hard term.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hard_weight: Option<f32>,
    /// How far the student's answers are from the teacher's; forward KL unless given.
    #[serde(flatten, serialize_with = "divergence::write")]
    pub divergence: Divergence,
    /// Whether the soft term is of standardised logits; not unless given.
    #[serde(skip_serializing_if = "is_false")]
    pub standardise: bool,
    /// Classes left out of the students' training data; none unless given.
    pub omit_classes: Vec<ClassRef>,
    /// Whether each measurement tells how much of the gradient is each term's; not unless given.
    pub gradient_shares: bool,
    /// Only so many of the remaining training examples for the students, the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_limit: Option<usize>,
    /// What the student writes and learns from itself; nothing unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_policy: Option<OnPolicy>,
    /// Hidden states drawn to the teacher's; none unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<HiddenLoss>,
    /// Self-attention relations drawn to the teacher's; none unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relations: Vec<RelationLoss>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// The divergence that is named, with its numbers.
fn divergence(table: &Table<'_>) -> Result<Divergence, RecipeError> {
    let named = table.value(&DIVERGENCE)?;
    let numbers = divergence::Numbers {
        beta: table.get(&JSD_BETA)?,
        skew: table.get(&SKEWED_BY)?,
        taid_start: table.get(&TAID_START)?,
        dkd_alpha: table.get(&DKD_ALPHA)?,
        dkd_beta: table.get(&DKD_BETA)?,
    };
    numbers.of(named).map_err(|[key, problem]| table.conflict(key, problem))
}

impl Distil {
    pub(super) fn read(table: Option<Table<'_>>) -> Result<Self, RecipeError> {
        let Some(table) = table else { return Ok(Self::default()) };
        table.known(&[&DISTIL])?;
        let soft_weight = table.get(&SOFT_WEIGHT)?;
        let hard_weight = table.get(&HARD_WEIGHT)?;
        let given = table.get(&ALPHA)?;
        let share = match (soft_weight, hard_weight) {
            (Some(soft), Some(hard)) if soft + hard > 0.0 => Some(soft / (soft + hard)),
            (None, None) => None,
            (soft, _) => {
                let key = if soft.is_some() { "soft_weight" } else { "hard_weight" };
                let problem =
                    "`soft_weight` and `hard_weight` go together, and one of them is above 0";
                return Err(table.conflict(key, problem));
            }
        };
        if let (Some(share), Some(alpha)) = (share, given)
            && share != alpha
        {
            let problem = "`alpha` is the share of `soft_weight`: give it or both weights";
            return Err(table.conflict("alpha", problem));
        }
        Ok(Self {
            temperature: table.value(&SOFTENED_BY)?,
            alpha: share.or(given).map_or_else(|| table.value(&ALPHA), Ok)?,
            soft_weight,
            hard_weight,
            divergence: divergence(&table)?,
            standardise: table.value(&STANDARDISE)?,
            omit_classes: table.value(&OMIT_CLASSES)?,
            train_limit: table.get(&STUDENTS_LIMIT)?,
            gradient_shares: table.value(&GRADIENT_SHARES)?,
            on_policy: table
                .table(&ON_POLICY_TABLE)?
                .map(|table| OnPolicy::read(&table))
                .transpose()?,
            hidden: table
                .tables(&HIDDEN)?
                .iter()
                .map(HiddenLoss::read)
                .collect::<Result<_, _>>()?,
            relations: table
                .tables(&RELATIONS)?
                .iter()
                .map(RelationLoss::read)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Distil {
    /// Sum of the weights of the soft and the hard term.
    pub fn weight(&self) -> f32 {
        match (self.soft_weight, self.hard_weight) {
            (Some(soft), Some(hard)) => soft + hard,
            _ => 1.0,
        }
    }
}

/// T = 4, alpha = 0.9, nothing left out.
impl Default for Distil {
    fn default() -> Self {
        Self {
            temperature: 4.0,
            alpha: 0.9,
            soft_weight: None,
            hard_weight: None,
            divergence: Divergence::default(),
            standardise: false,
            omit_classes: Vec::new(),
            train_limit: None,
            gradient_shares: false,
            on_policy: None,
            hidden: Vec::new(),
            relations: Vec::new(),
        }
    }
}
