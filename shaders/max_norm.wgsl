// w[r, ·] *= bound / ‖w[r, ·]‖₂ for each row whose norm exceeds the bound: the constraint on the incoming
// weights of a unit of Hinton et al., "Improving neural networks by preventing co-adaptation of feature
// detectors" (2012).
//
// dims  uniform: rows, cols, bound
// w     f32 [rows, cols], updated; PyTorch's layout of a linear layer, [out_features, in_features]
// LANES threads stride along a row; ROWS rows a workgroup, over a folded grid.

//#import common/row_tree.wgsl
//#import common/step.wgsl

struct Dims {
    rows: u32,
    cols: u32,
    bound: f32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read_write> w: array<f32>;

@compute @workgroup_size(LANES, ROWS)
fn max_norm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let row = flat_group(group, groups) * ROWS + local.y;
    let start = row * dims.cols;
    // A surplus row is empty: its threads still take part in the barriers.
    let end = select(0u, dims.cols, row < dims.rows);
    var sum = 0.0;
    for (var c = local.x; c < end; c += LANES) {
        sum += w[start + c] * w[start + c];
    }
    let norm = sqrt(row_sums(local, vec4<f32>(sum, 0.0, 0.0, 0.0)).x);
    if norm > dims.bound {
        for (var c = local.x; c < end; c += LANES) {
            w[start + c] *= dims.bound / norm;
        }
    }
}
