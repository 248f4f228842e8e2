// How far rows of the student are from the teacher's, and the gradient by the student's:
//   cosine  1 - cos(s, t), as PyTorch's CosineEmbeddingLoss of target 1 (DistilBERT, Sanh et al. 2019)
//   square  Σ (s - t)² / cols, as PyTorch's MSELoss (TinyBERT, Jiao et al. 2020)
// With u = s / √(|s|² + ε) and v = t / √(|t|² + ε), ε = 1e-12 as PyTorch has it:
//   1 - cos = (|u - v|² + ε / (|s|² + ε) + ε / (|t|² + ε)) / 2
// whose parts are not negative, so that it is exact where student and teacher are close; and
//   d(1 - cos) / ds = (u - v - (1 - cos) · u) / √(|s|² + ε)
//
// dims      uniform: rows, words of a row, positions of an example, the term's weight
// student   f32 [rows, cols]
// teacher   f32 [rows, cols]
// lengths   i32 [rows / positions]: positions from lengths[i] on are padding, and count in nothing
// row_loss  f32 [rows]: weight · scale · value; scale is state.token_scale where TOKENS, else state.soft_scale
// gradient  f32 [rows, cols]: of the sum of row_loss, times state.loss_scale
//
// value               The loss alone.
// value_and_gradient  Both.
// LANES threads stride along a row; ROWS rows a workgroup, over a folded grid.

//#import common/step.wgsl
//#import common/word.wgsl
//#import common/row_tree.wgsl

struct Dims {
    rows: u32,
    words: u32,
    positions: u32,
    weight: f32,
}

override COSINE: bool = false;
override TOKENS: bool = false;

const EPSILON: f32 = 1e-12;

alias student_type = f32;
alias teacher_type = f32;
alias gradient_type = f32;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> student: array<student_type>;
@group(0) @binding(3) var<storage, read> teacher: array<teacher_type>;
@group(0) @binding(4) var<storage, read> lengths: array<i32>;
@group(0) @binding(5) var<storage, read_write> row_loss: array<f32>;
@group(0) @binding(6) var<storage, read_write> gradient: array<gradient_type>;

// A row as it was measured.
struct Row {
    first: u32,
    // Its words; of a row behind the last, 0.
    words: u32,
    is_counted: bool,
    // What student and teacher are multiplied by before they are compared.
    shrink: vec2<f32>,
    value: f32,
    // weight · scale
    share: f32,
}

// Measures a row and writes its loss. A surplus row is empty: its threads still take part in the barriers.
fn measure(local: vec3<u32>, row: u32) -> Row {
    let is_row = row < dims.rows;
    let words = select(0u, dims.words, is_row);
    let at = min(row, dims.rows - 1u);
    let first = at * dims.words;
    let is_counted = is_row && i32(at % dims.positions) < lengths[at / dims.positions];
    var shrink = vec2<f32>(1.0);
    if COSINE {
        var s_squares: Word;
        var t_squares: Word;
        for (var c = local.x; c < words; c += LANES) {
            let s = Word(student[first + c]);
            let t = Word(teacher[first + c]);
            s_squares += s * s;
            t_squares += t * t;
        }
        let squares = vec4<f32>(sum_of(s_squares), sum_of(t_squares), 0.0, 0.0);
        shrink = 1.0 / sqrt(row_sums(local, squares).xy + EPSILON);
    }
    var squares: Word;
    for (var c = local.x; c < words; c += LANES) {
        let d = Word(student[first + c]) * shrink.x - Word(teacher[first + c]) * shrink.y;
        squares += d * d;
    }
    let sum = row_sums(local, vec4<f32>(sum_of(squares))).x;
    var value = sum / f32(dims.words * WORD);
    if COSINE {
        value = 0.5 * (sum + EPSILON * shrink.x * shrink.x + EPSILON * shrink.y * shrink.y);
    }
    let share = dims.weight * select(state.soft_scale, state.token_scale, TOKENS);
    if is_row && local.x == 0u {
        // Padding may hold anything, even NaN.
        row_loss[row] = select(0.0, share * value, is_counted);
    }
    return Row(first, words, is_counted, shrink, value, share);
}

@compute @workgroup_size(LANES, ROWS)
fn value(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    _ = measure(local, flat_group(group, groups) * ROWS + local.y);
}

@compute @workgroup_size(LANES, ROWS)
fn value_and_gradient(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let row = measure(local, flat_group(group, groups) * ROWS + local.y);
    let factor =
        state.loss_scale * row.share * select(2.0 / f32(dims.words * WORD), row.shrink.x, COSINE);
    for (var c = local.x; c < row.words; c += LANES) {
        let u = Word(student[row.first + c]) * row.shrink.x;
        let d = u - Word(teacher[row.first + c]) * row.shrink.y;
        let slope = select(d, d - row.value * u, COSINE);
        gradient[row.first + c] = gradient_type(select(Word(), factor * slope, row.is_counted));
    }
}
