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

impl Influence {
    /// The same with so many layers kept; nothing where it left out fewer.
    pub fn keeping(&self, keep: usize) -> Option<Self> {
        let layers = self.alone.len();
        let removed = self.removed.get(..layers.checked_sub(keep)?)?.to_vec();
        let is_kept = |layer: &usize| removed.iter().all(|removed| removed.layer != *layer);
        let kept = (0..layers).filter(is_kept).collect();
        Some(Self { kept, removed, ..self.clone() })
    }
}

/// A layer that was left out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    /// Which.
    pub layer: usize,
    /// KL(whole ‖ what is left), in nats a token.
    pub kl: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_search_knows_what_a_shorter_one_does() {
        let removed = [2, 0].map(|layer| Removed { layer, kl: 1.0 }).to_vec();
        let found = Influence { kept: vec![1, 3], alone: vec![1.0; 4], removed, tokens: 9 };
        assert_eq!(found.keeping(2), Some(found.clone()));
        let fewer = found.keeping(3).unwrap();
        assert_eq!((&fewer.kept[..], fewer.removed.len()), (&[0, 1, 3][..], 1));
        assert_eq!((found.keeping(1), found.keeping(5)), (None, None));
    }
}
