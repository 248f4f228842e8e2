//! The fused distillation loss: a divergence at a temperature and cross-entropy, loss and gradient in one kernel that
//! never stores a probability. The formulas stand in `shaders/distill_loss.wgsl`.

use rayon::prelude::*;

use crate::divergence::{Softmaxes, between, with_code};
use crate::row_tile::{self, RowTile};
use crate::{
    Args, Caps, Cost, Divergence, Kernel, Launch, Operand, Real, StepState, Variant, bytes, row,
    twin,
};

/// A label that leaves its row out of the hard term.
pub const IGNORED: i32 = -100;
/// A label that marks a padding row, which counts in no term.
pub const PADDING: i32 = i32::MIN;
/// Columns of `terms`: soft, hard, student right, agrees with the teacher, counts in soft, counts in hard.
pub const TERMS: usize = 6;

/// Temperatures above it have the ratio of the softmaxes' denominators made better by a further sweep: its error is a
/// rounding, and what it is compared with falls as 1 / T. As in the shader.
const REFINED_ABOVE: f32 = 20.0;

/// Rows of one launch, so that a launch stays far below a driver's watchdog: 2^31 logits.
const MAX_LOGITS_A_LAUNCH: usize = 1 << 31;
/// Most numbers of each tensor a thread holds in registers.
const MAX_HELD: usize = 16;

/// Loss and gradient of a block of logit rows.
#[derive(Clone, Debug, PartialEq)]
pub struct DistillLoss {
    /// Rows.
    pub rows: usize,
    /// Classes, without padded columns.
    pub classes: usize,
    /// Elements from one student row to the next; columns from `classes` on are padding.
    pub student_stride: usize,
    /// The same for the teacher; `None`: cross-entropy alone.
    pub teacher_stride: Option<usize>,
    /// Whether the gradient overwrites the student's logits.
    pub gradient: bool,
    /// Whether the hard term of each row has a weight of its own.
    pub weighted: bool,
    /// The soft term.
    pub divergence: Divergence,
}

impl DistillLoss {
    /// Forward KL and cross-entropy, with their gradient, of logits of both models that lie close together.
    pub fn new(rows: usize, classes: usize) -> Self {
        Self {
            rows,
            classes,
            student_stride: classes,
            teacher_stride: Some(classes),
            gradient: true,
            weighted: false,
            divergence: Divergence::ForwardKl,
        }
    }

    /// Whether a sweep of its own makes the soft term.
    fn is_graded(&self) -> bool {
        self.teacher_stride.is_some() && !self.divergence.is_forward()
    }

    /// The divergence, of which a loss without a teacher has none.
    fn soft_term(&self) -> Divergence {
        if self.teacher_stride.is_some() { self.divergence } else { Divergence::ForwardKl }
    }

    /// By one subgroup a row on a driver on the CPU, which pays for barriers.
    fn tile(&self, caps: &Caps) -> RowTile {
        let one = RowTile::one_subgroup(self.classes, caps).filter(|_| caps.software);
        let strides = self.strides();
        let words = self.classes.div_ceil(row_tile::word(&strides));
        let several = || RowTile::of_lanes(words.next_power_of_two().clamp(32, 256));
        one.unwrap_or_else(several).for_rows_apart(&strides)
    }

    fn strides(&self) -> Vec<usize> {
        [self.student_stride].into_iter().chain(self.teacher_stride).collect()
    }

