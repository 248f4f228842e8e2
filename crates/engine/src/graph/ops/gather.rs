//! Rows of a table by number: embedding lookup, and the selection of rows.

use std::sync::Arc;

use distil_gpu_kernels::chain::{Binary, Stage};
use distil_gpu_kernels::{DType, gather};
use distil_gpu_onnx::Attribute;

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::export::Export;
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// Inputs: table [table_rows, cols] (f32 or f16), ids [..] (integers, or floats as [`super::Sample`] makes them), and order
/// [number of ids] (integers), which only the gradient reads. Output: [.., cols].
#[derive(Clone, Copy, Debug)]
pub struct Gather;

impl Op for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let &[table, ids, order] = inputs else {
            return Err(mismatch(self.name(), inputs, "a table, ids and their order"));
        };
        let numbers = matches!(ids.dtype, DType::I32 | DType::F32) && order.dtype == DType::I32;
        let countable = [ids.len(), table.len()].iter().all(|&len| i32::try_from(len).is_ok());
        let ordered = order.shape == [ids.len()] && !ids.is_empty();
        match table.shape[..] {
            [_, cols]
                if table.dtype != DType::I32
                    && !table.is_empty()
                    && numbers
                    && countable
                    && ordered =>
            {
                let mut shape = ids.shape.clone();
                shape.push(cols);
                Ok(vec![shape])
            }
            _ => {
                let needed = "floats [table_rows, cols], integers [..] and as many in one axis";
                Err(mismatch(self.name(), inputs, needed))
            }
        }
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        if at.graph.tensor(at.input(1)).dtype != DType::I32 {
            return Err(at.missing(self.name()));
        }
        let table_rows = at.graph.shape(at.input(0))[0];
        let inputs = [at.upstream(0), at.input(1), at.input(2)];
        let dtable =
            at.graph.add_one(Arc::new(GatherGradient { table_rows, onto: false }), &inputs)?;
        Ok(vec![Some(dtable), None, None])
    }

    fn reads_bytes(&self, input: usize) -> bool {
        input == 0
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let [table, ids] = [site.inputs[0], site.inputs[1]];
        let whole = gather::Gather::new(ids.len(), table.shape[0], table.shape[1]);
        let kernel = gather::Gather { table_type: table.dtype, ids_type: ids.dtype, ..whole };
        let args = vec![ArgRef::Input(0), ArgRef::Input(1), ArgRef::Output(0)];
        Ok(vec![Lowered::new(kernel, args)])
    }

    /// A file has no rows of zeros for ids that name none: its ids are all in the table.
    fn export(&self, at: &mut Export<'_, '_>) -> Result<(), Error> {
        let table = at.input(0)?;
        let rows = match at.row_numbers(1)? {
            Some(ids) => at.node("Gather", &[&table, &ids], &[("axis", Attribute::Int(0))]),
            None => table,
        };
        at.set(0, rows);
        Ok(())
    }
}

/// Inputs: dy [.., cols], ids [..], order [number of ids], and perhaps what the gradient is added `onto`. Output: the
/// table's gradient [table_rows, cols].
#[derive(Clone, Copy, Debug)]
struct GatherGradient {
    table_rows: usize,
    onto: bool,
}

impl Op for GatherGradient {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let cols = inputs[0].len() / inputs[1].len();
        Ok(vec![vec![self.table_rows, cols]])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        Err(at.missing(self.name()))
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let (rows, cols) = (site.inputs[1].len(), site.outputs[0].shape[1]);
        let whole = gather::Gather::new(rows, self.table_rows, cols);
        let kernel = gather::Gather { backward: true, accumulate: self.onto, ..whole };
        let mut args: Vec<ArgRef> = (0..3).map(ArgRef::Input).collect();
        args.push(ArgRef::Output(0));
        Ok(vec![Lowered::new(kernel, args)])
    }

    /// A table that is used elsewhere too, as the weight of a head: its gradients add up in one place.
    fn absorb(&self, stages: &[Stage]) -> Option<Arc<dyn Op>> {
        let adds = !self.onto && *stages == [Stage::Binary(Binary::Add, 0)];
        adds.then(|| Arc::new(Self { onto: true, ..*self }) as Arc<dyn Op>)
    }

    fn in_place(&self) -> Option<(usize, usize)> {
        self.onto.then_some((3, 0))
    }
}

impl Graph {
    /// The rows of `table` [table_rows, cols] that `ids` [..] names: [.., cols]. An id below 0, or from
    /// table_rows on, gives zeros and takes part in no gradient. `order` [number of ids] is what
    /// [`gather::sorted_order`] makes of the ids.
    ///
    /// # Errors
    /// [`Error::Shape`] when table, ids and order do not meet.
    pub fn gather(
        &mut self,
        table: TensorId,
        ids: TensorId,
        order: TensorId,
    ) -> Result<TensorId, Error> {
        let rows = self.add_one(Arc::new(Gather), &[table, ids, order])?;
        let Some(scales) = self.scales(table) else { return Ok(rows) };
        let column = self.reshape(scales, &[self.shape(scales)[0], 1])?;
        let scales = self.add_one(Arc::new(Gather), &[column, ids, order])?;
        self.mul(rows, scales)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_to_meet() {
        let made = |table: &[usize], ids: &[usize], order: &[usize], dtype| {
            let mut graph = Graph::default();
            let table = graph.input("table", table, DType::F32);
            let ids = graph.input("ids", ids, dtype);
            let order = graph.input("order", order, DType::I32);
            graph.gather(table, ids, order).map(|out| graph.shape(out).to_vec())
        };
        assert_eq!(made(&[5, 3], &[4], &[4], DType::I32).ok(), Some(vec![4, 3]));
        assert_eq!(made(&[5, 3], &[2, 4], &[8], DType::I32).ok(), Some(vec![2, 4, 3]));
        // As a kernel makes them.
        assert_eq!(made(&[5, 3], &[4], &[4], DType::F32).ok(), Some(vec![4, 3]));
        for (table, ids, order, dtype) in [
            (&[5, 3][..], &[2, 4][..], &[2, 4][..], DType::I32),
            (&[5, 3], &[4], &[3], DType::I32),
            (&[5, 3], &[4], &[4], DType::F16),
            (&[5, 3, 2], &[4], &[4], DType::I32),
            (&[0, 3], &[4], &[4], DType::I32),
            (&[5, 3], &[0], &[0], DType::I32),
            (&[5, 3], &[1 << 31], &[1 << 31], DType::I32),
        ] {
            let error = made(table, ids, order, dtype);
            assert!(matches!(error, Err(Error::Shape { op: "gather", .. })), "{error:?}");
        }
    }
}
