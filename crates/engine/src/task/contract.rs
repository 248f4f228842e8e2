//! What a task decides: the data and labels that it needs, its loss, how a model is measured, and what is said of it.

use std::cmp::Ordering;
use std::fmt::Debug;

use super::asked::Asked;
use crate::data::{Dataset, LabelKind};
use crate::error::Error;
use crate::graph::ops::LossTerms;
use crate::graph::{Graph, TensorId};
use crate::models::{BatchEncoder, BatchShape, Head, HostBatch, ModelConfig, Outputs, ProblemType};
use crate::objective::{Objective, RawAnswers};
use crate::results::{ArmReport, Arms, ERRORS, Examples, Format, Measure, Metrics, Report, Scores};
use crate::words::{counted, thousands};

/// What the models of a run learn to do. A task is one file in this folder and one line in [`super::ALL`].
pub trait Task: Debug + Sync {
    /// Its name in recipes and reports.
    fn name(&self) -> &'static str;

    /// The labels of its data.
    fn labels(&self) -> LabelKind;

    /// Whether each example has one of some classes, which can be matched by name, left out and weighed.
    fn has_classes(&self) -> bool {
        matches!(self.labels(), LabelKind::Class | LabelKind::ClassIfAny)
    }

    /// Whether the rows of its logits are over the same classes or tokens, of which one is right: what decoupled KL, standardised
    /// logits and smoothed labels need.
    fn has_softmax(&self) -> bool {
        self.has_classes() || matches!(self.labels(), LabelKind::Tags | LabelKind::Documents)
    }

    /// What of a recipe it cannot do, and what to do instead.
    fn refuses(&self, asked: &Asked) -> Option<[String; 2]>;

    /// Checks that teacher and student go together.
    ///
    /// # Errors
    /// When they do not.
    fn check_models(&self, _teacher: &ModelConfig, _student: &ModelConfig) -> Result<(), Error> {
        Ok(())
    }

    /// Gives a teacher that was loaded what it must have in common with its student.
    fn fit_teacher(&self, _teacher: &mut ModelConfig, _student: &ModelConfig) {}

    /// What a student learns from, made of the data as they were read.
    ///
    /// # Errors
    /// When the student cannot read them.
    fn training_data(&self, data: &Dataset, _student: &ModelConfig) -> Result<Dataset, Error> {
        Ok(data.clone())
    }

    /// The head of its models, with so many outputs.
    fn head(&self, outputs: usize) -> Head;

    /// What the numbers that its models make of an example mean.
    fn problem(&self) -> ProblemType {
        ProblemType::SingleLabel
    }

    /// Whether it is what a model does.
    fn is_done_by(&self, model: &ModelConfig) -> bool;

    /// Whether the student alone stays at its start, as it learns from a teacher only.
    fn learns_from_teacher_only(&self) -> bool {
        false
    }

    /// What a person should know of a teacher.
    fn notes(&self, _teacher: &ModelConfig) -> Vec<String> {
        Vec::new()
    }

    /// Adds the loss of a batch to its graph: the rows' losses, all of which are summed, and the rows' terms, as
    /// [`Graph::distill_loss_of`] has them; nothing where the losses of hidden states are all.
    ///
    /// # Errors
    /// When teacher and student do not go together.
    fn loss(&self, graph: &mut Graph, of: &LossInputs<'_>) -> Result<Option<[TensorId; 2]>, Error>;

    /// Whether labels are numbers, which are an input of their own, [`crate::objective::TARGETS`].
    fn has_targets(&self) -> bool {
        false
    }

    /// Writes the labels of a batch, as its loss reads them.
    fn fill_labels(&self, rows: &BatchRows<'_>, batch: &mut HostBatch);

    /// How many rows of the loss these examples make, and how many of them have a label.
    fn counted(&self, rows: &BatchRows<'_>) -> Counted;

    /// Whether the answer to an example is a row of numbers, as many for each, which a file can hold.
    fn answers_once(&self) -> bool {
        true
    }

    /// Whether its models go on with texts, so that a student may learn from what it writes.
    fn goes_on(&self) -> bool {
        false
    }

    /// How its models are measured.
    fn measuring(&self) -> Measuring {
        Measuring::LossAndAnswers
    }

    /// What it measures; by the first models are compared.
    fn measures(&self) -> &'static [Measure];

    /// The measure by which models are compared.
    fn score(&self) -> Measure {
        self.measures()[0]
    }

    /// What `train.best_by` may be besides `loss`, the default first.
    fn criteria(&self) -> &'static [&'static str];

    /// The score that is the share of rows whose loss's terms say that they are right, if that means something.
    fn right_rows(&self) -> Option<&'static str> {
        None
    }

    /// What its loss with the labels is called.
    fn loss_name(&self) -> &'static str {
        "cross-entropy"
    }

    /// Makes of an answer's numbers what they mean: probabilities of classes, or values as they are.
    fn scores_of_answer(&self, _answer: &mut [f32]) {}

