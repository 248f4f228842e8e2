//! The distillation loss of outputs that do not share a softmax: of regressions and of labels that exclude no other. Loss
//! and gradient in one kernel, with the terms of [`crate::distill_loss`]. The formulas stand in
//! `shaders/pointwise_loss.wgsl`.

use rayon::prelude::*;

use crate::distill_loss::{PADDING, TERMS};
use crate::divergence::{between, outcome, rising_series, with_code};
use crate::row_tile::{self, RowTile};
use crate::{
    Args, Caps, Cost, Divergence, Kernel, Launch, Operand, Real, StepState, Variant, bytes, row,
    twin,
};

/// Elements of one CPU task.
const TASK_LEN: usize = 1 << 12;
/// Elements whose losses are made before they are summed.
const BLOCK: usize = 64;

/// What is made of an output, its label and the teacher's output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PointwiseKind {
    /// Squared differences from the label and from the teacher's output, as PyTorch's `MSELoss`; there is no temperature.
    Square,
    /// Cross-entropy of the output's sigmoid with a label from 0 to 1, as PyTorch's `BCEWithLogitsLoss`, and T² times a
    /// divergence of the sigmoids at a temperature T.
    Logistic(Divergence),
}

/// Loss and gradient of outputs, each with a label of its own.
///
/// Operands: `z_s` f32 [rows, outputs], which the gradient overwrites if it is asked for; `z_t` f32 [rows, outputs], if there
/// is a teacher; `targets` f32 [rows, outputs], where NaN is no label; `kinds` i32 \[rows]: 0 or more,
/// [`IGNORED`](crate::distill_loss::IGNORED) (no hard term) or [`PADDING`] (no term); `row_loss` \[rows]; `terms`
/// [rows, [`TERMS`]]: soft, the mean over the row's outputs; hard, the mean over those that have a label; the share of these
/// that are on their label's side, and of all that are on the teacher's (0 for squares); whether the row counts in soft; whether
/// it counts in hard, which it does if it has a label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PointwiseLoss {
    /// Rows, at least 1.
    pub rows: usize,
    /// Outputs of a row, at least 1.
    pub outputs: usize,
    /// What is made of each.
    pub kind: PointwiseKind,
    /// Whether there is a teacher.
    pub teacher: bool,
    /// Whether the gradient overwrites the student's outputs.
    pub gradient: bool,
}

impl PointwiseLoss {
    /// The soft term's divergence: the default where there is none.
    fn divergence(&self) -> Divergence {
        match self.kind {
            PointwiseKind::Logistic(divergence) if self.teacher => divergence,
            _ => Divergence::default(),
        }
    }

    fn is_logistic(&self) -> bool {
        matches!(self.kind, PointwiseKind::Logistic(_))
    }

    fn launches_with(&self, tile: RowTile, caps: &Caps) -> Vec<Launch> {
        let teacher = usize::from(self.teacher);
        let mut overrides = tile.overrides().to_vec();
        overrides.extend([
            ("TEACHER", teacher as f64),
            ("GRADIENT", f64::from(self.gradient)),
            ("LOGISTIC", f64::from(self.is_logistic())),
            ("DIVERGENCE", f64::from(self.divergence().code())),
        ]);
        let sizes = [self.rows, tile.words(self.outputs)].map(|size| size as u32);
        let others = (0..4).map(|operand| Some(1 + teacher + operand));
        vec![Launch {
            source: tile.source("pointwise_loss"),
            entry: "pointwise_loss",
            overrides,
            dims: sizes.into_iter().chain([self.divergence().share().to_bits()]).collect(),
            bindings: [Some(0), self.teacher.then_some(1)].into_iter().chain(others).collect(),
            workgroups: tile.grid(self.rows, caps),
        }]
    }

