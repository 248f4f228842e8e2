//! Tasks: what the models of a run learn to do, each in a file of its own.
//!
//! ```
//! use distil_gpu_engine::task::{self, TaskRef};
//!
//! let task = TaskRef::named("regression").expect("a task");
//! assert!(task::ALL.contains(&task) && !task.has_classes());
//! ```

mod asked;
mod causal_lm;
mod classification;
mod contract;
mod embedding;
mod language;
mod masked_lm;
mod multi_label;
mod question_answering;
mod regression;
mod rows;
mod token_classification;

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use asked::{Asked, TeacherKind};
pub(crate) use causal_lm::with_own_texts;
pub use contract::{BatchRows, Counted, LossInputs, Measured, Measuring, Task, TeacherOutputs};

use crate::models::ModelConfig;

/// Every task, the default first.
pub const ALL: [TaskRef; 8] = [
    TaskRef(&classification::Classification),
    TaskRef(&multi_label::MultiLabel),
    TaskRef(&regression::Regression),
    TaskRef(&masked_lm::MaskedLm),
    TaskRef(&causal_lm::CausalLm),
    TaskRef(&embedding::Embedding),
    TaskRef(&token_classification::TokenClassification),
    TaskRef(&question_answering::QuestionAnswering),
];

/// One of [`ALL`], written as its name.
#[derive(Clone, Copy)]
pub struct TaskRef(&'static dyn Task);

impl TaskRef {
    /// The task of this name.
    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|task| task.name() == name)
    }

    /// What a model does.
    pub fn of_model(model: &ModelConfig) -> Self {
        ALL.into_iter().find(|task| task.is_done_by(model)).unwrap_or_default()
    }
}

impl Default for TaskRef {
    /// To tell an example's class.
    fn default() -> Self {
        ALL[0]
    }
}

impl Deref for TaskRef {
    type Target = dyn Task;

    fn deref(&self) -> &Self::Target {
        self.0
    }
}

impl PartialEq for TaskRef {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for TaskRef {}

impl fmt::Debug for TaskRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for TaskRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for TaskRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name)
            .ok_or_else(|| serde::de::Error::custom(format!("no task is called `{name}`")))
    }
}
