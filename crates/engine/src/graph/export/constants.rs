//! Constants of a graph in a file. One that goes with the length is known by its shape, and the file has it for the
//! longest example: what a shorter one needs is cut out of it.

use distil_gpu_kernels::DType;
use distil_gpu_onnx::Attribute;

use super::{Export, Exporter};
use crate::error::Error;
use crate::graph::{Constant, Source, TensorId};

impl Exporter<'_> {
    /// Integers 0, 1, … of as many as there are tokens \[length].
    pub fn places(&mut self) -> String {
        let none = self.to.integers("none", &[], &[0]);
        let one = self.to.integers("one", &[], &[1]);
        let length = self.sizes[1].clone();
        let axes = self.to.integers("axes", &[1], &[0]);
        let length = self.to.node("Squeeze", &[&length, &axes], &[]);
        self.to.node("Range", &[&none, &length, &one], &[])
    }

    /// j - i for each i and j below the length [length, length].
    pub(super) fn distances(&mut self) -> String {
        let places = self.places();
        let axes = self.to.integers("axes", &[1], &[1]);
        let queries = self.to.node("Unsqueeze", &[&places, &axes], &[]);
        self.to.node("Sub", &[&places, &queries], &[])
    }

    /// A constant: as it is, its first rows where it has one for each place, or by distance where it has an element for
    /// each pair of places.
    pub(super) fn constant(&mut self, id: TensorId, constant: &Constant) -> Result<String, Error> {
        let tensor = self.graph.tensor(id);
        let (name, words, length) = (&constant.name, &constant.words, self.marks.length);
        let extents = self.extents(id);
        if extents.iter().all(|extent| extent.is_fixed()) {
            return Ok(self.stored(name, &tensor.shape, words, tensor.dtype));
        }
        let (first, others) = match extents.split_first() {
            Some((first, others)) if others.iter().all(|extent| extent.is_fixed()) => {
                (*first, &tensor.shape[1..])
            }
            _ => return Err(self.formless(id)),
        };
        let width: usize = others.iter().product();
        if first.is_length() {
            let rows = self.positions.min(length);
            let shape: Vec<usize> = [rows].into_iter().chain(others.iter().copied()).collect();
            let table = self.stored(name, &shape, &words[..rows * width], tensor.dtype);
            let [begin, axes] = [0, 0].map(|value| self.to.integers("zero", &[1], &[value]));
            let end = self.sizes[1].clone();
            return Ok(self.to.node("Slice", &[&table, &begin, &end, &axes], &[]));
        }
        if tensor.shape == [length * length] && tensor.dtype == DType::I32 {
            // By j - i, from 1 - length on.
            let at = |distance: usize| match distance.checked_sub(length - 1) {
                Some(ahead) => words[ahead],
                None => words[(length - 1 - distance) * length],
            };
            let by_distance: Vec<u32> = (0..2 * length - 1).map(at).collect();
            let follows = |(place, word): (usize, &u32)| {
                by_distance[place % length + length - 1 - place / length] == *word
            };
            if words.iter().enumerate().all(follows) {
                let distances = self.distances();
                let found = self.by_distance(name, &by_distance, &distances);
                let all = self.to.integers("all", &[1], &[-1]);
                return Ok(self.to.node("Reshape", &[&found, &all], &[]));
            }
        }
        Err(self.formless(id))
    }

    /// The integers that `table` has for distances, which begin with 1 - the marked length.
    fn by_distance(&mut self, name: &str, table: &[u32], distances: &str) -> String {
        let most = self.positions.clamp(1, self.marks.length);
        let first = self.marks.length - most;
        let near = &table[first..first + 2 * most - 1];
        let table = self.stored(name, &[near.len()], near, DType::I32);
        let nearest = self.to.integers("furthest", &[], &[most as i64 - 1]);
        let places = self.to.node("Add", &[distances, &nearest], &[]);
        self.to.node("Gather", &[&table, &places], &[("axis", Attribute::Int(0))])
    }

    fn stored(&mut self, name: &str, shape: &[usize], words: &[u32], dtype: DType) -> String {
        match dtype {
            DType::I32 => {
                let wide: Vec<i64> =
                    words.iter().map(|word| i64::from(word.cast_signed())).collect();
                self.to.integers(name, shape, &wide)
            }
            _ => {
                let floats: Vec<f32> = words.iter().map(|word| f32::from_bits(*word)).collect();
                self.to.floats(name, shape, &floats)
            }
        }
    }
}

impl Export<'_, '_> {
    /// The integers that a constant, input `input`, has for each i - j of places i and j [length, length]; it has
    /// them for 1 - length to length - 1.
    ///
    /// # Errors
    /// [`Error::Unsupported`] when it is no such constant.
    pub fn by_difference(&mut self, input: usize) -> Result<String, Error> {
        let id = self.input_id(input);
        let tensor = self.all.graph.tensor(id);
        let Source::Constant(Constant { name, words }) = &tensor.source else {
            return Err(self.all.formless(id));
        };
        if words.len() != 2 * self.all.marks.length - 1 {
            return Err(self.all.formless(id));
        }
        let distances = self.all.distances();
        let differences = self.node("Neg", &[&distances], &[]);
        Ok(self.all.by_distance(name, words, &differences))
    }
}
