// out[coord] = chain(main[coord]): map, binary operations with broadcasting, dropout, and chains of them.
//
// dims    uniform: element count, strides of `main` over the output's coordinates, the chain
// main    f32, broadcast by its strides
// x0..x2  f32, the chain's operands
// out     f32, extent.x × extent.y × extent.z × extent.w, contiguous
// One thread an element, 64 a workgroup, over a folded grid.

//#import common/chain.wgsl

struct Dims {
    chain: Chain,
    main_strides: vec4<u32>,
    len: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> main: array<f32>;
@group(0) @binding(3) var<storage, read> x0: array<f32>;
@group(0) @binding(4) var<storage, read> x1: array<f32>;
@group(0) @binding(5) var<storage, read> x2: array<f32>;
@group(0) @binding(6) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn elementwise(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups) * 64u + lane;
    if index >= dims.len {
        return;
    }
    let e = dims.chain.extent;
    var rest = index / e.w;
    let w = index - rest * e.w;
    let z = rest % e.z;
    rest = rest / e.z;
    let coord = vec4<u32>(rest / e.y, rest % e.y, z, w);
    out[index] = chain_apply(main[dot(coord, dims.main_strides)], coord);
}
