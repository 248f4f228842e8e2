//! Counter-based random numbers: the same word for the same (key, counter) on every device.
//!
//! Threefry-2x32 with 20 rounds, from Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
//! easy as 1, 2, 3" (SC 2011). `shaders/common/random.wgsl` is its twin.

use std::array::from_fn;

use crate::row::vectorised;

/// Streams keep the purposes a seed serves apart; dropout layers take `DROPOUT + layer`.
pub mod stream {
    /// Initial weights; the parameter's index is added.
    pub const WEIGHTS: u32 = 0x1000_0000;
    /// The order of the examples; the epoch is the counter's second word.
    pub const SHUFFLE: u32 = 0x2000_0000;
    /// Random shifts of images.
    pub const SHIFT: u32 = 0x3000_0000;
    /// Dropout masks; the layer's number is added.
    pub const DROPOUT: u32 = 0x4000_0000;
}

const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];

/// Two random words for `key` and `counter`.
#[inline]
pub fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    let [[x], [y]] = threefry(key, counter.map(|word| [word]));
    [x, y]
}

/// The generator for `N` counters side by side: their first words, and their second ones.
#[inline(always)]
fn threefry<const N: usize>(key: [u32; 2], [mut x, mut y]: [[u32; N]; 2]) -> [[u32; N]; 2] {
    let keys = [key[0], key[1], 0x1BD1_1BDA ^ key[0] ^ key[1]];
    let add = |words: &mut [u32; N], key: u32| {
        words.iter_mut().for_each(|word| *word = word.wrapping_add(key));
    };
    add(&mut x, keys[0]);
    add(&mut y, keys[1]);
    for group in 0..5_usize {
        for round in 0..4 {
            let rotation = ROTATIONS[(group % 2) * 4 + round];
            for (x, y) in x.iter_mut().zip(&mut y) {
                *x = x.wrapping_add(*y);
                *y = y.rotate_left(rotation) ^ *x;
            }
        }
        add(&mut x, keys[(group + 1) % 3]);
        add(&mut y, keys[(group + 2) % 3].wrapping_add(group as u32 + 1));
    }
    [x, y]
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
                // An index has 32 bits, half of it 31.
                let blocks = from_fn(|i| block.wrapping_add(i as u32) & (u32::MAX >> 1));
                let [even, odd] = threefry([seed, stream], [blocks, [step; LANES]]);
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
