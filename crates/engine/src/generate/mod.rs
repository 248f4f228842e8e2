//! Texts that a model goes on with, token by token.
//!
//! Keys and values of what was read stay on the device, so that each token costs one step. Rows of unequal length lie side by
//! side without padding in front: each has its own positions and sees its own tokens.

mod sampling;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::device::{Device, HostTensor, ProgramId};
use crate::error::Error;
use crate::kernels::{StepState, sample};
use crate::layout::Layout;
use crate::models::decoder::{MOST_CHOSEN, Room, step_names as names};
use crate::models::{Decoder, ModelConfig};
use crate::objective::Parameters;
use crate::plan::Plan;
use crate::store::{Part, Store, StorePart, Stored};

pub use sampling::Sampling;
pub use text::{Continuation, End, Prompt, TextGenerator};

/// Tokens of a prompt that are read at once.
const CHUNK: usize = 64;

/// What a plan does with each text's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Job {
    /// Reads so many.
    Read(usize),
    /// Reads one and chooses so many.
    Write(usize),
}

/// A model of next tokens on a device, with the keys and values of the texts that it has read.
pub struct Generator<'a> {
    device: &'a mut dyn Device,
    decoder: &'a Decoder,
    model: Store,
    cache: Store,
    plans: BTreeMap<Job, (Plan, ProgramId)>,
    room: Room,
    /// Tokens that were read of each text.
    lengths: Vec<usize>,
}

impl fmt::Debug for Generator<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { room, lengths, .. } = self;
        let mut debug = f.debug_struct("Generator");
        debug.field("room", room).field("lengths", lengths).finish_non_exhaustive()
    }
}

impl<'a> Generator<'a> {
    /// Puts a model on a device, with room for so many texts of so many tokens.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when it guesses no next tokens; when the device has no room.
    pub fn new<'p, 's>(
        device: &'a mut dyn Device,
        config: &'a ModelConfig,
        parameters: impl Into<Parameters<'p>>,
        stored: impl Into<Stored<'s>>,
        room: Room,
    ) -> Result<Self, Error> {
        let Some(decoder) = config.decoder() else {
            return Err(Error::Unsupported {
                what: "this model goes on with no text".to_owned(),
                instead: "give a Llama, Mistral, Qwen or GPT-2".to_owned(),
            });
        };
        let layout = decoder.cache_layout(room)?;
        let model = parameters.into().store(device, config, stored)?;
        let cache = match Store::new(device, "keys and values", layout, &[Part::Parameters], 0) {
            Ok(cache) => cache,
            Err(error) => {
                model.free(device);
                return Err(error);
            }
        };
        let (plans, lengths) = (BTreeMap::new(), vec![0; room.rows]);
        Ok(Self { device, decoder, model, cache, plans, room, lengths })
    }

    /// Texts.
    pub fn rows(&self) -> usize {
        self.room.rows
    }

    /// Tokens that were read of each text.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// How many tokens [`Self::write`] does best to choose at once. Each costs its whole step, also of texts that have ended in
    /// between, and a device on the processor has nothing to wait for between two of them.
    pub fn chosen_at_once(device: &dyn Device) -> usize {
        if device.caps().software { 1 } else { MOST_CHOSEN }
    }

    /// The plan of a job.
    ///
    /// # Errors
    /// When the device refuses it.
    fn program(&mut self, job: Job) -> Result<ProgramId, Error> {
        if let Some((_, program)) = self.plans.get(&job) {
            return Ok(*program);
        }
        let (parameters, room) = (self.model.layout.clone(), self.room);
        let plan = match job {
            Job::Read(length) => self.decoder.read_plan(parameters, room, length)?,
            Job::Write(tokens) => self.decoder.write_plan(parameters, room, tokens)?,
        };
        let stores = [&self.model, &self.cache];
        let place = |at: StorePart| stores.get(at.store)?.buffer(at.part, at.segment);
        let program = self.device.load(&plan, &place)?;
        self.plans.insert(job, (plan, program));
        Ok(program)
    }

