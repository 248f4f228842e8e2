//! Where a student's teacher has its answers from.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use distil_gpu_kernels::DType;

use super::Objective;
use super::names::TEACHER_LOGITS;
use super::plans::TeacherInput;
use crate::device::{Device, HostTensor};
use crate::error::Error;
use crate::models::{HostBatch, ModelConfig, Source};
use crate::store::{Layout, Numbers, Part, Storage, Store, Stored};

/// The answers of a teacher to what its student learns from.
pub trait TeacherAnswers: Debug {
    /// How they enter the plans of the student.
    fn input<'a>(&'a self, objective: &'a Objective) -> TeacherInput<'a>;

    /// The model that makes them within those plans, and its parameters, if there is one.
    fn model(&self) -> Option<(&ModelConfig, &Store)> {
        None
    }

    /// Writes the answers to these examples where they are an input of the plans, which have room for `rows` rows.
    ///
    /// # Errors
    /// When answers that lie on a disk cannot be read.
    fn fill(&self, _examples: &[u32], _rows: usize, _batch: &mut HostBatch) -> Result<(), Error> {
        Ok(())
    }

    /// Gives back what it has on the device.
    fn free(self: Box<Self>, _device: &mut dyn Device) {}
}

/// A model that answers within the step, forward only.
#[derive(Debug)]
pub struct TeacherModel {
    /// What it is.
    pub config: ModelConfig,
    /// Its parameters on the device.
    pub store: Store,
}

impl TeacherAnswers for TeacherModel {
    fn input<'a>(&'a self, objective: &'a Objective) -> TeacherInput<'a> {
        let stored = (&*self.store.layout.types).into();
        TeacherInput::Model { config: &self.config, stored, objective }
    }

    fn model(&self) -> Option<(&ModelConfig, &Store)> {
        Some((&self.config, &self.store))
    }

    fn free(self: Box<Self>, device: &mut dyn Device) {
        self.store.free(device);
    }
}

impl TeacherModel {
    /// Puts a model's parameters on the device, in f32.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(
        device: &mut dyn Device,
        config: ModelConfig,
        values: &[Vec<f32>],
    ) -> Result<Self, Error> {
        let store = frozen_store(device, &config, values, Storage::F32)?;
        Ok(Self { config, store })
    }
}

/// Answers given beforehand: raw logits of the training data, in its order.
#[derive(Debug)]
pub struct TeacherLogits {
    /// All of them [examples, width].
    pub values: Vec<f32>,
    /// Numbers of an answer.
    pub width: usize,
}

impl TeacherAnswers for TeacherLogits {
    fn input<'a>(&'a self, objective: &'a Objective) -> TeacherInput<'a> {
        TeacherInput::Given { objective }
    }

    fn fill(&self, examples: &[u32], rows: usize, batch: &mut HostBatch) -> Result<(), Error> {
        let Self { values, width } = self;
        let out = batch.floats(TEACHER_LOGITS, rows * width);
        for (row, &example) in out.chunks_exact_mut(*width).zip(examples) {
            row.copy_from_slice(&values[example as usize * width..][..*width]);
        }
        Ok(())
    }
}

/// A store that holds a model's parameters and nothing else.
///
/// # Errors
/// [`Error::BeyondF16`]; when the device has no room.
pub fn frozen_store<'a>(
    device: &mut dyn Device,
    config: &ModelConfig,
    values: &[Vec<f32>],
    stored: impl Into<Stored<'a>>,
) -> Result<Store, Error> {
    filled(device, config, stored.into(), &|index, _| Ok(Numbers::Floats((&*values[index]).into())))
}

/// The same of parameters that lie in files: one after another is read, written to the device and dropped.
///
/// # Errors
/// As [`frozen_store`]; when a tensor cannot be read.
pub fn store_of<'a>(
    device: &mut dyn Device,
    config: &ModelConfig,
    source: &Source,
    stored: impl Into<Stored<'a>>,
) -> Result<Store, Error> {
    filled(device, config, stored.into(), &|index, dtype| source.numbers(index, dtype))
}

/// Parameters of a model.
#[derive(Clone, Debug)]
pub enum Parameters<'a> {
    /// In memory, in the model's order.
    Values(Cow<'a, [Vec<f32>]>),
    /// Where they lie: they are read one by one.
    Files(Arc<Source>),
}

impl<'a> From<&'a [Vec<f32>]> for Parameters<'a> {
    fn from(values: &'a [Vec<f32>]) -> Self {
        Self::Values(values.into())
    }
}

impl<'a> From<&'a Vec<Vec<f32>>> for Parameters<'a> {
    fn from(values: &'a Vec<Vec<f32>>) -> Self {
        Self::Values((&**values).into())
    }
}

impl From<Source> for Parameters<'_> {
    fn from(source: Source) -> Self {
        Self::Files(Arc::new(source))
    }
}

impl Parameters<'_> {
    /// A store that holds them and nothing else.
    ///
    /// # Errors
    /// As [`frozen_store`] and [`store_of`].
    pub fn store<'s>(
        &self,
        device: &mut dyn Device,
        config: &ModelConfig,
        stored: impl Into<Stored<'s>>,
    ) -> Result<Store, Error> {
        match self {
            Self::Values(values) => frozen_store(device, config, values, stored),
            Self::Files(source) => store_of(device, config, source, stored),
        }
    }
}

/// What gives the numbers of a parameter for an element type.
type Numbered<'n> = dyn Fn(usize, DType) -> Result<Numbers<'n>, Error> + 'n;

fn filled(
    device: &mut dyn Device,
    config: &ModelConfig,
    stored: Stored<'_>,
    numbers: &Numbered<'_>,
) -> Result<Store, Error> {
    let layout = Layout::stored(config.model().parameters(), stored)?;
    let metrics = distil_gpu_kernels::distill_loss::TERMS;
    let store = Store::new(device, "frozen model", layout, &[Part::Parameters], metrics)?;
    let mut all = store.layout.types.iter().enumerate();
    let written = all.try_for_each(|(index, &dtype)| {
        store.put(device, Part::Parameters, index, numbers(index, dtype)?)
    });
    match written {
        Ok(()) => Ok(store),
        Err(error) => {
            store.free(device);
            Err(error)
        }
    }
}

/// An input by name, for [`Device::run`].
pub(crate) type Named<'a> = (&'a str, HostTensor<'a>);
