// What a device's arithmetic can reach: fused multiply-adds in registers, memory hardly touched.
//
// v[c] = x[i] · (c + 1), then `rounds` times v[c] = v[c] · 0.75 + 0.125, for six chains c that do not wait
// for each other;  out[i] = Σ v[c].
//
// dims  uniform: len, rounds
// x     f32 [len]
// out   f32 [len]
// One thread an element, 64 a workgroup, over a folded grid.

//#import common/step.wgsl

struct Dims {
    len: u32,
    rounds: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn roof(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups) * 64u + lane;
    if index >= dims.len {
        return;
    }
    var a = x[index] * vec3<f32>(1.0, 2.0, 3.0);
    var b = x[index] * vec3<f32>(4.0, 5.0, 6.0);
    let factor = vec3<f32>(0.75);
    let offset = vec3<f32>(0.125);
    for (var round = 0u; round < dims.rounds; round += 4u) {
        a = fma(a, factor, offset);
        b = fma(b, factor, offset);
        a = fma(a, factor, offset);
        b = fma(b, factor, offset);
        a = fma(a, factor, offset);
        b = fma(b, factor, offset);
        a = fma(a, factor, offset);
        b = fma(b, factor, offset);
    }
    out[index] = dot(a + b, vec3<f32>(1.0));
}
