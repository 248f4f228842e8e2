// out[i, c] = table[ids[i] - first, c], or 0 where ids[i] names no row of the table (what is there stays, with
// ACCUMULATE), as gather.wgsl's forward, of a table stored in f16: two elements a word, the first in its low half.
//
// dims   uniform: rows of out, rows of the table, cols, two that are of no use here, id of the table's first row
// table  f16 [table_rows, cols]
// ids    i32 [rows]
// out    f32 [rows, cols]
//
// LANES threads stride along a row; ROWS rows a workgroup, over a folded grid.

//#import common/step.wgsl

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

alias out_type = f32;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> table: array<u32>;
@group(0) @binding(3) var<storage, read> ids: array<i32>;
@group(0) @binding(4) var<storage, read_write> out: array<out_type>;

@compute @workgroup_size(LANES, ROWS)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let row = flat_group(group, groups) * ROWS + local.y;
    if row >= dims.rows {
        return;
    }
    let id = ids[row];
    let known = id >= 0 && u32(id) >= dims.first && u32(id) - dims.first < dims.table_rows;
    if ACCUMULATE && !known {
        return;
    }
    let start = select(0u, u32(id) - dims.first, known) * dims.cols;
    for (var c = local.x; c < dims.cols; c += LANES) {
        let pair = unpack2x16float(table[(start + c) / 2u]);
        let value = select(pair.x, pair.y, (start + c) % 2u == 1u);
        out[row * dims.cols + c] = out_type(select(0.0, value, known));
    }
}
