//! `divergence`, `beta`, `skew`, `taid_start`, `dkd_alpha` and `dkd_beta`: how far the student's answers are from the teacher's.

use std::mem::discriminant;

use serde::Serializer;
use serde::ser::SerializeMap;

use super::rules::{Rule, number};
use crate::kernels::Divergence;

/// The weight of the teacher's distribution in the mean of both, where `jsd` is asked for without one.
const HALF: f32 = 0.5;

/// The weight of a model's own distribution in the mean of both, where a skew divergence is asked for without one.
const TENTH: f32 = 0.1;

/// How much of the teacher the first target of `taid` has, where none is given; as the paper has it.
const FIRST: f32 = 0.4;

pub(super) const BETA: Rule<f32> = Rule {
    allowed: "a number from 0.001 to 0.999",
    read: |value| number(value).filter(|&beta| Divergence::Jsd { beta }.is_valid()),
};

pub(super) const SKEW: Rule<f32> = Rule {
    allowed: "a number from 0.001 to 0.9",
    read: |value| number(value).filter(|&skew| Divergence::SkewKl { skew }.is_valid()),
};

pub(super) const DKD_WEIGHT: Rule<f32> = Rule {
    allowed: "a number from 0 to 10000",
    read: |value| number(value).filter(|weight| (0.0..=1e4).contains(weight)),
};

/// The names of divergences, with the numbers that they have unless others are given.
pub(super) const DIVERGENCES: [(&str, Divergence); 8] = [
    ("forward-kl", Divergence::ForwardKl),
    ("reverse-kl", Divergence::ReverseKl),
    ("jsd", Divergence::Jsd { beta: HALF }),
    ("skew-kl", Divergence::SkewKl { skew: TENTH }),
    ("skew-reverse-kl", Divergence::SkewReverseKl { skew: TENTH }),
    ("total-variation", Divergence::TotalVariation),
    ("taid", Divergence::Taid { start: FIRST }),
    ("dkd", Divergence::DecoupledKl { target: 1.0, others: 8.0 }),
];

/// The numbers that a recipe gives, each of which goes with some divergences.
pub(super) struct Numbers {
    pub beta: Option<f32>,
    pub skew: Option<f32>,
    pub taid_start: Option<f32>,
    pub dkd_alpha: Option<f32>,
    pub dkd_beta: Option<f32>,
}

impl Numbers {
    /// The divergence that is named, with its number where one is given; else the key of a number that does not go with it,
    /// and what to do.
    pub fn of(&self, named: Divergence) -> Result<Divergence, [&'static str; 2]> {
        let Self { beta, skew, taid_start, dkd_alpha, dkd_beta } = *self;
        if beta.is_some() && !matches!(named, Divergence::Jsd { .. }) {
            let problem = "`beta` goes with divergence = \"jsd\": set that, or leave it out";
            return Err(["beta", problem]);
        }
        let is_skew = matches!(named, Divergence::SkewKl { .. } | Divergence::SkewReverseKl { .. });
        if skew.is_some() && !is_skew {
            let problem = "`skew` goes with divergence = \"skew-kl\" or \"skew-reverse-kl\": set one, or leave it out";
            return Err(["skew", problem]);
        }
        if taid_start.is_some() && !matches!(named, Divergence::Taid { .. }) {
            let problem = "`taid_start` goes with divergence = \"taid\": set that, or leave it out";
            return Err(["taid_start", problem]);
        }
        let of_dkd = [("dkd_alpha", dkd_alpha), ("dkd_beta", dkd_beta)];
        let given = of_dkd.into_iter().find(|(_, weight)| weight.is_some());
        if let Some((key, _)) = given.filter(|_| named.is_of_outcomes()) {
            let problem = "`dkd_alpha` and `dkd_beta` go with divergence = \"dkd\": set that, or leave them out";
            return Err([key, problem]);
        }
        Ok(match named {
            Divergence::Taid { start } => Divergence::Taid { start: taid_start.unwrap_or(start) },
            Divergence::DecoupledKl { target, others } => Divergence::DecoupledKl {
                target: dkd_alpha.unwrap_or(target),
                others: dkd_beta.unwrap_or(others),
            },
            Divergence::Jsd { beta: default } => Divergence::Jsd { beta: beta.unwrap_or(default) },
            Divergence::SkewKl { skew: default } => {
                Divergence::SkewKl { skew: skew.unwrap_or(default) }
            }
            Divergence::SkewReverseKl { skew: default } => {
                Divergence::SkewReverseKl { skew: skew.unwrap_or(default) }
            }
            without_number => without_number,
        })
    }
}

/// Writes the keys; none of the default.
pub(super) fn write<S: Serializer>(divergence: &Divergence, to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(None)?;
    let same_kind = |named: &Divergence| discriminant(named) == discriminant(divergence);
    let name = DIVERGENCES.iter().find(|(_, named)| same_kind(named)).map(|(name, _)| name);
    if let Some(name) = name.filter(|_| *divergence != Divergence::default()) {
        map.serialize_entry("divergence", name)?;
    }
    match divergence {
        Divergence::Jsd { beta } => map.serialize_entry("beta", beta)?,
        Divergence::SkewKl { skew } | Divergence::SkewReverseKl { skew } => {
            map.serialize_entry("skew", skew)?;
        }
        Divergence::Taid { start } => map.serialize_entry("taid_start", start)?,
        Divergence::DecoupledKl { target, others } => {
            map.serialize_entry("dkd_alpha", target)?;
            map.serialize_entry("dkd_beta", others)?;
        }
        Divergence::ForwardKl | Divergence::ReverseKl | Divergence::TotalVariation => {}
    }
    map.end()
}
