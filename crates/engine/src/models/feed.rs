//! Examples as one model reads them: batches on the host.

use std::collections::BTreeMap;
use std::sync::Arc;

use distil_gpu_kernels::distill_loss::PADDING;
use distil_gpu_kernels::gather::sorted_order;
use distil_gpu_kernels::random;

use super::inputs::{Attends, BatchShape, FAR_BELOW, Input, Pooling, TokenInput, names};
use crate::data::text::buckets;
use crate::data::text::masking::{Masked, Masking};
use crate::data::text::{PackedRow, WordTokens};
use crate::data::{
    DataError, Dataset, Examples, PackedDocuments, Shift, SpanLabels, TokenSpan, Tokens, Windows,
};
use crate::device::HostTensor;

/// Examples as one model reads them.
#[derive(Debug)]
pub struct BatchEncoder<'a> {
    input: &'a Input,
    pub(super) examples: &'a Examples,
    /// The texts' tokens, where examples are texts.
    tokens: Arc<Tokens>,
    /// What hides some of them, where a model is to guess them.
    masking: Option<Masking>,
    /// Which tokens stand for words, where a model tells their classes.
    words: Option<WordTokens>,
    /// What of questions and their contexts is read at once, where a model finds answers in them.
    windows: Option<Windows>,
    /// Documents in rows of tokens, where a model guesses each next one.
    pub(super) packed: Option<PackedDocuments>,
    /// How many next tokens each of these rows asks for.
    guesses: Vec<usize>,
}

/// What differs between one time that examples are read and the next.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// How images are moved.
    pub shift: Option<Shift>,
    /// Seed of the tokens that are masked.
    pub seed: u32,
    /// Their epoch.
    pub epoch: u32,
}

impl Draw {
    /// As models are measured: images unmoved, and always the same tokens masked.
    pub const FIXED: Self = Self { shift: None, seed: 0, epoch: u32::MAX };
}

impl<'a> BatchEncoder<'a> {
    /// Reads the examples as a model does.
    ///
    /// # Errors
    /// As [`Input::check`], and when a text cannot become tokens.
    pub fn new(input: &'a Input, examples: &'a Examples) -> Result<Self, DataError> {
        Self::with_answers(input, examples, None)
    }

