//! Matrix product, with fused stages behind it.

use std::sync::Arc;

use distil_gpu_kernels::chain::{Chain, Stage};
use distil_gpu_kernels::{DType, matmul};

use super::pointwise::{appended, operand_count};
use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::export::Export;
use crate::graph::{Gradient, Graph, Tensor, TensorId, collapse};

/// out = stages(A · B): inputs A [.., m, k] and B [.., k, n] (either stored transposed; B in f32, f16 or, transposed, in bytes), then the stages'
/// operands. A two-dimensional B serves every matrix of A; other leading axes must be equal.
#[derive(Clone, Debug, Default)]
pub struct Matmul {
    /// A is stored [.., k, m].
    pub trans_a: bool,
    /// B is stored [.., n, k].
    pub trans_b: bool,
    /// Fused behind the product.
    pub stages: Vec<Stage>,
}

/// Sizes of one product.
struct Sizes {
    batch: Vec<usize>,
    m: usize,
    n: usize,
    k: usize,
}

const NEEDED: &str = "floats A [.., m, k] and B [.., k, n] or [k, n]";

impl Matmul {
    fn sizes(&self, inputs: &[&Tensor]) -> Result<Sizes, Error> {
        let (a, b) = (inputs[0], inputs[1]);
        let error = || mismatch(self.name(), &inputs[..2], NEEDED);
        let floats = a.dtype == DType::F32 && b.dtype != DType::I32;
        let ([a_batch @ .., a0, a1], [b_batch @ .., b0, b1]) = (&a.shape[..], &b.shape[..]) else {
            return Err(error());
        };
        let (m, k) = if self.trans_a { (*a1, *a0) } else { (*a0, *a1) };
        let (b_k, n) = if self.trans_b { (*b1, *b0) } else { (*b0, *b1) };
        let shared = b_batch.is_empty() && (a_batch.is_empty() || !self.trans_a);
        if !floats || k != b_k || !(shared || a_batch == b_batch) || m * n * k == 0 {
            return Err(error());
        }
        Ok(Sizes { batch: a_batch.to_vec(), m, n, k })
    }
}

impl Op for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let Sizes { batch: mut shape, m, n, .. } = self.sizes(inputs)?;
        shape.extend([m, n]);
        Ok(vec![shape])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        let (g, a, b) = (at.upstream(0), at.input(0), at.input(1));
        let graph = &mut *at.graph;
        let da = match (self.trans_a, self.trans_b) {
            (false, trans_b) => graph.matmul(g, b, false, !trans_b)?,
            (true, trans_b) => graph.matmul(b, g, trans_b, true)?,
        };
        // A B that serves many matrices sees them as one tall matrix.
        let flatten = graph.shape(b).len() == 2 && graph.shape(a).len() > 2;
        let (a, g) = if flatten { (graph.rows(a)?, graph.rows(g)?) } else { (a, g) };
        let db = match (self.trans_a, self.trans_b) {
            (trans_a, false) => graph.matmul(a, g, !trans_a, false)?,
            (trans_a, true) => graph.matmul(g, a, true, trans_a)?,
        };
        Ok(vec![Some(da), Some(db)])
    }

    fn reads_blocks(&self, input: usize) -> bool {
        input == 1
    }

    /// Its rows are then columns of the product.
    fn reads_bytes(&self, input: usize) -> bool {
        input == 1 && self.trans_b
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let Sizes { batch, m, n, k } = self.sizes(&site.inputs)?;
        let operands: Vec<&[usize]> = site.inputs[2..].iter().map(|t| &t.shape[..]).collect();
        let (extent, strides) = collapse(&site.outputs[0].shape, &operands, true)
            .ok_or_else(|| mismatch(self.name(), &site.inputs, "at most four broadcast groups"))?;
        let count: usize = batch.iter().product();
        let tall = site.inputs[1].shape.len() == 2;
        let mut kernel = matmul::Matmul::new(m, n, k, self.trans_a, self.trans_b);
        (kernel.m, kernel.batch) = if tall { (m * count, 1) } else { (m, count) };
        kernel.chain = Chain { stages: self.stages.clone(), operands: strides };
        kernel.extent = extent;
        kernel.b_type = site.inputs[1].dtype;
        let mut args: Vec<ArgRef> = (0..site.inputs.len()).map(ArgRef::Input).collect();
        args.push(ArgRef::Output(0));
        Ok(vec![Lowered::new(kernel, args)])
    }

    fn export(&self, at: &mut Export<'_, '_>) -> Result<(), Error> {
        if !self.stages.is_empty() {
            return Err(at.unsupported("a fused matmul"));
        }
        let mut side = |input, transposed| match transposed {
            true => at.transposed(input),
            false => at.input(input),
        };
        let (a, b) = (side(0, self.trans_a)?, side(1, self.trans_b)?);
        let product = at.node("MatMul", &[&a, &b], &[]);
        at.set(0, product);
        Ok(())
    }

    fn absorb(&self, stages: &[Stage]) -> Option<Arc<dyn Op>> {
        let stages = appended(&self.stages, operand_count(&self.stages), stages)?;
        Some(Arc::new(Self { stages, ..*self }))
    }
}

impl Graph {
    /// A · B; see [`Matmul`].
    ///
    /// # Errors
    /// [`Error::Shape`] when the shapes do not meet.
    pub fn matmul(
        &mut self,
        a: TensorId,
        b: TensorId,
        trans_a: bool,
        trans_b: bool,
    ) -> Result<TensorId, Error> {
        let op = Arc::new(Matmul { trans_a, trans_b, stages: Vec::new() });
        let product = self.add_one(op.clone(), &[a, b])?;
        match self.scales(b).filter(|_| op.reads_bytes(1)) {
            Some(scales) => self.mul(product, scales),
            None => Ok(product),
        }
    }
}
