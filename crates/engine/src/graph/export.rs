//! A graph as ONNX: each op adds its nodes by itself ([`ops::Op::export`](super::ops::Op::export)), and here is what they
//! share.
//!
//! A graph has fixed extents, and a file leaves the number of examples and their length open. So a graph is built for a
//! number of examples and a length that are primes which divide no extent of the model: [`Marks`]. Any extent of a tensor
//! is then, in one way, a product of a number with powers of the two ([`Extent`]), and the file says it so. Who exports
//! does it for two pairs of primes: files that are alike have nothing of either pair in them.

mod constants;

use std::collections::{HashMap, HashSet};

use distil_gpu_onnx::{Attribute, Builder};

use super::{Graph, Source, TensorId};
use crate::error::Error;

/// The number of examples and their length that a graph is built for: primes that divide no other extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Examples of a batch.
    pub rows: usize,
    /// Tokens of an example, beyond all that the model takes.
    pub length: usize,
}

/// An extent: rows^`rows` · length^`length` · `times`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// How often the number of examples is a factor of it.
    pub rows: u32,
    /// How often the length is.
    pub length: u32,
    /// The rest.
    pub times: usize,
}

impl Extent {
    /// Whether it is the same in all batches.
    pub fn is_fixed(self) -> bool {
        self.rows == 0 && self.length == 0
    }

    /// Whether it is the length and nothing else.
    pub fn is_length(self) -> bool {
        self == Self { rows: 0, length: 1, times: 1 }
    }
}

impl Marks {
    /// The `which`-th pair of primes for a model of at most `positions` tokens, none of whose extents is a multiple of
    /// either.
    pub fn new(extents: &[usize], positions: usize, which: usize) -> Self {
        let divides = |prime: &usize| extents.iter().any(|extent| extent.is_multiple_of(*prime));
        let from = |first: usize| (first..).filter(|n| is_prime(*n)).filter(|n| !divides(n));
        // The first ones leave 2, 3 and 5 to what graphs are built with: halves, thirds, pairs of ranges.
        let rows = from(7).nth(which).unwrap_or(7);
        let length = from(positions.saturating_add(1024)).nth(which).unwrap_or(1031);
        Self { rows, length }
    }

    /// An extent as a product.
    pub fn extent(self, extent: usize) -> Extent {
        let mut read = Extent { rows: 0, length: 0, times: extent };
        for (mark, power) in [(self.rows, &mut read.rows), (self.length, &mut read.length)] {
            while read.times > 0 && read.times.is_multiple_of(mark) {
                read.times /= mark;
                *power += 1;
            }
        }
        read
    }
}

/// Elements of a filled tensor that the file has as they are.
const MOST_FILLED: usize = 1 << 16;

fn is_prime(number: usize) -> bool {
    number > 1 && (2..).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d))
}

/// What a tensor is in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A value of this name.
    Value(String),
    /// The numbers of all rows, in order: what is looked up by it is the whole table.
    AllRows,
    /// What is added to the scores of keys [rows, 1, 1, length], far below zero where they are padding, in the place of
    /// how many are none.
    KeyMask(String),
}

/// A parameter whose values the file is still to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promised {
    /// Name of the tensor in the file.
    pub name: String,
    /// The parameter.
    pub parameter: usize,
    /// Whether its two axes change places.
    pub transposed: bool,
}

/// A graph on its way into a file.
#[derive(Debug)]
pub struct Exporter<'g> {
    graph: &'g Graph,
    marks: Marks,
    /// Most tokens of an example.
    positions: usize,
    /// The file.
    pub to: Builder,
    /// Values [1] that are the number of examples, and the length.
    sizes: [String; 2],
    bound: HashMap<TensorId, Bound>,
    promised: Vec<Promised>,
}

impl<'g> Exporter<'g> {
    /// An exporter of a graph that is built with these marks. `sizes` are values \[1] of the file, integers: the number of
    /// examples and the length.
    pub fn new(
        graph: &'g Graph,
        marks: Marks,
        positions: usize,
        to: Builder,
        sizes: [String; 2],
    ) -> Self {
        let (bound, promised) = (HashMap::new(), Vec::new());
        Self { graph, marks, positions, to, sizes, bound, promised }
    }

    /// Says what a tensor is in the file.
    pub fn bind(&mut self, id: TensorId, to: Bound) {
        self.bound.insert(id, to);
    }

    /// Adds all that these tensors are made of; returns their names.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when an op or a constant has no form in a file.
    pub fn run(&mut self, outputs: &[TensorId]) -> Result<Vec<String>, Error> {
        let mut needed: HashSet<TensorId> = outputs.iter().copied().collect();
        let mut nodes = Vec::new();
        for (index, node) in self.graph.nodes.iter().enumerate().rev() {
            if node.outputs.iter().any(|id| needed.contains(id)) {
                needed.extend(&node.inputs);
                nodes.push(index);
            }
        }
        for node in nodes.into_iter().rev() {
            let op = self.graph.nodes[node].op.clone();
            op.export(&mut Export { all: self, node })?;
        }
        outputs.iter().map(|&id| self.value(id)).collect()
    }

