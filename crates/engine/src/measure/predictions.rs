//! What language models guess of some masked tokens of the test set, for the page of a run.

use std::collections::BTreeSet;

use crate::data::Tokenizer;
use crate::device::Device;
use crate::error::Error;
use crate::measure::Evaluator;
use crate::models::{BatchEncoder, BatchShape, Draw, Input, ModelConfig};
use crate::results::{Guess, GuessedText, Guesses};
use crate::store::Store;

/// Texts that are shown, at most.
const TEXTS: usize = 12;
/// Guesses of each model.
const GUESSES: usize = 3;
/// Tokens that are shown before the masked one, and behind it.
const AROUND: usize = 24;

/// A masked token that is shown.
pub(crate) struct Chosen {
    row: u32,
    place: usize,
    /// Which of the text's tokens to be guessed it is.
    which: usize,
}

/// Guesses of all chosen tokens, the likeliest first: token and probability.
pub(crate) type Likeliest = Vec<Vec<(usize, f64)>>;

/// Texts of all lengths, of each the first token that was replaced by the mask token.
pub(crate) fn choose(data: &BatchEncoder<'_>, tokenizer: &Tokenizer) -> Vec<Chosen> {
    let mut rows = data.sample(TEXTS);
    rows.sort_unstable();
    rows.dedup();
    let choose = |row: u32| {
        let masked = data.masked(row, Draw::FIXED)?;
        let is_hidden = |place: &usize| Some(masked.given[*place]) == tokenizer.mask();
        let which = masked.places.iter().position(is_hidden)?;
        Some(Chosen { row, place: masked.places[which], which })
    };
    rows.into_iter().filter_map(choose).collect()
}

/// The tokenizer of a language model; none of other models.
pub(crate) fn tokenizer(config: &ModelConfig) -> Option<&Tokenizer> {
    match &config.input {
        Input::Tokens(tokens) if config.input.masks() => tokens.tokenizer.as_deref(),
        _ => None,
    }
}

/// The shapes of the batches that are read for them: a text each.
pub(crate) fn shapes(config: &ModelConfig, data: &BatchEncoder<'_>) -> BTreeSet<BatchShape> {
    let chosen = tokenizer(config).map_or(Vec::new(), |tokenizer| choose(data, tokenizer));
    chosen.iter().map(|one| data.shape(&[one.row], 1)).collect()
}

/// What a model guesses of the chosen tokens; nothing if it is no language model.
pub(crate) fn guess(
    device: &mut dyn Device,
    (config, store): (&ModelConfig, &Store),
    data: &BatchEncoder<'_>,
) -> Result<Likeliest, Error> {
    let Some(tokenizer) = tokenizer(config) else { return Ok(Vec::new()) };
    let chosen = choose(data, tokenizer);
    let rows: Vec<u32> = chosen.iter().map(|one| one.row).collect();
    let mut evaluator = Evaluator::new(config, store);
    let mut guesses = Vec::new();
    evaluator.masked_logits(device, data, &rows, &mut |at, logits| {
        let vocab = config.answers();
        guesses.push(likeliest(&logits[chosen[at].which * vocab..][..vocab]));
    })?;
    evaluator.close(device);
    Ok(guesses)
}

/// The likeliest tokens by their logits, with their probabilities; of equals, the first.
fn likeliest(logits: &[f32]) -> Vec<(usize, f64)> {
    let most = logits.iter().fold(f64::NEG_INFINITY, |most, &z| most.max(f64::from(z)));
    let weight = |z: f32| (f64::from(z) - most).exp();
    let sum: f64 = logits.iter().map(|&z| weight(z)).sum();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    let by = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
    if order.len() > GUESSES {
        order.select_nth_unstable_by(GUESSES, by);
        order.truncate(GUESSES);
    }
    order.sort_unstable_by(by);
    order.into_iter().map(|token| (token, weight(logits[token]) / sum)).collect()
}

/// The guesses of teacher, student alone and distilled student, in words.
///
/// # Errors
/// When tokens cannot be turned into text.
pub(crate) fn in_words(
    config: &ModelConfig,
    data: &BatchEncoder<'_>,
    models: [&Likeliest; 3],
) -> Result<Option<Guesses>, Error> {
    let Some(tokenizer) = tokenizer(config) else { return Ok(None) };
    let mut texts = Vec::new();
    for (at, Chosen { row, place, .. }) in choose(data, tokenizer).into_iter().enumerate() {
        let (tokens, _) = data.tokens().row(row as usize);
        let Some(masked) = data.masked(row, Draw::FIXED) else { continue };
        let own = tokens[place];
        let words = |model: &Likeliest| {
            let word = |&(token, probability): &(usize, f64)| {
                let token = token as i32;
                let text = tokenizer.decode(&[token])?;
                let probability = (probability * 1e4).round() / 1e4;
                Ok::<_, Error>(Guess { token: text, right: token == own, probability })
            };
            model.get(at).into_iter().flatten().map(word).collect::<Result<Vec<_>, _>>()
        };
        let [teacher, control, distilled] = models.map(words);
        // The first and the last token are special.
        let (first, last) = (1.max(place.saturating_sub(AROUND)), tokens.len() - 1);
        let end = last.min(place + 1 + AROUND);
        let before = tokenizer.decode(&masked.given[first.min(place)..place])?;
        let after = tokenizer.decode(&masked.given[place + 1..end.max(place + 1)])?;
        let ellipsis = |cut: bool| if cut { "…" } else { "" };
        texts.push(GuessedText {
            index: row as usize,
            before: format!("{}{before}", ellipsis(first > 1)),
            after: format!("{after}{}", ellipsis(end < last)),
            token: tokenizer.decode(&[own])?,
            teacher: teacher?,
            control: control?,
            distilled: distilled?,
        });
    }
    Ok(Some(Guesses { texts }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_first() {
        let found = likeliest(&[0.0, 2.0, -1.0, 2.0, 1.0]);
        let places: Vec<usize> = found.iter().map(|(token, _)| *token).collect();
        assert_eq!(places, [1, 3, 4]);
        let sum = 1.0 + 2.0 * 2.0_f64.exp() + (-1.0_f64).exp() + 1.0_f64.exp();
        assert!((found[2].1 - 1.0_f64.exp() / sum).abs() < 1e-12);
        assert_eq!(likeliest(&[1000.0, -1000.0]), [(0, 1.0), (1, 0.0)]);
    }
}
