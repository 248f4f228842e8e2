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
    /// KL(p ‖ m), m = α p + (1 - α) q, of Ko et al. 2024 (DistiLLM): at most ln(1 / α), however little the student
    /// gives a class that the teacher finds likely.
    SkewKl {
        /// α, the weight of the teacher's distribution in m, from 0.001 to 0.9: f32 loses the digits of what is near to m.
        skew: f32,
    },
    /// KL(q ‖ m), m = (1 - α) p + α q, of the same: at most ln(1 / α), also where the teacher excludes a class.
    SkewReverseKl {
        /// α, the weight of the student's distribution in m, from 0.001 to 0.9.
        skew: f32,
    },
    /// Σ |p - q| / 2, at most 1: every class draws with the same force, however close p and q are; 0 where they are the same.
    TotalVariation,
    /// KL(p' ‖ q), p' of the logits z' = z + λ (z_t - z) between the student's and the teacher's, z held fixed there, of Shing et
    /// al. 2025 (TAID): a target that is never far off. λ is [`StepState::blend`](crate::StepState::blend), and rises to 1.
    Taid {
        /// λ at the first step, from 0 to 1.
        start: f32,
    },
    /// α KL(p_y ‖ q_y) + β KL(p̂ ‖ q̂) of Zhao et al. 2022 (DKD): the label y against all other classes, and the others among
    /// themselves, p̂ and q̂ being their softmaxes without the label. KL itself is the sum with α = 1 and β = 1 - p_y, so that the
    /// others count least where the teacher is sure. A row without a label has the second part alone, of all classes.
    DecoupledKl {
        /// α, at least 0.
        target: f32,
        /// β, at least 0.
        others: f32,
    },
}

impl Divergence {
    /// One of every kind that is a sum over outcomes, forward KL first: what tests and verification run.
    pub const OF_OUTCOMES: [Self; 7] = [
        Self::ForwardKl,
        Self::ReverseKl,
        Self::Jsd { beta: 0.25 },
        Self::SkewKl { skew: 0.125 },
        Self::SkewReverseKl { skew: 0.125 },
        Self::TotalVariation,
        Self::Taid { start: 0.5 },
    ];

    /// One of every kind, for rows that have a label.
    pub fn each() -> impl Iterator<Item = Self> + Clone {
        let decoupled = Self::DecoupledKl { target: 0.75, others: 3.0 };
        Self::OF_OUTCOMES.into_iter().chain([decoupled])
    }

    /// Whether its numbers are in range.
    pub fn is_valid(self) -> bool {
        match self {
            Self::ForwardKl | Self::ReverseKl | Self::TotalVariation => true,
            Self::Jsd { beta } => (0.001..=0.999).contains(&beta),
            Self::SkewKl { skew } | Self::SkewReverseKl { skew } => (0.001..=0.9).contains(&skew),
            Self::Taid { start } => (0.0..=1.0).contains(&start),
            Self::DecoupledKl { target, others } => {
                [target, others].iter().all(|weight| (0.0..=1e4).contains(weight))
            }
        }
    }

    /// Whether it is the same sum over the outcomes of any distribution, of two as well, with nothing that a label decides.
    pub fn is_of_outcomes(self) -> bool {
        !matches!(self, Self::DecoupledKl { .. })
    }

    /// Whether it asks for the sign of q - p, however small: then the ratio of the softmaxes' denominators is always made better.
    pub(crate) fn is_of_signs(self) -> bool {
        self == Self::TotalVariation
    }

