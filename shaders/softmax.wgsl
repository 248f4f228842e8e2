// forward   y[r, c] = exp(x[r, c] - m) / Σ exp(x[r, ·] - m), m being the maximum of row r
// backward  dx[r, c] = y[r, c] · (dy[r, c] - Σ y[r, ·] · dy[r, ·])
// Maximum and sum in one pass: the sum is rescaled when the maximum grows (Milakov and Gimelshein,
// "Online normalizer calculation for softmax", 2018). A row of -inf gives NaN, as in PyTorch.
//
// dims   uniform: rows, words of a row
// input  f32 [rows, cols]: x forward, y backward
// out    f32 [rows, cols]: y forward, dx backward
// dy     f32 [rows, cols], backward only
// LANES threads stride along a row; ROWS rows a workgroup, over a folded grid.

//#import common/step.wgsl
//#import common/nan_word.wgsl
//#import common/word.wgsl
//#import common/row_tree.wgsl

struct Dims {
    rows: u32,
    words: u32,
}

const LOWEST: f32 = -3.4028234e38;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> input: array<Word>;
@group(0) @binding(3) var<storage, read_write> out: array<Word>;
@group(0) @binding(4) var<storage, read> dy: array<Word>;

@compute @workgroup_size(LANES, ROWS)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let row = flat_group(group, groups) * ROWS + local.y;
    let start = row * dims.words;
    // A surplus row is empty: its threads still take part in the barriers.
    let end = select(0u, dims.words, row < dims.rows);
    var m = LOWEST;
    var sums: Word;
    for (var c = local.x; c < end; c += LANES) {
        let v = input[start + c];
        let highest = max_of(select(Word(LOWEST), v, v > Word(LOWEST)));
        if highest > m {
            sums *= exp(m - highest);
            m = highest;
        }
        sums += keep_nans(exp(v - m), v);
    }
    let top = row_peaks(local, Peaks(vec2<f32>(m), vec2<u32>())).value.x;
    let sum = row_sums(local, vec4<f32>(sum_of(sums) * exp(m - top))).x;
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
    let start = row * dims.words;
    let end = select(0u, dims.words, row < dims.rows);
    var sums: Word;
    for (var c = local.x; c < end; c += LANES) {
        sums += input[start + c] * dy[start + c];
    }
    let sum = row_sums(local, vec4<f32>(sum_of(sums))).x;
    for (var c = local.x; c < end; c += LANES) {
        out[start + c] = input[start + c] * (dy[start + c] - sum);
    }
}
