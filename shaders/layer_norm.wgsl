// Layer normalisation of rows (Ba, Kiros and Hinton, "Layer Normalization", 2016), as PyTorch's:
//   y = h · weight + bias,  h = (x - mean) / std,  std² = Σ (x - mean)² / cols + eps
//   dx = (g - mean(g) - h · mean(g · h)) / std,  g = dy · weight
//   dweight = Σ over rows of dy · h,  dbias = Σ over rows of dy
// Without CENTRED the root mean square instead of the deviation (Zhang and Sennrich, "Root Mean Square Layer Normalization",
// 2019): mean and mean(g) are 0, std² = Σ x² / cols + eps.
// The mean that a sum in f32 gives is off by some units in its last place, which is much where it is large
// beside std. So forward sums x - mean as well as its square, and backward sums h, and both subtract what is
// not zero.
//
// dims     uniform: rows, words of a row, rows of a block (backward), eps (forward), blocks (finish)
// out      f32: y [rows, cols] forward, dx [rows, cols] backward, dweight [cols] finish
// out2     f32: block_sums [blocks, 2, cols] backward: of dy · h, of dy; dbias [cols] finish
// moments  f32 [rows, 2] forward: mean, 1 / std
// input    f32: x [rows, cols] forward and backward, block_sums [blocks, 2, cols] finish
// weight   f32 [cols], forward and backward
// operand  f32: bias [cols] forward, dy [rows, cols] backward
// stats    f32 [rows, 2], backward: moments
//
// forward   LANES threads stride along a row; ROWS rows a workgroup. With HOLD the row stays in registers (HELD words a
//           thread), else it is read three times.
// backward  A workgroup takes a block of rows, ROWS at a time: first as forward does, for dx; then its
//           threads stride along the columns and sum the same rows, which are still in the cache.
// finish    A workgroup takes 32 neighbouring sums; 8 lanes stride down the blocks, and their partials are
//           combined in order.
// All over a folded grid. The order of summation depends on the shape alone.

//#import common/step.wgsl
//#import common/nan.wgsl
//#import common/word.wgsl
//#import common/row_tree.wgsl

struct Dims {
    rows: u32,
    words: u32,
    block_rows: u32,
    eps: f32,
    blocks: u32,
}

override HOLD: bool = false;
override CENTRED: bool = true;
const HELD: u32 = 1u;

const TILE_COLUMNS: u32 = 32u;
const TILE_LANES: u32 = 8u;

alias out_type = f32;
alias input_type = f32;
alias operand_type = f32;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read_write> out: array<out_type>;
@group(0) @binding(3) var<storage, read_write> out2: array<Word>;
@group(0) @binding(3) var<storage, read_write> moments: array<f32>;
@group(0) @binding(4) var<storage, read> input: array<input_type>;
@group(0) @binding(5) var<storage, read> weight: array<Word>;
@group(0) @binding(6) var<storage, read> operand: array<operand_type>;
@group(0) @binding(7) var<storage, read> stats: array<f32>;

var<workgroup> offsets: array<f32, ROWS>;
var<workgroup> column_partials: array<Word, TILE_COLUMNS * TILE_LANES>;

// The means over a row of what its lanes have summed.
fn row_means(local: vec3<u32>, sums: vec3<f32>) -> vec3<f32> {
    return row_sums(local, vec4<f32>(sums, 0.0)).xyz / f32(dims.words * WORD);
}

