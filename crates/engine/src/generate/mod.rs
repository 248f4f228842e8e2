//! Texts that a model goes on with, token by token.
//!
//! Keys and values of what was read stay on the device, so that each token costs one step. Rows of unequal length lie side by
//! side without padding in front: each has its own positions and sees its own tokens.

mod sampling;
mod text;

use std::collections::BTreeMap;
use std::fmt;

use crate::device::{Device, HostTensor, ProgramId};
use crate::error::Error;
use crate::kernels::StepState;
use crate::layout::Layout;
use crate::models::decoder::{StepShape, step_names as names};
use crate::models::{Decoder, ModelConfig};
use crate::objective::frozen_store;
use crate::plan::Plan;
use crate::store::{Part, Storage, Store, StorePart};

pub use sampling::Sampling;
pub use text::{Continuation, End, Prompt, TextGenerator};

/// Tokens of a prompt that are read at once.
const CHUNK: usize = 64;

/// A model of next tokens on a device, with the keys and values of the texts that it has read.
pub struct Generator<'a> {
    device: &'a mut dyn Device,
    decoder: &'a Decoder,
    model: Store,
    cache: Store,
    /// Plans by the number of tokens that they read of each text.
    plans: BTreeMap<usize, (Plan, ProgramId)>,
    rows: usize,
    capacity: usize,
    /// Tokens that were read of each text.
    lengths: Vec<usize>,
}

impl fmt::Debug for Generator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, capacity, lengths, .. } = self;
        let mut debug = f.debug_struct("Generator");
        debug.field("rows", rows).field("capacity", capacity).field("lengths", lengths);
        debug.finish_non_exhaustive()
    }
}

impl<'a> Generator<'a> {
    /// Puts a model on a device, with room for so many texts of so many tokens.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when it guesses no next tokens or was made for fewer; when the device has no room.
    pub fn new(
        device: &'a mut dyn Device,
        config: &'a ModelConfig,
        values: &[Vec<f32>],
        storage: Storage,
        (rows, capacity): (usize, usize),
    ) -> Result<Self, Error> {
        let unsupported =
            |what: String, instead: &str| Error::Unsupported { what, instead: instead.to_owned() };
        let Some(decoder) = config.decoder() else {
            return Err(unsupported(
                "this model goes on with no text".to_owned(),
                "give a Llama, Mistral, Qwen or GPT-2",
            ));
        };
        let most = decoder.max_position_embeddings;
        if capacity > most {
            return Err(unsupported(
                format!(
                    "prompt and continuation are up to {capacity} tokens, and this model was made for {most}"
                ),
                "give a shorter prompt, or ask for fewer tokens",
            ));
        }
        let layout = decoder.cache_layout(rows, capacity)?;
        let model = frozen_store(device, config, values, storage)?;
        let cache = match Store::new(device, "keys and values", layout, &[Part::Parameters], 0) {
            Ok(cache) => cache,
            Err(error) => {
                model.free(device);
                return Err(error);
            }
        };
        let (plans, lengths) = (BTreeMap::new(), vec![0; rows]);
        Ok(Self { device, decoder, model, cache, plans, rows, capacity, lengths })
    }

    /// Texts.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Tokens that were read of each text.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Forgets what was read.
    pub fn clear(&mut self) {
        self.lengths.fill(0);
    }

    /// The plan that reads so many tokens of each text.
    ///
    /// # Errors
    /// When the device refuses it.
    fn program(&mut self, length: usize) -> Result<ProgramId, Error> {
        if let Some((_, program)) = self.plans.get(&length) {
            return Ok(*program);
        }
        let shape = StepShape { rows: self.rows, length, capacity: self.capacity };
        let plan = self.decoder.step_plan(self.model.layout.clone(), shape)?;
        let stores = [&self.model, &self.cache];
        let place = |at: StorePart| stores.get(at.store)?.buffer(at.part, at.segment);
        let program = self.device.load(&plan, &place)?;
        self.plans.insert(length, (plan, program));
        Ok(program)
    }

