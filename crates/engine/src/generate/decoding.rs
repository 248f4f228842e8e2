//! Keys and values of texts, and the plans that read more of them and choose what follows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::Sampling;
use crate::device::{Device, HostTensor, ProgramId};
use crate::error::Error;
use crate::kernels::{StepState, sample};
use crate::layout::Layout;
use crate::models::Decoder;
use crate::models::decoder::{MOST_CHOSEN, Room, step_names as names};
use crate::plan::Plan;
use crate::store::{Part, Store, StorePart};

/// Tokens of a prompt that are read at once.
const CHUNK: usize = 64;

/// Tokens of a plan that reads so many of a text, or the first of more.
fn read_at_once(tokens: usize) -> usize {
    if tokens == 1 { 1 } else { tokens.next_power_of_two().clamp(8, CHUNK) }
}

/// What a plan does with each text's tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Job {
    /// Reads so many.
    Read(usize),
    /// Reads one and chooses so many.
    Write(usize),
}

impl Job {
    /// All that texts need whose first `longest` tokens are read, and then `at_once` are written again and again.
    pub fn all(longest: usize, at_once: usize) -> BTreeSet<Self> {
        let reads = (1..=longest).map(|tokens| Self::Read(read_at_once(tokens)));
        reads.chain([Self::Write(at_once)]).collect()
    }

    /// Its plan, of a model whose parameters lie so.
    ///
    /// # Errors
    /// When keys and values are too large for any device.
    pub fn plan(self, decoder: &Decoder, parameters: &Layout, room: Room) -> Result<Plan, Error> {
        match self {
            Self::Read(length) => decoder.read_plan(parameters.clone(), room, length),
            Self::Write(tokens) => decoder.write_plan(parameters.clone(), room, tokens),
        }
    }
}

/// Texts that a decoder goes on with: the keys and values of what it has read of them, and its plans. Its parameters are in a
/// store of somebody else's, which goes with each call.
pub(crate) struct Decoding<'a> {
    decoder: &'a Decoder,
    /// How the model's parameters lie.
    parameters: Layout,
    cache: Store,
    plans: BTreeMap<Job, (Plan, ProgramId)>,
    room: Room,
    /// Tokens that were read of each text.
    lengths: Vec<usize>,
}

impl fmt::Debug for Decoding<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { room, lengths, .. } = self;
        let mut debug = f.debug_struct("Decoding");
        debug.field("room", room).field("lengths", lengths).finish_non_exhaustive()
    }
}

/// The device, and the store with the model's parameters.
pub(crate) type On<'d> = (&'d mut dyn Device, &'d Store);

