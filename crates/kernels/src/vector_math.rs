//! Functions of f32 without a branch, a call or a table, so that a loop over them becomes vector instructions.
//!
//! The tests hold each to f64 over its whole range; the error is given in units in the last place (ulp). A fused
//! multiply-add is an instruction of every processor that [`crate::row::vectorised`] knows vectors of; elsewhere it is a
//! call, slower and with the same bits.

/// ln 2, and what it lacks as an f32.
const LN_2: [f32; 2] = [std::f32::consts::LN_2, -1.904_654_3e-9];
/// 1.5 · 2^23: a number of at most 2^22 added to it is rounded to an integer, which its low bits hold.
const ROUND: f32 = 12_582_912.0;

/// Of (e^r - 1 - r) / r² in r for |r| <= ln 2 / 2, the relative error of e^r equalised: 3.1e-9.
const EXP_REST: [f32; 5] =
    [1.381_447_6e-3, 8.368_781e-3, 4.166_839_4e-2, 1.666_652_1e-1, 4.999_999_3e-1];

/// The sum of `coefficients` times powers of x, the highest power first (Horner).
#[inline(always)]
fn polynomial(x: f32, coefficients: &[f32]) -> f32 {
    coefficients[1..].iter().fold(coefficients[0], |sum, &c| sum.mul_add(x, c))
}

/// e^(x + rest) for |x| < 126 ln 2 and a small rest, as e^r and n: the result is 2^n · e^r with n = round(x / ln 2), n
/// in the low bits, and |r| at most about ln 2 / 2.
#[inline(always)]
fn reduced_exp(x: f32, rest: f32) -> (f32, u32) {
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN_2[1], n.mul_add(-LN_2[0], x)) + rest;
    (polynomial(r, &EXP_REST).mul_add(r, 1.0).mul_add(r, 1.0), rounded.to_bits())
}

/// e^x - 1 and e^x - 1 - x for x <= 0, both without cancellation: within 3 and 16 ulp. NaN stays NaN.
///
/// With x = n ln 2 + r the second is 2^n · (e^r - 1 - r) + (2^n - 1) + (2^n · r - x): near 0, where n is 0, what would
/// cancel is 0.
#[inline(always)]
pub(crate) fn exp_m1_terms(x: f32) -> [f32; 2] {
    // Below it e^x is nothing beside 1.
    let near = if x < -87.0 { -87.0 } else { x };
    let rounded = near.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN_2[1], n.mul_add(-LN_2[0], near));
    let bits = rounded.to_bits().wrapping_sub(ROUND.to_bits());
    let power = f32::from_bits(bits.wrapping_add(127) << 23);
    let rest = power * (r * r * polynomial(r, &EXP_REST));
    let below = power - 1.0;
    [rest + power.mul_add(r, below), rest + (below + power.mul_add(r, -x))]
}

/// e^x within 1 ulp. NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Beyond these e^x is 0 and infinity.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let (exp_r, n) = reduced_exp(x, 0.0);
    // 2^n goes in as two factors: it is out of range itself where e^x is just below infinity or subnormal.
    let n = n.wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    exp_r * power(half) * power(n.wrapping_sub(half))
}

/// ln(1 + y) of y > -1 and below 2^23, within 4 ulp. NaN stays NaN.
///
/// With 1 + y = 2^k (1 + f), f from √½ - 1 to √2 - 1, it is k ln 2 + 2 artanh(f / (2 + f)); where k is 0, f is y itself, which
/// the sum rounds.
#[inline(always)]
pub(crate) fn ln_1p(y: f32) -> f32 {
    // Of (artanh s / s - 1) / s² in s².
    const P: [f32; 4] = [1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0];
    const ROOT_HALF: u32 = std::f32::consts::FRAC_1_SQRT_2.to_bits();
    let bits = (1.0 + y).to_bits().wrapping_add(1.0_f32.to_bits() - ROOT_HALF);
    let power = bits >> 23;
    let scaled = f32::from_bits((bits & 0x007f_ffff) + ROOT_HALF);
    let f = if power == 127 { y } else { scaled - 1.0 };
    let k = power as i32 as f32 - 127.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let tail = z * polynomial(z, &P);
    let sum = k.mul_add(LN_2[0], (2.0 * s).mul_add(tail, k * LN_2[1]) + 2.0 * s);
    if y.is_nan() { y } else { sum }
}

