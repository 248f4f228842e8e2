//! The choice of next tokens.

use std::sync::Arc;

use distil_gpu_kernels::{DType, sample};

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::{Gradient, Graph, Tensor, TensorId};
use crate::layout::{Part, StorePart};

/// The most tokens of a vocabulary: their numbers are floats.
const MOST_TOKENS: usize = 1 << 24;

/// Inputs: logits [rows, tokens], settings [rows, 4], draw [rows, 3] (integers), positions \[rows] (integers), all as
/// [`sample::Sample`] has them. Output: the tokens' numbers \[rows], as floats.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Store and parameter [rows, tokens] that tell which tokens were said.
    pub said: Option<(usize, usize)>,
}

impl Op for Sample {
    fn name(&self) -> &'static str {
        "sample"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let needed = "floats [rows, tokens] and [rows, 4], integers [rows, 3] and [rows]";
        let [logits, settings, draw, positions] = inputs else {
            return Err(mismatch(self.name(), inputs, needed));
        };
        let floats = [logits, settings].iter().all(|t| t.dtype == DType::F32);
        let integers = [draw, positions].iter().all(|t| t.dtype == DType::I32);
        match logits.shape[..] {
            [rows, tokens]
                if floats
                    && integers
                    && settings.shape == [rows, sample::SETTINGS]
                    && draw.shape == [rows, sample::DRAW]
                    && positions.shape == [rows]
                    && (1..=MOST_TOKENS).contains(&tokens) =>
            {
                Ok(vec![vec![rows]])
            }
            _ => Err(mismatch(self.name(), inputs, needed)),
        }
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        Err(at.missing(self.name()))
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let (rows, cols) = (site.inputs[0].shape[0], site.inputs[0].shape[1]);
        let mut args: Vec<ArgRef> = (0..4).map(ArgRef::Input).collect();
        if let Some((store, parameter)) = self.said {
            let layout = &site.stores[store];
            let place = layout.places[parameter];
            let part = StorePart { store, part: Part::Parameters, segment: place.segment };
            args.push(ArgRef::Store { part, offset: place.offset, len: rows * cols });
        }
        args.push(ArgRef::Output(0));
        let kernel = sample::Sample { rows, cols, penalised: self.said.is_some() };
        Ok(vec![Lowered::new(kernel, args)])
    }

    fn has_effect(&self) -> bool {
        self.said.is_some()
    }
}

impl Graph {
    /// A token for each row of logits [rows, tokens]: their numbers \[rows], as floats. `said` is the store's parameter
    /// [rows, tokens] of which tokens were said, for settings with a penalty; the chosen ones are counted among them.
    ///
    /// # Errors
    /// [`Error::Shape`] when the tensors do not fit each other.
    pub fn sample(
        &mut self,
        logits: TensorId,
        [settings, draw, positions]: [TensorId; 3],
        said: Option<(usize, usize)>,
    ) -> Result<TensorId, Error> {
        self.add_one(Arc::new(Sample { said }), &[logits, settings, draw, positions])
    }
}