    /// Reads the examples of a data set as a model does; of questions, where their answers stand too.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of_data(input: &'a Input, data: &'a Dataset) -> Result<Self, DataError> {
        let answers = data.labels().and_then(|labels| labels.spans());
        Self::with_answers(input, data.examples(), answers)
    }

    fn with_answers(
        input: &'a Input,
        examples: &'a Examples,
        answers: Option<&SpanLabels>,
    ) -> Result<Self, DataError> {
        input.check(examples)?;
        let (mut words, mut windows, mut packed) = (None, None, None);
        let tokens = match (input, examples) {
            (Input::Tokens(tokens), Examples::Texts(texts)) => {
                tokens.tokenizer()?.encode_all(texts, tokens.max_length)?
            }
            (Input::Tokens(tokens), Examples::Words(all)) => {
                let encoded = tokens.tokenizer()?.encode_words(all, tokens.max_length)?;
                words.insert(encoded).tokens().clone()
            }
            (Input::Tokens(_), Examples::Questions(questions)) => {
                windows.insert(input.windows(questions, answers)?).tokens().clone()
            }
            (Input::Tokens(_), Examples::Windows(all)) => {
                windows.insert(all.clone()).tokens().clone()
            }
            (Input::Tokens(tokens), Examples::Documents(corpus)) => {
                let rows = corpus.packed(tokens.tokenizer()?, tokens.max_length)?;
                Arc::new(row_tokens(packed.insert(rows)))
            }
            (Input::Tokens(_), Examples::Packed(rows)) => {
                Arc::new(row_tokens(packed.insert(rows.clone())))
            }
            _ => Arc::default(),
        };
        if let Input::Tokens(input) = input {
            input.check(&tokens)?;
        }
        let masking = match input {
            Input::Tokens(TokenInput { tokenizer: Some(tokenizer), .. }) if input.masks() => {
                Some(Masking::new(tokenizer)?)
            }
            _ => None,
        };
        let guesses = packed.as_ref().map_or(Vec::new(), |packed| {
            let of_row = |row| packed.row(row).counted();
            (0..packed.len()).map(of_row).collect()
        });
        Ok(Self { input, examples, tokens, masking, words, windows, packed, guesses })
    }

    /// What the model reads.
    pub fn input(&self) -> &'a Input {
        self.input
    }

    /// The numbers of a text's words that a token stands for; none where examples are no words.
    pub fn words(&self, row: usize) -> impl Iterator<Item = usize> + '_ {
        let firsts = self.words.iter().flat_map(move |words| words.firsts(row).iter().enumerate());
        firsts.filter(|(_, first)| first.is_some()).map(|(word, _)| word)
    }

    /// Where the answer stands in a window of a question, if that is known.
    pub fn span(&self, row: usize) -> Option<TokenSpan> {
        self.windows.as_ref()?.span(row)
    }

    /// What of questions and their contexts is read at once; nothing where examples are no questions.
    pub fn windows(&self) -> Option<&Windows> {
        self.windows.as_ref()
    }

    /// How many tokens of a row are guessed from those before them.
    pub fn next_tokens(&self, row: usize) -> usize {
        self.guesses.get(row).copied().unwrap_or(0)
    }

    /// The same of all rows, and the bytes of text that these tokens stand for.
    pub fn next_tokens_and_bytes(&self) -> (usize, u64) {
        self.packed.as_ref().map_or((0, 0), PackedDocuments::counted)
    }

    /// Whether a model guesses each next token.
    pub fn guesses_next(&self) -> bool {
        self.packed.is_some()
    }

    /// For each token of a batch that is guessed from those before it, in their order, how many these are.
    pub fn contexts(&self, indices: &[u32]) -> Vec<usize> {
        let Some(packed) = &self.packed else { return Vec::new() };
        let of_row = |&row: &u32| {
            let row = packed.row(row as usize);
            let labelled =
                row.labels.iter().zip(&row.positions).filter(|(label, _)| label.is_some());
            labelled.map(|(_, &position)| position as usize + 1).collect::<Vec<_>>()
        };
        indices.iter().flat_map(of_row).collect()
    }

    /// A text with some of its tokens masked, and which.
    ///
    /// # Panics
    /// When there is no such text.
    pub fn masked(&self, row: u32, draw: Draw) -> Option<Masked> {
        let masking = self.masking.as_ref()?;
        Some(masking.draw(self.tokens.row(row as usize).0, draw.seed, draw.epoch, row))
    }

    /// Masked tokens of all examples, as models are measured; 0 where none are masked.
    pub fn masked_tokens(&self) -> usize {
        let count = |row| self.masked(row, Draw::FIXED).map_or(0, |masked| masked.places.len());
        (0..self.len() as u32).map(count).sum()
    }

    /// Tokens of all examples that a model of language guesses when it is measured: masked ones, or next ones.
    pub fn guessed_tokens(&self) -> usize {
        match self.packed {
            Some(_) => self.next_tokens_and_bytes().0,
            None => self.masked_tokens(),
        }
    }

    /// How many of the [`Self::masked_tokens`] are the most frequent one.
    pub fn most_frequent_masked(&self) -> usize {
        let mut counts = BTreeMap::new();
        for row in 0..self.len() as u32 {
            let tokens = self.tokens.row(row as usize).0;
            let places = self.masked(row, Draw::FIXED).map_or(Vec::new(), |masked| masked.places);
            places.iter().for_each(|&place| *counts.entry(tokens[place]).or_insert(0) += 1);
        }
        counts.into_values().max().unwrap_or(0)
    }

    /// The same examples as another model reads them.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn of<'b>(&'b self, input: &'b Input) -> Result<BatchEncoder<'b>, DataError> {
        BatchEncoder::new(input, self.examples)
    }

    /// The texts' tokens; none where examples are numbers.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn lengths(&self) -> Option<Vec<usize>> {
        let texts = matches!(self.input, Input::Tokens(_));
        texts.then(|| (0..self.tokens.len()).map(|row| self.tokens.length(row)).collect())
    }

    /// An epoch's batches of `rows` examples, in random order; of texts, such of about the same length.
    pub fn epoch(&self, rows: usize, seed: u32, epoch: u32) -> Vec<Vec<u32>> {
        match self.lengths() {
            Some(lengths) => buckets::shuffled(&lengths, rows, seed, epoch),
            None => chunks(&random::permutation(self.len(), seed, epoch), rows),
        }
    }

    /// Batches of all examples: numbers in their order, texts by their length.
    pub fn all(&self, rows: usize) -> Vec<Vec<u32>> {
        chunks(&self.in_order(), rows)
    }

    fn in_order(&self) -> Vec<u32> {
        match self.lengths() {
            Some(lengths) => buckets::sorted(&lengths),
            None => (0..self.len() as u32).collect(),
        }
    }

    /// So many examples that stand for all: the first ones, again and again if there are fewer; of texts, of all
    /// lengths.
    pub fn sample(&self, rows: usize) -> Vec<u32> {
        let (len, order) = (self.len(), self.in_order());
        let place = |row| match self.input {
            Input::Tokens(_) => (2 * row + 1) * len / (2 * rows),
            Input::Numbers { .. } => row % len,
        };
        (0..rows).map(|row| order[place(row)]).collect()
    }

    /// The shape of a batch of `rows` that has room for these examples.
    pub fn shape(&self, indices: &[u32], rows: usize) -> BatchShape {
        let longest = match self.input {
            Input::Tokens(_) => indices.iter().map(|&row| self.tokens.length(row as usize)).max(),
            Input::Numbers { .. } => None,
        };
        let length = longest.map_or(0, |length| buckets::rounded(length, self.max_length()));
        let guessed = match &self.packed {
            Some(_) => {
                let guessed = indices.iter().map(|&row| self.next_tokens(row as usize)).sum();
                rounded_share(guessed, rows * length)
            }
            None => 0,
        };
        BatchShape { rows, length, guessed }
    }

    /// Number of examples; of questions, of their windows; of documents, of the rows that they lie in.
    pub fn len(&self) -> usize {
        let windows = self.windows.as_ref().map(Windows::len);
        let rows = self.packed.as_ref().map(PackedDocuments::len);
        windows.or(rows).unwrap_or(self.examples.len())
    }

    /// Whether there are none; there always are some.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    fn max_length(&self) -> usize {
        match self.input {
            Input::Tokens(tokens) => tokens.max_length,
            Input::Numbers { .. } => 0,
        }
    }

    /// Writes a batch of these examples; rows behind them are padding. Masked tokens are written with their labels.
    ///
    /// # Panics
    /// When an index is out of range, or there are more than `shape.rows`.
    pub fn fill(&self, indices: &[u32], shape: BatchShape, draw: Draw, out: &mut HostBatch) {
        match (self.input, self.examples) {
            (Input::Numbers { normalisation, .. }, Examples::Numbers(numbers)) => {
                let width = numbers.example_len();
                let features = out.floats(names::FEATURES, shape.rows * width);
                let filled = &mut features[..indices.len() * width];
                numbers.gather(indices, normalisation, draw.shift, filled);
            }
            (Input::Tokens(input), _) if self.packed.is_some() => {
                let packed = self.packed.iter();
                let row = |&row: &u32| packed.clone().map(move |packed| packed.row(row as usize));
                let rows: Vec<PackedRow> = indices.iter().flat_map(row).collect();
                out.packed(input, shape, &rows);
            }
            (Input::Tokens(input), _) => {
                let rows: Vec<_> =
                    indices.iter().map(|&row| self.tokens.row(row as usize)).collect();
                let masked: Option<Vec<Masked>> =
                    indices.iter().map(|&row| self.masked(row, draw)).collect();
                let Some(masked) = masked else {
                    out.texts(input, shape, &rows);
                    if input.pooling == Pooling::Words {
                        out.places(self.labels(shape), &self.word_places(indices, shape));
                    }
                    return;
                };
                let given: Vec<_> =
                    rows.iter().zip(&masked).map(|(row, masked)| (&*masked.given, row.1)).collect();
                out.texts(input, shape, &given);
                let mut hidden = Vec::new();
                for (at, Masked { places, .. }) in masked.iter().enumerate() {
                    let tokens = rows[at].0;
                    hidden.extend(
                        places.iter().map(|&place| (at * shape.length + place, tokens[place])),
                    );
                }
                out.masked(self.input.labels(shape), &hidden);
            }
            _ => unreachable!("a feed is made of what its model reads"),
        }
    }
}

