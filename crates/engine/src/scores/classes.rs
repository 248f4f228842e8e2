//! What predictions of classes are worth beyond the share that is right.

use super::largest;

/// Counts of true, predicted and rightly predicted examples of each class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassScores {
    truth: Vec<u64>,
    predicted: Vec<u64>,
    right: Vec<u64>,
}

impl ClassScores {
    /// Of no examples yet.
    pub fn new(classes: usize) -> Self {
        let zeros = vec![0; classes];
        Self { truth: zeros.clone(), predicted: zeros.clone(), right: zeros }
    }

    /// Of logits [labels, classes].
    pub fn of(logits: &[f32], labels: &[u32], classes: usize) -> Self {
        let mut scores = Self::new(classes);
        scores.add(logits, labels);
        scores
    }

    /// Adds examples: logits [labels, classes], which may have further rows, and their labels.
    pub fn add(&mut self, logits: &[f32], labels: &[u32]) {
        for (row, &label) in logits.chunks_exact(self.truth.len()).zip(labels) {
            let label = label as usize;
            let best = largest(row);
            self.truth[label] += 1;
            self.predicted[best] += 1;
            self.right[label] += u64::from(best == label);
        }
    }

    /// How many examples are predicted wrongly.
    pub fn errors(&self) -> usize {
        let sum = |counts: &[u64]| counts.iter().sum::<u64>();
        (sum(&self.truth) - sum(&self.right)) as usize
    }

    /// The mean, over classes that are true or predicted of any example, of the harmonic mean of precision and
    /// recall, 2 right / (true + predicted); absent without examples. scikit-learn's
    /// `f1_score(average="macro")`.
    pub fn macro_f1(&self) -> Option<f64> {
        let classes = self.right.iter().zip(self.truth.iter().zip(&self.predicted));
        let both = classes.map(|(right, (truth, predicted))| (right, truth + predicted));
        let (sum, count) = both
            .filter(|(_, both)| *both > 0)
            .fold((0.0, 0.0), |(sum, n), (r, both)| (sum + 2.0 * *r as f64 / both as f64, n + 1.0));
        (count > 0.0).then(|| sum / count)
    }

    /// The Matthews correlation of truth and prediction, in [-1, 1]: 1 where all are right, 0 where they have
    /// nothing to do with each other or one of them is always the same; absent without examples. For more than
    /// two classes it is Gorodkin's R_K ("Comparing two K-category assignments by a K-category correlation
    /// coefficient", 2004).
    pub fn matthews(&self) -> Option<f64> {
        let sum = |counts: &[u64]| counts.iter().sum::<u64>() as f64;
        let product = |a: &[u64], b: &[u64]| -> f64 {
            a.iter().zip(b).map(|(a, b)| *a as f64 * *b as f64).sum()
        };
        let Self { truth, predicted, right } = self;
        let all = sum(truth);
        let between = sum(right) * all - product(truth, predicted);
        let of_truth = all * all - product(truth, truth);
        let of_predicted = all * all - product(predicted, predicted);
        let spread = (of_truth * of_predicted).sqrt();
        (all > 0.0).then(|| if spread > 0.0 { between / spread } else { 0.0 })
    }
}

/// Wrong answers of logits [examples, classes] for each true class.
pub fn errors_per_class(
    logits: &[f32],
    labels: &[u32],
    classes: usize,
    bias: Option<(usize, f32)>,
) -> Vec<usize> {
    let mut errors = vec![0; classes];
    for (row, &label) in logits.chunks_exact(classes).zip(labels) {
        let shifted = |class: usize| {
            row[class] + bias.filter(|(only, _)| *only == class).map_or(0.0, |(_, shift)| shift)
        };
        let best = (1..classes)
            .fold(0, |best, class| if shifted(class) > shifted(best) { class } else { best });
        errors[label as usize] += usize::from(best != label as usize);
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits whose largest is at each of these places.
    fn scores(predicted: &[usize], labels: &[u32], classes: usize) -> ClassScores {
        let mut logits = vec![0.0; predicted.len() * classes];
        predicted.iter().enumerate().for_each(|(row, &class)| logits[row * classes + class] = 1.0);
        ClassScores::of(&logits, labels, classes)
    }

    #[track_caller]
    fn close(found: Option<f64>, expected: f64) {
        assert!((found.unwrap() - expected).abs() < 1e-15, "{found:?}, not {expected}");
    }

    #[test]
    fn two_classes_by_hand() {
        // 3 of the second class rightly so, 1 wrongly; 1 of the first wrongly so, 2 rightly.
        let scores = scores(&[1, 1, 1, 1, 0, 0, 0], &[1, 1, 1, 0, 1, 0, 0], 2);
        // F1: 2·3/(4+4) and 2·2/(3+3). Matthews: (3·2 - 1·1) / √(4·4·3·3).
        close(scores.macro_f1(), (6.0 / 8.0 + 4.0 / 6.0) / 2.0);
        close(scores.matthews(), 5.0 / 12.0);
    }

    #[test]
    fn more_classes_by_hand() {
        // Of the last class there is nothing, and nobody says so.
        let scores = scores(&[0, 2, 1, 0, 0, 1], &[0, 1, 2, 0, 1, 2], 4);
        // F1: 2·2/(2+3), 0/(2+2), 0/(2+1).
        close(scores.macro_f1(), (4.0 / 5.0) / 3.0);
        // Σ true·predicted = 2·3 + 2·2 + 2·1 = 12; 6·2 - 12 = 0.
        close(scores.matthews(), 0.0);
        let scores = ClassScores::of(&[0.0, 0.0, 1.0, 0.0, 0.0, 2.0], &[0, 0, 1], 2);
        // A tie is the first class.
        assert_eq!((scores.macro_f1(), scores.matthews()), (Some(1.0), Some(1.0)));
    }

    #[test]
    fn what_cannot_be_told() {
        assert_eq!((ClassScores::new(3).macro_f1(), ClassScores::new(3).matthews()), (None, None));
        let constant = scores(&[1, 1, 1], &[1, 0, 1], 2);
        close(constant.matthews(), 0.0);
        close(constant.macro_f1(), 0.4);
        let opposite = scores(&[1, 0], &[0, 1], 2);
        close(opposite.matthews(), -1.0);
        // Rows behind the labels do not count.
        assert_eq!(ClassScores::of(&[1.0, 0.0, 0.0, 1.0, 5.0, 0.0], &[0], 2), scores_of_one());
    }

    fn scores_of_one() -> ClassScores {
        ClassScores { truth: vec![1, 0], predicted: vec![1, 0], right: vec![1, 0] }
    }
}
