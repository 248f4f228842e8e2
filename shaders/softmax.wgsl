// forward   y[r, c] = exp(x[r, c] - m) / Σ exp(x[r, ·] - m), m being the maximum of row r
// backward  dx[r, c] = y[r, c] · (dy[r, c] - Σ y[r, ·] · dy[r, ·])
// Maximum and sum in one pass: the sum is rescaled when the maximum grows (Milakov and Gimelshein,
// "Online normalizer calculation for softmax", 2018). A row of -inf gives NaN, as in PyTorch.
//
// dims   uniform: rows, cols
// input  f32 [rows, cols]: x forward, y backward
// out    f32 [rows, cols]: y forward, dx backward
// dy     f32 [rows, cols], backward only
// LANES threads stride along a row; ROWS rows a workgroup, over a folded grid.

//#import common/step.wgsl
//#import common/nan.wgsl
//#import common/row_tree.wgsl

struct Dims {
    rows: u32,
    cols: u32,
}

const LOWEST: f32 = -3.4028234e38;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> input: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;

@compute @workgroup_size(LANES, ROWS)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let row = flat_group(group, groups) * ROWS + local.y;
    let start = row * dims.cols;
    // A surplus row is empty: its threads still take part in the barriers.
    let end = select(0u, dims.cols, row < dims.rows);
    var m = LOWEST;
    var sum = 0.0;
    for (var c = local.x; c < end; c += LANES) {
        let v = input[start + c];
        if v > m {
            sum = sum * exp(m - v) + 1.0;
            m = v;
        } else {
            sum += keep_nan(exp(v - m), v);
        }
    }
    let top = row_peaks(local, Peaks(vec2<f32>(m), vec2<u32>())).value.x;
    sum = row_sums(local, vec4<f32>(sum * exp(m - top))).x;
    for (var c = local.x; c < end; c += LANES) {
        out[start + c] = exp(input[start + c] - top) / sum;
    }
}

@compute @workgroup_size(LANES, ROWS)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let row = flat_group(group, groups) * ROWS + local.y;
    let start = row * dims.cols;
    let end = select(0u, dims.cols, row < dims.rows);
    var sum = 0.0;
    for (var c = local.x; c < end; c += LANES) {
        sum += input[start + c] * dy[start + c];
    }
    sum = row_sums(local, vec4<f32>(sum)).x;
    for (var c = local.x; c < end; c += LANES) {
        out[start + c] = input[start + c] * (dy[start + c] - sum);
    }
}
