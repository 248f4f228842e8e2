// Blocks of Q4_1 in 5 words: scale and least number in f16, and 32 numbers of 4 bits, the low halves of 16 bytes before the
// high ones.

//#import common/blocks.wgsl

// Four elements from i on, a multiple of four.
fn block_quad(i: u32) -> vec4<f32> {
    let start = i / 32u * 5u;
    let scales = word_at(start);
    let bytes = bytes_of(word_at(start + 1u + i % 16u / 4u));
    let quants = (bytes >> vec4<u32>(i % 32u / 16u * 4u)) & vec4<u32>(15u);
    return half_of(scales) * vec4<f32>(quants) + half_of(scales >> 16u);
}
