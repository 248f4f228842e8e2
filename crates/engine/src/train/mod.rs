//! Trains one arm: steps, measurements between them, and which parameters are kept.

pub(crate) mod checkpoint;
pub(crate) mod diagnose;
pub(crate) mod inputs;
pub(crate) mod on_policy;
pub(crate) mod optimizer;
pub(crate) mod plans;
pub mod rates;
pub(crate) mod trainer;

pub use checkpoint::{Best, Checkpoints, State, StateShape};
pub use optimizer::{optimizer_config, training_parts};
pub use trainer::TrainingJob;

use crate::data::{DataError, Dataset};
use crate::device::Device;
use crate::error::Error;
use crate::measure::Evaluator;
use crate::measure::batches::shapes;
use crate::measure::evaluator::{metric_sums, set_metrics};
use crate::models::{BatchEncoder, BatchShape, ModelConfig};
use crate::objective::RawAnswers;
use crate::recipe::{Keep, LOSS};
use crate::results::{Metrics, Scale};
use crate::run::{Event, Observer};
use crate::store::{Part, Store};
use crate::task::{Measuring, TaskRef};
use diagnose::diagnose;
use plans::are_given;
use trainer::{Trainer, training_store};

/// A trained model.
#[derive(Debug)]
pub struct Trained {
    /// Its parameters, in the model's order.
    pub parameters: Vec<Vec<f32>>,
    /// Steps taken, those before an interruption included.
    pub steps: u32,
    /// After how many of them the parameters were these, if the best were kept.
    pub kept: Option<u32>,
}

/// Trains a model to the last step of the recipe, or until it has not become better for long enough: from its
/// first weights, or on from its last checkpoint. Whatever comes of it, nothing is left on the device.
///
/// # Errors
/// When the device fails, the training diverges, a checkpoint cannot be written, or the observer
/// asks to stop.
pub fn train(
    device: &mut dyn Device,
    job: &TrainingJob<'_>,
    checkpoints: &mut Checkpoints,
    observer: &mut dyn Observer,
) -> Result<Trained, Error> {
    let TrainingJob { config, test, validation, test_answers, .. } = *job;
    let test = Measured::new(config, test, test_answers)?;
    let validation = validation.map(|data| Measured::new(config, data, None)).transpose()?;
    let shapes = test.shapes(job).into_iter();
    let shapes = shapes.chain(validation.iter().flat_map(|set| set.shapes(job))).collect();
    let store = training_store(device, job)?;
    let trained = match Trainer::new(device, job, &store, shapes) {
        Err(error) => Err(error),
        Ok(mut trainer) => {
            let mut evaluator = Evaluator::new(job.config, &store).against(job.teacher);
            let sets = (&test, validation.as_ref());
            let mut training = Training { device, job, store: &store, checkpoints, observer };
            let trained = training.run(&mut trainer, &mut evaluator, sets);
            evaluator.close(training.device);
            trainer.close(training.device);
            trained
        }
    };
    store.free(device);
    trained.inspect(|_| observer.event(&Event::Finished { arm: job.arm }))
}

/// What the steps of a training work with.
struct Training<'a, 'd> {
    device: &'d mut dyn Device,
    job: &'a TrainingJob<'a>,
    store: &'a Store,
    checkpoints: &'d mut Checkpoints,
    observer: &'d mut dyn Observer,
}

/// A set to measure on, as the model reads it.
struct Measured<'a> {
    feed: BatchEncoder<'a>,
    data: &'a Dataset,
    /// The teacher's, and how many numbers each has.
    answers: Option<RawAnswers<'a>>,
}

impl<'a> Measured<'a> {
    fn new(
        config: &'a ModelConfig,
        data: &'a Dataset,
        answers: Option<RawAnswers<'a>>,
    ) -> Result<Self, DataError> {
        let feed = BatchEncoder::of_data(&config.input, data)?;
        Ok(Self { feed, data, answers })
    }

    /// The shapes of its batches, and whether a teacher's answers go with them.
    fn shapes(&self, job: &TrainingJob<'_>) -> Vec<(BatchShape, bool)> {
        let config = job.config;
        let task = TaskRef::of_model(config);
        let given = are_given(task, job.teacher.is_some(), self.answers.is_some());
        let with = |shape| (shape, given);
        shapes(config, &self.feed).into_iter().map(with).collect()
    }
}

