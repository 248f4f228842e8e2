// Batch normalisation over the rows of x [rows, channels], which are all places of all images (Ioffe and Szegedy 2015):
// y = x̂ · weight + bias, x̂ = (x - mean) / √(variance + eps) by channel, the variance being the biased one; then a chain.
//
// A channel's mean is kept as two numbers, one near it and the rest, since a mean in f32 is off by a thousandth of a standard
// deviation where it is 10,000 of them. `moments` [3, channels] are the number near the mean, the variance, the rest.
// (Two numbers that are made of a rounded sum by taking it away again are not: compilers may think them equal.)
//
// Sums over rows are made in two ordered stages. A workgroup takes COLUMNS channels of a chunk of rows, LANES threads down
// each; its results go to `partials`, which a second launch puts together. Of a chunk the mean is made first, then the sum of
// squares about it (M2); chunks are merged as by Chan, Golub and LeVeque 1979, their means being counted from the first one's.
// No difference of large sums is taken.
//
//   moments_of       x → partials [chunks, 3, channels]: a chunk's mean, its rest, and M2
//   merge            partials → moments
//   normalise        y, a thread an element
//   gradients        x, dy → partials [chunks, 2, channels]: a chunk's Σ dy · x̂ and Σ dy
//   add              partials → the gradients of weight and bias
//   input_gradient   dx = weight / √(variance + eps) · (dy - Σ dy / rows - x̂ · Σ dy · x̂ / rows), a thread an element
//   follow           running statistics: r + momentum · (v - r), v being the mean, and the variance times rows / (rows - 1); what
//                    is no finite number is left out, so that a step beyond f16 spoils no model
//
// dims  uniform: the chain, rows, channels, rows of a chunk, chunks, eps, 1 / rows, momentum, rows / (rows - 1)

//#import common/chain.wgsl
//#import common/rounds.wgsl

struct Dims {
    chain: Chain,
    rows: u32,
    channels: u32,
    chunk: u32,
    chunks: u32,
    eps: f32,
    share: f32,
    momentum: f32,
    unbiased: f32,
}

alias x_type = f32;
alias dy_type = f32;
alias out_type = f32;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> x: array<x_type>;
@group(0) @binding(3) var<storage, read> moments: array<f32>;
@group(0) @binding(4) var<storage, read> weight: array<f32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read> x0: array<x0_type>;
@group(0) @binding(6) var<storage, read> dy: array<dy_type>;
@group(0) @binding(7) var<storage, read> x1: array<x1_type>;
@group(0) @binding(7) var<storage, read> dweight: array<f32>;
@group(0) @binding(7) var<storage, read_write> first_out: array<f32>;
@group(0) @binding(8) var<storage, read> x2: array<x2_type>;
@group(0) @binding(8) var<storage, read> dbias: array<f32>;
@group(0) @binding(8) var<storage, read_write> second_out: array<f32>;
@group(0) @binding(9) var<storage, read_write> partials: array<f32>;
@group(0) @binding(9) var<storage, read_write> out: array<out_type>;

override COLUMNS: u32 = 32u;
override LANES: u32 = 8u;
// Whether the chain sees the rows under several extents.
override FOLDED: bool = false;

var<workgroup> lane_sums: array<vec2<f32>, COLUMNS * LANES>;

// The sum of the numbers of a column's threads, in their order.
fn column_sum(local: vec3<u32>, value: vec2<f32>) -> vec2<f32> {
    workgroupBarrier();
    lane_sums[local.y * COLUMNS + local.x] = value;
    workgroupBarrier();
    var sum = lane_sums[local.x];
    for (var lane = 1u; lane < LANES; lane += 1u) {
        sum += lane_sums[lane * COLUMNS + local.x];
    }
    return sum;
}

// The rows of a thread of a chunk, which are LANES apart, and its channel: none where there is no such channel or chunk.
struct Strip {
    chunk: u32,
    channel: u32,
    first: u32,
    end: u32,
    count: f32,
    exists: bool,
}

fn strip_of(group: vec3<u32>, groups: vec3<u32>, local: vec3<u32>) -> Strip {
    let blocks = (dims.channels + COLUMNS - 1u) / COLUMNS;
    let index = flat_group(group, groups);
    let chunk = index / blocks;
    let channel = (index - chunk * blocks) * COLUMNS + local.x;
    let exists = channel < dims.channels && chunk < dims.chunks;
    let start = min(chunk * dims.chunk, dims.rows);
    let end = min(start + dims.chunk, dims.rows);
    let count = f32(max(end - start, 1u));
    return Strip(chunk, channel, start + local.y, select(0u, end, exists), count, exists);
}

fn normed(value: f32, channel: u32) -> f32 {
    let rest = moments[2u * dims.channels + channel];
    return ((value - moments[channel]) - rest) * scale_of(channel);
}

fn scale_of(channel: u32) -> f32 {
    return 1.0 / sqrt(moments[dims.channels + channel] + dims.eps);
}

