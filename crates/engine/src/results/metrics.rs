//! What a pass over data measured.

use distil_gpu_kernels::distill_loss::TERMS;
use distil_gpu_kernels::loss_scale;
use serde::{Deserialize, Serialize};

use super::{Context, Scores};

/// Means over the rows that count; `None` where none did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// alpha · soft + (1 - alpha) · hard, or both by their weights; hard without a teacher.
    pub loss: f64,
    /// T² · KL to the teacher's softened answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft: Option<f64>,
    /// Cross-entropy with the true labels.
    pub hard: Option<f64>,
    /// Share of rows whose largest logit is the teacher's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
    /// Of a language model: mean entropy of its guesses, in nats.
    #[serde(skip)]
    pub entropy: Option<f64>,
    /// Of a causal language model, by how many tokens are before the one that is guessed.
    #[serde(skip)]
    pub contexts: Vec<Context>,
    /// What the task measures.
    #[serde(flatten)]
    pub scores: Scores,
}

/// How much of a gradient is each term's: norms of their own, with the terms' weights, over the sum of all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shares {
    /// Of the soft term.
    pub soft: f64,
    /// Of the hard term.
    pub hard: f64,
    /// Of the losses of features together, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<f64>,
}

/// The scale of a training's loss, so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// What the losses' gradients are multiplied by.
    pub scale: f32,
    /// Steps that were left out, as their gradients were beyond f16.
    pub left_out: u32,
}

impl Scale {
    /// Whether it cannot be halved once more: steps are left out for another reason than their gradients' size.
    pub fn is_spent(&self) -> bool {
        self.scale <= loss_scale::LEAST
    }

    pub(crate) fn of(state: [f32; loss_scale::LEN]) -> Self {
        Self { scale: state[loss_scale::SCALE], left_out: state[loss_scale::LEFT_OUT] as u32 }
    }
}

impl Shares {
    /// Of norms; absent where all are 0 or one is no number.
    pub fn of(soft: f64, hard: f64, features: Option<f64>) -> Option<Self> {
        let sum = soft + hard + features.unwrap_or(0.0);
        let share = |norm| norm / sum;
        let made = || Self { soft: share(soft), hard: share(hard), features: features.map(share) };
        (sum > 0.0 && sum.is_finite()).then(made)
    }
}

impl Metrics {
    /// With the loss multiplied by the sum of its terms' weights.
    pub fn weighed(self, weight: f32) -> Self {
        Self { loss: self.loss * f64::from(weight), ..self }
    }

    /// From the sums of the columns of a loss's terms. The share of rows that are right is the score of this key, if it
    /// is one.
    pub fn from_sums(sums: &[f32; TERMS], alpha: f32, right: Option<&str>) -> Self {
        let [soft, hard, correct, agrees, soft_rows, hard_rows] = sums.map(f64::from);
        let mean = |sum: f64, rows: f64| (rows > 0.0).then(|| sum / rows);
        let (soft, hard) = (mean(soft, soft_rows), mean(hard, hard_rows));
        let alpha = f64::from(alpha);
        let loss = match soft {
            Some(soft) => alpha * soft + (1.0 - alpha) * hard.unwrap_or(0.0),
            None => hard.unwrap_or(0.0),
        };
        let scores = Scores::default();
        let scores = match right {
            Some(key) => scores.with(key, mean(correct, hard_rows)),
            None => scores,
        };
        let agreement = mean(agrees, soft_rows);
        Self { loss, soft, hard, agreement, scores, ..Self::default() }
    }

    /// Where the soft term is reverse KL to equal chances of so many tokens: the entropy that this tells, and the rest without it.
    pub fn beside_uniform(self, tokens: usize) -> Self {
        let entropy = self.soft.map(|kl| (tokens as f64).ln() - kl);
        let loss = self.hard.unwrap_or(0.0);
        Self { loss, entropy, soft: None, agreement: None, ..self }
    }

    /// With what the answers tell.
    pub fn with_scores(self, scores: Scores) -> Self {
        Self { scores, ..self }
    }
}