    fn launches_with(&self, tile: RowTile, caps: &Caps) -> Vec<Launch> {
        let teacher = usize::from(self.teacher_stride.is_some());
        let (mut source, mut overrides) =
            tile.holding("distill_loss", self.classes, MAX_HELD, caps);
        if self.weighted {
            source.imports.push(("common/row_weight", "common/row_weights"));
        }
        overrides.extend([("TEACHER", teacher as f64), ("GRADIENT", f64::from(self.gradient))]);
        let divergence = self.soft_term();
        overrides.push(("DIVERGENCE", f64::from(divergence.code())));
        let step = (MAX_LOGITS_A_LAUNCH / self.classes).max(1);
        let launch = |first: usize| Launch {
            source: source.clone(),
            entry: "distill_loss",
            overrides: overrides.clone(),
            dims: [
                (first + step).min(self.rows),
                self.classes,
                tile.words(self.student_stride),
                tile.words(self.teacher_stride.unwrap_or(0)),
                first,
            ]
            .map(|word| word as u32)
            .into_iter()
            .chain([divergence.share().to_bits()])
            .collect(),
            bindings: [
                Some(0),
                (teacher == 1).then_some(1),
                Some(1 + teacher),
                Some(2 + teacher),
                Some(3 + teacher),
            ]
            .into_iter()
            .chain(self.weighted.then_some(Some(4 + teacher)))
            .collect(),
            workgroups: tile.grid(step.min(self.rows - first), caps),
        };
        (0..self.rows).step_by(step).map(launch).collect()
    }

    fn run<F: Real>(&self, mut args: Args<'_, F>, state: &StepState) {
        let teacher = self.teacher_stride.map(|stride| (args.read(1), stride));
        let next = 1 + usize::from(teacher.is_some());
        let labels = args.read_i32(next);
        let weights = self.weighted.then(|| args.read(next + 3));
        let (z_s, row_loss, terms) = (args.write(0), args.write(next + 1), args.write(next + 2));
        z_s.par_chunks_mut(self.student_stride)
            .zip(row_loss.par_iter_mut())
            .zip(terms.par_chunks_mut(TERMS))
            .zip(labels)
            .enumerate()
            .with_min_len((1_usize << 12).div_ceil(self.classes))
            .for_each(|(row, (((z_s, row_loss), terms), &label))| {
                let z_t = teacher.map(|(z_t, stride)| &z_t[row * stride..][..self.classes]);
                let weight = weights.map_or(F::one(), |weights| weights[row]);
                *row_loss = self.row(z_s, z_t, (label, weight), terms, state);
            });
    }

    fn row<F: Real>(
        &self,
        z_s: &mut [F],
        z_t: Option<&[F]>,
        (label, weight): (i32, F),
        terms: &mut [F],
        state: &StepState,
    ) -> F {
        let (zero, one) = (F::zero(), F::one());
        let temperature = F::of(state.temperature);
        let alpha = F::of(state.alpha);
        let (z_s, padded) = z_s.split_at_mut(self.classes);

        let counts_hard = label >= 0;
        let counts_soft = z_t.is_some() && label != PADDING;
        let hard_share = if z_t.is_some() { one - alpha } else { one } * weight;
        let hard_weight = if counts_hard { hard_share * F::of(state.hard_scale) } else { zero };
        let soft_weight = if counts_soft { alpha * F::of(state.soft_scale) } else { zero };
        let [soft_slope, hard_slope] =
            [soft_weight * temperature, hard_weight].map(|slope| F::of(state.loss_scale) * slope);

        let (top, best) = row::peak(z_s);
        let label_logit = if counts_hard { z_s[label as usize] - top } else { zero };
        let (mut soft, mut agrees) = (zero, false);
        let mut log_hot = zero;
        if let (Some(z_t), true) = (z_t, counts_soft) {
            let blended: Vec<F>;
            let z_t = match self.divergence {
                Divergence::Taid { .. } => {
                    let blend = F::of(state.blend);
                    blended = z_s.iter().zip(z_t).map(|(&s, &t)| between(s, t, blend)).collect();
                    &blended
                }
                _ => z_t,
            };
            let (t_top, t_best) = row::peak(z_t);
            agrees = best == t_best;
            let kl;
            (kl, log_hot) =
                self.taught_row(z_s, z_t, ([top, t_top], best), [soft_slope, hard_slope], state);
            soft = temperature * temperature * F::of64(kl);
        } else if counts_hard {
            let [sum] = row::sums(
                z_s,
                z_s,
                #[inline(always)]
                move |s, _| [(s - top).fast_exp()],
            );
            log_hot = F::of64(sum.ln());
            if self.gradient {
                row::map(
                    z_s,
                    #[inline(always)]
                    move |s| hard_slope * (s - top - log_hot).fast_exp(),
                );
            }
        } else if self.gradient {
            z_s.fill(zero);
        }
        let hard = if counts_hard { log_hot - label_logit } else { zero };
        if self.gradient {
            if counts_hard {
                z_s[label as usize] = z_s[label as usize] - hard_slope;
            }
            padded.fill(zero);
        }

        let flag = |yes| if yes { one } else { zero };
        terms.copy_from_slice(&[
            soft,
            hard,
            flag(counts_hard && best == label as usize),
            flag(agrees),
            flag(counts_soft),
            flag(counts_hard),
        ]);
        soft_weight * soft + hard_weight * hard
    }

