//! Where parameters and what goes with them lie: plain data, of no device.
//!
//! A layout packs its parameters into a few flat segments, so that an optimizer sweeps all of them in one
//! launch. Gradients and moments have the same layout as the parameters. Training plans, evaluation plans
//! and the plans of every batch shape bind the same store.

use std::borrow::Cow;

use distil_gpu_kernels::{Blocks, DType, random};
use half::f16;
use serde::Serialize;

use crate::bytes;
use crate::error::Error;

/// Tensors start at multiples of so many bytes: the offset alignment of every device.
pub const ALIGNMENT_BYTES: usize = 256;

/// The same in elements of f32.
pub const ALIGNMENT: usize = ALIGNMENT_BYTES / 4;

/// Most bytes of a segment: 128 MiB, the binding size every device offers. A parameter that is larger has a segment
/// of its own, of which devices that cannot bind so much bind some rows at a time; see `plan::Tiled`.
pub const SEGMENT_BYTES: usize = 128 << 20;

/// Most elements of a parameter: kernels count them in u32.
const MOST_ELEMENTS: usize = u32::MAX as usize - ALIGNMENT;

/// The kinds of buffer a store has, one of each per segment (and one for all metrics, and for the loss scale).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// The parameters.
    Parameters,
    /// Their gradients.
    Gradients,
    /// First moment: momentum, Adam's m.
    Moment1,
    /// Second moment: Adam's v.
    Moment2,
    /// Sums over an epoch; see `results::Metrics`.
    Metrics,
    /// The scale of the loss and what it hangs on, where training needs one; see [`distil_gpu_kernels::loss_scale`].
    LossScale,
    /// Of no store: memory that plans share; see `scratch::Scratch`.
    Scratch,
}

/// Names one buffer of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorePart {
    /// Which store; the graph's parameters name it.
    pub store: usize,
    /// Which kind of buffer.
    pub part: Part,
    /// Which segment.
    pub segment: usize,
}

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All this value.
    Constant(f32),
    /// Uniform in [-bound, bound).
    Uniform(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// All this value, of a running statistic: a number that the forward pass of training keeps, and no gradient changes.
    Statistic(f32),
}

/// How the parameters of a store lie in its memory. What is computed from them is f32 either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// All in f32.
    #[default]
    F32,
    /// Matrices in f16, which makes them half as large; vectors (biases and norms, which are small) in f32. For models
    /// that stay as they are.
    F16,
    /// Matrices in bytes, each row with a scale of its own in f32, which makes them a quarter as large; vectors and matrices
    /// whose rows are no whole words in f32. For models that stay as they are.
    #[serde(rename = "int8")]
    I8,
    /// Matrices in bf16, the upper half of f32; vectors and matrices of an odd number of columns in f32. For models that
    /// stay as they are.
    BF16,
    /// Matrices in 8 bits a number, of each 32 a scale in f32, as GGUF's Q8_0; vectors and what is no whole blocks in f32.
    /// For models that stay as they are.
    #[serde(rename = "q8_0")]
    #[allow(non_camel_case_types, reason = "ggml's own name")]
    Q8_0,
    /// Matrices in 4 bits a number, in blocks of 256, as GGUF's Q4_K; those that are no whole such blocks as in
    /// [`Self::Q8_0`]. For models that stay as they are.
    #[serde(rename = "q4_k")]
    #[allow(non_camel_case_types, reason = "ggml's own name")]
    Q4_K,
}

impl Storage {
    /// All there are, by what people call them.
    pub const NAMES: [(&str, Self); 6] = [
        ("f32", Self::F32),
        ("f16", Self::F16),
        ("bf16", Self::BF16),
        ("int8", Self::I8),
        ("q8_0", Self::Q8_0),
        ("q4_k", Self::Q4_K),
    ];

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(own, _)| *own == name).map(|(_, storage)| *storage)
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, own)| *own == self).map_or("f32", |(name, _)| name)
    }

    /// Element type of a parameter of this shape.
    pub fn dtype(self, shape: &[usize]) -> DType {
        match self {
            Self::F16 if shape.len() > 1 => DType::F16,
            Self::I8 if matches!(shape, [_, columns] if columns % 4 == 0) => DType::I8,
            Self::BF16 | Self::Q8_0 | Self::Q4_K => {
                let fits = |blocks: &&Blocks| matches!(shape, [_, columns] if columns.is_multiple_of(blocks.numbers()));
                let blocks = self.blocks().iter().find(fits);
                blocks.map_or(DType::F32, |blocks| DType::Blocks(*blocks))
            }
            _ => DType::F32,
        }
    }

    /// The blocks that matrices lie in, the first that their rows are whole ones of.
    fn blocks(self) -> &'static [Blocks] {
        match self {
            Self::BF16 => &[Blocks::BF16],
            Self::Q8_0 => &[Blocks::Q8_0],
            Self::Q4_K => &[Blocks::Q4_K, Blocks::Q8_0],
            Self::F32 | Self::F16 | Self::I8 => &[],
        }
    }
}

