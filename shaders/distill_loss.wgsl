// The distillation loss of one row and its gradient, fused: temperature softmax, divergence, cross-entropy.
//
//   p = softmax(z_t / T), q = softmax(z_s / T), r = softmax(z_s)
//   soft = T² · D(p, q)          hard = -(1 - ε) ln r_label - ε / C Σ_j ln r_j of C classes
//   row_loss = alpha · soft · soft_scale + (1 - alpha) · hard · hard_scale
//   d row_loss / d z_s = alpha · d soft / d z_s · soft_scale + (1 - alpha) · (r - (1 - ε) onehot - ε / C) · hard_scale
// (Hinton, Vinyals and Dean 2015; ε is label smoothing, Szegedy et al. 2016; the scales are 1 / rows that count, so the sum over rows is the batch
// mean.) Without a teacher the row loss is hard · hard_scale. D is, as DIVERGENCE says,
//   0  forward KL, Σ_j p_j ln(p_j / q_j)
//   1  reverse KL, Σ_j q_j ln(q_j / p_j)
//   2  generalised Jensen-Shannon, β KL(p | m) + (1 - β) KL(q | m) with m = β p + (1 - β) q (Agarwal et al. 2024)
//   3  skew KL, KL(p | m) with m = α p + (1 - α) q (Ko et al. 2024)
//   4  skew reverse KL, KL(q | m) with m = (1 - α) p + α q
//   5  total variation, Σ_j |p_j - q_j| / 2, whose derivative is 0 where p_j = q_j
//   6  forward KL of p' = softmax(z' / T), z' = z_s + λ (z_t - z_s) held fixed, in the place of p (Shing et al. 2025)
//   7  decoupled KL, α KL(p_y | q_y) of the label y against all others + β KL(p̂ | q̂) of the others among themselves (Zhao et al.
//      2022). Its part of d soft / d z_s is T α (q_y - p_y) at y, T (β (q̂ - p̂) - α (q_y - p_y) q̂) elsewhere; a row without
//      a label has others alone
// With g_j the derivative of D's j-th part by q_j, d soft / d z_s = T q_j (g_j - Σ_i q_i g_i): T (q - p), T q (x - Σ q x) and
// T (1 - β) q (ln(q / m) - Σ q ln(q / m)) of the first three, where x_j = ln q_j - ln p_j.
//
// Nothing that is summed is negative, and an error of a softmax's denominator cancels, as p and q both sum to one: KL is
// Σ_j p_j (e^x_j - 1 - x_j), reverse KL the same with p and q exchanged; parts and g of the others see common/divergence.wgsl. At a high
// T, x is small: x_j is made of the difference of logits, and e^x - 1 and e^x - 1 - x of their series. What is subtracted
// from g_j is counted from g of the student's likeliest class, so that a student who is nearly sure has a slope too.
//
// With STANDARDISE, (z - μ) / (σ + 1e-7) stands for z in the soft term, μ and σ being mean and standard deviation (of C - 1) of
// the row's classes in either model (Sun et al. 2024). A softmax knows nothing of μ, so z is scaled alone. With v the derivative by
// what is scaled and s = 1 / (σ + 1e-7), d soft / d z = s v - (z - μ) s² / ((C - 1) σ) Σ v (z - μ); 0 where all logits are the same.
//
// dims      uniform: rows, classes, words from a row to the next of either tensor, the launch's first row, the divergence's
//           β or α, of decoupled KL α and β, and ε
// z_s       f32 [rows, student_stride], overwritten by state.loss_scale · gradient when GRADIENT; columns from `classes`
//           on are padding: they count in nothing, gradient 0
// z_t       f32 [rows, teacher_stride], read only when TEACHER
// labels    i32 [rows]: a class; -100: no hard term; i32 minimum: a padding row, which counts in nothing
// row_weights  f32 [rows], where common/row_weights.wgsl stands in for common/row_weight.wgsl: what each row's hard term is
//           multiplied by in loss and gradient; hard_scale is then 1 / their sum. `terms` knows nothing of them, nor of ε
// row_loss  f32 [rows]
// terms     f32 [rows, 6]: soft, hard, student right, student agrees with teacher, counts in soft, counts
//           in hard; of divergence 6, "teacher" is its target
//
// LANES threads a row, ROWS rows a workgroup, in two sweeps: the first keeps maximum and sums of both rows online
// (Milakov and Gimelshein 2018), the last makes loss and gradient. Where T is above REFINED_ABOVE, one between them
// makes the ratio of the denominators better: its error is a rounding, and x falls as 1 / T. The total variation, which asks
// for x's sign, always has it: of models that are nearly sure, x is less than a rounding. Divergences but forward KL take
// another one, for the loss and Σ q g. Decoupled KL and STANDARDISE sum softmaxes of their own behind the first sweep. With HOLD the row stays in registers between the sweeps (HELD words a thread of each
// tensor), else each reads it. No probability is stored.

