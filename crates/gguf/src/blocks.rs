//! Blocks of quantised numbers, as ggml lays them out and reckons with them, bit for bit.

use half::{bf16, f16};

macro_rules! types {
    ($($name:ident = $id:literal, $len:literal, $bytes:literal;)*) => {
        /// How a tensor's numbers are written. All types have a name and a size, so that a file's offsets can be
        /// checked; [`dequantise`] reads those that [`TensorType::is_read`] tells.
        #[allow(non_camel_case_types, missing_docs, reason = "ggml's own names")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum TensorType { $($name),* }

        impl TensorType {
            /// The type of a number in a file.
            pub fn from_id(id: u32) -> Option<Self> {
                match id { $($id => Some(Self::$name),)* _ => None }
            }

            /// Its number in a file.
            pub fn id(self) -> u32 {
                match self { $(Self::$name => $id),* }
            }

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }

            /// How many numbers a block has.
            pub fn block_len(self) -> usize {
                match self { $(Self::$name => $len),* }
            }

            /// How many bytes a block takes.
            pub fn block_bytes(self) -> usize {
                match self { $(Self::$name => $bytes),* }
            }
        }
    };
}

types! {
    F32 = 0, 1, 4; F16 = 1, 1, 2; Q4_0 = 2, 32, 18; Q4_1 = 3, 32, 20; Q5_0 = 6, 32, 22; Q5_1 = 7, 32, 24;
    Q8_0 = 8, 32, 34; Q8_1 = 9, 32, 40; Q2_K = 10, 256, 84; Q3_K = 11, 256, 110; Q4_K = 12, 256, 144;
    Q5_K = 13, 256, 176; Q6_K = 14, 256, 210; Q8_K = 15, 256, 292; IQ2_XXS = 16, 256, 66; IQ2_XS = 17, 256, 74;
    IQ3_XXS = 18, 256, 98; IQ1_S = 19, 256, 50; IQ4_NL = 20, 32, 18; IQ3_S = 21, 256, 110; IQ2_S = 22, 256, 82;
    IQ4_XS = 23, 256, 136; I8 = 24, 1, 1; I16 = 25, 1, 2; I32 = 26, 1, 4; I64 = 27, 1, 8; F64 = 28, 1, 8;
    IQ1_M = 29, 256, 56; BF16 = 30, 1, 2; TQ1_0 = 34, 256, 54; TQ2_0 = 35, 256, 66; MXFP4 = 39, 32, 17;
    NVFP4 = 40, 64, 36; Q1_0 = 41, 128, 18;
}

impl TensorType {
    /// How many bytes a tensor of this shape, the slowest dimension first, takes; none where its rows are no whole
    /// blocks, a dimension is 0 or the size is beyond what a machine addresses.
    pub fn bytes(self, shape: &[usize]) -> Option<usize> {
        let row = shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(self.block_len()) || shape.contains(&0) {
            return None;
        }
        let elements = shape.iter().try_fold(1_usize, |product, &n| product.checked_mul(n))?;
        // Room for f32 must be addressable too.
        elements.checked_mul(4).filter(|&bytes| isize::try_from(bytes).is_ok())?;
        (elements / self.block_len()).checked_mul(self.block_bytes())
    }

