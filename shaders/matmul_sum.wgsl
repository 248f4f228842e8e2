// out[i, j] = chain( Σ_s parts[s, i, j] ), in ascending s: adds what parts of the inner products came to, and goes on as
// the other products do.
//
// dims   uniform: the chain (the product of its extents is m · n, extent.w is n), m, n, number of parts, elements from one
//        row of out to the next
// parts  f32 [splits, m, n]
// x0..x2 f32, the epilogue's operands
// out    f32 [m, n], row by row
// Grid: one thread an element, folded into two dimensions.

//#import common/epilogue.wgsl

struct Dims {
    chain: Chain,
    m: u32,
    n: u32,
    splits: u32,
    out_row: u32,
}

alias out_type = f32;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read_write> parts: array<f32>;
@group(0) @binding(3) var<storage, read> x0: array<x0_type>;
@group(0) @binding(4) var<storage, read> x1: array<x1_type>;
@group(0) @binding(5) var<storage, read> x2: array<x2_type>;
@group(0) @binding(6) var<storage, read_write> out: array<out_type>;

@compute @workgroup_size(256)
fn sum(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let len = dims.m * dims.n;
    let i = flat_group(group, groups) * 256u + thread;
    if i >= len {
        return;
    }
    var value = 0.0;
    for (var part = 0u; part < dims.splits; part += 1u) {
        value += parts[part * len + i];
    }
    store(0u, i / dims.n, i % dims.n, value);
}