//#import common/step.wgsl
//#import common/nan.wgsl
//#import common/nan_word.wgsl
//#import common/word.wgsl
//#import common/row_tree.wgsl
//#import common/row_weight.wgsl
//#import common/divergence.wgsl

struct Dims {
    rows: u32,
    classes: u32,
    student_words: u32,
    teacher_words: u32,
    first_row: u32,
    share: f32,
    others: f32,
    smoothing: f32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read_write> z_s: array<Word>;
@group(0) @binding(3) var<storage, read> z_t: array<Word>;
@group(0) @binding(4) var<storage, read> labels: array<i32>;
@group(0) @binding(5) var<storage, read_write> row_loss: array<f32>;
@group(0) @binding(6) var<storage, read_write> terms: array<f32>;

override TEACHER: bool = true;
override GRADIENT: bool = true;
override STANDARDISE: bool = false;
override HOLD: bool = false;
const HELD: u32 = 1u;

const IGNORED: i32 = -100;
const PADDING: i32 = -2147483647 - 1;
const LOWEST: f32 = -3.4028234e38;
const REFINED_ABOVE: f32 = 20.0;

// What a row's softmaxes have in common: of e^((z - top) · scale · cold).
struct Row {
    top: vec2<f32>,
    scale: vec2<f32>,
    log_sums: vec2<f32>,
    cold: f32,
}

struct Forward {
    // q - p
    difference: Word,
    // A class's part of the KL.
    kl: Word,
}

// Of logarithms of q and p, and x = ln q - ln p. The larger of p and q is never lost; the other is it times e^-|x|.
fn forward_of(log_q: Word, log_p: Word, unbounded: Word) -> Forward {
    let larger = exp(max(log_q, log_p));
    let x = select(unbounded, Word(FAR), unbounded > Word(FAR));
    let u = abs(x);
    let made = decay(u);
    let is_more = x >= Word();
    let difference = select(made.below, -made.below, is_more);
    let kl = select(made.rest, -(x * made.below + made.rest), is_more);
    // A class that neither gives any probability may have infinite logits.
    let is_none = larger == Word();
    return Forward(
        select(larger * difference, Word(), is_none),
        select(larger * kl, Word(), is_none),
    );
}

// Of logits of student and teacher, with the logarithm of the ratio of their denominators.
fn forward_kl(row: Row, s: Word, t: Word, log_ratio: f32) -> Forward {
    let a = (s - row.top.x) * row.scale.x;
    let b = (t - row.top.y) * row.scale.y;
    let x = (a - b) * row.cold - log_ratio;
    return forward_of(a * row.cold - row.log_sums.x, b * row.cold - row.log_sums.y, x);
}

// ln(1 + e^v)
fn softplus(v: Word) -> Word {
    return max(v, Word()) + log1p(exp(-abs(v)));
}

// Of the logits of a class against those of all others, which `row` has: q - p of the class, and the KL of the two outcomes.
// With d the difference of its log odds, ln q - ln p = -ln(1 + (1 - p) (e^-d - 1)), and of the rest -ln(1 + p (e^d - 1)).
fn against_others(row: Row, s: f32, t: f32, log_ratio: f32) -> Forward {
    let a = (s - row.top.x) * row.scale.x;
    let b = (t - row.top.y) * row.scale.y;
    let odds_q = Word(a * row.cold - row.log_sums.x);
    let odds_p = Word(b * row.cold - row.log_sums.y);
    let d = Word((a - b) * row.cold - log_ratio);
    let log_q = -softplus(-odds_q);
    let log_p = -softplus(-odds_p);
    let log_rest_q = -softplus(odds_q);
    let log_rest_p = -softplus(odds_p);
    let below = decay(abs(d)).below;
    let above = -below / (1.0 + below);
    let rises = d >= Word();
    let near_x = -log1p(exp(log_rest_p) * select(above, below, rises));
    let near_rest = -log1p(exp(log_p) * select(below, above, rises));
    let is_near = abs(d) < Word(0.25);
    let of_class = forward_of(log_q, log_p, select(log_q - log_p, near_x, is_near));
    let x_rest = select(log_rest_q - log_rest_p, near_rest, is_near);
    let of_rest = forward_of(log_rest_q, log_rest_p, x_rest);
    return Forward(of_class.difference, of_class.kl + of_rest.kl);
}

struct Graded {
    q: Word,
    // q times the part's derivative by q, which is counted from that of the student's likeliest class.
    pull: Word,
    // A class's part of the divergence.
    part: Word,
}

// The student's likeliest class: the teacher's logit, and the derivative of that class's part by q.
struct Best {
    t: f32,
    slope: f32,
}

fn best_of(row: Row, t: f32, log_ratio: f32) -> Best {
    let x = Word((row.top.y - t) * row.scale.y * row.cold - log_ratio);
    return Best(t, max_of(outcome_of(x, decay(abs(x)).below, dims.share).slope));
}

// Of logits of student and teacher.
fn graded(row: Row, s: Word, t: Word, log_ratio: f32, best: Best) -> Graded {
    let a = (s - row.top.x) * row.scale.x;
    let b = (t - row.top.y) * row.scale.y;
    let log_q = a * row.cold - row.log_sums.x;
    let larger = exp(max(log_q, b * row.cold - row.log_sums.y));
    let q = exp(log_q);
    let x = (a - b) * row.cold - log_ratio;
    let outcome = outcome_of(x, decay(abs(x)).below, dims.share);
    let is_best = (a == Word()) & (t == Word(best.t));
    var slope = select(outcome.slope - best.slope, Word(), is_best);
    if DIVERGENCE == REVERSE_KL {
        // Logits differ by more digits than their distances from the denominators.
        slope = (a - (t - best.t) * row.scale.y) * row.cold;
    }
    // A class without any probability may have infinite logits.
    return Graded(
        q,
        select(q * slope, Word(), q == Word()),
        select(larger * outcome.part, Word(), larger == Word()),
    );
}

// What the soft term is made of beside softmaxes: the logarithm of the ratio of their denominators; of divergences with a mean
// slope, that and the likeliest class; of decoupled KL, the label and how far its q is from p.
struct Shared {
    log_ratio: f32,
    best: Best,
    mean_slope: f32,
    label: u32,
    label_difference: f32,
}

struct Soft {
    // Of T² · D by a logit as it is scaled, in shares of T.
    slope: Word,
    // A class's part of D.
    part: Word,
}

fn soft_of(row: Row, s: Word, t: Word, places: Places, taught: Shared) -> Soft {
    if is_forward() {
        let made = forward_kl(row, s, t, taught.log_ratio);
        if DIVERGENCE != DECOUPLED_KL {
            return Soft(made.difference, made.kl);
        }
        let of_label = dims.share * taught.label_difference;
        let q = exp((s - row.top.x) * row.scale.x * row.cold - row.log_sums.x);
        let is_label = places == Places(taught.label);
        return Soft(
            select(dims.others * made.difference - of_label * q, Word(of_label), is_label),
            select(dims.others * made.kl, Word(), is_label),
        );
    }
    let made = graded(row, s, t, taught.log_ratio, taught.best);
    return Soft(made.pull - made.q * taught.mean_slope, made.part);
}

@compute @workgroup_size(LANES, ROWS)
fn distill_loss(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let lane = local.x;
    let row = dims.first_row + flat_group(group, groups) * ROWS + local.y;
    let is_row = row < dims.rows;
    // A surplus row is empty: its threads still take part in the barriers.
    let classes = select(0u, dims.classes, is_row);
    let words = (classes + WORD - 1u) / WORD;
    let s_at = row * dims.student_words;
    let t_at = row * dims.teacher_words;
    let label = labels[min(row, dims.rows - 1u)];
    let cold = 1.0 / state.temperature;
    // Registers are not indexed: a compiler has to know how often a loop over them runs.
    let rounds = select((words + LANES - 1u) / LANES, HELD, HOLD);

    // First sweep: x holds the student's numbers, y the teacher's.
    var s_held: array<Word, HELD>;
    var t_held: array<Word, HELD>;
    var peak = vec2<f32>(LOWEST);
    var place = vec2<u32>(0u);
    var hot_sums: Word;
    var q_sums: Word;
    var p_sums: Word;
    for (var i = 0u; i < rounds; i += 1u) {
        let j = lane + i * LANES;
        if j < words {
            let places = places_of(j);
            let is_class = places < Places(classes);
            let s = z_s[s_at + j];
            let seen = select(Word(LOWEST), s, is_class & (s > Word(LOWEST)));
            let s_peak = max_of(seen);
            if s_peak > peak.x {
                hot_sums *= exp(peak.x - s_peak);
                q_sums *= exp((peak.x - s_peak) * cold);
                peak.x = s_peak;
                place.x = lowest_of(select(Places(0xffffffffu), places, seen == Word(s_peak)));
            }
            hot_sums += select(Word(), keep_nans(exp(s - peak.x), s), is_class);
            if TEACHER {
                q_sums += select(Word(), exp((s - peak.x) * cold), is_class);
                let t = target_of(s, z_t[t_at + j]);
                let seen = select(Word(LOWEST), t, is_class & (t > Word(LOWEST)));
                let t_peak = max_of(seen);
                if t_peak > peak.y {
                    p_sums *= exp((peak.y - t_peak) * cold);
                    peak.y = t_peak;
                    place.y = lowest_of(select(Places(0xffffffffu), places, seen == Word(t_peak)));
                }
                p_sums += select(Word(), keep_nans(exp((t - peak.y) * cold), t), is_class);
                if HOLD {
                    t_held[i] = t;
                }
            }
            if HOLD {
                s_held[i] = s;
            }
        }
    }

    let peaks = row_peaks(local, Peaks(peak, place));
    let top = peaks.value;
    let best = peaks.place;

    // The label's logit comes from the thread that will overwrite it.
    var label_logit = 0.0;
    if is_row && label >= 0 && u32(label) / WORD % LANES == lane {
        let word = u32(label) / WORD;
        let is_label = places_of(word) == Places(u32(label));
        label_logit = sum_of(select(Word(), z_s[s_at + word], is_label));
    }
    // The row's sums, each thread's brought to the common maximum.
    let s_shift = peak.x - top.x;
    let t_shift = peak.y - top.y;
    let total = row_sums(local, vec4<f32>(
        sum_of(hot_sums) * exp(s_shift),
        sum_of(q_sums) * exp(s_shift * cold),
        sum_of(p_sums) * exp(t_shift * cold),
        label_logit,
    ));
    let log_hot = keep_nan(log(total.x), total.x);
    var softmaxes = Row(top, vec2<f32>(1.0), vec2<f32>(log(total.y), log(total.z)), cold);
    var log_ratio = keep_nan(log(total.y / total.z), total.y / total.z);

    let is_padding = label == PADDING;
    let counts_soft = select(0.0, 1.0, TEACHER && !is_padding);
    let counts_hard = select(0.0, 1.0, label >= 0);
    let soft_weight = select(0.0, state.alpha, TEACHER) * state.soft_scale * counts_soft;
    let hard_share = select(1.0, 1.0 - state.alpha, TEACHER) * row_weight(min(row, dims.rows - 1u));
    let hard_weight = hard_share * state.hard_scale * counts_hard;

    // A padding row may hold anything, even NaN, as columns behind the classes do: none of it counts.
    let counted = select(classes, 0u, is_padding);
    // The class that has no part in the soft term's softmaxes: a label that is compared with all others.
    let apart = select(0xffffffffu, u32(label), DIVERGENCE == DECOUPLED_KL);
    // Of logits less the largest.
    var mean = vec2<f32>();
    // What a slope is multiplied by, and what (z - μ) Σ v (z - μ) is.
    var student_scale = 1.0;
    var student_turn = 0.0;
    if TEACHER && STANDARDISE {
        let each = 1.0 / f32(max(counted, 1u));
        var sums = array<Word, 4>();
        for (var i = 0u; i < rounds; i += 1u) {
            let j = lane + i * LANES;
            if j < words {
                var s = Word();
                var t = Word();
                if HOLD {
                    s = s_held[i];
                    t = t_held[i];
                } else {
                    s = z_s[s_at + j];
                    t = target_of(s, z_t[t_at + j]);
                }
                let is_counted = places_of(j) < Places(counted);
                sums[0] += select(Word(), s - top.x, is_counted);
                sums[1] += select(Word(), t - top.y, is_counted);
            }
        }
        mean = row_sums(local, vec4<f32>(sum_of(sums[0]), sum_of(sums[1]), 0.0, 0.0)).xy * each;
        sums = array<Word, 4>();
        for (var i = 0u; i < rounds; i += 1u) {
            let j = lane + i * LANES;
            if j < words {
                var s = Word();
                var t = Word();
                if HOLD {
                    s = s_held[i];
                    t = t_held[i];
                } else {
                    s = z_s[s_at + j];
                    t = target_of(s, z_t[t_at + j]);
                }
                let is_counted = places_of(j) < Places(counted);
                let a = select(Word(), s - top.x - mean.x, is_counted);
                let b = select(Word(), t - top.y - mean.y, is_counted);
                sums[0] += a;
                sums[1] += b;
                sums[2] += a * a;
                sums[3] += b * b;
            }
        }
        let made = row_sums(
            local,
            vec4<f32>(sum_of(sums[0]), sum_of(sums[1]), sum_of(sums[2]), sum_of(sums[3])),
        );
        // What rounding left of the mean.
        mean += made.xy * each;
        let freedom = f32(max(counted, 2u) - 1u);
        let deviation = sqrt((made.zw - made.xy * made.xy * each) / freedom);
        softmaxes.scale = 1.0 / (deviation + 1e-7);
        let is_flat = deviation.x == 0.0;
        student_scale = select(softmaxes.scale.x, 0.0, is_flat);
        student_turn = select(student_scale * student_scale / (freedom * deviation.x), 0.0, is_flat);
    }
    if TEACHER && DIVERGENCE == DECOUPLED_KL {
        var other_peak = vec2<f32>(LOWEST);
        for (var i = 0u; i < rounds; i += 1u) {
            let j = lane + i * LANES;
            if j < words {
                var s = Word();
                var t = Word();
                if HOLD {
                    s = s_held[i];
                    t = t_held[i];
                } else {
                    s = z_s[s_at + j];
                    t = z_t[t_at + j];
                }
                let places = places_of(j);
                let is_other = (places < Places(counted)) & (places != Places(apart));
                let s_seen = select(Word(LOWEST), s, is_other & (s > Word(LOWEST)));
                let t_seen = select(Word(LOWEST), t, is_other & (t > Word(LOWEST)));
                other_peak = max(other_peak, vec2<f32>(max_of(s_seen), max_of(t_seen)));
            }
        }
        softmaxes.top = row_peaks(local, Peaks(other_peak, vec2<u32>(lane))).value;
    }
    if TEACHER && (STANDARDISE || DIVERGENCE == DECOUPLED_KL) {
        q_sums = Word();
        p_sums = Word();
        for (var i = 0u; i < rounds; i += 1u) {
            let j = lane + i * LANES;
            if j < words {
                var s = Word();
                var t = Word();
                if HOLD {
                    s = s_held[i];
                    t = t_held[i];
                } else {
                    s = z_s[s_at + j];
                    t = target_of(s, z_t[t_at + j]);
                }
                let places = places_of(j);
                let is_in = (places < Places(counted)) & (places != Places(apart));
                let a = (s - softmaxes.top.x) * softmaxes.scale.x;
                let b = (t - softmaxes.top.y) * softmaxes.scale.y;
                q_sums += select(Word(), keep_nans(exp(a * cold), a), is_in);
                p_sums += select(Word(), keep_nans(exp(b * cold), b), is_in);
            }
        }
        let made = row_sums(local, vec4<f32>(sum_of(q_sums), sum_of(p_sums), 0.0, 0.0));
        softmaxes.log_sums = log(made.xy);
        log_ratio = keep_nan(keep_nan(log(made.x / made.y), made.x / made.y), log_ratio);
    }
    if TEACHER && (state.temperature > REFINED_ABOVE || DIVERGENCE == TOTAL_VARIATION) {
        // Both sum to 1: what their difference sums to is the ratio's error.
        var excess = Word();
        for (var i = 0u; i < rounds; i += 1u) {
            let j = lane + i * LANES;
            if j < words {
                var s = Word();
                var t = Word();
                if HOLD {
                    s = s_held[i];
                    t = t_held[i];
                } else {
                    s = z_s[s_at + j];
                    t = target_of(s, z_t[t_at + j]);
                }
                let made = forward_kl(softmaxes, s, t, log_ratio);
                let places = places_of(j);
                let is_in = (places < Places(counted)) & (places != Places(apart));
                excess += select(Word(), made.difference, is_in);
            }
        }
        log_ratio += row_sums(local, vec4<f32>(sum_of(excess))).x;
    }

    var kls: Word;
    var student_best = Best(0.0, 0.0);
    var mean_slope = 0.0;
    if TEACHER && !is_forward() {
        if is_row {
            let t = z_t[t_at + best.x / WORD];
            let is_best = places_of(best.x / WORD) == Places(best.x);
            student_best = best_of(softmaxes, sum_of(select(Word(), t, is_best)), log_ratio);
        }
        var pulls = Word();
        for (var i = 0u; i < rounds; i += 1u) {
            let j = lane + i * LANES;
            if j < words {
                var s = Word();
                var t = Word();
                if HOLD {
                    s = s_held[i];
                    t = t_held[i];
                } else {
                    s = z_s[s_at + j];
                    t = target_of(s, z_t[t_at + j]);
                }
                let made = graded(softmaxes, s, t, log_ratio, student_best);
                let is_counted = places_of(j) < Places(counted);
                kls += select(Word(), made.part, is_counted);
                pulls += select(Word(), made.pull, is_counted);
            }
        }
        mean_slope = row_sums(local, vec4<f32>(sum_of(pulls))).x;
    }

    var taught = Shared(log_ratio, student_best, mean_slope, u32(label), 0.0);
    var label_kl = 0.0;
    if TEACHER && DIVERGENCE == DECOUPLED_KL && label >= 0 {
        if is_row {
            let t = z_t[t_at + u32(label) / WORD];
            let is_label = places_of(u32(label) / WORD) == Places(u32(label));
            let t_label = sum_of(select(Word(), t, is_label));
            let made = against_others(softmaxes, total.w, t_label, log_ratio);
            taught.label_difference = max_of(made.difference);
            label_kl = dims.share * max_of(made.kl);
        }
    }
    if TEACHER && STANDARDISE && GRADIENT {
        var turns = Word();
        for (var i = 0u; i < rounds; i += 1u) {
            let j = lane + i * LANES;
            if j < words {
                var s = Word();
                var t = Word();
                if HOLD {
                    s = s_held[i];
                    t = t_held[i];
                } else {
                    s = z_s[s_at + j];
                    t = target_of(s, z_t[t_at + j]);
                }
                let places = places_of(j);
                let turn = soft_of(softmaxes, s, t, places, taught).slope * (s - top.x - mean.x);
                turns += select(Word(), turn, places < Places(counted));
            }
        }
        student_turn *= row_sums(local, vec4<f32>(sum_of(turns))).x;
    }

    // Last sweep.
    var below = Word();
    for (var i = 0u; i < rounds; i += 1u) {
        let j = lane + i * LANES;
        if j < words {
            let places = places_of(j);
            let is_counted = places < Places(counted);
            var s = Word();
            if HOLD {
                s = s_held[i];
            } else {
                s = z_s[s_at + j];
            }
            below += select(Word(), s - top.x, is_counted);
            var gradient = Word();
            if TEACHER {
                var t = Word();
                if HOLD {
                    t = t_held[i];
                } else {
                    t = target_of(s, z_t[t_at + j]);
                }
                let made = soft_of(softmaxes, s, t, places, taught);
                if is_forward() {
                    kls += select(Word(), made.part, is_counted);
                }
                gradient = soft_weight * state.temperature * made.slope;
                if STANDARDISE {
                    let turned = student_scale * made.slope - student_turn * (s - top.x - mean.x);
                    gradient = soft_weight * state.temperature * turned;
                }
            }
            if GRADIENT {
                let is_label = places == Places(u32(label));
                let spread = Word(dims.smoothing / f32(classes));
                let wanted = spread + select(Word(), Word(1.0 - dims.smoothing), is_label);
                gradient += hard_weight * (exp(s - top.x - log_hot) - wanted);
                z_s[s_at + j] = select(Word(), state.loss_scale * gradient, is_counted);
            }
        }
    }
    if GRADIENT && is_row {
        for (var j = words + lane; j < dims.student_words; j += LANES) {
            z_s[s_at + j] = Word();
        }
    }
    let made = row_sums(local, vec4<f32>(sum_of(kls), sum_of(below), 0.0, 0.0));
    let kl = keep_nan(made.x + label_kl, log_ratio);

    if lane == 0u && is_row {
        let square = state.temperature * state.temperature;
        let soft = select(0.0, square * kl, counts_soft > 0.0);
        let hard = select(0.0, log_hot - (total.w - top.x), counts_hard > 0.0);
        // A class without any probability is no matter unless labels are smoothed.
        let even = log_hot - made.y / f32(classes);
        let is_smoothed = dims.smoothing > 0.0 && counts_hard > 0.0;
        let smoothed = select(hard, mix(hard, even, dims.smoothing), is_smoothed);
        row_loss[row] = soft_weight * soft + hard_weight * smoothed;
        let at = row * 6u;
        terms[at] = soft;
        terms[at + 1u] = hard;
        terms[at + 2u] = select(0.0, 1.0, label >= 0 && best.x == u32(label));
        terms[at + 3u] = select(0.0, 1.0, counts_soft > 0.0 && best.x == best.y);
        terms[at + 4u] = counts_soft;
        terms[at + 5u] = counts_hard;
    }
}