impl<'a> Training<'a, '_> {
    fn run(
        &mut self,
        trainer: &mut Trainer<'_>,
        evaluator: &mut Evaluator<'a>,
        (test, validation): (&Measured<'_>, Option<&Measured<'_>>),
    ) -> Result<Trained, Error> {
        let TrainingJob { arm, train: how, .. } = *self.job;
        trainer.lend(self.device, evaluator)?;
        if let Some(state) = self.checkpoints.latest(arm, &trainer.shape_of_state())? {
            trainer.restore(self.device, &state)?;
        }
        let (steps, done, batch) = (trainer.steps, trainer.step, self.job.step_rows());
        let shown = TaskRef::of_model(self.job.config).curve();
        let tokens = trainer.mean_tokens().map(|tokens| tokens * batch as f64);
        self.observer.event(&Event::Started { arm, steps, done, batch, tokens, shown });
        self.checkpoints.start();
        while trainer.step < steps {
            trainer.advance(self.device)?;
            let step = trainer.step;
            self.observer.event(&Event::Step { arm, done: step });
            if let Some([given, own]) = &trainer.wrote()? {
                self.observer.event(&Event::Wrote { arm, step, given, own });
            }
            let due = match how.evaluate_every {
                Some(every) => trainer.step.is_multiple_of(every) || trainer.step == steps,
                None => trainer.at_epoch_edge(),
            };
            if due || trainer.at_epoch_edge() {
                let validation = validation.filter(|_| due);
                self.measure(trainer, evaluator, test, validation)?;
            }
            let missed = trainer.best.as_ref().map_or(0, |best| best.missed);
            if how.patience.is_some_and(|patience| missed >= patience) {
                let (name, step) = (arm.title(), trainer.step);
                self.observer.event(&Event::Note(&format!(
                    "The {name} stops at step {step} of {steps}: {missed} measurements without a better one"
                )));
                break;
            }
            let stop = self.observer.stop();
            if (stop || self.checkpoints.due()) && trainer.step < steps {
                self.checkpoints.begin();
                let state = trainer.state(self.device)?;
                if !state.is_finite() {
                    return Err(self.diagnose(trainer)?);
                }
                self.checkpoints.save(arm, trainer.specs(), &state)?;
                if stop {
                    return Err(Error::Interrupted { arm: arm.title(), step: trainer.step });
                }
            }
        }
        let steps = trainer.step;
        let (mut parameters, kept) = match trainer.best.take() {
            Some(Best { step, parameters, .. }) => (parameters, Some(step)),
            None => (trainer.read(self.device, Part::Parameters)?, None),
        };
        // What the features needed is no part of the model.
        parameters.truncate(parameters.len() - trainer.features().parameters().len());
        Ok(Trained { parameters, steps, kept })
    }

    fn diagnose(&mut self, trainer: &mut Trainer<'_>) -> Result<Error, Error> {
        diagnose(self.device, self.job, trainer, self.store, self.checkpoints)
    }

    /// Measures the model between two steps: on the test set at the end of an epoch, on `validation` if it is
    /// given, on the test set otherwise. Nothing that the next steps depend on changes.
    fn measure(
        &mut self,
        trainer: &mut Trainer<'_>,
        evaluator: &mut Evaluator<'a>,
        test: &Measured<'_>,
        validation: Option<&Measured<'_>>,
    ) -> Result<(), Error> {
        let TrainingJob { arm, config, objective, train: how, .. } = *self.job;
        let task = TaskRef::of_model(config);
        let weight = self.job.weight();
        let (step, learning_rate, edge) =
            (trainer.step, trainer.learning_rate(), trainer.at_epoch_edge());
        let sums = metric_sums(self.device, self.store)?;
        let mut train =
            Metrics::from_sums(&sums, objective.alpha, task.right_rows()).weighed(weight);
        let (feature_sums, terms) = trainer.terms(self.device)?;
        if task.measuring() == Measuring::Answers {
            // All that it learns from.
            train.loss = terms.iter().map(|term| f64::from(term.weight) * term.value).sum();
        }
        let mut metrics = |set: &Measured<'_>| {
            let Measured { feed, data, answers } = set;
            let metrics = evaluator.metrics(self.device, (feed, data), *answers, objective)?;
            Ok::<_, Error>(metrics.weighed(weight))
        };
        let chosen = validation.map(&mut metrics).transpose()?;
        let test = (edge || chosen.is_none()).then(|| metrics(test)).transpose()?;
        let shares = trainer.gradient_shares(self.device)?;
        let scale = trainer.loss_scale(self.device)?.map(Scale::of);
        if scale.is_some_and(|scale| scale.is_spent()) {
            return Err(diagnose::beyond_f16(self.job, step));
        }
        set_metrics(self.device, self.store, &sums)?;
        trainer.features().set_sums(self.device, self.store, &feature_sums)?;
        // The last step may have spoilt what the training batches no longer show.
        let all = [Some(&train), chosen.as_ref(), test.as_ref()];
        let losses = all.into_iter().flatten().map(|metrics| metrics.loss);
        if !losses.chain(terms.iter().map(|term| term.value)).all(f64::is_finite) {
            return Err(self.diagnose(trainer)?);
        }
        if let (Some(chosen), Keep::Best) = (&chosen, how.keep) {
            let score = match how.best_by.as_deref() {
                Some(LOSS) => chosen.hard.map(|loss| -loss),
                Some(key) => {
                    let measure = task.measures().iter().find(|measure| measure.key == key);
                    let merit = |score| measure.map_or(score, |measure| measure.merit(score));
                    chosen.scores.get(key).map(merit)
                }
                None => task.score().of(&chosen.scores).map(|score| task.score().merit(score)),
            };
            let score = score.unwrap_or(f64::MIN);
            match &mut trainer.best {
                Some(best) if score <= best.score => best.missed += 1,
                _ => {
                    let parameters = trainer.read(self.device, Part::Parameters)?;
                    trainer.best = Some(Best { step, score, missed: 0, parameters });
                }
            }
        }
        match (&test, &chosen) {
            (Some(test), validation) if edge => self.observer.event(&Event::Epoch {
                arm,
                epoch: (step - 1) / trainer.steps_per_epoch() + 1,
                step,
                learning_rate,
                train: &train,
                test,
                terms: &terms,
                validation: validation.as_ref(),
                shares,
                scale,
            }),
            (test, validation) => {
                for metrics in validation.iter().chain(test) {
                    self.observer.event(&Event::Measured {
                        arm,
                        step,
                        learning_rate,
                        train: &train,
                        metrics,
                        terms: &terms,
                        validation: validation.is_some(),
                        shares,
                        scale,
                    });
                }
            }
        }
        Ok(())
    }
}
