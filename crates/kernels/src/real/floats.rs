//! What f32 and f64 do as [`Real`] numbers.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::Real;
use crate::gemm::Gemm;
use crate::{row, vector_math};

impl Real for f32 {
    const SERIES: i32 = 9;
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
    fn widen(halves: &[f16], out: &mut [Self]) {
        // The bias of the exponent is 112 less; as a factor, that makes subnormal halves right too.
        let factor = f32::from_bits((127 + 112) << 23);
        row::vectorised(
            #[inline(always)]
            || {
                for (out, half) in out.iter_mut().zip(halves) {
                    let bits = u32::from(half.to_bits());
                    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * factor;
                    *out = f32::from_bits(magnitude.to_bits() | (bits & 0x8000) << 16);
                }
            },
        );
    }
    fn widen_bytes(bytes: &[i8], out: &mut [Self]) {
        widen_bytes(bytes, out);
    }
    #[inline(always)]
    fn fast_exp(self) -> Self {
        vector_math::exp(self)
    }
    #[inline(always)]
    fn exp_m1_terms(self) -> [Self; 2] {
        vector_math::exp_m1_terms(self)
    }
    #[inline(always)]
    fn fast_ln_1p(self) -> Self {
        vector_math::ln_1p(self)
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
    #[inline]
    fn gemm() -> Gemm<Self> {
        gemm_f32::gemm::f32::get_gemm_fn()
    }
}

impl Real for f64 {
    const SERIES: i32 = 28;
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
    fn widen(halves: &[f16], out: &mut [Self]) {
        halves.convert_to_f64_slice(out);
    }
    fn widen_bytes(bytes: &[i8], out: &mut [Self]) {
        widen_bytes(bytes, out);
    }
    #[inline]
    fn fast_exp(self) -> Self {
        self.exp()
    }
    fn exp_m1_terms(self) -> [Self; 2] {
        let below = self.exp_m1();
        // x² / 2 · (1 + x / 3 · (1 + x / 4 · (1 + …))): a term more would change nothing.
        let series = || (3..20).rev().fold(1.0, |sum, k| 1.0 + self / f64::from(k) * sum);
        let rest = if self > -0.5 { 0.5 * self * self * series() } else { below - self };
        [below, rest]
    }
    #[inline]
    fn fast_ln_1p(self) -> Self {
        self.ln_1p()
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
    #[inline]
    fn gemm() -> Gemm<Self> {
        gemm_f64::gemm::f64::get_gemm_fn()
    }
}

fn widen_bytes<F: Real>(bytes: &[i8], out: &mut [F]) {
    row::vectorised(
        #[inline(always)]
        || {
            for (out, &byte) in out.iter_mut().zip(bytes) {
                *out = F::of(f32::from(byte));
            }
        },
    );
}

/// Φ(x) through erfc, which keeps the left tail that 1 + erf loses.
fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finite_half_is_widened_exactly() {
        let halves: Vec<f16> =
            (0..=u16::MAX).map(f16::from_bits).filter(|half| half.is_finite()).collect();
        let (mut single, mut double) = (vec![0.0_f32; halves.len()], vec![0.0_f64; halves.len()]);
        f32::widen(&halves, &mut single);
        f64::widen(&halves, &mut double);
        for ((half, single), double) in halves.iter().zip(single).zip(double) {
            assert_eq!(single.to_bits(), half.to_f32().to_bits());
            assert_eq!(double.to_bits(), half.to_f64().to_bits());
        }
    }
}
