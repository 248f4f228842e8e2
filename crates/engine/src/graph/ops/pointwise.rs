//! Elementwise ops with broadcasting. As built, a node has one stage; fusion joins them into chains.

use std::sync::Arc;

use distil_gpu_kernels::DType;
use distil_gpu_kernels::chain::{Binary, Chain, MAX_OPERANDS, MAX_STAGES, Stage};
use distil_gpu_kernels::elementwise::Elementwise;

use super::{ArgRef, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::export::Export;
use crate::graph::{Gradient, Graph, Tensor, TensorId, broadcast_shapes, collapse};

/// stages applied to input 0; the stages' operand `i` is input `i + 1`. With no input: a `Fill`.
#[derive(Clone, Debug)]
pub struct Pointwise {
    /// What is done, in order.
    pub stages: Vec<Stage>,
    /// Shape, of a constant.
    pub shape: Option<Vec<usize>>,
}

/// `stages` appended to a chain of `own`: their operands are numbered on from the `taken` in use.
pub(super) fn appended(own: &[Stage], taken: usize, stages: &[Stage]) -> Option<Vec<Stage>> {
    let renumbered = stages.iter().map(|stage| match *stage {
        Stage::Binary(op, operand) => Stage::Binary(op, operand + taken),
        other => other,
    });
    let joined: Vec<Stage> = own.iter().copied().chain(renumbered).collect();
    let operands = joined.iter().filter_map(|s| s.operand()).max().map_or(0, |last| last + 1);
    (joined.len() <= MAX_STAGES && operands <= MAX_OPERANDS).then_some(joined)
}

/// Operands a chain reads.
pub(super) fn operand_count(stages: &[Stage]) -> usize {
    stages.iter().filter_map(|stage| stage.operand()).max().map_or(0, |last| last + 1)
}

/// A stage that has no operand, of a value in an ONNX file.
pub(super) fn export_stage(
    at: &mut Export<'_, '_>,
    stage: Stage,
    x: &str,
) -> Result<String, Error> {
    let of = |at: &mut Export<'_, '_>, op: &str, number: f32, x: &str| {
        let number = at.scalar(number);
        at.node(op, &[x, &number], &[])
    };
    Ok(match stage {
        Stage::Relu => at.node("Relu", &[x], &[]),
        Stage::Tanh => at.node("Tanh", &[x], &[]),
        Stage::Sigmoid => at.node("Sigmoid", &[x], &[]),
        Stage::Relu6 => {
            let positive = at.node("Relu", &[x], &[]);
            of(at, "Min", 6.0, &positive)
        }
        Stage::HardSwish => at.node("HardSwish", &[x], &[]),
        Stage::Silu => {
            let gate = at.node("Sigmoid", &[x], &[]);
            at.node("Mul", &[x, &gate], &[])
        }
        Stage::Exp => at.node("Exp", &[x], &[]),
        Stage::Log => at.node("Log", &[x], &[]),
        Stage::Sqrt => at.node("Sqrt", &[x], &[]),
        Stage::Square => at.node("Mul", &[x, x], &[]),
        Stage::Reciprocal => at.node("Reciprocal", &[x], &[]),
        // In the order in which onnxruntime knows it as one op.
        Stage::GeluErf => {
            let scaled = of(at, "Div", std::f32::consts::SQRT_2, x);
            let erf = at.node("Erf", &[&scaled], &[]);
            let twice = of(at, "Add", 1.0, &erf);
            let product = at.node("Mul", &[x, &twice], &[]);
            of(at, "Mul", 0.5, &product)
        }
        Stage::GeluTanh => {
            let square = at.node("Mul", &[x, x], &[]);
            let cube = at.node("Mul", &[&square, x], &[]);
            let part = of(at, "Mul", 0.044_715, &cube);
            let sum = at.node("Add", &[x, &part], &[]);
            let scaled = of(at, "Mul", (2.0 / std::f32::consts::PI).sqrt(), &sum);
            let tanh = at.node("Tanh", &[&scaled], &[]);
            let twice = of(at, "Add", 1.0, &tanh);
            let product = at.node("Mul", &[x, &twice], &[]);
            of(at, "Mul", 0.5, &product)
        }
        Stage::Affine { scale, offset } => {
            let scaled = if scale == 1.0 { x.to_owned() } else { of(at, "Mul", scale, x) };
            if offset == 0.0 { scaled } else { of(at, "Add", offset, &scaled) }
        }
        Stage::Dropout { .. } => return Err(at.unsupported("dropout")),
        Stage::Fill(_) | Stage::Binary(..) => return Err(at.unsupported("a stage with operands")),
    })
}

impl Op for Pointwise {
    fn name(&self) -> &'static str {
        match self.stages[..] {
            [Stage::Relu] => "relu",
            [Stage::GeluErf | Stage::GeluTanh] => "gelu",
            [Stage::Tanh] => "tanh",
            [Stage::Sigmoid] => "sigmoid",
            [Stage::Relu6] => "relu6",
            [Stage::HardSwish] => "hardswish",
            [Stage::Silu] => "silu",
            [Stage::Exp] => "exp",
            [Stage::Log] => "log",
            [Stage::Dropout { .. }] => "dropout",
            [Stage::Binary(Binary::Add, _)] => "add",
            [Stage::Binary(Binary::Sub, _)] => "sub",
            [Stage::Binary(Binary::Mul, _)] => "mul",
            [Stage::Binary(Binary::Div, _)] => "div",
            _ => "pointwise",
        }
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        if let Some(shape) = &self.shape {
            return Ok(vec![shape.clone()]);
        }
        let shapes: Vec<&[usize]> = inputs.iter().map(|t| &t.shape[..]).collect();
        let shape =
            broadcast_shapes(&shapes).filter(|_| inputs.iter().all(|t| t.dtype == DType::F32));
        Ok(vec![shape.ok_or_else(|| mismatch(self.name(), inputs, "floats that broadcast"))?])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        if self.shape.is_some() {
            return Ok(Vec::new());
        }
        let [stage] = self.stages[..] else { return Err(at.missing(self.name())) };
        let (g, y, x) = (at.upstream(0), at.output(0), at.input(0));
        let graph = &mut *at.graph;
        let main = match stage {
            Stage::Relu => graph.binary(Binary::ReluGrad, g, y)?,
            Stage::GeluErf => graph.binary(Binary::GeluErfGrad, g, x)?,
            Stage::GeluTanh => graph.binary(Binary::GeluTanhGrad, g, x)?,
            Stage::Tanh => graph.binary(Binary::TanhGrad, g, y)?,
            Stage::Sigmoid => graph.binary(Binary::SigmoidGrad, g, y)?,
            Stage::Relu6 => graph.binary(Binary::Relu6Grad, g, y)?,
            Stage::HardSwish => graph.binary(Binary::HardSwishGrad, g, x)?,
            Stage::Silu => graph.binary(Binary::SiluGrad, g, x)?,
            Stage::Exp => graph.binary(Binary::Mul, g, y)?,
            Stage::Log => graph.binary(Binary::Div, g, x)?,
            Stage::Sqrt => {
                let half = graph.affine(g, 0.5, 0.0)?;
                graph.binary(Binary::Div, half, y)?
            }
            Stage::Square => {
                let twice = graph.affine(g, 2.0, 0.0)?;
                graph.binary(Binary::Mul, twice, x)?
            }
            Stage::Reciprocal => {
                let minus = graph.affine(g, -1.0, 0.0)?;
                let once = graph.binary(Binary::Mul, minus, y)?;
                graph.binary(Binary::Mul, once, y)?
            }
            Stage::Affine { scale, .. } => graph.affine(g, scale, 0.0)?,
            Stage::Dropout { .. } => graph.map(stage, g)?,
            Stage::Fill(_) => return Ok(vec![None]),
            Stage::Binary(op, _) => return self.binary_gradient(op, at),
        };
        Ok(vec![Some(main)])
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let shapes: Vec<&[usize]> = site.inputs.iter().map(|t| &t.shape[..]).collect();
        let (extent, strides) = collapse(&site.outputs[0].shape, &shapes, false)
            .ok_or_else(|| mismatch(self.name(), &site.inputs, "at most four broadcast groups"))?;
        // A chain that starts from a constant has no main operand: all inputs are its stages'.
        let mains = usize::from(self.shape.is_none());
        let main_strides = strides[..mains].first().copied();
        let operands = strides[mains..].to_vec();
        let chain = Chain { stages: self.stages.clone(), operands };
        let mut args: Vec<ArgRef> = (0..site.inputs.len()).map(ArgRef::Input).collect();
        args.push(ArgRef::Output(0));
        Ok(vec![Lowered::new(Elementwise { extent, main_strides, chain }, args)])
    }

    fn export(&self, at: &mut Export<'_, '_>) -> Result<(), Error> {
        let [stage] = self.stages[..] else { return Err(at.unsupported("a fused chain")) };
        let made = match stage {
            Stage::Fill(value) => {
                let extents = at.output_extents(0);
                at.filled(value, &extents)
            }
            Stage::Binary(op, _) => {
                let (a, b) = (at.input(0)?, at.input(1)?);
                match op {
                    Binary::Add => at.node("Add", &[&a, &b], &[]),
                    Binary::Sub => at.node("Sub", &[&a, &b], &[]),
                    Binary::Mul => at.node("Mul", &[&a, &b], &[]),
                    Binary::Div => at.node("Div", &[&a, &b], &[]),
                    Binary::ReverseSub => at.node("Sub", &[&b, &a], &[]),
                    Binary::ReverseDiv => at.node("Div", &[&b, &a], &[]),
                    Binary::Max => at.node("Max", &[&a, &b], &[]),
                    Binary::Min => at.node("Min", &[&a, &b], &[]),
                    _ => return Err(at.unsupported("a gradient")),
                }
            }
            _ => {
                let x = at.input(0)?;
                export_stage(at, stage, &x)?
            }
        };
        at.set(0, made);
        Ok(())
    }

    fn absorb(&self, stages: &[Stage]) -> Option<Arc<dyn Op>> {
        let joined = appended(&self.stages, operand_count(&self.stages), stages)?;
        Some(Arc::new(Self { stages: joined, shape: self.shape.clone() }))
    }

    fn stages(&self) -> Option<&[Stage]> {
        self.shape.is_none().then_some(&self.stages)
    }
}

