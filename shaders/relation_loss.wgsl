// The divergence of the student's relations from the teacher's (Wang et al., "MiniLM", 2020), for each head:
//   R = softmax(a · bᵀ / √head_dim) over the positions that are no padding
//   value of row i = KL(R_teacher[i] ‖ R_student[i]) = Σ_j p ln(p / q) - p + q
// Attention's distributions are the relation of queries and keys, value relations that of values and values. With
// g = weight · state.token_scale / heads and s the student's factor 1 / √head_dim:
//   da[i] = g · s · Σ_j (q_ij - p_ij) · b[j],  db[j] = g · s · Σ_i (q_ij - p_ij) · a[i]
// both times state.loss_scale.
// No relation is ever whole: all passes make the scores again, 16 × 16 at a time.
//
// dims                  uniform: batch, length, heads, columns of the student's head, of the teacher's; row_blocks
//                       workgroups share a head's rows; the launch's first workgroup and their number; the student's
//                       factor, the teacher's, and the term's weight
// a, b                  f32 [batch, length, heads · head_dim], the student's
// teacher_a, teacher_b  f32 [batch, length, heads · teacher_dim]
// lengths               i32 [batch]: positions from lengths[i] on are padding
// stats                 f32 [batch, heads, length, 2]: ln Σ_j exp(score) of student and teacher; 0 for padding
// row_loss              f32 [batch, heads, length]: g · value; 0 for padding
// out                   f32: row_loss of `value`, da of `query`, db of `key`
//
// denominators  Rows are a's: stats. A thread keeps maximum and sum of every 16th score of its row online.
// value         Rows are a's: the loss alone.
// query         Rows are a's: the loss and da.
// key           Rows are b's: db.
// A workgroup has 16 rows of one head, over a folded grid. Thread (x, y) makes the score of row y with row x of the
// other side, then every 16th column from x on of row y's gradient.

//#import common/step.wgsl
//#import common/nan.wgsl

struct Dims {
    batch: u32,
    length: u32,
    heads: u32,
    head_dim: u32,
    teacher_dim: u32,
    row_blocks: u32,
    first_group: u32,
    groups: u32,
    scale: f32,
    teacher_scale: f32,
    weight: f32,
}

// Sixteens of columns of the student's head.
const PARTS: u32 = 2u;
// Whether a workgroup's rows are b's.
override ROWS_ARE_KEYS: bool = false;

const TILE: u32 = 16u;
// Rows in workgroup memory begin in different banks.
const STRIDE: u32 = TILE + 1u;
const LOWEST: f32 = -3.4028234e38;

alias a_type = f32;
alias b_type = f32;
alias teacher_a_type = f32;
alias teacher_b_type = f32;
alias out_type = f32;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> a: array<a_type>;
@group(0) @binding(3) var<storage, read> b: array<b_type>;
@group(0) @binding(4) var<storage, read> teacher_a: array<teacher_a_type>;
@group(0) @binding(5) var<storage, read> teacher_b: array<teacher_b_type>;
@group(0) @binding(6) var<storage, read> lengths: array<i32>;
@group(0) @binding(7) var<storage, read_write> stats: array<f32>;
@group(0) @binding(8) var<storage, read_write> out: array<out_type>;
@group(0) @binding(9) var<storage, read_write> row_loss: array<f32>;

var<workgroup> own_tile: array<f32, TILE * STRIDE>;
var<workgroup> other_tile: array<f32, TILE * STRIDE>;
var<workgroup> partials: array<vec4<f32>, TILE * TILE>;

// Rows of one head of one example.
struct Place {
    // batch · heads + head
    pair: u32,
    // First row of the example.
    example: u32,
    head: u32,
    // First row of the workgroup.
    first: u32,
    // Rows that are no padding.
    end: u32,
}

fn place_of(flat: u32) -> Place {
    let group = dims.first_group + flat;
    let pair = group / dims.row_blocks;
    let example = pair / dims.heads;
    let end = u32(clamp(lengths[example], 0, i32(dims.length)));
    return Place(
        pair,
        example * dims.length,
        pair % dims.heads,
        group % dims.row_blocks * TILE,
        end,
    );
}

// First column of a head in a row, for heads of `width` columns.
fn head_at(place: Place, row: u32, width: u32) -> u32 {
    return ((place.example + row) * dims.heads + place.head) * width;
}

// An element of a row of the student's: of the workgroup's side or the other; 0 behind the columns and in padding,
// which may hold anything, even NaN.
fn student(place: Place, row: u32, column: u32, is_own: bool) -> f32 {
    if row >= place.end || column >= dims.head_dim {
        return 0.0;
    }
    let at = head_at(place, row, dims.head_dim) + column;
    if is_own == ROWS_ARE_KEYS {
        return f32(b[at]);
    }
    return f32(a[at]);
}

fn teacher(place: Place, row: u32, column: u32, is_own: bool) -> f32 {
    if row >= place.end || column >= dims.teacher_dim {
        return 0.0;
    }
    let at = head_at(place, row, dims.teacher_dim) + column;
    if is_own == ROWS_ARE_KEYS {
        return f32(teacher_b[at]);
    }
    return f32(teacher_a[at]);
}

// The part of a score that the staged columns make.
fn staged_product(local: vec3<u32>) -> f32 {
    workgroupBarrier();
    var sum = 0.0;
    for (var c = 0u; c < TILE; c += 1u) {
        sum = fma(own_tile[local.y * STRIDE + c], other_tile[local.x * STRIDE + c], sum);
    }
    workgroupBarrier();
    return sum;
}

