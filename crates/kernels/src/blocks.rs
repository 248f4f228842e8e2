//! Quantised numbers in blocks, as GGUF files have them, in whole words: bit for bit ggml's, but that a block of 34, 18, 22 or
//! 210 bytes begins or ends in a word of its own for its scale.

use rayon::prelude::*;

use crate::{Real, row};

/// How blocks of numbers are written. The names are ggml's.
#[allow(non_camel_case_types, reason = "ggml's own names")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blocks {
    /// The upper 16 bits of f32, two numbers a word.
    BF16,
    /// A scale in f32, and 32 numbers of 8 bits.
    Q8_0,
    /// A scale in f16, and 32 numbers of 4 bits.
    Q4_0,
    /// A scale and a least number in f16, and 32 numbers of 4 bits.
    Q4_1,
    /// A scale in f16, and 32 numbers of 5 bits, the fifth bits in a word of their own.
    Q5_0,
    /// A scale and a least number in f16, and 32 numbers of 5 bits, as above.
    Q5_1,
    /// Two scales in f16, scales and least numbers of 8 parts in 6 bits each, and 256 numbers of 4 bits.
    Q4_K,
    /// The same with 256 numbers of 5 bits, the fifth bits first.
    Q5_K,
    /// The low 4 and the high 2 bits of 256 numbers, 16 scales in 8 bits, and theirs in f16.
    Q6_K,
}

/// The most numbers of a block.
const MOST: usize = 256;

impl Blocks {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::BF16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
    ];

    /// Numbers of a block.
    pub const fn numbers(self) -> usize {
        match self {
            Self::BF16 => 2,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => 32,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => MOST,
        }
    }

    /// Words of a block.
    pub const fn words(self) -> usize {
        match self {
            Self::BF16 => 1,
            Self::Q8_0 => 9,
            Self::Q4_0 | Self::Q4_1 => 5,
            Self::Q5_0 | Self::Q5_1 => 6,
            Self::Q4_K => 36,
            Self::Q5_K => 44,
            Self::Q6_K => 53,
        }
    }

    /// Bytes of a block in a file.
    pub const fn file_bytes(self) -> usize {
        match self {
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q5_0 => 22,
            Self::Q6_K => 210,
            _ => 4 * self.words(),
        }
    }

    /// Its name, as GGUF files have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BF16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q4_K => "q4_k",
            Self::Q5_K => "q5_k",
            Self::Q6_K => "q6_k",
        }
    }

    /// The shader file with its reader.
    pub(crate) const fn reader(self) -> &'static str {
        match self {
            Self::BF16 => "common/blocks_bf16",
            Self::Q8_0 => "common/blocks_q8_0",
            Self::Q4_0 => "common/blocks_q4_0",
            Self::Q4_1 => "common/blocks_q4_1",
            Self::Q5_0 => "common/blocks_q5_0",
            Self::Q5_1 => "common/blocks_q5_1",
            Self::Q4_K => "common/blocks_q4_k",
            Self::Q5_K => "common/blocks_q5_k",
            Self::Q6_K => "common/blocks_q6_k",
        }
    }

    /// Appends the words of whole blocks of a file.
    pub fn pack(self, blocks: &[u8], words: &mut Vec<u32>) {
        let word = |bytes: &[u8]| {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            u32::from_le_bytes(word)
        };
        for block in blocks.chunks_exact(self.file_bytes()) {
            let rest = match self {
                Self::Q8_0 => {
                    let scale = half::f16::from_le_bytes([block[0], block[1]]);
                    words.push(scale.to_f32().to_bits());
                    &block[2..]
                }
                Self::Q4_0 | Self::Q5_0 => {
                    words.push(word(&block[..2]));
                    &block[2..]
                }
                _ => block,
            };
            words.extend(rest.chunks(4).map(word));
        }
    }

    /// The numbers of blocks from number `first` on: as many as `out` has room for.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn widen<F: Real>(self, words: &[u32], first: usize, out: &mut [F]) {
        row::vectorised(
            #[inline(always)]
            || self.widen_here(words, first, out),
        );
    }

    /// The first number of whole blocks that is none, and its place.
    pub fn first_not_finite(self, words: &[u32]) -> Option<(usize, f32)> {
        const TOGETHER: usize = 1 << 12;
        let piece = TOGETHER / self.numbers() * self.words();
        words.par_chunks(piece).enumerate().find_map_first(|(number, words)| {
            let mut values = [0.0_f32; TOGETHER];
            let values = &mut values[..words.len() / self.words() * self.numbers()];
            self.widen(words, 0, values);
            let at = values.iter().position(|value| !value.is_finite())?;
            Some((number * TOGETHER + at, values[at]))
        })
    }

    #[inline(always)]
    fn widen_here<F: Real>(self, words: &[u32], first: usize, out: &mut [F]) {
        let len = self.numbers();
        let (mut block, mut skipped) = (first / len, first % len);
        let mut numbers = [0.0; MOST];
        let mut rest = out;
        while !rest.is_empty() {
            let words = &words[block * self.words()..][..self.words()];
            let numbers = &mut numbers[..len];
            self.block(words, numbers);
            let (now, later) = rest.split_at_mut(rest.len().min(len - skipped));
            let there = now.iter_mut().zip(&numbers[skipped..]);
            there.for_each(|(out, &number)| *out = F::of(number));
            (rest, block, skipped) = (later, block + 1, 0);
        }
    }

    /// The numbers of one block.
    #[inline(always)]
    fn block(self, words: &[u32], out: &mut [f32]) {
        match self {
            Self::BF16 => {
                out[0] = f32::from_bits(words[0] << 16);
                out[1] = f32::from_bits(words[0] & 0xffff_0000);
            }
            Self::Q8_0 => {
                let scale = f32::from_bits(words[0]);
                let bytes: &[i8] = bytemuck::cast_slice(&words[1..9]);
                for (out, &byte) in out.iter_mut().zip(bytes) {
                    *out = scale * f32::from(byte);
                }
            }
            Self::Q4_0 => {
                let scale = half(words[0]);
                nibbles(&words[1..5], 0, |q| scale * (q - 8.0), out);
            }
            Self::Q4_1 => {
                let [scale, least] = halves(words[0]);
                nibbles(&words[1..5], 0, |q| scale * q + least, out);
            }
            Self::Q5_0 => {
                let scale = half(words[0]);
                nibbles(&words[2..6], words[1], |q| scale * (q - 16.0), out);
            }
            Self::Q5_1 => {
                let [scale, least] = halves(words[0]);
                nibbles(&words[2..6], words[1], |q| scale * q + least, out);
            }
            Self::Q4_K => parts(words, None, &words[4..36], out),
            Self::Q5_K => parts(words, Some(&words[4..12]), &words[12..44], out),
            Self::Q6_K => sixes(words, out),
        }
    }
}

