//! The number types a CPU twin runs in.

mod floats;

use half::f16;

use crate::gemm::Gemm;

/// f32 (the fallback device) or f64 (the oracle).
///
/// The functions here are std's or libm's in f64; in f32 they are made so that a loop over them becomes vector
/// instructions, and are off by some units in the last place.
pub trait Real:
    num_traits::Float
    + bytemuck::Pod
    + std::iter::Sum
    + std::ops::AddAssign
    + std::ops::MulAssign
    + Default
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
    /// Last power of a series in numbers of at most 0.23, none of whose terms is negative: the rest is below 1e-5 of it in f32,
    /// where it is one of a row's many parts, and a rounding in f64.
    const SERIES: i32;
    /// From an f32 parameter, exactly.
    fn of(value: f32) -> Self;
    /// From an f64 constant, rounded.
    fn of64(value: f64) -> Self;
    /// To f64, exactly.
    fn f64(self) -> f64;
    /// Finite halves as numbers of this type, exactly; both slices are of one length.
    fn widen(halves: &[f16], out: &mut [Self]);
    /// Bytes as numbers of this type; both slices are of one length.
    fn widen_bytes(bytes: &[i8], out: &mut [Self]);
    /// e to the power of self; in f32 within 1 ulp.
    fn fast_exp(self) -> Self;
    /// e^x - 1 and e^x - 1 - x of self x <= 0, both without cancellation near 0; in f32 within 3 and 16 ulp.
    fn exp_m1_terms(self) -> [Self; 2];
    /// ln(1 + self) of self > -1; in f32 within 4 ulp, and below 2^23 only.
    fn fast_ln_1p(self) -> Self;
    /// The hyperbolic tangent; in f32 within 2 ulp.
    fn fast_tanh(self) -> Self;
    /// x · Φ(x), Φ being the standard normal distribution's cumulative function; in f32 within 6 ulp from -12.9 on, and
    /// 0 below.
    fn gelu(self) -> Self;
    /// The derivative of [`Self::gelu`]; in f32 within 4 ulp of the larger of its two summands.
    fn gelu_derivative(self) -> Self;
    /// The product of matrices that is fastest on this processor.
    fn gemm() -> Gemm<Self>;
}