    /// Whether [`dequantise`] reads it.
    pub fn is_read(self) -> bool {
        use TensorType::*;
        matches!(self, F32 | F16 | BF16 | Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | Q4_K | Q5_K | Q6_K)
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Appends the numbers of whole blocks; false, and nothing, where the type is not read here.
pub fn dequantise(kind: TensorType, blocks: &[u8], values: &mut Vec<f32>) -> bool {
    let each = blocks.chunks_exact(kind.block_bytes());
    match kind {
        TensorType::F32 => {
            values.extend(each.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
        }
        TensorType::F16 => values.extend(each.map(|b| half_at(b, 0))),
        TensorType::BF16 => values.extend(each.map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())),
        TensorType::Q4_0 => {
            each.for_each(|b| nibbles(&b[2..], 0, |q| half_at(b, 0) * (f32::from(q) - 8.0), values))
        }
        TensorType::Q4_1 => each.for_each(|b| {
            let (d, m) = (half_at(b, 0), half_at(b, 2));
            nibbles(&b[4..], 0, |q| d * f32::from(q) + m, values);
        }),
        TensorType::Q5_0 => each.for_each(|b| {
            let (d, fifth) = (half_at(b, 0), u32::from_le_bytes([b[2], b[3], b[4], b[5]]));
            nibbles(&b[6..], fifth, |q| d * (f32::from(q) - 16.0), values);
        }),
        TensorType::Q5_1 => each.for_each(|b| {
            let (d, m) = (half_at(b, 0), half_at(b, 2));
            let fifth = u32::from_le_bytes([b[4], b[5], b[6], b[7]]);
            nibbles(&b[8..], fifth, |q| d * f32::from(q) + m, values);
        }),
        TensorType::Q8_0 => each.for_each(|b| {
            let d = half_at(b, 0);
            values.extend(b[2..].iter().map(|&q| f32::from(q as i8) * d));
        }),
        TensorType::Q4_K => each.for_each(|b| pairs(b, None, &b[16..], values)),
        TensorType::Q5_K => each.for_each(|b| pairs(b, Some(&b[16..48]), &b[48..], values)),
        TensorType::Q6_K => each.for_each(|b| sixes(b, values)),
        _ => return false,
    }
    true
}

/// 32 numbers of 4 bits, the low halves of 16 bytes before the high ones, each with a fifth bit.
fn nibbles(bytes: &[u8], fifth: u32, value: impl Fn(u8) -> f32, values: &mut Vec<f32>) {
    let bit = |at: usize| ((fifth >> at) as u8 & 1) << 4;
    values.extend(bytes[..16].iter().enumerate().map(|(at, byte)| value(byte & 15 | bit(at))));
    values.extend(bytes[..16].iter().enumerate().map(|(at, byte)| value(byte >> 4 | bit(at + 16))));
}

/// The scale and the minimum, six bits each, of one of eight parts of a block of Q4_K or Q5_K.
pub(crate) fn scale_and_min(packed: &[u8], part: usize) -> (u8, u8) {
    if part < 4 {
        return (packed[part] & 63, packed[part + 4] & 63);
    }
    let scale = packed[part + 4] & 15 | packed[part - 4] >> 6 << 4;
    let min = packed[part + 4] >> 4 | packed[part] >> 6 << 4;
    (scale, min)
}

/// A block of Q4_K or Q5_K: four times 64 numbers, the low halves of 32 bytes before the high ones.
fn pairs(block: &[u8], fifth: Option<&[u8]>, low: &[u8], values: &mut Vec<f32>) {
    let (d, dmin) = (half_at(block, 0), half_at(block, 2));
    for part in 0..8 {
        let (scale, min) = scale_and_min(&block[4..16], part);
        let (d, m) = (d * f32::from(scale), dmin * f32::from(min));
        for at in 0..32 {
            let quant = low[part / 2 * 32 + at] >> (part % 2 * 4) & 15;
            let bit = fifth.map_or(0, |bits| (bits[at] >> part & 1) << 4);
            values.push(d * f32::from(quant | bit) - m);
        }
    }
}

/// A block of Q6_K: two times 128 numbers, in four rows of 32 whose low bits share 64 bytes and high ones 32.
fn sixes(block: &[u8], values: &mut Vec<f32>) {
    let d = half_at(block, 208);
    for part in 0..8 {
        let (half, row) = (part / 4, part % 4);
        for at in 0..32 {
            let low = block[half * 64 + row % 2 * 32 + at] >> (row / 2 * 4) & 15;
            let high = block[128 + half * 32 + at] >> (row * 2) & 3;
            let scale = block[192 + part * 2 + at / 16] as i8;
            values.push(d * f32::from(scale) * (f32::from(low | high << 4) - 32.0));
        }
    }
}

/// What matrices are written as.
#[allow(non_camel_case_types, reason = "ggml's own names")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits.
    F32,
    /// 16 bits.
    F16,
    /// The upper 16 bits of 32.
    BF16,
    /// Blocks of 32 numbers of 8 bits with a scale of 16.
    Q8_0,
    /// Blocks of 256 numbers of 4 bits, in 8 parts with a scale and a least number of 6 bits each.
    Q4_K,
}

impl Precision {
    /// The type of a tensor written so.
    pub fn kind(self) -> TensorType {
        match self {
            Self::F32 => TensorType::F32,
            Self::F16 => TensorType::F16,
            Self::BF16 => TensorType::BF16,
            Self::Q8_0 => TensorType::Q8_0,
            Self::Q4_K => TensorType::Q4_K,
        }
    }

