//! What most programs begin with: `use distil_gpu_engine::prelude::*;`.

pub use crate::data::{Examples, Text, Texts};
pub use crate::device::{Choice, CpuDevice, Device, GpuOptions, select};
pub use crate::error::Error;
pub use crate::predict::{Prediction, Predictor};
pub use crate::recipe::{Distil, Model, Optimizer, Recipe, Teacher, Train};
pub use crate::results::{Arm, Report};
pub use crate::run::{Begin, Observer, Silent, prepare, run};
