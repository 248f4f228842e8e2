//! Which layers of another model students take over, where their influence was measured.

use serde::{Deserialize, Serialize};

/// Which layers a student takes over, and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Influence {
    /// The layers that are kept, rising.
    pub kept: Vec<usize>,
    /// For each layer, KL(whole ‖ without it) in nats a token.
    pub alone: Vec<f64>,
    /// What was left out, in that order.
    pub removed: Vec<Removed>,
    /// Tokens that this was measured on.
    pub tokens: usize,
}

/// A layer that was left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    /// Which.
    pub layer: usize,
    /// KL(whole ‖ what is left), in nats a token.
    pub kl: f64,
}
