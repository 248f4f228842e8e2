// Blocks of Q6_K in 53 words: the low 4 bits of 256 numbers, their high 2 bits, 16 scales in 8 bits, and theirs in f16. Of each
// 128 numbers, four rows of 32 share 64 bytes with low bits and 32 with high ones.

//#import common/blocks.wgsl

// Four elements from i on, a multiple of four.
fn block_quad(i: u32) -> vec4<f32> {
    let start = i / 256u * 53u;
    let two = i % 256u / 128u;
    let four = i % 128u / 32u;
    let word = i % 32u / 4u;
    let low = (bytes_of(word_at(start + two * 16u + four % 2u * 8u + word)) >> vec4<u32>(four / 2u * 4u)) & vec4<u32>(15u);
    let high = (bytes_of(word_at(start + 32u + two * 8u + word)) >> vec4<u32>(four * 2u)) & vec4<u32>(3u);
    let part = i % 256u / 16u;
    let scales = signed_bytes_of(word_at(start + 48u + part / 4u));
    let scale = half_of(word_at(start + 52u)) * f32(scales[part % 4u]);
    return scale * (vec4<f32>(low | (high << vec4<u32>(4u))) - 32.0);
}
