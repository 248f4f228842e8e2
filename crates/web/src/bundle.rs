//! A model as a page has it: plans, kernels, weights, and what inputs go through.

use std::collections::BTreeSet;

use distil_gpu_engine::Error;
use distil_gpu_engine::kernels::DType;
use distil_gpu_engine::layout::{Layout, Storage};
use distil_gpu_engine::models::{BatchShape, Input, ModelConfig, Output, Pooling};
use distil_gpu_engine::task::TaskRef;
use distil_gpu_engine::words::hexadecimal;
use half::f16;
use ring::digest::{SHA256, digest};
use serde::Serialize;

use crate::card::Card;
use crate::probe::{Probe, Prober, is_picture};
use crate::recorder::{PlanRecord, Recorded, Recorder};
use crate::texts::TextRecipe;
use crate::{Model, Options};

/// Version of the bundle, for pages that read it.
const VERSION: u32 = 1;
/// Lengths of texts that there are plans for, up to the model's own.
const LENGTHS: [usize; 7] = [16, 32, 64, 128, 256, 512, 1024];
/// The longest texts that are answered several at once.
const TOGETHER: usize = 128;
/// Texts of a batch.
const TEXTS: usize = 8;
/// Examples of numbers of a batch.
const NUMBERS: usize = 64;

/// What a page computes with and shows, but for weights and tokenizer.
#[derive(Clone, Debug, Serialize)]
pub struct Bundle {
    /// Version of the bundle.
    pub version: u32,
    /// What the model is.
    pub model: About,
    /// What inputs go through.
    pub input: InputRecipe,
    /// The weights.
    pub segments: Vec<Segment>,
    /// What the plans share.
    #[serde(flatten)]
    pub recorded: Recorded,
    /// The plans, by length and rows.
    pub plans: Vec<PlanRecord>,
    /// What is told of the model.
    pub card: Card,
}

/// What a model is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct About {
    /// Kind and sizes.
    pub summary: String,
    /// Number of parameters.
    pub parameters: usize,
    /// What it does.
    pub task: &'static str,
    /// Names of its outputs; none of an embedder.
    pub labels: Vec<String>,
    /// Numbers of an answer.
    pub width: usize,
    /// How its matrices are stored: `f16`, `f32` or `int8`.
    pub weights: &'static str,
    /// How far rounding moved a logit of the first probe, at most; 0 in f32.
    pub rounding: f32,
}

/// What inputs go through.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum InputRecipe {
    /// Numbers.
    Numbers {
        /// Shape of an example.
        shape: Vec<usize>,
        /// Whether examples are pictures, whose shades are divided by 255 first.
        picture: bool,
        /// Means that are subtracted.
        mean: Vec<f32>,
        /// Deviations that are divided by.
        std: Vec<f32>,
        /// What is behind pictures that are transparent, where the model learnt such.
        background: Option<String>,
    },
    /// Texts.
    Texts(TextRecipe),
}

/// A piece of the weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// Its bytes.
    pub bytes: usize,
    /// SHA-256 of them, in hexadecimal digits.
    pub sha256: String,
}

/// A bundle with its weights and the text of its tokenizer.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Plans, kernels and what is told.
    pub bundle: Bundle,
    /// The segments' bytes.
    pub weights: Vec<Vec<u8>>,
    /// `tokenizer.json`, of a model of texts.
    pub tokenizer: Option<String>,
}

impl Parts {
    /// Makes the bundle of a model.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a model that a page cannot show, or whose weights f16 cannot hold; others of the engine.
    pub fn of(model: &Model<'_>, options: &Options) -> Result<Self, Error> {
        let Model { config, values, folder } = *model;
        let task = shown(config)?;
        let storage = options.weights;
        let input = input(config)?;
        let mut prober = Prober::new(config, values, storage).map_err(beyond)?;
        let mut recorder = Recorder::new();
        let mut plans: Vec<PlanRecord> = Vec::new();
        for shape in shapes(&config.input) {
            let plan = prober.plan(shape)?;
            let probe = prober.probe(&plan, shape)?;
            plans.push(recorder.record(&plan, shape, probe)?);
        }
        let weights = segments(config, values, storage)?;
        let rounding = match (storage, plans.first()) {
            (Storage::F16 | Storage::I8, Some(plan)) => rounding(config, values, plan)?,
            _ => 0.0,
        };
        let about = About {
            summary: config.model().summary(),
            parameters: config.parameter_count(),
            task: task.name(),
            labels: config.class_names.clone(),
            width: config.answer_len(),
            weights: storage.name(),
            rounding,
        };
        let segments = weights.iter().map(|bytes| Segment::of(bytes)).collect();
        let card = Card::of(config, folder, &options.examples)?;
        let recorded = recorder.finish();
        let bundle =
            Bundle { version: VERSION, model: about, input, segments, recorded, plans, card };
        let tokenizer = match &config.input {
            Input::Tokens(tokens) => Some(tokens.tokenizer()?.json().to_owned()),
            Input::Numbers { .. } => None,
        };
        Ok(Self { bundle, weights, tokenizer })
    }
}

