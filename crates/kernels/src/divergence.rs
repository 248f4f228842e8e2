//! How far a student's distribution is from its teacher's: the choices, and the CPU twins' formulas of one outcome.
//!
//! For any D = Σ_j f(p_j, q_j) of the teacher's probabilities p and the student's q = softmax(z / T), with g = ∂f/∂q, the
//! derivative by a logit is ∂D/∂z_j = q_j (g_j - Σ_i q_i g_i) / T.

use crate::Real;

/// The soft term of a loss: how far the student's distribution q is from the teacher's, p. All are in nats, and are
/// multiplied by T² where a temperature T divided the logits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Divergence {
    /// KL(p ‖ q) = Σ p ln(p / q), of Hinton, Vinyals and Dean 2015: the student covers all that the teacher finds likely.
    #[default]
    ForwardKl,
    /// KL(q ‖ p) = Σ q ln(q / p): the student keeps to what the teacher finds likely. It is infinite where a teacher's logit
    /// is -∞ and the student's is not.
    ReverseKl,
    /// The generalised Jensen-Shannon divergence β KL(p ‖ m) + (1 - β) KL(q ‖ m), m = β p + (1 - β) q, of Agarwal et al. 2024
    /// (GKD). It is symmetric for β = 1/2, at most ln 2 in nats, and near β or 1 - β times a KL for β near 0 or 1.
    Jsd {
        /// Weight of the teacher's distribution, within 0.001 and 0.999: nearer to 0 or 1, f32 loses its digits.
        beta: f32,
    },
}

impl Divergence {
    /// Whether its numbers are in range.
    pub fn is_valid(self) -> bool {
        match self {
            Self::ForwardKl | Self::ReverseKl => true,
            Self::Jsd { beta } => (0.001..=0.999).contains(&beta),
        }
    }

    /// What the shaders know it by.
    pub(crate) fn code(self) -> f64 {
        match self {
            Self::ForwardKl => 0.0,
            Self::ReverseKl => 1.0,
            Self::Jsd { .. } => 2.0,
        }
    }

    /// β, or 0 where there is none.
    pub(crate) fn beta(self) -> f32 {
        match self {
            Self::ForwardKl | Self::ReverseKl => 0.0,
            Self::Jsd { beta } => beta,
        }
    }

    /// For the names of buckets: nothing for forward KL.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::ForwardKl => "",
            Self::ReverseKl => " reverse",
            Self::Jsd { .. } => " jsd",
        }
    }
}

/// Σ_k (w - w^k) d^k c(k) over k >= 2, of d up to 0.23 and w and v = 1 - w in (0, 1): no term is negative.
#[inline(always)]
pub(crate) fn rising_series<F: Real>(d: F, w: F, v: F, c: impl Fn(f64) -> f64) -> F {
    // (1 - w^(k - 1)) / (1 - w), and d^(k - 2).
    let (mut share, mut power, mut sum) = (F::one(), F::one(), F::zero());
    for k in 2..=F::SERIES {
        sum += power * share * F::of64(c(k as f64));
        share = F::one() + w * share;
        power *= d;
    }
    w * v * d * d * sum
}

/// Of the larger of two probabilities and the smaller, which is it times e^-u, with weights 1 - w and w: what they add to a
/// Jensen-Shannon divergence, in shares of the larger; `below` is e^-u - 1. As in `shaders/common/jensen.wgsl`.
#[inline(always)]
pub(crate) fn jensen<F: Real>(below: F, u: F, w: F) -> F {
    let far = F::of(100.0);
    let u_in_range = if u < far { u } else { far };
    let d = -below;
    let near = rising_series(d, w, F::one() - w, |k| 1.0 / (k * (k - 1.0)));
    let apart = -(F::one() - w * d) * (-w * d).fast_ln_1p() - w * (F::one() - d) * u_in_range;
    if u < F::of(0.25) { near } else { apart }
}

/// What the softmaxes of a row have in common, student's before teacher's.
#[derive(Clone, Copy)]
pub(crate) struct Softmaxes<F> {
    /// The largest logits.
    pub(crate) tops: [F; 2],
    /// 1 / T.
    pub(crate) cold: F,
    /// Logarithms of the denominators, and of their ratio.
    pub(crate) log_sums: [F; 2],
    pub(crate) log_ratio: F,
}

/// The student's likeliest class: the teacher's logit less its largest, and ln(q / m).
#[derive(Clone, Copy)]
pub(crate) struct Best<F> {
    t: F,
    slope: F,
}

/// The smaller of x and 0.
#[inline(always)]
fn negative<F: Real>(x: F) -> F {
    if x < F::zero() { x } else { F::zero() }
}

/// The weight of the smaller of p and q.
#[inline(always)]
fn weight_of<F: Real>(x: F, beta: F) -> F {
    if x < F::zero() { F::one() - beta } else { beta }
}

/// ln(q / m) of x = ln q - ln p; `below` is e^-|x| - 1.
#[inline(always)]
fn log_share<F: Real>(x: F, below: F, beta: F) -> F {
    negative(x) - (weight_of(x, beta) * below).fast_ln_1p()
}

