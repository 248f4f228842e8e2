// A table whose rows are looked up, stored in blocks of quantised numbers, in whole words (kernels/src/blocks.rs). Which blocks
// is the file that is imported.

@group(0) @binding(2) var<storage, read> table: array<u32>;

fn word_at(i: u32) -> u32 {
    return table[i];
}

//#import common/blocks_q8_0.wgsl

fn table_at(i: u32) -> f32 {
    return block_quad(i / 4u * 4u)[i % 4u];
}
