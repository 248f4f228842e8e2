// What one outcome adds to a divergence Σ_j f(p_j, q_j) of the teacher's probabilities p and the student's q, and g = ∂f/∂q. The
// divergences stand at the head of distill_loss.wgsl.

//#import common/log1p.wgsl

// Which one, by the codes of crates/kernels/src/divergence.rs.
override DIVERGENCE: u32 = 0u;
const FORWARD_KL: u32 = 0u;
const REVERSE_KL: u32 = 1u;
const JSD: u32 = 2u;
const SKEW_KL: u32 = 3u;
const SKEW_REVERSE_KL: u32 = 4u;
const TOTAL_VARIATION: u32 = 5u;
const TAID: u32 = 6u;
const DECOUPLED_KL: u32 = 7u;

// Whether it is made of KLs of a target from the student.
fn is_forward() -> bool {
    return DIVERGENCE == FORWARD_KL || DIVERGENCE == TAID || DIVERGENCE == DECOUPLED_KL;
}

// The target's logits, of those of student and teacher.
fn target_of(s: Word, t: Word) -> Word {
    if DIVERGENCE == TAID {
        // A class that neither gives any probability may have infinite logits.
        return select(s + state.blend * (t - s), t, s == t);
    }
    return t;
}

// From here on e^-x is nothing beside 1.
const FAR: f32 = 100.0;

// e^-u - 1, and e^-u - 1 + u, of u >= 0.
struct Decay {
    below: Word,
    rest: Word,
}

fn decay(u: Word) -> Decay {
    let tail = 0.16666667 - u * (0.041666668 - u * (0.008333334 - u * 0.0013888889));
    let series = u * u * (0.5 - u * tail);
    let is_near = u < Word(0.25);
    let below = select(exp(-u) - 1.0, series - u, is_near);
    let rest = select(below + u, series, is_near);
    return Decay(below, rest);
}

// Σ_k (w - w^k) d^k c_k over k = 2 … 9, the c_k in two vectors, of w in (0, 1) and v = 1 - w.
fn rising_series(d: Word, w: Word, v: Word, low: vec4<f32>, high: vec4<f32>) -> Word {
    // (1 - w^n) / (1 - w)
    let s2 = 1.0 + w;
    let s3 = 1.0 + w * s2;
    let s4 = 1.0 + w * s3;
    let s5 = 1.0 + w * s4;
    let s6 = 1.0 + w * s5;
    let s7 = 1.0 + w * s6;
    let s8 = 1.0 + w * s7;
    let upper = high.x * s5 + d * (high.y * s6 + d * (high.z * s7 + d * (high.w * s8)));
    let sum = low.x + d * (low.y * s2 + d * (low.z * s3 + d * (low.w * s4 + d * upper)));
    return w * v * d * d * sum;
}

// Of the weights that a and b have in their mean, that of the smaller; x = ln a - ln b.
fn weight_of_smaller(x: Word, of_a: f32, of_b: f32) -> Word {
    return select(Word(of_a), Word(of_b), x >= Word());
}

// ln(a / m) of the mean m = of_a a + of_b b; x = ln a - ln b, below = e^-|x| - 1.
fn log_in_mean(x: Word, below: Word, of_a: f32, of_b: f32) -> Word {
    return min(x, Word()) - log1p(weight_of_smaller(x, of_a, of_b) * below);
}

// Of the larger of two probabilities and the smaller, which is it times r = e^-u, with weights 1 - w and w:
//   (1 - w) ln(1 / m) + w r ln(r / m), m = 1 - w + w r
// in shares of the larger. With d = 1 - r it is Σ_k (w - w^k) d^k / (k (k - 1)).
fn jensen(below: Word, u: Word, w: Word) -> Word {
    let d = -below;
    let v = 1.0 - w;
    let low = vec4<f32>(0.5, 0.16666667, 0.083333336, 0.05);
    let high = vec4<f32>(0.033333335, 0.023809524, 0.017857144, 0.013888889);
    let near = rising_series(d, w, v, low, high);
    let far = -(1.0 - w * d) * log1p(-w * d) - w * (1.0 - d) * min(u, Word(FAR));
    return select(far, near, u < Word(0.25));
}

// a ln(a / b) - a + b, which is never negative, in shares of the larger of a and b; x = ln a - ln b.
fn excess(x: Word) -> Word {
    let bounded = select(x, Word(-FAR), x < Word(-FAR));
    let made = decay(abs(bounded));
    return select(made.rest, bounded * made.below - made.rest, bounded < Word());
}

struct Outcome {
    // The outcome's part of the divergence, in shares of the larger of p and q. None is negative: what they sum to is the
    // divergence, as p and q both sum to one.
    part: Word,
    // g, but for a number that is the same for all outcomes.
    slope: Word,
}

// Of a skew KL, Σ a ln(a / m) with m = skew a + (1 - skew) b, of which a is p and b is q, or the other way round.
//   g of p ln(p / m)  -(1 - skew) p / m          is (1 - skew)² (q - p) / m, and -(1 - skew)
//   g of q ln(q / m)  ln(q / m) - skew q / m     is ln(q / m) - skew (1 - skew) (q - p) / m, and -skew
fn skewed(x: Word, below: Word, skew: f32) -> Outcome {
    let rest = 1.0 - skew;
    var own = x;
    if DIVERGENCE == SKEW_KL {
        own = -x;
    }
    let log_share = log_in_mean(own, below, skew, rest);
    let mean = 1.0 + weight_of_smaller(own, skew, rest) * below;
    let gap = select(-below, below, x < Word()) / mean;
    let part = excess(log_share) * select(Word(1.0), mean, own < Word());
    if DIVERGENCE == SKEW_KL {
        return Outcome(part, rest * rest * gap);
    }
    return Outcome(part, log_share - skew * rest * gap);
}

// Of x = ln q - ln p, below = e^-|x| - 1, and the divergence's number.
fn outcome_of(x: Word, below: Word, share: f32) -> Outcome {
    if DIVERGENCE == REVERSE_KL {
        return Outcome(excess(x), x);
    }
    if DIVERGENCE == SKEW_KL || DIVERGENCE == SKEW_REVERSE_KL {
        return skewed(x, below, share);
    }
    if DIVERGENCE == TOTAL_VARIATION {
        return Outcome(-0.5 * below, 0.5 * sign(x));
    }
    // share is β, the weight of p.
    let of_q = 1.0 - share;
    let part = jensen(below, abs(x), weight_of_smaller(x, of_q, share));
    return Outcome(part, of_q * log_in_mean(x, below, of_q, share));
}
