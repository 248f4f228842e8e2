//! A model as a page of the browser.
//!
//! The forward plan of a model is data: kernels, sizes, and which memory each of them reads and writes. A page has that
//! data, the weights, and a few kilobytes of JavaScript that replay it on WebGPU; nothing of this program runs there, and
//! nothing is compiled to WebAssembly. A page answers nothing before its answers to stored probes, and its tokens of stored
//! texts, are those of this program.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use distil_gpu_engine::models;
//! use distil_gpu_web::{Model, Options, write_folder, write_page};
//!
//! let folder = Path::new("runs/movie-sentiment/student");
//! let (config, values) = models::load(folder)?;
//! let model = Model { config: &config, values: &values, folder: Some(folder) };
//! write_page(&model, &Options::default(), Path::new("student.html"))?;
//! write_folder(&model, &Options::default(), Path::new("web"))?;
//! # Ok::<(), distil_gpu_engine::Error>(())
//! ```

mod bundle;
mod card;
mod page;
mod probe;
mod recorder;
mod texts;

use std::path::Path;

use distil_gpu_engine::models::ModelConfig;
use distil_gpu_engine::store::Storage;

pub use bundle::{About, Bundle, InputRecipe, Parts, Segment, shown};
pub use card::{Card, CardRow, Example};
pub use page::{Written, runtime_files, write_folder, write_page};
pub use probe::{Probe, Row};
pub use recorder::{Binding, Buffer, Dispatch, LIMITS, Pipeline, PlanRecord, Recorded};
pub use texts::{Around, Check, TextRecipe};

/// A model to make a page of.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    /// What it is.
    pub config: &'a ModelConfig,
    /// Its parameters, in the model's order.
    pub values: &'a [Vec<f32>],
    /// Where it lies: in the folder of a run, the page shows what the run measured and its examples.
    pub folder: Option<&'a Path>,
}

/// What a page is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How matrices are stored. In f16 a page is half as large, in bytes a quarter; what is computed is f32 either way.
    pub weights: Storage,
    /// Texts to begin with, before those of the run.
    pub examples: Vec<String>,
}

impl Default for Options {
    /// Weights in f16.
    fn default() -> Self {
        Self { weights: Storage::F16, examples: Vec::new() }
    }
}