// Word `at` of the input, a thread's number `i` of its row.
fn x_of(held: ptr<function, array<Word, HELD>>, i: u32, at: u32) -> Word {
    if HOLD {
        return (*held)[i];
    }
    return Word(input[at]);
}

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
    // Registers are not indexed: a compiler has to know how often a loop over them runs.
    let rounds = select((dims.words + LANES - 1u) / LANES, HELD, HOLD);
    var held: array<Word, HELD>;
    var mean = 0.0;
    if CENTRED || HOLD {
        var sum: Word;
        for (var i = 0u; i < rounds; i += 1u) {
            let c = local.x + i * LANES;
            if c < end {
                let x = Word(input[start + c]);
                sum += x;
                if HOLD {
                    held[i] = x;
                }
            }
        }
        if CENTRED {
            mean = row_means(local, vec3<f32>(sum_of(sum), 0.0, 0.0)).x;
        }
    }
    var rest: Word;
    var squares: Word;
    for (var i = 0u; i < rounds; i += 1u) {
        let c = local.x + i * LANES;
        if c < end {
            let d = x_of(&held, i, start + c) - mean;
            rest += d;
            squares += d * d;
        }
    }
    let means = row_means(local, vec3<f32>(sum_of(rest), sum_of(squares), 0.0));
    let offset = select(0.0, means.x, CENTRED);
    // Rounding may make it negative.
    let variance = keep_nan(max(means.y - offset * offset, 0.0), means.y);
    let inverse_std = 1.0 / sqrt(variance + dims.eps);
    for (var i = 0u; i < rounds; i += 1u) {
        let c = local.x + i * LANES;
        if c < end {
            let h = (x_of(&held, i, start + c) - mean - offset) * inverse_std;
            out[start + c] = out_type(h * weight[c] + Word(operand[c]));
        }
    }
    if local.x == 0u && row < dims.rows {
        moments[2u * row] = mean + offset;
        moments[2u * row + 1u] = inverse_std;
    }
}

@compute @workgroup_size(LANES, ROWS)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let block = flat_group(group, groups);
    let first = block * dims.block_rows;
    let last = min(first + dims.block_rows, dims.rows);
    for (var tile = first; tile < last; tile += ROWS) {
        let row = tile + local.y;
        let start = row * dims.words;
        let end = select(0u, dims.words, row < last);
        let stat = 2u * min(row, last - 1u);
        let mean = stats[stat];
        let inverse_std = stats[stat + 1u];
        var h_sum = Word();
        var g_sum = Word();
        var gh_sum = Word();
        for (var c = local.x; c < end; c += LANES) {
            let h = (Word(input[start + c]) - mean) * inverse_std;
            let g = Word(operand[start + c]) * weight[c];
            h_sum += h;
            g_sum += g;
            gh_sum += g * h;
        }
        let means = row_means(local, vec3<f32>(sum_of(h_sum), sum_of(g_sum), sum_of(gh_sum)));
        let offset = select(0.0, means.x, CENTRED);
        let mean_g = select(0.0, means.y, CENTRED);
        let slope = means.z - mean_g * offset;
        for (var c = local.x; c < end; c += LANES) {
            let h = (Word(input[start + c]) - mean) * inverse_std - offset;
            let g = Word(operand[start + c]) * weight[c];
            out[start + c] = out_type((g - mean_g - h * slope) * inverse_std);
        }
        // Those of the tile before may still be read.
        workgroupBarrier();
        if local.x == 0u {
            offsets[local.y] = offset;
        }
        workgroupBarrier();
        let rows = min(ROWS, last - tile);
        for (var c = local.y * LANES + local.x; c < dims.words; c += LANES * ROWS) {
            var dweight = Word();
            var dbias = Word();
            for (var r = 0u; r < rows; r += 1u) {
                let at = tile + r;
                let x = Word(input[at * dims.words + c]);
                let h = (x - stats[2u * at]) * stats[2u * at + 1u] - offsets[r];
                let dy = Word(operand[at * dims.words + c]);
                dweight += dy * h;
                dbias += dy;
            }
            let sum = 2u * block * dims.words + c;
            if tile > first {
                dweight += out2[sum];
                dbias += out2[sum + dims.words];
            }
            out2[sum] = dweight;
            out2[sum + dims.words] = dbias;
        }
    }
}

@compute @workgroup_size(TILE_COLUMNS, TILE_LANES)
fn finish(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let sums = 2u * dims.words;
    let index = flat_group(group, groups) * TILE_COLUMNS + local.x;
    let end = select(0u, dims.blocks, index < sums);
    var v: Word;
    for (var block = local.y; block < end; block += TILE_LANES) {
        v += Word(input[block * sums + index]);
    }
    column_partials[local.y * TILE_COLUMNS + local.x] = v;
    workgroupBarrier();
    if local.y == 0u && index < sums {
        for (var lane = 1u; lane < TILE_LANES; lane += 1u) {
            v += column_partials[lane * TILE_COLUMNS + local.x];
        }
        if index < dims.words {
            out[index] = out_type(v);
        } else {
            out2[index - dims.words] = v;
        }
    }
}
