// B of a matrix product, stored in f16: two elements a word, the first in its low half; also in fours. What is read
// becomes f32 at once, which is standard WGSL: no device needs a feature for it.

@group(0) @binding(3) var<storage, read> b: array<u32>;
@group(0) @binding(3) var<storage, read> b_quads: array<vec2<u32>>;

fn b_at(i: u32) -> f32 {
    let pair = unpack2x16float(b[i / 2u]);
    return select(pair.x, pair.y, i % 2u == 1u);
}

// Four elements from i on, a multiple of four.
fn b_quad_at(i: u32) -> vec4<f32> {
    let quad = b_quads[i / 4u];
    return vec4<f32>(unpack2x16float(quad.x), unpack2x16float(quad.y));
}
