//! Multi-head attention over padded or packed batches, and its gradients.
//!
//! Tiled, with the softmax made online, so that no matrix of scores ever exists whole: Dao et al.,
//! "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness" (NeurIPS 2022); the
//! backward pass as in Dao, "FlashAttention-2" (2023).

mod layout;
#[cfg(test)]
mod tests;
mod twin;

use self::layout::{Layout, Tile};
use crate::matmul::MAX_FLOPS_A_LAUNCH;
use crate::{Caps, Cost, Kernel, Launch, Operand, Source, Variant, bytes, twin};

/// The longest head that every variant can hold.
pub const MAX_HEAD_DIM: usize = 256;

/// Forward out = dropout(softmax(scale · q · kᵀ + bias + mask)) · v, head by head; backward its gradients.
///
/// The mask leaves to query i of example b the keys j < `lengths`\[b\]; if `causal`, those with j <= i; with a `window`,
/// those with |i - j| <= window, or i - j < window if `causal`. Queries that are padding are computed like the others. A
/// query without any key gives 0, and counts in no gradient.
///
/// With `ranges`, what each query sees is told instead: `query_ranges` in the place of the lengths, the first key and the
/// end, and backward `key_ranges` behind all other operands, the first query that sees each key and the end. Both are
/// brought into what there is; neither end of a range may come before that of the row above.
///
/// Operands: `q` f32 [batch, length, heads · head_dim], head h being columns h · head_dim and up; `k`, `v`
/// [batch, keys, kv_heads · head_dim], of which each head serves heads / kv_heads neighbours of the queries' (Ainslie et
/// al., "GQA", 2023); `lengths` i32 \[batch], brought into 0..=length, or `query_ranges` i32 [batch, length, 2]; `out` of
/// q's shape; `lse` [batch, heads, length]: the logarithm of each softmax's denominator, 0 where there is no key. Backward
/// all of these are read, and more follow: `dout`, `dq`, `dk`, `dv` of the shapes of q, k and v, and `stats`
/// [batch, heads, length, 2], which passes each query's lse and Σ dout · out from launch to launch. Where there is a bias,
/// it is the next operand: `bias` [1 or batch, heads, length, length], finite; `stats` has \[batch] more behind, the
/// examples' keys. With `bias_gradient`, `dbias` of the bias's shape is the last. `key_ranges` i32 [batch, keys, 2].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Examples.
    pub batch: usize,
    /// Queries of an example, padding included.
    pub length: usize,
    /// Keys of an example; as many as queries unless there are `ranges`.
    pub keys: usize,
    /// Heads.
    pub heads: usize,
    /// Heads of keys and values, which share out the others; all of them where there is a bias.
    pub kv_heads: usize,
    /// Columns of a head, at most [`MAX_HEAD_DIM`].
    pub head_dim: usize,
    /// Factor of the scores; 1 / √head_dim as a rule.
    pub scale: f32,
    /// Whether a query sees only keys that are not behind it.
    pub causal: bool,
    /// Keys that a query sees in either direction beside the one at its own place; if `causal`, keys that it sees, that
    /// one included, at least 1. Both are the `sliding_window` of transformers' masks.
    pub window: Option<usize>,
    /// Whether the keys that each query sees are told; excludes `causal`, `window` and `bias`.
    pub ranges: bool,
    /// Examples that the bias has, 1 or `batch`, where one is added to the scores.
    pub bias: Option<usize>,
    /// Whether the backward pass makes the bias's gradient.
    pub bias_gradient: bool,
    /// Probability that a weight is dropped, in [0, 1).
    pub dropout: f32,
    /// Stream of the generator, as of [`crate::chain::Stage::Dropout`]. Weight (b, h, i, j) is element
    /// ((b · heads + h) · length + i) · length + j, modulo 2³².
    pub stream: u32,
    /// Whether this is the gradient.
    pub backward: bool,
}

