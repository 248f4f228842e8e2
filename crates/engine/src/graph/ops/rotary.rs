//! Rotary position embeddings.

use std::sync::Arc;

use distil_gpu_kernels::{DType, rotary};
use distil_gpu_onnx::Attribute;

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::export::{Export, Extent};
use crate::graph::{Gradient, Graph, Tensor, TensorId};

/// Inputs: x [batch, length, heads · head_dim], cosines and sines [length or more, half] of the angles by which column
/// d < half of each head turns with column d + half. Output: of x's shape.
#[derive(Clone, Copy, Debug)]
pub struct Rotary {
    /// Heads that the columns of x are shared out to.
    pub heads: usize,
    /// Turns by the negative angles: the gradient.
    pub inverse: bool,
}

impl Rotary {
    fn kernel(&self, inputs: &[&Tensor]) -> Result<rotary::Rotary, Error> {
        let heads = self.heads;
        let error = || {
            let needed = format!(
                "floats x [batch, length, columns], with columns for {heads} heads, cosines and sines [length or more, \
                 at most half of a head's columns]"
            );
            mismatch(self.name(), inputs, &needed)
        };
        let &[x, cos, sin] = inputs else { return Err(error()) };
        let (&[batch, length, columns], &[positions, half]) = (&x.shape[..], &cos.shape[..]) else {
            return Err(error());
        };
        let floats = inputs.iter().all(|tensor| tensor.dtype == DType::F32);
        let divides = heads > 0 && columns.is_multiple_of(heads);
        let fits = floats && divides && half > 0 && 2 * half <= columns / heads.max(1);
        if !fits || positions < length || cos.shape != sin.shape || x.is_empty() {
            return Err(error());
        }
        let (head_dim, inverse) = (columns / heads, self.inverse);
        Ok(rotary::Rotary { batch, length, heads, head_dim, half, positions, inverse })
    }
}

impl Op for Rotary {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        self.kernel(inputs)?;
        Ok(vec![inputs[0].shape.clone()])
    }

    /// Nothing is learnt of the angles.
    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        let op = Self { inverse: !self.inverse, ..*self };
        let inputs = [at.upstream(0), at.input(1), at.input(2)];
        Ok(vec![Some(at.graph.add_one(Arc::new(op), &inputs)?), None, None])
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let args = (0..3).map(ArgRef::Input).chain([ArgRef::Output(0)]).collect();
        Ok(vec![Lowered::new(self.kernel(&site.inputs)?, args)])
    }

    /// Of tables that have a row for each place.
    fn export(&self, at: &mut Export<'_, '_>) -> Result<(), Error> {
        let (of_x, of_table) = (at.input_extents(0), at.input_extents(1));
        let &[positions, half] = &of_table[..] else {
            return Err(at.unsupported("rotary positions of another shape"));
        };
        if !positions.is_length() || self.inverse {
            return Err(at.unsupported("rotary positions that do not begin at 0"));
        }
        let fixed = |times| Extent { rows: 0, length: 0, times };
        let head_dim = of_x[2].times / self.heads;
        let of_heads = [of_x[0], of_x[1], fixed(self.heads), fixed(head_dim)];
        let (x, cos, sin) = (at.input(0)?, at.input(1)?, at.input(2)?);
        let x = at.reshaped(&x, &of_x, &of_heads);
        let heads = at.integers(&[1]);
        let [cos, sin] = [cos, sin].map(|table| at.node("Unsqueeze", &[&table, &heads], &[]));
        let half = half.times;
        let rest = head_dim - 2 * half;
        let sizes: Vec<i64> =
            [half, half, rest].iter().filter(|n| **n > 0).map(|&n| n as i64).collect();
        let (split, last) = (at.integers(&sizes), [("axis", Attribute::Int(-1))]);
        let parts = at.to().node_of("Split", &[&x, &split], &last, sizes.len());
        let mut turned = |[a, b]: [&str; 2], op: &str| {
            let (along, across) =
                (at.node("Mul", &[a, &cos], &[]), at.node("Mul", &[b, &sin], &[]));
            at.node(op, &[&along, &across], &[])
        };
        let first = turned([&parts[0], &parts[1]], "Sub");
        let second = turned([&parts[1], &parts[0]], "Add");
        let mut joined = vec![&*first, &*second];
        joined.extend(parts.get(2).map(|rest| &**rest));
        let joined = at.node("Concat", &joined, &last);
        let y = at.reshaped(&joined, &of_heads, &of_x);
        at.set(0, y);
        Ok(())
    }
}

