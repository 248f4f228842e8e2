// sum[i] += x[i]: how the gradients of a step's micro-batches add up.
//
// dims  uniform: len
// x     f32 [len]
// sum   f32 [len], updated
// One thread an element, 64 a workgroup, over a folded grid.

//#import common/step.wgsl

struct Dims {
    len: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> sum: array<f32>;

@compute @workgroup_size(64)
fn add_to(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    if i < dims.len {
        sum[i] += x[i];
    }
}