    /// llama.cpp's number of a file whose matrices are so (`general.file_type`).
    pub(crate) fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::BF16 => 32,
            Self::Q8_0 => 7,
            Self::Q4_K => 14,
        }
    }
}

/// Appends the blocks of these numbers, whose count is a multiple of the block's length.
pub fn quantise(precision: Precision, values: &[f32], blocks: &mut Vec<u8>) {
    match precision {
        Precision::F32 => blocks.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        Precision::F16 => {
            blocks.extend(values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()))
        }
        Precision::BF16 => {
            blocks.extend(values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()))
        }
        Precision::Q8_0 => {
            for block in values.chunks_exact(32) {
                let largest = block.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
                let scale = largest / 127.0;
                let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
                blocks.extend(f16::from_f32(scale).to_le_bytes());
                blocks.extend(block.iter().map(|v| (v * inverse).round() as i8 as u8));
            }
        }
        Precision::Q4_K => {
            values.as_chunks::<256>().0.iter().for_each(|block| put_q4_k(block, blocks))
        }
    }
}

/// Appends a block of Q4_K: of each 32 numbers `x ≈ scale · q - least`, q from 0 to 15, scale and least number in 63rds of
/// the largest of the block.
fn put_q4_k(values: &[f32; 256], blocks: &mut Vec<u8>) {
    let fits: Vec<[f32; 2]> = values.as_chunks::<32>().0.iter().map(fit).collect();
    let largest = |of: usize| fits.iter().fold(0.0_f32, |most, fit| most.max(fit[of]));
    let unit = [largest(0), largest(1)].map(|most| f16::from_f32(most / 63.0));
    let sixths = |value: f32, unit: f16| match unit.to_f32() {
        0.0 => 0,
        unit => (value / unit).round().clamp(0.0, 63.0) as u8,
    };
    let packed: Vec<[u8; 2]> =
        fits.iter().map(|fit| [sixths(fit[0], unit[0]), sixths(fit[1], unit[1])]).collect();
    let mut header = [0_u8; 12];
    for (part, &[scale, least]) in packed.iter().enumerate() {
        if part < 4 {
            header[part] |= scale;
            header[part + 4] |= least;
        } else {
            header[part + 4] = scale & 15 | least << 4;
            header[part - 4] |= scale >> 4 << 6;
            header[part] |= least >> 4 << 6;
        }
    }
    blocks.extend(unit.iter().flat_map(|unit| unit.to_le_bytes()));
    blocks.extend(header);
    let quants: Vec<u8> = values
        .as_chunks::<32>()
        .0
        .iter()
        .zip(&packed)
        .flat_map(|(part, &[scale, least])| {
            let scale = unit[0].to_f32() * f32::from(scale);
            let least = unit[1].to_f32() * f32::from(least);
            part.map(|value| nearest(value, scale, least))
        })
        .collect();
    for [low, high] in quants.as_chunks::<32>().0.as_chunks::<2>().0 {
        blocks.extend(low.iter().zip(high).map(|(low, high)| low | high << 4));
    }
}

/// The q from 0 to 15 for which `scale · q - least` is nearest to a number.
fn nearest(value: f32, scale: f32, least: f32) -> u8 {
    if scale == 0.0 { 0 } else { ((value + least) / scale).round().clamp(0.0, 15.0) as u8 }
}

