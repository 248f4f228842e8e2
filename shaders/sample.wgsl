// tokens[r] = a token drawn from softmax(logits[r, ·] / temperature), of which some are left out: kernels/src/sample.rs says
// which. -1 where a logit is no number. What is left are logits of at least `least`, found bit by bit from the highest: keys
// of numbers rise with them.
//
// dims       uniform: rows, cols
// logits     f32 [rows, cols]
// settings   f32 [rows, 4]: temperature, top_p, min_p, penalty
// draw       i32 [rows, 3]: seed, number of the text, top_k
// positions  i32 [rows]
// tokens     f32 [rows]
// said       f32 [rows, cols], with common/said.wgsl alone
// LANES threads a row, one row a workgroup, over a folded grid.

//#import common/step.wgsl
//#import common/nan.wgsl
//#import common/random.wgsl
//#import common/row_tree.wgsl
//#import common/unsaid.wgsl

struct Dims {
    rows: u32,
    cols: u32,
}

const LOWEST: f32 = -3.4028234e38;
const HIGHEST: f32 = 3.4028234e38;
const STREAM: u32 = 0x60000000u;

// As many as LANES; named, as naga 30 loses its count of overrides where an array's length is an expression of some.
override SHARES: u32 = LANES;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read> settings: array<f32>;
@group(0) @binding(4) var<storage, read> draw: array<i32>;
@group(0) @binding(5) var<storage, read> positions: array<i32>;
@group(0) @binding(6) var<storage, read_write> tokens: array<f32>;

var<workgroup> shares: array<f32, SHARES>;

// What is the same for a row's tokens.
struct Choice {
    start: u32,
    penalty: f32,
    temperature: f32,
    top: f32,
}

fn value_at(choice: Choice, c: u32) -> f32 {
    return penalised(choice.start + c, logits[choice.start + c], choice.penalty);
}

fn weight_of(choice: Choice, value: f32) -> f32 {
    return exp((value - choice.top) / choice.temperature);
}

// Rises with the number.
fn key_of(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    return select(bits | 0x80000000u, ~bits, bits >> 31u == 1u);
}

// How many tokens, or with `weighed` how much weight, have keys of at least each of three.
fn at_least(choice: Choice, local: vec3<u32>, keys: vec3<u32>, floor: u32, weighed: bool) -> vec3<f32> {
    var sums = vec3<f32>();
    for (var c = local.x; c < dims.cols; c += LANES) {
        let value = value_at(choice, c);
        let key = key_of(value);
        let one = select(1.0, weight_of(choice, value), weighed);
        sums += select(vec3<f32>(), vec3<f32>(one), (vec3<u32>(key) >= keys) & vec3<bool>(key >= floor));
    }
    return row_sums(local, vec4<f32>(sums, 0.0)).xyz;
}

// The highest key at and above which there is as much as is needed, two bits at a time.
fn key_reaching(choice: Choice, local: vec3<u32>, needed: f32, floor: u32, weighed: bool) -> u32 {
    var key = 0u;
    for (var bit = 0u; bit < 32u; bit += 2u) {
        let step = 1u << (30u - bit);
        let keys = vec3<u32>(key) + vec3<u32>(step, 2u * step, 3u * step);
        let reached = at_least(choice, local, keys, floor, weighed) >= vec3<f32>(needed);
        key += step * (select(0u, 1u, reached.x) + select(0u, 1u, reached.y) + select(0u, 1u, reached.z));
    }
    return key;
}

@compute @workgroup_size(LANES, ROWS)
fn sample(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let row = flat_group(group, groups);
    if row >= dims.rows {
        return;
    }
    var choice = Choice(row * dims.cols, settings[row * 4u + 3u], settings[row * 4u], 0.0);
    var peaks = Peaks(vec2<f32>(LOWEST), vec2<u32>());
    var wrong = 0.0;
    for (var c = local.x; c < dims.cols; c += LANES) {
        let value = value_at(choice, c);
        wrong += select(0.0, 1.0, is_nan(value) || value > HIGHEST);
        peaks = higher(peaks, Peaks(vec2<f32>(value), vec2<u32>(c)));
    }
    peaks = row_peaks(local, peaks);
    choice.top = peaks.value.x;
    let any_wrong = row_sums(local, vec4<f32>(wrong)).x > 0.0 || !(choice.top > LOWEST);
    var place = peaks.place.x;
    if choice.temperature > 0.0 {
        place = drawn(choice, row, local);
    }
    if local.x == 0u {
        tokens[row] = select(f32(place), -1.0, any_wrong);
        if !any_wrong {
            say(choice.start + place);
        }
    }
}

fn drawn(choice: Choice, row: u32, local: vec3<u32>) -> u32 {
    let top_p = settings[row * 4u + 1u];
    let min_p = settings[row * 4u + 2u];
    let top_k = u32(max(draw[row * 3u + 2u], 0));
    var least = 0u;
    if top_k > 0u && top_k < dims.cols {
        least = key_reaching(choice, local, f32(top_k), 0u, false);
    }
    if top_p < 1.0 {
        let all = at_least(choice, local, vec3<u32>(least), 0u, true).x;
        least = max(least, key_reaching(choice, local, top_p * all, least, true));
    }
    // Each thread has a run of tokens; of these runs' weights one holds the point.
    let run = (dims.cols + LANES - 1u) / LANES;
    let first = local.x * run;
    let end = min(first + run, dims.cols);
    var own = 0.0;
    for (var c = first; c < end; c += 1u) {
        let value = value_at(choice, c);
        let weight = weight_of(choice, value);
        own += select(0.0, weight, key_of(value) >= least && weight >= min_p);
    }
    shares[local.x] = own;
    workgroupBarrier();
    var before = 0.0;
    var total = 0.0;
    for (var lane = 0u; lane < LANES; lane += 1u) {
        let share = shares[lane];
        before += select(0.0, share, lane < local.x);
        total += share;
    }
    let index = u32(positions[row]) + 1u;
    let seed = u32(draw[row * 3u]);
    let point = random_unit(seed, STREAM, u32(draw[row * 3u + 1u]), index) * total;
    // The thread whose run holds the point stands highest; where rounding leaves none, the last that has a token.
    var found = Peaks(vec2<f32>(-1.0), vec2<u32>());
    if own > 0.0 {
        let here = before <= point && point < before + own;
        found.value.x = select(f32(local.x) / f32(LANES), 2.0, here);
        var sum = before;
        for (var c = first; c < end && sum <= point; c += 1u) {
            let value = value_at(choice, c);
            let weight = weight_of(choice, value);
            if key_of(value) >= least && weight >= min_p {
                sum += weight;
                found.place.x = c;
            }
        }
    }
    return row_peaks(local, found).place.x;
}