/// What queries see where texts of these lengths lie one behind the other and none sees another: a query its own key and
/// those before it, `window` in all. The queries' ranges of keys [length, 2], and the keys' of queries.
pub fn packed_ranges(texts: &[usize], window: usize) -> [Vec<i32>; 2] {
    let [mut queries, mut keys] = [Vec::new(), Vec::new()];
    let mut first = 0;
    for &text in texts {
        let end = first + text;
        for at in first..end {
            queries.extend([(at + 1).saturating_sub(window).max(first) as i32, at as i32 + 1]);
            keys.extend([at as i32, at.saturating_add(window).min(end) as i32]);
        }
        first = end;
    }
    [queries, keys]
}

/// One of the passes over rows.
#[derive(Clone, Copy, Debug)]
struct Pass {
    shader: &'static str,
    /// Sums for each pair of query and key.
    products: usize,
    /// Operations for each pair of query and key and column.
    flops: usize,
    /// Operands, from binding 2 on.
    bindings: &'static [usize],
    /// Where there is a bias: what is imported for it.
    bias_file: &'static str,
    /// Where the bias is bound among the operands, in the place of the lengths or behind all.
    bias_at: usize,
}

const FORWARD: Pass = Pass {
    shader: "attention",
    products: 1,
    flops: 4,
    bindings: &[Q, K, V, LENGTHS, OUT, LSE],
    bias_file: "common/attention_bias_forward",
    bias_at: 6,
};
const QUERY: Pass = Pass {
    shader: "attention_query",
    products: 2,
    flops: 6,
    bindings: &[Q, K, V, LENGTHS, DOUT, STATS, DQ],
    bias_file: "common/attention_bias_query",
    bias_at: 7,
};
const KEY_VALUE: Pass = Pass {
    shader: "attention_key_value",
    products: 2,
    flops: 8,
    bindings: &[Q, K, V, LENGTHS, DOUT, STATS, DK, DV],
    bias_file: "common/attention_bias_key_value",
    bias_at: LENGTHS,
};
/// The bias's gradient.
const BIAS_PASS: Pass = Pass {
    shader: "attention_bias",
    products: 2,
    flops: 4,
    bindings: &[Q, K, V, LENGTHS, DOUT, STATS, DBIAS],
    bias_file: "common/attention_bias_query",
    bias_at: 7,
};

// Operands, by their place.
const Q: usize = 0;
const K: usize = 1;
const V: usize = 2;
const LENGTHS: usize = 3;
const OUT: usize = 4;
const LSE: usize = 5;
const DOUT: usize = 6;
const DQ: usize = 7;
const DK: usize = 8;
const DV: usize = 9;
const STATS: usize = 10;
const BIAS_FORWARD: usize = 6;
const BIAS_BACKWARD: usize = 11;
/// There is no bias where there are ranges.
const KEY_RANGES: usize = 11;
const DBIAS: usize = 12;

impl Pass {
    /// Whether its rows are keys.
    fn over_keys(&self) -> bool {
        self.shader == KEY_VALUE.shader
    }
}

impl Attention {
    /// The forward pass over so many examples, their length, heads and columns of a head, where every query sees every key
    /// that is no padding.
    pub fn new([batch, length, heads, head_dim]: [usize; 4], scale: f32) -> Self {
        Self {
            batch,
            length,
            keys: length,
            heads,
            kv_heads: heads,
            head_dim,
            scale,
            causal: false,
            window: None,
            ranges: false,
            bias: None,
            bias_gradient: false,
            dropout: 0.0,
            stream: 0,
            backward: false,
        }
    }

    /// Elements of q.
    fn len(&self) -> usize {
        self.batch * self.length * self.stride()
    }

    /// Elements of k and of v.
    fn kv_len(&self) -> usize {
        self.batch * self.keys * self.kv_stride()
    }

    /// Queries of all heads.
    fn rows(&self) -> usize {
        self.batch * self.heads * self.length
    }