    fn run<F: Real>(&self, mut args: Args<'_, F>, state: &StepState) {
        let teacher = self.teacher.then(|| args.read(1));
        let next = 1 + usize::from(self.teacher);
        let (targets, kinds) = (args.read(next), args.read_i32(next + 1));
        let (z_s, row_loss, terms) = (args.write(0), args.write(next + 2), args.write(next + 3));
        let rows = TASK_LEN.div_ceil(self.outputs);
        z_s.par_chunks_mut(rows * self.outputs)
            .zip(row_loss.par_chunks_mut(rows))
            .zip(terms.par_chunks_mut(rows * TERMS))
            .enumerate()
            .for_each(|(task, ((z_s, row_loss), terms))| {
                let parts = z_s.chunks_mut(self.outputs).zip(terms.chunks_mut(TERMS));
                for ((row, row_loss), (z_s, terms)) in (task * rows..).zip(row_loss).zip(parts) {
                    let range = row * self.outputs..(row + 1) * self.outputs;
                    let (z_t, y) = (teacher.map(|z| &z[range.clone()]), &targets[range]);
                    *row_loss = self.row(z_s, z_t, y, kinds[row], terms, state);
                }
            });
    }

    fn row<F: Real>(
        &self,
        z_s: &mut [F],
        z_t: Option<&[F]>,
        targets: &[F],
        kind: i32,
        terms: &mut [F],
        state: &StepState,
    ) -> F {
        let (zero, one) = (F::zero(), F::one());
        let labelled = targets.iter().filter(|y| kind >= 0 && !y.is_nan()).count();
        let (counts_soft, counts_hard) = (z_t.is_some() && kind != PADDING, labelled > 0);
        let alpha = F::of(state.alpha);
        let hard_share = if z_t.is_some() { one - alpha } else { one };
        let soft_weight = if counts_soft { alpha * F::of(state.soft_scale) } else { zero };
        let hard_weight = if counts_hard { hard_share * F::of(state.hard_scale) } else { zero };
        let temperature = if self.is_logistic() { F::of(state.temperature) } else { one };
        let shares = [z_s.len(), labelled.max(1)].map(|count| F::of64(1.0 / count as f64));
        let scale = F::of(state.loss_scale);
        let slopes =
            [scale * soft_weight * temperature * shares[0], scale * hard_weight * shares[1]];

        let z_t = z_t.filter(|_| counts_soft);
        let targets = counts_hard.then_some(targets);
        let made = match self.kind {
            PointwiseKind::Square => self.outputs_of(z_s, z_t, targets, slopes, squares, squares),
            PointwiseKind::Logistic(divergence) => {
                let (cold, share) = (one / temperature, F::of(divergence.share()));
                let blend = F::of(state.blend);
                let soft = move |z: F, t: F| [z * cold, t * cold, (z - t) * cold];
                match divergence {
                    Divergence::ForwardKl => self.outputs_of(
                        z_s,
                        z_t,
                        targets,
                        slopes,
                        #[inline(always)]
                        move |z, t| forward_kl(soft(z, t)),
                        cross_entropy,
                    ),
                    Divergence::Taid { .. } => self.outputs_of(
                        z_s,
                        z_t,
                        targets,
                        slopes,
                        #[inline(always)]
                        move |z, t| forward_kl(soft(z, between(z, t, blend))),
                        cross_entropy,
                    ),
                    Divergence::ReverseKl => self.outputs_of(
                        z_s,
                        z_t,
                        targets,
                        slopes,
                        #[inline(always)]
                        move |z, t| reverse_kl(soft(z, t)),
                        cross_entropy,
                    ),
                    graded => with_code!(graded, CODE => self.outputs_of(
                        z_s,
                        z_t,
                        targets,
                        slopes,
                        #[inline(always)]
                        move |z, t| graded_outcomes::<F, CODE>(soft(z, t), share),
                        cross_entropy,
                    )),
                }
            }
        };
        let [soft, hard, right, agreed] = made.map(F::of64);
        let (soft, hard) = (temperature * temperature * soft * shares[0], hard * shares[1]);
        let sides = if self.is_logistic() { one } else { zero };
        let flag = |yes| if yes { one } else { zero };
        terms.copy_from_slice(&[
            soft,
            hard,
            sides * right * shares[1],
            sides * agreed * shares[0],
            flag(counts_soft),
            flag(counts_hard),
        ]);
        soft_weight * soft + hard_weight * hard
    }

