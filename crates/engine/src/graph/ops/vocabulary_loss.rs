//! The distillation loss of a language model's head, in chunks of rows: neither model's logits ever exist whole.

use std::sync::Arc;

use distil_gpu_kernels::chain::{Binary, Chain, Coord, Stage};
use distil_gpu_kernels::elementwise::Elementwise;
use distil_gpu_kernels::reduce::{Reduce, ReduceOp};
use distil_gpu_kernels::{DType, Divergence, distill_loss, matmul};

use super::{ArgRef, LossTerms, Lowered, Op, Site, mismatch};
use crate::error::Error;
use crate::graph::{Gradient, Graph, Tensor, TensorId};
use crate::layout::ALIGNMENT;

/// A head whose logits are hidden · weightᵀ + bias.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// Hidden states [rows, hidden_size].
    pub hidden: TensorId,
    /// Weight [vocab_size, hidden_size].
    pub weight: TensorId,
    /// Bias \[vocab_size].
    pub bias: TensorId,
}

impl Decoder {
    fn tensors(self) -> [TensorId; 3] {
        [self.hidden, self.weight, self.bias]
    }
}

/// Inputs: the student's hidden states, weight (f32 or f16) and bias, labels \[rows] (integers), the same three of the teacher if
/// there is one, the weights \[rows] of the rows' hard terms if `weighted`, and, when `scaled`, the gradient \[rows] of the loss
/// by each row's loss. Outputs: row losses \[rows]; terms [rows, [`distill_loss::TERMS`]]; gradients by the student's hidden states, weight and bias; the logits of
/// one chunk of each model; a chunk of scaled hidden states.
#[derive(Clone, Copy, Debug)]
pub struct VocabularyLoss {
    /// Rows whose logits exist at one time; a multiple of [`ALIGNMENT`] where there are more rows.
    pub chunk: usize,
    /// Whether there is a teacher.
    pub teacher: bool,
    /// Whether the hard terms of the rows have weights.
    pub weighted: bool,
    /// The soft term.
    pub divergence: Divergence,
    /// Whether its logits are standardised.
    pub standardise: bool,
    /// Share of the hard term that is spread over all tokens.
    pub smoothing: f32,
    /// Whether the gradients are those of row losses with factors, instead of their sum.
    pub scaled: bool,
}

const HIDDEN: usize = 0;
const WEIGHT: usize = 1;
const BIAS: usize = 2;
const LABELS: usize = 3;
const TEACHER: usize = 4;

const ROW_LOSS: usize = 0;
const TERMS: usize = 1;
/// Of hidden states, weight and bias.
const GRADIENTS: usize = 2;
const STUDENT_LOGITS: usize = 5;
const TEACHER_LOGITS: usize = 6;
const SCALED_HIDDEN: usize = 7;

/// Most bytes of one model's logits: below the binding size of every device (128 MiB), and small beside a model,
/// yet so many rows that the products are worth their launches.
const LOGITS_BYTES: usize = 32 << 20;

/// Rows of a chunk for so many rows and tokens.
pub fn chunk_rows(rows: usize, vocab_size: usize) -> usize {
    let most = LOGITS_BYTES / 4 / vocab_size.max(1);
    if rows <= most { rows } else { (most / ALIGNMENT).max(1) * ALIGNMENT }
}

#[derive(Clone, Copy)]
struct Sizes {
    rows: usize,
    vocab: usize,
    hidden: usize,
    teacher_hidden: usize,
    /// What the student's weight, and the teacher's, is stored in.
    stored: [DType; 2],
}

/// A chunk's rows, and the calls so far.
struct Chunk<'a> {
    sizes: Sizes,
    first: usize,
    count: usize,
    calls: &'a mut Vec<Lowered>,
}

