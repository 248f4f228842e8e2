//! The choice of the next token.

use crate::kernels::random::{unit, word};

/// Stream of the random numbers that choose tokens.
const STREAM: u32 = 0x5a4d;

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
    /// The next token of text number `row`, which has `before`, by these logits. Of several that are equally likely the
    /// first.
    pub fn choose(&self, logits: &[f32], before: &[i32], row: u32) -> i32 {
        let mut logits: Vec<f32> = logits.to_vec();
        if self.repetition_penalty != 1.0 {
            let mut said: Vec<usize> =
                before.iter().filter_map(|&token| usize::try_from(token).ok()).collect();
            said.sort_unstable();
            said.dedup();
            for token in said {
                if let Some(logit) = logits.get_mut(token) {
                    let penalty = self.repetition_penalty;
                    *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
                }
            }
        }
        if self.temperature == 0.0 {
            return largest(&logits);
        }
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let descending =
            |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        if (1..order.len()).contains(&self.top_k) {
            order.select_nth_unstable_by(self.top_k - 1, descending);
            order.truncate(self.top_k);
        }
        order.sort_unstable_by(descending);
        let top = f64::from(logits[order[0] as usize]);
        let weight = |&token: &u32| {
            ((f64::from(logits[token as usize]) - top) / f64::from(self.temperature)).exp()
        };
        let mut weights: Vec<f64> = order.iter().map(weight).collect();
        let total: f64 = weights.iter().sum();
        let mut left = weights.len();
        if self.top_p < 1.0 {
            let mut sum = 0.0;
            // The one that reaches the sum is the last.
            let reached = weights.iter().position(|weight| {
                sum += weight / total;
                sum >= f64::from(self.top_p)
            });
            left = reached.map_or(left, |last| last + 1);
        }
        let likely = weights.iter().take_while(|weight| **weight >= f64::from(self.min_p)).count();
        weights.truncate(left.min(likely).max(1));
        let total: f64 = weights.iter().sum();
        let point = f64::from(unit(word(self.seed, STREAM, row, before.len() as u32))) * total;
        let mut sum = 0.0;
        let chosen = weights.iter().position(|weight| {
            sum += weight;
            sum > point
        });
        order[chosen.unwrap_or(weights.len() - 1)] as i32
    }
}

/// The place of the largest number; of several the first, 0 of none.
fn largest(values: &[f32]) -> i32 {
    let mut best = 0;
    for (at, value) in values.iter().enumerate() {
        if *value > values[best] || values[best].is_nan() {
            best = at;
        }
    }
    best as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, 3.0, -1.0];

    /// How often each token is chosen.
    fn counts(sampling: Sampling, draws: usize) -> [usize; 5] {
        let mut counts = [0; 5];
        for at in 0..draws {
            counts[sampling.choose(&LOGITS, &vec![0; at], 3) as usize] += 1;
        }
        counts
    }

    #[test]
    fn the_most_likely_is_taken_without_a_temperature() {
        assert_eq!(counts(Sampling::default(), 5), [0, 5, 0, 0, 0]);
        let penalised = Sampling { repetition_penalty: 2.0, ..Sampling::default() };
        assert_eq!(penalised.choose(&LOGITS, &[1, 1], 0), 3);
        assert_eq!(penalised.choose(&LOGITS, &[1, 3, 2], 0), 1);
        assert_eq!(penalised.choose(&[-1.0, -1.5], &[0], 0), 1);
    }

    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        let sampling = Sampling { temperature: 2.0, seed: 5, ..Sampling::default() };
        let weights = LOGITS.map(|logit| f64::from(logit / 2.0).exp());
        let total: f64 = weights.iter().sum();
        for (count, weight) in counts(sampling, 4000).iter().zip(weights) {
            let share = *count as f64 / 4000.0;
            assert!((share - weight / total).abs() < 0.03, "{share}, not {}", weight / total);
        }
        assert_eq!(counts(sampling, 100), counts(sampling, 100));
        assert_ne!(counts(sampling, 100), counts(Sampling { seed: 6, ..sampling }, 100));
    }

    #[test]
    fn the_unlikely_are_left_out() {
        let warm = Sampling { temperature: 1.0, ..Sampling::default() };
        for (sampling, left) in [
            (Sampling { top_k: 2, ..warm }, [false, true, false, true, false]),
            (Sampling { top_k: 1, ..warm }, [false, true, false, false, false]),
            // 0.40, 0.40, 0.15, 0.05, 0.01
            (Sampling { top_p: 0.3, ..warm }, [false, true, false, false, false]),
            (Sampling { top_p: 0.85, ..warm }, [false, true, true, true, false]),
            (Sampling { min_p: 0.2, ..warm }, [false, true, true, true, false]),
            (Sampling { min_p: 1.0, ..warm }, [false, true, false, true, false]),
        ] {
            let found = counts(sampling, 500).map(|count| count > 0);
            assert_eq!(found, left, "{sampling:?}");
        }
    }
}
