// B of a matrix product, stored in bytes: four elements a word, the first in its lowest bits; also in fours. What is read
// becomes f32 at once; the scale of each column is applied behind the product.

@group(0) @binding(3) var<storage, read> b: array<u32>;

fn b_at(i: u32) -> f32 {
    // To the highest bits, and back with the sign.
    return f32(i32(b[i / 4u] << (24u - 8u * (i % 4u))) >> 24u);
}

// Four elements from i on, a multiple of four.
fn b_quad_at(i: u32) -> vec4<f32> {
    let word = b[i / 4u];
    return vec4<f32>(vec4<i32>(vec4<u32>(word << 24u, word << 16u, word << 8u, word)) >> vec4<u32>(24u));
}