    /// Sums of a row's soft and hard parts, and how many outputs are on the label's and on the teacher's side; the gradient takes
    /// the place of `z_s`. Without teacher or labels their part is 0.
    fn outputs_of<F: Real>(
        &self,
        z_s: &mut [F],
        z_t: Option<&[F]>,
        targets: Option<&[F]>,
        [soft_slope, hard_slope]: [F; 2],
        soft: impl Fn(F, F) -> [F; 2] + Copy,
        hard: impl Fn(F, F) -> [F; 2] + Copy,
    ) -> [f64; 4] {
        let (zero, one, half) = (F::zero(), F::one(), F::of(0.5));
        let flag = move |yes: bool| if yes { one } else { zero };
        let mut sums = [0.0; 4];
        for (block, z_s) in z_s.chunks_mut(BLOCK).enumerate() {
            let range = block * BLOCK..block * BLOCK + z_s.len();
            let mut made = [[zero; BLOCK]; 4];
            let mut gradient = [zero; BLOCK];
            if let Some(z_t) = z_t {
                let z_t = &z_t[range.clone()];
                row::vectorised(
                    #[inline(always)]
                    || {
                        for (i, (&z, &t)) in z_s.iter().zip(z_t).enumerate() {
                            let [value, slope] = soft(z, t);
                            made[0][i] = value;
                            made[3][i] = flag((z > zero) == (t > zero));
                            gradient[i] = soft_slope * slope;
                        }
                    },
                );
            }
            if let Some(targets) = targets {
                let targets = &targets[range];
                row::vectorised(
                    #[inline(always)]
                    || {
                        for (i, (&z, &y)) in z_s.iter().zip(targets).enumerate() {
                            let has_label = !y.is_nan();
                            let [value, slope] = hard(z, if has_label { y } else { zero });
                            made[1][i] = if has_label { value } else { zero };
                            made[2][i] = flag(has_label & ((z > zero) == (y > half)));
                            let slope = if has_label { slope } else { zero };
                            gradient[i] += hard_slope * slope;
                        }
                    },
                );
            }
            for (sum, made) in sums.iter_mut().zip(&made) {
                *sum += made.iter().map(|part| part.f64()).sum::<f64>();
            }
            if self.gradient {
                z_s.copy_from_slice(&gradient[..z_s.len()]);
            }
        }
        sums
    }
}

/// (a - b)², and its derivative by a.
#[inline(always)]
fn squares<F: Real>(a: F, b: F) -> [F; 2] {
    let d = a - b;
    [d * d, d + d]
}

/// Of a logit: the probabilities of yes and no, and minus their logarithms.
#[derive(Clone, Copy)]
struct Outcomes<F> {
    yes: F,
    no: F,
    cost_yes: F,
    cost_no: F,
}

impl<F: Real> Outcomes<F> {
    #[inline(always)]
    fn of(a: F) -> Self {
        let (zero, one) = (F::zero(), F::one());
        let e = (-a.abs()).fast_exp();
        let likely = one / (one + e);
        let unlikely = e * likely;
        let cost = e.fast_ln_1p();
        let is_no = a < zero;
        Self {
            yes: if is_no { unlikely } else { likely },
            no: if is_no { likely } else { unlikely },
            cost_yes: cost + if is_no { -a } else { zero },
            cost_no: cost + if a > zero { a } else { zero },
        }
    }
}

/// Cross-entropy of σ(z) with a label, and its derivative by z.
#[inline(always)]
fn cross_entropy<F: Real>(z: F, y: F) -> [F; 2] {
    let q = Outcomes::of(z);
    let not_y = F::one() - y;
    [y * q.cost_yes + not_y * q.cost_no, not_y * q.yes - y * q.no]
}

