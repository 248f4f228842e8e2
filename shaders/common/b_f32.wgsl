// B of a matrix product, stored in f32; also in fours.

alias b_type = f32;

@group(0) @binding(3) var<storage, read> b: array<b_type>;
@group(0) @binding(3) var<storage, read> b_quads: array<vec4<b_type>>;

fn b_at(i: u32) -> f32 {
    return f32(b[i]);
}

// Four elements from i on, a multiple of four.
fn b_quad_at(i: u32) -> vec4<f32> {
    return vec4<f32>(b_quads[i / 4u]);
}