impl Chunk<'_> {
    /// The chunk's rows of an input [rows, columns].
    fn input(&self, input: usize, columns: usize) -> ArgRef {
        ArgRef::InputPart { input, offset: self.first * columns, len: self.count * columns }
    }

    /// The chunk's rows of an output [rows, columns].
    fn output(&self, output: usize, columns: usize) -> ArgRef {
        ArgRef::OutputPart { output, offset: self.first * columns, len: self.count * columns }
    }

    /// The first rows of an output that serves one chunk after another.
    fn scratch(&self, output: usize, columns: usize) -> ArgRef {
        ArgRef::OutputPart { output, offset: 0, len: self.count * columns }
    }

    fn call(&mut self, kernel: impl distil_gpu_kernels::Kernel + 'static, args: Vec<ArgRef>) {
        self.calls.push(Lowered::new(kernel, args));
    }

    /// Logits of a model whose inputs begin at `first`.
    fn logits(&mut self, first: usize, output: usize) {
        let Sizes { vocab, stored, .. } = self.sizes;
        let (hidden, b_type) = match first {
            TEACHER => (self.sizes.teacher_hidden, stored[1]),
            _ => (self.sizes.hidden, stored[0]),
        };
        let mut kernel = matmul::Matmul::new(self.count, vocab, hidden, false, true);
        kernel.b_type = b_type;
        kernel.chain =
            Chain { stages: vec![Stage::Binary(Binary::Add, 0)], operands: vec![[0, 0, 0, 1]] };
        let [weight, bias] = [first + WEIGHT, first + BIAS].map(ArgRef::Input);
        let args = vec![self.input(first, hidden), weight, bias, self.scratch(output, vocab)];
        self.call(kernel, args);
    }

    /// Row losses and terms; the gradient takes the place of the student's logits.
    fn loss(&mut self, op: &VocabularyLoss, gradient: bool) {
        let (vocab, weights) = (self.sizes.vocab, op.weights());
        let kernel = distill_loss::DistillLoss {
            teacher_stride: op.teacher.then_some(vocab),
            gradient,
            weighted: op.weighted,
            divergence: op.divergence,
            standardise: op.standardise,
            smoothing: op.smoothing,
            ..distill_loss::DistillLoss::new(self.count, vocab)
        };
        let mut args = vec![self.scratch(STUDENT_LOGITS, vocab)];
        args.extend(op.teacher.then(|| self.scratch(TEACHER_LOGITS, vocab)));
        args.push(self.input(LABELS, 1));
        args.extend([self.output(ROW_LOSS, 1), self.output(TERMS, distill_loss::TERMS)]);
        args.extend(weights.map(|weights| self.input(weights, 1)));
        self.call(kernel, args);
    }

    /// What the chunk adds to the gradients that are wanted, `factors` being the input of the rows' factors.
    fn gradients(&mut self, wanted: [bool; 3], factors: Option<usize>) {
        const ROW: Coord = [0, 0, 1, 0];
        let Sizes { vocab, hidden, .. } = self.sizes;
        let accumulate = self.first > 0;
        let dlogits = self.scratch(STUDENT_LOGITS, vocab);
        let factors = factors.map(|input| self.input(input, 1));
        let scale = Chain { stages: vec![Stage::Binary(Binary::Mul, 0)], operands: vec![ROW] };
        let [of_hidden, of_weight, of_bias] = [GRADIENTS, GRADIENTS + 1, GRADIENTS + 2];
        if wanted[HIDDEN] {
            let mut kernel = matmul::Matmul::new(self.count, hidden, vocab, false, false);
            kernel.b_type = self.sizes.stored[0];
            let mut args = vec![dlogits, ArgRef::Input(WEIGHT)];
            if let Some(factors) = factors {
                kernel.chain = scale.clone();
                args.push(factors);
            }
            args.push(self.output(of_hidden, hidden));
            self.call(kernel, args);
        }
        if wanted[WEIGHT] {
            let mut states = self.input(HIDDEN, hidden);
            if let Some(factors) = factors {
                let kernel = Elementwise {
                    extent: [1, 1, self.count as u32, hidden as u32],
                    main_strides: Some([0, 0, hidden as u32, 1]),
                    chain: scale,
                };
                let scaled = self.scratch(SCALED_HIDDEN, hidden);
                self.call(kernel, vec![states, factors, scaled]);
                states = scaled;
            }
            let product = matmul::Matmul::new(vocab, hidden, self.count, true, false);
            let kernel = matmul::Matmul { accumulate, ..product };
            self.call(kernel, vec![dlogits, states, ArgRef::Output(of_weight)]);
        }
        if wanted[BIAS] {
            let out = ArgRef::Output(of_bias);
            match factors {
                Some(factors) => {
                    let product = matmul::Matmul::new(1, vocab, self.count, false, false);
                    let kernel = matmul::Matmul { accumulate, ..product };
                    self.call(kernel, vec![factors, dlogits, out]);
                }
                None => {
                    let (op, outer) = (ReduceOp::Sum, 1);
                    let kernel = Reduce { op, outer, len: self.count, inner: vocab, accumulate };
                    self.call(kernel, vec![dlogits, out]);
                }
            }
        }
    }
}

