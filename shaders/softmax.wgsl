// forward   y[r, c] = exp(x[r, c] - m) / Σ exp(x[r, ·] - m), m being the maximum of row r
// backward  dx[r, c] = y[r, c] · (dy[r, c] - Σ y[r, ·] · dy[r, ·])
// Maximum and sum in one pass: the sum is rescaled when the maximum grows (Milakov and Gimelshein,
// "Online normalizer calculation for softmax", 2018). A row of -inf gives NaN, as in PyTorch.
//
// dims   uniform: rows, cols
// input  f32 [rows, cols]: x forward, y backward
// out    f32 [rows, cols]: y forward, dx backward
// dy     f32 [rows, cols], backward only
// LANES threads stride along a row, then a tree; ROWS rows a workgroup, over a folded grid.

//#import common/step.wgsl
//#import common/nan.wgsl

struct Dims {
    rows: u32,
    cols: u32,
}

override LANES: u32 = 64u;
override ROWS: u32 = 1u;

const LOWEST: f32 = -3.4028234e38;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> input: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;

var<workgroup> maxima: array<f32, LANES * ROWS>;
var<workgroup> sums: array<f32, LANES * ROWS>;

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
    let slot = local.y * LANES + local.x;
    maxima[slot] = m;
    sums[slot] = sum;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if local.x < half {
            let m0 = maxima[slot];
            let m1 = maxima[slot + half];
            let m01 = max(m0, m1);
            sums[slot] = sums[slot] * exp(m0 - m01) + sums[slot + half] * exp(m1 - m01);
            maxima[slot] = m01;
        }
    }
    workgroupBarrier();
    m = maxima[local.y * LANES];
    sum = sums[local.y * LANES];
    for (var c = local.x; c < end; c += LANES) {
        out[start + c] = exp(input[start + c] - m) / sum;
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
    let slot = local.y * LANES + local.x;
    sums[slot] = sum;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if local.x < half {
            sums[slot] += sums[slot + half];
        }
    }
    workgroupBarrier();
    sum = sums[local.y * LANES];
    for (var c = local.x; c < end; c += LANES) {
        out[start + c] = input[start + c] * (dy[start + c] - sum);
    }
}
