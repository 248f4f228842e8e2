//! What a run measured: the content of `report.json`.

use serde::{Deserialize, Serialize};

use super::{Arm, Context, Influence, Scores, Speed, StoredWeights};
use crate::data::Dataset;
use crate::recipe::Target;
use crate::task::TaskRef;

/// Measured of one arm.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmReport {
    /// What the task measures.
    #[serde(flatten)]
    pub scores: Scores,
    /// Errors by true class.
    #[serde(default)]
    pub errors_per_class: Vec<usize>,
    /// Of a causal language model, by how many tokens are before the one that is guessed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contexts: Vec<Context>,
    /// Number of parameters; absent for a teacher that is a file of logits.
    pub parameters: Option<usize>,
    /// Bytes of the files of its weights; absent likewise.
    pub bytes: Option<u64>,
    /// Time of one example, in milliseconds; absent likewise.
    pub latency_ms: Option<f64>,
    /// Examples a second in batches; absent likewise.
    pub examples_per_second: Option<f64>,
    /// The same in tokens, of models that guess each next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// Steps trained in this run; absent for a teacher that was loaded.
    pub steps: Option<u32>,
    /// After which of them its parameters were the best, if those were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_step: Option<u32>,
    /// Of a teacher whose parameters are not all f32 while it teaches: what they are, and what that costs of its answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Box<StoredWeights>>,
    /// With a bias added to the logit of a class that the students never saw.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bias_corrected: Vec<BiasCorrection>,
}

impl ArmReport {
    /// Enters the speed of its model.
    pub(crate) fn set_speed(&mut self, speed: &Speed) {
        self.latency_ms = Some(speed.latency.as_secs_f64() * 1e3);
        self.examples_per_second = Some(speed.examples_per_second);
        self.tokens_per_second = speed.tokens_per_second;
    }
}

/// A correction of the bias of a class that was left out of the students' data (Hinton, Vinyals and Dean
/// 2015, section 3): the shift that makes fewest errors on all training examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BiasCorrection {
    /// The class.
    pub class: usize,
    /// Added to its logit.
    pub shift: f32,
    /// Test examples then wrong.
    pub errors: usize,
    /// Test examples of that class then wrong.
    pub errors_of_class: usize,
}

/// The three arms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arms {
    /// The strong model; absent when it is a file of logits that holds none for the test set.
    pub teacher: Option<ArmReport>,
    /// The student without a teacher.
    pub control: ArmReport,
    /// The student with one.
    pub distilled: ArmReport,
}

/// The content of `report.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The recipe's name.
    pub name: String,
    /// What the models do.
    #[serde(default)]
    pub task: TaskRef,
    /// The three arms.
    pub arms: Arms,
    /// Score of the distilled student / that of the teacher, the score being the task's first measure; absent where the teacher is no better than [`Self::majority`].
    pub retained: Option<f64>,
    /// (distilled - control) / (teacher - control), in scores; absent unless the teacher is better than the control.
    pub gap_closed: Option<f64>,
    /// Score of always giving the most frequent answer of the test set, where there is such an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub majority: Option<f64>,
    /// Share of the test examples on which the distilled student gives the teacher's answer.
    pub agreement: Option<f64>,
    /// What the recipe asks the student to reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Examples: learned from by the teacher, by the students, measured on.
    pub examples: Examples,
    /// The seed.
    pub seed: u32,
    /// The device's name.
    pub device: String,
    /// The device's backend and driver.
    pub backend: String,
    /// Version of this program.
    pub version: String,
    /// Time of the whole run.
    pub seconds: f64,
    /// The classes and their test examples, where there are labels and at most [`MOST_CLASSES`] classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassReport>,
    /// What a reader should know before trusting the numbers; see also `Report::judge`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Of a language model that starts from another's parameters: what the student was worth before its training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<ArmReport>>,
    /// Which layers of another model the students take over, where that was found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub influence: Option<Influence>,
}

/// The most classes that a report names.
pub const MOST_CLASSES: usize = 1000;

/// A class of the test set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Its name.
    pub name: String,
    /// Test examples of it.
    pub test: usize,
}

impl ClassReport {
    /// The classes of a test set; none where they are too many.
    pub fn all(test: &Dataset) -> Vec<Self> {
        let Some(labels) = test.class_labels().filter(|labels| labels.classes() <= MOST_CLASSES)
        else {
            return Vec::new();
        };
        let classes = labels.class_names().iter().cloned().zip(labels.per_class_counts());
        classes.map(|(name, test)| Self { name, test }).collect()
    }
}

/// Sizes of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examples {
    /// The teacher's training examples.
    pub teacher: usize,
    /// The students' training examples.
    pub students: usize,
    /// Examples without labels, which the distilled student learns from too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<usize>,
    /// The test examples.
    pub test: usize,
    /// The examples that the best parameters were chosen on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<usize>,
    /// Masked tokens of the test examples, where a model guesses those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked: Option<usize>,
}

impl Report {
    /// Whether the student reached the recipe's target; a target that cannot be measured is not reached.
    pub fn reaches_target(&self) -> bool {
        self.target.is_none_or(|target| self.retained.is_some_and(|kept| kept >= target.retain))
    }

    /// An arm, if it was measured.
    pub fn arm(&self, arm: Arm) -> Option<&ArmReport> {
        match arm {
            Arm::Teacher => self.arms.teacher.as_ref(),
            Arm::Control => Some(&self.arms.control),
            Arm::Distilled => Some(&self.arms.distilled),
        }
    }
}
