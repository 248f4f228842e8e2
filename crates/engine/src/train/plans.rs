//! Every plan of a training, known before its first step.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;
use crate::generate::WritingPlans;
use crate::graph::ops::Update;
use crate::models::{BatchShape, ModelConfig};
use crate::objective::{TeacherInput, plans};
use crate::plan::{Plan, Precision};
use crate::recipe::{OnPolicy, Train};
use crate::store::Storage;
use crate::task::{Measuring, TaskRef};
use crate::train::inputs::PairedInputs;
use crate::train::optimizer::update;

/// Every plan of a training.
#[derive(Debug)]
pub(crate) struct TrainingPlans {
    /// Of a batch, by its shape.
    pub batches: BTreeMap<BatchShape, Plan>,
    /// The update's own, where a step may be several batches.
    pub update: Option<Plan>,
    /// Of the first batch and of a norm, for what the terms have of the gradient, if that is asked for.
    pub shares: Option<[Plan; 2]>,
    /// Of measurements: by shape, and by whether the teacher's answers are given.
    pub measured: BTreeMap<(BatchShape, bool), Plan>,
    /// Of texts that the model writes itself, if it does.
    pub writing: Option<WritingPlans>,
}

impl TrainingPlans {
    /// Of a training on so many `examples`, which `feeds` read, with measurements in these batches.
    ///
    /// # Errors
    /// When a shape does not fit, or a group has no parameter.
    pub fn new(
        config: &ModelConfig,
        (how, seed, on_policy): (&Train, u32, Option<&OnPolicy>),
        teacher: TeacherInput<'_>,
        (feeds, examples): (&PairedInputs<'_>, usize),
        measured: BTreeSet<(BatchShape, bool)>,
        shares: bool,
    ) -> Result<Self, Error> {
        let (optimizer, _) = update(how, config)?;
        let task = TaskRef::of_model(config);
        let accumulates = how.accumulate > 1;
        let steps_per_epoch = how.steps_per_epoch(examples);
        let epochs = how.length.total_steps(steps_per_epoch).div_ceil(steps_per_epoch);
        let rows = (how.rows(examples), how.step_rows(examples));
        let batch = |shape| {
            let plan = plans::step_plan(config, teacher, shape, &optimizer, accumulates)?;
            Ok((shape, plan))
        };
        let measure = |(shape, given)| {
            let answers = answers_of(task, given, teacher);
            let plan = match task.measuring() {
                Measuring::Answers => plans::forward_plan(config, shape)?,
                _ => plans::loss_plan(config, Storage::F32, answers, shape)?,
            };
            Ok(((shape, given), plan))
        };
        let has_terms = task.measuring() != Measuring::Answers;
        let shares = shares && has_terms && !matches!(teacher, TeacherInput::None);
        let shares = match shares {
            true => {
                let step = feeds.epoch(rows.1, seed, 0).swap_remove(0);
                let shape = feeds.shape(&step[..step.len().min(rows.0)], rows.0);
                // No scale of the loss comes between the terms.
                let optimizer = Update { precision: Precision::F32, ..optimizer.clone() };
                let batch = plans::step_plan(config, teacher, shape, &optimizer, true)?;
                Some([batch, plans::norm_plan(config, teacher, &optimizer)?])
            }
            false => None,
        };
        let batches = feeds.shapes(rows, seed, epochs).into_iter().map(batch);
        let update = accumulates.then(|| plans::update_plan(config, teacher, &optimizer));
        let writing = match on_policy {
            Some(_) => WritingPlans::new(config, &plans::student_layout(config, teacher)?, rows.0)?,
            None => None,
        };
        Ok(Self {
            batches: batches.collect::<Result<_, Error>>()?,
            update: update.transpose()?,
            shares,
            measured: measured.into_iter().map(measure).collect::<Result<_, Error>>()?,
            writing,
        })
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Plan> + Clone {
        let shares = self.shares.iter().flatten();
        let writing = self.writing.iter().flat_map(|writing| writing.plans.values());
        let training = self.batches.values().chain(&self.update).chain(shares);
        training.chain(self.measured.values()).chain(writing)
    }
}

/// Where the teacher's answers come from when a model is measured with them, if it is.
pub(crate) fn answers_of<'a>(
    task: TaskRef,
    given: bool,
    teacher: TeacherInput<'a>,
) -> TeacherInput<'a> {
    match (given, task.measuring()) {
        (false, _) => TeacherInput::None,
        // They are too many to keep.
        (true, Measuring::Loss) => teacher.measured(),
        (true, _) => TeacherInput::Given { objective: teacher.objective() },
    }
}

/// Whether a teacher's answers go with the measurement of a set.
pub(crate) fn are_given(task: TaskRef, has_teacher: bool, has_answers: bool) -> bool {
    match task.measuring() {
        Measuring::Loss => has_teacher,
        Measuring::LossAndAnswers => has_answers,
        Measuring::Answers => false,
    }
}