impl BatchEncoder<'_> {
    /// Writes a batch of these rows of documents in the place of examples.
    ///
    /// # Panics
    /// When the model reads numbers.
    pub fn fill_rows(&self, rows: &[PackedRow], shape: BatchShape, out: &mut HostBatch) {
        let Input::Tokens(input) = self.input else { unreachable!("rows are of tokens") };
        out.packed(input, shape, rows);
    }

    /// Writes how many tokens of each row are no padding, where models that see what is before them do not read it.
    pub fn fill_lengths(&self, indices: &[u32], shape: BatchShape, out: &mut HostBatch) {
        out.lengths(shape, indices.iter().map(|&row| self.tokens.length(row as usize)));
    }

    /// Where the tokens that stand for words are, among all of the batch.
    fn word_places(&self, indices: &[u32], shape: BatchShape) -> Vec<usize> {
        let Some(words) = &self.words else { return Vec::new() };
        let of_row = |(at, &row): (usize, &u32)| {
            let firsts = words.firsts(row as usize).iter().flatten();
            firsts.map(move |&first| at * shape.length + first as usize)
        };
        indices.iter().enumerate().flat_map(of_row).collect()
    }
}

/// The tokens of rows, without their padding.
fn row_tokens(packed: &PackedDocuments) -> Tokens {
    let mut tokens = Tokens::default();
    for row in 0..packed.len() {
        let len = packed.length(row);
        let ids: Vec<u32> = packed.row(row).ids[..len].iter().map(|&id| id as u32).collect();
        tokens.push(&ids, &vec![0; len], false);
    }
    tokens
}

