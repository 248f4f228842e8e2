//! Which parts of a decoder's layers matter most: units of its feed-forward networks, and its heads of keys with the heads of
//! queries that share them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Decoder;
use super::family::Queries;
use crate::models::Model;

/// For each layer its parts, from the one that matters most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranking {
    /// Units of the feed-forward network.
    pub units: Vec<Vec<u32>>,
    /// Heads of keys.
    pub heads: Vec<Vec<u32>>,
}

/// Rows and columns of a layer's parameter.
pub(super) struct Chosen {
    /// Rows, if not all.
    pub rows: Option<Arc<Vec<u32>>>,
    /// Columns, if not all.
    pub columns: Option<Arc<Vec<u32>>>,
}

impl Ranking {
    /// Whether it ranks the parts of such a decoder.
    pub(crate) fn is_of(&self, decoder: &Decoder) -> bool {
        let ranks = |all: &[Vec<u32>], parts: usize| {
            let whole = |ranked: &Vec<u32>| {
                let mut sorted = ranked.clone();
                sorted.sort_unstable();
                sorted.into_iter().eq(0..parts as u32)
            };
            all.len() == decoder.num_hidden_layers && all.iter().all(whole)
        };
        ranks(&self.units, decoder.intermediate_size)
            && ranks(&self.heads, decoder.num_key_value_heads)
    }
}

/// The first of a ranking in their own order; of a layer that is not ranked, the first there are.
fn first(ranked: &[Vec<u32>], layer: usize, count: usize) -> Vec<u32> {
    let mut kept: Vec<u32> = match ranked.get(layer) {
        Some(ranked) => ranked[..count].to_vec(),
        None => (0..count as u32).collect(),
    };
    kept.sort_unstable();
    kept
}

impl Decoder {
    /// What a narrower decoder takes over of the parameter `part` of a layer of this one: `layer` is its number here.
    pub(super) fn part_for(
        &self,
        narrow: &Self,
        ranking: &Ranking,
        layer: usize,
        part: &str,
    ) -> Chosen {
        let names = self.names();
        let (part, weight) = match part.rsplit_once('.') {
            Some((part, kind)) => (part, kind == "weight"),
            None => (part, true),
        };
        // Nothing is chosen where nothing is left out.
        let first = |ranked, count, of| (count < of).then(|| first(ranked, layer, count));
        let units = || first(&ranking.units, narrow.intermediate_size, self.intermediate_size);
        let heads = || first(&ranking.heads, narrow.num_key_value_heads, self.num_key_value_heads);
        let wide = |per_head: usize| -> Option<Vec<u32>> {
            let width = (per_head * self.head_dim) as u32;
            Some(heads()?.iter().flat_map(|head| head * width..(head + 1) * width).collect())
        };
        let shared = self.num_attention_heads / self.num_key_value_heads;
        // What goes out of a linear layer, or into it.
        let (out, into) = match (part, names.queries) {
            _ if part == names.widen || part == names.gate => (units(), None),
            _ if part == names.narrow => (None, units()),
            _ if part == names.attended => (None, wide(shared)),
            (_, Queries::Apart { query, .. }) if part == query => (wide(shared), None),
            (_, Queries::Apart { key, value, .. }) if part == key || part == value => {
                (wide(1), None)
            }
            _ => (None, None),
        };
        let [out, into] = [out, into.filter(|_| weight)].map(|list| list.map(Arc::new));
        match names.transposed && weight {
            true => Chosen { rows: into, columns: out },
            false => Chosen { rows: out, columns: into },
        }
    }

    /// Whether its layers have more units or more heads of keys than the other's.
    pub(crate) fn is_wider_than(&self, other: &Self) -> bool {
        self.intermediate_size > other.intermediate_size
            || self.num_key_value_heads > other.num_key_value_heads
    }

    /// For each layer the numbers of the weights whose inputs are its heads and its units.
    pub(crate) fn narrowing_weights(&self) -> Vec<[usize; 2]> {
        let (names, specs) = (self.names(), self.parameters());
        let of_layer = |layer: usize| {
            [names.attended, names.narrow].map(|part| {
                let name = format!("{}{part}.weight", self.layer(layer));
                specs.iter().position(|spec| spec.name == name).expect("each layer has them")
            })
        };
        (0..self.num_hidden_layers).map(of_layer).collect()
    }

    /// Whether weights lie [inputs, outputs].
    pub(crate) fn is_transposed(&self) -> bool {
        self.names().transposed
    }
}
