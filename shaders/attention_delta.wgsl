// stats[b, h, i] = (lse[b, h, i], dout[b, i, h, ·] · out[b, i, h, ·]): what attention's backward passes need of each
// query, in one buffer, since they have no binding left for two.
//
// dims             uniform: as common/attention.wgsl has them
// out, dout        f32 [batch, length, heads · head_dim]
// lse              f32 [batch, heads, length]
// stats            f32 [batch, heads, length, 2]; of `delta_and_keys`, [batch] more behind them
// example_lengths  i32 [batch], of `delta_and_keys` alone
//
// delta           The above.
// delta_and_keys  And behind the queries' numbers, how many keys of each example are no padding, as a float: a pass
//                 with a bias has no binding left for the lengths either.
// One thread a query of a head, 64 a workgroup, over a folded grid.

//#import common/attention.wgsl

alias out_type = f32;
alias dout_type = f32;

@group(0) @binding(2) var<storage, read> out: array<out_type>;
@group(0) @binding(3) var<storage, read> dout: array<dout_type>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read_write> stats: array<f32>;
@group(0) @binding(6) var<storage, read> example_lengths: array<i32>;

// The query of this number in the order of memory: batch, row, head.
fn store_stats(index: u32) {
    if index >= dims.batch * dims.length * dims.heads {
        return;
    }
    var sum = 0.0;
    for (var at = index * dims.head_dim; at < (index + 1u) * dims.head_dim; at += 1u) {
        sum += f32(out[at]) * f32(dout[at]);
    }
    let row = index / dims.heads;
    let pair = row / dims.length * dims.heads + index % dims.heads;
    let query = pair * dims.length + row % dims.length;
    stats[2u * query] = lse[query];
    stats[2u * query + 1u] = sum;
}

@compute @workgroup_size(64)
fn delta(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    store_stats(flat_group(group, groups) * 64u + lane);
}

@compute @workgroup_size(64)
fn delta_and_keys(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = flat_group(group, groups) * 64u + lane;
    store_stats(index);
    if index < dims.batch {
        let keys = clamp(example_lengths[index], 0, i32(dims.length));
        stats[2u * dims.batch * dims.length * dims.heads + index] = f32(keys);
    }
}
