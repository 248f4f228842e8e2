// Blocks of Q4_K in 36 words: two scales in f16, scales and least numbers of 8 parts, and 256 numbers of 4 bits, of each 64 the
// low halves of 32 bytes before the high ones.

//#import common/blocks_k.wgsl

// Four elements from i on, a multiple of four.
fn block_quad(i: u32) -> vec4<f32> {
    let start = i / 256u * 36u;
    let part = i % 256u / 32u;
    let bytes = bytes_of(word_at(start + 4u + part / 2u * 8u + i % 32u / 4u));
    let quants = (bytes >> vec4<u32>(part % 2u * 4u)) & vec4<u32>(15u);
    let scales = scale_and_least(start, part);
    return scales.x * vec4<f32>(quants) - scales.y;
}
