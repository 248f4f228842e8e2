// y = x / (1 + |x|), element by element.
//
// dims  uniform: len
// x     f32 [len]
// y     f32 [len]
// One thread an element, 64 a workgroup, over a folded grid.

//#import common/step.wgsl

struct Dims {
    len: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn softsign(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_group(group, groups) * 64u + lane;
    if i < dims.len {
        y[i] = x[i] / (1.0 + abs(x[i]));
    }
}
