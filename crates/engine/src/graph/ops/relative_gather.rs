//! Scores of relative positions for each pair of tokens.

use std::sync::Arc;

use distil_gpu_kernels::{DType, relative_gather};
use distil_gpu_onnx::Attribute;

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::export::{Export, Extent};
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// Inputs: the bucket of each difference i - j from 1 - length on [2 · length - 1] (integers, never falling), where each
/// bucket's run of them begins [buckets + 1] (integers), then the scores of queries, of keys, or of both with each bucket
/// [heads, batch, length, buckets]. Output: their sum for each query and key [batch, heads, length, length].
#[derive(Clone, Copy, Debug)]
pub struct RelativeGather {
    /// Whether there are scores of queries.
    pub content: bool,
    /// Whether there are scores of keys.
    pub position: bool,
}

/// Inputs: the runs and the gradient by each pair. Outputs: that of each of the scores.
#[derive(Clone, Copy, Debug)]
struct RelativeSums(relative_gather::RelativeGather);

/// Inputs before the scores.
const SCORES: usize = 2;

impl RelativeGather {
    fn kernel(&self, inputs: &[&Tensor]) -> Result<relative_gather::RelativeGather, Error> {
        let Self { content, position } = *self;
        let error = || {
            let needed = "integers [2 · length - 1] and [buckets + 1], and scores [heads, batch, length, buckets]";
            mismatch(self.name(), inputs, needed)
        };
        let count = usize::from(content) + usize::from(position);
        if inputs.len() != SCORES + count || count == 0 {
            return Err(error());
        }
        let &[heads, batch, length, buckets] = &inputs[SCORES].shape[..] else {
            return Err(error());
        };
        let integers = inputs[..SCORES].iter().all(|tensor| tensor.dtype == DType::I32);
        let alike =
            |tensor: &&Tensor| tensor.shape == inputs[SCORES].shape && tensor.dtype == DType::F32;
        let fits = integers
            && inputs[SCORES..].iter().all(alike)
            && !inputs[SCORES].is_empty()
            && inputs[0].shape == [2 * length - 1]
            && inputs[1].shape == [buckets + 1];
        let countable = |len: usize| i32::try_from(len).is_ok();
        if !fits || !countable(inputs[SCORES].len()) || !countable(batch * heads * length * length)
        {
            return Err(error());
        }
        let backward = false;
        Ok(relative_gather::RelativeGather {
            batch,
            heads,
            length,
            buckets,
            content,
            position,
            backward,
        })
    }
}

impl Op for RelativeGather {
    fn name(&self) -> &'static str {
        "relative_gather"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let relative_gather::RelativeGather { batch, heads, length, .. } = self.kernel(inputs)?;
        Ok(vec![vec![batch, heads, length, length]])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        let tensors: Vec<&Tensor> = at.node.inputs.iter().map(|&id| at.graph.tensor(id)).collect();
        let kernel = self.kernel(&tensors)?;
        let op = RelativeSums(relative_gather::RelativeGather { backward: true, ..kernel });
        let inputs = [at.input(1), at.upstream(0)];
        let made = at.graph.add(Arc::new(op), &inputs)?;
        Ok([None, None].into_iter().chain(made.into_iter().map(Some)).collect())
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let scores = (SCORES..site.inputs.len()).map(ArgRef::Input);
        let args = [ArgRef::Input(0)].into_iter().chain(scores).chain([ArgRef::Output(0)]);
        Ok(vec![Lowered::new(self.kernel(&site.inputs)?, args.collect())])
    }

    fn export(&self, at: &mut Export<'_, '_>) -> Result<(), Error> {
        let &[heads, rows, length, _] = &at.input_extents(SCORES)[..] else {
            return Err(at.unsupported("scores of another shape"));
        };
        let all: [Extent; 4] = [heads, rows, length, length];
        let buckets = at.by_difference(0)?;
        let last = [("axis", Attribute::Int(-1))];
        let mut sum: Option<String> = None;
        for input in SCORES..at.inputs() {
            let of_keys = !self.content || input > SCORES;
            // Scores of keys are found by key and query, and then lie by query and key.
            let buckets = if of_keys { at.swapped(&buckets, 2) } else { buckets.clone() };
            let buckets = at.expanded(&buckets, &all);
            let scores = at.input(input)?;
            let mut found = at.node("GatherElements", &[&scores, &buckets], &last);
            if of_keys {
                found = at.swapped(&found, all.len());
            }
            sum = Some(match sum {
                Some(sum) => at.node("Add", &[&sum, &found], &[]),
                None => found,
            });
        }
        let sum = sum.unwrap_or_default();
        let bias = at.permuted(&sum, &[1, 0, 2, 3]);
        at.set(0, bias);
        Ok(())
    }
}

impl Op for RelativeSums {
    fn name(&self) -> &'static str {
        "relative_gather"
    }

    fn infer(&self, _: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let relative_gather::RelativeGather { batch, heads, length, buckets, .. } = self.0;
        let count = usize::from(self.0.content) + usize::from(self.0.position);
        Ok(vec![vec![heads, batch, length, buckets]; count])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        Err(at.missing(self.name()))
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let inputs = (0..site.inputs.len()).map(ArgRef::Input);
        let args = inputs.chain((0..site.outputs.len()).map(ArgRef::Output)).collect();
        Ok(vec![Lowered::new(self.0, args)])
    }
}

impl Graph {
    /// What each query i and key j get of scores with buckets of their distance [heads, batch, length, buckets]: of the
    /// query's, of the key's, or both added up; [batch, heads, length, length]. `buckets_of` has the bucket of each
    /// difference i - j, from 1 - length to length - 1; it never falls.
    ///
    /// # Errors
    /// [`Error::Shape`] when the scores do not fit each other or the buckets.
    pub fn relative_gather(
        &mut self,
        content: Option<TensorId>,
        position: Option<TensorId>,
        buckets_of: &[i32],
    ) -> Result<TensorId, Error> {
        let scores: Vec<TensorId> = [content, position].into_iter().flatten().collect();
        let buckets = scores.first().and_then(|&id| self.shape(id).last().copied()).unwrap_or(0);
        let rises = buckets_of.is_sorted() && buckets_of.first().is_some_and(|&first| first >= 0);
        if !rises || buckets_of.last().is_none_or(|&last| last as usize >= buckets) {
            let needed =
                "scores of queries or keys with every bucket, which rise with the distance";
            let found = format!("{} distances, {buckets} buckets", buckets_of.len());
            return Err(Error::Shape { op: "relative_gather", found, needed: needed.to_owned() });
        }
        let runs = relative_gather::runs(buckets_of, buckets);
        let mut inputs = vec![
            self.constant_i32("buckets of distances", &[buckets_of.len()], buckets_of)?,
            self.constant_i32("runs of buckets", &[buckets + 1], &runs)?,
        ];
        inputs.extend(scores);
        let op = RelativeGather { content: content.is_some(), position: position.is_some() };
        self.add_one(Arc::new(op), &inputs)
    }
}