    /// What the shaders know it by.
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::ForwardKl => FORWARD_KL,
            Self::ReverseKl => REVERSE_KL,
            Self::Jsd { .. } => JSD,
            Self::SkewKl { .. } => SKEW_KL,
            Self::SkewReverseKl { .. } => SKEW_REVERSE_KL,
            Self::TotalVariation => TOTAL_VARIATION,
            Self::Taid { .. } => TAID,
            Self::DecoupledKl { .. } => DECOUPLED_KL,
        }
    }

    /// Whether it is made of KLs of a target from the student: the loss's gradient needs no sum then.
    pub(crate) fn is_forward(self) -> bool {
        matches!(self, Self::ForwardKl | Self::Taid { .. } | Self::DecoupledKl { .. })
    }

    /// λ when so much of the training is done, from 0 to 1: in proportion to the steps. 1 for all divergences but
    /// [`Self::Taid`].
    pub fn blend(self, done: f64) -> f32 {
        match self {
            Self::Taid { start } => (f64::from(start) + (1.0 - f64::from(start)) * done) as f32,
            _ => 1.0,
        }
    }

    /// The number that a mean of both has, the weight of the label against the others, or 0 where there is none.
    pub(crate) fn share(self) -> f32 {
        match self {
            Self::ForwardKl | Self::ReverseKl | Self::TotalVariation | Self::Taid { .. } => 0.0,
            Self::Jsd { beta } => beta,
            Self::SkewKl { skew } | Self::SkewReverseKl { skew } => skew,
            Self::DecoupledKl { target, .. } => target,
        }
    }

    /// The weight of the classes other than the label among themselves, or 0 where there is none.
    pub(crate) fn others(self) -> f32 {
        match self {
            Self::DecoupledKl { others, .. } => others,
            _ => 0.0,
        }
    }

    /// For the names of buckets: nothing for forward KL.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::ForwardKl => "",
            Self::ReverseKl => " reverse",
            Self::Jsd { .. } => " jsd",
            Self::SkewKl { .. } => " skew",
            Self::SkewReverseKl { .. } => " skew reverse",
            Self::TotalVariation => " variation",
            Self::Taid { .. } => " taid",
            Self::DecoupledKl { .. } => " decoupled",
        }
    }

    /// Operations of [`outcome`].
    pub(crate) fn flops(self) -> usize {
        match self {
            Self::ForwardKl => 0,
            Self::Taid { .. } => 2,
            Self::DecoupledKl { .. } => 12,
            Self::ReverseKl => 14,
            Self::Jsd { .. } => 50,
            Self::SkewKl { .. } | Self::SkewReverseKl { .. } => 40,
            Self::TotalVariation => 4,
        }
    }
}

pub(crate) const FORWARD_KL: u32 = 0;
pub(crate) const REVERSE_KL: u32 = 1;
pub(crate) const JSD: u32 = 2;
pub(crate) const SKEW_KL: u32 = 3;
pub(crate) const SKEW_REVERSE_KL: u32 = 4;
pub(crate) const TOTAL_VARIATION: u32 = 5;
pub(crate) const TAID: u32 = 6;
pub(crate) const DECOUPLED_KL: u32 = 7;

/// An expression in which a constant is the code of a divergence that is not [`Divergence::is_forward`], so that each has loops of its own: a
/// choice within a loop would keep it from becoming vector instructions.
macro_rules! with_code {
    ($divergence:expr, $code:ident => $made:expr) => {{
        use $crate::divergence::{JSD, REVERSE_KL, SKEW_KL, SKEW_REVERSE_KL, TOTAL_VARIATION};
        $crate::divergence::with_code!($divergence, $code => $made, [JSD, SKEW_KL, SKEW_REVERSE_KL, TOTAL_VARIATION], REVERSE_KL)
    }};
    ($divergence:expr, $code:ident => $made:expr, [$($one:ident),*], $last:ident) => {
        match $divergence.code() {
            $($one => {
                const $code: u32 = $one;
                $made
            })*
            _ => {
                const $code: u32 = $last;
                $made
            }
        }
    };
}
pub(crate) use with_code;

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
/// Jensen-Shannon divergence, in shares of the larger; `below` is e^-u - 1. As in `shaders/common/divergence.wgsl`.
#[inline(always)]
pub(crate) fn jensen<F: Real>(below: F, u: F, w: F) -> F {
    let far = F::of(100.0);
    let u_in_range = if u < far { u } else { far };
    let d = -below;
    let near = rising_series(d, w, F::one() - w, |k| 1.0 / (k * (k - 1.0)));
    let apart = -(F::one() - w * d) * (-w * d).fast_ln_1p() - w * (F::one() - d) * u_in_range;
    if u < F::of(0.25) { near } else { apart }
}

/// The logit of [`Divergence::Taid`]'s target between those of student and teacher, `blend` of the way. Infinite ones may be
/// the same.
#[inline(always)]
pub(crate) fn between<F: Real>(s: F, t: F, blend: F) -> F {
    if s == t { t } else { s + blend * (t - s) }
}

/// What the softmaxes of a row have in common, of e^((z - top) · scale · cold), student's before teacher's.
#[derive(Clone, Copy)]
pub(crate) struct Softmaxes<F> {
    /// The largest logits.
    pub(crate) tops: [F; 2],
    /// What logits are multiplied by: 1 unless they are standardised.
    pub(crate) scales: [F; 2],
    /// 1 / T.
    pub(crate) cold: F,
    /// Logarithms of the denominators, and of their ratio.
    pub(crate) log_sums: [F; 2],
    pub(crate) log_ratio: F,
}

