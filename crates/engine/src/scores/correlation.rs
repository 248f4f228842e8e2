//! How well one list of numbers follows another.

/// Pearson's correlation of two lists of as many numbers; `None` where it has none, for a list that does not vary.
///
/// # Panics
/// When one list is longer than the other.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    assert_eq!(x.len(), y.len(), "a number of each for every pair");
    let centred = |values: &[f64]| -> Vec<f64> {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.iter().map(|value| value - mean).collect()
    };
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (x, y) = (centred(x), centred(y));
    let scale = (product(&x, &x) * product(&y, &y)).sqrt();
    (scale > 0.0).then(|| product(&x, &y) / scale)
}

/// Spearman's correlation: Pearson's of the ranks, equal numbers having the mean of their ranks.
///
/// # Panics
/// When one list is longer than the other.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    pearson(&ranks(x), &ranks(y))
}

/// Ranks from 1 for the smallest on; of equal numbers each has the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = before as f64 + (equal.len() + 1) as f64 / 2.0;
        equal.iter().for_each(|&index| ranks[index] = rank);
        before += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: [f64; 8] = [0.9, 0.1, 0.4, 0.4, -0.2, 0.75, 0.4, 0.9];
    const Y: [f64; 8] = [5.0, 0.5, 2.0, 3.0, 0.0, 3.0, 2.0, 4.2];

    /// NumPy 2.4's `corrcoef`, of the lists and of their ranks.
    #[test]
    fn agrees_with_numpy() {
        assert_eq!(ranks(&X), [7.5, 2.0, 4.0, 4.0, 1.0, 6.0, 4.0, 7.5]);
        assert_eq!(ranks(&Y), [8.0, 2.0, 3.5, 5.5, 1.0, 5.5, 3.5, 7.0]);
        assert!((pearson(&X, &Y).unwrap() - 0.950_711_999_308_078_3).abs() < 1e-15);
        assert!((spearman(&X, &Y).unwrap() - 0.956_687_838_780_570_7).abs() < 1e-15);
    }

    #[test]
    fn order_alone_counts_for_spearman() {
        let cubes = X.map(|x| x * x * x);
        assert!((spearman(&X, &cubes).unwrap() - 1.0).abs() < 1e-15);
        assert!((spearman(&X, &cubes.map(|x| -x)).unwrap() + 1.0).abs() < 1e-15);
        assert!(pearson(&X, &cubes).unwrap() < 0.99);
        // Both zeros are one number.
        assert_eq!(ranks(&[0.0, -0.0, -1.0]), [2.5, 2.5, 1.0]);
    }

    #[test]
    fn what_does_not_vary_has_none() {
        assert_eq!(pearson(&X, &[3.0; 8]), None);
        assert_eq!(spearman(&[1.0], &[2.0]), None);
        assert_eq!(pearson(&[], &[]), None);
    }
}
