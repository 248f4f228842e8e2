//! The number types a CPU twin runs in.

/// f32 (the fallback device) or f64 (the oracle).
pub trait Real:
    num_traits::Float
    + std::iter::Sum
    + std::ops::AddAssign
    + std::ops::MulAssign
    + Default
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// From an f32 parameter, exactly.
    fn of(value: f32) -> Self;
    /// From an f64 constant, rounded.
    fn of64(value: f64) -> Self;
    /// To f64, exactly.
    fn f64(self) -> f64;
    /// The complementary error function.
    fn erfc(self) -> Self;
    /// e to the power of self: std's in f64; in f32 off by at most 2 ulp, and made so that a loop over it
    /// becomes vector instructions.
    fn fast_exp(self) -> Self;
}

impl Real for f32 {
    #[inline]
    fn of(value: f32) -> Self {
        value
    }
    #[inline]
    fn of64(value: f64) -> Self {
        value as f32
    }
    #[inline]
    fn f64(self) -> f64 {
        f64::from(self)
    }
    fn erfc(self) -> Self {
        libm::erfcf(self)
    }
    #[inline(always)]
    fn fast_exp(self) -> Self {
        exp(self)
    }
}

impl Real for f64 {
    #[inline]
    fn of(value: f32) -> Self {
        f64::from(value)
    }
    #[inline]
    fn of64(value: f64) -> Self {
        value
    }
    #[inline]
    fn f64(self) -> f64 {
        self
    }
    fn erfc(self) -> Self {
        libm::erfc(self)
    }
    #[inline]
    fn fast_exp(self) -> Self {
        self.exp()
    }
}

/// e^x = 2^n · e^r with n = round(x / ln 2), so that |r| <= ln 2 / 2; no branch, no call, no table.
///
/// The split of ln 2 and the polynomial are those of Cephes' `expf` (Moshier 1989). The rounding is the
/// addition of 1.5 · 2^23, which leaves n in the low bits of the sum. 2^n goes in as two factors: it is out of
/// range itself where e^x is just below infinity or subnormal. NaN stays NaN.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const P: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    // Beyond these e^x is 0 and infinity.
    let x = if x < -104.0 { -104.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN_2[0] - n * LN_2[1];
    let series = P[1..].iter().fold(P[0], |sum, p| sum * r + p);
    let exp_r = series * (r * r) + r + 1.0;
    let n = rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = n >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    exp_r * power(half) * power(n.wrapping_sub(half))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulp_of_every_binade() {
        // Every 101st number of either sign up to the largest exponent, subnormal results included.
        for bits in (0..0x42d0_0000_u32).step_by(101).flat_map(|bits| [bits, bits | 1 << 31]) {
            let x = f32::from_bits(bits);
            let exact = f64::from(x).exp();
            if exact > f64::from(f32::MAX) {
                assert_eq!(exp(x), f32::INFINITY, "{x}");
                continue;
            }
            let rounded = exact as f32;
            let ulp = f64::from(f32::from_bits(rounded.to_bits() + 1)) - f64::from(rounded);
            let error = (f64::from(exp(x)) - exact).abs() / ulp;
            assert!(error <= 2.0, "exp({x}) is off by {error} ulp");
        }
    }

    #[test]
    fn exp_has_its_limits() {
        assert_eq!([0.0, -0.0, f32::NEG_INFINITY, -1e30].map(exp), [1.0, 1.0, 0.0, 0.0]);
        assert_eq!([f32::INFINITY, 1e30, 88.8].map(exp), [f32::INFINITY; 3]);
        assert!(exp(88.7) < f32::INFINITY && exp(-103.0) > 0.0);
        assert!(exp(f32::NAN).is_nan() && exp(-f32::NAN).is_nan());
    }
}
