// A table whose rows are looked up, stored in f16: two elements a word, the first in its low half.

@group(0) @binding(2) var<storage, read> table: array<u32>;

fn table_at(i: u32) -> f32 {
    let pair = unpack2x16float(table[i / 2u]);
    return select(pair.x, pair.y, i % 2u == 1u);
}
