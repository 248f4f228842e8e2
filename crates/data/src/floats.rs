//! Floats of a safetensors file, whatever their width.

use safetensors::Dtype;

/// The values of little-endian bytes as f32: exactly, but for f64, which is rounded; nothing of another dtype.
pub fn floats(dtype: Dtype, data: &[u8]) -> Option<Vec<f32>> {
    Some(match dtype {
        Dtype::F32 => words(data).map(f32::from_le_bytes).collect(),
        Dtype::F64 => words(data).map(|word| f64::from_le_bytes(word) as f32).collect(),
        Dtype::F16 => words(data).map(|word| half(u16::from_le_bytes(word))).collect(),
        Dtype::BF16 => words(data).map(|word| brain(u16::from_le_bytes(word))).collect(),
        _ => return None,
    })
}

/// The values of a tensor, as little-endian bytes.
pub(crate) fn words<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    data.as_chunks::<N>().0.iter().copied()
}

/// An f16 (IEEE 754 binary16) as f32, exactly.
pub(crate) fn half(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let (exponent, fraction) = (u32::from(bits >> 10) & 0x1f, u32::from(bits) & 0x3ff);
    let magnitude = match exponent {
        // Zero and subnormals: fraction · 2^-24.
        0 => (fraction as f32 * (1.0 / 16_777_216.0)).to_bits(),
        // Infinity and NaN.
        0x1f => 0x7f80_0000 | fraction << 13,
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// A bf16, the upper half of an f32, as f32.
fn brain(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}
