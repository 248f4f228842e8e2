// The upper 16 bits of f32, two numbers a word, the first in its low half.

// Four elements from i on, a multiple of four.
fn block_quad(i: u32) -> vec4<f32> {
    let words = vec2<u32>(word_at(i / 2u), word_at(i / 2u + 1u));
    return bitcast<vec4<f32>>(vec4<u32>(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
}
