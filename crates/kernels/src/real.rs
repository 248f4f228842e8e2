//! The number types a CPU twin runs in.

use crate::vector_math;

/// f32 (the fallback device) or f64 (the oracle).
///
/// The functions here are std's or libm's in f64; in f32 they are made so that a loop over them becomes vector
/// instructions, and are off by some units in the last place.
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
    /// e to the power of self; in f32 within 1 ulp.
    fn fast_exp(self) -> Self;
    /// The hyperbolic tangent; in f32 within 2 ulp.
    fn fast_tanh(self) -> Self;
    /// x · Φ(x), Φ being the standard normal distribution's cumulative function; in f32 within 6 ulp from -12.9 on, and
    /// 0 below.
    fn gelu(self) -> Self;
    /// The derivative of [`Self::gelu`]; in f32 within 4 ulp of the larger of its two summands.
    fn gelu_derivative(self) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn of(value: f32) -> Self {
        value
    }
    #[inline(always)]
    fn of64(value: f64) -> Self {
        value as f32
    }
    #[inline(always)]
    fn f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn fast_exp(self) -> Self {
        vector_math::exp(self)
    }
    #[inline(always)]
    fn fast_tanh(self) -> Self {
        vector_math::tanh(self)
    }
    #[inline(always)]
    fn gelu(self) -> Self {
        vector_math::gelu(self)
    }
    #[inline(always)]
    fn gelu_derivative(self) -> Self {
        vector_math::gelu_derivative(self)
    }
}

impl Real for f64 {
    #[inline(always)]
    fn of(value: f32) -> Self {
        f64::from(value)
    }
    #[inline(always)]
    fn of64(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn f64(self) -> f64 {
        self
    }
    #[inline]
    fn fast_exp(self) -> Self {
        self.exp()
    }
    #[inline]
    fn fast_tanh(self) -> Self {
        self.tanh()
    }
    fn gelu(self) -> Self {
        self * normal_cdf(self)
    }
    fn gelu_derivative(self) -> Self {
        const SCALE: f64 = 0.398_942_280_401_432_7;
        normal_cdf(self) + self * SCALE * (-0.5 * self * self).exp()
    }
}

/// Φ(x) through erfc, which keeps the left tail that 1 + erf loses.
fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}