/// How the parameters of a store lie in its memory: by one rule, or each in its own type.
#[derive(Clone, Copy, Debug)]
pub enum Stored<'a> {
    /// By their shapes.
    By(Storage),
    /// In these types, in the order of the model's parameters.
    In(&'a [DType]),
}

impl From<Storage> for Stored<'_> {
    fn from(storage: Storage) -> Self {
        Self::By(storage)
    }
}

impl<'a> From<&'a [DType]> for Stored<'a> {
    fn from(types: &'a [DType]) -> Self {
        Self::In(types)
    }
}

impl Stored<'_> {
    /// Element type of each of a model's parameters.
    ///
    /// # Panics
    /// When types are given of more or fewer parameters.
    pub fn types(self, parameters: &[ParameterSpec]) -> Vec<DType> {
        match self {
            Self::By(storage) => parameters.iter().map(|spec| storage.dtype(&spec.shape)).collect(),
            Self::In(types) => {
                assert_eq!(types.len(), parameters.len(), "each parameter has a type");
                types.to_vec()
            }
        }
    }
}

/// Refuses values that cannot be stored in this type.
///
/// # Errors
/// [`Error::BeyondF16`] naming the parameter.
pub fn check_range(dtype: DType, parameter: &ParameterSpec, values: &[f32]) -> Result<(), Error> {
    let beyond = |value: &&f32| value.is_nan() || value.abs() > f16::MAX.to_f32();
    match values.iter().find(beyond) {
        Some(&value) if dtype == DType::F16 => {
            Err(Error::BeyondF16 { tensor: parameter.name.clone(), value })
        }
        _ => Ok(()),
    }
}

/// A parameter's name and shape.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// The name it has in `model.safetensors`.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Whether weight decay applies.
    pub decay: bool,
    /// How it starts.
    pub init: Init,
}

impl ParameterSpec {
    /// Elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether gradients change it; a running statistic is kept by the forward pass.
    pub fn learns(&self) -> bool {
        !matches!(self.init, Init::Statistic(_))
    }

    /// Elements of each of its rows: of what one index along the first axis names.
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Its first values: the same for the same seed and `index` on every machine.
    pub fn initial(&self, seed: u32, index: usize) -> Vec<f32> {
        let stream = random::stream::WEIGHTS + index as u32;
        match self.init {
            Init::Constant(value) | Init::Statistic(value) => vec![value; self.len()],
            Init::Uniform(bound) => (0..self.len() as u32)
                .map(|i| bound * (2.0 * random::unit(random::word(seed, stream, 0, i)) - 1.0))
                .collect(),
            // Box and Muller 1958, in f64: the logarithm of the smallest unit, 2^-24, is far from overflow.
            Init::Normal(deviation) => (0..self.len() as u32)
                .map(|i| {
                    let unit = |at| f64::from(random::unit(random::word(seed, stream, at, i)));
                    let radius = (-2.0 * (1.0 - unit(0)).ln()).sqrt();
                    let angle = std::f64::consts::TAU * unit(1);
                    (f64::from(deviation) * radius * angle.cos()) as f32
                })
                .collect(),
        }
    }
}

/// Where a parameter lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Segment.
    pub segment: usize,
    /// First element in it.
    pub offset: usize,
}

/// Names, shapes and places of a store's parameters.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// The parameters, in the order the model declared them; behind them the scales of those in bytes.
    pub parameters: Vec<ParameterSpec>,
    /// Of each of the model's parameters, which one its scales are, where it lies in bytes.
    pub scales: Vec<Option<usize>>,
    /// Where each lies.
    pub places: Vec<Place>,
    /// The segments.
    pub segments: Vec<Segment>,
    /// Element type of each of the model's parameters.
    pub types: Vec<DType>,
}

/// A flat piece of a store's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Elements.
    pub len: usize,
    /// Of this type.
    pub dtype: DType,
}

impl Segment {
    /// Bytes that it takes on a device, which has no empty buffers.
    pub fn bytes(&self) -> u64 {
        self.dtype.bytes_of(self.len).max(ALIGNMENT_BYTES) as u64
    }
}

