//! What a page must answer before it is believed: inputs, and what this program's processor path makes of them.

use distil_gpu_engine::Error;
use distil_gpu_engine::data::{Examples, Features, Numbers};
use distil_gpu_engine::device::{CpuDevice, Device};
use distil_gpu_engine::kernels::{StepState, random};
use distil_gpu_engine::models::{
    BatchEncoder, BatchShape, Draw, HostBatch, Input, ModelConfig, Pooling,
};
use distil_gpu_engine::objective::{LOGITS, forward_plan_in, frozen_store};
use distil_gpu_engine::plan::Plan;
use distil_gpu_engine::store::{Storage, Store};
use serde::Serialize;

/// Rows of a batch that a probe fills; those behind are padding.
const ROWS: usize = 2;
/// Words of a text whose classes a probe asks for.
const WORDS: usize = 4;
/// Seed of what probes are made of.
const SEED: u32 = 2015;
/// Levels of a channel.
const SHADES: u32 = 256;

/// Examples and the model's answers to them.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// The examples.
    pub rows: Vec<Row>,
    /// The numbers of all answers, one behind the other.
    pub logits: Vec<f32>,
}

/// An example of a probe.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Row {
    /// A text's tokens.
    Tokens {
        /// Their numbers.
        ids: Vec<i32>,
        /// Which of two texts each is of.
        types: Vec<i32>,
        /// Which of them stand for words, where these have classes.
        words: Vec<usize>,
    },
    /// Numbers before they are normalised; of pictures from 0 to 255.
    Numbers {
        /// These.
        values: Vec<f32>,
    },
}

/// Answers probes on the processor, with the parameters as a page has them.
#[derive(Debug)]
pub struct Prober<'a> {
    config: &'a ModelConfig,
    device: CpuDevice<f32>,
    store: Store,
    /// Tokens that texts are made of.
    ordinary: Vec<i32>,
}

impl<'a> Prober<'a> {
    /// For a model whose parameters are stored so.
    ///
    /// # Errors
    /// [`Error::BeyondF16`]; when there is no room.
    pub fn new(
        config: &'a ModelConfig,
        values: &[Vec<f32>],
        storage: Storage,
    ) -> Result<Self, Error> {
        let mut device = CpuDevice::<f32>::new();
        let store = frozen_store(&mut device, config, values, storage)?;
        let ordinary = match &config.input {
            Input::Tokens(tokens) => tokens.tokenizer()?.ordinary(),
            Input::Numbers { .. } => Vec::new(),
        };
        Ok(Self { config, device, store, ordinary })
    }

    /// The plan of batches of a shape.
    ///
    /// # Errors
    /// When the model cannot take the shape.
    pub fn plan(&self, shape: BatchShape) -> Result<Plan, Error> {
        forward_plan_in(self.config, &*self.store.layout.types, shape)
    }

    /// A probe of a plan.
    ///
    /// # Errors
    /// [`Error::Model`] when an answer is no finite number.
    pub fn probe(&mut self, plan: &Plan, shape: BatchShape) -> Result<Probe, Error> {
        let rows: Vec<Row> = (0..shape.rows.min(ROWS)).map(|row| self.row(row, shape)).collect();
        let logits = self.answer(plan, shape, &rows)?;
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(Error::Unsupported {
                what: "the model's answers to a probe are no finite numbers".to_owned(),
                instead: "no page can be made of it; look at its weights".to_owned(),
            });
        }
        Ok(Probe { rows, logits })
    }

    /// The answers to the rows of a batch.
    ///
    /// # Errors
    /// When the rows are none of the model's.
    pub fn answer(
        &mut self,
        plan: &Plan,
        shape: BatchShape,
        rows: &[Row],
    ) -> Result<Vec<f32>, Error> {
        let mut batch = HostBatch::default();
        let answers = self.fill(shape, rows, &mut batch)?;
        let store = &self.store;
        let program = self.device.load(plan, &|part| store.buffer(part.part, part.segment))?;
        let inputs: Vec<_> = batch.inputs().collect();
        let ran = self.device.run(program, &StepState::default(), &inputs);
        let output = ran.and_then(|()| self.device.output(program, LOGITS));
        self.device.unload(program);
        let mut output = output?;
        output.truncate(answers * self.config.answer_len());
        Ok(output)
    }

    /// Fills a batch; how many answers there are.
    fn fill(&self, shape: BatchShape, rows: &[Row], batch: &mut HostBatch) -> Result<usize, Error> {
        match &self.config.input {
            Input::Numbers { shape: of_example, .. } => {
                let values = rows.iter().flat_map(|row| match row {
                    Row::Numbers { values } => values.clone(),
                    Row::Tokens { .. } => Vec::new(),
                });
                let features = match is_picture(of_example) {
                    true => Features::U8(values.map(|shade| shade as u8).collect()),
                    false => Features::F32(values.collect()),
                };
                let examples = Examples::from(Numbers::new(features, of_example.clone())?);
                let feed = BatchEncoder::new(&self.config.input, &examples)?;
                let all: Vec<u32> = (0..rows.len() as u32).collect();
                feed.fill(&all, shape, Draw::FIXED, batch);
                Ok(rows.len())
            }
            input @ Input::Tokens(tokens) => {
                let (mut texts, mut places) = (Vec::new(), Vec::new());
                for (at, row) in rows.iter().enumerate() {
                    if let Row::Tokens { ids, types, words } = row {
                        texts.push((&**ids, &**types));
                        places.extend(words.iter().map(|word| at * shape.length + word));
                    }
                }
                batch.texts(tokens, shape, &texts);
                if tokens.pooling != Pooling::Words {
                    return Ok(texts.len());
                }
                batch.places(input.labels(shape), &places);
                Ok(places.len())
            }
        }
    }

    fn row(&self, row: usize, shape: BatchShape) -> Row {
        let word = |stream: u32, at: usize| {
            random::word(SEED + row as u32, stream, shape.length as u32, at as u32)
        };
        match &self.config.input {
            Input::Numbers { shape, normalisation, .. } => {
                let len = shape.iter().product();
                let value = |at: usize| {
                    if is_picture(shape) {
                        return (word(0, at) % SHADES) as f32;
                    }
                    // Within two standard deviations of what the model learnt from.
                    let of = |list: &[f32]| list.get(at).or(list.first()).copied().unwrap_or(0.0);
                    let spread = 4.0 * random::unit(word(0, at)) - 2.0;
                    of(&normalisation.mean) + spread * of(&normalisation.std)
                };
                Row::Numbers { values: (0..len).map(value).collect() }
            }
            Input::Tokens(tokens) => {
                // One text fills its row, another does not.
                let len = if row == 0 { shape.length } else { shape.length.div_ceil(2) };
                let known = |at: usize| self.ordinary[word(1, at) as usize % self.ordinary.len()];
                let ids = match self.ordinary.is_empty() {
                    true => vec![0; len],
                    false => (0..len).map(known).collect(),
                };
                let words = match tokens.pooling {
                    Pooling::Words => (0..len.min(WORDS)).collect(),
                    _ => Vec::new(),
                };
                Row::Tokens { ids, types: vec![0; len], words }
            }
        }
    }
}

/// Whether examples of this shape are pictures in grey or colour.
pub fn is_picture(shape: &[usize]) -> bool {
    matches!(shape, [1 | 3, _, _])
}