@compute @workgroup_size(COLUMNS, LANES)
fn moments_of(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let strip = strip_of(group, groups, local);
    var sum = 0.0;
    for (var row = strip.first; row < strip.end; row += LANES) {
        sum += f32(x[row * dims.channels + strip.channel]);
    }
    let near = column_sum(local, vec2<f32>(sum, 0.0)).x / strip.count;
    var sums = vec2<f32>();
    for (var row = strip.first; row < strip.end; row += LANES) {
        let d = f32(x[row * dims.channels + strip.channel]) - near;
        sums += vec2<f32>(d, d * d);
    }
    sums = column_sum(local, sums);
    if local.y == 0u && strip.exists {
        // About the number near the mean, not about the mean: merging sees to the difference.
        let at = 3u * strip.chunk * dims.channels + strip.channel;
        let rest = sums.x / strip.count;
        partials[at] = near;
        partials[at + dims.channels] = rest;
        partials[at + 2u * dims.channels] = sums.y - sums.x * rest;
    }
}

@compute @workgroup_size(COLUMNS, LANES)
fn merge(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let c = dims.channels;
    let channel = flat_group(group, groups) * COLUMNS + local.x;
    let end = select(0u, dims.chunks, channel < c);
    let near = partials[min(channel, c - 1u)];
    var sums = vec2<f32>();
    for (var chunk = local.y; chunk < end; chunk += LANES) {
        let at = 3u * chunk * c + channel;
        let rows = f32(min(dims.chunk, dims.rows - chunk * dims.chunk));
        let d = (partials[at] - near) + partials[at + c];
        sums += vec2<f32>(rows * d, partials[at + 2u * c]);
    }
    sums = column_sum(local, sums);
    let rest = sums.x * dims.share;
    var squares = 0.0;
    for (var chunk = local.y; chunk < end; chunk += LANES) {
        let at = 3u * chunk * c + channel;
        let rows = f32(min(dims.chunk, dims.rows - chunk * dims.chunk));
        let d = ((partials[at] - near) + partials[at + c]) - rest;
        squares += rows * d * d;
    }
    squares = column_sum(local, vec2<f32>(squares, 0.0)).x;
    if local.y == 0u && channel < c {
        second_out[channel] = near;
        second_out[c + channel] = (sums.y + squares) * dims.share;
        second_out[2u * c + channel] = rest;
    }
}

@compute @workgroup_size(64)
fn normalise(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let e = dims.chain.extent;
    let first = first_of(group, groups, lane);
    let end = end_of(first, dims.rows * dims.channels);
    for (var index = first; index < end; index += 64u) {
        let row = index / e.w;
        let channel = index - row * e.w;
        var coord = vec4<u32>(0u, 0u, row, channel);
        if FOLDED {
            coord = vec4<u32>(row / e.z / e.y, row / e.z % e.y, row % e.z, channel);
        }
        let value = normed(f32(x[index]), channel) * weight[channel] + bias[channel];
        out[index] = out_type(chain_apply(value, coord));
    }
}

@compute @workgroup_size(COLUMNS, LANES)
fn gradients(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let strip = strip_of(group, groups, local);
    var sums = vec2<f32>();
    for (var row = strip.first; row < strip.end; row += LANES) {
        let at = row * dims.channels + strip.channel;
        let g = f32(dy[at]);
        sums += vec2<f32>(g * normed(f32(x[at]), strip.channel), g);
    }
    sums = column_sum(local, sums);
    if local.y == 0u && strip.exists {
        let at = 2u * strip.chunk * dims.channels + strip.channel;
        partials[at] = sums.x;
        partials[at + dims.channels] = sums.y;
    }
}

@compute @workgroup_size(COLUMNS, LANES)
fn add(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let channel = flat_group(group, groups) * COLUMNS + local.x;
    let end = select(0u, dims.chunks, channel < dims.channels);
    var sums = vec2<f32>();
    for (var chunk = local.y; chunk < end; chunk += LANES) {
        let at = 2u * chunk * dims.channels + channel;
        sums += vec2<f32>(partials[at], partials[at + dims.channels]);
    }
    sums = column_sum(local, sums);
    if local.y == 0u && channel < dims.channels {
        first_out[channel] = sums.x;
        second_out[channel] = sums.y;
    }
}

@compute @workgroup_size(64)
fn input_gradient(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = first_of(group, groups, lane);
    let end = end_of(first, dims.rows * dims.channels);
    for (var index = first; index < end; index += 64u) {
        let channel = index % dims.channels;
        let slope = normed(f32(x[index]), channel) * dweight[channel];
        let centred = f32(dy[index]) - (dbias[channel] + slope) * dims.share;
        out[index] = out_type(weight[channel] * scale_of(channel) * centred);
    }
}

fn followed(running: f32, value: f32) -> f32 {
    // Infinite numbers and NaN have all bits of the exponent set.
    let finite = (bitcast<u32>(value) & 0x7f800000u) != 0x7f800000u;
    return select(running, running + dims.momentum * (value - running), finite);
}

@compute @workgroup_size(64)
fn follow(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let channel = flat_group(group, groups) * 64u + lane;
    if channel < dims.channels {
        let mean = moments[channel] + moments[2u * dims.channels + channel];
        let variance = moments[dims.channels + channel] * dims.unbiased;
        first_out[channel] = followed(first_out[channel], mean);
        second_out[channel] = followed(second_out[channel], variance);
    }
}
