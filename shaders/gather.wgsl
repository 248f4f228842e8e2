// out[i, c] = table[ids[i], c], or 0 where ids[i] names no row of the table; with ACCUMULATE such rows stay as they are.
// Dims are in common/gather.wgsl.
//
// table  [table_rows, cols], in f32 (common/table_f32.wgsl) or f16
// ids    [rows], i32 or f32 (common/ids_i32.wgsl, ids_f32.wgsl)
// out    f32 [rows, cols]
//
// LANES threads stride along a row; ROWS rows a workgroup, over a folded grid.

//#import common/gather.wgsl
//#import common/table_f32.wgsl

alias out_type = f32;

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
    let id = id_at(row);
    let known = names_row(id);
    if ACCUMULATE && !known {
        return;
    }
    let start = select(0u, u32(id) - dims.first, known) * dims.cols;
    for (var c = local.x; c < dims.cols; c += LANES) {
        out[row * dims.cols + c] = out_type(select(0.0, table_at(start + c), known));
    }
}
