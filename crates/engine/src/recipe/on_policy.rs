//! `distil.on_policy`: what the student writes itself, in the place of texts that it is given.

use serde::Serialize;

use super::document::Table;
use super::error::RecipeError;
use super::key::{key, keys};
use super::rules::{FRACTION, POSITIVE_SHARE, SIZE, TEMPERATURE, WHOLE};

keys! {
    /// Steps in which the distilled student learns from what it writes itself, as the teacher sees it (GKD, Agarwal et al.
    /// 2024): a table with these keys. The next token is drawn from all that the student finds possible unless `top_k` or
    /// `top_p` say otherwise.
    ON_POLICY in "distil.on_policy";

    /// The share of such steps, drawn by the seed; the others take the given texts.
    STEPS_SHARE: f32 = key("fraction", FRACTION).or("0.5").like("0.5").also(&["lmbda", "on_policy_fraction"]);
    /// Softens what tokens are drawn by; the loss has its own `temperature`.
    DRAWN_AT: f32 = key("temperature", TEMPERATURE).or("1.0").like("0.9");
    /// Draws from so many of the likeliest tokens; 0 for all.
    FROM_LIKELIEST: usize = key("top_k", WHOLE).or("0").like("50");
    /// Draws from the likeliest tokens that have this probability together.
    FROM_MASS: f32 = key("top_p", POSITIVE_SHARE).or("1.0").like("0.95");
    /// At most so many tokens of a text; never more than those that count in the text whose place it takes.
    MOST_TOKENS: usize = key("max_tokens", SIZE)
        .otherwise("as many as the given text has")
        .like("64")
        .also(&["max_new_tokens", "max_completion_length"]);
    /// Of a text that is learnt from its first token on: so many are given to the student, of short ones half.
    GIVEN_TOKENS: usize = key("prompt_tokens", SIZE).or("16").like("16");
}

/// `distil.on_policy`: what the student writes itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct OnPolicy {
    /// Share of the steps that learn from it, in [0, 1]; 0.5 unless given.
    pub fraction: f32,
    /// Softens what tokens are drawn by; 1 unless given.
    pub temperature: f32,
    /// Number of the likeliest tokens that are drawn from; 0, for all, unless given.
    pub top_k: usize,
    /// Probability that those tokens have together; 1 unless given.
    pub top_p: f32,
    /// Most tokens of a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// Tokens that are given of a text that is learnt from its first one on; 16 unless given.
    pub prompt_tokens: usize,
}

impl OnPolicy {
    pub(super) fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        table.known(&[&ON_POLICY])?;
        Ok(Self {
            fraction: table.value(&STEPS_SHARE)?,
            temperature: table.value(&DRAWN_AT)?,
            top_k: table.value(&FROM_LIKELIEST)?,
            top_p: table.value(&FROM_MASS)?,
            max_tokens: table.get(&MOST_TOKENS)?,
            prompt_tokens: table.value(&GIVEN_TOKENS)?,
        })
    }
}