/// KL(p ‖ q) of q of a logit a and p of b, given 1 - e^-|δ| of δ = a - b. For a small δ a series none of whose terms is
/// negative, else by the outcome that p finds less likely, whose logarithm keeps its digits.
#[inline(always)]
fn binary_kl<F: Real>(q: Outcomes<F>, p: Outcomes<F>, b: F, delta: F, d: F) -> F {
    let zero = F::zero();
    let (w, v) = if delta < zero { (p.yes, p.no) } else { (p.no, p.yes) };
    let near = rising_series(d, w, v, |k| 1.0 / k);
    let cost = if b > zero { q.cost_yes - p.cost_yes } else { q.cost_no - p.cost_no };
    let far = cost + delta * if b > zero { p.no } else { -p.yes };
    if delta.abs() < F::of(0.25) { near } else { far }
}

/// 1 - e^-|δ|.
#[inline(always)]
fn gap<F: Real>(delta: F) -> F {
    let [below, _] = (-delta.abs()).exp_m1_terms();
    -below
}

/// KL(p ‖ q) of the logits a of q and b of p, with their difference; and its derivative by a.
#[inline(always)]
fn forward_kl<F: Real>([a, b, delta]: [F; 3]) -> [F; 2] {
    let (q, p, d) = (Outcomes::of(a), Outcomes::of(b), gap(delta));
    let difference = if delta < F::zero() { -q.no * p.yes } else { q.yes * p.no };
    [binary_kl(q, p, b, delta, d), difference * d]
}

/// The same of KL(q ‖ p).
#[inline(always)]
fn reverse_kl<F: Real>([a, b, delta]: [F; 3]) -> [F; 2] {
    let (q, p, d) = (Outcomes::of(a), Outcomes::of(b), gap(delta));
    [binary_kl(p, q, a, -delta, d), q.yes * q.no * delta]
}

/// The same of any other divergence: by the outcome that q has more of, and the other.
#[inline(always)]
fn graded_outcomes<F: Real, const CODE: u32>([a, b, delta]: [F; 3], share: F) -> [F; 2] {
    let (q, p, d) = (Outcomes::of(a), Outcomes::of(b), gap(delta));
    let loses_yes = delta < F::zero();
    let (q_more, p_less) = if loses_yes { (q.no, p.yes) } else { (q.yes, p.no) };
    // The smaller probability is the larger times 1 - x.
    let (x_more, x_less) = (p_less * d, q_more * d);
    let [u_more, u_near] = [x_more, x_less].map(
        #[inline(always)]
        |x| -(-x).fast_ln_1p(),
    );
    // p / q of the other may be so large that only the logarithms hold it.
    let apart = if loses_yes { q.cost_yes - p.cost_yes } else { q.cost_no - p.cost_no };
    let u_less = if x_less < F::of(0.5) { u_near } else { apart };
    let [more, more_slope] = outcome::<F, CODE>(u_more, -x_more, share);
    let [less, less_slope] = outcome::<F, CODE>(-u_less, -x_less, share);
    let slope = q.yes * q.no * (more_slope - less_slope);
    [q_more * more + p_less * less, if loses_yes { -slope } else { slope }]
}