/// tanh x within 2 ulp. NaN stays NaN.
///
/// Near 0 a polynomial, elsewhere 1 - 2 / (e^2|x| + 1).
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    // Of (tanh x - x) / x³ in x², the relative error of tanh x equalised over |x| <= 0.625: 4.4e-9.
    const P: [f32; 5] =
        [-5.704_984e-3, 2.063_908_5e-2, -5.373_971_4e-2, 1.333_144_2e-1, -3.333_328e-1];
    let square = x * x;
    let near = (x * square).mul_add(polynomial(square, &P), x);
    let far = 1.0 - 2.0 / (exp(2.0 * x.abs()) + 1.0);
    let result = if x.abs() < 0.625 { near } else { far };
    result.copysign(x)
}

/// Where Φ(-a) comes near the smallest normal number: it counts as 0 from here on.
const END: f32 = 12.9;

/// The standard normal distribution at a = |x|: Φ(-a), and the density's e^(-a²/2). Beyond [`END`] both are as there,
/// so that no number of another size slows the processor down.
///
/// Φ(-a) = e^(-a²/2) · R(a), where R falls slowly from 1/2. What a² loses by rounding is added to the exponent; it would
/// cost a²/2 ulp.
#[inline(always)]
fn normal_tail(a: f32) -> [f32; 2] {
    let a = if a > END { END } else { a };
    // R(a) = e^(a²/2) · erfc(a/√2) / 2 as P / Q, the relative error equalised over 0 <= a <= 13.3: 5.0e-9.
    const P: [f32; 5] = [4.020_187_6e-3, 3.998_415e-2, 1.813_066_8e-1, 4.356_862e-1, 5e-1];
    const Q: [f32; 6] =
        [1.007_697_3e-2, 1.002_327_8e-1, 4.643_801_4e-1, 1.194_483_9, 1.669_257_3, 1.0];
    let minus_half = -0.5 * a;
    let exponent = minus_half * a;
    let (exp_r, n) = reduced_exp(exponent, minus_half.mul_add(a, -exponent));
    let exp = f32::from_bits(exp_r.to_bits().wrapping_add(n << 23));
    [exp * (polynomial(a, &P) / polynomial(a, &Q)), exp]
}

/// x · Φ(x), Φ being the standard normal distribution's cumulative function, within 6 ulp from -12.9 on; 0 below.
/// NaN stays NaN.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    let a = x.abs();
    let [tail, _] = normal_tail(a);
    let part = if a > END { 0.0 } else { a * tail };
    let relu = if x < 0.0 { 0.0 } else { x };
    relu - part
}

