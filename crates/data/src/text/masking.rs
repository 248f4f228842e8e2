//! Masked language modelling: which tokens of a text a model is to guess, drawn anew in every epoch.
//!
//! Devlin, Chang, Lee and Toutanova, "BERT: Pre-training of deep bidirectional transformers for language
//! understanding" (NAACL 2019), section 3.1; masks that change with every epoch as in Liu et al., "RoBERTa" (2019),
//! section 4.1.

use distil_gpu_kernels::random::{self, stream};

use super::Tokenizer;
use crate::DataError;

/// Share of a text's tokens that are to be guessed.
const SHARE: f64 = 0.15;
/// Share of those that become the mask token.
const MASKED: f32 = 0.8;
/// Share of those that become the mask token or any other; the rest stay as they are.
const REPLACED: f32 = 0.9;

/// Tokens to be guessed of so many that may be: 15 %, but at least one.
fn count(tokens: usize) -> usize {
    ((tokens as f64 * SHARE).round() as usize).clamp(tokens.min(1), tokens)
}

/// The most tokens to be guessed of a text that has so many, special ones included. A batch has as many places for
/// each text, so that its shape does not depend on the draw.
pub fn most(length: usize) -> usize {
    count(length).max(1)
}

/// Draws the tokens to be guessed.
#[derive(Clone, Debug)]
pub struct Masking {
    mask: i32,
    /// Whether a token, by its number, may be guessed and be put for another.
    ordinary: Vec<bool>,
    /// The numbers of those.
    candidates: Vec<i32>,
}

/// A text of which some tokens are to be guessed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masked {
    /// The tokens that the model is given.
    pub given: Vec<i32>,
    /// Places of the tokens to be guessed, rising.
    pub places: Vec<usize>,
}

impl Masking {
    /// Draws for this tokenizer's tokens.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when it has no mask token, or only special ones.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let unfit = |problem: &str| {
            DataError::Unfit(format!("a masked language model cannot use the tokenizer: {problem}"))
        };
        let mask = tokenizer.mask().ok_or_else(|| unfit("it has no token `[MASK]` or `<mask>`"))?;
        let candidates = tokenizer.ordinary();
        let last = candidates.last().ok_or_else(|| unfit("all of its tokens are special"))?;
        let mut ordinary = vec![false; *last as usize + 1];
        candidates.iter().for_each(|&token| ordinary[token as usize] = true);
        Ok(Self { mask, ordinary, candidates })
    }

    /// Draws from the tokens of text number `row`: 15 % of those that are not special are chosen, at least one; of
    /// these 80 % become the mask token, 10 % any token that is not special, and 10 % stay. The same seed, epoch
    /// and row give the same.
    pub fn draw(&self, tokens: &[i32], seed: u32, epoch: u32, row: u32) -> Masked {
        let own = random::word(seed, stream::MASKING, epoch, row);
        let word = |which, place: usize| random::word(own, stream::MASKING, which, place as u32);
        let is_ordinary = |token: i32| {
            let known = usize::try_from(token).ok().and_then(|token| self.ordinary.get(token));
            known.copied().unwrap_or(false)
        };
        let mut places: Vec<usize> =
            (0..tokens.len()).filter(|&place| is_ordinary(tokens[place])).collect();
        let chosen = count(places.len());
        places.sort_by_key(|&place| (word(0, place), place));
        places.truncate(chosen);
        places.sort_unstable();
        let mut given = tokens.to_vec();
        for &place in &places {
            let fate = random::unit(word(1, place));
            if fate < MASKED {
                given[place] = self.mask;
            } else if fate < REPLACED {
                let count = self.candidates.len() as u64;
                given[place] =
                    self.candidates[((u64::from(word(2, place)) * count) >> 32) as usize];
            }
        }
        Masked { given, places }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokenizer::tests::tiny;
    use super::*;

    const WORD: i32 = 7;

    /// `[CLS]`, words, `[SEP]`.
    fn text(words: usize) -> Vec<i32> {
        let words = std::iter::repeat_n(WORD, words);
        std::iter::once(2).chain(words).chain([3]).collect()
    }

    #[test]
    fn chooses_and_replaces_the_given_shares() {
        let masking = Masking::new(&tiny()).unwrap();
        let (mut chosen, mut words) = (0.0, 0.0);
        let mut given = [0.0; 9];
        for row in 0..4000 {
            let text = text(1 + row as usize % 60);
            let masked = masking.draw(&text, 3, 5, row);
            assert!(masked.places.is_sorted() && masked.places.len() <= most(text.len()));
            assert!(!masked.places.is_empty());
            words += text.len() as f64 - 2.0;
            chosen += masked.places.len() as f64;
            masked.places.iter().for_each(|&place| given[masked.given[place] as usize] += 1.0);
            let changed = (0..text.len()).filter(|&place| text[place] != masked.given[place]);
            assert!(changed.into_iter().all(|place| masked.places.contains(&place)));
        }
        // Short texts round up to one.
        let share: f64 = chosen / words;
        assert!((share - SHARE).abs() < 0.01, "{share}");
        // Five standard deviations of a binomial count.
        let near = |count: f64, share: f64| {
            let limit = 5.0 * (chosen * share * (1.0 - share)).sqrt();
            assert!((count - chosen * share).abs() < limit, "{count} of {chosen}, not {share}");
        };
        near(given[8], 0.8);
        // Of four ordinary tokens, one in four of the random ones is the word itself.
        near(given[WORD as usize], 0.1 + 0.1 / 4.0);
        (4..7).for_each(|token| near(given[token], 0.1 / 4.0));
        assert_eq!(given[..4], [0.0; 4]);
    }

    #[test]
    fn seed_epoch_and_row_give_the_draw() {
        let masking = Masking::new(&tiny()).unwrap();
        let draw = |seed, epoch, row| masking.draw(&text(200), seed, epoch, row);
        assert_eq!(draw(3, 5, 7), draw(3, 5, 7));
        for other in [draw(4, 5, 7), draw(3, 6, 7), draw(3, 5, 8)] {
            assert_ne!(other.places, draw(3, 5, 7).places);
        }
    }

    #[test]
    fn special_tokens_are_left_alone() {
        let masking = Masking::new(&tiny()).unwrap();
        let special = [0, 1, 2, 3, 8, -1, 1000].repeat(100);
        let masked = masking.draw(&special, 1, 0, 0);
        assert_eq!((masked.given, masked.places), (special, Vec::new()));
    }

    #[test]
    fn a_tokenizer_without_a_mask_is_refused() {
        let json = tiny().json().replace("[MASK]", "[NONE]");
        let error = Masking::new(&Tokenizer::parse("t.json", json).unwrap()).unwrap_err();
        let wanted = "a masked language model cannot use the tokenizer: it has no token `[MASK]` or `<mask>`";
        assert_eq!(error.to_string(), wanted);
    }
}
