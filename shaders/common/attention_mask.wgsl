// What queries see: query i of example b the keys j < lengths[b] with i - before <= j <= i + after, of as many keys as
// queries. Without WINDOW, before is no less than their number. Lengths and bias are bound by
// common/attention_unbiased.wgsl or what stands in for it; common/attention_ranges.wgsl stands in for this file where
// ranges are given.

//#import common/attention_unbiased.wgsl

// The keys that a query sees: the first, and the end.
fn keys_seen(place: Place, query: u32) -> vec2<u32> {
    let start = select(0u, query - min(query, dims.before), WINDOW);
    return vec2<u32>(start, min(place.keys, query + 1u + dims.after));
}

// The queries that see a key.
fn queries_seeing(place: Place, key: u32) -> vec2<u32> {
    let end = select(dims.length, min(dims.length, key + 1u + dims.before), WINDOW);
    return vec2<u32>(key - min(key, dims.after), select(0u, end, key < place.keys));
}

// The queries that see any of `count` keys from `first` on, the same for all threads: none sees padding.
fn queries_seeing_any(place: Place, first: u32, count: u32) -> vec2<u32> {
    let end = select(dims.length, min(dims.length, first + count + dims.before), WINDOW);
    return vec2<u32>(first - min(first, dims.after), select(0u, end, first < loop_keys(place)));
}
