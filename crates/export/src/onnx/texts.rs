//! What a text is in an ONNX file, and in the graph of a model.

use distil_gpu_engine::graph::export::Bound;
use distil_gpu_engine::graph::{TensorId, ops};
use distil_gpu_engine::models::{
    FAR_BELOW, ModelConfig, Pooled, Pooling, TokenInput, TokenTensors,
};
use distil_gpu_onnx::{Attribute, Builder, Dim, ElementType};

use super::{BATCH, LENGTH};

const IDS: &str = "input_ids";
const MASK: &str = "attention_mask";
const TYPES: &str = "token_type_ids";

/// Most tokens of a text, whatever a tokenizer is told; 0 where examples are numbers.
pub(super) fn positions(config: &ModelConfig) -> usize {
    config.encoder().map_or(0, distil_gpu_engine::models::Encoder::max_length)
}

/// The file as far as it goes before the model: its inputs, the number of texts and their length, and what the graph's
/// inputs are made of.
pub(super) fn bound(
    tokens: &TokenInput,
    tensors: &TokenTensors,
) -> (Builder, [String; 2], Vec<(TensorId, Bound)>) {
    let mut to = Builder::new("model");
    let dims = [Dim::named(BATCH), Dim::named(LENGTH)];
    to.input(IDS, ElementType::I64, &dims);
    to.input(MASK, ElementType::I64, &dims);
    let mut bound = vec![(tensors.tokens.ids, Bound::Value(IDS.to_owned()))];
    if let Some(types) = tensors.types {
        to.input(TYPES, ElementType::I64, &dims);
        bound.push((types.ids, Bound::Value(TYPES.to_owned())));
    }
    let mut texts = Texts::new(to);
    if let (Some(positions), Some(first)) = (tensors.positions, tokens.first_position) {
        bound.push((positions.ids, Bound::Value(texts.positions(first))));
    }
    bound.push((tensors.lengths, Bound::KeyMask(texts.key_mask())));
    bound.push(match tensors.pooled {
        Pooled::Masked(ids) => (ids.ids, Bound::AllRows),
        Pooled::Weights(weights) => (weights, Bound::Value(texts.weights(tokens.pooling))),
        Pooled::Largest(mask) => (mask, Bound::Value(texts.padding(2))),
        Pooled::Tokens(mask) => (mask, Bound::Value(texts.padding(1))),
    });
    (texts.to, texts.sizes, bound)
}

/// A file of texts in the making.
struct Texts {
    to: Builder,
    /// The number of texts and their length, [1] each.
    sizes: [String; 2],
}

impl Texts {
    fn new(mut to: Builder) -> Self {
        let shape = to.node("Shape", &[IDS], &[]);
        let sizes = [0, 1].map(|axis| {
            let axis = to.integers("axis", &[1], &[axis]);
            to.node("Gather", &[&shape, &axis], &[])
        });
        Self { to, sizes }
    }

    fn unsqueezed(&mut self, value: &str, axis: i64) -> String {
        let axis = self.to.integers("axis", &[1], &[axis]);
        self.to.node("Unsqueeze", &[value, &axis], &[])
    }

    fn float(&mut self, value: &str) -> String {
        let f32 = Attribute::Int(ElementType::F32 as i64);
        self.to.node("Cast", &[value], &[("to", f32)])
    }

    fn with(&mut self, op: &str, value: &str, number: f32) -> String {
        let number = self.to.floats("number", &[], &[number]);
        self.to.node(op, &[value, &number], &[])
    }

    /// 0, 1, … [1, length]
    fn places(&mut self) -> String {
        let [none, one] = [0, 1].map(|value| self.to.integers("bound", &[], &[value]));
        let length = self.sizes[1].clone();
        let axis = self.to.integers("axis", &[1], &[0]);
        let length = self.to.node("Squeeze", &[&length, &axis], &[]);
        let places = self.to.node("Range", &[&none, &length, &one], &[]);
        self.unsqueezed(&places, 0)
    }

    /// Numbers of the tokens among those that are no padding, the first being 1 [rows, length].
    fn counted(&mut self) -> String {
        let axis = self.to.integers("along", &[], &[1]);
        self.to.node("CumSum", &[MASK, &axis], &[])
    }

    /// Rows of the position table [rows, length]. Families that leave rows free in front of the first one count tokens that
    /// are no padding, as transformers does; the others count places.
    fn positions(&mut self, first: usize) -> String {
        if first == 0 {
            let places = self.places();
            // All texts have the same, in extents of their own, as ids have them.
            let shape = self.to.node("Shape", &[IDS], &[]);
            return self.to.node("Expand", &[&places, &shape], &[]);
        }
        let counted = self.counted();
        let counted = self.to.node("Mul", &[&counted, MASK], &[]);
        let before = self.to.integers("before", &[], &[first as i64 - 1]);
        self.to.node("Add", &[&counted, &before], &[])
    }

    /// What is added to the scores of keys [rows, 1, 1, length].
    fn key_mask(&mut self) -> String {
        let mask = self.unsqueezed(MASK, 1);
        let mask = self.unsqueezed(&mask, 2);
        let mask = self.float(&mask);
        let one = self.to.floats("number", &[], &[1.0]);
        let padding = self.to.node("Sub", &[&one, &mask], &[]);
        self.with("Mul", &padding, ops::UNSEEN)
    }

    /// What is added to padding, with an axis of 1 put in at `axis` of [rows, length].
    fn padding(&mut self, axis: i64) -> String {
        let mask = self.float(MASK);
        let one = self.to.floats("number", &[], &[1.0]);
        let padding = self.to.node("Sub", &[&one, &mask], &[]);
        let padding = self.with("Mul", &padding, FAR_BELOW);
        self.unsqueezed(&padding, axis)
    }

    /// Weights of the tokens in the sum that stands for a text [rows, 1, length].
    fn weights(&mut self, pooling: Pooling) -> String {
        let weights = match pooling {
            Pooling::Last => {
                // The one up to which all are counted, and which is no padding.
                let counted = self.counted();
                let all = self.sum(MASK);
                let last = self.to.node("Equal", &[&counted, &all], &[]);
                let last = self.float(&last);
                let mask = self.float(MASK);
                self.to.node("Mul", &[&last, &mask], &[])
            }
            Pooling::Mean => {
                let mask = self.float(MASK);
                let sum = self.sum(&mask);
                self.to.node("Div", &[&mask, &sum], &[])
            }
            Pooling::MeanSqrtLength => {
                let mask = self.float(MASK);
                let sum = self.sum(&mask);
                let root = self.to.node("Sqrt", &[&sum], &[]);
                self.to.node("Div", &[&mask, &root], &[])
            }
            Pooling::WeightedMean => {
                let counted = self.counted();
                let counted = self.to.node("Mul", &[&counted, MASK], &[]);
                let rising = self.float(&counted);
                let sum = self.sum(&rising);
                self.to.node("Div", &[&rising, &sum], &[])
            }
            _ => {
                let places = self.places();
                let none = self.to.integers("bound", &[], &[0]);
                let first = self.to.node("Equal", &[&places, &none], &[]);
                let first = self.float(&first);
                // One row for all texts would do for a product, but not for what else reads the weights.
                let shape = self.to.node("Shape", &[IDS], &[]);
                self.to.node("Expand", &[&first, &shape], &[])
            }
        };
        self.unsqueezed(&weights, 1)
    }

    /// Sums over tokens [rows, 1].
    fn sum(&mut self, value: &str) -> String {
        let axes = self.to.integers("axis", &[1], &[1]);
        self.to.node("ReduceSum", &[value, &axes], &[])
    }
}