impl Graph {
    /// x [batch, length, heads · head_dim] with pairs of columns of each head turned by angles that depend on the position
    /// in the example: column d < half with column d + half, `cos` and `sin` being [length or more, half]. Columns from
    /// 2 · half on stay as they are. Nothing is learnt of the angles.
    ///
    /// # Errors
    /// [`Error::Shape`] when the tensors or the heads do not fit each other.
    pub fn rotary(
        &mut self,
        x: TensorId,
        cos: TensorId,
        sin: TensorId,
        heads: usize,
    ) -> Result<TensorId, Error> {
        self.add_one(Arc::new(Rotary { heads, inverse: false }), &[x, cos, sin])
    }

    /// Constants for [`Self::rotary`]: cosines and sines [positions, rotated / 2] of position · theta^(-2 d / rotated), for
    /// heads of which the first `rotated` columns turn.
    ///
    /// # Errors
    /// [`Error::Shape`] when `rotated` is no even number from 2 on.
    pub fn rotary_angles(
        &mut self,
        positions: usize,
        rotated: usize,
        theta: f64,
    ) -> Result<[TensorId; 2], Error> {
        let half = rotated / 2;
        if half == 0 || !rotated.is_multiple_of(2) {
            let (found, needed) = (format!("{rotated} columns"), "an even number".to_owned());
            return Err(Error::Shape { op: "rotary", found, needed });
        }
        self.rotary_constants(positions, rotary::angles(positions, half, theta))
    }

    /// Constants for [`Self::rotary`]: cosines and sines [positions, frequencies] of position · frequency, times a factor.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are no frequencies.
    pub fn rotary_tables(
        &mut self,
        positions: usize,
        frequencies: &[f64],
        factor: f64,
    ) -> Result<[TensorId; 2], Error> {
        if frequencies.is_empty() {
            let (found, needed) = ("no frequency".to_owned(), "at least one".to_owned());
            return Err(Error::Shape { op: "rotary", found, needed });
        }
        self.rotary_constants(positions, rotary::tables(positions, frequencies, factor))
    }

    fn rotary_constants(
        &mut self,
        positions: usize,
        [cos, sin]: [Vec<f32>; 2],
    ) -> Result<[TensorId; 2], Error> {
        let shape = [positions, cos.len() / positions.max(1)];
        Ok([
            self.constant_f32("rotary cosines", &shape, &cos)?,
            self.constant_f32("rotary sines", &shape, &sin)?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_to_meet() {
        let made = |x: &[usize], cos: &[usize], sin: &[usize], heads| {
            let mut graph = Graph::default();
            let [x, cos, sin] = [x, cos, sin].map(|shape| graph.input("x", shape, DType::F32));
            graph.rotary(x, cos, sin, heads).map(|out| graph.shape(out).to_vec())
        };
        let table: &[usize] = &[5, 2];
        assert_eq!(made(&[2, 5, 8], table, table, 2).ok(), Some(vec![2, 5, 8]));
        assert_eq!(made(&[2, 4, 10], table, table, 2).ok(), Some(vec![2, 4, 10]));
        for (x, cos, sin, heads) in [
            (&[2, 6, 8][..], table, table, 2),
            (&[2, 5, 8], table, table, 4),
            (&[2, 5, 8], table, table, 3),
            (&[2, 5, 8], table, table, 0),
            (&[10, 8], table, table, 2),
            (&[2, 5, 8], table, &[6, 2], 2),
            (&[2, 5, 8], &[5, 0], &[5, 0], 2),
            (&[0, 5, 8], table, table, 2),
        ] {
            let error = made(x, cos, sin, heads);
            assert!(matches!(error, Err(Error::Shape { op: "rotary", .. })), "{error:?}");
        }
        let mut graph = Graph::default();
        assert!(graph.rotary_angles(4, 3, 1e4).is_err() && graph.rotary_angles(4, 0, 1e4).is_err());
        let angles = graph.rotary_angles(4, 2, 1e4).ok();
        assert_eq!(graph.rotary_angles(4, 2, 1e4).ok(), angles);
    }
}
