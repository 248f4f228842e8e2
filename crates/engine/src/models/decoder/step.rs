//! A decoder that goes on: reads the tokens of each row that come behind those whose keys and values are kept.

use distil_gpu_kernels::DType;

use super::Decoder;
use super::forward::Pass;
use crate::error::Error;
use crate::graph::{Graph, TensorId};
use crate::layout::Layout;
use crate::plan::{Options, Plan};
use crate::store::{Init, ParameterSpec};

/// Extents of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepShape {
    /// Texts that are continued.
    pub rows: usize,
    /// Tokens of each that are read at once.
    pub length: usize,
    /// Tokens of each whose keys and values are kept.
    pub capacity: usize,
}

/// Names of a step's inputs and of its output.
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
    /// Logits [rows, vocab_size].
    pub const LOGITS: &str = "logits";
}

/// The store with the model's parameters.
const MODEL: usize = 0;
/// The store of keys and values.
const CACHE: usize = 1;

impl Decoder {
    /// The store of a step's keys and values: of each layer both [rows, capacity, key width].
    ///
    /// # Errors
    /// [`Error::TooLarge`] when they are too large for any device.
    pub fn cache_layout(&self, rows: usize, capacity: usize) -> Result<Layout, Error> {
        let spec = |layer: usize, of: &str| ParameterSpec {
            name: format!("{of} of layer {layer}"),
            shape: vec![rows, capacity, self.key_width()],
            decay: false,
            init: Init::Constant(0.0),
        };
        let layers = 0..self.num_hidden_layers;
        Layout::new(layers.flat_map(|layer| ["keys", "values"].map(|of| spec(layer, of))).collect())
    }

    /// A step: reads tokens, keeps their keys and values, and guesses the next token of each row. Store 0 has the model's
    /// parameters, which lie as this layout says, store 1 what [`Self::cache_layout`] does.
    ///
    /// # Errors
    /// When the cache is too large for any device.
    pub fn step_plan(&self, parameters: Layout, shape: StepShape) -> Result<Plan, Error> {
        let StepShape { rows, length, capacity } = shape;
        let mut graph = Graph::new(vec![parameters, self.cache_layout(rows, capacity)?]);
        let mut integers = |name: &str, shape: &[usize]| graph.input(name, shape, DType::I32);
        let tokens = integers(names::TOKENS, &[rows * length]);
        let positions = integers(names::POSITIONS, &[rows * length]);
        let places = integers(names::PLACES, &[rows * length]);
        let last = integers(names::LAST, &[rows]);
        let ranges =
            [names::RANGES, names::NEAR_RANGES].map(|name| integers(name, &[rows, length, 2]));
        // An order of row numbers is for gradients, of which there are none.
        let angles = match self.rotary_tables(&mut graph, capacity)? {
            None => None,
            Some(tables) => {
                let mut of = |table| graph.gather(table, positions, positions);
                let mut both = |[cos, sin]: [TensorId; 2]| Ok::<_, Error>([of(cos)?, of(sin)?]);
                let full = both(tables[0])?;
                let near = if tables[1] == tables[0] { full } else { both(tables[1])? };
                Some([full, near])
            }
        };
        let mut pass = Pass::new(self, &mut graph, MODEL);
        let embedded = pass.embed([tokens, tokens], Some([positions, positions]))?;
        let mut x = pass.graph.reshape(embedded, &[rows, length, self.hidden_size])?;
        for layer in 0..self.num_hidden_layers {
            let [mut queries, mut keys, values] = pass.attention_inputs(layer, x)?;
            let near = usize::from(self.windows[layer].is_some());
            if let Some(angles) = angles.map(|angles| angles[near]) {
                queries = turned(pass.graph, queries, angles, self.num_attention_heads)?;
                keys = turned(pass.graph, keys, angles, self.num_key_value_heads)?;
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
        let logits = graph.matmul(guessed.hidden, guessed.weight, false, true)?;
        graph.output(names::LOGITS, logits);
        Plan::compile(&graph, Options::default())
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
