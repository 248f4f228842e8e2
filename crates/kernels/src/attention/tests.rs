//! The twin against the plain definition and central differences.

use super::*;
use crate::{Arg, Args, StepState, random};

fn numbers(len: usize, salt: u32) -> Vec<f64> {
    (0..len as u32)
        .map(|i| 4.0 * f64::from(random::unit(random::word(1, salt, 0, i))) - 2.0)
        .collect()
}

fn state() -> StepState {
    StepState { seed: 3, step: 7, ..StepState::default() }
}

/// A kernel, its lengths, and q, k, v.
struct Case {
    kernel: Attention,
    lengths: Vec<i32>,
    inputs: [Vec<f64>; 3],
    bias: Vec<f64>,
    /// What the keys' ranges are, where the lengths are ranges of the queries.
    key_ranges: Vec<i32>,
}

impl Case {
    fn new(batch: usize, length: usize, heads: usize, head_dim: usize) -> Self {
        let kernel =
            Attention { stream: 5, ..Attention::new([batch, length, heads, head_dim], 0.4) };
        // Whole, empty, longer than there is, negative, in between.
        let whole = length as i32;
        let lengths = [whole, 0, whole + 9, -3, (whole + 1) / 2];
        Self {
            kernel,
            lengths: lengths.into_iter().cycle().take(batch).collect(),
            inputs: [1, 2, 3].map(|salt| numbers(kernel.len(), salt)),
            bias: Vec::new(),
            key_ranges: Vec::new(),
        }
    }

    /// With texts of these lengths one behind the other, and keys and values of so many heads.
    fn packed(mut self, texts: &[usize], window: usize, kv_heads: usize) -> Self {
        (self.kernel.ranges, self.kernel.kv_heads) = (true, kv_heads);
        let ranges = packed_ranges(texts, window).map(|ranges| ranges.repeat(self.kernel.batch));
        [self.lengths, self.key_ranges] = ranges;
        self.inputs =
            [(self.kernel.len(), 1), (self.kernel.kv_len(), 2), (self.kernel.kv_len(), 3)]
                .map(|(len, salt)| numbers(len, salt));
        self
    }

    /// With a bias of so many examples.
    fn biased(mut self, examples: usize) -> Self {
        self.kernel.bias = Some(examples);
        self.bias = numbers(self.kernel.bias_len(), 9);
        self
    }

    fn forward(&self) -> [Vec<f64>; 2] {
        let (mut out, mut lse) =
            (vec![f64::NAN; self.kernel.len()], vec![f64::NAN; self.kernel.rows()]);
        let [q, k, v] = &self.inputs;
        let args = [q, k, v].map(|x| Arg::Read(x));
        let written = [Arg::Write(&mut out), Arg::Write(&mut lse)];
        let args = args.into_iter().chain([Arg::ReadI32(&self.lengths)]).chain(written);
        let bias = self.kernel.bias.map(|_| Arg::Read(&self.bias));
        let args = args.chain(bias).collect();
        self.kernel.run_f64(Args::new(args), &state());
        [out, lse]
    }

    /// dq, dk, dv, stats and dbias.
    fn backward(&self, dout: &[f64]) -> [Vec<f64>; 5] {
        let bias_gradient = self.kernel.bias.is_some();
        let kernel = Attention { backward: true, bias_gradient, ..self.kernel };
        let [out, lse] = self.forward();
        let lens = [kernel.len(), kernel.kv_len(), kernel.kv_len(), kernel.stats_len()];
        let mut written = lens.map(|len| vec![f64::NAN; len]);
        let mut dbias = vec![f64::NAN; kernel.bias_len()];
        let [q, k, v] = &self.inputs;
        let mut args = [q, k, v].map(|x| Arg::Read(x)).into_iter().collect::<Vec<_>>();
        args.push(Arg::ReadI32(&self.lengths));
        args.extend([&out, &lse].map(|x| Arg::Read(x)));
        args.push(Arg::Read(dout));
        args.extend(written.iter_mut().map(|x| Arg::Write(x)));
        if bias_gradient {
            args.extend([Arg::Read(&self.bias), Arg::Write(&mut dbias)]);
        }
        if kernel.ranges {
            args.push(Arg::ReadI32(&self.key_ranges));
        }
        kernel.run_f64(Args::new(args), &state());
        let [dq, dk, dv, stats] = written;
        [dq, dk, dv, stats, dbias]
    }

