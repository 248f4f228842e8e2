// How far rows of the student are from the teacher's, and the gradient by the student's:
//   cosine  1 - cos(s, t), as PyTorch's CosineEmbeddingLoss of target 1 (DistilBERT, Sanh et al. 2019)
//   square  Σ (s - t)² / cols, as PyTorch's MSELoss (TinyBERT, Jiao et al. 2020)
// With u = s / √(|s|² + ε) and v = t / √(|t|² + ε), ε = 1e-12 as PyTorch has it:
//   1 - cos = (|u - v|² + ε / (|s|² + ε) + ε / (|t|² + ε)) / 2
// whose parts are not negative, so that it is exact where student and teacher are close; and
//   d(1 - cos) / ds = (u - v - (1 - cos) · u) / √(|s|² + ε)
//
// dims      uniform: rows, cols, positions of an example, the term's weight
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
//#import common/row_tree.wgsl

struct Dims {
    rows: u32,
    cols: u32,
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
    // Columns; of a row behind the last, 0.
    cols: u32,
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
    let cols = select(0u, dims.cols, is_row);
    let at = min(row, dims.rows - 1u);
    let first = at * dims.cols;
    let is_counted = is_row && i32(at % dims.positions) < lengths[at / dims.positions];
    var shrink = vec2<f32>(1.0);
    if COSINE {
        var squares = vec2<f32>();
        for (var c = local.x; c < cols; c += LANES) {
            let pair = vec2<f32>(f32(student[first + c]), f32(teacher[first + c]));
            squares += pair * pair;
        }
        shrink = 1.0 / sqrt(row_sums(local, vec4<f32>(squares, 0.0, 0.0)).xy + EPSILON);
    }
    var sum = 0.0;
    for (var c = local.x; c < cols; c += LANES) {
        let d = f32(student[first + c]) * shrink.x - f32(teacher[first + c]) * shrink.y;
        sum += d * d;
    }
    sum = row_sums(local, vec4<f32>(sum)).x;
    var value = sum / f32(dims.cols);
    if COSINE {
        value = 0.5 * (sum + EPSILON * shrink.x * shrink.x + EPSILON * shrink.y * shrink.y);
    }
    let share = dims.weight * select(state.soft_scale, state.token_scale, TOKENS);
    if is_row && local.x == 0u {
        // Padding may hold anything, even NaN.
        row_loss[row] = select(0.0, share * value, is_counted);
    }
    return Row(first, cols, is_counted, shrink, value, share);
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
        state.loss_scale * row.share * select(2.0 / f32(dims.cols), row.shrink.x, COSINE);
    for (var c = local.x; c < row.cols; c += LANES) {
        let u = f32(student[row.first + c]) * row.shrink.x;
        let d = u - f32(teacher[row.first + c]) * row.shrink.y;
        let slope = select(d, d - row.value * u, COSINE);
        gradient[row.first + c] = gradient_type(select(0.0, factor * slope, row.is_counted));
    }
}