impl VocabularyLoss {
    /// Number of the first input behind the models'.
    fn others(&self) -> usize {
        TEACHER + 3 * usize::from(self.teacher)
    }

    /// Number of the input that holds the weights of the rows' hard terms.
    fn weights(&self) -> Option<usize> {
        self.weighted.then_some(self.others())
    }

    /// Number of the input that holds the rows' factors.
    fn factors(&self) -> Option<usize> {
        self.scaled.then_some(self.others() + usize::from(self.weighted))
    }

    fn sizes(&self, inputs: &[&Tensor]) -> Result<Sizes, Error> {
        let refuse = || {
            let needed = "hidden [rows, hidden_size], weight [vocab_size, hidden_size], bias [vocab_size], labels \
                          [rows], as much of a teacher, and weights [rows]";
            mismatch("vocabulary_loss", inputs, needed)
        };
        let rows = inputs.get(LABELS).filter(|t| t.dtype == DType::I32).map_or(0, |t| t.len());
        let decoder = |first: usize| -> Option<[usize; 2]> {
            let [hidden, weight, bias] = inputs.get(first..first + 3)? else { return None };
            let floats = [hidden, bias].iter().all(|t| t.dtype == DType::F32);
            let floats = floats && weight.dtype != DType::I32;
            let ([r, h], [v, width], [b]) = (&hidden.shape[..], &weight.shape[..], &bias.shape[..])
            else {
                return None;
            };
            (floats && *r == rows && h == width && v == b && v * h > 0).then_some([*v, *h])
        };
        let [vocab, hidden] = decoder(HIDDEN).ok_or_else(refuse)?;
        let teacher = match self.teacher {
            true => Some(decoder(TEACHER).filter(|[v, _]| *v == vocab).ok_or_else(refuse)?),
            false => None,
        };
        let count = self.others() + usize::from(self.weighted) + usize::from(self.scaled);
        let of_rows = inputs.get(self.others()..).unwrap_or_default();
        let fits = |t: &&Tensor| t.shape == [rows] && t.dtype == DType::F32;
        let whole = self.chunk >= rows || self.chunk.is_multiple_of(ALIGNMENT);
        let is_whole = inputs.len() == count && of_rows.iter().all(fits);
        if rows == 0 || !is_whole || self.chunk == 0 || !whole {
            return Err(refuse());
        }
        let teacher_hidden = teacher.map_or(0, |[_, hidden]| hidden);
        let of_teacher = if self.teacher { TEACHER + WEIGHT } else { WEIGHT };
        let stored = [WEIGHT, of_teacher].map(|input| inputs[input].dtype);
        Ok(Sizes { rows, vocab, hidden, teacher_hidden, stored })
    }
}

impl Op for VocabularyLoss {
    fn name(&self) -> &'static str {
        "vocabulary_loss"
    }

    fn reads_blocks(&self, input: usize) -> bool {
        input == WEIGHT || self.teacher && input == TEACHER + WEIGHT
    }

    fn infer(&self, inputs: &[&Tensor]) -> Result<Vec<Vec<usize>>, Error> {
        let Sizes { rows, vocab, hidden, .. } = self.sizes(inputs)?;
        let chunk = self.chunk.min(rows);
        let logits = vec![chunk, vocab];
        Ok(vec![
            vec![rows],
            vec![rows, distill_loss::TERMS],
            vec![rows, hidden],
            vec![vocab, hidden],
            vec![vocab],
            logits.clone(),
            logits,
            vec![chunk, hidden],
        ])
    }

    fn gradient(&self, at: &mut Gradient<'_>) -> Result<Vec<Option<TensorId>>, Error> {
        let others = (TERMS..at.node.outputs.len()).any(|output| at.has_upstream(output));
        if others || self.scaled {
            return Err(at.missing(self.name()));
        }
        let made = if at.upstream_is_one(ROW_LOSS) {
            at.node.outputs.clone()
        } else {
            // The logits are made anew: scaled gradients of a weight cannot be had from its sum.
            let mut inputs = at.node.inputs.clone();
            inputs.push(at.upstream(ROW_LOSS));
            at.graph.add(Arc::new(Self { scaled: true, ..*self }), &inputs)?
        };
        let mut gradients = vec![None; at.node.inputs.len()];
        for input in [HIDDEN, WEIGHT, BIAS] {
            gradients[input] = Some(made[GRADIENTS + input]);
        }
        Ok(gradients)
    }

    fn lower(&self, site: &Site<'_>) -> Result<Vec<Lowered>, Error> {
        let sizes = self.sizes(&site.inputs)?;
        let wanted = [HIDDEN, WEIGHT, BIAS].map(|input| site.wanted[GRADIENTS + input]);
        let gradient = wanted.contains(&true);
        let mut calls = Vec::new();
        for first in (0..sizes.rows).step_by(self.chunk) {
            let count = self.chunk.min(sizes.rows - first);
            let mut chunk = Chunk { sizes, first, count, calls: &mut calls };
            chunk.logits(HIDDEN, STUDENT_LOGITS);
            if self.teacher {
                chunk.logits(TEACHER, TEACHER_LOGITS);
            }
            chunk.loss(self, gradient);
            chunk.gradients(wanted, self.factors());
        }
        Ok(calls)
    }
}

