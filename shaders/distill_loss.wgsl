// The distillation loss of one row and its gradient, fused: temperature softmax, KL, cross-entropy.
//
//   p = softmax(z_t / T), q = softmax(z_s / T), r = softmax(z_s)
//   soft = T² · Σ_j p_j (ln p_j - ln q_j)          hard = -ln r_label
//   row_loss = alpha · soft · soft_scale + (1 - alpha) · hard · hard_scale
//   d row_loss / d z_s = alpha · T (q - p) · soft_scale + (1 - alpha) · (r - onehot) · hard_scale
// (Hinton, Vinyals and Dean 2015; the scales are 1 / rows that count, so the sum over rows is the batch
// mean.) Without a teacher the row loss is hard · hard_scale. KL is summed as Σ_j p_j (ln p_j - ln q_j) - p_j
// + q_j, which is the same number: an error of a softmax's denominator then cancels, where at a high T it would
// be as large as the KL itself.
//
// dims      uniform: rows, classes, words from a row to the next of either tensor, the launch's first row
// z_s       f32 [rows, student_stride], overwritten by state.loss_scale · gradient when GRADIENT; columns from `classes`
//           on are padding: they count in nothing, gradient 0
// z_t       f32 [rows, teacher_stride], read only when TEACHER
// labels    i32 [rows]: a class; -100: no hard term; i32 minimum: a padding row, which counts in nothing
// row_loss  f32 [rows]
// terms     f32 [rows, 6]: soft, hard, student right, student agrees with teacher, counts in soft, counts
//           in hard
//
// LANES threads a row, ROWS rows a workgroup, in two sweeps: the first keeps maximum and sums of both rows online
// (Milakov and Gimelshein 2018), the second makes loss and gradient. With HOLD the row stays in registers
// between the sweeps (HELD words a thread of each tensor), else it is read twice. No probability is stored.

//#import common/step.wgsl
//#import common/nan.wgsl
//#import common/nan_word.wgsl
//#import common/word.wgsl
//#import common/row_tree.wgsl

struct Dims {
    rows: u32,
    classes: u32,
    student_words: u32,
    teacher_words: u32,
    first_row: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read_write> z_s: array<Word>;
@group(0) @binding(3) var<storage, read> z_t: array<Word>;
@group(0) @binding(4) var<storage, read> labels: array<i32>;
@group(0) @binding(5) var<storage, read_write> row_loss: array<f32>;
@group(0) @binding(6) var<storage, read_write> terms: array<f32>;

override TEACHER: bool = true;
override GRADIENT: bool = true;
override HOLD: bool = false;
const HELD: u32 = 1u;

const IGNORED: i32 = -100;
const PADDING: i32 = -2147483647 - 1;
const LOWEST: f32 = -3.4028234e38;

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
                let t = z_t[t_at + j];
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
    let log_soft =
        vec2<f32>(keep_nan(log(total.y), total.y), keep_nan(log(total.z), total.z));

    let is_padding = label == PADDING;
    let counts_soft = select(0.0, 1.0, TEACHER && !is_padding);
    let counts_hard = select(0.0, 1.0, label >= 0);
    let soft_weight = select(0.0, state.alpha, TEACHER) * state.soft_scale * counts_soft;
    let hard_weight = select(1.0, 1.0 - state.alpha, TEACHER) * state.hard_scale * counts_hard;

    // Second sweep. A padding row may hold anything, even NaN, as columns behind the classes do: none of it counts.
    let counted = select(classes, 0u, is_padding);
    var kls: Word;
    for (var i = 0u; i < rounds; i += 1u) {
        let j = lane + i * LANES;
        if j < words {
            let places = places_of(j);
            let is_counted = places < Places(counted);
            var s: Word;
            if HOLD {
                s = s_held[i];
            } else {
                s = z_s[s_at + j];
            }
            var gradient: Word;
            if TEACHER {
                var t: Word;
                if HOLD {
                    t = t_held[i];
                } else {
                    t = z_t[t_at + j];
                }
                let log_q = (s - top.x) * cold - log_soft.x;
                let log_p = (t - top.y) * cold - log_soft.y;
                let p = exp(log_p);
                let q = exp(log_q);
                let kl = select(Word(), p * (log_p - log_q), p > Word()) + (q - p);
                kls += select(Word(), kl, is_counted);
                gradient = soft_weight * state.temperature * (q - p);
            }
            if GRADIENT {
                let one = select(Word(), Word(1.0), places == Places(u32(label)));
                gradient += hard_weight * (exp(s - top.x - log_hot) - one);
                z_s[s_at + j] = select(Word(), state.loss_scale * gradient, is_counted);
            }
        }
    }
    if GRADIENT && is_row {
        for (var j = words + lane; j < dims.student_words; j += LANES) {
            z_s[s_at + j] = Word();
        }
    }
    let kl = row_sums(local, vec4<f32>(sum_of(kls))).x;

    if lane == 0u && is_row {
        let square = state.temperature * state.temperature;
        let soft = select(0.0, square * kl, counts_soft > 0.0);
        let hard = select(0.0, log_hot - (total.w - top.x), counts_hard > 0.0);
        row_loss[row] = soft_weight * soft + hard_weight * hard;
        let at = row * 6u;
        terms[at] = soft;
        terms[at + 1u] = hard;
        terms[at + 2u] = select(0.0, 1.0, label >= 0 && best.x == u32(label));
        terms[at + 3u] = select(0.0, 1.0, counts_soft > 0.0 && best.x == best.y);
        terms[at + 4u] = counts_soft;
        terms[at + 5u] = counts_hard;
    }
}
