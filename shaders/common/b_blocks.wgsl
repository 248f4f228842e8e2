// B of a matrix product, stored in blocks of quantised numbers, in whole words (kernels/src/blocks.rs); also in fours. Which
// blocks is the file that is imported. What is read becomes f32 at once.

@group(0) @binding(3) var<storage, read> b: array<u32>;

fn word_at(i: u32) -> u32 {
    return b[i];
}

//#import common/blocks_q8_0.wgsl

fn b_at(i: u32) -> f32 {
    return block_quad(i / 4u * 4u)[i % 4u];
}

// Four elements from i on, a multiple of four.
fn b_quad_at(i: u32) -> vec4<f32> {
    return block_quad(i);
}
