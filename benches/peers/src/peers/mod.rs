//! The peers' sides, each as its own documentation drives it.

pub mod meganeura;
