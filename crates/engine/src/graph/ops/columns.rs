//! Blocks of columns: a tensor cut along its last axis, and put together again.

use std::sync::Arc;

use distil_gpu_kernels::DType;
use distil_gpu_kernels::columns::{Columns, MAX_BLOCKS};
use distil_gpu_onnx::Attribute;

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::export::Export;
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// Input: x [.., parts · n]. Outputs: the parts [.., n], in order.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    /// Parts, from 2 to [`MAX_BLOCKS`].
    pub parts: usize,
}

/// Inputs: tensors of one shape [.., n]. Output: them side by side [.., inputs · n].
#[derive(Clone, Copy, Debug)]
pub struct Join;

/// The kernel for so many parts of this shape.
fn kernel(part: &[usize], blocks: usize, join: bool) -> Columns {
    let (cols, leading) = part.split_last().expect("a tensor that is cut has axes");
    Columns { rows: leading.iter().product(), cols: *cols, blocks, join }
}

impl Op for Split {
    fn name(&self) -> &'static str {
        "split"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let parts = self.parts;
        let fits = (2..=MAX_BLOCKS).contains(&parts)
            && inputs[0].dtype == DType::F32
            && !inputs[0].is_empty()
            && inputs[0].shape.last().is_some_and(|columns| columns.is_multiple_of(parts));
        if !fits {
            let needed = format!("floats with columns for {parts} parts, of 2 to {MAX_BLOCKS}");
            return Err(mismatch(self.name(), inputs, &needed));
        }
        let mut shape = inputs[0].shape.clone();
        shape.iter_mut().next_back().into_iter().for_each(|columns| *columns /= parts);
        Ok(vec![shape; parts])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        let upstream = |part: usize| -> Result<TensorId, Error> {
            if at.has_upstream(part) {
                return Ok(at.upstream(part));
            }
            let shape = at.graph.shape(at.output(part)).to_vec();
            at.graph.constant(0.0, &shape)
        };
        let parts: Vec<TensorId> = (0..self.parts).map(upstream).collect::<Result<_, _>>()?;
        Ok(vec![Some(at.graph.join_last(&parts)?)])
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let outputs = (0..self.parts).map(ArgRef::Output);
        let args = [ArgRef::Input(0)].into_iter().chain(outputs).collect();
        Ok(vec![Lowered::new(kernel(&site.outputs[0].shape, self.parts, false), args)])
    }

    fn export(&self, at: &mut Export<'_, '_>) -> Result<(), Error> {
        let x = at.input(0)?;
        let last = [("axis", Attribute::Int(-1))];
        let parts = at.to().node_of("Split", &[&x], &last, self.parts);
        parts.into_iter().enumerate().for_each(|(output, part)| at.set(output, part));
        Ok(())
    }
}

impl Op for Join {
    fn name(&self) -> &'static str {
        "join"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let alike =
            |tensor: &&Tensor| tensor.shape == inputs[0].shape && tensor.dtype == DType::F32;
        let fits = (2..=MAX_BLOCKS).contains(&inputs.len())
            && inputs.iter().all(alike)
            && !inputs[0].is_empty()
            && !inputs[0].shape.is_empty();
        if !fits {
            let needed = format!("2 to {MAX_BLOCKS} tensors of floats of one shape");
            return Err(mismatch(self.name(), inputs, &needed));
        }
        let mut shape = inputs[0].shape.clone();
        shape.iter_mut().next_back().into_iter().for_each(|columns| *columns *= inputs.len());
        Ok(vec![shape])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        let upstream = at.upstream(0);
        let parts = at.graph.split_last(upstream, at.node.inputs.len())?;
        Ok(parts.into_iter().map(Some).collect())
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let blocks = site.inputs.len();
        let args = (0..blocks).map(ArgRef::Input).chain([ArgRef::Output(0)]).collect();
        Ok(vec![Lowered::new(kernel(&site.inputs[0].shape, blocks, true), args)])
    }

    fn export(&self, at: &mut Export<'_, '_>) -> Result<(), Error> {
        let parts: Vec<String> =
            (0..at.inputs()).map(|input| at.input(input)).collect::<Result<_, _>>()?;
        let parts: Vec<&str> = parts.iter().map(|part| &**part).collect();
        let joined = at.node("Concat", &parts, &[("axis", Attribute::Int(-1))]);
        at.set(0, joined);
        Ok(())
    }
}

impl Graph {
    /// x [.., parts · n] cut along its last axis into so many tensors [.., n]: 2 to 4.
    ///
    /// # Errors
    /// [`Error::Shape`] when the last axis has no such parts.
    pub fn split_last(&mut self, x: TensorId, parts: usize) -> Result<Vec<TensorId>, Error> {
        self.add(Arc::new(Split { parts }), &[x])
    }

    /// Two to four tensors of one shape [.., n] side by side: [.., parts · n].
    ///
    /// # Errors
    /// [`Error::Shape`] when their shapes differ.
    pub fn join_last(&mut self, parts: &[TensorId]) -> Result<TensorId, Error> {
        if parts.is_empty() {
            let (found, needed) = ("nothing".to_owned(), "tensors of one shape".to_owned());
            return Err(Error::Shape { op: "join", found, needed });
        }
        self.add_one(Arc::new(Join), parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_to_meet() {
        let mut graph = Graph::default();
        let x = graph.input("x", &[2, 5, 12], DType::F32);
        let parts = graph.split_last(x, 3).unwrap_or_default();
        assert_eq!(parts.len(), 3);
        assert!(parts.iter().all(|&part| graph.shape(part) == [2, 5, 4]));
        let joined = graph.join_last(&parts).ok();
        assert_eq!(joined.map(|id| graph.shape(id).to_vec()), Some(vec![2, 5, 12]));
        let ids = graph.input("ids", &[2, 12], DType::I32);
        let one = graph.input("one", &[], DType::F32);
        for (x, parts) in [(x, 0), (x, 1), (x, 5), (x, 6), (ids, 2), (one, 2)] {
            assert!(matches!(graph.split_last(x, parts), Err(Error::Shape { op: "split", .. })));
        }
        for parts in [&[][..], &[x], &[x; 5], &[x, parts[0]], &[ids, ids], &[one, one]] {
            assert!(matches!(graph.join_last(parts), Err(Error::Shape { op: "join", .. })));
        }
    }
}
