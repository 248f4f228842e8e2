// Clipping by the global norm, as torch.nn.utils.clip_grad_norm_ (Pascanu et al. 2013).
//
// partial  out[i] = Σ of the squares of the i-th share of input, added onto what is there with ACCUMULATE
// finish   out[0] = Σ input, the squared norm;  out[1] = min(1, max_norm / (√out[0] + 1e-6)), the factor
//          that the optimizer multiplies gradients by. A NaN gradient makes both NaN.
//
// dims   uniform: words of input; words of a share and their number (partial); max_norm (finish)
// input  f32 [len]: gradients (partial), partial sums of every segment (finish)
// out    f32 [partials] (partial), f32 [2] (finish)
// LANES threads stride along a share; ROWS shares a workgroup, over a folded grid. To finish there is one, of all. The
// order of summation depends on the lengths alone.

//#import common/step.wgsl
//#import common/word.wgsl
//#import common/row_tree.wgsl

struct Dims {
    words: u32,
    share: u32,
    partials: u32,
    max_norm: f32,
}

override ACCUMULATE: bool = false;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> input: array<Word>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(LANES, ROWS)
fn partial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let share = flat_group(group, groups) * ROWS + local.y;
    let first = share * dims.share;
    let end = min(first + dims.share, dims.words);
    var squares: Word;
    for (var i = first + local.x; i < end; i += LANES) {
        squares += input[i] * input[i];
    }
    var sum = row_sums(local, vec4<f32>(sum_of(squares))).x;
    if local.x == 0u && share < dims.partials {
        if ACCUMULATE {
            sum += out[share];
        }
        out[share] = sum;
    }
}

@compute @workgroup_size(LANES, ROWS)
fn finish(@builtin(local_invocation_id) local: vec3<u32>) {
    var sums: Word;
    for (var i = local.x; i < dims.words; i += LANES) {
        sums += input[i];
    }
    let sum = row_sums(local, vec4<f32>(sum_of(sums))).x;
    if local.x == 0u && local.y == 0u {
        let factor = dims.max_norm / (sqrt(sum) + 1e-6);
        out[0] = sum;
        out[1] = select(factor, 1.0, factor >= 1.0);
    }
}