/// The number in f16 in a word's low half.
fn half(word: u32) -> f32 {
    half::f16::from_bits(word as u16).to_f32()
}

/// Those in both halves.
fn halves(word: u32) -> [f32; 2] {
    [half(word), half(word >> 16)]
}

/// 32 numbers of 4 bits, the low halves of 16 bytes before the high ones, each with a fifth bit.
#[inline(always)]
fn nibbles(words: &[u32], fifth: u32, value: impl Fn(f32) -> f32, out: &mut [f32]) {
    let bytes: &[u8] = bytemuck::cast_slice(words);
    let bit = |at: usize| ((fifth >> at) & 1) << 4;
    let (low, high) = out.split_at_mut(16);
    for at in 0..16 {
        low[at] = value((u32::from(bytes[at] & 15) | bit(at)) as f32);
        high[at] = value((u32::from(bytes[at] >> 4) | bit(at + 16)) as f32);
    }
}

/// A block of Q4_K or Q5_K: four times 64 numbers, the low halves of 32 bytes before the high ones.
#[inline(always)]
fn parts(words: &[u32], fifth: Option<&[u32]>, low: &[u32], out: &mut [f32]) {
    let [d, dmin] = halves(words[0]);
    let bytes: &[u8] = bytemuck::cast_slice(low);
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let [scale, least] = scale_and_least(&words[1..4], part);
        let (scale, least) = (d * scale as f32, dmin * least as f32);
        let bytes = &bytes[part / 2 * 32..][..32];
        let shift = part % 2 * 4;
        match fifth {
            None => {
                for (out, byte) in out.iter_mut().zip(bytes) {
                    *out = scale * f32::from(byte >> shift & 15) - least;
                }
            }
            Some(fifth) => {
                let fifth: &[u8] = bytemuck::cast_slice(fifth);
                for ((out, byte), bits) in out.iter_mut().zip(bytes).zip(fifth) {
                    let quant = (byte >> shift & 15) | (bits >> part & 1) << 4;
                    *out = scale * f32::from(quant) - least;
                }
            }
        }
    }
}

/// The scale and the least number, six bits each, of one of eight parts.
#[inline(always)]
fn scale_and_least(words: &[u32], part: usize) -> [u32; 2] {
    let [first, second, third] = [0, 1, 2].map(|word| words[word] >> (part % 4 * 8) & 255);
    if part < 4 {
        return [first & 63, second & 63];
    }
    [third & 15 | first >> 6 << 4, third >> 4 | second >> 6 << 4]
}

/// A block of Q6_K: two times 128 numbers, in four rows of 32 whose low bits share 64 bytes and high ones 32.
#[inline(always)]
fn sixes(words: &[u32], out: &mut [f32]) {
    let d = half(words[52]);
    let bytes: &[u8] = bytemuck::cast_slice(words);
    for (part, out) in out.chunks_exact_mut(32).enumerate() {
        let (of_two, of_four) = (part / 4, part % 4);
        let low = &bytes[of_two * 64 + of_four % 2 * 32..][..32];
        let high = &bytes[128 + of_two * 32..][..32];
        for (at, out) in out.iter_mut().enumerate() {
            let quant = low[at] >> (of_four / 2 * 4) & 15 | (high[at] >> (of_four * 2) & 3) << 4;
            let scale = f32::from(bytes[192 + part * 2 + at / 16] as i8);
            *out = d * scale * (f32::from(quant) - 32.0);
        }
    }
}