impl<'a> Decoding<'a> {
    /// Room for so many texts of so many tokens, of a model whose parameters lie so.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(
        device: &mut dyn Device,
        decoder: &'a Decoder,
        parameters: Layout,
        room: Room,
    ) -> Result<Self, Error> {
        let layout = decoder.cache_layout(room)?;
        let cache = Store::new(device, "keys and values", layout, &[Part::Parameters], 0)?;
        let (plans, lengths) = (BTreeMap::new(), vec![0; room.rows]);
        Ok(Self { decoder, parameters, cache, plans, room, lengths })
    }

    /// Texts and tokens that there is room for.
    pub fn room(&self) -> Room {
        self.room
    }

    /// Tokens that were read of each text.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Keys and values.
    pub fn cache(&self) -> &Store {
        &self.cache
    }

    /// Takes the plan of a job as it was loaded, and gives it back with all else.
    pub fn lend(&mut self, job: Job, plan: Plan, program: ProgramId) {
        self.plans.insert(job, (plan, program));
    }

    /// Forgets what was read.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn clear(&mut self, device: &mut dyn Device) -> Result<(), Error> {
        self.lengths.fill(0);
        // Which tokens were said lies behind all else.
        if let (true, Some((said, spec))) =
            (self.room.said, self.cache.layout.parameters.iter().enumerate().next_back())
        {
            let nothing = vec![0.0; spec.len()];
            self.cache.write(device, Part::Parameters, said, &nothing)?;
        }
        Ok(())
    }

    /// The plan of a job.
    ///
    /// # Errors
    /// When the device refuses it.
    fn program(&mut self, (device, model): On<'_>, job: Job) -> Result<ProgramId, Error> {
        if let Some((_, program)) = self.plans.get(&job) {
            return Ok(*program);
        }
        let plan = job.plan(self.decoder, &self.parameters, self.room)?;
        let stores = [model, &self.cache];
        let place = |at: StorePart| stores.get(at.store)?.buffer(at.part, at.segment);
        let program = device.load(&plan, &place)?;
        self.plans.insert(job, (plan, program));
        Ok(program)
    }

    /// Runs a job's plan, which is given what it has of these inputs.
    fn run(
        &mut self,
        (device, model): On<'_>,
        job: Job,
        floats: &[(String, Vec<f32>)],
        integers: &[(String, Vec<i32>)],
    ) -> Result<ProgramId, Error> {
        let program = self.program((device, model), job)?;
        let plan = &self.plans[&job].0;
        let floats = floats.iter().map(|(name, values)| (&**name, HostTensor::F32(values)));
        let integers = integers.iter().map(|(name, values)| (&**name, HostTensor::I32(values)));
        let inputs: Vec<(&str, HostTensor<'_>)> =
            floats.chain(integers).filter(|(name, _)| plan.input(name).is_some()).collect();
        device.run(program, &StepState::default(), &inputs)?;
        Ok(program)
    }

    /// As [`super::Generator::read`].
    pub fn read(&mut self, on: On<'_>, tokens: &[&[i32]]) -> Result<Vec<f32>, Error> {
        let vocabulary = self.decoder.vocab_size;
        let mut logits = vec![0.0; self.room.rows * vocabulary];
        self.read_pieces(on, tokens, |device, program, parts| {
            let made = device.output(program, names::LOGITS)?;
            for (row, _) in parts.iter().enumerate().filter(|(_, part)| !part.is_empty()) {
                let range = row * vocabulary..(row + 1) * vocabulary;
                logits[range.clone()].copy_from_slice(&made[range]);
            }
            Ok(())
        })?;
        Ok(logits)
    }

    /// As [`super::Generator::take_in`].
    pub fn take_in(&mut self, on: On<'_>, tokens: &[&[i32]]) -> Result<(), Error> {
        self.read_pieces(on, tokens, |_, _, _| Ok(()))
    }

    /// Reads tokens piece by piece; `done` is told of each plan that has run, and what it has read.
    fn read_pieces(
        &mut self,
        (device, model): On<'_>,
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
            let length = read_at_once(longest);
            let mut integers = self.places(&parts, length, |name| name.to_owned());
            integers.push((names::TOKENS.to_owned(), laid_out(&parts, length, |_, token| token)));
            integers.push(self.said(&parts, length));
            let program = self.run((device, model), Job::Read(length), &[], &integers)?;
            done(device, program, &parts)?;
            for (length, part) in self.lengths.iter_mut().zip(&parts) {
                *length += part.len();
            }
        }
        Ok(())
    }

    /// As [`super::Generator::write`]; texts have these numbers, which tell their draws.
    pub fn write(
        &mut self,
        (device, model): On<'_>,
        last: &[Option<i32>],
        (sampling, texts): (&Sampling, &[u32]),
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
            (names::DRAW.to_owned(), texts.iter().flat_map(|&text| sampling.draw(text)).collect()),
        ];
        for number in 0..count {
            integers.extend(self.places(&parts, 1, |name| names::of_token(name, number)));
            for (length, token) in self.lengths.iter_mut().zip(last) {
                *length += usize::from(token.is_some());
            }
        }
        let settings = [(names::SETTINGS.to_owned(), sampling.settings().repeat(rows))];
        let program = self.run((device, model), Job::Write(count), &settings, &integers)?;
        let chosen = device.output(program, names::CHOSEN)?;
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

    /// Goes on with prompts, of at least a token each, side by side from nothing; texts have these numbers, which tell their
    /// draws. Each token is handed to `push` with its row, which says whether the text takes more. `at_once` are chosen before
    /// that is asked.
    ///
    /// # Errors
    /// As [`super::Generator::write`], and what `push` refuses.
    pub fn go_on(
        &mut self,
        (device, model): On<'_>,
        (prompts, numbers): (&[&[i32]], &[u32]),
        (sampling, at_once): (&Sampling, usize),
        push: &mut dyn FnMut(usize, i32) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let rows = self.room.rows;
        let numbers: Vec<u32> =
            numbers.iter().copied().chain([0].repeat(rows)).take(rows).collect();
        self.clear(device)?;
        // The last token is read as the first one is chosen. Rows behind the texts have none.
        let mut given: Vec<&[i32]> = prompts.iter().map(|ids| &ids[..ids.len() - 1]).collect();
        given.resize(rows, &[]);
        self.take_in((device, model), &given)?;
        let mut last: Vec<Option<i32>> = prompts.iter().map(|ids| ids.last().copied()).collect();
        last.resize(rows, None);
        while last.iter().any(Option::is_some) {
            let written = self.write((device, model), &last, (sampling, &numbers), at_once)?;
            for (row, tokens) in written.into_iter().enumerate() {
                for token in tokens {
                    if last[row].is_some() {
                        last[row] = push(row, token)?.then_some(token);
                    }
                }
            }
        }
        Ok(())
    }

    /// Bytes of keys and values.
    pub fn cache_bytes(&self) -> u64 {
        let layout: &Layout = &self.cache.layout;
        4 * layout.parameter_count() as u64
    }

    /// Gives back what it has on the device; it is not used again.
    pub fn release(&mut self, device: &mut dyn Device) {
        for (_, program) in std::mem::take(&mut self.plans).into_values() {
            device.unload(program);
        }
        self.cache.release(device);
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