    /// Reads these tokens behind those that were read of each text, none of some. Logits [rows, vocab_size] of what follows
    /// each text's last token; of a text of which nothing is read now, what `before` has, or zeros.
    ///
    /// # Errors
    /// When there are more tokens than there is room for, or the device fails.
    ///
    /// # Panics
    /// When there are more lists than texts.
    pub fn read(&mut self, tokens: &[&[i32]]) -> Result<Vec<f32>, Error> {
        assert_eq!(tokens.len(), self.rows, "a list of tokens for each text");
        let vocabulary = self.decoder.vocab_size;
        let mut logits = vec![0.0; self.rows * vocabulary];
        let longest = tokens.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        if let Some(row) =
            (0..self.rows).find(|&r| self.lengths[r] + tokens[r].len() > self.capacity)
        {
            return Err(Error::Unsupported {
                what: format!(
                    "text {row} becomes longer than the {} tokens that there is room for",
                    self.capacity
                ),
                instead: "ask for fewer tokens".to_owned(),
            });
        }
        for start in (0..longest).step_by(CHUNK) {
            let parts: Vec<&[i32]> = tokens
                .iter()
                .map(|tokens| &tokens[start.min(tokens.len())..(start + CHUNK).min(tokens.len())])
                .collect();
            let made = self.step(&parts)?;
            for (row, part) in parts.iter().enumerate().filter(|(_, part)| !part.is_empty()) {
                let range = row * vocabulary..(row + 1) * vocabulary;
                logits[range.clone()].copy_from_slice(&made[range]);
                self.lengths[row] += part.len();
            }
        }
        Ok(logits)
    }

    fn step(&mut self, parts: &[&[i32]]) -> Result<Vec<f32>, Error> {
        let longest = parts.iter().map(|part| part.len()).max().unwrap_or(0);
        let length = if longest == 1 { 1 } else { longest.next_power_of_two().clamp(8, CHUNK) };
        let program = self.program(length)?;
        let count = self.rows * length;
        let [mut tokens, mut places] = [0, 0].map(|_| vec![-1; count]);
        let mut positions = vec![0; count];
        let mut last = vec![0; self.rows];
        let window = self.decoder.windows.iter().flatten().next().copied();
        let [mut ranges, mut near] = [0, 0].map(|_| vec![0; 2 * count]);
        for (row, part) in parts.iter().enumerate() {
            let known = self.lengths[row];
            for at in 0..length {
                let (place, position) = (row * length + at, known + at);
                // What is behind the part is made of nothing and seen by nobody; its own range only has to rise.
                let end = (position + 1).min(self.capacity);
                ranges[2 * place + 1] = end as i32;
                let first = window.map_or(0, |window| end.saturating_sub(window));
                (near[2 * place], near[2 * place + 1]) = (first as i32, end as i32);
                if let Some(&token) = part.get(at) {
                    tokens[place] = token;
                    positions[place] = position as i32;
                    places[place] = (row * self.capacity + position) as i32;
                }
            }
            last[row] = (row * length + part.len().saturating_sub(1)) as i32;
        }
        let all = [
            (names::TOKENS, &tokens),
            (names::POSITIONS, &positions),
            (names::PLACES, &places),
            (names::RANGES, &ranges),
            (names::NEAR_RANGES, &near),
            (names::LAST, &last),
        ];
        let plan = &self.plans[&length].0;
        let inputs: Vec<(&str, HostTensor<'_>)> = all
            .into_iter()
            .filter(|(name, _)| plan.input(name).is_some())
            .map(|(name, values)| (name, HostTensor::I32(values)))
            .collect();
        self.device.run(program, &StepState::default(), &inputs)?;
        self.device.output(program, names::LOGITS)
    }

    /// Bytes of keys and values.
    pub fn cache_bytes(&self) -> u64 {
        let layout: &Layout = &self.cache.layout;
        4 * layout.parameter_count() as u64
    }
}

impl Drop for Generator<'_> {
    fn drop(&mut self) {
        for (_, program) in std::mem::take(&mut self.plans).into_values() {
            self.device.unload(program);
        }
        for store in [&mut self.model, &mut self.cache] {
            store.release(self.device);
        }
    }
}