impl Pointwise {
    fn binary_gradient(
        &self,
        op: Binary,
        at: &mut Gradient<'_>,
    ) -> Result<Vec<Option<TensorId>>, Error> {
        let (g, y, a, b) = (at.upstream(0), at.output(0), at.input(0), at.input(1));
        let graph = &mut *at.graph;
        let (da, db) = match op {
            Binary::Add => (g, g),
            Binary::Sub => (g, graph.affine(g, -1.0, 0.0)?),
            Binary::Mul => (graph.mul(g, b)?, graph.mul(g, a)?),
            Binary::Div => {
                let da = graph.div(g, b)?;
                let minus = graph.affine(da, -1.0, 0.0)?;
                (da, graph.mul(minus, y)?)
            }
            Binary::ReverseSub => (graph.affine(g, -1.0, 0.0)?, g),
            Binary::ReverseDiv => {
                let db = graph.div(g, a)?;
                let minus = graph.affine(db, -1.0, 0.0)?;
                (graph.mul(minus, y)?, db)
            }
            _ => return Err(at.missing(self.name())),
        };
        let (a_shape, b_shape) = (graph.shape(a).to_vec(), graph.shape(b).to_vec());
        Ok(vec![Some(graph.sum_to(da, &a_shape)?), Some(graph.sum_to(db, &b_shape)?)])
    }
}