/// So many of all, as the least eighth of these that has room for them: shapes are few, and heads skip most of what asks
/// for nothing.
fn rounded_share(some: usize, all: usize) -> usize {
    const SHARES: usize = 8;
    let share = all.div_ceil(SHARES);
    (some.div_ceil(share).max(1) * share).min(all)
}

fn chunks(order: &[u32], rows: usize) -> Vec<Vec<u32>> {
    order.chunks(rows).map(<[u32]>::to_vec).collect()
}

/// The values of one input.
#[derive(Debug)]
enum Values {
    Floats(Vec<f32>),
    Integers(Vec<i32>),
}

/// A batch on the host: the inputs of a plan by name.
#[derive(Debug, Default)]
pub struct HostBatch {
    prefix: String,
    inputs: Vec<(String, Values)>,
}

impl HostBatch {
    /// A batch whose inputs' names begin with `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), inputs: Vec::new() }
    }

    /// By name, for [`crate::device::Device::run`].
    pub fn inputs(&self) -> impl Iterator<Item = (&str, HostTensor<'_>)> {
        self.inputs.iter().map(|(name, values)| {
            let values = match values {
                Values::Floats(values) => HostTensor::F32(values),
                Values::Integers(values) => HostTensor::I32(values),
            };
            (&**name, values)
        })
    }

    fn values(&mut self, name: &str, empty: Values) -> &mut Values {
        let name = format!("{}{name}", self.prefix);
        let known = self.inputs.iter().position(|(known, _)| *known == name);
        let index = known.unwrap_or_else(|| {
            self.inputs.push((name, empty));
            self.inputs.len() - 1
        });
        &mut self.inputs[index].1
    }

    /// The floats of an input, as they were before; new ones are 0.
    pub fn floats(&mut self, name: &str, len: usize) -> &mut [f32] {
        match self.values(name, Values::Floats(Vec::new())) {
            Values::Floats(values) => {
                values.resize(len, 0.0);
                values
            }
            Values::Integers(_) => unreachable!("an input is of one type"),
        }
    }

    /// The integers of an input, as they were before; new ones are 0.
    pub fn integers(&mut self, name: &str, len: usize) -> &mut Vec<i32> {
        match self.values(name, Values::Integers(Vec::new())) {
            Values::Integers(values) => {
                values.resize(len, 0);
                values
            }
            Values::Floats(_) => unreachable!("an input is of one type"),
        }
    }

    /// Writes texts, each its token numbers and types; padding has no token at all.
    pub fn texts(&mut self, input: &TokenInput, shape: BatchShape, rows: &[(&[i32], &[i32])]) {
        const NONE: i32 = -1;
        let BatchShape { length, .. } = shape;
        let mut ids = |name: &str, id: &dyn Fn(usize, usize) -> i32| {
            let values = self.integers(name, shape.rows * length);
            values.fill(NONE);
            for (row, values) in values.chunks_exact_mut(length).enumerate().take(rows.len()) {
                let written = values.iter_mut().take(rows[row].0.len());
                written.enumerate().for_each(|(at, value)| *value = id(row, at));
            }
            let order = sorted_order(values);
            *self.integers(&format!("{name}{}", names::ORDER), 0) = order;
        };
        ids(names::TOKENS, &|row, at| rows[row].0[at]);
        if let Some(first) = input.first_position {
            ids(names::POSITIONS, &|_, at| (first + at) as i32);
        }
        if input.type_vocab_size > 0 {
            ids(names::TYPES, &|row, at| rows[row].1[at]);
        }
        if input.attends == Attends::All {
            self.lengths(shape, rows.iter().map(|(ids, _)| ids.len()));
        }
        if matches!(input.pooling, Pooling::Masked | Pooling::Words | Pooling::Next) {
            return;
        }
        let pooling = self.floats(names::POOLING, shape.rows * length);
        let masks = matches!(input.pooling, Pooling::Max | Pooling::Tokens);
        pooling.fill(if masks { FAR_BELOW } else { 0.0 });
        for (weights, (ids, _)) in pooling.chunks_exact_mut(length).zip(rows) {
            let count = ids.len();
            match input.pooling {
                Pooling::First => weights[0] = 1.0,
                Pooling::Last => weights[count.saturating_sub(1)] = 1.0,
                Pooling::Mean => weights[..count].fill(1.0 / count as f32),
                Pooling::MeanSqrtLength => weights[..count].fill(1.0 / (count as f32).sqrt()),
                Pooling::WeightedMean => {
                    let sum = (count * (count + 1) / 2) as f32;
                    let rising = weights[..count].iter_mut().zip(1_u32..);
                    rising.for_each(|(weight, place)| *weight = place as f32 / sum);
                }
                Pooling::Max | Pooling::Tokens => weights[..count].fill(0.0),
                Pooling::Masked | Pooling::Words | Pooling::Next => {
                    unreachable!("tokens stand for themselves")
                }
            }
        }
    }

    /// Writes how many tokens of each row are no padding.
    pub(crate) fn lengths(&mut self, shape: BatchShape, rows: impl Iterator<Item = usize>) {
        let lengths = self.integers(names::LENGTHS, shape.rows);
        lengths.fill(0);
        lengths.iter_mut().zip(rows).for_each(|(length, tokens)| *length = tokens as i32);
    }

    /// Writes rows of documents: tokens, their places in their documents, which others each sees, and the next ones where
    /// these count. Labels are the student's alone.
    pub fn packed(&mut self, input: &TokenInput, shape: BatchShape, rows: &[PackedRow]) {
        let BatchShape { length, .. } = shape;
        let lens: Vec<usize> = rows.iter().map(|row| row.ids.len().min(length)).collect();
        let texts: Vec<_> = rows.iter().zip(&lens).map(|(row, &len)| &row.ids[..len]).collect();
        let types = vec![0; length];
        let given: Vec<_> = texts.iter().map(|ids| (*ids, &types[..ids.len()])).collect();
        self.texts(input, shape, &given);
        if let Some(first) = input.first_position {
            let positions = self.integers(names::POSITIONS, shape.rows * length);
            for (positions, row) in positions.chunks_exact_mut(length).zip(rows) {
                let own = positions.iter_mut().zip(&row.positions);
                own.for_each(|(position, at)| *position = first as i32 + at);
            }
            let order = sorted_order(positions);
            *self.integers(&format!("{}{}", names::POSITIONS, names::ORDER), 0) = order;
        }
        if let Attends::Before { whole, window } = input.attends {
            let whole = whole.then_some((names::RANGES, length));
            let near = window.map(|window| (names::NEAR_RANGES, window));
            for (name, window) in whole.into_iter().chain(near) {
                self.ranges(name, shape, rows, window);
            }
        }
        let mut next = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let labels = row.labels.iter().take(length).enumerate();
            next.extend(labels.filter_map(|(place, label)| Some((at * length + place, (*label)?))));
        }
        self.masked(shape.next_tokens(), &next);
    }

    /// Writes the keys that each token sees, at most so many, and which see it; padding sees itself.
    fn ranges(&mut self, name: &str, shape: BatchShape, rows: &[PackedRow], window: usize) {
        let BatchShape { length, .. } = shape;
        let span = |row: Option<&PackedRow>, at: usize| {
            let of = |list: &[i32]| list.get(at).map_or(at, |&place| place as usize);
            row.map_or((at, at), |row| (of(&row.first_key), of(&row.last_query)))
        };
        let places = || (0..shape.rows).flat_map(|row| (0..length).map(move |at| (row, at)));
        let queries = places().flat_map(|(row, at)| {
            let first = span(rows.get(row), at).0;
            [first.max((at + 1).saturating_sub(window)) as i32, at as i32 + 1]
        });
        let keys = places().flat_map(|(row, at)| {
            let end = (span(rows.get(row), at).1 + 1).min(length);
            [at as i32, end.min(at.saturating_add(window)) as i32]
        });
        *self.integers(name, 0) = queries.collect();
        *self.integers(&format!("{name}{}", names::OF_KEYS), 0) = keys.collect();
    }

    /// Writes which tokens of the batch a head works on, rising, in `count` places; those behind them are padding.
    ///
    /// # Panics
    /// When there are more than `count`.
    pub fn places(&mut self, count: usize, tokens: &[usize]) {
        assert!(tokens.len() <= count, "{} tokens in {count} places", tokens.len());
        let places = self.integers(names::MASKED, count);
        places.fill(-1);
        places.iter_mut().zip(tokens).for_each(|(out, place)| *out = *place as i32);
        let order = sorted_order(places);
        *self.integers(&format!("{}{}", names::MASKED, names::ORDER), 0) = order;
    }

    /// Writes where the masked tokens of the batch are, rising, and what stood there, in `count` places; those behind
    /// them are padding. Labels are the student's alone.
    ///
    /// # Panics
    /// When there are more than `count`.
    pub fn masked(&mut self, count: usize, hidden: &[(usize, i32)]) {
        let places: Vec<usize> = hidden.iter().map(|(place, _)| *place).collect();
        self.places(count, &places);
        if self.prefix.is_empty() {
            let labels = self.integers(names::LABELS, count);
            labels.fill(PADDING);
            labels.iter_mut().zip(hidden).for_each(|(out, (_, token))| *out = *token);
        }
    }
}
