// Clipping by the global norm, as torch.nn.utils.clip_grad_norm_ (Pascanu et al. 2013).
//
// partial  out[group] = Σ of the squares of the workgroup's share of input, added onto what is there with ACCUMULATE
// finish   out[0] = Σ input, the squared norm;  out[1] = min(1, max_norm / (√out[0] + 1e-6)), the factor
//          that the optimizer multiplies gradients by. A NaN gradient makes both NaN.
//
// dims   uniform: length of input, max_norm (finish)
// input  f32 [len]: gradients (partial), partial sums of every segment (finish)
// out    f32 [partials] (partial), f32 [2] (finish)
// 256 threads a workgroup stride over the input, then a tree: one workgroup a partial sum, at most 1024;
// finish is one workgroup. The order of summation depends on the lengths alone.

struct Dims {
    len: u32,
    max_norm: f32,
}

const THREADS: u32 = 256u;
override ACCUMULATE: bool = false;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> input: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

var<workgroup> sums: array<f32, THREADS>;

// The sum over the workgroup, valid in lane 0.
fn workgroup_sum(lane: u32, v: f32) -> f32 {
    sums[lane] = v;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if lane < half {
            sums[lane] += sums[lane + half];
        }
    }
    return sums[lane];
}

@compute @workgroup_size(THREADS)
fn partial(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    var v = 0.0;
    for (var i = group.x * THREADS + lane; i < dims.len; i += groups.x * THREADS) {
        v += input[i] * input[i];
    }
    var sum = workgroup_sum(lane, v);
    if lane == 0u {
        if ACCUMULATE {
            sum += out[group.x];
        }
        out[group.x] = sum;
    }
}

@compute @workgroup_size(THREADS)
fn finish(@builtin(local_invocation_index) lane: u32) {
    var v = 0.0;
    for (var i = lane; i < dims.len; i += THREADS) {
        v += input[i];
    }
    let sum = workgroup_sum(lane, v);
    if lane == 0u {
        let factor = dims.max_norm / (sqrt(sum) + 1e-6);
        out[0] = sum;
        out[1] = select(factor, 1.0, factor >= 1.0);
    }
}