    /// Runs a job's plan, which is given what it has of these inputs.
    fn run(
        &mut self,
        job: Job,
        floats: &[(String, Vec<f32>)],
        integers: &[(String, Vec<i32>)],
    ) -> Result<ProgramId, Error> {
        let program = self.program(job)?;
        let plan = &self.plans[&job].0;
        let floats = floats.iter().map(|(name, values)| (&**name, HostTensor::F32(values)));
        let integers = integers.iter().map(|(name, values)| (&**name, HostTensor::I32(values)));
        let inputs: Vec<(&str, HostTensor<'_>)> =
            floats.chain(integers).filter(|(name, _)| plan.input(name).is_some()).collect();
        self.device.run(program, &StepState::default(), &inputs)?;
        Ok(program)
    }

    /// Reads these tokens behind those that were read of each text, none of some. Logits [rows, vocab_size] of what follows
    /// each text's last token; zeros for a text of which nothing is read now.
    ///
    /// # Errors
    /// When there are more tokens than there is room for, or the device fails.
    ///
    /// # Panics
    /// When there are not as many lists as texts.
    pub fn read(&mut self, tokens: &[&[i32]]) -> Result<Vec<f32>, Error> {
        let vocabulary = self.decoder.vocab_size;
        let mut logits = vec![0.0; self.room.rows * vocabulary];
        self.read_pieces(tokens, |device, program, parts| {
            let made = device.output(program, names::LOGITS)?;
            for (row, _) in parts.iter().enumerate().filter(|(_, part)| !part.is_empty()) {
                let range = row * vocabulary..(row + 1) * vocabulary;
                logits[range.clone()].copy_from_slice(&made[range]);
            }
            Ok(())
        })?;
        Ok(logits)
    }

    /// As [`Self::read`], where nobody asks what follows.
    ///
    /// # Errors
    /// As [`Self::read`].
    ///
    /// # Panics
    /// As [`Self::read`].
    pub fn take_in(&mut self, tokens: &[&[i32]]) -> Result<(), Error> {
        self.read_pieces(tokens, |_, _, _| Ok(()))
    }

    /// Reads tokens piece by piece; `done` is told of each plan that has run, and what it has read.
    fn read_pieces(
        &mut self,
        tokens: &[&[i32]],
        mut done: impl FnMut(&mut dyn Device, ProgramId, &[&[i32]]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        assert_eq!(tokens.len(), self.room.rows, "a list of tokens for each text");
        let longest = tokens.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        self.check_room(&tokens.iter().map(|tokens| tokens.len()).collect::<Vec<_>>())?;
        for start in (0..longest).step_by(CHUNK) {
            let parts: Vec<&[i32]> = tokens
                .iter()
                .map(|tokens| &tokens[start.min(tokens.len())..(start + CHUNK).min(tokens.len())])
                .collect();
            let longest = parts.iter().map(|part| part.len()).max().unwrap_or(0);
            let length = if longest == 1 { 1 } else { longest.next_power_of_two().clamp(8, CHUNK) };
            let mut integers = self.places(&parts, length, |name| name.to_owned());
            integers.push((names::TOKENS.to_owned(), laid_out(&parts, length, |_, token| token)));
            integers.push(self.said(&parts, length));
            let program = self.run(Job::Read(length), &[], &integers)?;
            done(&mut *self.device, program, &parts)?;
            for (length, part) in self.lengths.iter_mut().zip(&parts) {
                *length += part.len();
            }
        }
        Ok(())
    }

    /// Reads one token of each text, none of some, chooses the next one, reads that, and so on: `count` tokens of each
    /// text, at most [`MOST_CHOSEN`], of which all but the last are read. What a text of which nothing is read is given is of no use.
    ///
    /// # Errors
    /// When there is no room for so many tokens, a logit is no number, or the device fails.
    ///
    /// # Panics
    /// When there are not as many tokens as texts, or more are asked for.
    pub fn write(
        &mut self,
        last: &[Option<i32>],
        sampling: &Sampling,
        count: usize,
    ) -> Result<Vec<Vec<i32>>, Error> {
        let rows = self.room.rows;
        assert_eq!(last.len(), rows, "a token for each text");
        assert!(count <= MOST_CHOSEN, "{count} tokens are more than a plan chooses");
        let more = |token: &Option<i32>| if token.is_some() { count } else { 0 };
        self.check_room(&last.iter().map(more).collect::<Vec<_>>())?;
        let parts: Vec<&[i32]> = last.iter().map(|token| token.as_slice()).collect();
        let mut integers = vec![
            (names::TOKENS.to_owned(), laid_out(&parts, 1, |_, token| token)),
            self.said(&parts, 1),
            (names::DRAW.to_owned(), (0..rows).flat_map(|row| sampling.draw(row)).collect()),
        ];
        for number in 0..count {
            integers.extend(self.places(&parts, 1, |name| names::of_token(name, number)));
            for (length, token) in self.lengths.iter_mut().zip(last) {
                *length += usize::from(token.is_some());
            }
        }
        let settings = [(names::SETTINGS.to_owned(), sampling.settings().repeat(rows))];
        let program = self.run(Job::Write(count), &settings, &integers)?;
        let chosen = self.device.output(program, names::CHOSEN)?;
        let mut written = vec![Vec::with_capacity(count); rows];
        for (number, chosen) in chosen.chunks_exact(rows).take(count).enumerate() {
            for (row, (written, &token)) in written.iter_mut().zip(chosen).enumerate() {
                if token == sample::NO_TOKEN && last[row].is_some() {
                    return Err(Error::NotFinite(format!(
                        "the logits of what follows token {} of text {row} are no numbers: the model's parameters are \
                         damaged or too large",
                        self.lengths[row] - count + number
                    )));
                }
                written.push(token as i32);
            }
        }
        Ok(written)
    }

    /// Refuses so many more tokens of each text than there is room for.
    fn check_room(&self, more: &[usize]) -> Result<(), Error> {
        let Room { rows, capacity, .. } = self.room;
        match (0..rows).find(|&row| self.lengths[row] + more[row] > capacity) {
            Some(row) => Err(Error::Unsupported {
                what: format!(
                    "text {row} becomes longer than the {capacity} tokens that there is room for"
                ),
                instead: "ask for fewer tokens".to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Where tokens stand that come behind those that were read, in rows of this length, and what they see.
    fn places(
        &self,
        parts: &[&[i32]],
        length: usize,
        name: impl Fn(&str) -> String,
    ) -> Vec<(String, Vec<i32>)> {
        let capacity = self.room.capacity;
        let window = self.decoder.windows.iter().flatten().next().copied();
        let known = |row: usize, at: usize| self.lengths[row] + at;
        let count = parts.len() * length;
        let mut positions = vec![0; count];
        let [mut ranges, mut near] = [0, 0].map(|_| vec![0; 2 * count]);
        let mut last = vec![0; parts.len()];
        for (row, part) in parts.iter().enumerate() {
            for at in 0..length {
                let (place, position) = (row * length + at, known(row, at));
                // What is behind the part is made of nothing and seen by nobody; its own range only has to rise.
                let end = (position + 1).min(capacity);
                ranges[2 * place + 1] = end as i32;
                let first = window.map_or(0, |window| end.saturating_sub(window));
                (near[2 * place], near[2 * place + 1]) = (first as i32, end as i32);
                if at < part.len() {
                    positions[place] = position as i32;
                }
            }
            last[row] = (row * length + part.len().saturating_sub(1)) as i32;
        }
        let kept = laid_out(parts, length, |[row, at], _| (row * capacity + known(row, at)) as i32);
        vec![
            (name(names::POSITIONS), positions),
            (name(names::PLACES), kept),
            (name(names::RANGES), ranges),
            (name(names::NEAR_RANGES), near),
            (name(names::LAST), last),
        ]
    }

    /// Where tokens stand among all that may be said, each once.
    fn said(&self, parts: &[&[i32]], length: usize) -> (String, Vec<i32>) {
        let vocabulary = self.decoder.vocab_size;
        let mut known = BTreeSet::new();
        let places = laid_out(parts, length, |[row, _], token| {
            let place = usize::try_from(token).ok().filter(|&token| token < vocabulary);
            let place = place.map(|token| row * vocabulary + token);
            place.filter(|&place| known.insert(place)).map_or(-1, |place| place as i32)
        });
        (names::SAID.to_owned(), places)
    }

    /// Bytes of keys and values.
    pub fn cache_bytes(&self) -> u64 {
        let layout: &Layout = &self.cache.layout;
        4 * layout.parameter_count() as u64
    }
}

/// What is made of each token and its row and place there, in rows of this length; -1 where there is none.
fn laid_out(
    parts: &[&[i32]],
    length: usize,
    mut make: impl FnMut([usize; 2], i32) -> i32,
) -> Vec<i32> {
    let mut made = vec![-1; parts.len() * length];
    for (row, part) in parts.iter().enumerate() {
        for (at, &token) in part.iter().enumerate() {
            made[row * length + at] = make([row, at], token);
        }
    }
    made
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
