//! The shapes that a model's batches have: one of few lengths, one of few numbers of rows.

use std::ops::Range;

use distil_gpu_engine::data::text::buckets;

/// Numbers of rows that batches may have.
pub const ROWS: [usize; 10] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32];

/// A model's batches: for each length, the numbers of rows that there are plans for.
#[derive(Clone, Debug, PartialEq)]
pub struct Shapes {
    lengths: Vec<usize>,
    rows: Vec<Vec<usize>>,
    /// Whether shorter texts may be padded to the length of longer ones: no bit of an answer depends on that.
    mixes: bool,
    /// What a batch costs beside its tokens, in tokens.
    overhead: f64,
}

/// The overhead of a batch until it is measured, in tokens.
const OVERHEAD: f64 = 64.0;
/// The largest overhead that a measurement may say, in tokens.
const MOST_OVERHEAD: f64 = 4096.0;

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
        Self { lengths, rows, mixes, overhead: OVERHEAD }
    }

    /// What a batch costs beside its tokens, in tokens.
    pub fn set_overhead(&mut self, overhead: f64) {
        self.overhead = overhead;
    }

    /// The overhead of a batch by the times (seconds) of a small and a large one: time = c · (overhead + tokens). Where the
    /// large one is no slower, all is overhead.
    pub fn measured_overhead(small: (usize, f64), large: (usize, f64)) -> f64 {
        let ((few, short), (many, long)) = (small, large);
        if long <= short {
            return MOST_OVERHEAD;
        }
        let overhead = (short * many as f64 - long * few as f64) / (long - short);
        overhead.clamp(0.0, MOST_OVERHEAD)
    }

    /// What a batch of so many texts costs, in tokens: those of its rows, padding too, and its overhead.
    fn cost(&self, bucket: usize, texts: usize) -> f64 {
        (self.rows(bucket, texts) * self.length(bucket).max(1)) as f64 + self.overhead
    }

    /// Cuts texts, given by their buckets, which rise, into the batches that cost least together; those which are with text
    /// `place`.
    pub fn together(&self, buckets: &[usize], place: usize) -> Range<usize> {
        // The least cost of the first texts, and where the last batch of that cut begins.
        let mut least = vec![(0.0, 0)];
        for end in 1..=buckets.len() {
            let bucket = buckets[end - 1];
            let mut best = (f64::INFINITY, end - 1);
            for begin in (end.saturating_sub(self.most(bucket))..end).rev() {
                let cost = least[begin].0 + self.cost(bucket, end - begin);
                if cost < best.0 {
                    best = (cost, begin);
                }
            }
            least.push(best);
        }
        let mut end = buckets.len();
        while least[end].1 > place {
            end = least[end].1;
        }
        least[end].1..end
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
    fn batches_together_cost_least() {
        let shapes = |overhead| {
            let of = vec![(4, vec![1, 2, 4]), (8, vec![1, 2, 4]), (32, vec![1, 2])];
            let mut shapes = Shapes::new(of, true);
            shapes.set_overhead(overhead);
            shapes
        };
        let buckets = [0, 0, 0, 1, 1, 2, 2, 2];
        let cuts = |shapes: &Shapes| {
            let mut cuts = vec![0];
            while *cuts.last().unwrap() < buckets.len() {
                let range = shapes.together(&buckets, *cuts.last().unwrap());
                assert_eq!(range.start, *cuts.last().unwrap());
                for place in range.clone() {
                    assert_eq!(shapes.together(&buckets, place), range);
                }
                cuts.push(range.end);
            }
            cuts
        };
        let cost = |shapes: &Shapes, cuts: &[usize]| -> f64 {
            let batch = |w: &[usize]| shapes.cost(buckets[w[1] - 1], w[1] - w[0]);
            cuts.windows(2).map(batch).sum()
        };
        for overhead in [0.0, 3.0, 9.0, 100.0, 4096.0] {
            let shapes = shapes(overhead);
            let found = cuts(&shapes);
            // Against every cut that there is.
            let mut least = f64::INFINITY;
            for inner in 0..1_u32 << (buckets.len() - 1) {
                let within = (1..buckets.len()).filter(|place| inner >> (place - 1) & 1 == 1);
                let all: Vec<usize> =
                    std::iter::once(0).chain(within).chain([buckets.len()]).collect();
                let fits = |w: &[usize]| w[1] - w[0] <= shapes.most(buckets[w[1] - 1]);
                if all.windows(2).all(fits) {
                    least = least.min(cost(&shapes, &all));
                }
            }
            assert!((cost(&shapes, &found) - least).abs() < 1e-9, "{overhead}: {found:?}");
        }
        // Nothing is padded for free, and a dear batch is a full one.
        assert_eq!(shapes(3.0).together(&buckets, 3), 3..5);
        assert_eq!(shapes(4096.0).together(&buckets, 7).len(), 2);
    }

    #[test]
    fn overhead_is_what_no_token_explains() {
        let time = |tokens: usize| 2e-6 * (50.0 + tokens as f64);
        let found = Shapes::measured_overhead((4, time(4)), (512, time(512)));
        assert!((found - 50.0).abs() < 1e-9, "{found}");
        assert_eq!(Shapes::measured_overhead((4, 1.0), (512, 0.9)), MOST_OVERHEAD);
        assert_eq!(Shapes::measured_overhead((4, 1.0), (512, 200.0)), 0.0);
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