impl Kernel for PointwiseLoss {
    fn name(&self) -> &'static str {
        "pointwise_loss"
    }

    fn operands(&self) -> Vec<Operand> {
        let len = self.rows * self.outputs;
        let mut operands = vec![Operand::update("z_s", len)];
        operands.extend(self.teacher.then(|| Operand::read("z_t", len)));
        operands.extend([
            Operand::read("targets", len),
            Operand::read_i32("kinds", self.rows),
            Operand::write("row_loss", self.rows),
            Operand::write("terms", self.rows * TERMS),
        ]);
        operands
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        self.launches_with(RowTile::new(self.rows, self.outputs, caps), caps)
    }

    fn variants(&self, caps: &Caps) -> Vec<Variant> {
        let default = RowTile::new(self.rows, self.outputs, caps);
        default.variants(self.outputs, caps, |tile| self.launches_with(tile, caps))
    }

    fn bucket(&self) -> String {
        let kind = if self.is_logistic() { "logistic" } else { "square" };
        let teacher = if self.teacher { " with teacher" } else { "" };
        let gradient = if self.gradient { " with gradient" } else { "" };
        let divergence = self.divergence().suffix();
        let size = row_tile::bucket(self.rows, self.outputs, &[self.outputs]);
        format!("{kind} {size}{teacher}{gradient}{divergence}")
    }

    /// The labels are counted before they are used, and stay in the cache.
    fn cost(&self) -> Cost {
        let len = self.rows * self.outputs;
        let tensors = 2 + usize::from(self.teacher);
        let soft = match (self.kind, self.teacher) {
            (_, false) => 0,
            (PointwiseKind::Square, true) => 5,
            (PointwiseKind::Logistic(divergence), true)
                if divergence.is_forward() || divergence == Divergence::ReverseKl =>
            {
                70 + divergence.flops()
            }
            (PointwiseKind::Logistic(graded), true) => 50 + 2 * graded.flops(),
        };
        let hard = if self.is_logistic() { 30 } else { 5 };
        let gradient = if self.gradient { len } else { 0 };
        Cost {
            flops: ((soft + hard) * len) as u64,
            bytes_read: bytes(tensors * len + self.rows),
            bytes_written: bytes(gradient + self.rows * (1 + TERMS)),
        }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arg;
    use crate::distill_loss::IGNORED;

    const ROWS: usize = 4;
    const OUTPUTS: usize = 3;
    const KINDS: [i32; ROWS] = [0, IGNORED, PADDING, 1];

    fn numbers(salt: usize) -> Vec<f64> {
        (0..ROWS * OUTPUTS).map(|i| ((i * 31 + salt * 17) % 23) as f64 / 4.0 - 2.5).collect()
    }

    fn targets() -> Vec<f64> {
        let mut targets: Vec<f64> = (0..ROWS * OUTPUTS).map(|i| (i % 4) as f64 / 3.0).collect();
        targets[1] = f64::NAN;
        targets
    }

    fn kinds_of_loss() -> impl Iterator<Item = PointwiseKind> {
        let logistic = Divergence::OF_OUTCOMES.map(PointwiseKind::Logistic);
        logistic.into_iter().chain([PointwiseKind::Square])
    }

    fn state() -> StepState {
        StepState {
            temperature: 3.0,
            alpha: 0.25,
            soft_scale: 1.0 / 3.0,
            hard_scale: 0.5,
            ..StepState::default()
        }
    }

    fn run(
        kind: PointwiseKind,
        z_s: &[f64],
        z_t: Option<&[f64]>,
        targets: &[f64],
        gradient: bool,
    ) -> [Vec<f64>; 3] {
        let (rows, outputs, teacher) = (ROWS, OUTPUTS, z_t.is_some());
        let kernel = PointwiseLoss { rows, outputs, kind, teacher, gradient };
        let mut z_s = z_s.to_vec();
        let (mut row_loss, mut terms) = (vec![f64::NAN; ROWS], vec![f64::NAN; ROWS * TERMS]);
        let mut args = vec![Arg::Write(&mut z_s)];
        args.extend(z_t.map(Arg::Read));
        args.extend([Arg::Read(targets), Arg::ReadI32(&KINDS)]);
        args.extend([Arg::Write(&mut row_loss), Arg::Write(&mut terms)]);
        kernel.run_f64(Args::new(args), &state());
        [z_s, row_loss, terms]
    }

    #[test]
    fn gradient_is_the_loss_s_slope() {
        let (z_s, z_t, targets) = (numbers(1), numbers(2), targets());
        for kind in kinds_of_loss() {
            for teacher in [Some(&z_t[..]), None] {
                let [gradient, ..] = run(kind, &z_s, teacher, &targets, true);
                for i in 0..z_s.len() {
                    let moved = |step: f64| {
                        let mut moved = z_s.clone();
                        moved[i] += step;
                        run(kind, &moved, teacher, &targets, false)[1].iter().sum::<f64>()
                    };
                    let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    assert!(
                        (gradient[i] - slope).abs() < 1e-9,
                        "{kind:?} {i}: {} {slope}",
                        gradient[i]
                    );
                }
            }
        }
    }

    #[test]
    fn rows_and_labels_count_where_they_should() {
        let (mut z_s, z_t, targets) = (numbers(1), numbers(2), targets());
        z_s[2 * OUTPUTS..3 * OUTPUTS].fill(f64::NAN);
        for kind in kinds_of_loss() {
            let [gradient, row_loss, terms] = run(kind, &z_s, Some(&z_t), &targets, true);
            let counts: Vec<&[f64]> = terms.chunks(TERMS).map(|row| &row[4..]).collect();
            assert_eq!(counts, [[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]);
            assert_eq!((row_loss[2], &gradient[6..9]), (0.0, &[0.0; 3][..]));
            assert_eq!(terms[2 * TERMS..3 * TERMS], [0.0; TERMS]);
            // Without labels, a row has no hard term.
            let [.., terms] = run(kind, &z_s, Some(&z_t), &[f64::NAN; ROWS * OUTPUTS], true);
            assert!(terms.chunks(TERMS).all(|row| row[1] == 0.0 && row[2] == 0.0 && row[5] == 0.0));
        }
    }

    /// Of the first row, whose second output has no label.
    #[test]
    fn terms_are_as_defined() {
        let (z_s, z_t, y) = (numbers(1), numbers(2), targets());
        let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
        for kind in kinds_of_loss() {
            let [.., terms] = run(kind, &z_s, Some(&z_t), &y, true);
            let soft = |i: usize| {
                let PointwiseKind::Logistic(divergence) = kind else {
                    return (z_s[i] - z_t[i]).powi(2);
                };
                let [q, p] = [z_s[i], z_t[i]].map(|z| sigmoid(z / 3.0));
                let mean = |a: f64, b: f64, share: f32| b + f64::from(share) * (a - b);
                let kl =
                    |p: f64, q: f64| p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
                9.0 * match divergence {
                    Divergence::ForwardKl | Divergence::Taid { .. } => kl(p, q),
                    Divergence::DecoupledKl { .. } => unreachable!("it is of one softmax"),
                    Divergence::ReverseKl => kl(q, p),
                    Divergence::Jsd { beta } => {
                        let (m, beta) = (mean(p, q, beta), f64::from(beta));
                        beta * kl(p, m) + (1.0 - beta) * kl(q, m)
                    }
                    Divergence::SkewKl { skew } => kl(p, mean(p, q, skew)),
                    Divergence::SkewReverseKl { skew } => kl(q, mean(q, p, skew)),
                    Divergence::TotalVariation => (p - q).abs(),
                }
            };
            let hard = |i: usize| match kind {
                PointwiseKind::Square => (z_s[i] - y[i]).powi(2),
                PointwiseKind::Logistic(_) => {
                    -y[i] * sigmoid(z_s[i]).ln() - (1.0 - y[i]) * sigmoid(-z_s[i]).ln()
                }
            };
            let right = |i: usize| f64::from(u8::from((z_s[i] > 0.0) == (y[i] > 0.5)));
            let agrees = |i: usize| f64::from(u8::from((z_s[i] > 0.0) == (z_t[i] > 0.0)));
            let sides = if kind == PointwiseKind::Square { 0.0 } else { 1.0 };
            let wanted = [
                (soft(0) + soft(1) + soft(2)) / 3.0,
                (hard(0) + hard(2)) / 2.0,
                sides * (right(0) + right(2)) / 2.0,
                sides * (agrees(0) + agrees(1) + agrees(2)) / 3.0,
            ];
            for (found, wanted) in terms.iter().zip(wanted) {
                assert!((found - wanted).abs() < 1e-12, "{kind:?}: {terms:?}, not {wanted}");
            }
        }
    }
}
