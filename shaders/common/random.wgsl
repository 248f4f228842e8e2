// Threefry-2x32, 20 rounds (Salmon et al., SC 2011); twin of kernels/src/random.rs.

fn rotate_left(x: u32, bits: u32) -> u32 {
    return (x << bits) | (x >> (32u - bits));
}

fn threefry_round(v: vec2<u32>, bits: u32) -> vec2<u32> {
    let x = v.x + v.y;
    return vec2<u32>(x, rotate_left(v.y, bits) ^ x);
}

fn threefry_even(v: vec2<u32>) -> vec2<u32> {
    return threefry_round(threefry_round(threefry_round(threefry_round(v, 13u), 15u), 26u), 6u);
}

fn threefry_odd(v: vec2<u32>) -> vec2<u32> {
    return threefry_round(threefry_round(threefry_round(threefry_round(v, 17u), 29u), 16u), 24u);
}

fn threefry2x32(key: vec2<u32>, counter: vec2<u32>) -> vec2<u32> {
    let k2 = 0x1BD11BDAu ^ key.x ^ key.y;
    var v = counter + key;
    v = threefry_even(v) + vec2<u32>(key.y, k2 + 1u);
    v = threefry_odd(v) + vec2<u32>(k2, key.x + 2u);
    v = threefry_even(v) + vec2<u32>(key.x, key.y + 3u);
    v = threefry_odd(v) + vec2<u32>(key.y, k2 + 4u);
    v = threefry_even(v) + vec2<u32>(k2, key.x + 5u);
    return v;
}

// The word of element `index` of `stream` at a step, as a number in [0, 1): its upper 24 bits.
fn random_unit(seed: u32, stream: u32, step: u32, index: u32) -> f32 {
    let words = threefry2x32(vec2<u32>(seed, stream), vec2<u32>(index >> 1u, step));
    return f32(select(words.x, words.y, (index & 1u) == 1u) >> 8u) * (1.0 / 16777216.0);
}
