//! A row of the loss on the processor.

use std::array::from_fn;

use super::{DistillLoss, PADDING};
use crate::divergence::{Softmaxes, between, with_code};
use crate::{Divergence, Real, StepState, row};

/// Temperatures above it have the ratio of the softmaxes' denominators made better by a further sweep: its error is a
/// rounding, and what it is compared with falls as 1 / T. As in the shader.
const REFINED_ABOVE: f32 = 20.0;

/// The classes that the soft term's softmaxes are of: all, or all but one.
#[derive(Clone, Copy)]
struct Classes {
    apart: Option<usize>,
}

impl Classes {
    fn top<F: Real>(self, z: &[F], top: F) -> F {
        let Some(apart) = self.apart else { return top };
        let [(low, _), (high, _)] = [&z[..apart], &z[apart + 1..]].map(row::peak);
        if high > low { high } else { low }
    }

    fn sums<F: Real, const K: usize>(
        self,
        a: &[F],
        b: &[F],
        f: impl Fn(F, F) -> [F; K] + Copy + Sync + Send,
    ) -> [f64; K] {
        let Some(apart) = self.apart else { return row::sums(a, b, f) };
        let low = row::sums(&a[..apart], &b[..apart], f);
        let high = row::sums(&a[apart + 1..], &b[apart + 1..], f);
        from_fn(|k| low[k] + high[k])
    }

    fn update<F: Real>(
        self,
        a: &mut [F],
        b: &[F],
        f: impl Fn(F, F) -> (F, F) + Copy + Sync + Send,
    ) -> f64 {
        let Some(apart) = self.apart else { return row::update(a, b, f) };
        let low = row::update(&mut a[..apart], &b[..apart], f);
        low + row::update(&mut a[apart + 1..], &b[apart + 1..], f)
    }
}

/// What is made of logits that are standardised, and of slopes by them.
#[derive(Clone, Copy)]
struct Standard<F> {
    /// Of logits less the largest.
    mean: F,
    deviation: F,
    /// 1 / (σ + 1e-7)
    scale: F,
}

impl<F: Real> Standard<F> {
    fn of(z: &[F], top: F) -> Self {
        let count = z.len() as f64;
        let [sum] = row::sums(
            z,
            z,
            #[inline(always)]
            move |z, _| [z - top],
        );
        let mean = F::of64(sum / count);
        let [rest, squares] = row::sums(
            z,
            z,
            #[inline(always)]
            move |z, _| {
                let z = z - top - mean;
                [z, z * z]
            },
        );
        let variance = (squares - rest * rest / count) / (count - 1.0).max(1.0);
        let deviation = F::of64(variance.sqrt());
        let scale = F::one() / (deviation + F::of(1e-7));
        Self { mean: mean + F::of64(rest / count), deviation, scale }
    }
}

/// Slopes by logits, of slopes by what these are once they are standardised.
#[derive(Clone, Copy)]
struct Turned<F> {
    top: F,
    mean: F,
    scale: F,
    turn: F,
}

impl<F: Real> Turned<F> {
    #[inline(always)]
    fn of(self, s: F, slope: F) -> F {
        self.scale * slope - self.turn * (s - self.top - self.mean)
    }
}

/// The hard term's slope by a logit: of cross-entropy with labels that are spread over all classes.
#[derive(Clone, Copy)]
struct Hard<F> {
    slope: F,
    /// The slope's part of every class.
    spread: F,
    top: F,
    log_sum: F,
}

impl<F: Real> Hard<F> {
    /// But for the label's part.
    #[inline(always)]
    fn of(self, s: F) -> F {
        self.slope * (s - self.top - self.log_sum).fast_exp() - self.spread
    }
}

/// What the gradient of a row is made of.
#[derive(Clone, Copy)]
struct Row<F> {
    classes: Classes,
    softmaxes: Softmaxes<F>,
    /// The student's.
    standard: Option<Standard<F>>,
    soft_slope: F,
    hard: Hard<F>,
}