    /// Output and lse, weight by weight.
    fn definition(&self) -> [Vec<f64>; 2] {
        let Attention { length, keys, heads, kv_heads, head_dim, .. } = self.kernel;
        let [q, k, v] = &self.inputs;
        let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; self.kernel.rows()]);
        for (row, lse) in lse.iter_mut().enumerate() {
            let (b, h, i) = (row / length / heads, row / length % heads, row % length);
            let at = |j: usize, d: usize| ((b * length + j) * heads + h) * head_dim + d;
            let kv_head = h / (heads / kv_heads);
            let key_at = |j: usize, d: usize| ((b * keys + j) * kv_heads + kv_head) * head_dim + d;
            let near = |j: usize| match (self.kernel.window, self.kernel.causal) {
                (None, _) => true,
                (Some(window), true) => i < j + window,
                (Some(window), false) => i.abs_diff(j) <= window,
            };
            let seen = |j: &usize| {
                if self.kernel.ranges {
                    let range = &self.lengths[2 * (b * length + i)..][..2];
                    return (range[0]..range[1]).contains(&(*j as i32));
                }
                (*j as i32) < self.lengths[b] && (!self.kernel.causal || *j <= i) && near(*j)
            };
            let seen: Vec<usize> = (0..keys).filter(seen).collect();
            let score = |&j: &usize| {
                let products = (0..head_dim).map(|d| q[at(i, d)] * k[key_at(j, d)]);
                let bias = self.kernel.bias.map_or(0.0, |examples| {
                    let example = if examples == 1 { 0 } else { b };
                    self.bias[((example * heads + h) * length + i) * length + j]
                });
                (f64::from(self.kernel.scale) * products.sum::<f64>() + bias).exp()
            };
            let sum: f64 = seen.iter().map(score).sum();
            *lse = if seen.is_empty() { 0.0 } else { sum.ln() };
            for j in seen {
                let index = (row * keys + j) as u32;
                let unit = random::unit(random::word(3, self.kernel.stream, 7, index));
                let rate = self.kernel.dropout;
                let kept = if unit >= rate { 1.0 / (1.0 - f64::from(rate)) } else { 0.0 };
                for d in 0..head_dim {
                    out[at(i, d)] += kept * score(&j) / sum * v[key_at(j, d)];
                }
            }
        }
        [out, lse]
    }
}

fn assert_near(found: &[f64], expected: &[f64], limit: f64) {
    assert_eq!(found.len(), expected.len());
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= limit, "{i}: {found}, not {expected}");
    }
}

/// One element, odd sizes, several blocks of queries.
const SHAPES: [[usize; 4]; 5] =
    [[1, 1, 1, 1], [5, 7, 3, 5], [6, 33, 2, 8], [2, 130, 1, 4], [1, 16, 2, 3]];

