// w[r, ·] *= bound / ‖w[r, ·]‖₂ for each row whose norm exceeds the bound: the constraint on the incoming
// weights of a unit of Hinton et al., "Improving neural networks by preventing co-adaptation of feature
// detectors" (2012).
//
// dims  uniform: rows, words of a row, bound
// w     f32 [rows, cols], updated; PyTorch's layout of a linear layer, [out_features, in_features]
// LANES threads stride along a row; ROWS rows a workgroup, over a folded grid.

//#import common/row_tree.wgsl
//#import common/step.wgsl
//#import common/word.wgsl

struct Dims {
    rows: u32,
    words: u32,
    bound: f32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read_write> w: array<Word>;

@compute @workgroup_size(LANES, ROWS)
fn max_norm(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let row = flat_group(group, groups) * ROWS + local.y;
    let start = row * dims.words;
    // A surplus row is empty: its threads still take part in the barriers.
    let end = select(0u, dims.words, row < dims.rows);
    var squares: Word;
    for (var c = local.x; c < end; c += LANES) {
        squares += w[start + c] * w[start + c];
    }
    let norm = sqrt(row_sums(local, vec4<f32>(sum_of(squares))).x);
    if norm > dims.bound {
        for (var c = local.x; c < end; c += LANES) {
            w[start + c] *= dims.bound / norm;
        }
    }
}
