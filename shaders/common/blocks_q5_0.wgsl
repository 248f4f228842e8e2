// Blocks of Q5_0 in 6 words: a scale in f16, the fifth bits of 32 numbers, and the other four, the low halves of 16 bytes
// before the high ones.

//#import common/blocks.wgsl

// Four elements from i on, a multiple of four.
fn block_quad(i: u32) -> vec4<f32> {
    let start = i / 32u * 6u;
    let bytes = bytes_of(word_at(start + 2u + i % 16u / 4u));
    let quants = (bytes >> vec4<u32>(i % 32u / 16u * 4u)) & vec4<u32>(15u);
    let all = quants | fifth_bits(word_at(start + 1u), i % 32u);
    return half_of(word_at(start)) * (vec4<f32>(all) - 16.0);
}