    /// Elements from one query to the next.
    fn stride(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Elements from one key to the next.
    fn kv_stride(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Heads that have their keys and values in common.
    fn sharers(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// How many keys before and after its own place a query sees.
    fn reach(&self) -> [usize; 2] {
        match (self.window, self.causal) {
            (None, causal) => [self.length, if causal { 0 } else { self.length }],
            (Some(window), true) => [window.saturating_sub(1).min(self.length), 0],
            (Some(window), false) => [window.min(self.length); 2],
        }
    }

    /// The bias's operand.
    fn bias_operand(&self) -> usize {
        if self.backward { BIAS_BACKWARD } else { BIAS_FORWARD }
    }

    /// Elements of the bias.
    fn bias_len(&self) -> usize {
        self.bias.unwrap_or(0) * self.heads * self.length * self.length
    }

    /// Elements of stats.
    fn stats_len(&self) -> usize {
        2 * self.rows() + if self.bias.is_some() { self.batch } else { 0 }
    }

    /// Pairs of query and key where no example is padded; where ranges are given, as many as a causal mask leaves.
    fn pairs(&self) -> u64 {
        let length = self.length as u64;
        if self.ranges {
            let (keys, heads) = (self.keys as u64, (self.batch * self.heads) as u64);
            return heads * (length * keys - length * (length - 1).min(keys) / 2).max(1);
        }
        // Of a distance beyond the reach d there are length - d pairs.
        let beyond = |reach: usize| {
            let distances = (length - 1).saturating_sub(reach as u64);
            distances * (distances + 1) / 2
        };
        let [before, after] = self.reach();
        (self.batch * self.heads) as u64 * (length * length - beyond(before) - beyond(after))
    }

    fn dims(&self, row_blocks: usize, first_group: usize, groups: usize) -> Vec<u32> {
        let sizes = [self.batch, self.length, self.heads, self.head_dim];
        let geometry = [row_blocks, first_group, groups];
        let mut dims: Vec<u32> = sizes.iter().chain(&geometry).map(|&word| word as u32).collect();
        let [scale, rate] = [self.scale, self.dropout].map(f32::to_bits);
        dims.extend([scale, rate, self.stream]);
        dims.extend(self.reach().map(|keys| keys as u32));
        let more = [self.bias.unwrap_or(0) * self.heads, self.kv_heads, self.keys];
        dims.extend(more.map(|word| word as u32));
        dims
    }

    /// The layouts to choose from, the default first.
    fn layouts(&self, caps: &Caps) -> Vec<Layout> {
        Layout::choices([self.length, self.head_dim], self.backward, caps)
    }

    fn launches_in(&self, layout: Layout, caps: &Caps) -> Vec<Launch> {
        if !self.backward {
            return self.pass(&FORWARD, layout, caps);
        }
        let mut launches = vec![self.delta(caps)];
        launches.extend(self.pass(&QUERY, layout, caps));
        launches.extend(self.pass(&KEY_VALUE, layout, caps));
        if self.bias_gradient {
            launches.extend(self.bias_pass(caps));
        }
        launches
    }

    /// The launches of a pass over so many workgroups, which together do so many operations.
    fn split(
        &self,
        pass: &Pass,
        tile: &Tile,
        (row_blocks, groups, flops): (usize, usize, u64),
        caps: &Caps,
    ) -> Vec<Launch> {
        // Row by row, a GPU is slower than in a product of matrices.
        const MAX_FLOPS: u64 = MAX_FLOPS_A_LAUNCH / 4;
        let parts = flops.div_ceil(MAX_FLOPS).max(1) as usize;
        let step = groups.div_ceil(parts);
        let mut overrides = vec![("DROPOUT", f64::from(u8::from(self.dropout > 0.0)))];
        if self.window.is_some() {
            overrides.push(("WINDOW", 1.0));
        }
        let mut bindings: Vec<Option<usize>> = pass.bindings.iter().map(|&o| Some(o)).collect();
        let mask = match (self.ranges, self.bias) {
            (true, _) => Some(("common/attention_mask", "common/attention_ranges")),
            (false, Some(_)) => Some(("common/attention_unbiased", pass.bias_file)),
            (false, None) => None,
        };
        if self.ranges && pass.over_keys() {
            bindings[LENGTHS] = Some(KEY_RANGES);
        }
        if self.bias.is_some() {
            let bias = Some(self.bias_operand());
            match bindings.get_mut(pass.bias_at) {
                Some(binding) => *binding = bias,
                None => bindings.push(bias),
            }
        }
        let launch = |first: usize| {
            let count = step.min(groups - first);
            Launch {
                source: tile.source(pass.shader, self.head_dim, mask),
                entry: tile.entry,
                overrides: overrides.clone(),
                dims: self.dims(row_blocks, first, count),
                bindings: bindings.clone(),
                workgroups: caps.grid(count),
            }
        };
        (0..groups).step_by(step).map(launch).collect()
    }

    /// The bias's gradient, a tile of it or some rows a workgroup.
    fn bias_pass(&self, caps: &Caps) -> Vec<Launch> {
        const TILE: usize = 16;
        let quads = self.head_dim.div_ceil(4);
        let tile = |entry, rows, own| Tile {
            entry,
            lanes: 1,
            quads,
            rows,
            own,
            depth: 1,
            by_subgroups: false,
        };
        let pairs = self.bias.unwrap_or(0) * self.heads;
        let (tile, blocks) = if caps.software {
            let sizes = [self.length, self.head_dim];
            let tile = Layout::Direct { own: 2 }.tile(sizes, BIAS_PASS.products, caps);
            (tile, self.length.div_ceil(tile.rows))
        } else {
            (tile("tiled", TILE, 1), self.length.div_ceil(TILE).pow(2))
        };
        let all = (self.batch * self.heads * self.length * self.length) as u64;
        let flops = all * (BIAS_PASS.flops * self.head_dim) as u64;
        self.split(&BIAS_PASS, &tile, (blocks, pairs * blocks, flops), caps)
    }

    /// A pass over all rows, in as many launches as keep each short.
    fn pass(&self, pass: &Pass, layout: Layout, caps: &Caps) -> Vec<Launch> {
        let (rows, heads) = match pass.over_keys() {
            true => (self.keys, self.kv_heads),
            false => (self.length, self.heads),
        };
        let tile = layout.tile([rows, self.head_dim], pass.products, caps);
        let row_blocks = rows.div_ceil(tile.rows);
        let groups = self.batch * heads * row_blocks;
        let flops = self.pairs() * (pass.flops * self.head_dim) as u64;
        self.split(pass, &tile, (row_blocks, groups, flops), caps)
    }

    fn delta(&self, caps: &Caps) -> Launch {
        const THREADS: usize = 64;
        let groups = self.rows().div_ceil(THREADS);
        let mut bindings = vec![Some(OUT), Some(DOUT), Some(LSE), Some(STATS)];
        bindings.extend(self.bias.map(|_| Some(LENGTHS)));
        Launch {
            source: Source::of("attention_delta"),
            entry: if self.bias.is_some() { "delta_and_keys" } else { "delta" },
            overrides: Vec::new(),
            dims: self.dims(0, 0, groups),
            bindings,
            workgroups: caps.grid(groups),
        }
    }
}

impl Kernel for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn operands(&self) -> Vec<Operand> {
        let (len, kv_len, rows) = (self.len(), self.kv_len(), self.rows());
        let mut operands =
            vec![Operand::read("q", len), Operand::read("k", kv_len), Operand::read("v", kv_len)];
        operands.push(match self.ranges {
            true => Operand::read_i32("query_ranges", 2 * self.batch * self.length),
            false => Operand::read_i32("lengths", self.batch),
        });
        operands.extend(match self.backward {
            false => vec![Operand::write("out", len), Operand::write("lse", rows)],
            true => vec![
                Operand::read("out", len),
                Operand::read("lse", rows),
                Operand::read("dout", len),
                Operand::write("dq", len),
                Operand::write("dk", kv_len),
                Operand::write("dv", kv_len),
                Operand::write("stats", self.stats_len()),
            ],
        });
        operands.extend(self.bias.map(|_| Operand::read("bias", self.bias_len())));
        if self.bias_gradient {
            operands.push(Operand::write("dbias", self.bias_len()));
        }
        if self.ranges && self.backward {
            operands.push(Operand::read_i32("key_ranges", 2 * self.batch * self.keys));
        }
        operands
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        self.launches_in(self.layouts(caps)[0], caps)
    }

    fn variants(&self, caps: &Caps) -> Vec<Variant> {
        let layouts = self.layouts(caps).into_iter();
        layouts
            .map(|layout| Variant { name: layout.name(), launches: self.launches_in(layout, caps) })
            .collect()
    }

    fn bucket(&self) -> String {
        let pass = if self.backward { "backward" } else { "forward" };
        let [pairs, length] = [self.batch * self.heads, self.length].map(usize::next_power_of_two);
        let causal = if self.causal { " causal" } else { "" };
        let shared = match self.sharers() {
            1 => String::new(),
            sharers => format!(" shared by {sharers}"),
        };
        let ranges = match (self.ranges, self.keys == self.length) {
            (false, _) => String::new(),
            (true, true) => " in ranges".to_owned(),
            (true, false) => format!(" in ranges of {}", self.keys.next_power_of_two()),
        };
        let dropped = if self.dropout > 0.0 { " dropped" } else { "" };
        let window = match self.window {
            Some(window) => format!(" within {}", window.next_power_of_two()),
            None => String::new(),
        };
        let biased = match (self.bias, self.bias_gradient) {
            (None, _) => "",
            (_, false) => " biased",
            (_, true) => " biased and learnt",
        };
        format!(
            "{pass} {pairs}x{length}x{}{causal}{dropped}{window}{biased}{shared}{ranges}",
            self.head_dim
        )
    }

    /// A gradient that is summed over examples stays in f32.
    fn halves(&self) -> Vec<usize> {
        let mut halves = match self.backward {
            false => vec![Q, K, V, OUT],
            true => vec![Q, K, V, OUT, DOUT, DQ, DK, DV],
        };
        halves.extend(self.bias.map(|_| self.bias_operand()));
        if self.bias_gradient && self.bias == Some(self.batch) {
            halves.push(DBIAS);
        }
        halves
    }

    /// Of whole examples: how many are padded is not known when a plan is made. The products of the backward
    /// pass are counted as often as they are needed, though two of them are made twice.
    fn cost(&self) -> Cost {
        let (len, kv_len, rows, pairs) = (self.len(), self.kv_len(), self.rows(), self.pairs());
        let mask = |rows: usize| if self.ranges { 2 * self.batch * rows } else { self.batch };
        let head_dim = self.head_dim as u64;
        let dropped = u64::from(self.dropout > 0.0);
        let bias = self.bias_len();
        let biased = u64::from(self.bias.is_some());
        if self.backward {
            // A pair: five products of head_dim; scale, lse and exp; two steps to the score's gradient. An
            // element: delta's product and sum, scale of dq and dk. A pair with a bias: its addition, and its gradient's.
            let dbias = if self.bias_gradient { bias } else { 0 };
            let learnt = u64::from(self.bias_gradient && self.bias != Some(self.batch));
            return Cost {
                flops: pairs * (10 * head_dim + 5 + 2 * dropped + biased + learnt)
                    + (3 * len + kv_len) as u64,
                bytes_read: bytes(
                    3 * len
                        + 2 * kv_len
                        + rows
                        + mask(self.length)
                        + bias
                        + if self.ranges { mask(self.keys) } else { 0 },
                ),
                bytes_written: bytes(len + 2 * kv_len + self.stats_len() + dbias),
            };
        }
        // A pair: two products of head_dim; scale, maximum, exp and sum. A row: its logarithm and their sum.
        Cost {
            flops: pairs * (4 * head_dim + 4 + dropped + biased) + (len + 2 * rows) as u64,
            bytes_read: bytes(len + 2 * kv_len + mask(self.length) + bias),
            bytes_written: bytes(len + rows),
        }
    }

    twin!();
}
