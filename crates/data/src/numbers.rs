//! Examples that are numbers: features and the shape of one example.

use std::sync::Arc;

use super::spec::Normalise;
use super::{Colour, DataError, Normalisation};

/// The numbers of all examples, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub enum Features {
    /// Pixels; value / 255 is meant.
    U8(Vec<u8>),
    /// Numbers, all finite.
    F32(Vec<f32>),
}

impl Features {
    /// How many numbers there are.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(pixels) => pixels.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Examples of one shape, at least one. Clones share the features.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    features: Arc<Features>,
    shape: Vec<usize>,
    rows: usize,
    background: Option<Colour>,
}

impl Numbers {
    /// Examples of `shape`, [C, H, W] for images and \[n] for rows of a table.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when the shape is neither, when there is no example, or when the features are
    /// not a whole number of examples.
    pub fn new(features: Features, shape: Vec<usize>) -> Result<Self, DataError> {
        let unfit = |problem| Err(DataError::Unfit(problem));
        let len = shape.iter().try_fold(1_usize, |len, &size| len.checked_mul(size));
        let Some(len) = len.filter(|len| *len > 0 && matches!(shape.len(), 1 | 3)) else {
            return unfit(format!(
                "an example of shape {shape:?} is neither an image [C, H, W] nor a row [n]"
            ));
        };
        if features.is_empty() || !features.len().is_multiple_of(len) {
            let found = features.len();
            return unfit(format!("{found} numbers are not one or more examples of {shape:?}"));
        }
        let rows = features.len() / len;
        Ok(Self { rows, features: Arc::new(features), shape, background: None })
    }

    /// The same, of pictures that show this colour where they were transparent.
    pub fn on_background(self, background: Option<Colour>) -> Self {
        Self { background, ..self }
    }

    /// The colour that pictures show where they were transparent; none if none was.
    pub fn background(&self) -> Option<Colour> {
        self.background
    }

    /// The numbers of all examples.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// Shape of one example: [C, H, W] for images, \[n] for rows of a table.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none; there always are some.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Numbers of one example.
    pub fn example_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The first `count` examples, or all if there are fewer; at least one.
    pub fn take(self, count: usize) -> Self {
        let rows = self.rows.min(count.max(1));
        if rows == self.rows {
            return self;
        }
        let len = rows * self.example_len();
        let features = match &*self.features {
            Features::U8(pixels) => Features::U8(pixels[..len].to_vec()),
            Features::F32(values) => Features::F32(values[..len].to_vec()),
        };
        Self { features: Arc::new(features), rows, ..self }
    }

    /// The examples of these numbers, in their order.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when a number is out of range or none is given.
    pub fn select(&self, indices: &[u32]) -> Result<Self, DataError> {
        if let Some(index) = indices.iter().find(|&&index| index as usize >= self.rows) {
            let rows = self.rows;
            return Err(DataError::Unfit(format!("there is no example {index} among {rows}")));
        }
        let features = match &*self.features {
            Features::U8(pixels) => Features::U8(self.rows_of(pixels, indices)),
            Features::F32(values) => Features::F32(self.rows_of(values, indices)),
        };
        Ok(Self::new(features, self.shape.clone())?.on_background(self.background))
    }

    fn rows_of<T: Copy>(&self, values: &[T], indices: &[u32]) -> Vec<T> {
        let len = self.example_len();
        let mut rows = Vec::with_capacity(indices.len() * len);
        for &index in indices {
            rows.extend_from_slice(&values[index as usize * len..][..len]);
        }
        rows
    }

    /// Adds all numbers to a checksum.
    pub(super) fn digest(&self, digest: &mut crc32fast::Hasher) {
        match self.features() {
            Features::U8(pixels) => digest.update(pixels),
            Features::F32(values) => digest.update(bytemuck::cast_slice(values)),
        }
    }

    /// A checksum (CRC-32) of each example.
    pub(super) fn row_digests(&self) -> Vec<u32> {
        let len = self.example_len();
        match self.features() {
            Features::U8(pixels) => pixels.chunks_exact(len).map(crc32fast::hash).collect(),
            Features::F32(values) => {
                let rows = values.chunks_exact(len);
                rows.map(|row| crc32fast::hash(bytemuck::cast_slice(row))).collect()
            }
        }
    }

    /// The normalisation that a recipe asks for.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when a given one is of another length than the examples need.
    pub fn normalisation_for(&self, normalise: &Normalise) -> Result<Normalisation, DataError> {
        let normalisation = match normalise {
            Normalise::Standardise => self.normalisation(),
            Normalise::None => Normalisation::identity(),
            Normalise::Given(given) => given.clone(),
        };
        normalisation.check(&self.shape)?;
        Ok(normalisation)
    }

    /// Mean and standard deviation of each channel of images, of each feature of rows, in f64 over all
    /// examples (pixels as value / 255).
    pub fn normalisation(&self) -> Normalisation {
        match &*self.features {
            Features::U8(pixels) => {
                Normalisation::measure(pixels, &self.shape, |pixel| f64::from(pixel) / 255.0)
            }
            Features::F32(values) => Normalisation::measure(values, &self.shape, f64::from),
        }
    }
}