fn cases() -> impl Iterator<Item = Case> {
    let plain = SHAPES.into_iter().flat_map(|[batch, length, heads, head_dim]| {
        let plain = [(false, 0.0), (true, 0.0), (false, 0.3), (true, 0.6)].into_iter();
        let plain = plain.map(|(causal, dropout)| (causal, None, None, dropout));
        let masked = [
            (false, Some(0), None, 0.0),
            (false, Some(2), Some(1), 0.0),
            (true, Some(1), Some(batch), 0.3),
            (true, Some(5), None, 0.0),
            (false, Some(70), None, 0.0),
            (false, None, Some(1), 0.3),
            (true, None, Some(batch), 0.0),
        ];
        let all: Vec<_> = plain.chain(masked).collect();
        all.into_iter().map(move |(causal, window, bias, dropout)| {
            let mut case = Case::new(batch, length, heads, head_dim);
            (case.kernel.causal, case.kernel.dropout) = (causal, dropout);
            case.kernel.window = window;
            match bias {
                Some(examples) => case.biased(examples),
                None => case,
            }
        })
    });
    let packed = [
        ([1, 1, 1, 1], &[1][..], 9, 1, 0.0),
        ([2, 9, 4, 3], &[4, 3, 2], 100, 2, 0.3),
        ([1, 33, 6, 4], &[20, 12, 1], 5, 2, 0.0),
        ([1, 140, 3, 2], &[3, 137], 100, 1, 0.0),
    ];
    plain.chain(packed.map(|(shape, texts, window, kv_heads, dropout)| {
        let [batch, length, heads, head_dim] = shape;
        let mut case = Case::new(batch, length, heads, head_dim).packed(texts, window, kv_heads);
        case.kernel.dropout = dropout;
        case
    }))
}

/// A text sees itself and what is before it, whatever lies beside it.
#[test]
fn packed_is_alone() {
    let (heads, kv_heads, head_dim) = (4, 2, 3);
    let together = Case::new(1, 12, heads, head_dim).packed(&[7, 5], 100, kv_heads);
    let [out, lse] = together.forward();
    for (first, length) in [(0, 7), (7, 5)] {
        let mut alone = Case::new(1, length, heads, head_dim).packed(&[length], 100, kv_heads);
        for (own, all) in alone.inputs.iter_mut().zip(&together.inputs) {
            let width = all.len() / 12;
            own.copy_from_slice(&all[first * width..(first + length) * width]);
        }
        let [own, own_lse] = alone.forward();
        let width = heads * head_dim;
        assert_near(&own, &out[first * width..(first + length) * width], 1e-13);
        for (head, own) in own_lse.chunks(length).enumerate() {
            assert_near(own, &lse[head * 12 + first..][..length], 1e-13);
        }
    }
}

/// One query against more keys than there are queries, as a text is continued.
#[test]
fn a_query_sees_the_keys_before_it() {
    let whole = Case::new(2, 9, 4, 3).packed(&[9], 100, 2);
    let [out, _] = whole.forward();
    let width = 4 * 3;
    let kernel = Attention { length: 1, keys: 9, ..whole.kernel };
    let last = |x: &[f64]| x.chunks(9 * width).flat_map(|x| x[8 * width..].to_vec()).collect();
    let [q, k, v] = &whole.inputs;
    let one = Case {
        kernel,
        lengths: vec![0, 9, 0, 9],
        inputs: [last(q), k.clone(), v.clone()],
        ..whole
    };
    assert_near(&one.forward()[0], &last(&out), 1e-13);
}

#[test]
fn forward_is_the_definition() {
    for case in cases() {
        let [(found, expected), (found_lse, expected_lse)] = {
            let ([out, lse], [out_2, lse_2]) = (case.forward(), case.definition());
            [(out, out_2), (lse, lse_2)]
        };
        assert_near(&found, &expected, 1e-13);
        assert_near(&found_lse, &expected_lse, 1e-13);
    }
}