// The thread's scores, the student's and the teacher's, with the rows from `first` on of the other side.
fn scores(place: Place, local: vec3<u32>, first: u32) -> vec2<f32> {
    let slot = local.y * STRIDE + local.x;
    var score = vec2<f32>();
    for (var c = 0u; c < dims.head_dim; c += TILE) {
        own_tile[slot] = student(place, place.first + local.y, c + local.x, true);
        other_tile[slot] = student(place, first + local.y, c + local.x, false);
        score.x += staged_product(local);
    }
    for (var c = 0u; c < dims.teacher_dim; c += TILE) {
        own_tile[slot] = teacher(place, place.first + local.y, c + local.x, true);
        other_tile[slot] = teacher(place, first + local.y, c + local.x, false);
        score.y += staged_product(local);
    }
    return score * vec2<f32>(dims.scale, dims.teacher_scale);
}

fn kept_exp(x: vec2<f32>) -> vec2<f32> {
    return vec2<f32>(keep_nan(exp(x.x), x.x), keep_nan(exp(x.y), x.y));
}

@compute @workgroup_size(TILE, TILE)
fn denominators(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let flat = flat_group(group, groups);
    if flat >= dims.groups {
        return;
    }
    let place = place_of(flat);
    var peak = vec2<f32>(LOWEST);
    var total = vec2<f32>();
    for (var first = 0u; first < place.end; first += TILE) {
        let score = scores(place, local, first);
        if first + local.x < place.end {
            let top = max(peak, score);
            total = total * exp(peak - top) + kept_exp(score - top);
            peak = top;
        }
    }
    partials[local.y * TILE + local.x] = vec4<f32>(peak, total);
    workgroupBarrier();
    let row = place.first + local.y;
    if local.x == 0u && row < dims.length {
        for (var lane = 1u; lane < TILE; lane += 1u) {
            let other = partials[local.y * TILE + lane];
            let top = max(peak, other.xy);
            total = total * exp(peak - top) + other.zw * exp(other.xy - top);
            peak = top;
        }
        let log_total =
            vec2<f32>(keep_nan(log(total.x), total.x), keep_nan(log(total.y), total.y));
        let made = select(vec2<f32>(), peak + log_total, vec2<bool>(row < place.end));
        let at = 2u * (place.pair * dims.length + row);
        stats[at] = made.x;
        stats[at + 1u] = made.y;
    }
}

// What a score adds to a row's value, and q - p.
fn divergence(place: Place, score: vec2<f32>, own: u32, other: u32) -> vec2<f32> {
    if max(own, other) >= place.end {
        return vec2<f32>();
    }
    let at = 2u * (place.pair * dims.length + select(own, other, ROWS_ARE_KEYS));
    let logs = score - vec2<f32>(stats[at], stats[at + 1u]);
    let weights = exp(logs);
    let difference = weights.x - weights.y;
    let term = select(0.0, weights.y * (logs.y - logs.x), weights.y > 0.0) + difference;
    let lost = logs.y - logs.x;
    return vec2<f32>(keep_nan(term, lost), keep_nan(difference, lost));
}

fn share() -> f32 {
    return dims.weight * state.token_scale / f32(dims.heads);
}

// Sums what each row's threads have; the first thread of the row has the sum.
fn row_sum(local: vec3<u32>, part: f32) -> f32 {
    partials[local.y * TILE + local.x].x = part;
    workgroupBarrier();
    var sum = 0.0;
    for (var lane = 0u; lane < TILE; lane += 1u) {
        sum += partials[local.y * TILE + lane].x;
    }
    return sum;
}

@compute @workgroup_size(TILE, TILE)
fn value(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let flat = flat_group(group, groups);
    if flat >= dims.groups {
        return;
    }
    let place = place_of(flat);
    let row = place.first + local.y;
    var part = 0.0;
    for (var first = 0u; first < place.end; first += TILE) {
        part += divergence(place, scores(place, local, first), row, first + local.x).x;
    }
    let sum = row_sum(local, part);
    if local.x == 0u && row < dims.length {
        out[place.pair * dims.length + row] = out_type(share() * sum);
    }
}

// Writes the gradient of the workgroup's rows; returns the thread's part of its row's value.
fn gradient(place: Place, local: vec3<u32>) -> f32 {
    let row = place.first + local.y;
    var part = 0.0;
    var sums: array<f32, PARTS>;
    for (var first = 0u; first < place.end; first += TILE) {
        let made = divergence(place, scores(place, local, first), row, first + local.x);
        part += made.x;
        own_tile[local.y * STRIDE + local.x] = made.y;
        workgroupBarrier();
        let rows = min(TILE, place.end - first);
        for (var p = 0u; p < PARTS; p += 1u) {
            for (var r = 0u; r < rows; r += 1u) {
                let other = student(place, first + r, p * TILE + local.x, false);
                sums[p] = fma(own_tile[local.y * STRIDE + r], other, sums[p]);
            }
        }
        // The next scores are staged where the differences lie.
        workgroupBarrier();
    }
    for (var p = 0u; p < PARTS; p += 1u) {
        let column = p * TILE + local.x;
        if row < dims.length && column < dims.head_dim {
            let value = state.loss_scale * share() * dims.scale * sums[p];
            out[head_at(place, row, dims.head_dim) + column] = out_type(value);
        }
    }
    return part;
}

@compute @workgroup_size(TILE, TILE)
fn query(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let flat = flat_group(group, groups);
    if flat >= dims.groups {
        return;
    }
    let place = place_of(flat);
    let sum = row_sum(local, gradient(place, local));
    let row = place.first + local.y;
    if local.x == 0u && row < dims.length {
        row_loss[place.pair * dims.length + row] = share() * sum;
    }
}

@compute @workgroup_size(TILE, TILE)
fn key(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let flat = flat_group(group, groups);
    if flat >= dims.groups {
        return;
    }
    _ = gradient(place_of(flat), local);
}