    /// The file as it stands, and the parameters whose values it lacks. One that is there both ways round is there once.
    pub fn finish(mut self) -> (Builder, Vec<Promised>) {
        let straight: HashMap<usize, String> = (self.promised.iter())
            .filter(|promised| !promised.transposed)
            .map(|promised| (promised.parameter, promised.name.clone()))
            .collect();
        let to = &mut self.to;
        self.promised.retain(|promised| {
            let twin = straight.get(&promised.parameter).filter(|_| promised.transposed);
            twin.inspect(|twin| to.transpose_of(&promised.name, twin)).is_none()
        });
        (self.to, self.promised)
    }

    /// The name of a tensor's value.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when it has none.
    pub fn value(&mut self, id: TensorId) -> Result<String, Error> {
        if let Some(Bound::Value(name)) = self.bound.get(&id) {
            return Ok(name.clone());
        }
        let name = match &self.graph.tensor(id).source {
            Source::Parameter { index, .. } => self.parameter(id, *index, false),
            Source::Constant(constant) => self.constant(id, constant)?,
            Source::Input(_) | Source::Node { .. } => return Err(self.formless(id)),
        };
        self.bind(id, Bound::Value(name.clone()));
        Ok(name)
    }

    /// The error of what has no form in a file.
    fn formless(&self, id: TensorId) -> Error {
        Error::Unsupported {
            what: format!("{} has no form in an ONNX file", self.graph.describe(id)),
            instead: "use the model through this program".to_owned(),
        }
    }

    fn parameter(&mut self, id: TensorId, parameter: usize, transposed: bool) -> String {
        let known = |promised: &&Promised| {
            (promised.parameter, promised.transposed) == (parameter, transposed)
        };
        if let Some(known) = self.promised.iter().find(known) {
            return known.name.clone();
        }
        let mut shape = self.graph.shape(id).to_vec();
        if transposed {
            shape.reverse();
        }
        let name = self.to.promised(&self.graph.name(id), &shape);
        self.promised.push(Promised { name: name.clone(), parameter, transposed });
        name
    }

    /// Extents of a tensor.
    fn extents(&self, id: TensorId) -> Vec<Extent> {
        self.graph.shape(id).iter().map(|&extent| self.marks.extent(extent)).collect()
    }

    /// An extent as a value [1].
    fn extent_value(&mut self, extent: Extent) -> String {
        let mut factors = vec![self.sizes[0].clone(); extent.rows as usize];
        factors.extend(vec![self.sizes[1].clone(); extent.length as usize]);
        if extent.times != 1 || factors.is_empty() {
            factors.push(self.to.integers("extent", &[1], &[extent.times as i64]));
        }
        let mut factors = factors.into_iter();
        let first = factors.next().unwrap_or_default();
        factors.fold(first, |product, factor| self.to.node("Mul", &[&product, &factor], &[]))
    }

    /// Extents as a value: a shape.
    fn shape_value(&mut self, extents: &[Extent]) -> String {
        if extents.iter().all(|extent| extent.is_fixed()) {
            let fixed: Vec<i64> = extents.iter().map(|extent| extent.times as i64).collect();
            return self.to.integers("shape", &[fixed.len()], &fixed);
        }
        let parts: Vec<String> = extents.iter().map(|&extent| self.extent_value(extent)).collect();
        let parts: Vec<&str> = parts.iter().map(|part| &**part).collect();
        self.to.node("Concat", &parts, &[("axis", Attribute::Int(0))])
    }
}

/// Where an op's export stands: the node, and the file that it adds to.
#[derive(Debug)]
pub struct Export<'a, 'g> {
    all: &'a mut Exporter<'g>,
    node: usize,
}

