//! How near embeddings are to a teacher's.

use rayon::prelude::*;

/// Neighbours of a text that are compared.
pub const NEIGHBOURS: usize = 10;

/// Of embeddings and the teacher's, of the same texts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nearness {
    /// Mean cosine of a text's embedding and the teacher's; absent where they differ in size.
    pub cosine: Option<f64>,
    /// Mean share of a text's [`NEIGHBOURS`] nearest neighbours, by cosine, that are the same for the teacher; of all
    /// other texts where there are fewer.
    pub neighbours: f64,
    /// Texts whose nearest neighbour is another one than the teacher's.
    pub other_nearest: usize,
}

impl Nearness {
    /// Compares vectors of any lengths [texts, width] with the teacher's [texts, width], each with its own width.
    ///
    /// # Panics
    /// When there are more of one than of the other.
    pub fn of((ours, width): (&[f32], usize), (theirs, their_width): (&[f32], usize)) -> Self {
        let texts = ours.len() / width;
        assert_eq!(texts, theirs.len() / their_width, "embeddings of the same texts");
        let most = NEIGHBOURS.min(texts.saturating_sub(1));
        let both = [(ours, width), (theirs, their_width)]
            .map(|(all, width)| (all, width, lengths(all, width)));
        let compare = |text: usize| {
            let [ours, theirs] = both
                .each_ref()
                .map(|(all, width, lengths)| nearest(all, *width, lengths, text, most));
            let shared = ours.iter().filter(|text| theirs.contains(text)).count();
            (shared, usize::from(ours.first() != theirs.first()))
        };
        let sum = |a: (usize, usize), b: (usize, usize)| (a.0 + b.0, a.1 + b.1);
        let (shared, other_nearest) =
            (0..texts).into_par_iter().map(compare).reduce(|| (0, 0), sum);
        let all = most * texts;
        let neighbours = if all == 0 { 1.0 } else { shared as f64 / all as f64 };
        let cosine = (width == their_width).then(|| mean_cosine(ours, theirs, width));
        Self { cosine, neighbours, other_nearest }
    }
}

/// Cosine of each row of a matrix [texts, width] with the same row of another; 0 of a row of zeros.
///
/// # Panics
/// When there are more of one than of the other.
pub fn cosines(ours: &[f32], theirs: &[f32], width: usize) -> Vec<f64> {
    assert_eq!(ours.len(), theirs.len(), "embeddings of as many texts, of the same size");
    ours.chunks_exact(width).zip(theirs.chunks_exact(width)).map(|(a, b)| cosine(a, b)).collect()
}

/// Mean cosine of the rows of two matrices [texts, width].
///
/// # Panics
/// When there are more of one than of the other.
pub fn mean_cosine(ours: &[f32], theirs: &[f32], width: usize) -> f64 {
    let all = cosines(ours, theirs, width);
    all.iter().sum::<f64>() / all.len() as f64
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}

/// Lengths of the rows of a matrix, all above 0 so that they can be divided by.
fn lengths(all: &[f32], width: usize) -> Vec<f64> {
    let rows = all.chunks_exact(width);
    rows.map(|row| dot(row, row).sqrt().max(f64::MIN_POSITIVE)).collect()
}

/// The `most` texts whose vectors are nearest to this one's by cosine, the nearest first; of equals, the first.
fn nearest(all: &[f32], width: usize, lengths: &[f64], text: usize, most: usize) -> Vec<usize> {
    let own = &all[text * width..][..width];
    let mut others: Vec<(f64, usize)> = all
        .chunks_exact(width)
        .enumerate()
        .filter(|(other, _)| *other != text)
        .map(|(other, vector)| (dot(own, vector) / lengths[other], other))
        .collect();
    let order = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if most < others.len() {
        others.select_nth_unstable_by(most, order);
        others.truncate(most);
    }
    others.sort_unstable_by(order);
    others.into_iter().map(|(_, other)| other).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unit vectors of these angles, in degrees.
    fn circle(degrees: &[f32]) -> Vec<f32> {
        degrees.iter().flat_map(|d| [d.to_radians().cos(), d.to_radians().sin()]).collect()
    }

    #[test]
    fn the_same_embeddings_turned_have_the_same_neighbours() {
        let theirs = circle(&[0.0, 10.0, 25.0, 60.0, 61.0]);
        let ours = circle(&[90.0, 100.0, 115.0, 150.0, 151.0]);
        let found = Nearness::of((&ours, 2), (&theirs, 2));
        assert!(
            found.cosine.unwrap().abs() < 1e-6
                && found.neighbours == 1.0
                && found.other_nearest == 0
        );
        assert!((mean_cosine(&ours, &ours, 2) - 1.0).abs() < 1e-6);
        assert!(
            (mean_cosine(&circle(&[0.0, 60.0]), &circle(&[60.0, 60.0]), 2) - 0.75).abs() < 1e-6
        );
    }

    #[test]
    fn neighbours_are_the_nearest_and_never_the_text_itself() {
        let vectors = circle(&[0.0, 50.0, 10.0, 20.0, 180.0]);
        let lengths = lengths(&vectors, 2);
        assert_eq!(nearest(&vectors, 2, &lengths, 0, 3), [2, 3, 1]);
        assert_eq!(nearest(&vectors, 2, &lengths, 4, 9), [1, 3, 2, 0]);
    }

    #[test]
    fn lengths_of_vectors_change_nothing() {
        let degrees = [0.0, 10.0, 25.0, 60.0, 61.0];
        let unit = circle(&degrees);
        let scaled: Vec<f32> = unit
            .chunks(2)
            .zip(1_u8..)
            .flat_map(|(row, n)| row.iter().map(move |x| x * f32::from(n)))
            .collect();
        let found = Nearness::of((&scaled, 2), (&unit, 2));
        assert!((found.cosine.unwrap() - 1.0).abs() < 1e-6, "{found:?}");
        assert_eq!((found.neighbours, found.other_nearest), (1.0, 0));
        assert_eq!(cosines(&[0.0, 0.0], &[1.0, 0.0], 2), [0.0]);
    }

    #[test]
    fn of_many_texts_ten_neighbours_count() {
        // Twenty texts in a row; every second one is moved to the other side of the circle.
        let theirs: Vec<f32> = (0..20).map(|text| 2.0 * text as f32).collect();
        let ours: Vec<f32> = (0..20)
            .map(|text| 2.0 * text as f32 + if text % 2 == 0 { 180.0 } else { 0.0 })
            .collect();
        let found = Nearness::of((&circle(&ours), 2), (&circle(&theirs), 2));
        // Of its ten nearest, five or so were odd, like itself; all nine of its kind are near it now.
        assert!(found.neighbours > 0.4 && found.neighbours < 0.7, "{found:?}");
        assert_eq!(found.other_nearest, 20);
    }
}
