// Depthwise convolution over images [n, height, width, channels] (common/patches.wgsl), weights [taps, channels]: each channel
// is a sum over the taps of its own. A thread takes a Word of channels of a place. The gradient by x is the same with pixels
// that look back at places.
//
//   by_places   out [places, channels] = Σ over taps of image · weights
//   by_weights  partials [chunks, taps, channels]: Σ over a chunk of places of image · dy; a workgroup takes COLUMNS words of
//               channels of one tap, LANES threads down the places of a chunk
//   add         out [taps, channels]: the chunks, in order
//
// dims  uniform: words of channels, places, places of a chunk, chunks, words of out

//#import common/patches.wgsl
//#import common/rounds.wgsl
//#import common/word.wgsl

struct Dims {
    words: u32,
    places: u32,
    chunk: u32,
    chunks: u32,
    len: u32,
}

alias image_type = f32;
alias weights_type = f32;
alias dy_type = f32;
alias out_type = f32;
alias sums_type = f32;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> image: array<image_type>;
@group(0) @binding(3) var<storage, read> weights: array<weights_type>;
@group(0) @binding(3) var<storage, read> dy: array<dy_type>;
@group(0) @binding(4) var<storage, read_write> out: array<out_type>;
@group(0) @binding(5) var<storage, read_write> partials: array<sums_type>;

override COLUMNS: u32 = 32u;
override LANES: u32 = 8u;

var<workgroup> lane_sums: array<Word, COLUMNS * LANES>;

@compute @workgroup_size(64)
fn by_places(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = first_of(group, groups, lane);
    let end = end_of(first, dims.len);
    for (var index = first; index < end; index += 64u) {
        let place = index / dims.words;
        let word = index - place * dims.words;
        var sum = Word();
        for (var tap = 0u; tap < TAPS_DOWN * TAPS_ACROSS; tap += 1u) {
            let pixel = pixel_of(place, tap);
            if pixel.inside {
                let seen = Word(image[pixel.number * dims.words + word]);
                sum = fma(seen, Word(weights[tap * dims.words + word]), sum);
            }
        }
        out[index] = out_type(sum);
    }
}

@compute @workgroup_size(COLUMNS, LANES)
fn by_weights(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let taps = TAPS_DOWN * TAPS_ACROSS;
    let blocks = (dims.words + COLUMNS - 1u) / COLUMNS;
    let index = flat_group(group, groups);
    let chunk = index / (taps * blocks);
    let rest = index - chunk * taps * blocks;
    let tap = rest / blocks;
    let word = (rest - tap * blocks) * COLUMNS + local.x;
    let exists = word < dims.words && chunk < dims.chunks;
    let start = min(chunk * dims.chunk, dims.places);
    let end = select(0u, min(start + dims.chunk, dims.places), exists);
    var sum = Word();
    for (var place = start + local.y; place < end; place += LANES) {
        let pixel = pixel_of(place, tap);
        if pixel.inside {
            let seen = Word(image[pixel.number * dims.words + word]);
            sum = fma(seen, Word(dy[place * dims.words + word]), sum);
        }
    }
    lane_sums[local.y * COLUMNS + local.x] = sum;
    workgroupBarrier();
    if local.y == 0u && exists {
        for (var other = 1u; other < LANES; other += 1u) {
            sum += lane_sums[other * COLUMNS + local.x];
        }
        partials[(chunk * taps + tap) * dims.words + word] = sum;
    }
}

@compute @workgroup_size(COLUMNS, LANES)
fn add(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let word = flat_group(group, groups) * COLUMNS + local.x;
    let end = select(0u, dims.chunks, word < dims.len);
    var sum = Word();
    for (var chunk = local.y; chunk < end; chunk += LANES) {
        sum += partials[chunk * dims.len + word];
    }
    lane_sums[local.y * COLUMNS + local.x] = sum;
    workgroupBarrier();
    if local.y == 0u && word < dims.len {
        for (var other = 1u; other < LANES; other += 1u) {
            sum += lane_sums[other * COLUMNS + local.x];
        }
        out[word] = out_type(sum);
    }
}