/// The student's likeliest class: the teacher's logit less its largest, and the slope of its [`outcome`].
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

/// Of the weights that a and b have in their mean, that of the smaller; x = ln a - ln b.
#[inline(always)]
fn weight_of_smaller<F: Real>(x: F, [of_a, of_b]: [F; 2]) -> F {
    if x < F::zero() { of_a } else { of_b }
}

/// ln(a / m) of the mean m of a and b with these weights; x = ln a - ln b, `below` = e^-|x| - 1.
#[inline(always)]
fn log_in_mean<F: Real>(x: F, below: F, weights: [F; 2]) -> F {
    negative(x) - (weight_of_smaller(x, weights) * below).fast_ln_1p()
}

/// a ln(a / b) - a + b, which is never negative, in shares of the larger of a and b; x = ln a - ln b.
#[inline(always)]
fn excess<F: Real>(x: F) -> F {
    let far = F::of(-100.0);
    let bounded = if x < far { far } else { x };
    let [below, rest] = (-bounded.abs()).exp_m1_terms();
    if bounded < F::zero() { bounded * below - rest } else { rest }
}

/// Of x = ln q - ln p, `below` = e^-|x| - 1 and the divergence's number: the outcome's part of the divergence, in shares of the
/// larger of p and q, of which none is negative; and ∂f/∂q, but for a number that is the same for all outcomes. As in
/// `shaders/common/divergence.wgsl`.
#[inline(always)]
pub(crate) fn outcome<F: Real, const CODE: u32>(x: F, below: F, share: F) -> [F; 2] {
    match CODE {
        REVERSE_KL => [excess(x), x],
        SKEW_KL | SKEW_REVERSE_KL => {
            // `share` is α, the weight in m of p, or of q.
            let rest = F::one() - share;
            let is_of_q = CODE == SKEW_REVERSE_KL;
            let (own, weights) = (if is_of_q { x } else { -x }, [share, rest]);
            let log_share = log_in_mean(own, below, weights);
            // m, and (q - p) / m.
            let mean = F::one() + weight_of_smaller(own, weights) * below;
            let gap = if x < F::zero() { below / mean } else { -below / mean };
            let part = excess(log_share) * if own < F::zero() { mean } else { F::one() };
            let slope = if is_of_q { log_share - share * rest * gap } else { rest * rest * gap };
            [part, slope]
        }
        TOTAL_VARIATION => {
            let half = F::of(0.5);
            let above = if x > F::zero() { half } else { F::zero() };
            [-half * below, if x < F::zero() { -half } else { above }]
        }
        _ => {
            // `share` is β, the weight of p.
            let of_q = F::one() - share;
            let weights = [of_q, share];
            let part = jensen(below, x.abs(), weight_of_smaller(x, weights));
            [part, of_q * log_in_mean(x, below, weights)]
        }
    }
}

/// q - p and an outcome's part of KL(p ‖ q), of the logarithms of q and p and of x = ln q - ln p: the larger of q and p is never
/// lost, and the other is it times e^-|x|.
#[inline(always)]
fn forward_of<F: Real>([log_q, log_p]: [F; 2], x: F) -> (F, F) {
    let far = F::of(100.0);
    let x = if x > far { far } else { x };
    let larger = if log_q > log_p { log_q } else { log_p }.fast_exp();
    let [below, rest] = (-x.abs()).exp_m1_terms();
    let (difference, term) =
        if x < F::zero() { (below, rest) } else { (-below, -(x * below + rest)) };
    let is_none = larger == F::zero();
    let or_zero = |part: F| if is_none { F::zero() } else { larger * part };
    (or_zero(difference), or_zero(term))
}

/// ln(1 + e^v)
fn softplus<F: Real>(v: F) -> F {
    let above = if v > F::zero() { v } else { F::zero() };
    above + (-v.abs()).fast_exp().fast_ln_1p()
}

impl<F: Real> Softmaxes<F> {
    /// The logits as they are scaled, less the largest.
    #[inline(always)]
    fn scaled(self, s: F, t: F) -> (F, F) {
        ((s - self.tops[0]) * self.scales[0], (t - self.tops[1]) * self.scales[1])
    }

