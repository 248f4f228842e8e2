// Scores of positions become scores of pairs of tokens (He et al., "DeBERTa", 2021):
//   out[b, h, i, j] = content[h, b, i, m] + position[h, b, j, m],  m = buckets[i - j + length - 1]
// with either summand or both. Buckets rise with i - j, so that the gradient sums a run of pairs in its order, without
// atomics: dcontent[h, b, i, m] is the sum of dout[b, h, i, j] over the j whose bucket is m, dposition[h, b, j, m] that over
// such i. runs[m] is the first of the 2 · length - 1 differences whose bucket is m or more.
//
// dims      uniform: elements that are written, batch, heads, length, buckets there are
// buckets   i32 [2 · length - 1], of `gather`
// runs      i32 [buckets + 1], of `sum_runs`
// content   f32 [heads, batch, length, buckets]
// position  f32 of the same shape
// out       f32 [batch, heads, length, length], of `gather`
// dout      f32 of out's shape, of `sum_runs`
// dx        f32 of content's shape: dcontent, or dposition where BY_KEYS
//
// Both numbers of a bucket are the host's: every index made of them is kept in range here. A thread takes ROUNDS elements,
// 64 apart; 64 threads a workgroup, over a folded grid.

//#import common/rounds.wgsl

struct Dims {
    len: u32,
    batch: u32,
    heads: u32,
    length: u32,
    buckets: u32,
}

override CONTENT: bool = true;
override POSITION: bool = true;
override BY_KEYS: bool = false;

alias content_type = f32;
alias position_type = f32;
alias out_type = f32;
alias dout_type = f32;
alias dx_type = f32;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> buckets: array<i32>;
@group(0) @binding(3) var<storage, read> content: array<content_type>;
@group(0) @binding(4) var<storage, read> position: array<position_type>;
@group(0) @binding(5) var<storage, read_write> out: array<out_type>;
@group(0) @binding(2) var<storage, read> runs: array<i32>;
@group(0) @binding(3) var<storage, read> dout: array<dout_type>;
@group(0) @binding(4) var<storage, read_write> dx: array<dx_type>;

@compute @workgroup_size(64)
fn gather(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = first_of(group, groups, lane);
    for (var at = first; at < end_of(first, dims.len); at += 64u) {
        let j = at % dims.length;
        let row = at / dims.length;
        let i = row % dims.length;
        let pair = row / dims.length;
        let head = pair % dims.heads * dims.batch + pair / dims.heads;
        let bucket = buckets[i + dims.length - 1u - j];
        let m = min(u32(max(bucket, 0)), dims.buckets - 1u);
        var score = 0.0;
        if CONTENT {
            score = f32(content[(head * dims.length + i) * dims.buckets + m]);
        }
        if POSITION {
            score += f32(position[(head * dims.length + j) * dims.buckets + m]);
        }
        out[at] = out_type(score);
    }
}

// The first difference of a bucket, or of one behind the last.
fn run_start(bucket: u32) -> u32 {
    return min(u32(max(runs[bucket], 0)), 2u * dims.length - 1u);
}

@compute @workgroup_size(64)
fn sum_runs(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = first_of(group, groups, lane);
    for (var at = first; at < end_of(first, dims.len); at += 64u) {
        let m = at % dims.buckets;
        let row = at / dims.buckets;
        let own = row % dims.length;
        let head = row / dims.length;
        let pair = head % dims.batch * dims.heads + head / dims.batch;
        // Of the differences t = i - j + length - 1, those whose other position is there.
        let lowest = select(own, dims.length - 1u - own, BY_KEYS);
        let start = max(run_start(m), lowest);
        let end = min(run_start(m + 1u), lowest + dims.length);
        let base = pair * dims.length * dims.length;
        var sum = 0.0;
        if BY_KEYS {
            for (var t = start; t < end; t += 1u) {
                sum += f32(dout[base + (t - lowest) * dims.length + own]);
            }
        } else {
            // From the last key back to the first: in the order of the differences.
            for (var t = start; t < end; t += 1u) {
                sum += f32(dout[base + own * dims.length + (own + dims.length - 1u - t)]);
            }
        }
        dx[at] = dx_type(sum);
    }
}
