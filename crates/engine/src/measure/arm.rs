//! What a run measures of each arm.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::data::{ClassLabels, Examples, Split};
use crate::device::Device;
use crate::error::Error;
use crate::measure::Evaluator;
use crate::models::{self, BatchEncoder, ModelConfig};
use crate::objective::{ANSWERS_ALONE, RawAnswers, TeacherAnswers};
use crate::results::{ArmReport, BiasCorrection, Speed};
use crate::scores::errors_per_class;
use crate::store::Store;
use crate::task::{Measured, Measuring, TaskRef};

/// The steps of a training.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// How many; none of a model that was loaded.
    pub steps: Option<u32>,
    /// After which its parameters were the best, if those were kept.
    pub kept: Option<u32>,
}

/// What was measured of a model on the test set.
pub(crate) struct TestResult {
    /// Its answers, one example's behind the other's; none where they are too many to keep.
    pub answers: Vec<f32>,
    /// Its scores.
    pub report: ArmReport,
    /// Share of its answers that are the teacher's, where these are made beside them.
    pub agreement: Option<f64>,
}

/// What a model is measured on, and with what.
pub(crate) struct Test<'a> {
    /// The data.
    pub split: &'a Split,
    /// Numbers of the classes that the students do not see.
    pub omitted: &'a [usize],
    /// The teacher.
    pub teacher: Option<&'a dyn TeacherAnswers>,
    /// Its raw answers to the test set, and how many numbers each has.
    pub answers: Option<RawAnswers<'a>>,
}

impl Test<'_> {
    /// Measures a model that is saved in `folder` on the test set.
    pub fn measure(
        &self,
        device: &mut dyn Device,
        (config, store): (&ModelConfig, &Store),
        folder: &Path,
        taken: Taken,
    ) -> Result<TestResult, Error> {
        let task = TaskRef::of_model(config);
        let data = &self.split.test;
        let feed = BatchEncoder::of_data(&config.input, data)?;
        let mut evaluator = Evaluator::new(config, store).against(self.teacher).in_detail();
        let (answers, loss) = match task.measuring() {
            Measuring::Loss => {
                let metrics = evaluator.metrics(device, (&feed, data), None, &ANSWERS_ALONE)?;
                (Vec::new(), Some(metrics))
            }
            _ => (evaluator.logits(device, &feed, &mut |_| ())?, None),
        };
        let measured = Measured {
            config,
            feed: &feed,
            data,
            answers: &answers,
            teacher: self.answers,
            loss: loss.as_ref(),
        };
        let mut report = report(&measured, taken)?;
        report.contexts = loss.as_ref().map_or(Vec::new(), |loss| loss.contexts.clone());
        if !self.omitted.is_empty() {
            let train = &self.split.train;
            let feed = BatchEncoder::new(&config.input, train.examples())?;
            let known = evaluator.logits(device, &feed, &mut |_| ())?;
            let (train, test) = (train.need_classes()?, data.need_classes()?);
            report.bias_corrected = correct_biases(self.omitted, (train, &known), (test, &answers));
        }
        evaluator.close(device);
        report.parameters = Some(config.parameter_count());
        report.bytes = models::bytes(folder);
        let agreement = loss.and_then(|loss| loss.agreement);
        Ok(TestResult { answers, report, agreement })
    }
}

/// What answers to the test set tell of a model.
pub(crate) fn report(measured: &Measured<'_>, taken: Taken) -> Result<ArmReport, Error> {
    let task = TaskRef::of_model(measured.config);
    Ok(ArmReport {
        scores: task.scores(measured)?,
        errors_per_class: task.errors_per_class(measured),
        steps: taken.steps,
        kept_step: taken.kept,
        ..ArmReport::default()
    })
}

/// At most this share of the time of a run goes into measuring speeds.
const SPEED_SHARE: f64 = 0.08;
/// The least time for it: a few passes of a small model.
const LEAST_SPEED_SECONDS: f64 = 0.2;

/// Speeds of models, the medians of several turns that they take: whatever else the machine does meanwhile slows all of
/// them. They take 8 % of the `seconds` that the run has taken, 0.2 s at least, or less where that is enough; but no
/// pass is cut short, and each model has a turn.
pub(crate) fn speeds(
    device: &mut dyn Device,
    models: &[(&ModelConfig, &Store)],
    test: &Examples,
    seconds: f64,
) -> Result<Vec<Speed>, Error> {
    const TURNS: usize = 3;
    let whole = (SPEED_SHARE * seconds).max(LEAST_SPEED_SECONDS);
    let most = whole / (TURNS * models.len()) as f64;
    let most = Duration::try_from_secs_f64(most).unwrap_or(Duration::MAX);
    let mut timed = Vec::new();
    for &(config, store) in models {
        let feed = BatchEncoder::new(&config.input, test)?;
        timed.push((Evaluator::new(config, store), feed, Vec::new()));
    }
    let begun = Instant::now();
    for turn in 0..TURNS {
        // Passes of a large model are long: one turn may be all that the time is for.
        if turn > 0 && begun.elapsed().as_secs_f64() > whole {
            break;
        }
        for (evaluator, feed, speeds) in &mut timed {
            speeds.push(evaluator.speed_within(device, feed, most)?);
        }
    }
    let median = |(evaluator, _, mut speeds): (Evaluator<'_>, _, Vec<Speed>)| {
        evaluator.close(device);
        let middle = speeds.len() / 2;
        speeds.sort_by(|a, b| a.examples_per_second.total_cmp(&b.examples_per_second));
        let rate = speeds[middle];
        speeds.sort_by_key(|speed| speed.latency);
        Speed { latency: speeds[middle].latency, ..rate }
    };
    Ok(timed.into_iter().map(median).collect())
}

/// For each class the students never saw: the shift of its logit that makes fewest errors on all
/// training examples, and what it does to the test set.
fn correct_biases(
    omitted: &[usize],
    (train, train_logits): (&ClassLabels, &[f32]),
    (test, test_logits): (&ClassLabels, &[f32]),
) -> Vec<BiasCorrection> {
    let classes = train.classes();
    let correct = |&class: &usize| {
        let errors = |shift: f32| -> usize {
            let shifted = Some((class, shift));
            errors_per_class(train_logits, train.ids(), classes, shifted).iter().sum()
        };
        let shifts = (-100..=200).map(|tenth| tenth as f32 / 10.0);
        let shift = shifts
            .map(|shift| (errors(shift), shift))
            .min_by(|a, b| a.0.cmp(&b.0).then(a.1.abs().total_cmp(&b.1.abs())))
            .map_or(0.0, |(_, shift)| shift);
        let wrong = errors_per_class(test_logits, test.ids(), classes, Some((class, shift)));
        BiasCorrection { class, shift, errors: wrong.iter().sum(), errors_of_class: wrong[class] }
    };
    omitted.iter().map(correct).collect()
}