    /// The scores of a model on a data set.
    ///
    /// # Errors
    /// When answers cannot be read as what they should be.
    fn scores(&self, of: &Measured<'_>) -> Result<Scores, Error>;

    /// The scores that are told between the steps of a training: all but counts, unless some take long.
    ///
    /// # Errors
    /// As [`Self::scores`].
    fn training_scores(&self, of: &Measured<'_>) -> Result<Scores, Error> {
        let is_count = |key: &str| {
            self.measures().iter().any(|one| one.key == key && one.format == Format::Count)
        };
        Ok(self.scores(of)?.filtered(|key| !is_count(key)))
    }

    /// The loss that is shown for a model that is [measured](Measuring) by its answers alone.
    fn loss_of(&self, _: &Scores) -> f64 {
        0.0
    }

    /// Errors of each class; none where there are no classes.
    fn errors_per_class(&self, _: &Measured<'_>) -> Vec<usize> {
        Vec::new()
    }

    /// Share of a data set on which two models' answers are the same; absent where that is not asked.
    fn agreement(&self, _data: &Measured<'_>) -> Option<f64> {
        None
    }

    /// What the score of always giving the most frequent answer is, where that can be said.
    fn majority(&self, _data: &Dataset, _feed: &BatchEncoder<'_>) -> Option<f64> {
        None
    }

    /// The measure whose course through a training is drawn.
    fn curve(&self) -> Measure {
        self.score()
    }

    /// Whether a sweep can rank students by it.
    fn ranks_students(&self) -> bool {
        true
    }

    /// What it is of the teacher that a student keeps a share of.
    fn kept(&self) -> String {
        format!("the teacher's {}", self.score().title)
    }

    /// Whether that share is a line of the table.
    fn keeps_score(&self) -> bool {
        true
    }

    /// What distillation gained, as what the student distilled does.
    fn verdict(&self, report: &Report) -> String {
        let Arms { control, distilled, .. } = &report.arms;
        let errors = |arm: &ArmReport| arm.scores.get(ERRORS).map(|errors| errors as i64);
        let measure @ Measure { title, format, key, .. } = self.score();
        if let (Some(alone), Some(own)) = (errors(control), errors(distilled)) {
            return fewer_mistakes(alone - own);
        }
        let score = |arm: &ArmReport| arm.scores.get(key);
        let (Some(alone), Some(own)) = (score(control), score(distilled)) else {
            return match report.agreement {
                Some(share) => format!(
                    "gives the teacher's answer to {:.1} % of the test examples",
                    100.0 * share
                ),
                None => "could not be measured, as the test data have no labels".to_owned(),
            };
        };
        let article = if title.starts_with("F1") { "an" } else { "a" };
        let (own_shown, alone_shown) = (format.show(own), format.show(alone));
        let than = match measure.merit(own).total_cmp(&measure.merit(alone)) {
            Ordering::Greater => format!("where the same student alone has {alone_shown}"),
            Ordering::Equal => {
                "as the same student alone has: distillation gained nothing here".to_owned()
            }
            Ordering::Less => {
                format!("the same student alone {alone_shown}: distillation hurt here")
            }
        };
        format!("has {article} {title} of {own_shown}, {than}")
    }

    /// How many things are measured on a data set, in words, for titles of [`Measure`]s.
    fn measured(&self, examples: &Examples) -> String {
        thousands(examples.test)
    }
}

/// What it means to make so many mistakes fewer than the student alone.
fn fewer_mistakes(gained: i64) -> String {
    match gained {
        1.. => {
            let fewer = counted(gained.unsigned_abs() as usize, "fewer mistake");
            format!("makes {fewer} than the same student alone")
        }
        0 => "makes as many mistakes as the same student alone: distillation gained nothing here"
            .to_owned(),
        _ => {
            let more = counted(gained.unsigned_abs() as usize, "more mistake");
            format!("makes {more} than the same student alone: distillation hurt here")
        }
    }
}

/// What the loss of a batch is made of.
#[derive(Clone, Copy, Debug)]
pub struct LossInputs<'a> {
    /// Extents of the batch.
    pub shape: BatchShape,
    /// The student.
    pub student: &'a ModelConfig,
    /// What it makes of the batch.
    pub outputs: &'a Outputs,
    /// The teacher's answers.
    pub teacher: TeacherOutputs<'a>,
    /// Whether the labels' loss of each example has a weight of its own.
    pub weighted: bool,
    /// Share of the labels' loss that is spread over all classes.
    pub smoothing: f32,
    /// What is minimised.
    pub objective: &'a Objective,
}

impl LossInputs<'_> {
    /// The loss's terms, of rows that have no weights.
    pub(super) fn terms(&self) -> LossTerms {
        let Objective { divergence, standardise, .. } = *self.objective;
        LossTerms { divergence, standardise, smoothing: self.smoothing, weights: None }
    }
}

/// Where the teacher's answers come from, in a graph.
#[derive(Clone, Copy, Debug)]
pub enum TeacherOutputs<'a> {
    /// Nowhere: the labels alone.
    None,
    /// They are an input.
    Given,
    /// The teacher makes them of the batch.
    Made(&'a Outputs),
}

/// Examples of a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchRows<'a> {
    /// The examples as the model reads them.
    pub feed: &'a BatchEncoder<'a>,
    /// Their labels.
    pub data: &'a Dataset,
    /// Their numbers.
    pub indices: &'a [u32],
    /// Extents of the batch, which has room for them.
    pub shape: BatchShape,
}

/// Rows of a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// All of them.
    pub rows: usize,
    /// Those with a label.
    pub labelled: usize,
}

/// How a model is measured on a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measuring {
    /// By its answers alone.
    Answers,
    /// By its loss and its answers.
    LossAndAnswers,
    /// By its loss alone, a teacher's answers being made beside it: answers are too many to keep.
    Loss,
}

/// A model's answers to a data set, and those that they are compared with.
#[derive(Clone, Copy, Debug)]
pub struct Measured<'a> {
    /// The model.
    pub config: &'a ModelConfig,
    /// The examples as the model reads them.
    pub feed: &'a BatchEncoder<'a>,
    /// The examples and their labels.
    pub data: &'a Dataset,
    /// Its answers, one example's behind the other's; none where they are not kept.
    pub answers: &'a [f32],
    /// The teacher's, and how many numbers each has.
    pub teacher: Option<RawAnswers<'a>>,
    /// What its loss says.
    pub loss: Option<&'a Metrics>,
}