    /// The divergence of a row from its teacher's, in f64, and ln Σ e^(z_s - top); the gradient takes the place of the
    /// student's logits, but for the label's part. `tops` are the largest logits, and the student's place.
    fn taught_row<F: Real>(
        &self,
        z_s: &mut [F],
        z_t: &[F],
        (tops, best): ([F; 2], usize),
        [soft_slope, hard_slope]: [F; 2],
        state: &StepState,
    ) -> (f64, F) {
        let (top, t_top) = (tops[0], tops[1]);
        let cold = F::one() / F::of(state.temperature);
        let logs = row::sums(
            z_s,
            z_t,
            #[inline(always)]
            move |s, t| {
                let (s, t) = (s - top, t - t_top);
                [s.fast_exp(), (s * cold).fast_exp(), (t * cold).fast_exp()]
            },
        );
        let [log_hot, log_q_sum, log_p_sum] = logs.map(|sum| F::of64(sum.ln()));
        let log_ratio = F::of64((logs[1] / logs[2]).ln());
        let mut softmaxes = Softmaxes { tops, cold, log_sums: [log_q_sum, log_p_sum], log_ratio };
        if state.temperature > REFINED_ABOVE || self.divergence.is_of_signs() {
            // Both sum to 1: what their difference sums to is the ratio's error.
            let [excess] = row::sums(
                z_s,
                z_t,
                #[inline(always)]
                move |s, t| [softmaxes.forward(s, t).0],
            );
            softmaxes.log_ratio += F::of64(excess.ln_1p());
        }
        let softmaxes = softmaxes;
        let slopes = [soft_slope, hard_slope];
        let kl = match self.divergence {
            forward if forward.is_forward() && self.gradient => row::update(
                z_s,
                z_t,
                #[inline(always)]
                move |s, t| {
                    let (difference, term) = softmaxes.forward(s, t);
                    let r = (s - top - log_hot).fast_exp();
                    (soft_slope * difference + hard_slope * r, term)
                },
            ),
            forward if forward.is_forward() => {
                let [kl] = row::sums(
                    z_s,
                    z_t,
                    #[inline(always)]
                    move |s, t| [softmaxes.forward(s, t).1],
                );
                kl
            }
            graded => with_code!(graded, CODE => {
                self.graded_row::<F, CODE>(z_s, z_t, softmaxes, best, (slopes, log_hot))
            }),
        };
        (kl, log_hot)
    }

    /// As [`Self::taught_row`], of a divergence other than forward KL.
    fn graded_row<F: Real, const CODE: u32>(
        &self,
        z_s: &mut [F],
        z_t: &[F],
        softmaxes: Softmaxes<F>,
        best: usize,
        ([soft_slope, hard_slope], log_hot): ([F; 2], F),
    ) -> f64 {
        let share = F::of(self.divergence.share());
        let best = softmaxes.best::<CODE>(z_t[best], share);
        let [value, pull] = row::sums(
            z_s,
            z_t,
            #[inline(always)]
            move |s, t| {
                let [_, pull, part] = softmaxes.graded::<CODE>(s, t, share, best);
                [part, pull]
            },
        );
        if self.gradient {
            let (top, mean) = (softmaxes.tops[0], F::of64(pull));
            row::update(
                z_s,
                z_t,
                #[inline(always)]
                move |s, t| {
                    let [q, pull, _] = softmaxes.graded::<CODE>(s, t, share, best);
                    let r = (s - top - log_hot).fast_exp();
                    (soft_slope * (pull - q * mean) + hard_slope * r, F::zero())
                },
            );
        }
        value
    }
}

