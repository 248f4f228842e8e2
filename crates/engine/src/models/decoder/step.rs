//! A decoder that goes on: reads the tokens of each row that come behind those whose keys and values are kept, and chooses
//! the next ones.

use distil_gpu_kernels::{DType, sample};

use super::Decoder;
use super::forward::Pass;
use crate::error::Error;
use crate::graph::{Graph, TensorId};
use crate::layout::Layout;
use crate::plan::{Options, Plan};
use crate::store::{Init, ParameterSpec};

/// Room for texts that are continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Room {
    /// Texts.
    pub rows: usize,
    /// Tokens of each whose keys and values are kept.
    pub capacity: usize,
    /// Whether it is kept which tokens were said.
    pub said: bool,
}

/// Names of a step's inputs and of its outputs. Inputs that each token of several has for itself end in its number.
pub mod names {
    /// Token numbers [rows · length]; -1 where there is none.
    pub const TOKENS: &str = "tokens";
    /// Where each stands in its text [rows · length].
    pub const POSITIONS: &str = "positions";
    /// Rows of the cache [rows · length] for their keys and values: row · capacity + position, or -1.
    pub const PLACES: &str = "places";
    /// The first key that each sees and the end [rows, length, 2].
    pub const RANGES: &str = "ranges";
    /// The same for layers that see those near by.
    pub const NEAR_RANGES: &str = "near ranges";
    /// From which tokens the next ones are guessed \[rows], among all of the step.
    pub const LAST: &str = "last";
    /// Where the tokens stand among all of all texts that may be said [rows · length]: row · vocab_size + token, or -1.
    pub const SAID: &str = "said";
    /// How each text's tokens are chosen [rows, 4], as `distil_gpu_kernels::sample::Sample` has it.
    pub const SETTINGS: &str = "settings";
    /// What tells a text's draws [rows, 3], as above.
    pub const DRAW: &str = "draw";
    /// Logits [rows, vocab_size].
    pub const LOGITS: &str = "logits";
    /// Numbers of the tokens that were chosen [`super::MOST_CHOSEN`, rows], the first ones in the first rows.
    pub const CHOSEN: &str = "chosen";

    /// The name of what token number `number` of a run has for itself.
    pub fn of_token(name: &str, number: usize) -> String {
        format!("{name} {number}")
    }
}

/// The most tokens of a text that one plan chooses.
pub const MOST_CHOSEN: usize = 16;

/// The store with the model's parameters.
const MODEL: usize = 0;
/// The store of keys and values.
const CACHE: usize = 1;

/// What a step is told of its tokens.
#[derive(Clone, Copy, Debug)]
struct Place {
    length: usize,
    positions: TensorId,
    places: TensorId,
    ranges: [TensorId; 2],
    last: TensorId,
}

/// Adds steps to a graph.
struct Steps<'a> {
    decoder: &'a Decoder,
    graph: Graph,
    room: Room,
    /// Cosines and sines of all positions, where they turn: in layers that see all tokens, and in those that see near ones.
    tables: Option<[[TensorId; 2]; 2]>,
}

impl Decoder {
    /// The store of a step's keys and values: of each layer both [rows, capacity, key width]; behind them the tokens that
    /// were chosen last [[`MOST_CHOSEN`], rows], and where it is kept, which were said [rows, vocab_size].
    ///
    /// # Errors
    /// [`Error::TooLarge`] when they are too large for any device.
    pub fn cache_layout(&self, room: Room) -> Result<Layout, Error> {
        let spec = |name: String, shape: Vec<usize>| ParameterSpec {
            name,
            shape,
            decay: false,
            init: Init::Constant(0.0),
        };
        let Room { rows, capacity, said } = room;
        let keys = vec![rows, capacity, self.key_width()];
        let mut specs: Vec<ParameterSpec> = (0..self.num_hidden_layers)
            .flat_map(|layer| ["keys", "values"].map(|of| format!("{of} of layer {layer}")))
            .map(|name| spec(name, keys.clone()))
            .collect();
        specs.push(spec("tokens that were chosen".to_owned(), vec![MOST_CHOSEN, rows]));
        let vocabulary = vec![rows, self.vocab_size];
        specs.extend(said.then(|| spec("tokens that were said".to_owned(), vocabulary)));
        Layout::new(specs)
    }

    /// Index of the tokens that were chosen, among what [`Self::cache_layout`] has.
    fn chosen(&self) -> usize {
        2 * self.num_hidden_layers
    }

    /// Index of those that were said.
    fn said(&self) -> usize {
        self.chosen() + 1
    }

    /// A step that reads so many tokens of each row, keeps their keys and values, and guesses what follows. Store 0 has the
    /// model's parameters, which lie as this layout says, store 1 what [`Self::cache_layout`] does.
    ///
    /// # Errors
    /// When the cache is too large for any device.
    pub fn read_plan(&self, parameters: Layout, room: Room, length: usize) -> Result<Plan, Error> {
        let mut steps = Steps::new(self, parameters, room)?;
        let place = steps.place(length, |name| name.to_owned());
        let tokens = steps.integers(names::TOKENS, &[room.rows * length]);
        steps.mark_said(length)?;
        let logits = steps.step(tokens, place)?;
        steps.graph.output(names::LOGITS, logits);
        Plan::compile(&steps.graph, Options::default())
    }