impl<'g> Export<'_, 'g> {
    /// The file.
    pub fn to(&mut self) -> &mut Builder {
        &mut self.all.to
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.all.graph.nodes[self.node].inputs.len()
    }

    fn input_id(&self, input: usize) -> TensorId {
        self.all.graph.nodes[self.node].inputs[input]
    }

    /// The name of input `input`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when that has no form in a file.
    pub fn input(&mut self, input: usize) -> Result<String, Error> {
        self.all.value(self.input_id(input))
    }

    /// Extents of input `input`.
    pub fn input_extents(&self, input: usize) -> Vec<Extent> {
        self.all.extents(self.input_id(input))
    }

    /// The numbers of rows that input `input` is; nothing where it is all of them, in order.
    ///
    /// # Errors
    /// As [`Self::input`].
    pub fn row_numbers(&mut self, input: usize) -> Result<Option<String>, Error> {
        match self.all.bound.get(&self.input_id(input)) {
            Some(Bound::AllRows) => Ok(None),
            _ => self.input(input).map(Some),
        }
    }

    /// What is added to the scores of keys [rows, 1, 1, length], of the numbers of those that are no padding.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when that is not known.
    pub fn key_mask(&mut self, input: usize) -> Result<String, Error> {
        match self.all.bound.get(&self.input_id(input)) {
            Some(Bound::KeyMask(name)) => Ok(name.clone()),
            _ => Err(self.all.formless(self.input_id(input))),
        }
    }

    /// The name of input `input`, a matrix or several, with its last two axes in each other's place. Of a parameter the
    /// file has it so.
    ///
    /// # Errors
    /// As [`Self::input`].
    pub fn transposed(&mut self, input: usize) -> Result<String, Error> {
        let id = self.input_id(input);
        let rank = self.all.graph.shape(id).len();
        if let (Source::Parameter { index, .. }, 2) = (&self.all.graph.tensor(id).source, rank) {
            return Ok(self.all.parameter(id, *index, true));
        }
        let value = self.input(input)?;
        Ok(self.swapped(&value, rank))
    }

    /// A value of so many axes with its last two in each other's place.
    pub fn swapped(&mut self, value: &str, rank: usize) -> String {
        let mut axes: Vec<i64> = (0..rank as i64).collect();
        axes.swap(rank.saturating_sub(1), rank.saturating_sub(2));
        self.permuted(value, &axes)
    }

    /// A value with its axes in another order.
    pub fn permuted(&mut self, value: &str, axes: &[i64]) -> String {
        self.node("Transpose", &[value], &[("perm", Attribute::Ints(axes.to_vec()))])
    }

    /// Extents of output `output`.
    pub fn output_extents(&self, output: usize) -> Vec<Extent> {
        self.all.extents(self.all.graph.nodes[self.node].outputs[output])
    }

    /// Says which value output `output` is.
    pub fn set(&mut self, output: usize, value: String) {
        let id = self.all.graph.nodes[self.node].outputs[output];
        self.all.bind(id, Bound::Value(value));
    }

    /// A node with one output; returns its name.
    pub fn node(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        self.all.to.node(op, inputs, attributes)
    }

    /// A number; returns its name.
    pub fn scalar(&mut self, value: f32) -> String {
        self.all.to.floats("scalar", &[], &[value])
    }

    /// Integers \[n]; returns their name.
    pub fn integers(&mut self, values: &[i64]) -> String {
        self.all.to.integers("integers", &[values.len()], values)
    }

    /// A value of these extents in others of as many elements.
    pub fn reshaped(&mut self, value: &str, from: &[Extent], to: &[Extent]) -> String {
        if from == to {
            return value.to_owned();
        }
        // 0 is the extent that was there, and one may be left to what remains.
        let kept = |(at, extent): (usize, &Extent)| match from.get(at) {
            _ if extent.is_fixed() => extent.times as i64,
            Some(there) if there == extent => 0,
            _ => -1,
        };
        let told: Vec<i64> = to.iter().enumerate().map(kept).collect();
        let open = told.iter().filter(|&&extent| extent == -1).count();
        let shape = if open <= 1 { self.integers(&told) } else { self.all.shape_value(to) };
        self.node("Reshape", &[value, &shape], &[])
    }

    /// A number in all places of these extents.
    pub fn filled(&mut self, value: f32, extents: &[Extent]) -> String {
        let shape: Vec<usize> = extents.iter().map(|extent| extent.times).collect();
        let len: usize = shape.iter().product();
        if extents.iter().all(|extent| extent.is_fixed()) && len <= MOST_FILLED {
            return self.all.to.floats("filled", &shape, &vec![value; len]);
        }
        let value = self.scalar(value);
        let shape = self.all.shape_value(extents);
        self.node("Expand", &[&value, &shape], &[])
    }

    /// A value stretched to these extents.
    pub fn expanded(&mut self, value: &str, extents: &[Extent]) -> String {
        let shape = self.all.shape_value(extents);
        self.node("Expand", &[value, &shape], &[])
    }

    /// Integers 0, 1, … of as many as there are tokens \[length].
    pub fn places(&mut self) -> String {
        self.all.places()
    }

    /// j - i for each i and j below the length [length, length].
    pub fn distances(&mut self) -> String {
        self.all.distances()
    }

    /// The error of an op, or a form of it, that has none in a file.
    pub fn unsupported(&self, op: &str) -> Error {
        let node = &self.all.graph.nodes[self.node];
        let made = node.outputs.first().map_or_else(String::new, |&id| self.all.graph.describe(id));
        Error::Unsupported {
            what: format!("{op} has no form in an ONNX file, and the model has it at {made}"),
            instead: "use the model through this program".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
