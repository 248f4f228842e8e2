//! Batches of texts of about the same length, so that little of them is padding.

use distil_gpu_kernels::random;

/// Batches that are sorted by length among themselves: enough for little padding, few enough for chance.
const WINDOW: usize = 32;

/// The length that a batch is padded to whose longest text has `length` tokens: one of few, so that few plans are
/// compiled, and near, so that little is padding.
pub fn rounded(length: usize, max_length: usize) -> usize {
    let step = match length {
        0..=32 => 4,
        33..=64 => 8,
        65..=128 => 16,
        129..=256 => 32,
        _ => 64,
    };
    length.next_multiple_of(step).clamp(1, max_length.max(1))
}

/// An epoch's batches of `rows` texts, in random order: ⌈texts / rows⌉ of them, the same for the same seed and
/// epoch.
pub fn shuffled(lengths: &[usize], rows: usize, seed: u32, epoch: u32) -> Vec<Vec<u32>> {
    let mut order = random::permutation(lengths.len(), seed, epoch);
    for window in order.chunks_mut(WINDOW * rows) {
        window.sort_by_key(|&row| lengths[row as usize]);
    }
    let batches: Vec<&[u32]> = order.chunks(rows).collect();
    // Else an epoch would go from short texts to long ones, window by window.
    let order = random::permutation(batches.len(), !seed, epoch);
    order.iter().map(|&index| batches[index as usize].to_vec()).collect()
}

/// All texts, from the shortest to the longest.
pub fn sorted(lengths: &[usize]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..lengths.len() as u32).collect();
    order.sort_by_key(|&row| lengths[row as usize]);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths as sentences have them: few very short, most in the middle, some long.
    fn lengths(count: u32) -> Vec<usize> {
        let unit = |stream, i| random::unit(random::word(3, stream, 0, i));
        (0..count).map(|i| 4 + (30.0 * (unit(1, i) + unit(2, i))) as usize).collect()
    }

    /// Batches in random order, and by length.
    fn both(lengths: &[usize], rows: usize) -> [Vec<Vec<u32>>; 2] {
        let sorted = sorted(lengths).chunks(rows).map(<[u32]>::to_vec).collect();
        [shuffled(lengths, rows, 1, 2), sorted]
    }

    /// What the texts of a batch are padded to.
    fn padded(batch: &[u32], lengths: &[usize], most: usize) -> usize {
        rounded(batch.iter().map(|&row| lengths[row as usize]).max().unwrap(), most)
    }

    #[test]
    fn every_text_is_in_one_batch() {
        for count in [1, 5, 64, 1000] {
            let lengths = lengths(count);
            for batches in both(&lengths, 16) {
                assert_eq!(batches.len(), (count as usize).div_ceil(16));
                let mut all: Vec<u32> = batches.concat();
                all.sort_unstable();
                assert!(all.into_iter().eq(0..count));
                assert!(batches.iter().all(|b| padded(b, &lengths, 48) <= 48 && b.len() <= 16));
            }
        }
    }

    #[test]
    fn order_follows_seed_and_epoch() {
        let lengths = lengths(500);
        let of = |seed, epoch| shuffled(&lengths, 8, seed, epoch);
        assert_eq!(of(1, 2), of(1, 2));
        assert_ne!(of(1, 2), of(1, 3));
        assert_ne!(of(1, 2), of(2, 2));
    }

    #[test]
    fn little_is_padding() {
        let lengths = lengths(8000);
        for batches in both(&lengths, 32) {
            let padded: usize = batches.iter().map(|b| padded(b, &lengths, 128) * b.len()).sum();
            let tokens: usize = lengths.iter().sum();
            let share = 1.0 - tokens as f64 / padded as f64;
            assert!(share < 0.1, "{share:.3} of the tokens are padding");
        }
    }
}
