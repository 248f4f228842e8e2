//! What predictions of several labels for each example are worth.

use super::{Counts, share};

/// Predictions of several labels for each example, beside the true ones: an example is said to have a label if its logit
/// is above 0, that is, its probability above a half.
#[derive(Clone, Debug, PartialEq)]
pub struct SeveralLabels {
    /// Of each label.
    pub per_label: Vec<Counts>,
    /// The average precision of each label; none where no example has it, see [`average_precision`].
    pub average_precision: Vec<Option<f64>>,
    /// Examples whose labels are all said, and no other.
    pub exact: u64,
    /// Examples.
    pub examples: u64,
}

impl SeveralLabels {
    /// Of logits and flags [rows, labels], a flag above a half being true.
    ///
    /// # Panics
    /// When there are more logits than flags or the other way round, or they are no whole rows.
    pub fn of(logits: &[f32], flags: &[f32], labels: usize) -> Self {
        assert!(labels > 0 && flags.len().is_multiple_of(labels), "rows of {labels} flags");
        assert_eq!(logits.len(), flags.len(), "a logit for every flag");
        let mut per_label = vec![Counts::default(); labels];
        let (mut exact, mut examples) = (0, 0);
        for (logits, flags) in logits.chunks_exact(labels).zip(flags.chunks_exact(labels)) {
            let mut right = true;
            for ((logit, flag), counts) in logits.iter().zip(flags).zip(&mut per_label) {
                let (said, is) = (*logit > 0.0, *flag > 0.5);
                counts.truth += u64::from(is);
                counts.predicted += u64::from(said);
                counts.correct += u64::from(is && said);
                right &= is == said;
            }
            exact += u64::from(right);
            examples += 1;
        }
        let precision = |label: usize| {
            let column = |values: &[f32]| -> Vec<f32> {
                values.iter().skip(label).step_by(labels).copied().collect()
            };
            let flags: Vec<bool> = column(flags).iter().map(|flag| *flag > 0.5).collect();
            average_precision(&column(logits), &flags)
        };
        let average_precision = (0..labels).map(precision).collect();
        Self { per_label, average_precision, exact, examples }
    }

    /// F1 of all labels of all examples counted together; 0 where no label is true or said.
    pub fn micro_f1(&self) -> f64 {
        self.per_label.iter().copied().sum::<Counts>().f1()
    }

    /// The mean of the labels' F1, which is 0 for a label that no example has or is said to have, as scikit-learn's
    /// `f1_score(average="macro")` has it.
    pub fn macro_f1(&self) -> f64 {
        self.per_label.iter().map(Counts::f1).sum::<f64>() / self.per_label.len() as f64
    }

    /// The share of examples whose labels are all said, and no other; 0 without examples.
    pub fn subset_accuracy(&self) -> f64 {
        share(self.exact, self.examples)
    }

    /// The mean of the average precisions of the labels that some example has; none where there is no such label.
    pub fn mean_average_precision(&self) -> Option<f64> {
        let known: Vec<f64> = self.average_precision.iter().copied().flatten().collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }
}

/// Average precision of one label: the sum, over falling scores, of the precision down to each score times how much
/// recall it adds, equal scores taken together; scikit-learn's `average_precision_score`. None where no example has the
/// label.
///
/// # Panics
/// When there are more scores than flags.
pub fn average_precision(scores: &[f32], flags: &[bool]) -> Option<f64> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    let all = flags.iter().filter(|flag| **flag).count();
    let (mut seen, mut found, mut sum) = (0, 0, 0.0);
    for equal in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
        let more = equal.iter().filter(|&&index| flags[index]).count();
        seen += equal.len();
        found += more;
        sum += found as f64 / seen as f64 * more as f64;
    }
    (all > 0).then(|| sum / all as f64)
}
