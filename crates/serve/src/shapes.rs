//! The shapes that a model's batches have: one of few lengths, one of few numbers of rows.

use distil_gpu_engine::data::text::buckets;

/// Numbers of rows that batches may have.
pub const ROWS: [usize; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];

/// A model's batches: for each length, the numbers of rows that there are plans for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes {
    lengths: Vec<usize>,
    rows: Vec<Vec<usize>>,
    /// Whether shorter texts may be padded to the length of longer ones: no bit of an answer depends on that.
    mixes: bool,
}

/// The lengths that texts of at most `max_length` tokens are padded to, rising; a single 0 of a model of numbers. Long
/// ones are further apart than when data are measured, so that plans stay few.
pub fn lengths(max_length: usize) -> Vec<usize> {
    let mut lengths = Vec::new();
    let mut length = 0;
    while length < max_length {
        let next = match length {
            0..512 => buckets::rounded(length + 1, max_length),
            512..2048 => length + 256,
            _ => length + 1024,
        };
        length = next.min(max_length);
        lengths.push(length);
    }
    if lengths.is_empty() { vec![0] } else { lengths }
}

/// The numbers of rows of batches of this length within a budget of tokens; one at least.
pub fn rows_within(length: usize, budget: usize) -> Vec<usize> {
    let fits = |rows: &usize| *rows == 1 || rows * length.max(1) <= budget;
    ROWS.into_iter().filter(fits).collect()
}

impl Shapes {
    /// Shapes of these lengths, rising, each with its numbers of rows, rising.
    ///
    /// # Panics
    /// When there is no length, or one without rows.
    pub fn new(shapes: Vec<(usize, Vec<usize>)>, mixes: bool) -> Self {
        let (lengths, rows): (Vec<_>, Vec<Vec<_>>) = shapes.into_iter().unzip();
        assert!(!lengths.is_empty() && rows.iter().all(|rows| !rows.is_empty()));
        Self { lengths, rows, mixes }
    }

    /// Which length is that of texts with so many tokens.
    pub fn bucket(&self, tokens: usize) -> usize {
        self.lengths.partition_point(|&length| length < tokens).min(self.lengths.len() - 1)
    }

    /// That length.
    pub fn length(&self, bucket: usize) -> usize {
        self.lengths[bucket]
    }

    /// The most texts of a batch of this length.
    pub fn most(&self, bucket: usize) -> usize {
        self.rows[bucket].last().copied().unwrap_or(1)
    }

    /// The fewest rows that there is a plan for and that have room for so many texts.
    pub fn rows(&self, bucket: usize, texts: usize) -> usize {
        let rows = &self.rows[bucket];
        rows.iter().copied().find(|&rows| rows >= texts).unwrap_or_else(|| self.most(bucket))
    }

    /// Whether texts of one bucket may be in a batch of another, longer one.
    pub fn mixes(&self) -> bool {
        self.mixes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_has_a_bucket_that_holds_it() {
        for most in [1, 3, 4, 16, 31, 64, 128, 500, 512, 513, 2048, 8192] {
            let lengths = lengths(most);
            assert!(lengths.is_sorted_by(|a, b| a < b), "{lengths:?}");
            assert_eq!(lengths.last(), Some(&most));
            assert!(lengths.len() <= 40, "{}", lengths.len());
            let shapes = Shapes::new(lengths.iter().map(|&l| (l, vec![1])).collect(), true);
            for tokens in 1..=most {
                let bucket = shapes.bucket(tokens);
                assert!(shapes.length(bucket) >= tokens);
                assert!(bucket == 0 || shapes.length(bucket - 1) < tokens);
            }
        }
        assert_eq!(lengths(0), [0]);
        // As offline, where lengths are those of data that are measured.
        for length in 1..=512 {
            let expected = buckets::rounded(length, 512);
            assert!(lengths(512).contains(&expected), "{expected}");
        }
    }

    #[test]
    fn rows_keep_to_the_budget() {
        assert_eq!(rows_within(64, 256), [1, 2, 3, 4]);
        assert_eq!(rows_within(512, 256), [1], "one text is always read");
        assert_eq!(rows_within(0, 4096), ROWS);
        let shapes = Shapes::new(vec![(8, vec![2, 4]), (16, vec![1])], false);
        assert_eq!((shapes.rows(0, 1), shapes.rows(0, 3), shapes.rows(0, 9)), (2, 4, 4));
        assert_eq!((shapes.most(0), shapes.most(1)), (4, 1));
    }
}
