// The distillation loss of outputs that do not share a softmax, each with a label of its own, and its gradient.
//
// Of an output z of the student, t of the teacher and a label y, as LOGISTIC says:
//   true   hard = softplus(z) - y z, cross-entropy of σ(z), whose derivative is σ(z) - y
//          soft = T² D(p, q) of p = σ(t / T) and q = σ(z / T), D as DIVERGENCE says in shaders/distill_loss.wgsl: between two
//          distributions of two outcomes, yes and no
//   false  hard = (z - y)², soft = (z - t)², without a temperature
// A row's terms are the mean of soft over its outputs and that of hard over those that have a label; then, as in
// distill_loss.wgsl, row_loss = alpha · soft · soft_scale + (1 - alpha) · hard · hard_scale, without a teacher
// hard · hard_scale. With δ = (z - t) / T:
//   D = KL(p | q)  softplus(z / T) - softplus(t / T) - p δ          dD/dq · dq/d(z / T) = q - p
//   D = KL(q | p)  the same with p and q exchanged                  q (1 - q) δ
//   any other      both outcomes' parts by common/divergence.wgsl   q (1 - q) (g of yes - g of no)
// where q - p = ± q' p'' (1 - e^-|δ|) of the outcomes' probabilities. For a small δ the first is a series without a sign:
// with d = 1 - e^-|δ| and w the probability in p of the outcome that q has less of, Σ_k (w - w^k) d^k / k.
//
// dims      uniform: rows, words of a row, the divergence's β or α
// z_s       f32 [rows, outputs], overwritten by state.loss_scale · gradient when GRADIENT
// z_t       f32 [rows, outputs], read only when TEACHER
// targets   f32 [rows, outputs]: labels, from 0 to 1 when LOGISTIC; NaN: no hard term
// kinds     i32 [rows]: 0 or more; -100: the row has no hard term; i32 minimum: a padding row, which counts in nothing
// row_loss  f32 [rows]
// terms     f32 [rows, 6]: soft, hard, share of the labelled outputs on their label's side (of z = 0 and y = 1/2; 0 unless
//           LOGISTIC), share of the outputs on the teacher's side, counts in soft, counts in hard: has a label
//
// LANES threads stride along a row; ROWS rows a workgroup, over a folded grid. One sweep over the labels counts them, another
// over everything makes losses and gradient.

//#import common/step.wgsl
//#import common/nan.wgsl
//#import common/nan_word.wgsl
//#import common/word.wgsl
//#import common/row_tree.wgsl
//#import common/divergence.wgsl

