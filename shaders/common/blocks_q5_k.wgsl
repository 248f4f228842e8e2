// Blocks of Q5_K in 44 words: two scales in f16, scales and least numbers of 8 parts, the fifth bits of 256 numbers, and the
// other four, of each 64 the low halves of 32 bytes before the high ones.

//#import common/blocks_k.wgsl

// Four elements from i on, a multiple of four.
fn block_quad(i: u32) -> vec4<f32> {
    let start = i / 256u * 44u;
    let part = i % 256u / 32u;
    let bytes = bytes_of(word_at(start + 12u + part / 2u * 8u + i % 32u / 4u));
    let quants = (bytes >> vec4<u32>(part % 2u * 4u)) & vec4<u32>(15u);
    let fifth = (bytes_of(word_at(start + 4u + i % 32u / 4u)) >> vec4<u32>(part)) & vec4<u32>(1u);
    let scales = scale_and_least(start, part);
    return scales.x * vec4<f32>(quants | (fifth << vec4<u32>(4u))) - scales.y;
}
