//! Matrices in bytes: each row is divided by a scale of its own, so that its largest number is 127 or -127.

use crate::layout::{Init, ParameterSpec};

/// The largest byte that is used, so that bytes are as many on either side of 0.
const LARGEST: f32 = 127.0;

/// What follows the name of a matrix in the name of its scales.
pub const SCALE: &str = ".scale";

/// The scales of a matrix [rows, columns]: \[rows].
pub fn scale_spec(of: &ParameterSpec) -> ParameterSpec {
    ParameterSpec {
        name: format!("{}{SCALE}", of.name),
        shape: vec![of.shape[0]],
        decay: false,
        init: Init::Constant(0.0),
    }
}

/// A matrix whose rows have so many numbers, all of them finite, as bytes, and the scale of each row: `value ≈ byte · scale`,
/// off by half a scale at most. A row of zeros has the scale 0.
pub fn quantise(values: &[f32], row_len: usize) -> (Vec<i8>, Vec<f32>) {
    let rows = values.chunks_exact(row_len.max(1));
    let scale =
        |row: &[f32]| row.iter().fold(0.0, |most: f32, value| most.max(value.abs())) / LARGEST;
    let scales: Vec<f32> = rows.clone().map(scale).collect();
    let bytes = rows.zip(&scales).flat_map(|(row, &scale)| {
        // The scale of a row of the smallest numbers is 0 as well.
        let byte = move |value: &f32| if scale > 0.0 { (value / scale).round() as i8 } else { 0 };
        row.iter().map(byte)
    });
    (bytes.collect(), scales)
}

/// The numbers that bytes stand for.
pub fn dequantise(bytes: &[i8], scales: &[f32], row_len: usize) -> Vec<f32> {
    let rows = bytes.chunks_exact(row_len.max(1)).zip(scales);
    rows.flat_map(|(row, &scale)| row.iter().map(move |&byte| f32::from(byte) * scale)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_off_by_half_a_scale() {
        let values: Vec<f32> = (0..300)
            .map(|at| ((at * 37 % 101) as f32 - 50.0) * 10_f32.powi(at / 100 - 1))
            .collect();
        let (bytes, scales) = quantise(&values, 100);
        for (at, (value, byte)) in values.iter().zip(&bytes).enumerate() {
            let off = (value - f32::from(*byte) * scales[at / 100]).abs();
            assert!(off <= 0.501 * scales[at / 100], "{at}: {value}");
        }
        for (row, &scale) in bytes.chunks(100).zip(&scales) {
            assert_eq!(row.iter().map(|byte| byte.unsigned_abs()).max(), Some(127));
            assert!(scale > 0.0);
        }
        // What was bytes is the same bytes again.
        let again = quantise(&dequantise(&bytes, &scales, 100), 100);
        assert_eq!(again.0, bytes);
    }

    #[test]
    fn rows_of_zeros_and_of_the_smallest_numbers_are_zeros() {
        let (bytes, scales) = quantise(&[0.0, -0.0, 1e-45, -1e-45], 2);
        assert_eq!((bytes, scales), (vec![0; 4], vec![0.0; 2]));
    }
}
