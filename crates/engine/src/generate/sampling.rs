//! How next tokens are chosen.

use crate::kernels::sample;

/// How the next token is chosen. What is set acts in this order: the penalty on what was said, the temperature, the most
/// likely `top_k`, those that make up `top_p`, those at least `min_p` times as likely as the most likely one; as
/// transformers has them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// What logits are divided by; 0 takes the most likely token always.
    pub temperature: f32,
    /// The number of the most likely tokens that are left; 0 for all.
    pub top_k: usize,
    /// The probability that the most likely tokens that are left have together; 1 for all.
    pub top_p: f32,
    /// The share of the most likely token's probability that those that are left have at least; 0 for all.
    pub min_p: f32,
    /// What the logits of tokens that were read or said are divided by where they are positive, and multiplied by else; 1
    /// for nothing (Keskar et al., CTRL, 2019).
    pub repetition_penalty: f32,
    /// Seed: the same tokens for the same seed, prompt number and place.
    pub seed: u32,
}

/// The most likely token always.
impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
        }
    }
}

impl Sampling {
    /// The settings of one text, as [`sample::Sample`] has them.
    pub(super) fn settings(&self) -> [f32; sample::SETTINGS] {
        [self.temperature, self.top_p, self.min_p, self.repetition_penalty]
    }

    /// What tells the draws of text number `text`, as above.
    pub(super) fn draw(&self, text: u32) -> [i32; sample::DRAW] {
        let top_k = i32::try_from(self.top_k).unwrap_or(i32::MAX);
        [self.seed.cast_signed(), text.cast_signed(), top_k]
    }

    /// Whether it counts which tokens were said.
    pub(super) fn penalises(&self) -> bool {
        self.repetition_penalty != 1.0
    }
}
