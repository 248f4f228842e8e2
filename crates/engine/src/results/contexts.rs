//! What a causal language model's guesses are worth, by how much of the text it has seen.

use distil_gpu_kernels::distill_loss::TERMS;
use serde::{Deserialize, Serialize};

/// Tokens that have so many others before them, and what is guessed of them. Means are over the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// The fewest tokens before the one that is guessed.
    pub from: usize,
    /// The most.
    pub to: usize,
    /// Tokens that are guessed.
    pub tokens: usize,
    /// Negative log-likelihood, in nats.
    pub cross_entropy: f64,
    /// Share of which the likeliest guess is right.
    pub accuracy: f64,
    /// KL to the teacher's guesses, in nats, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// Share of which the likeliest guess is the teacher's, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<f64>,
}

/// Sums of the terms of a loss by length of context: below 16, then from each power of two to the next.
#[derive(Debug, Default)]
pub struct Contexts {
    sums: Vec<(usize, [f64; TERMS])>,
    /// Whether there is a teacher.
    taught: bool,
}

/// Contexts of fewer tokens than this are one group.
const SHORTEST: usize = 16;

impl Contexts {
    /// Adds tokens with so many before them, and their rows of terms.
    pub fn add(&mut self, contexts: &[usize], terms: &[f32], taught: bool) {
        self.taught = taught;
        for (&context, terms) in contexts.iter().zip(terms.chunks_exact(TERMS)) {
            let group = (context / SHORTEST).checked_ilog2().map_or(0, |power| power as usize + 1);
            if self.sums.len() <= group {
                self.sums.resize(group + 1, (0, [0.0; TERMS]));
            }
            let (count, sums) = &mut self.sums[group];
            *count += 1;
            sums.iter_mut().zip(terms).for_each(|(sum, &term)| *sum += f64::from(term));
        }
    }

    /// The groups in which there are tokens.
    pub fn means(&self) -> Vec<Context> {
        let groups = self.sums.iter().enumerate().filter(|(_, (count, _))| *count > 0);
        let mean = |(group, &(tokens, sums)): (usize, &(usize, [f64; TERMS]))| {
            let [kl, cross_entropy, accuracy, agreement, ..] = sums.map(|sum| sum / tokens as f64);
            let from = group.checked_sub(1).map_or(1, |power| SHORTEST << power);
            let to = (SHORTEST << group) - 1;
            let (kl, agreement) = match self.taught {
                true => (Some(kl), Some(agreement)),
                false => (None, None),
            };
            Context { from, to, tokens, cross_entropy, accuracy, kl, agreement }
        };
        groups.map(mean).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_grouped_by_powers_of_two() {
        let mut contexts = Contexts::default();
        let lengths = [1, 15, 16, 31, 32, 100];
        let terms: Vec<f32> =
            (0..6).flat_map(|i| [0.5, i as f32, f32::from(i % 2 == 0), 1.0, 1.0, 1.0]).collect();
        contexts.add(&lengths, &terms, true);
        let found = contexts.means();
        let groups: Vec<_> = found.iter().map(|one| (one.from, one.to, one.tokens)).collect();
        assert_eq!(groups, [(1, 15, 2), (16, 31, 2), (32, 63, 1), (64, 127, 1)]);
        assert_eq!((found[1].cross_entropy, found[1].accuracy), (2.5, 0.5));
        assert_eq!((found[1].kl, found[1].agreement), (Some(0.5), Some(1.0)));
        let mut alone = Contexts::default();
        alone.add(&lengths, &terms, false);
        assert_eq!((alone.means()[0].kl, alone.means()[0].agreement), (None, None));
        assert!(Contexts::default().means().is_empty());
    }
}