struct Dims {
    rows: u32,
    words: u32,
    share: f32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read_write> z_s: array<Word>;
@group(0) @binding(3) var<storage, read> z_t: array<Word>;
@group(0) @binding(4) var<storage, read> targets: array<Word>;
@group(0) @binding(5) var<storage, read> kinds: array<i32>;
@group(0) @binding(6) var<storage, read_write> row_loss: array<f32>;
@group(0) @binding(7) var<storage, read_write> terms: array<f32>;

override TEACHER: bool = true;
override GRADIENT: bool = true;
override LOGISTIC: bool = true;

const PADDING: i32 = -2147483647 - 1;

// Of a logit: the probabilities of yes and no, and minus their logarithms.
struct Outcomes {
    yes: Word,
    no: Word,
    cost_yes: Word,
    cost_no: Word,
}

fn outcomes_of(a: Word) -> Outcomes {
    let e = exp(-abs(a));
    let likely = 1.0 / (1.0 + e);
    let unlikely = e * likely;
    let cost = log1p(e);
    let is_no = a < Word();
    return Outcomes(
        select(likely, unlikely, is_no),
        select(unlikely, likely, is_no),
        cost + max(-a, Word()),
        cost + max(a, Word()),
    );
}

// A value and its derivative by the student's logit.
struct Part {
    value: Word,
    slope: Word,
}

// KL(p | q) of q of a logit a and p of b, δ = a - b.
fn binary_kl(q: Outcomes, p: Outcomes, b: Word, delta: Word) -> Word {
    let u = abs(delta);
    let loses_yes = delta < Word();
    let w = select(p.no, p.yes, loses_yes);
    let v = select(p.yes, p.no, loses_yes);
    let low = vec4<f32>(0.5, 0.33333334, 0.25, 0.2);
    let high = vec4<f32>(0.16666667, 0.14285715, 0.125, 0.11111111);
    let near = rising_series(-decay(u).below, w, v, low, high);
    // By the outcome that p finds less likely, whose logarithm keeps its digits.
    let is_yes = b > Word();
    let cost = select(q.cost_no - p.cost_no, q.cost_yes - p.cost_yes, is_yes);
    let far = cost - select(p.yes * delta, -p.no * delta, is_yes);
    return select(far, near, u < Word(0.25));
}

// The divergence of q, of a logit a, from p, of b; δ = a - b.
fn binary_divergence(a: Word, b: Word, delta: Word) -> Part {
    let q = outcomes_of(a);
    let p = outcomes_of(b);
    let d = -decay(abs(delta)).below;
    let loses_yes = delta < Word();
    if is_forward() {
        let difference = select(q.yes * p.no, -q.no * p.yes, loses_yes) * d;
        return Part(binary_kl(q, p, b, delta), difference);
    }
    if DIVERGENCE == REVERSE_KL {
        return Part(binary_kl(p, q, a, -delta), q.yes * q.no * delta);
    }
    // The outcome that q has more of, then the other: the smaller probability is the larger times 1 - x, x as below.
    let q_more = select(q.yes, q.no, loses_yes);
    let p_less = select(p.no, p.yes, loses_yes);
    let x_more = p_less * d;
    let x_less = q_more * d;
    // p / q of the other may be so large that only the logarithms hold it.
    let apart = select(q.cost_no - p.cost_no, q.cost_yes - p.cost_yes, loses_yes);
    let u_less = select(apart, -log1p(-x_less), x_less < Word(0.5));
    let more = outcome_of(-log1p(-x_more), -x_more, dims.share);
    let less = outcome_of(-u_less, -x_less, dims.share);
    let slope = q.yes * q.no * (more.slope - less.slope);
    return Part(q_more * more.part + p_less * less.part, select(slope, -slope, loses_yes));
}

fn soft_part(z: Word, t: Word) -> Part {
    if LOGISTIC {
        let cold = 1.0 / state.temperature;
        let part = binary_divergence(z * cold, t * cold, (z - t) * cold);
        return Part(keep_nans(part.value, z - t), state.temperature * part.slope);
    }
    return Part((z - t) * (z - t), 2.0 * (z - t));
}

fn hard_part(z: Word, y: Word) -> Part {
    if LOGISTIC {
        let q = outcomes_of(z);
        let value = y * q.cost_yes + (1.0 - y) * q.cost_no;
        return Part(keep_nans(value, z), (1.0 - y) * q.yes - y * q.no);
    }
    return Part((z - y) * (z - y), 2.0 * (z - y));
}

@compute @workgroup_size(LANES, ROWS)
fn pointwise_loss(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let row = flat_group(group, groups) * ROWS + local.y;
    let is_row = row < dims.rows;
    let kind = kinds[min(row, dims.rows - 1u)];
    let first = row * dims.words;
    let outputs = f32(dims.words * WORD);
    // A surplus row is empty: its threads still take part in the barriers.
    let words = select(0u, dims.words, is_row);

    var labels = Word();
    for (var c = local.x; c < select(0u, words, kind >= 0); c += LANES) {
        labels += numbers_of(targets[first + c]);
    }
    let labelled = row_sums(local, vec4<f32>(sum_of(labels))).x;

    let counts_soft = select(0.0, 1.0, TEACHER && kind != PADDING);
    let counts_hard = select(0.0, 1.0, labelled > 0.0);
    let soft_weight = select(0.0, state.alpha, TEACHER) * state.soft_scale * counts_soft;
    let hard_weight = select(1.0, 1.0 - state.alpha, TEACHER) * state.hard_scale * counts_hard;
    let soft_slope = state.loss_scale * soft_weight / outputs;
    let hard_slope = state.loss_scale * hard_weight / max(labelled, 1.0);

    var softs = Word();
    var hards = Word();
    var rights = Word();
    var agreements = Word();
    for (var c = local.x; c < words; c += LANES) {
        let at = first + c;
        let z = z_s[at];
        let is_yes = z > Word();
        var gradient = Word();
        // A padding row may hold anything, even NaN.
        if TEACHER && kind != PADDING {
            let t = z_t[at];
            let soft = soft_part(z, target_of(z, t));
            softs += soft.value;
            agreements += select(Word(), Word(1.0), is_yes == (t > Word()));
            gradient = soft_slope * soft.slope;
        }
        if counts_hard > 0.0 {
            let y = targets[at];
            let has_label = numbers_of(y) > Word();
            let hard = hard_part(z, select(Word(), y, has_label));
            hards += select(Word(), hard.value, has_label);
            rights += select(Word(), Word(1.0), has_label & (is_yes == (y > Word(0.5))));
            gradient += hard_slope * select(Word(), hard.slope, has_label);
        }
        if GRADIENT {
            z_s[at] = gradient;
        }
    }
    let sums = row_sums(local, vec4<f32>(sum_of(softs), sum_of(hards), sum_of(rights), sum_of(agreements)));

    if local.x == 0u && is_row {
        let square = select(1.0, state.temperature * state.temperature, LOGISTIC);
        let share = 1.0 / max(labelled, 1.0);
        let soft = square * sums.x / outputs;
        let hard = sums.y * share;
        row_loss[row] = soft_weight * soft + hard_weight * hard;
        let at = row * 6u;
        terms[at] = soft;
        terms[at + 1u] = hard;
        terms[at + 2u] = select(0.0, sums.z * share, LOGISTIC);
        terms[at + 3u] = select(0.0, sums.w / outputs, LOGISTIC);
        terms[at + 4u] = counts_soft;
        terms[at + 5u] = counts_hard;
    }
}
