// A table whose rows are looked up, stored in bytes: four elements a word, the first in its lowest bits. The scale of each
// row is applied to what was looked up.

@group(0) @binding(2) var<storage, read> table: array<u32>;

fn table_at(i: u32) -> f32 {
    // To the highest bits, and back with the sign.
    return f32(i32(table[i / 4u] << (24u - 8u * (i % 4u))) >> 24u);
}