impl Graph {
    /// The distillation loss of a language model's head; returns row losses \[rows] and terms, as
    /// [`Graph::distill_loss`] does of logits. `chunk` rows of logits exist at one time; see [`chunk_rows`].
    ///
    /// # Errors
    /// [`Error::Shape`] when the tensors do not meet, or `chunk` is below the rows and no multiple of [`ALIGNMENT`].
    pub fn vocabulary_loss(
        &mut self,
        student: Decoder,
        labels: TensorId,
        teacher: Option<Decoder>,
        chunk: usize,
    ) -> Result<(TensorId, TensorId), Error> {
        self.vocabulary_loss_of(student, labels, teacher, chunk, LossTerms::default())
    }

    /// As [`Graph::vocabulary_loss`], of these terms.
    ///
    /// # Errors
    /// As [`Graph::vocabulary_loss`], and [`Error::Unsupported`] when a number is out of range, or decoupled KL has
    /// fewer than three tokens.
    pub fn vocabulary_loss_of(
        &mut self,
        student: Decoder,
        labels: TensorId,
        teacher: Option<Decoder>,
        chunk: usize,
        terms: LossTerms,
    ) -> Result<(TensorId, TensorId), Error> {
        terms.check(self.shape(student.bias).iter().product())?;
        let LossTerms { divergence, weights, standardise, smoothing } = terms;
        let op = VocabularyLoss {
            chunk,
            teacher: teacher.is_some(),
            weighted: weights.is_some(),
            divergence,
            standardise,
            smoothing,
            scaled: false,
        };
        let mut inputs = student.tensors().to_vec();
        inputs.push(labels);
        inputs.extend(teacher.into_iter().flat_map(Decoder::tensors));
        inputs.extend(weights);
        let outputs = self.add(Arc::new(op), &inputs)?;
        Ok((outputs[ROW_LOSS], outputs[TERMS]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_keep_to_the_aim() {
        assert_eq!(chunk_rows(40, 30_522), 40);
        assert_eq!(chunk_rows(304, 30_522), 256);
        assert_eq!(chunk_rows(304, 250_002), 64);
        for vocab in [1000, 30_522, 50_265, 131_072] {
            assert!(chunk_rows(1 << 20, vocab) * vocab * 4 <= LOGITS_BYTES);
        }
    }

    #[test]
    fn shapes_have_to_meet() {
        let made = |hidden: &[usize], weight: &[usize], bias: usize, chunk| {
            let mut graph = Graph::default();
            let mut input = |shape: &[usize]| graph.input("x", shape, DType::F32);
            let student =
                Decoder { hidden: input(hidden), weight: input(weight), bias: input(&[bias]) };
            let labels = graph.input("labels", &[70], DType::I32);
            graph.vocabulary_loss(student, labels, None, chunk).map(|(loss, _)| loss)
        };
        assert!(made(&[70, 3], &[9, 3], 9, 64).is_ok() && made(&[70, 3], &[9, 3], 9, 70).is_ok());
        for (hidden, weight, bias, chunk) in [
            (&[69, 3], &[9, 3], 9, 64),
            (&[70, 4], &[9, 3], 9, 64),
            (&[70, 3], &[9, 3], 8, 64),
            (&[70, 3], &[9, 3], 9, 30),
            (&[70, 3], &[9, 3], 9, 0),
        ] {
            let error = made(hidden, weight, bias, chunk);
            assert!(matches!(error, Err(Error::Shape { op: "vocabulary_loss", .. })), "{error:?}");
        }
    }
}
