//! Relative positions: what is added to attention's scores for how far apart query and key are.

use distil_gpu_kernels::gather::sorted_order;

use crate::error::Error;
use crate::graph::{Graph, TensorId};

/// The bucket of key - query, as T5 (Raffel et al., 2020) and MPNet have them: half of the buckets are for keys behind the
/// query. In either half the first half has a distance each, and from there on distances share buckets, on a logarithmic
/// scale up to `max_distance`. In f32, as in transformers: at the edges of buckets, rounding decides.
pub fn t5_bucket(distance: isize, buckets: usize, max_distance: usize) -> usize {
    let half = buckets / 2;
    let exact = half / 2;
    let side = if distance > 0 { half } else { 0 };
    let far = distance.unsigned_abs();
    if far < exact {
        return side + far;
    }
    let scale = (max_distance as f64 / exact as f64).ln() as f32;
    let shared = (far as f32 / exact as f32).ln() / scale * (half - exact) as f32;
    side + (exact + shared as usize).min(half.saturating_sub(1))
}

/// The bucket of query - key, as DeBERTa-v2 (He et al., 2021) has them: distances below half of `buckets` are buckets of
/// their own, and beyond they share some on a logarithmic scale up to `max_position`, whose bucket is the last. Negative for
/// keys behind the query. In f32, as in transformers.
pub fn log_bucket(distance: isize, buckets: usize, max_position: usize) -> isize {
    let middle = buckets / 2;
    let far = distance.unsigned_abs();
    if far <= middle || middle == 0 {
        return distance;
    }
    let ratio = |far: f64| (far as f32).ln();
    let scale = ratio((max_position as f64 - 1.0) / middle as f64);
    let shared = (far as f32 / middle as f32).ln() / scale * (middle as f32 - 1.0);
    distance.signum() * (shared.ceil() as isize + middle as isize)
}

/// A bias for [`Graph::attention_with_bias`] [1, heads, length, length] out of a table [buckets, heads], by the bucket of key -
/// query: [`t5_bucket`].
///
/// # Errors
/// [`Error::Shape`] when the table is no matrix of at least four buckets, or `max_distance` is within those that have a
/// distance each.
pub fn relative_bias(
    graph: &mut Graph,
    table: TensorId,
    length: usize,
    max_distance: usize,
) -> Result<TensorId, Error> {
    let &[buckets, heads] = graph.shape(table) else {
        return Err(unfit(graph.describe(table), "a table [buckets, heads]"));
    };
    if buckets < 4 || max_distance <= buckets / 4 {
        let found = format!("{buckets} buckets up to a distance of {max_distance}");
        return Err(unfit(found, "at least 4 buckets, and a distance beyond a quarter of them"));
    }
    let bucket = |at: usize| {
        let (query, key) = (at / length, at % length);
        t5_bucket(key as isize - query as isize, buckets, max_distance) as i32
    };
    let ids: Vec<i32> = (0..length * length).map(bucket).collect();
    let order = graph.constant_i32("buckets in order", &[ids.len()], &sorted_order(&ids))?;
    let ids = graph.constant_i32("buckets of positions", &[ids.len()], &ids)?;
    let rows = graph.gather(table, ids, order)?;
    let columns = graph.permute(rows, &[1, 0])?;
    graph.reshape(columns, &[1, heads, length, length])
}

fn unfit(found: String, needed: &str) -> Error {
    Error::Shape { op: "relative positions", found, needed: needed.to_owned() }
}

/// Which rows of DeBERTa's table of relative positions the pairs of tokens of a text of some length have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first of them.
    pub first: usize,
    /// How many follow each other.
    pub rows: usize,
    /// Which of them a query i and a key j have, for each i - j from 1 - length to length - 1.
    pub buckets_of: Vec<i32>,
}

impl Span {
    /// Of texts of so many tokens, at least 1. The table has 2 · `position_buckets` rows, or 2 · `max_relative_positions`
    /// where the former is 0 and every distance has a row.
    pub fn new(length: usize, position_buckets: usize, max_relative_positions: usize) -> Self {
        let (span, buckets) = match position_buckets {
            0 => (max_relative_positions, 0),
            buckets => (buckets, buckets),
        };
        let row = |distance: isize| {
            let bucket = log_bucket(distance, buckets, max_relative_positions);
            (bucket + span as isize).clamp(0, (2 * span).saturating_sub(1) as isize) as usize
        };
        let last = length as isize - 1;
        let first = row(-last);
        let buckets_of = (-last..=last).map(|distance| (row(distance) - first) as i32).collect();
        Self { first, rows: row(last) - first + 1, buckets_of }
    }

    /// These rows of the table [.., columns]: [rows, columns].
    ///
    /// # Errors
    /// [`Error::Shape`] when the table is no matrix.
    pub fn rows_of(&self, graph: &mut Graph, table: TensorId) -> Result<TensorId, Error> {
        let ids: Vec<i32> = (self.first..self.first + self.rows).map(|row| row as i32).collect();
        let order = graph.constant_i32("rows in order", &[ids.len()], &sorted_order(&ids))?;
        let ids = graph.constant_i32("rows of positions", &[ids.len()], &ids)?;
        graph.gather(table, ids, order)
    }
}

/// DeBERTa's disentangled terms as a bias for [`Graph::attention_with_bias`] [batch, heads, length, length]:
/// scale · (q_i · key of δ(i - j) + k_j · query of δ(i - j)), either of which may be left out. `content` are q and the
/// positions' keys, `position` k and the positions' queries: [batch, length, heads · head_dim], and of the rows of the
/// span [rows, heads · head_dim]. With n terms, the scores' own one included, the scale is 1 / √(n · head_dim), as theirs.
///
/// # Errors
/// [`Error::Shape`] when the tensors do not fit each other, the heads or the span.
pub fn disentangled_bias(
    graph: &mut Graph,
    content: Option<[TensorId; 2]>,
    position: Option<[TensorId; 2]>,
    (heads, scale): (usize, f32),
    span: &Span,
) -> Result<TensorId, Error> {
    let mut scores = |terms: Option<[TensorId; 2]>| -> Result<Option<TensorId>, Error> {
        terms.map(|[x, rows]| position_scores(graph, x, rows, (heads, scale))).transpose()
    };
    let (content, position) = (scores(content)?, scores(position)?);
    graph.relative_gather(content, position, &span.buckets_of)
}

/// scale · x · rowsᵀ, head by head: [heads, batch, length, rows].
fn position_scores(
    graph: &mut Graph,
    x: TensorId,
    rows: TensorId,
    (heads, scale): (usize, f32),
) -> Result<TensorId, Error> {
    let found = format!("{} and {}", graph.describe(x), graph.describe(rows));
    let (&[batch, length, columns], &[count, width]) = (graph.shape(x), graph.shape(rows)) else {
        return Err(unfit(found, "[batch, length, columns] and [rows, columns]"));
    };
    if columns != width || heads == 0 || !columns.is_multiple_of(heads) {
        return Err(unfit(found, &format!("columns for {heads} heads")));
    }
    let head_dim = columns / heads;
    let x = graph.reshape(x, &[batch, length, heads, head_dim])?;
    let x = graph.permute(x, &[2, 0, 1, 3])?;
    let x = graph.reshape(x, &[heads, batch * length, head_dim])?;
    let rows = graph.reshape(rows, &[count, heads, head_dim])?;
    let rows = graph.permute(rows, &[1, 0, 2])?;
    let scores = graph.matmul(x, rows, false, true)?;
    let scores = graph.affine(scores, scale, 0.0)?;
    graph.reshape(scores, &[heads, batch, length, count])
}
