//! Texts that a student writes itself, in the place of given ones (on-policy distillation; GKD, Agarwal et al. 2024).
//!
//! A text goes on from what of a given one is not learnt, and has at most as many tokens as are. So batches of them have the
//! shapes of batches of given texts.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Decoding, Job, Sampling};
use crate::data::text::{ChatTemplate, DocumentEncoder, LossOn, Tokenizer};
use crate::device::{Device, ProgramId};
use crate::error::Error;
use crate::layout::Layout;
use crate::models::decoder::Room;
use crate::models::{BatchEncoder, Input, ModelConfig};
use crate::plan::Plan;
use crate::recipe::OnPolicy;
use crate::store::Store;

/// Tokens of each text that are chosen before the host looks: texts that end in between cost their steps to the last.
const AT_ONCE: usize = 8;

/// The plans that write texts, and how many of what length they have room for.
#[derive(Debug)]
pub(crate) struct WritingPlans {
    pub room: Room,
    /// How keys and values lie.
    pub cache: Layout,
    pub plans: BTreeMap<Job, Plan>,
}

impl WritingPlans {
    /// Of a model whose parameters lie so, and `rows` texts side by side; nothing where it guesses no next tokens.
    ///
    /// # Errors
    /// When keys and values are too large for any device.
    pub fn new(
        config: &ModelConfig,
        parameters: &Layout,
        rows: usize,
    ) -> Result<Option<Self>, Error> {
        let (Some(decoder), Input::Tokens(tokens)) = (config.decoder(), &config.input) else {
            return Ok(None);
        };
        let longest = tokens.max_length;
        let room = Room { rows, capacity: longest + AT_ONCE, said: false };
        let cache = decoder.cache_layout(room)?;
        let plan = |job: Job| Ok::<_, Error>((job, job.plan(decoder, parameters, room)?));
        let plans = Job::all(longest.saturating_sub(2), AT_ONCE).into_iter().map(plan);
        Ok(Some(Self { room, cache, plans: plans.collect::<Result<_, _>>()? }))
    }
}

/// A text: what is given of it, and what the student goes on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    /// All of its tokens.
    pub tokens: Vec<i32>,
    /// How many of them are given.
    pub prompt: usize,
    /// Tokens that it may still have.
    left: usize,
}

impl Text {
    /// The beginning of a given text, of which these tokens count.
    fn new(how: &OnPolicy, ids: &[i32], counts: &[bool]) -> Self {
        let counted = counts.iter().skip(1).filter(|&&counts| counts).count();
        let first = counts.iter().skip(1).position(|&counts| counts).map(|at| at + 1);
        let prompt = match first {
            None => ids.len(),
            Some(1) => how.prompt_tokens.min(ids.len() / 2).max(1),
            Some(first) => first,
        };
        let left = counted.min(ids.len() - prompt).min(how.max_tokens.unwrap_or(usize::MAX));
        Self { tokens: ids[..prompt].to_vec(), prompt, left }
    }

    fn push(&mut self, token: i32, stops: &[i32]) {
        self.tokens.push(token);
        self.left = if stops.contains(&token) { 0 } else { self.left - 1 };
    }
}

/// Writes texts.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    how: &'a OnPolicy,
    decoding: Decoding<'a>,
    tokenizer: &'a Tokenizer,
    stops: Vec<i32>,
    sampling: Sampling,
}

