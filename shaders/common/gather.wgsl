// What gather's passes share: dims, and which ids name a row of the table. Ids count from dims.first: a table may be bound
// in parts, one after another.
//
// dims   uniform: rows of out (or of dy), rows of the table, cols, table rows of a block, length of the longest short run
//        (both of the backward pass alone), id of the table's first row

//#import common/step.wgsl
//#import common/ids_i32.wgsl

struct Dims {
    rows: u32,
    table_rows: u32,
    cols: u32,
    block: u32,
    short: u32,
    first: u32,
}

override LANES: u32 = 64u;
override ROWS: u32 = 1u;
override ACCUMULATE: bool = false;

@group(0) @binding(0) var<uniform> dims: Dims;

fn names_row(id: i32) -> bool {
    return id >= i32(dims.first) && u32(id) - dims.first < dims.table_rows;
}