impl<F: Real> Row<F> {
    /// Puts the gradient in the place of the student's logits, but for the label's hard part, and returns the sum of the parts of
    /// the soft term. `slope_of` has the slope by a scaled logit, in shares of `soft_slope`, and the part; the class that is
    /// apart has the slope `apart`.
    fn put(
        self,
        z_s: &mut [F],
        z_t: &[F],
        apart: F,
        slope_of: impl Fn(F, F) -> (F, F) + Copy + Sync + Send,
    ) -> f64 {
        let Self { classes, standard, soft_slope, hard, .. } = self;
        let top = hard.top;
        let Some(Standard { mean, deviation, scale }) = standard else {
            if let Some(class) = classes.apart {
                z_s[class] = soft_slope * apart + hard.of(z_s[class]);
            }
            return classes.update(
                z_s,
                z_t,
                #[inline(always)]
                move |s, t| {
                    let (slope, part) = slope_of(s, t);
                    (soft_slope * slope + hard.of(s), part)
                },
            );
        };
        let [mut turn] = classes.sums(
            z_s,
            z_t,
            #[inline(always)]
            move |s, t| [slope_of(s, t).0 * (s - top - mean)],
        );
        if let Some(class) = classes.apart {
            turn += (apart * (z_s[class] - top - mean)).f64();
        }
        let freedom = F::of64((z_s.len() as f64 - 1.0).max(1.0));
        // A row of equal logits has no slope.
        let [scale, turn] = match deviation == F::zero() {
            true => [F::zero(); 2],
            false => [scale, F::of64(turn) * scale * scale / (freedom * deviation)],
        };
        let put = Turned { top, mean, scale, turn };
        if let Some(class) = classes.apart {
            z_s[class] = soft_slope * put.of(z_s[class], apart) + hard.of(z_s[class]);
        }
        classes.update(
            z_s,
            z_t,
            #[inline(always)]
            move |s, t| {
                let (slope, part) = slope_of(s, t);
                (soft_slope * put.of(s, slope) + hard.of(s), part)
            },
        )
    }
}

impl DistillLoss {
    pub(super) fn row<F: Real>(
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
        let smoothing = F::of(self.smoothing);
        let share = smoothing / F::of64(self.classes as f64);
        // What -ln r of every class comes to, each with its share of the label, but for the softmax's denominator.
        let even = if self.smoothing > 0.0 && counts_hard {
            let [sum] = row::sums(
                z_s,
                z_s,
                #[inline(always)]
                move |s, _| [top - s],
            );
            share * F::of64(sum)
        } else {
            zero
        };
        let mut hard = Hard { slope: hard_slope, spread: hard_slope * share, top, log_sum: zero };
        let (mut soft, mut agrees) = (zero, false);
        if let (Some(z_t), true) = (z_t, counts_soft) {
            let label = counts_hard.then_some(label as usize);
            let kl;
            (kl, agrees) = self.taught_row(z_s, z_t, (best, label), soft_slope, &mut hard, state);
            soft = temperature * temperature * F::of64(kl);
        } else if counts_hard {
            let [sum] = row::sums(
                z_s,
                z_s,
                #[inline(always)]
                move |s, _| [(s - top).fast_exp()],
            );
            hard.log_sum = F::of64(sum.ln());
            if self.gradient {
                row::map(
                    z_s,
                    #[inline(always)]
                    move |s| hard.of(s),
                );
            }
        } else if self.gradient {
            z_s.fill(zero);
        }
        let entropy = if counts_hard { hard.log_sum - label_logit } else { zero };
        let smoothed = if self.smoothing > 0.0 && counts_hard {
            (one - smoothing) * entropy + smoothing * hard.log_sum + even
        } else {
            entropy
        };
        if self.gradient {
            if counts_hard {
                z_s[label as usize] = z_s[label as usize] - hard_slope * (one - smoothing);
            }
            padded.fill(zero);
        }

        let flag = |yes| if yes { one } else { zero };
        terms.copy_from_slice(&[
            soft,
            entropy,
            flag(counts_hard && best == label as usize),
            flag(agrees),
            flag(counts_soft),
            flag(counts_hard),
        ]);
        soft_weight * soft + hard_weight * smoothed
    }

    /// The divergence of a row from its target, in f64, and whether that has its largest logit at the same place, `best`; as
    /// [`Self::row_to`].
    fn taught_row<F: Real>(
        &self,
        z_s: &mut [F],
        z_t: &[F],
        (best, label): (usize, Option<usize>),
        soft_slope: F,
        hard: &mut Hard<F>,
        state: &StepState,
    ) -> (f64, bool) {
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
        let told = (t_top, best, label);
        (self.row_to(z_s, z_t, told, soft_slope, hard, state.temperature), best == t_best)
    }

