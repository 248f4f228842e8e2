// Pools over images x [n, height, width, channels] (common/patches.wgsl): the largest or the mean of what a window sees,
// channel by channel. What lies beyond an image's edge is no candidate for the largest; a mean counts it as a zero, or not at
// all (COUNT_PADDING).
//
//   largest        out [places, channels]; NaN where the window has one
//   mean           out [places, channels]
//   largest_back   dx: of each window that sees a pixel, dy where the pixel is its largest: the first in the order of rows,
//                  or the first NaN. That is found again and not kept; each pixel gathers, so nothing is added by atomics.
//   mean_back      dx: of each window that sees a pixel, dy over the number that it counts
//
// The windows are told as they look forward for the first two, and as pixels look back at them for the others: there
// "places" are pixels, and "pixels" places. A thread an element.
//
// dims  uniform: elements of out

//#import common/nan.wgsl
//#import common/patches.wgsl
//#import common/rounds.wgsl

struct Dims {
    len: u32,
}

override COUNT_PADDING: bool = false;

alias x_type = f32;
alias dy_type = f32;
alias out_type = f32;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> x: array<x_type>;
@group(0) @binding(3) var<storage, read> dy: array<dy_type>;
@group(0) @binding(4) var<storage, read_write> out: array<out_type>;

// Whether v takes the place of what was the largest so far.
fn exceeds(v: f32, best: f32) -> bool {
    return !is_nan(best) && (is_nan(v) || v > best);
}

@compute @workgroup_size(64)
fn largest(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = first_of(group, groups, lane);
    let end = end_of(first, dims.len);
    for (var index = first; index < end; index += 64u) {
        let place = index / IMAGE_CHANNELS;
        let channel = index - place * IMAGE_CHANNELS;
        var best = 0.0;
        var found = false;
        for (var tap = 0u; tap < TAPS_DOWN * TAPS_ACROSS; tap += 1u) {
            let pixel = pixel_of(place, tap);
            let v = f32(x[pixel.number * IMAGE_CHANNELS + channel]);
            if pixel.inside && (!found || exceeds(v, best)) {
                best = v;
                found = true;
            }
        }
        out[index] = out_type(best);
    }
}

@compute @workgroup_size(64)
fn mean(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = first_of(group, groups, lane);
    let end = end_of(first, dims.len);
    for (var index = first; index < end; index += 64u) {
        let place = index / IMAGE_CHANNELS;
        let channel = index - place * IMAGE_CHANNELS;
        var sum = 0.0;
        var count = 0u;
        for (var tap = 0u; tap < TAPS_DOWN * TAPS_ACROSS; tap += 1u) {
            let pixel = pixel_of(place, tap);
            let v = f32(x[pixel.number * IMAGE_CHANNELS + channel]);
            sum += select(0.0, v, pixel.inside);
            count += u32(pixel.inside || COUNT_PADDING);
        }
        out[index] = out_type(sum / f32(max(count, 1u)));
    }
}

// The pixel that a window, which a pixel saw as number `window` looking back, sees through a tap: common/patches.wgsl read
// the other way round.
fn seen_by(window: u32, tap: u32) -> Pixel {
    let line = window / IMAGE_WIDTH;
    let n = line / IMAGE_HEIGHT;
    let p = vec2<i32>(i32(line - n * IMAGE_HEIGHT), i32(window - line * IMAGE_WIDTH));
    let r = tap / TAPS_ACROSS;
    let t = vec2<i32>(i32(r), i32(tap - r * TAPS_ACROSS));
    let first = vec2<i32>(FIRST_Y, FIRST_X);
    let stride = vec2<i32>(i32(APART_Y), i32(APART_X));
    let yx = vec2<u32>(p * stride - t * vec2<i32>(TAP_Y, TAP_X) - first);
    let inside = all(yx < vec2<u32>(PLACES_DOWN, PLACES_ACROSS));
    let number = (n * PLACES_DOWN + yx.x) * PLACES_ACROSS + yx.y;
    return Pixel(select(0u, number, inside), inside);
}

// The pixel that is a window's largest.
fn largest_of(window: u32, channel: u32) -> u32 {
    var best = 0.0;
    var at = 0xffffffffu;
    for (var tap = 0u; tap < TAPS_DOWN * TAPS_ACROSS; tap += 1u) {
        let pixel = seen_by(window, tap);
        let v = f32(x[pixel.number * IMAGE_CHANNELS + channel]);
        if pixel.inside && (at == 0xffffffffu || exceeds(v, best)) {
            best = v;
            at = pixel.number;
        }
    }
    return at;
}

// How many numbers a window's mean is of.
fn counted(window: u32) -> f32 {
    var count = 0u;
    for (var tap = 0u; tap < TAPS_DOWN * TAPS_ACROSS; tap += 1u) {
        count += u32(seen_by(window, tap).inside || COUNT_PADDING);
    }
    return f32(max(count, 1u));
}

@compute @workgroup_size(64)
fn largest_back(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = first_of(group, groups, lane);
    let end = end_of(first, dims.len);
    for (var index = first; index < end; index += 64u) {
        let pixel = index / IMAGE_CHANNELS;
        let channel = index - pixel * IMAGE_CHANNELS;
        var sum = 0.0;
        for (var tap = 0u; tap < TAPS_DOWN * TAPS_ACROSS; tap += 1u) {
            let window = pixel_of(pixel, tap);
            if window.inside && largest_of(window.number, channel) == pixel {
                sum += f32(dy[window.number * IMAGE_CHANNELS + channel]);
            }
        }
        out[index] = out_type(sum);
    }
}

@compute @workgroup_size(64)
fn mean_back(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = first_of(group, groups, lane);
    let end = end_of(first, dims.len);
    for (var index = first; index < end; index += 64u) {
        let pixel = index / IMAGE_CHANNELS;
        let channel = index - pixel * IMAGE_CHANNELS;
        var sum = 0.0;
        for (var tap = 0u; tap < TAPS_DOWN * TAPS_ACROSS; tap += 1u) {
            let window = pixel_of(pixel, tap);
            if window.inside {
                sum += f32(dy[window.number * IMAGE_CHANNELS + channel]) / counted(window.number);
            }
        }
        out[index] = out_type(sum);
    }
}
