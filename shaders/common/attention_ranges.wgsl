// As common/attention_mask.wgsl, where each query's keys are told: packed texts, windows, cached keys. Neither end of a range
// comes before that of the row above.
//
// ranges  i32 [batch, rows, 2]: of each query the first key that it sees and the end; of each key, in the pass over keys,
//         the first query that sees it and the end

@group(0) @binding(5) var<storage, read> ranges: array<vec2<i32>>;

fn keys_of(batch: u32) -> u32 {
    return dims.keys;
}

fn biased(score: f32, place: Place, query: u32, key: u32) -> f32 {
    return score;
}

// A row's range, of the last for one behind it, brought into 0 to `most`.
fn range_of(place: Place, row: u32, rows: u32, most: u32) -> vec2<u32> {
    let range = ranges[place.batch * rows + min(row, rows - 1u)];
    return vec2<u32>(clamp(range, vec2<i32>(), vec2<i32>(i32(most))));
}

// The keys that a query sees: the first, and the end.
fn keys_seen(place: Place, query: u32) -> vec2<u32> {
    return range_of(place, query, dims.length, dims.keys);
}

// The queries that see a key.
fn queries_seeing(place: Place, key: u32) -> vec2<u32> {
    return range_of(place, key, dims.keys, dims.length);
}

// The queries that see any of `count` keys from `first` on.
fn queries_seeing_any(place: Place, first: u32, count: u32) -> vec2<u32> {
    let last = queries_seeing(place, first + count - 1u);
    return vec2<u32>(queries_seeing(place, first).x, last.y);
}