    /// The divergence of a row from these logits, in f64; the gradient takes the place of the student's logits, but for the
    /// label's hard part, and `hard` gets ln Σ e^(z_s - top). Told are the largest of the logits, the place of the student's,
    /// and the label.
    fn row_to<F: Real>(
        &self,
        z_s: &mut [F],
        z_t: &[F],
        (t_top, best, label): (F, usize, Option<usize>),
        soft_slope: F,
        hard: &mut Hard<F>,
        temperature: f32,
    ) -> f64 {
        let (top, cold) = (hard.top, F::one() / F::of(temperature));
        let classes = Classes { apart: label.filter(|_| !self.divergence.is_of_outcomes()) };
        let standards =
            self.standardise.then(|| [Standard::of(z_s, top), Standard::of(z_t, t_top)]);
        let scales = standards.map_or([F::one(); 2], |both| both.map(|standard| standard.scale));
        let tops = [classes.top(z_s, top), classes.top(z_t, t_top)];
        let logs = match classes.apart {
            None => row::sums(
                z_s,
                z_t,
                #[inline(always)]
                move |s, t| {
                    let (s, t) = (s - tops[0], t - tops[1]);
                    let [a, b] = [s * scales[0], t * scales[1]];
                    [s.fast_exp(), (a * cold).fast_exp(), (b * cold).fast_exp()]
                },
            ),
            Some(_) => {
                let [hot] = row::sums(
                    z_s,
                    z_s,
                    #[inline(always)]
                    move |s, _| [(s - top).fast_exp()],
                );
                let [q, p] = classes.sums(
                    z_s,
                    z_t,
                    #[inline(always)]
                    move |s, t| {
                        let [a, b] = [(s - tops[0]) * scales[0], (t - tops[1]) * scales[1]];
                        [(a * cold).fast_exp(), (b * cold).fast_exp()]
                    },
                );
                [hot, q, p]
            }
        };
        let [log_hot, log_q_sum, log_p_sum] = logs.map(|sum| F::of64(sum.ln()));
        hard.log_sum = log_hot;
        let log_ratio = F::of64((logs[1] / logs[2]).ln());
        let mut softmaxes =
            Softmaxes { tops, scales, cold, log_sums: [log_q_sum, log_p_sum], log_ratio };
        if temperature > REFINED_ABOVE || self.divergence.is_of_signs() {
            // Both sum to 1: what their difference sums to is the ratio's error.
            let [excess] = classes.sums(
                z_s,
                z_t,
                #[inline(always)]
                move |s, t| [softmaxes.forward(s, t).0],
            );
            softmaxes.log_ratio += F::of64(excess.ln_1p());
        }
        let standard = standards.map(|[student, _]| student);
        let row = Row { classes, softmaxes, standard, soft_slope, hard: *hard };
        match self.divergence {
            Divergence::DecoupledKl { .. } => self.decoupled_row(row, z_s, z_t),
            forward if forward.is_forward() => {
                let softmaxes = row.softmaxes;
                self.forward_row(
                    row,
                    z_s,
                    z_t,
                    F::zero(),
                    #[inline(always)]
                    move |s, t| softmaxes.forward(s, t),
                )
            }
            graded => with_code!(graded, CODE => {
                self.graded_row::<F, CODE>(row, z_s, z_t, best)
            }),
        }
    }

    /// As [`Self::row_to`], of slopes that need no sum.
    fn forward_row<F: Real>(
        &self,
        row: Row<F>,
        z_s: &mut [F],
        z_t: &[F],
        apart: F,
        slope_of: impl Fn(F, F) -> (F, F) + Copy + Sync + Send,
    ) -> f64 {
        if self.gradient {
            return row.put(z_s, z_t, apart, slope_of);
        }
        let [value] = row.classes.sums(
            z_s,
            z_t,
            #[inline(always)]
            move |s, t| [slope_of(s, t).1],
        );
        value
    }

    /// As [`Self::row_to`], of decoupled KL.
    fn decoupled_row<F: Real>(&self, row: Row<F>, z_s: &mut [F], z_t: &[F]) -> f64 {
        let softmaxes = row.softmaxes;
        let [target, others] = [self.divergence.share(), self.divergence.others()].map(F::of);
        let of_label =
            row.classes.apart.map(|label| softmaxes.against_others(z_s[label], z_t[label]));
        let (difference, kl) = of_label.unwrap_or((F::zero(), F::zero()));
        let apart = target * difference;
        let value = self.forward_row(
            row,
            z_s,
            z_t,
            apart,
            #[inline(always)]
            move |s, t| {
                let (difference, part) = softmaxes.forward(s, t);
                (others * difference - apart * softmaxes.q(s), others * part)
            },
        );
        (target * kl).f64() + value
    }

    /// As [`Self::row_to`], of a divergence whose slopes are less their mean.
    fn graded_row<F: Real, const CODE: u32>(
        &self,
        row: Row<F>,
        z_s: &mut [F],
        z_t: &[F],
        best: usize,
    ) -> f64 {
        let softmaxes = row.softmaxes;
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
            let mean = F::of64(pull);
            row.put(
                z_s,
                z_t,
                F::zero(),
                #[inline(always)]
                move |s, t| {
                    let [q, pull, _] = softmaxes.graded::<CODE>(s, t, share, best);
                    (pull - q * mean, F::zero())
                },
            );
        }
        value
    }
}
