// What the passes of attention share: dims, where a workgroup's rows lie, mask and dropout.
//
// dims     uniform: batch, length, heads, head_dim; row_blocks workgroups share a head's rows; the launch's first
//          workgroup and their number; scale of the scores, rate and stream of the dropout; how many keys before and
//          after its own position a query sees; heads of the bias, over all examples that have one
// Query i of example b sees key j < lengths[b] with i - before <= j <= i + after. Without WINDOW, before is no less than
// length. Lengths and bias are bound by common/attention_unbiased.wgsl or what stands in for it.

//#import common/step.wgsl
//#import common/nan.wgsl
//#import common/random.wgsl
//#import common/attention_unbiased.wgsl

struct Dims {
    batch: u32,
    length: u32,
    heads: u32,
    head_dim: u32,
    row_blocks: u32,
    first_group: u32,
    groups: u32,
    scale: f32,
    rate: f32,
    stream: u32,
    before: u32,
    after: u32,
    bias_pairs: u32,
}

// Threads that share a row, and vec4 of a row that each holds: quad d of a thread is quad d · LANES + lane.
const LANES: u32 = 1u;
const QUADS: u32 = 8u;
// Rows of a workgroup.
const ROWS: u32 = 64u;
// `tiled`: rows of the other side that workgroup memory holds.
const DEPTH: u32 = 16u;
// `direct`: rows of a thread.
const OWN: u32 = 4u;
override DROPOUT: bool = false;
// Whether a query sees no keys far before it.
override WINDOW: bool = false;

const TILE_QUADS: u32 = LANES * QUADS;
const LOWEST: f32 = -3.4028234e38;

@group(0) @binding(0) var<uniform> dims: Dims;

// Rows of one head of one example.
struct Place {
    // batch · heads + head
    pair: u32,
    // First element of the head in row 0.
    base: u32,
    // First row of the workgroup.
    first: u32,
    // Keys that are no padding.
    keys: u32,
}

fn place_of(flat: u32) -> Place {
    let group = dims.first_group + flat;
    let pair = group / dims.row_blocks;
    let batch = pair / dims.heads;
    let base = (batch * dims.length * dims.heads + pair % dims.heads) * dims.head_dim;
    return Place(pair, base, group % dims.row_blocks * ROWS, keys_of(batch));
}

// Where the head's columns of a row lie; of its last row, for one behind it.
fn row_at(place: Place, row: u32) -> u32 {
    return place.base + min(row, dims.length - 1u) * dims.heads * dims.head_dim;
}

// The first key that a query sees, if it sees any.
fn keys_start(query: u32) -> u32 {
    if !WINDOW {
        return 0u;
    }
    return query - min(query, dims.before);
}

// The end of the keys that a query sees.
fn keys_end(place: Place, query: u32) -> u32 {
    return min(place.keys, query + 1u + dims.after);
}

fn is_seen(place: Place, query: u32, key: u32) -> bool {
    let is_before_end = key < keys_end(place, query);
    if !WINDOW {
        return is_before_end;
    }
    return is_before_end && key >= keys_start(query);
}

// What dropout multiplies the weight of a query and a key by.
fn dropout(place: Place, query: u32, key: u32) -> f32 {
    if !DROPOUT {
        return 1.0;
    }
    let index = (place.pair * dims.length + query) * dims.length + key;
    let unit = random_unit(state.seed, dims.stream, state.step, index);
    return select(0.0, 1.0 / (1.0 - dims.rate), unit >= dims.rate);
}
