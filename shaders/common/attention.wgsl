// What the passes of attention share: dims, where a workgroup's rows lie, mask and dropout.
//
// dims     uniform: batch, length (queries of an example), heads, head_dim; row_blocks workgroups share a head's rows; the
//          launch's first workgroup and their number; scale of the scores, rate and stream of the dropout; how many keys
//          before and after its own position a query sees; heads of the bias, over all examples that have one; heads of
//          keys and values, each of which serves heads / kv_heads neighbours; keys of an example
// Which keys a query sees is common/attention_mask.wgsl's affair, or that of what stands in for it.

//#import common/step.wgsl
//#import common/nan.wgsl
//#import common/random.wgsl
//#import common/attention_mask.wgsl

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
    kv_heads: u32,
    keys: u32,
}

// Threads that share a row, and vec4 of a row that each holds: quad d of a thread is quad d · LANES + lane.
const LANES: u32 = 1u;
const QUADS: u32 = 8u;
// Rows of a workgroup.
const ROWS: u32 = 64u;
// `tiled`: rows of the other side that workgroup memory holds.
const DEPTH: u32 = 16u;
// Rows of a thread.
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
    batch: u32,
    // First element of the head in row 0 of the queries.
    base: u32,
    // First element of its keys' head in row 0 of the keys.
    key_base: u32,
    // First row of the workgroup.
    first: u32,
    // Keys that are no padding.
    keys: u32,
}

fn place_at(batch: u32, head: u32, first: u32) -> Place {
    let kv_head = head / (dims.heads / dims.kv_heads);
    let base = (batch * dims.length * dims.heads + head) * dims.head_dim;
    let key_base = (batch * dims.keys * dims.kv_heads + kv_head) * dims.head_dim;
    return Place(batch * dims.heads + head, batch, base, key_base, first, keys_of(batch));
}

// Queries of a workgroup.
fn place_of(flat: u32) -> Place {
    let group = dims.first_group + flat;
    let pair = group / dims.row_blocks;
    return place_at(pair / dims.heads, pair % dims.heads, group % dims.row_blocks * ROWS);
}

// Where the head's columns of a query lie; of the last, for one behind it.
fn row_at(place: Place, row: u32) -> u32 {
    return place.base + min(row, dims.length - 1u) * dims.heads * dims.head_dim;
}

// Where the head's columns of a key lie; of the last, for one behind it.
fn key_at(place: Place, key: u32) -> u32 {
    return place.key_base + min(key, dims.keys - 1u) * dims.kv_heads * dims.head_dim;
}

fn is_within(range: vec2<u32>, at: u32) -> bool {
    return at >= range.x && at < range.y;
}

// What dropout multiplies the weight of a query and a key by.
fn dropout(place: Place, query: u32, key: u32) -> f32 {
    if !DROPOUT {
        return 1.0;
    }
    let index = (place.pair * dims.length + query) * dims.keys + key;
    let unit = random_unit(state.seed, dims.stream, state.step, index);
    return select(0.0, 1.0 / (1.0 - dims.rate), unit >= dims.rate);
}
