//! The peers' sides, each as its own documentation drives it.

#[cfg(feature = "burn")]
pub mod burn;
pub mod meganeura;
