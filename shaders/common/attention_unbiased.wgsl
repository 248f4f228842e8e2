// Attention's lengths, and scores as they are; common/attention_bias_*.wgsl stand in for it where there is a bias.
//
// lengths  i32 [batch]: keys from lengths[b] on are padding

@group(0) @binding(5) var<storage, read> lengths: array<i32>;

// Keys of an example that are no padding.
fn keys_of(batch: u32) -> u32 {
    return u32(clamp(lengths[batch], 0, i32(dims.length)));
}

// Keys that bound a loop with barriers.
fn loop_keys(place: Place) -> u32 {
    return place.keys;
}

fn biased(score: f32, place: Place, query: u32, key: u32) -> f32 {
    return score;
}