/// The derivative of x · Φ(x): Φ(x) plus x times the density. Its error is within 4 ulp of the larger of the two; below
/// -12.9 it is 0 instead of at most 4e-36. NaN stays NaN.
#[inline(always)]
pub(crate) fn gelu_derivative(x: f32) -> f32 {
    let a = x.abs();
    let [tail, exp] = normal_tail(a);
    let part = (a * 0.398_942_3).mul_add(exp, -tail);
    let part = if a > END { 0.0 } else { part };
    if x < 0.0 { -part } else { 1.0 + part }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every 101st number of either sign up to `last`, subnormal ones included.
    fn numbers(last: f32) -> impl Iterator<Item = f32> {
        let bits = (0..last.to_bits()).step_by(101).flat_map(|bits| [bits, bits | 1 << 31]);
        bits.map(f32::from_bits)
    }

    /// How far `found` is from `exact`, in units in the last place of `exact` as an f32.
    fn ulps(found: f32, exact: f64) -> f64 {
        let rounded = (exact as f32).abs();
        let ulp = f64::from(f32::from_bits(rounded.to_bits() + 1)) - f64::from(rounded);
        (f64::from(found) - exact).abs() / ulp
    }

    #[test]
    fn exp_is_within_one_ulp() {
        let in_range = numbers(104.0).filter(|&x| f64::from(x).exp() <= f64::from(f32::MAX));
        let worst = in_range.map(|x| ulps(exp(x), f64::from(x).exp())).fold(0.0, f64::max);
        assert!(worst <= 1.0, "{worst}");
        assert!(numbers(104.0).all(|x| exp(x) == f32::INFINITY || x < 88.8));
    }

    #[test]
    fn exp_has_its_limits() {
        assert_eq!([0.0, -0.0, f32::NEG_INFINITY, -1e30].map(exp), [1.0, 1.0, 0.0, 0.0]);
        assert_eq!([f32::INFINITY, 1e30, 88.8].map(exp), [f32::INFINITY; 3]);
        assert!(exp(88.7) < f32::INFINITY && exp(-103.0) > 0.0);
        assert!(exp(f32::NAN).is_nan() && exp(-f32::NAN).is_nan());
    }

    /// e^x - 1 - x by its series where that is short, else from e^x - 1.
    fn rest(x: f64) -> f64 {
        let terms = (2..20).rev().fold(0.0, |sum, k| (1.0 + sum) * x / f64::from(k + 1));
        if x.abs() < 0.5 { 0.5 * x * x * (1.0 + terms) } else { x.exp_m1() - x }
    }

    #[test]
    fn what_is_left_of_exp_is_within_some_ulp() {
        // Below, the square is subnormal.
        let range = || numbers(1e6).filter(|x| *x <= -1e-18);
        let worst = |which: usize, exact: fn(f64) -> f64| {
            range().map(|x| ulps(exp_m1_terms(x)[which], exact(f64::from(x)))).fold(0.0, f64::max)
        };
        let errors = [worst(0, f64::exp_m1), worst(1, rest)];
        assert!(errors[0] <= 3.0 && errors[1] <= 16.0, "{errors:?}");
        assert_eq!(exp_m1_terms(0.0), [0.0; 2]);
        assert_eq!(exp_m1_terms(f32::NEG_INFINITY), [-1.0, f32::INFINITY]);
        assert!(exp_m1_terms(f32::NAN).iter().all(|term| term.is_nan()));
    }

    #[test]
    fn ln_1p_is_within_four_ulp() {
        let range = || numbers(1e6).filter(|y| *y > -1.0 && y.abs() >= f32::MIN_POSITIVE);
        let worst = range().map(|y| ulps(ln_1p(y), f64::from(y).ln_1p())).fold(0.0, f64::max);
        assert!(worst <= 4.0, "{worst}");
        assert_eq!(ln_1p(0.0), 0.0);
        assert!(ln_1p(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_within_two_ulp() {
        let worst = numbers(20.0).map(|x| ulps(tanh(x), f64::from(x).tanh())).fold(0.0, f64::max);
        assert!(worst <= 2.0, "{worst}");
        assert_eq!([f32::INFINITY, 1e30, -1e30].map(tanh), [1.0, 1.0, -1.0]);
        assert!(tanh(-0.0).is_sign_negative() && tanh(f32::NAN).is_nan());
    }

    fn cdf(x: f64) -> f64 {
        0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
    }

    #[test]
    fn gelu_is_within_six_ulp() {
        let worst = numbers(20.0)
            .filter(|&x| x > -END)
            .map(|x| ulps(gelu(x), f64::from(x) * cdf(f64::from(x))))
            .fold(0.0, f64::max);
        assert!(worst <= 6.0, "{worst}");
        assert_eq!([f32::INFINITY, 1e30, -0.0, 0.0].map(gelu), [f32::INFINITY, 1e30, 0.0, 0.0]);
        assert_eq!([f32::NEG_INFINITY, -1e30, -13.3].map(gelu), [0.0; 3]);
        assert!(gelu(f32::NAN).is_nan() && gelu(-f32::NAN).is_nan());
    }

    #[test]
    fn gelu_derivative_is_within_four_ulp_of_its_parts() {
        for x in numbers(20.0) {
            let exact = f64::from(x);
            let slope = exact * (-0.5 * exact * exact).exp() / std::f64::consts::TAU.sqrt();
            let error = (f64::from(gelu_derivative(x)) - cdf(exact) - slope).abs();
            let larger = cdf(exact).max(slope.abs()) as f32;
            let ulp = f32::from_bits(larger.to_bits() + 1) - larger;
            assert!(error <= (4.0 * f64::from(ulp)).max(4e-36), "{x}: {error}");
        }
        assert_eq!([f32::INFINITY, 1e30].map(gelu_derivative), [1.0; 2]);
        assert_eq!([f32::NEG_INFINITY, -1e30].map(gelu_derivative), [0.0; 2]);
        assert!(gelu_derivative(f32::NAN).is_nan());
    }
}
