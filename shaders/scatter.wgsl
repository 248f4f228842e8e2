// table[places[r], c] = x[r, c]; a row whose place is no row of the table is left out. No two have the same place.
//
// dims    uniform: elements of x, columns of a row, rows of the table
// x       f32 [rows, cols]
// places  i32 [rows]
// table   f32 [table_rows, cols]
//
// A thread an element of x, 64 a workgroup, over a folded grid.

//#import common/step.wgsl

struct Dims {
    len: u32,
    cols: u32,
    table_rows: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> places: array<i32>;
@group(0) @binding(4) var<storage, read_write> table: array<f32>;

@compute @workgroup_size(64)
fn scatter(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    if i >= dims.len {
        return;
    }
    let place = places[i / dims.cols];
    if place < 0 || u32(place) >= dims.table_rows {
        return;
    }
    table[u32(place) * dims.cols + i % dims.cols] = x[i];
}
