//! Random numbers to verify with, and how far two results are apart.
//!
//! Values are `Vec<f64>` on the host: exact for the f64 oracle, and for f32 devices whenever the numbers
//! came from [`random`].

use distil_gpu_kernels::random::{unit, word};
use half::f16;

/// Numbers in [-1, 1), exact in f32; the same for the same `salt`.
pub fn random(len: usize, salt: u32) -> Vec<f64> {
    (0..len as u32).map(|i| f64::from(unit(word(20, salt, 0, i))) * 2.0 - 1.0).collect()
}

/// Numbers in `low..high`, rounded to f32.
pub fn random_in(low: f64, high: f64, len: usize, salt: u32) -> Vec<f64> {
    let scaled = |v: f64| f64::from((low + (high - low) * (v + 1.0) / 2.0) as f32);
    random(len, salt).into_iter().map(scaled).collect()
}

/// Whole numbers in `0..bound`.
pub fn random_labels(len: usize, bound: usize, salt: u32) -> Vec<i32> {
    let whole = |v: f64| (v as i32).min(bound as i32 - 1);
    random_in(0.0, bound as f64, len, salt).into_iter().map(whole).collect()
}

/// f64 to f32.
pub fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

/// What f16 has of them; infinities where they are beyond it.
pub fn rounded_to_f16(values: &[f64]) -> Vec<f64> {
    values.iter().map(|&v| f16::from_f64(v).to_f64()).collect()
}

/// Distance of two numbers; a NaN is at no distance from a NaN, and infinitely far from anything else.
pub fn distance(found: f64, expected: f64) -> f64 {
    if found == expected || (found.is_nan() && expected.is_nan()) {
        return 0.0;
    }
    let distance = (found - expected).abs();
    if distance.is_nan() { f64::INFINITY } else { distance }
}

/// Normalised mean square error: Σ (found - expected)² / Σ expected².
///
/// # Panics
/// When the lengths differ.
pub fn nmse(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let error: f64 = found.iter().zip(expected).map(|(&f, &e)| distance(f, e).powi(2)).sum();
    let power: f64 = expected.iter().filter(|e| !e.is_nan()).map(|e| e * e).sum();
    if error == 0.0 { 0.0 } else { error / power }
}