#[test]
fn backward_is_the_slope() {
    for mut case in cases().filter(|case| case.kernel.len() < 3000) {
        let dout = numbers(case.kernel.len(), 4);
        let loss = |case: &Case| -> f64 {
            case.definition()[0].iter().zip(&dout).map(|(out, dout)| out * dout).sum()
        };
        let [dq, dk, dv, _, dbias] = case.backward(&dout);
        for (input, gradient) in [dq, dk, dv, dbias].iter().enumerate() {
            for i in (0..gradient.len()).step_by(gradient.len().div_ceil(40).max(1)) {
                let at = |case: &mut Case, step: f64| {
                    let values = case.inputs.get_mut(input).unwrap_or(&mut case.bias);
                    let start = values[i];
                    values[i] += step;
                    let loss = loss(case);
                    let values = case.inputs.get_mut(input).unwrap_or(&mut case.bias);
                    values[i] = start;
                    loss
                };
                let slope = (at(&mut case, 1e-5) - at(&mut case, -1e-5)) / 2e-5;
                let found = gradient[i];
                assert!(
                    (found - slope).abs() < 1e-8,
                    "{:?} {input} {i}: {found}, not {slope}",
                    case.kernel
                );
            }
        }
    }
}

#[test]
fn padding_may_hold_anything() {
    let mut case = Case::new(5, 20, 2, 3);
    let clean = case.forward();
    let keys_of = |b: usize| case.lengths[b].clamp(0, 20) as usize;
    let keys: Vec<usize> = (0..5).map(keys_of).collect();
    for input in [1, 2] {
        for (i, value) in case.inputs[input].iter_mut().enumerate() {
            if i / 6 % 20 >= keys[i / 120] {
                *value = f64::NAN;
            }
        }
    }
    assert_eq!(case.forward(), clean);
    let gradients = case.backward(&numbers(case.kernel.len(), 4));
    assert!(gradients.iter().flatten().all(|v| v.is_finite()));
    for gradient in &gradients[1..3] {
        assert!((0..gradient.len()).all(|i| i / 6 % 20 < keys[i / 120] || gradient[i] == 0.0));
    }
}

#[test]
fn what_is_no_number_is_seen() {
    for input in 0..3 {
        let mut case = Case::new(1, 20, 2, 3);
        case.inputs[input][6 * 4] = f64::NAN;
        let [out, _] = case.forward();
        assert!(out[6 * 4].is_nan() && out[3].is_finite());
    }
}

#[test]
fn pairs_are_counted() {
    for (length, causal, pairs) in
        [(1, false, 1), (4, false, 16), (1, true, 1), (4, true, 10), (5, true, 15)]
    {
        let kernel = Attention { causal, ..Case::new(2, length, 3, 2).kernel };
        assert_eq!(kernel.pairs(), 6 * pairs);
    }
    for (length, causal, window, pairs) in
        [(5, false, 0, 5), (5, false, 1, 13), (5, true, 2, 9), (5, true, 9, 15), (1, true, 1, 1)]
    {
        let window = Some(window);
        let kernel = Attention { causal, window, ..Case::new(2, length, 3, 2).kernel };
        assert_eq!(kernel.pairs(), 6 * pairs);
    }
}

#[test]
fn tiles_fit_the_device() {
    for head_dim in 1..=MAX_HEAD_DIM {
        const MOST_QUADS: usize = 8;
        for backward in [false, true] {
            let caps = Caps { subgroup_lanes: Some(8), ..Caps::default() };
            let kernel = Attention { backward, ..Case::new(1, 9, 1, head_dim).kernel };
            for layout in kernel.layouts(&caps) {
                let products = if backward { QUERY.products } else { FORWARD.products };
                let tile = layout.tile([512, head_dim], products, &caps);
                let Tile { lanes, quads, rows, depth, by_subgroups, .. } = tile;
                let handed = match (by_subgroups, lanes) {
                    (true, _) => 0,
                    (false, 1) => 4 * products,
                    (false, _) => 4 * products * rows * lanes * depth,
                };
                let memory = 2 * 16 * depth * lanes * quads + handed;
                assert!(
                    memory <= caps.workgroup_memory as usize && rows * lanes <= 256,
                    "{tile:?}"
                );
                assert!(4 * lanes * quads >= head_dim && quads <= MOST_QUADS && depth >= 2);
                assert!(!by_subgroups || lanes <= 8);
            }
        }
    }
}
