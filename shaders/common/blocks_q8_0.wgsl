// Blocks of Q8_0 in 9 words: a scale in f32, and 32 bytes.

//#import common/blocks.wgsl

// Four elements from i on, a multiple of four.
fn block_quad(i: u32) -> vec4<f32> {
    let start = i / 32u * 9u;
    return bitcast<f32>(word_at(start)) * vec4<f32>(signed_bytes_of(word_at(start + 1u + i % 32u / 4u)));
}
