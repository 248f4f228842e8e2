// What the readers of quantised blocks share.

// The number in f16 in a word's low half. Scales may be subnormal; no device needs a feature for it.
fn half_of(word: u32) -> f32 {
    let bits = word & 0x7fffu;
    let normal = bitcast<f32>((bits << 13u) + 0x38000000u);
    let size = select(normal, f32(bits) * 5.9604645e-8, bits < 0x400u);
    return select(size, -size, (word & 0x8000u) != 0u);
}

// A word's bytes, the first in its lowest bits.
fn bytes_of(word: u32) -> vec4<u32> {
    return vec4<u32>(word, word >> 8u, word >> 16u, word >> 24u) & vec4<u32>(255u);
}

// The same with a sign each.
fn signed_bytes_of(word: u32) -> vec4<i32> {
    return vec4<i32>(vec4<u32>(word << 24u, word << 16u, word << 8u, word)) >> vec4<u32>(24u);
}

// Four bits from bit `at` of a word on, each as the fifth bit of a number.
fn fifth_bits(word: u32, at: u32) -> vec4<u32> {
    return ((vec4<u32>(word >> at) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u)) << vec4<u32>(4u);
}
