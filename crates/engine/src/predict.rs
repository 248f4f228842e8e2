//! A saved model that answers: from a folder to predictions.

use std::fmt;
use std::path::Path;

use crate::data::{Examples, Text, Texts};
use crate::device::{Choice, Device, GpuOptions, select};
use crate::error::Error;
use crate::measure::Evaluator;
use crate::models::{self, BatchEncoder, ModelConfig};
use crate::objective::frozen_store;
use crate::scores::largest;
use crate::store::Store;
use crate::task::TaskRef;

/// A saved model on a device, which answers texts and other examples in batches.
///
/// ```no_run
/// use distil_gpu_engine::prelude::*;
///
/// let mut model = Predictor::load("runs/movie-sentiment/student")?;
/// for prediction in model.predict(&["a warm and funny film", "two hours of my life"])? {
///     println!("{} ({:.1} %)", prediction.label, 100.0 * prediction.score);
/// }
/// # Ok::<(), Error>(())
/// ```
pub struct Predictor {
    config: ModelConfig,
    device: Box<dyn Device>,
    store: Store,
}

/// What a model says of an example.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// The name of the output with the highest score; empty where outputs have no names, as those of embeddings.
    pub label: String,
    /// Its score.
    pub score: f32,
    /// The scores of all outputs, in the order of [`Predictor::labels`]: probabilities of classes or of labels, values of a
    /// regression, or the numbers of a vector.
    pub scores: Vec<f32>,
}

impl Predictor {
    /// Loads the model of a folder onto a real GPU, or the processor where there is none.
    ///
    /// # Errors
    /// As [`models::load`], and when the device has no room.
    pub fn load(folder: impl AsRef<Path>) -> Result<Self, Error> {
        Self::on(folder, select(Choice::Auto, GpuOptions::default())?.device)
    }

    /// Loads the model of a folder onto this device.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn on(folder: impl AsRef<Path>, mut device: Box<dyn Device>) -> Result<Self, Error> {
        let (config, values) = models::load(folder.as_ref())?;
        let storage = models::storage(folder.as_ref())?;
        let store = frozen_store(&mut *device, &config, &values, storage)?;
        Ok(Self { config, device, store })
    }

    /// What the model is.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Names of its outputs, in order; none of a model that makes vectors.
    pub fn labels(&self) -> &[String] {
        &self.config.class_names
    }

    /// What it says of each of these texts, in their order.
    ///
    /// # Errors
    /// When there is no text, the model reads no texts, or its answer to one is not a row of scores, as that of a masked
    /// language model.
    pub fn predict<T: AsRef<str>>(&mut self, texts: &[T]) -> Result<Vec<Prediction>, Error> {
        let rows = texts.iter().map(|text| Text::from(text.as_ref())).collect();
        self.predict_examples(&Texts::new(rows)?.into())
    }

    /// What it says of each of these examples, in their order.
    ///
    /// # Errors
    /// As [`Self::predict`].
    pub fn predict_examples(&mut self, examples: &Examples) -> Result<Vec<Prediction>, Error> {
        let task = TaskRef::of_model(&self.config);
        if !task.answers_once() {
            return Err(Error::Unsupported {
                what: format!("the answer of a model of `{}` is not a row of scores", task.name()),
                instead: "measure it by `distil-gpu eval`".to_owned(),
            });
        }
        let feed = BatchEncoder::new(&self.config.input, examples)?;
        let mut evaluator = Evaluator::new(&self.config, &self.store);
        let answers = evaluator.logits(&mut *self.device, &feed, &mut |_| ());
        evaluator.close(&mut *self.device);
        let mut answers = answers?;
        let rows = answers.chunks_exact_mut(self.config.answer_len());
        Ok(rows.map(|answer| self.prediction(task, answer)).collect())
    }

    fn prediction(&self, task: TaskRef, answer: &mut [f32]) -> Prediction {
        task.scores_of_answer(answer);
        let best = largest(answer);
        let label = self.config.class_names.get(best).cloned().unwrap_or_default();
        Prediction { label, score: answer[best], scores: answer.to_vec() }
    }
}

impl fmt::Debug for Predictor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Predictor")
            .field("model", &self.config.model().summary())
            .finish_non_exhaustive()
    }
}
