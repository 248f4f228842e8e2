// out[coord] = chain(main[coord]): map, binary operations with broadcasting, dropout, and chains of them.
//
// dims    uniform: element count, strides of `main` over the output's coordinates, the chain
// main    f32, broadcast by its strides
// x0..x2  f32, the chain's operands
// out     f32, extent.x × extent.y × extent.z × extent.w, contiguous

//#import common/chain.wgsl
//#import common/rounds.wgsl

struct Dims {
    chain: Chain,
    main_strides: vec4<u32>,
    len: u32,
}

alias main_type = f32;
alias out_type = f32;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> main: array<main_type>;
@group(0) @binding(3) var<storage, read> x0: array<x0_type>;
@group(0) @binding(4) var<storage, read> x1: array<x1_type>;
@group(0) @binding(5) var<storage, read> x2: array<x2_type>;
@group(0) @binding(6) var<storage, read_write> out: array<out_type>;

// How many axes the output has at most, so that no index is divided in vain.
override AXES: u32 = 4u;

@compute @workgroup_size(64)
fn elementwise(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let e = dims.chain.extent;
    let first = first_of(group, groups, lane);
    let end = end_of(first, dims.len);
    for (var index = first; index < end; index += 64u) {
        var coord = vec4<u32>(0u, 0u, 0u, index);
        if AXES > 1u {
            let row = index / e.w;
            coord = vec4<u32>(0u, 0u, row, index - row * e.w);
        }
        if AXES > 2u {
            let rest = coord.z / e.z;
            coord = vec4<u32>(rest / e.y, rest % e.y, coord.z - rest * e.z, coord.w);
        }
        let value = f32(main[dot(coord, dims.main_strides)]);
        out[index] = out_type(chain_apply(value, coord));
    }
}