    /// q - p and a class's part of the forward KL, as in the shader: from x = ln q - ln p, which is a difference of logits
    /// less the logarithm of the denominators' ratio.
    #[inline(always)]
    pub(crate) fn forward(self, s: F, t: F) -> (F, F) {
        let (s, t) = self.scaled(s, t);
        let logs = [s * self.cold - self.log_sums[0], t * self.cold - self.log_sums[1]];
        forward_of(logs, (s - t) * self.cold - self.log_ratio)
    }

    /// Of logits of a class against those of all others, which the softmaxes are of: q - p of the class, and the KL of the two
    /// outcomes. As in the shader.
    pub(crate) fn against_others(self, s: F, t: F) -> (F, F) {
        let (s, t) = self.scaled(s, t);
        let odds = [s * self.cold - self.log_sums[0], t * self.cold - self.log_sums[1]];
        let d = (s - t) * self.cold - self.log_ratio;
        let [logs, rests] = [odds.map(|odds| -softplus(-odds)), odds.map(|odds| -softplus(odds))];
        let (x, x_rest) = if d.abs() < F::of(0.25) {
            // e^d - 1 and e^-d - 1.
            let [below, _] = (-d.abs()).exp_m1_terms();
            let above = -below / (F::one() + below);
            let (rise, fall) = if d < F::zero() { (below, above) } else { (above, below) };
            let x = -(rests[1].fast_exp() * fall).fast_ln_1p();
            (x, -(logs[1].fast_exp() * rise).fast_ln_1p())
        } else {
            (logs[0] - logs[1], rests[0] - rests[1])
        };
        let (difference, kl) = forward_of(logs, x);
        (difference, kl + forward_of(rests, x_rest).1)
    }

    /// q of a student's logit.
    #[inline(always)]
    pub(crate) fn q(self, s: F) -> F {
        ((s - self.tops[0]) * self.scales[0] * self.cold - self.log_sums[0]).fast_exp()
    }

    /// The student's likeliest class, whose logit of the teacher is `t`.
    pub(crate) fn best<const CODE: u32>(self, t: F, share: F) -> Best<F> {
        let t = (t - self.tops[1]) * self.scales[1];
        let x = -t * self.cold - self.log_ratio;
        let [below, _] = (-x.abs()).exp_m1_terms();
        let [_, slope] = outcome::<F, CODE>(x, below, share);
        Best { t, slope }
    }

    /// Of a class: q; q times ∂f/∂q, which is counted from that of the likeliest class; and the class's part of a divergence
    /// other than forward KL.
    #[inline(always)]
    pub(crate) fn graded<const CODE: u32>(self, s: F, t: F, share: F, best: Best<F>) -> [F; 3] {
        let zero = F::zero();
        let (s, t) = self.scaled(s, t);
        let (log_q, log_p) = (s * self.cold - self.log_sums[0], t * self.cold - self.log_sums[1]);
        let larger = if log_q > log_p { log_q } else { log_p }.fast_exp();
        let q = log_q.fast_exp();
        let x = (s - t) * self.cold - self.log_ratio;
        let [below, _] = (-x.abs()).exp_m1_terms();
        let [part, slope] = outcome::<F, CODE>(x, below, share);
        let is_best = (s == zero) & (t == best.t);
        let slope = if CODE == REVERSE_KL {
            // Logits differ by more digits than their distances from the denominators.
            (s - (t - best.t)) * self.cold
        } else if is_best {
            zero
        } else {
            slope - best.slope
        };
        let pull = if q == zero { zero } else { q * slope };
        [q, pull, if larger == zero { zero } else { larger * part }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_away_from_their_ends() {
        assert!(Divergence::each().all(Divergence::is_valid));
        let valid = |beta| Divergence::Jsd { beta }.is_valid();
        assert!(valid(0.001) && valid(0.5) && valid(0.999));
        let skewed = |skew| {
            let kinds = [Divergence::SkewKl { skew }, Divergence::SkewReverseKl { skew }];
            kinds.map(Divergence::is_valid)
        };
        assert_eq!([0.001, 0.1, 0.9].map(skewed), [[true; 2]; 3]);
        for number in [0.0, 1.0, -0.5, 1e-4, f32::NAN, f32::INFINITY] {
            assert!(!valid(number), "{number}");
            assert_eq!(skewed(number), [false; 2], "{number}");
        }
        assert_eq!(skewed(0.99), [false; 2]);
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
