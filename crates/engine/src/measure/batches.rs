//! The batches in which a data set is measured.

use std::collections::BTreeSet;

use crate::models::{BatchEncoder, BatchShape, Input, ModelConfig, Pooling};

/// Rows of one evaluation batch: a text has many tokens, and rows of documents are full of them.
pub fn rows(config: &ModelConfig) -> usize {
    const MOST_ROWS: usize = 32;
    const TOKENS: usize = 4096;
    match &config.input {
        Input::Numbers { .. } => 256,
        Input::Tokens(tokens) if tokens.pooling == Pooling::Next => {
            (TOKENS / tokens.max_length).clamp(1, MOST_ROWS)
        }
        Input::Tokens(_) => MOST_ROWS,
    }
}

/// The shapes of the batches in which a data set is measured.
pub(crate) fn shapes(config: &ModelConfig, feed: &BatchEncoder<'_>) -> BTreeSet<BatchShape> {
    let rows = rows(config);
    feed.all(rows).iter().map(|batch| feed.shape(batch, rows)).collect()
}

/// The shapes of the batches whose speed is measured.
pub(crate) fn speed_shapes(config: &ModelConfig, data: &BatchEncoder<'_>) -> BTreeSet<BatchShape> {
    [1, rows(config)].map(|rows| data.shape(&data.sample(rows), rows)).into()
}
