//! Rows of numbers as a cache stores them.

use half::f16;
use serde::{Deserialize, Serialize};

/// How the numbers of answers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowFormat {
    /// As they are.
    F32,
    /// Rounded to 16 bits.
    F16,
    /// In bytes, each 32 numbers of a row with a scale in f16: the largest of them is ±127.
    Int8,
}

/// Numbers that share a scale.
pub const BLOCK: usize = 32;
/// The largest byte.
const MOST: f32 = 127.0;

impl RowFormat {
    /// Every one with its name.
    pub const NAMES: [(&'static str, Self); 3] =
        [("f32", Self::F32), ("f16", Self::F16), ("int8", Self::Int8)];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, format)| format)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }

    /// Scales of a row of so many numbers.
    pub fn scales(self, width: usize) -> usize {
        if self == Self::Int8 { width.div_ceil(BLOCK) } else { 0 }
    }

    /// Bytes of rows [rows, width], and of their scales [rows, scales]; else which number cannot be stored so.
    ///
    /// # Errors
    /// When a number is not finite, or beyond f16 where that is used.
    pub fn encode(self, rows: &[f32], width: usize) -> Result<[Vec<u8>; 2], String> {
        if let Some(value) = rows.iter().find(|value| !value.is_finite()) {
            return Err(format!("the teacher answers {value}, which is no number to learn from"));
        }
        let half = |value: f32| -> Result<[u8; 2], String> {
            match f16::from_f32(value) {
                half if half.is_finite() => Ok(half.to_le_bytes()),
                _ => Err(format!(
                    "the teacher answers {value}, and f16 ends at 65504: store its answers in f32"
                )),
            }
        };
        match self {
            Self::F32 => Ok([bytemuck::cast_slice(rows).to_vec(), Vec::new()]),
            Self::F16 => {
                let halves =
                    rows.iter().map(|value| half(*value)).collect::<Result<Vec<_>, _>>()?;
                Ok([halves.concat(), Vec::new()])
            }
            Self::Int8 => {
                let (mut bytes, mut scales) = (Vec::with_capacity(rows.len()), Vec::new());
                for block in rows.chunks_exact(width).flat_map(|row| row.chunks(BLOCK)) {
                    let largest = block.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                    let scale = half(largest / MOST)?;
                    scales.extend(scale);
                    let scale = f16::from_le_bytes(scale).to_f32();
                    let byte = |value: &f32| match scale {
                        0.0 => 0,
                        _ => (value / scale).round().clamp(-MOST, MOST) as i8,
                    };
                    bytes.extend(block.iter().map(|value| byte(value).to_le_bytes()[0]));
                }
                Ok([bytes, scales])
            }
        }
    }

    /// The numbers that such bytes stand for.
    ///
    /// # Panics
    /// When there are not as many numbers as bytes, or scales, stand for.
    pub fn decode(self, [bytes, scales]: [&[u8]; 2], width: usize, rows: &mut [f32]) {
        let half = |bytes: &[u8; 2]| f16::from_le_bytes(*bytes).to_f32();
        match self {
            Self::F32 => {
                let (values, _) = bytes.as_chunks::<4>();
                assert_eq!(values.len(), rows.len());
                rows.iter_mut()
                    .zip(values)
                    .for_each(|(row, value)| *row = f32::from_le_bytes(*value));
            }
            Self::F16 => {
                let (values, _) = bytes.as_chunks::<2>();
                assert_eq!(values.len(), rows.len());
                rows.iter_mut().zip(values).for_each(|(row, value)| *row = half(value));
            }
            Self::Int8 => {
                assert_eq!(bytes.len(), rows.len());
                let (scales, _) = scales.as_chunks::<2>();
                assert_eq!(scales.len() * width, self.scales(width) * rows.len());
                let of_rows = rows.chunks_exact_mut(width).zip(bytes.chunks_exact(width));
                let blocks = of_rows
                    .flat_map(|(rows, bytes)| rows.chunks_mut(BLOCK).zip(bytes.chunks(BLOCK)));
                for ((rows, bytes), scale) in blocks.zip(scales) {
                    let scale = half(scale);
                    let of_bytes = rows.iter_mut().zip(bytes);
                    of_bytes.for_each(|(row, byte)| {
                        *row = f32::from(i8::from_le_bytes([*byte])) * scale;
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(format: RowFormat, rows: &[f32], width: usize) -> Vec<f32> {
        let [bytes, scales] = format.encode(rows, width).unwrap();
        let mut found = vec![f32::NAN; rows.len()];
        format.decode([&bytes, &scales], width, &mut found);
        found
    }

    /// Numbers that look random, of sizes from 1e-4 to 1e3.
    fn rows(len: usize) -> Vec<f32> {
        let value =
            |i: usize| ((i * 7919 % 1013) as f32 - 506.0) * 10_f32.powi(i as i32 / 40 % 8 - 5);
        (0..len).map(value).collect()
    }

    #[test]
    fn numbers_come_back_as_near_as_their_bits_allow() {
        for width in [1, 31, 32, 33, 100] {
            let rows = rows(7 * width);
            assert_eq!(there_and_back(RowFormat::F32, &rows, width), rows);
            for (found, row) in there_and_back(RowFormat::F16, &rows, width).iter().zip(&rows) {
                // Half a unit of ten bits, or of the smallest subnormal number.
                assert!((found - row).abs() <= row.abs() / 2048.0 + 3e-8, "{found} {row}");
            }
            let found = there_and_back(RowFormat::Int8, &rows, width);
            let pairs = found.chunks(width).zip(rows.chunks(width));
            for (found, rows) in pairs.flat_map(|(f, r)| f.chunks(BLOCK).zip(r.chunks(BLOCK))) {
                let largest = rows.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
                for (found, row) in found.iter().zip(rows) {
                    // Half a step, and the scale's own rounding 127 times.
                    let bound = largest * (0.5 / 127.0 + 1.0 / 2048.0) + 4e-6;
                    assert!((found - row).abs() <= bound, "{found} {row} of {largest}");
                }
            }
        }
        assert_eq!(there_and_back(RowFormat::Int8, &[0.0; 64], 64), [0.0; 64]);
    }

    #[test]
    fn what_cannot_be_stored_is_refused() {
        for format in RowFormat::NAMES.map(|(_, format)| format) {
            assert!(format.encode(&[1.0, f32::NAN], 2).unwrap_err().contains("NaN"));
            assert!(format.encode(&[f32::INFINITY], 1).unwrap_err().contains("inf"));
        }
        assert!(RowFormat::F32.encode(&[1e9], 1).is_ok());
        assert!(RowFormat::F16.encode(&[1e5], 1).unwrap_err().contains("store its answers in f32"));
        assert!(RowFormat::Int8.encode(&[1e5], 1).is_ok());
        assert!(RowFormat::Int8.encode(&[1e8], 1).is_err());
    }

    #[test]
    fn every_format_has_a_name() {
        for (name, format) in RowFormat::NAMES {
            assert_eq!((RowFormat::named(name), format.name()), (Some(format), name));
        }
    }
}