/// A scale and a least number, neither below 0, for 32 numbers: of several scales near the range's fifteenth, each with the
/// straight line that is best for the q it gives, the pair with the smallest error.
fn fit(values: &[f32; 32]) -> [f32; 2] {
    let low = values.iter().copied().fold(0.0_f32, f32::min);
    let high = values.iter().copied().fold(low, f32::max);
    let error = |[scale, least]: [f32; 2]| -> f32 {
        let off = |&value: &f32| scale * f32::from(nearest(value, scale, least)) - least - value;
        values.iter().map(|value| off(value).powi(2)).sum()
    };
    let start = [(high - low) / 15.0, -low];
    let mut best = (error(start), start);
    for tenths in -10..=10 {
        let scale = (high - low) / (15.0 + 0.1 * tenths as f32);
        let quants = values.map(|value| f32::from(nearest(value, scale, -low)));
        let mean = |of: &dyn Fn(usize) -> f32| (0..32).map(of).sum::<f32>() / 32.0;
        let (of_q, of_x) = (mean(&|at| quants[at]), mean(&|at| values[at]));
        let square = mean(&|at| (quants[at] - of_q).powi(2));
        if square > 0.0 {
            let slope = mean(&|at| (quants[at] - of_q) * (values[at] - of_x)) / square;
            let pair = [slope.max(0.0), (slope * of_q - of_x).max(0.0)];
            let own = error(pair);
            if own < best.0 {
                best = (own, pair);
            }
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_are_no_whole_blocks_are_none() {
        assert_eq!(TensorType::Q8_0.bytes(&[3, 64]), Some(3 * 2 * 34));
        assert_eq!(TensorType::Q8_0.bytes(&[64, 3]), None);
        assert_eq!(TensorType::Q4_K.bytes(&[2, 256]), Some(288));
        assert_eq!(TensorType::F32.bytes(&[]), Some(4));
        assert_eq!(TensorType::F32.bytes(&[0, 4]), None);
        assert_eq!(TensorType::F32.bytes(&[usize::MAX, 2]), None);
        assert_eq!(TensorType::F16.bytes(&[1 << 62]), None);
    }

    #[test]
    fn types_have_the_numbers_they_are_read_by() {
        let known: Vec<TensorType> = (0..64).filter_map(TensorType::from_id).collect();
        assert_eq!(known.len(), 34);
        assert!(known.iter().all(|kind| TensorType::from_id(kind.id()) == Some(*kind)));
        // What says that it is read is read, and nothing else.
        for kind in known {
            let mut values = Vec::new();
            let read = dequantise(kind, &vec![0; kind.block_bytes()], &mut values);
            assert_eq!(read, kind.is_read(), "{}", kind.name());
            assert_eq!(values.len(), if read { kind.block_len() } else { 0 });
        }
    }

    #[test]
    fn a_block_of_zeros_has_no_scale() {
        let mut blocks = Vec::new();
        quantise(Precision::Q8_0, &[0.0; 32], &mut blocks);
        assert_eq!(blocks, [0; 34]);
    }

    #[test]
    fn four_bits_are_off_by_little() {
        // Parts of very different size, one of positive numbers alone, one of zeros.
        let value = |at: usize| match at / 32 {
            6 => 0.0,
            part => {
                let wave = ((at * 37 % 64) as f32 / 32.0 - 1.0) * 1.7_f32.powi(part as i32);
                if part == 3 { wave.abs() + 2.0 } else { wave }
            }
        };
        let values: Vec<f32> = (0..512).map(|at| value(at % 256)).collect();
        let (mut blocks, mut found) = (Vec::new(), Vec::new());
        quantise(Precision::Q4_K, &values, &mut blocks);
        assert_eq!(blocks.len(), 288);
        assert!(dequantise(TensorType::Q4_K, &blocks, &mut found));
        for (part, (found, values)) in found.chunks(32).zip(values.chunks(32)).enumerate() {
            let range = values.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
            let most = 2.0 * range.max(if part % 8 < 4 { 2.0 } else { 0.0 }) / 15.0;
            for (found, value) in found.iter().zip(values) {
                assert!((found - value).abs() <= most, "{part}: {found} for {value}");
            }
        }
        assert!(found[6 * 32..7 * 32].iter().all(|&value| value == 0.0));
    }

    #[test]
    fn halves_are_rounded_away_from_zero() {
        let mut values = [0.0; 32];
        (values[0], values[1], values[2]) = (127.0, 0.5, -0.5);
        let mut blocks = Vec::new();
        quantise(Precision::Q8_0, &values, &mut blocks);
        assert_eq!(&blocks[..5], &[0x00, 0x3c, 127, 1, 0xff]);
    }
}