impl<'a> Writer<'a> {
    /// A writer with these plans, which `load` puts on the device.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when the model guesses no next tokens; when the device has no room.
    pub fn new(
        device: &mut dyn Device,
        (config, store): (&'a ModelConfig, &Store),
        how: &'a OnPolicy,
        plans: Option<&WritingPlans>,
        mut load: impl FnMut(&mut dyn Device, &Plan, &Store) -> Result<ProgramId, Error>,
    ) -> Result<Self, Error> {
        let (Some(decoder), Input::Tokens(tokens), Some(plans)) =
            (config.decoder(), &config.input, plans)
        else {
            return Err(Error::Unsupported {
                what: "a student that guesses no next tokens writes no texts".to_owned(),
                instead: "leave `distil.on_policy` out".to_owned(),
            });
        };
        let tokenizer = tokens.tokenizer()?;
        let template = ChatTemplate::of(tokenizer)?;
        let stops = DocumentEncoder::new(tokenizer, template, LossOn::default())?.stops()?;
        let mut decoding = Decoding::new(device, decoder, store.layout.clone(), plans.room)?;
        for (&job, plan) in &plans.plans {
            match load(device, plan, decoding.cache()) {
                Ok(program) => decoding.lend(job, plan.clone(), program),
                Err(error) => {
                    decoding.release(device);
                    return Err(error);
                }
            }
        }
        let OnPolicy { temperature, top_k, top_p, .. } = *how;
        let sampling = Sampling { temperature, top_k, top_p, ..Sampling::default() };
        Ok(Self { how, decoding, tokenizer, stops, sampling })
    }

    /// How texts are written.
    pub fn how(&self) -> &OnPolicy {
        self.how
    }

    /// Writes texts in the place of these examples, which for each are as many as documents lie in it. Tokens are drawn by the
    /// seed, each text's by its number.
    ///
    /// # Errors
    /// When the device fails, or logits are no numbers.
    pub fn write(
        &mut self,
        device: &mut dyn Device,
        store: &Store,
        (feed, examples): (&BatchEncoder<'_>, &[u32]),
        seed: u32,
    ) -> Result<Vec<Vec<Text>>, Error> {
        let text = |(ids, counts): (&[i32], &[bool])| Text::new(self.how, ids, counts);
        let (mut texts, mut counts) = (Vec::new(), Vec::new());
        for &example in examples {
            let before = texts.len();
            texts.extend(feed.pieces(example as usize).map(text));
            counts.push(texts.len() - before);
        }
        self.sampling.seed = seed;
        // Those that become about as long go side by side.
        let mut order: Vec<usize> = (0..texts.len()).filter(|&at| texts[at].left > 0).collect();
        order.sort_by_key(|&at| Reverse(texts[at].left));
        let Self { decoding, stops, sampling, .. } = self;
        for together in order.chunks(decoding.room().rows) {
            let given: Vec<Vec<i32>> =
                together.iter().map(|&at| texts[at].tokens.clone()).collect();
            let prompts: Vec<&[i32]> = given.iter().map(Vec::as_slice).collect();
            let numbers: Vec<u32> = together.iter().map(|&at| at as u32).collect();
            let how = (&*sampling, AT_ONCE);
            decoding.go_on((device, store), (&prompts, &numbers), how, &mut |row, token| {
                let text = &mut texts[together[row]];
                text.push(token, stops);
                Ok(text.left > 0)
            })?;
        }
        let mut texts = texts.into_iter();
        Ok(counts.into_iter().map(|count| texts.by_ref().take(count).collect()).collect())
    }

    /// A text in words: what was given, and what the student went on with.
    ///
    /// # Errors
    /// When the tokenizer has no such token.
    pub fn in_words(&self, text: &Text) -> Result<[String; 2], Error> {
        let (given, own) = text.tokens.split_at(text.prompt);
        Ok([self.tokenizer.decode(given)?, self.tokenizer.decode(own)?])
    }

    /// Gives back what it has on the device.
    pub fn close(mut self, device: &mut dyn Device) {
        self.decoding.release(device);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOW: OnPolicy = OnPolicy {
        fraction: 0.25,
        temperature: 1.0,
        top_k: 0,
        top_p: 1.0,
        max_tokens: None,
        prompt_tokens: 3,
    };

    #[test]
    fn a_text_goes_on_from_what_is_not_learnt() {
        let ids: Vec<i32> = (0..10).collect();
        let counts = |range: std::ops::Range<usize>| -> Vec<bool> {
            (0..10).map(|at| range.contains(&at)).collect()
        };
        let of = |how: &OnPolicy, counts: &[bool]| {
            let Text { tokens, prompt, left } = Text::new(how, &ids, counts);
            assert_eq!(tokens, ids[..prompt]);
            (prompt, left)
        };
        // A prompt and its completion; two answers of a chat; a text that is learnt whole; one of which nothing is.
        assert_eq!(of(&HOW, &counts(4..10)), (4, 6));
        assert_eq!(of(&HOW, &counts(4..6)), (4, 2));
        assert_eq!(of(&HOW, &counts(1..10)), (3, 7));
        assert_eq!(of(&HOW, &counts(0..10)), (3, 7));
        assert_eq!(of(&OnPolicy { prompt_tokens: 16, ..HOW }, &counts(0..10)), (5, 5));
        assert_eq!(of(&OnPolicy { max_tokens: Some(2), ..HOW }, &counts(0..10)), (3, 2));
        assert_eq!(of(&HOW, &counts(0..0)), (10, 0));
        assert_eq!(Text::new(&HOW, &[7], &[true]).left, 0);
        assert_eq!(Text::new(&HOW, &[7, 8], &[true; 2]).left, 1);
    }

    #[test]
    fn a_text_ends_at_a_stop() {
        let mut text = Text::new(&HOW, &[5; 9], &[true; 9]);
        text.push(1, &[2]);
        assert_eq!(text.left, 5);
        text.push(2, &[2]);
        assert_eq!((text.left, &*text.tokens), (0, &[5, 5, 5, 1, 2][..]));
    }
}
