//! `divergence` and `beta`: how far the student's answers are from the teacher's.

use serde::Serializer;
use serde::ser::SerializeMap;

use super::document::Table;
use super::error::RecipeError;
use super::rules::{Rule, number};
use crate::kernels::Divergence;

/// The weight of the teacher's distribution in the mean of both, where `jsd` is asked for without one.
const BETA: f32 = 0.5;

const BETAS: Rule<f32> = Rule {
    allowed: "a number from 0.001 to 0.999",
    read: |value| number(value).filter(|&beta| Divergence::Jsd { beta }.is_valid()),
};

/// The names of divergences, of the generalised Jensen-Shannon divergence with a weight of a half.
const NAMES: [(&str, Divergence); 3] = [
    ("forward-kl", Divergence::ForwardKl),
    ("reverse-kl", Divergence::ReverseKl),
    ("jsd", Divergence::Jsd { beta: BETA }),
];

/// The divergence of a table with these keys; forward KL unless given.
pub(super) fn read(table: &Table<'_>) -> Result<Divergence, RecipeError> {
    let named = table.choice("divergence", &NAMES)?.unwrap_or_default();
    match (named, table.get("beta", &BETAS)?) {
        (Divergence::Jsd { .. }, Some(beta)) => Ok(Divergence::Jsd { beta }),
        (_, Some(_)) => Err(table
            .conflict("beta", "`beta` goes with divergence = \"jsd\": set that, or leave it out")),
        (named, None) => Ok(named),
    }
}

/// Writes the keys; none of the default.
pub(super) fn write<S: Serializer>(divergence: &Divergence, to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(None)?;
    match divergence {
        Divergence::ForwardKl => {}
        Divergence::ReverseKl => map.serialize_entry("divergence", "reverse-kl")?,
        Divergence::Jsd { beta } => {
            map.serialize_entry("divergence", "jsd")?;
            map.serialize_entry("beta", beta)?;
        }
    }
    map.end()
}