impl Layout {
    /// Packs the parameters in f32; see [`Layout::stored`].
    ///
    /// # Errors
    /// [`Error::TooLarge`] when one parameter has more elements than a kernel can count.
    pub fn new(parameters: Vec<ParameterSpec>) -> Result<Self, Error> {
        Self::stored(parameters, Storage::F32)
    }

    /// Packs the parameters: those in f16 or in bytes first, of each type those with decay first, then the others, each kind in
    /// declared order.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when one parameter has more elements than a kernel can count.
    ///
    /// # Panics
    /// When types are given of more or fewer parameters.
    pub fn stored<'a>(
        mut parameters: Vec<ParameterSpec>,
        stored: impl Into<Stored<'a>>,
    ) -> Result<Self, Error> {
        let types = stored.into().types(&parameters);
        let mut scales = vec![None; parameters.len()];
        for (index, scale) in scales.iter_mut().enumerate() {
            if types[index] == DType::I8 {
                let spec = bytes::scale_spec(&parameters[index]);
                *scale = Some(parameters.len());
                parameters.push(spec);
            }
        }
        let places = vec![Place { segment: 0, offset: 0 }; parameters.len()];
        let mut layout = Self { places, scales, ..Self::default() };
        let blocks = Blocks::ALL.into_iter().map(DType::Blocks);
        let kinds = blocks.chain([DType::F16, DType::I8, DType::F32]);
        for kind in kinds.flat_map(|dtype| [(dtype, true), (dtype, false)]) {
            for (index, parameter) in parameters.iter().enumerate() {
                // Scales are f32.
                let dtype = types.get(index).copied().unwrap_or(DType::F32);
                if (dtype, parameter.decay) == kind {
                    layout.places[index] = layout.place(parameter, kind.0)?;
                }
            }
        }
        if layout.segments.is_empty() {
            layout.segments.push(Segment { len: 0, dtype: DType::F32 });
        }
        (layout.parameters, layout.types) = (parameters, types);
        Ok(layout)
    }

    /// Finds a place for one more parameter: in the last segment, or in a new one.
    fn place(&mut self, parameter: &ParameterSpec, dtype: DType) -> Result<Place, Error> {
        let len = parameter.len().next_multiple_of(dtype.filling(ALIGNMENT_BYTES));
        if len > MOST_ELEMENTS {
            return Err(Error::TooLarge {
                tensor: parameter.name.clone(),
                bytes: dtype.bytes_of(len) as u64,
                limit: "range of indices",
                allowed: dtype.bytes_of(MOST_ELEMENTS) as u64,
            });
        }
        let most = dtype.held_in(SEGMENT_BYTES);
        let fits =
            |last: &&mut Segment| last.dtype == dtype && (last.len == 0 || last.len + len <= most);
        let offset = match self.segments.last_mut().filter(fits) {
            Some(last) => {
                last.len += len;
                last.len - len
            }
            None => {
                self.segments.push(Segment { len, dtype });
                0
            }
        };
        Ok(Place { segment: self.segments.len() - 1, offset })
    }

    /// Element type of a parameter, or of scales behind them.
    pub fn dtype(&self, index: usize) -> DType {
        self.types.get(index).copied().unwrap_or(DType::F32)
    }

    /// What is written for the values of parameter `index`: itself, or bytes as numbers and the scales of their rows, each with
    /// the parameter whose place it takes.
    pub fn written<'a>(&self, index: usize, values: &'a [f32]) -> Vec<(usize, Cow<'a, [f32]>)> {
        let Some(Some(scale)) = self.scales.get(index) else { return vec![(index, values.into())] };
        let (bytes, scales) = bytes::quantise(values, self.parameters[index].row_len());
        let bytes: Vec<f32> = bytes.into_iter().map(f32::from).collect();
        vec![(index, bytes.into()), (*scale, scales.into())]
    }

    /// The matrix that a segment is, where it holds nothing else.
    pub fn matrix(&self, segment: usize) -> Option<&ParameterSpec> {
        let mut here =
            (0..self.places.len()).filter(|&index| self.places[index].segment == segment);
        let (first, more) = (here.next()?, here.next().is_some());
        let spec = &self.parameters[first];
        (!more && spec.shape.len() > 1 && !spec.is_empty()).then_some(spec)
    }

    /// Number of parameters, counted as the field does: elements over all tensors.
    pub fn parameter_count(&self) -> usize {
        self.parameters[..self.scales.len()].iter().map(ParameterSpec::len).sum()
    }
}