    /// So many steps, at most [`MOST_CHOSEN`], each of which reads one token of each row and chooses the next, which the next
    /// step reads. Stores as those of [`Self::read_plan`].
    ///
    /// # Errors
    /// As [`Self::read_plan`].
    pub fn write_plan(&self, parameters: Layout, room: Room, tokens: usize) -> Result<Plan, Error> {
        let mut steps = Steps::new(self, parameters, room)?;
        let settings =
            steps.graph.input(names::SETTINGS, &[room.rows, sample::SETTINGS], DType::F32);
        let draw = steps.integers(names::DRAW, &[room.rows, sample::DRAW]);
        let mut token = steps.integers(names::TOKENS, &[room.rows]);
        steps.mark_said(1)?;
        let said = room.said.then_some((CACHE, self.said()));
        for number in 0..tokens {
            let place = steps.place(1, |name| names::of_token(name, number));
            let logits = steps.step(token, place)?;
            token = steps.graph.sample(logits, [settings, draw, place.positions], said)?;
            // All in one place, which the host reads once.
            let name = names::of_token(names::CHOSEN, number);
            let at = steps.graph.constant_i32(&name, &[1], &[number as i32])?;
            let row = steps.graph.reshape(token, &[1, room.rows])?;
            steps.graph.scatter(CACHE, self.chosen(), row, at)?;
        }
        let chosen = steps.graph.parameter(CACHE, self.chosen());
        steps.graph.output(names::CHOSEN, chosen);
        Plan::compile(&steps.graph, Options::default())
    }
}

impl<'a> Steps<'a> {
    fn new(decoder: &'a Decoder, parameters: Layout, room: Room) -> Result<Self, Error> {
        let mut graph = Graph::new(vec![parameters, decoder.cache_layout(room)?]);
        let tables = decoder.rotary_tables(&mut graph, room.capacity)?;
        Ok(Self { decoder, graph, room, tables })
    }

    fn integers(&mut self, name: &str, shape: &[usize]) -> TensorId {
        self.graph.input(name, shape, DType::I32)
    }

    /// The inputs of a step that reads so many tokens of each row.
    fn place(&mut self, length: usize, name: impl Fn(&str) -> String) -> Place {
        let rows = self.room.rows;
        let positions = self.integers(&name(names::POSITIONS), &[rows * length]);
        let places = self.integers(&name(names::PLACES), &[rows * length]);
        let last = self.integers(&name(names::LAST), &[rows]);
        let ranges = [names::RANGES, names::NEAR_RANGES]
            .map(|of| self.integers(&name(of), &[rows, length, 2]));
        Place { length, positions, places, ranges, last }
    }

    /// Has it kept that the tokens which are read were said, where that is kept.
    fn mark_said(&mut self, length: usize) -> Result<(), Error> {
        if !self.room.said {
            return Ok(());
        }
        let rows = self.room.rows * length;
        let places = self.integers(names::SAID, &[rows]);
        let ones = self.graph.constant(1.0, &[rows, 1])?;
        self.graph.scatter(CACHE, self.decoder.said(), ones, places)
    }

    /// Reads tokens [rows · length], keeps their keys and values, and guesses what follows each row's last: logits [rows,
    /// vocab_size].
    fn step(&mut self, tokens: TensorId, place: Place) -> Result<TensorId, Error> {
        let Place { length, positions, places, ranges, last } = place;
        let (decoder, rows) = (self.decoder, self.room.rows);
        // An order of row numbers is for gradients, of which there are none.
        let angles = match self.tables {
            None => None,
            Some(tables) => {
                let mut of = |table| self.graph.gather(table, positions, positions);
                let mut both = |[cos, sin]: [TensorId; 2]| Ok::<_, Error>([of(cos)?, of(sin)?]);
                let full = both(tables[0])?;
                let near = if tables[1] == tables[0] { full } else { both(tables[1])? };
                Some([full, near])
            }
        };
        let mut pass = Pass::new(decoder, &mut self.graph, MODEL);
        let embedded = pass.embed([tokens, positions], Some([positions, positions]))?;
        let mut x = pass.graph.reshape(embedded, &[rows, length, decoder.hidden_size])?;
        for layer in 0..decoder.num_hidden_layers {
            let [mut queries, mut keys, values] = pass.attention_inputs(layer, x)?;
            let near = usize::from(decoder.windows[layer].is_some());
            if let Some(angles) = angles.map(|angles| angles[near]) {
                queries = turned(pass.graph, queries, angles, decoder.num_attention_heads)?;
                keys = turned(pass.graph, keys, angles, decoder.num_key_value_heads)?;
            }
            let keys = kept(pass.graph, 2 * layer, keys, places)?;
            let values = kept(pass.graph, 2 * layer + 1, values, places)?;
            let ranges = ranges[near];
            let config = pass.attention_config();
            let attended =
                pass.graph.attention_to_cache([queries, keys, values], ranges, config)?;
            x = pass.add_attended(layer, attended, x)?;
            x = pass.feed_forward(layer, x)?;
        }
        let guessed = pass.vocabulary(x, [last, last])?;
        self.graph.matmul(guessed.hidden, guessed.weight, false, true)
    }
}

/// Puts what was read now beside what was before; all of the layer's, keys or values.
fn kept(graph: &mut Graph, index: usize, x: TensorId, places: TensorId) -> Result<TensorId, Error> {
    let rows = graph.rows(x)?;
    graph.scatter(CACHE, index, rows, places)?;
    Ok(graph.parameter(CACHE, index))
}

/// x [rows, length, columns], each of whose tokens turns by its own angles.
fn turned(
    graph: &mut Graph,
    x: TensorId,
    [cos, sin]: [TensorId; 2],
    heads: usize,
) -> Result<TensorId, Error> {
    let shape = graph.shape(x).to_vec();
    let flat = graph.reshape(x, &[1, shape[0] * shape[1], shape[2]])?;
    let turned = graph.rotary(flat, cos, sin, heads)?;
    graph.reshape(turned, &shape)
}