impl Segment {
    fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len(), sha256: hexadecimal(digest(&SHA256, bytes).as_ref()) }
    }
}

/// The model's task, if a page can show what it answers.
///
/// # Errors
/// [`Error::Unsupported`] that says which models' answers are shown.
pub fn shown(config: &ModelConfig) -> Result<TaskRef, Error> {
    let task = TaskRef::of_model(config);
    let fits = match (config.output(), &config.input) {
        (Output::Classes(_) | Output::Tokens(_) | Output::Embedding(_), Input::Tokens(tokens)) => {
            !matches!(tokens.pooling, Pooling::Masked | Pooling::Tokens | Pooling::Next)
        }
        (Output::Classes(_), Input::Numbers { .. }) => true,
        _ => false,
    };
    if fits {
        return Ok(task);
    }
    Err(Error::Unsupported {
        what: format!("a page shows no answers of a model of `{}`", task.name()),
        instead: "give a classifier, a regressor, a model of several labels, one of tags for words or an embedder"
            .to_owned(),
    })
}

/// The engine's advice about f16 is for recipes.
fn beyond(error: Error) -> Error {
    match error {
        Error::BeyondF16 { tensor, value } => Error::Unsupported {
            what: format!("`{tensor}` holds {value}, and f16 ends at 65504"),
            instead: "write the weights in f32".to_owned(),
        },
        other => other,
    }
}

fn input(config: &ModelConfig) -> Result<InputRecipe, Error> {
    Ok(match &config.input {
        Input::Tokens(tokens) => InputRecipe::Texts(TextRecipe::of(tokens)?),
        Input::Numbers { shape, normalisation, background } => InputRecipe::Numbers {
            shape: shape.clone(),
            picture: is_picture(shape),
            mean: normalisation.mean.clone(),
            std: normalisation.std.clone(),
            background: background.map(|colour| colour.to_string()),
        },
    })
}

/// The shapes of batches that there are plans for, the smallest first.
fn shapes(input: &Input) -> BTreeSet<BatchShape> {
    let Input::Tokens(tokens) = input else {
        return [1, NUMBERS].map(BatchShape::of_numbers).into();
    };
    let most = tokens.max_length;
    let lengths = LENGTHS.into_iter().filter(|length| *length < most).chain([most]);
    let shapes = lengths.flat_map(|length| {
        let many = (length <= TOGETHER).then_some(TEXTS);
        [Some(1), many].into_iter().flatten().map(move |rows| BatchShape {
            rows,
            length,
            guessed: 0,
        })
    });
    shapes.collect()
}

/// The parameters' bytes as they lie in a store.
fn segments(
    config: &ModelConfig,
    values: &[Vec<f32>],
    storage: Storage,
) -> Result<Vec<Vec<u8>>, Error> {
    let layout = Layout::stored(config.model().parameters(), storage)?;
    let mut segments: Vec<Vec<u8>> =
        layout.segments.iter().map(|segment| vec![0; segment.bytes() as usize]).collect();
    let mut put = |index: usize, values: &[f32]| {
        let place = layout.places[index];
        let dtype = layout.segments[place.segment].dtype;
        let start = dtype.bytes_of(place.offset);
        let out = &mut segments[place.segment][start..start + dtype.bytes_of(values.len())];
        match dtype {
            DType::F16 => {
                let out = out.as_chunks_mut::<2>().0.iter_mut();
                out.zip(values).for_each(|(out, &value)| *out = f16::from_f32(value).to_le_bytes());
            }
            DType::I8 => {
                out.iter_mut().zip(values).for_each(|(out, &value)| *out = value as i8 as u8);
            }
            DType::Blocks(_) => unreachable!("a page has no quantised blocks"),
            DType::F32 | DType::I32 => {
                let out = out.as_chunks_mut::<4>().0.iter_mut();
                out.zip(values).for_each(|(out, value)| *out = value.to_le_bytes());
            }
        }
    };
    for (index, values) in values.iter().enumerate() {
        layout.written(index, values).iter().for_each(|(index, values)| put(*index, values));
    }
    Ok(segments)
}

/// How far weights in f16 moved a logit of a plan's probe, at most.
fn rounding(config: &ModelConfig, values: &[Vec<f32>], record: &PlanRecord) -> Result<f32, Error> {
    let shape = BatchShape { rows: record.rows, length: record.length, guessed: 0 };
    let Probe { rows, logits } = &record.probe;
    let mut whole = Prober::new(config, values, Storage::F32)?;
    let exact = whole.answer(&whole.plan(shape)?, shape, rows)?;
    let moved = logits.iter().zip(&exact).map(|(rounded, exact)| (rounded - exact).abs());
    Ok(moved.fold(0.0, f32::max))
}
