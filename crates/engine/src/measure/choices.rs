//! Which of several choices a causal language model finds likeliest, as lm-evaluation-harness measures it.

use serde::Serialize;

use crate::data::text::{ChoiceQuestion, PackedDocuments};
use crate::data::{DataError, Examples};
use crate::device::Device;
use crate::error::Error;
use crate::measure::Evaluator;
use crate::models::{BatchEncoder, Input, ModelConfig};
use crate::store::Store;

/// What was measured of questions of several choices.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ChoiceScores {
    /// Questions.
    pub questions: usize,
    /// The share of which the likeliest choice is the right one.
    pub acc: f64,
    /// Standard error of `acc`.
    pub acc_stderr: f64,
    /// The same, by the likelihood of each choice divided by its number of characters, the blank in front not counted.
    pub acc_norm: f64,
    /// Standard error of `acc_norm`.
    pub acc_norm_stderr: f64,
}

/// Asks a model these questions.
///
/// # Errors
/// When the model reads no documents, a choice has no room, or the device fails.
pub fn choices(
    device: &mut dyn Device,
    (config, store): (&ModelConfig, &Store),
    questions: &[ChoiceQuestion],
) -> Result<ChoiceScores, Error> {
    let Input::Tokens(tokens) = &config.input else {
        return Err(DataError::Unfit("the model reads no texts".to_owned()).into());
    };
    let rows = PackedDocuments::of_choices(questions, tokens.tokenizer()?, tokens.max_length)?;
    let examples = Examples::from(rows);
    let feed = BatchEncoder::new(&config.input, &examples)?;
    let mut evaluator = Evaluator::new(config, store);
    let mut likelihoods = vec![0.0; feed.len()];
    evaluator.token_losses(device, &feed, &mut |row, losses| {
        likelihoods[row as usize] = -losses.iter().copied().map(f64::from).sum::<f64>();
    })?;
    evaluator.close(device);
    Ok(scores(questions, &likelihoods))
}

/// Of the logarithms of the choices' likelihoods, those of each question behind those of the one before.
fn scores(questions: &[ChoiceQuestion], likelihoods: &[f64]) -> ChoiceScores {
    let (mut right, mut right_by_length, mut next) = (0, 0, 0);
    for ChoiceQuestion { choices, gold, .. } in questions {
        let own = &likelihoods[next..next + choices.len()];
        next += choices.len();
        let by_length: Vec<f64> = own
            .iter()
            .zip(choices)
            .map(|(likelihood, choice)| likelihood / choice.chars().count() as f64)
            .collect();
        right += usize::from(first_of_most(own) == *gold);
        right_by_length += usize::from(first_of_most(&by_length) == *gold);
    }
    let count = questions.len();
    let share = |right: usize| right as f64 / count as f64;
    let (acc, acc_norm) = (share(right), share(right_by_length));
    // Of the sample's variance, which divides by one less.
    let error = |share: f64| match count {
        0 | 1 => 0.0,
        _ => (share * (1.0 - share) / (count - 1) as f64).sqrt(),
    };
    let (acc_stderr, acc_norm_stderr) = (error(acc), error(acc_norm));
    ChoiceScores { questions: count, acc, acc_stderr, acc_norm, acc_norm_stderr }
}

fn first_of_most(values: &[f64]) -> usize {
    (1..values.len()).fold(0, |best, at| if values[at] > values[best] { at } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_count_by_likelihood_and_by_length() {
        let question = |gold| ChoiceQuestion {
            context: String::new(),
            choices: vec!["ab".to_owned(), "abcdefgh".to_owned()],
            gold,
        };
        // The first is likelier, the second likelier a character; then the first both ways.
        let found =
            scores(&[question(0), question(1), question(0)], &[-2.0, -4.0, -2.0, -4.0, -1.0, -9.0]);
        assert_eq!((found.acc, found.acc_norm), (2.0 / 3.0, 2.0 / 3.0));
        assert!((found.acc_stderr - (2.0_f64 / 9.0 / 2.0).sqrt()).abs() < 1e-12);
        let one = scores(&[question(1)], &[-2.0, -4.0]);
        assert_eq!((one.acc, one.acc_norm, one.acc_stderr), (0.0, 1.0, 0.0));
    }
}