impl Kernel for DistillLoss {
    fn name(&self) -> &'static str {
        "distill_loss"
    }

    fn operands(&self) -> Vec<Operand> {
        let mut operands = vec![Operand::update("z_s", self.rows * self.student_stride)];
        if let Some(stride) = self.teacher_stride {
            operands.push(Operand::read("z_t", self.rows * stride));
        }
        operands.push(Operand::read_i32("labels", self.rows));
        operands.push(Operand::write("row_loss", self.rows));
        operands.push(Operand::write("terms", self.rows * TERMS));
        operands.extend(self.weighted.then(|| Operand::read("row_weights", self.rows)));
        operands
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        self.launches_with(self.tile(caps), caps)
    }

    fn variants(&self, caps: &Caps) -> Vec<Variant> {
        let launches = |tile| self.launches_with(tile, caps);
        self.tile(caps).variants(self.classes, caps, launches)
    }

    fn bucket(&self) -> String {
        let teacher = if self.teacher_stride.is_some() { " with teacher" } else { "" };
        let gradient = if self.gradient { " with gradient" } else { "" };
        let weighted = if self.weighted { " weighted" } else { "" };
        let divergence = self.soft_term().suffix();
        format!(
            "{}{teacher}{gradient}{weighted}{divergence}",
            row_tile::bucket(self.rows, self.classes, &self.strides())
        )
    }

    fn cost(&self) -> Cost {
        let logits = self.rows * self.classes;
        let tensors = 1 + usize::from(self.teacher_stride.is_some());
        let caps = Caps::default();
        let held = self.tile(&caps).held(self.classes, MAX_HELD, &caps);
        let (graded, taught) =
            (usize::from(self.is_graded()), usize::from(self.teacher_stride.is_some()));
        let sweeps = 2 + graded + usize::from(graded == 1 && self.divergence.is_of_signs());
        let reads = tensors * if held.is_some() { 1 } else { sweeps };
        let writes = if self.gradient { logits } else { 0 };
        // The last two sweeps make a class's part and its slope.
        let part = self.divergence.flops();
        Cost {
            flops: (logits * (12 * tensors + taught * part)) as u64,
            bytes_read: bytes(reads * logits + self.rows * (1 + usize::from(self.weighted))),
            bytes_written: bytes(writes + self.rows * (1 + TERMS)),
        }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arg;

    const CLASSES: usize = 7;
    const LABELS: [i32; 4] = [3, IGNORED, PADDING, 0];

    fn logits(salt: usize) -> Vec<f64> {
        (0..4 * CLASSES).map(|i| ((i * 31 + salt * 17) % 23) as f64 / 4.0 - 2.5).collect()
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

    const WEIGHTS: [f64; 4] = [0.25, 8.0, 2.0, 3.0];

    fn loss(z_s: &[f64], z_t: Option<&[f64]>, gradient: bool) -> (f64, Vec<f64>, Vec<f64>) {
        weighted_loss(z_s, z_t, gradient, None)
    }

    fn weighted_loss(
        z_s: &[f64],
        z_t: Option<&[f64]>,
        gradient: bool,
        weights: Option<&[f64; 4]>,
    ) -> (f64, Vec<f64>, Vec<f64>) {
        let kernel = DistillLoss {
            teacher_stride: z_t.map(|_| CLASSES),
            gradient,
            weighted: weights.is_some(),
            ..DistillLoss::new(4, CLASSES)
        };
        run(&kernel, z_s, z_t, weights)
    }

    fn run(
        kernel: &DistillLoss,
        z_s: &[f64],
        z_t: Option<&[f64]>,
        weights: Option<&[f64; 4]>,
    ) -> (f64, Vec<f64>, Vec<f64>) {
        run_at(kernel, z_s, z_t, weights, &state())
    }

    fn run_at(
        kernel: &DistillLoss,
        z_s: &[f64],
        z_t: Option<&[f64]>,
        weights: Option<&[f64; 4]>,
        state: &StepState,
    ) -> (f64, Vec<f64>, Vec<f64>) {
        let mut z_s = z_s.to_vec();
        let (mut row_loss, mut terms) = (vec![0.0; 4], vec![0.0; 4 * TERMS]);
        let mut args = vec![Arg::Write(&mut z_s)];
        args.extend(z_t.map(Arg::Read));
        args.extend([Arg::ReadI32(&LABELS), Arg::Write(&mut row_loss), Arg::Write(&mut terms)]);
        args.extend(weights.map(|weights| Arg::Read(weights)));
        kernel.run_f64(Args::new(args), state);
        (row_loss.iter().sum(), z_s, terms)
    }

    #[test]
    fn gradient_is_the_loss_s_slope() {
        let (z_s, z_t) = (logits(1), logits(2));
        let settings = [(Some(&z_t[..]), None), (None, None)];
        let weighted = settings.map(|(teacher, _)| (teacher, Some(&WEIGHTS)));
        for (teacher, weights) in settings.into_iter().chain(weighted) {
            let loss = |z: &[f64], gradient| weighted_loss(z, teacher, gradient, weights);
            let (_, gradient, _) = loss(&z_s, true);
            for i in 0..z_s.len() {
                let mut moved = z_s.clone();
                moved[i] += 1e-5;
                let above = loss(&moved, false).0;
                moved[i] -= 2e-5;
                let below = loss(&moved, false).0;
                let slope = (above - below) / 2e-5;
                assert!((gradient[i] - slope).abs() < 1e-9, "{i}: {} {slope}", gradient[i]);
            }
        }
    }

    fn of_divergence(
        divergence: Divergence,
        z_s: &[f64],
        gradient: bool,
    ) -> (f64, Vec<f64>, Vec<f64>) {
        let kernel = DistillLoss { divergence, gradient, ..DistillLoss::new(4, CLASSES) };
        run(&kernel, z_s, Some(&logits(2)), None)
    }

    #[test]
    fn gradient_is_the_slope_of_every_divergence() {
        let z_s = logits(1);
        for divergence in Divergence::EACH {
            let (_, gradient, _) = of_divergence(divergence, &z_s, true);
            for i in 0..z_s.len() {
                let moved = |step: f64| {
                    let mut moved = z_s.clone();
                    moved[i] += step;
                    of_divergence(divergence, &moved, false).0
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!(
                    (gradient[i] - slope).abs() < 1e-9,
                    "{divergence:?} {i}: {} {slope}",
                    gradient[i]
                );
            }
        }
    }

    /// Times T², of distributions by their definitions.
    #[test]
    fn divergences_are_as_defined() {
        let temperature = f64::from(state().temperature);
        let softmax = |row: &[f64]| -> Vec<f64> {
            let powers: Vec<f64> = row.iter().map(|z| (z / temperature).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.iter().map(|power| power / sum).collect()
        };
        let mean = |a: &[f64], b: &[f64], share: f32| -> Vec<f64> {
            let share = f64::from(share);
            a.iter().zip(b).map(|(a, b)| share * a + (1.0 - share) * b).collect()
        };
        let kl = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
        let (z_s, z_t) = (logits(1), logits(2));
        for divergence in Divergence::EACH {
            let (_, _, terms) = of_divergence(divergence, &z_s, true);
            for (row, terms) in terms.chunks(TERMS).enumerate().filter(|(_, terms)| terms[4] > 0.0)
            {
                let [q, p] = [&z_s, &z_t].map(|z| softmax(&z[row * CLASSES..][..CLASSES]));
                let wanted = match divergence {
                    Divergence::ForwardKl | Divergence::Taid { .. } => kl(&p, &q),
                    Divergence::ReverseKl => kl(&q, &p),
                    Divergence::Jsd { beta } => {
                        let (m, beta) = (mean(&p, &q, beta), f64::from(beta));
                        beta * kl(&p, &m) + (1.0 - beta) * kl(&q, &m)
                    }
                    Divergence::SkewKl { skew } => kl(&p, &mean(&p, &q, skew)),
                    Divergence::SkewReverseKl { skew } => kl(&q, &mean(&q, &p, skew)),
                    Divergence::TotalVariation => {
                        p.iter().zip(&q).map(|(p, q)| (p - q).abs() / 2.0).sum()
                    }
                };
                let wanted = temperature * temperature * wanted;
                assert!(
                    (terms[0] / wanted - 1.0).abs() < 1e-12,
                    "{divergence:?}: {terms:?}, {wanted}"
                );
            }
        }
    }

    /// As forward KL from a teacher that has the target's logits.
    #[test]
    fn a_target_between_both_models_is_held_fixed() {
        let (z_s, z_t, blend) = (logits(1), logits(2), 0.375);
        let run = |divergence, z_t: &[f64], blend| {
            let kernel = DistillLoss { divergence, ..DistillLoss::new(4, CLASSES) };
            let state = StepState { blend, ..state() };
            run_at(&kernel, &z_s, Some(z_t), None, &state)
        };
        let target: Vec<f64> =
            z_s.iter().zip(&z_t).map(|(s, t)| s + f64::from(blend) * (t - s)).collect();
        let found = run(Divergence::Taid { start: 0.0 }, &z_t, blend);
        assert_eq!(found, run(Divergence::ForwardKl, &target, 1.0));
        assert_ne!(found, run(Divergence::ForwardKl, &z_t, 1.0));
    }

    #[test]
    fn rows_count_where_they_should() {
        let (_, gradient, terms) = loss(&logits(1), Some(&logits(2)), true);
        let counts: Vec<&[f64]> = terms.chunks(TERMS).map(|row| &row[4..]).collect();
        assert_eq!(counts, [[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]);
        assert!(gradient[2 * CLASSES..3 * CLASSES].iter().all(|&g| g == 0.0));
    }

    /// PyTorch's `CrossEntropyLoss(weight=w)`: -Σ w_y ln r_y / Σ w_y over the rows that have a label.
    #[test]
    fn weights_multiply_the_hard_term_of_their_rows() {
        let z = logits(1);
        let entropy = |row: usize| {
            let row_of = &z[row * CLASSES..][..CLASSES];
            let sum: f64 = row_of.iter().map(|z| z.exp()).sum();
            sum.ln() - row_of[LABELS[row] as usize]
        };
        // hard_scale is 1 / 2, so that the row losses sum to the mean over the two rows times their weights.
        let wanted = (WEIGHTS[0] * entropy(0) + WEIGHTS[3] * entropy(3)) / 2.0;
        let (found, _, terms) = weighted_loss(&z, None, false, Some(&WEIGHTS));
        assert!((found - wanted).abs() < 1e-14, "{found}, not {wanted}");
        let (_, _, plain) = loss(&z, None, false);
        assert_eq!(terms, plain, "what is reported counts each row once");
        // The soft term has no weights.
        let teacher = logits(2);
        let parts = |weights| weighted_loss(&z, Some(&teacher), false, weights).0;
        let hard = 0.75 * wanted;
        let plain = 0.75 * (entropy(0) + entropy(3)) / 2.0;
        assert!((parts(Some(&WEIGHTS)) - hard - (parts(None) - plain)).abs() < 1e-14);
    }

    #[test]
    fn the_same_logits_have_no_soft_loss() {
        let z = logits(1);
        let (_, _, terms) = loss(&z, Some(&z), false);
        assert!(terms.chunks(TERMS).all(|row| row[0].abs() < 1e-14));
        assert_eq!(terms[3], 1.0);
    }
}
