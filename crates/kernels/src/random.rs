//! Counter-based random numbers: the same word for the same (key, counter) on every device.
//!
//! Threefry-2x32 with 20 rounds, from Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
//! easy as 1, 2, 3" (SC 2011). `shaders/common/random.wgsl` is its twin.

use crate::row::vectorised;

/// Streams keep the purposes a seed serves apart; dropout layers take `DROPOUT + layer`.
pub mod stream {
    /// Initial weights; the parameter's index is added.
    pub const WEIGHTS: u32 = 0x1000_0000;
    /// The order of the examples; the epoch is the counter's second word.
    pub const SHUFFLE: u32 = 0x2000_0000;
    /// Random shifts of images.
    pub const SHIFT: u32 = 0x3000_0000;
    /// Which tokens are masked.
    pub const MASKING: u32 = 0x5000_0000;
    /// Dropout masks; the layer's number is added.
    pub const DROPOUT: u32 = 0x4000_0000;
    /// Next tokens; the text's number is the counter's second word.
    pub const TOKENS: u32 = 0x6000_0000;
    /// Which steps of a training take the student's own texts, and the seeds of these texts.
    pub const ON_POLICY: u32 = 0x7000_0000;
}

/// Two random words for `key` and `counter`. Without a loop, so that a loop over it becomes vector instructions.
#[inline(always)]
pub fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    let keys = [key[0], key[1], 0x1BD1_1BDA ^ key[0] ^ key[1]];
    let add = |[x, y]: [u32; 2], group: u32, [first, second]: [usize; 2]| {
        [x.wrapping_add(keys[first]), y.wrapping_add(keys[second]).wrapping_add(group)]
    };
    let x = add(counter, 0, [0, 1]);
    let x = add(rounds::<13, 15, 26, 6>(x), 1, [1, 2]);
    let x = add(rounds::<17, 29, 16, 24>(x), 2, [2, 0]);
    let x = add(rounds::<13, 15, 26, 6>(x), 3, [0, 1]);
    let x = add(rounds::<17, 29, 16, 24>(x), 4, [1, 2]);
    add(rounds::<13, 15, 26, 6>(x), 5, [2, 0])
}

/// Four rounds with these rotations.
#[inline(always)]
fn rounds<const A: u32, const B: u32, const C: u32, const D: u32>(x: [u32; 2]) -> [u32; 2] {
    let round = |[x, y]: [u32; 2], rotation| {
        let x = x.wrapping_add(y);
        [x, y.rotate_left(rotation) ^ x]
    };
    round(round(round(round(x, A), B), C), D)
}

/// The word of element `index` at `step`: even and odd neighbours share one block.
#[inline]
pub fn word(seed: u32, stream: u32, step: u32, index: u32) -> u32 {
    threefry2x32([seed, stream], [index >> 1, step])[(index & 1) as usize]
}

/// The words of the elements from `first` on, indices taken modulo 2³².
pub(crate) fn words(seed: u32, stream: u32, step: u32, first: u32, out: &mut [u32]) {
    const LANES: usize = 16;
    let (odd, rest) = out.split_at_mut(((first & 1) as usize).min(out.len()));
    odd.iter_mut().for_each(|out| *out = word(seed, stream, step, first));
    let mut block = (first >> 1).wrapping_add(first & 1);
    vectorised(
        #[inline(always)]
        || {
            for out in rest.chunks_mut(2 * LANES) {
                let (mut even, mut odd) = ([0; LANES], [0; LANES]);
                for i in 0..LANES {
                    // An index has 32 bits, half of it 31.
                    let block = block.wrapping_add(i as u32) & (u32::MAX >> 1);
                    [even[i], odd[i]] = threefry2x32([seed, stream], [block, step]);
                }
                let mut words = [0; 2 * LANES];
                for i in 0..LANES {
                    (words[2 * i], words[2 * i + 1]) = (even[i], odd[i]);
                }
                out.copy_from_slice(&words[..out.len()]);
                block = block.wrapping_add(LANES as u32);
            }
        },
    );
}

/// The word as a number in [0, 1), exact in f32: its upper 24 bits.
#[inline(always)]
pub fn unit(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// A uniform permutation of `0..len` (Fisher-Yates), the same for the same seed and epoch.
pub fn permutation(len: usize, seed: u32, epoch: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..len as u32).collect();
    for i in (1..len).rev() {
        let word = word(seed, stream::SHUFFLE, epoch, i as u32);
        // Multiply-shift maps the word to 0..=i with a bias below 2^-32 · len.
        let j = (u64::from(word) * (i as u64 + 1)) >> 32;
        order.swap(i, j as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_published_vectors() {
        // Known answers of the authors' Random123 library.
        assert_eq!(threefry2x32([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        let ones = [u32::MAX; 2];
        assert_eq!(threefry2x32(ones, ones), [0x1cb9_96fc, 0xbb00_2be7]);
        let (key, counter) = ([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]);
        assert_eq!(threefry2x32(key, counter), [0xc492_3a9c, 0x483d_f7a0]);
    }

    #[test]
    fn words_are_each_element_s_word() {
        for first in [0, 1, 6, 7, u32::MAX - 4, u32::MAX - 5] {
            for len in [0, 1, 2, 33, 34] {
                let mut found = vec![0; len];
                words(1, 2, 3, first, &mut found);
                let expected = (0..len as u32).map(|i| word(1, 2, 3, first.wrapping_add(i)));
                assert!(found.into_iter().eq(expected), "{len} from {first}");
            }
        }
    }

    #[test]
    fn permutes_and_repeats() {
        let order = permutation(1000, 7, 3);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert!(sorted.iter().enumerate().all(|(i, &v)| i as u32 == v));
        assert_eq!(order, permutation(1000, 7, 3));
        assert_ne!(order, permutation(1000, 7, 4));
        assert_ne!(order, permutation(1000, 8, 3));
    }

    #[test]
    fn unit_is_uniform_enough() {
        let mean = (0..100_000).map(|i| f64::from(unit(word(1, 2, 3, i)))).sum::<f64>() / 1e5;
        assert!((mean - 0.5).abs() < 0.005, "mean {mean}");
    }
}
