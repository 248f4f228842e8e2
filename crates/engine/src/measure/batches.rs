//! The batches in which a data set is measured.

use std::collections::BTreeSet;

use crate::models::{BatchShape, Feed, Input, ModelConfig};

/// Rows of one evaluation batch: a text has many tokens.
pub fn rows(config: &ModelConfig) -> usize {
    match config.input {
        Input::Numbers { .. } => 256,
        Input::Tokens(_) => 32,
    }
}

/// The shapes of the batches in which a data set is measured.
pub(crate) fn shapes(config: &ModelConfig, feed: &Feed<'_>) -> BTreeSet<BatchShape> {
    let rows = rows(config);
    feed.all(rows).iter().map(|batch| feed.shape(batch, rows)).collect()
}

/// The shapes of the batches whose speed is measured.
pub(crate) fn speed_shapes(config: &ModelConfig, data: &Feed<'_>) -> BTreeSet<BatchShape> {
    [1, rows(config)].map(|rows| data.shape(&data.sample(rows), rows)).into()
}