impl<F: Real> Softmaxes<F> {
    /// q - p and a class's part of the forward KL, as in the shader: from x = ln q - ln p, which is a difference of logits
    /// less the logarithm of the denominators' ratio, and the larger of p and q.
    #[inline(always)]
    pub(crate) fn forward(self, s: F, t: F) -> (F, F) {
        let far = F::of(100.0);
        let (s, t) = (s - self.tops[0], t - self.tops[1]);
        let (log_q, log_p) = (s * self.cold - self.log_sums[0], t * self.cold - self.log_sums[1]);
        let x = (s - t) * self.cold - self.log_ratio;
        let x = if x > far { far } else { x };
        let larger = if log_q > log_p { log_q } else { log_p }.fast_exp();
        let [below, rest] = (-x.abs()).exp_m1_terms();
        let (difference, term) =
            if x < F::zero() { (below, rest) } else { (-below, -(x * below + rest)) };
        let is_none = larger == F::zero();
        let or_zero = |part: F| if is_none { F::zero() } else { larger * part };
        (or_zero(difference), or_zero(term))
    }

    /// The student's likeliest class, whose logit of the teacher is `t`.
    pub(crate) fn best(self, t: F, beta: F) -> Best<F> {
        let t = t - self.tops[1];
        let x = -t * self.cold - self.log_ratio;
        let [below, _] = (-x.abs()).exp_m1_terms();
        Best { t, slope: log_share(x, below, beta) }
    }

    /// Of a class: q; q times ∂f/∂q, which is counted from that of the likeliest class; and the class's part of the
    /// divergence: reverse KL, or `JSD`.
    #[inline(always)]
    pub(crate) fn graded<const JSD: bool>(self, s: F, t: F, beta: F, best: Best<F>) -> [F; 3] {
        let zero = F::zero();
        let (s, t) = (s - self.tops[0], t - self.tops[1]);
        let (log_q, log_p) = (s * self.cold - self.log_sums[0], t * self.cold - self.log_sums[1]);
        let larger = if log_q > log_p { log_q } else { log_p }.fast_exp();
        let q = log_q.fast_exp();
        let x = (s - t) * self.cold - self.log_ratio;
        let (part, slope) = if JSD {
            let [below, _] = (-x.abs()).exp_m1_terms();
            let share = log_share(x, below, beta) - best.slope;
            let is_best = (s == zero) & (t == best.t);
            let share = if is_best { zero } else { share };
            (jensen(below, x.abs(), weight_of(x, beta)), (F::one() - beta) * share)
        } else {
            let far = F::of(-100.0);
            let bounded = if x < far { far } else { x };
            let [below, rest] = (-bounded.abs()).exp_m1_terms();
            let part = if bounded < zero { bounded * below - rest } else { rest };
            (part, (s - (t - best.t)) * self.cold)
        };
        let pull = if q == zero { zero } else { q * slope };
        [q, pull, if larger == zero { zero } else { larger * part }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beta_keeps_away_from_its_ends() {
        assert!([Divergence::ForwardKl, Divergence::ReverseKl].iter().all(|kind| kind.is_valid()));
        let valid = |beta| Divergence::Jsd { beta }.is_valid();
        assert!(valid(0.001) && valid(0.5) && valid(0.999));
        for beta in [0.0, 1.0, -0.5, 1e-4, f32::NAN, f32::INFINITY] {
            assert!(!valid(beta), "{beta}");
        }
    }

    /// (1 - w) ln(1 / m) + w r ln(r / m) with m = 1 - w + w r, in f32 against f64, and in f64 across its two formulas.
    #[test]
    fn parts_of_jensen_shannon_are_as_defined() {
        let mut worst = 0.0_f64;
        for w in [0.01_f64, 0.125, 0.5, 0.9375] {
            for i in -40..=60 {
                let u = 1.2_f64.powi(i);
                let exact = |u: f64| {
                    let [below, _] = (-u).exp_m1_terms();
                    jensen(below, u, w)
                };
                if u > 0.05 {
                    let (r, m) = ((-u).exp(), 1.0 - w + w * (-u).exp());
                    let direct = -(1.0 - w) * m.ln() + w * r * (r / m).ln();
                    let direct = if r == 0.0 { -(1.0 - w) * (1.0 - w).ln() } else { direct };
                    assert!((exact(u) / direct - 1.0).abs() < 1e-9, "{w} {u}: {}", exact(u));
                }
                let (single, narrow) = (u as f32, w as f32);
                let [below, _] = (-single).exp_m1_terms();
                let found = f64::from(jensen(below, single, narrow));
                worst = worst.max((found / exact(f64::from(single)) - 1.0).abs());
            }
            let near = |u: f64| jensen((-u).exp_m1(), u, w);
            assert!((near(0.25 - 1e-12) / near(0.25) - 1.0).abs() < 1e-9);
        }
        assert!(worst < 5e-5, "{worst}");
    }
}
