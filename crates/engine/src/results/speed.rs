//! How fast a model answers.

use std::time::Duration;

/// Speed of a model's forward pass on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Median time of one example, from host memory to host memory.
    pub latency: Duration,
    /// Examples a second in batches, answers read back.
    pub examples_per_second: f64,
    /// The same in tokens, of models that guess each next one.
    pub tokens_per_second: Option<f64>,
}