impl Graph {
    /// One stage that has no operand.
    ///
    /// # Errors
    /// [`Error::Shape`] for an integer tensor.
    pub fn map(&mut self, stage: Stage, x: TensorId) -> Result<TensorId, Error> {
        self.add_one(Arc::new(Pointwise { stages: vec![stage], shape: None }), &[x])
    }

    /// One binary stage.
    ///
    /// # Errors
    /// [`Error::Shape`] when the tensors do not broadcast.
    pub fn binary(&mut self, op: Binary, a: TensorId, b: TensorId) -> Result<TensorId, Error> {
        let stages = vec![Stage::Binary(op, 0)];
        self.add_one(Arc::new(Pointwise { stages, shape: None }), &[a, b])
    }

    /// A tensor of one value.
    ///
    /// # Errors
    /// None today; the signature is that of the other builders.
    pub fn constant(&mut self, value: f32, shape: &[usize]) -> Result<TensorId, Error> {
        let op = Pointwise { stages: vec![Stage::Fill(value)], shape: Some(shape.to_vec()) };
        self.add_one(Arc::new(op), &[])
    }

    /// scale · x + offset
    ///
    /// # Errors
    /// [`Error::Shape`] for an integer tensor.
    pub fn affine(&mut self, x: TensorId, scale: f32, offset: f32) -> Result<TensorId, Error> {
        self.map(Stage::Affine { scale, offset }, x)
    }

    /// a + b
    ///
    /// # Errors
    /// [`Error::Shape`] when the tensors do not broadcast.
    pub fn plus(&mut self, a: TensorId, b: TensorId) -> Result<TensorId, Error> {
        self.binary(Binary::Add, a, b)
    }

    /// a · b, element by element
    ///
    /// # Errors
    /// [`Error::Shape`] when the tensors do not broadcast.
    pub fn mul(&mut self, a: TensorId, b: TensorId) -> Result<TensorId, Error> {
        self.binary(Binary::Mul, a, b)
    }

    /// a / b
    ///
    /// # Errors
    /// [`Error::Shape`] when the tensors do not broadcast.
    pub fn div(&mut self, a: TensorId, b: TensorId) -> Result<TensorId, Error> {
        self.binary(Binary::Div, a, b)
    }
}
