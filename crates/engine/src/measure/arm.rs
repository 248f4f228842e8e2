//! What a run measures of each arm.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::data::{ClassLabels, Examples, Split};
use crate::device::Device;
use crate::error::Error;
use crate::measure::Evaluator;
use crate::measure::evaluator::{Speed, errors_per_class};
use crate::measure::neighbours::Nearness;
use crate::models::{self, Feed, ModelConfig};
use crate::objective::Teacher;
use crate::report::{ArmReport, BiasCorrection};
use crate::results::Scores;
use crate::store::Store;

/// The steps of a training.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    /// How many; none of a model that was loaded.
    pub steps: Option<u32>,
    /// After which its parameters were the best, if those were kept.
    pub kept: Option<u32>,
}

/// Raw logits [examples, classes] of a saved model for the test set.
pub(crate) fn test_logits(
    device: &mut dyn Device,
    test: &Feed<'_>,
    config: &ModelConfig,
    store: &Store,
) -> Result<Vec<f32>, Error> {
    let mut evaluator = Evaluator::new(config, store);
    let logits = evaluator.logits(device, test, &mut |_| ())?;
    evaluator.close(device);
    Ok(logits)
}

/// Measures a masked language model that is saved in `folder`, and tells what share of its first guesses is the
/// teacher's.
pub(crate) fn measure_guesses(
    device: &mut dyn Device,
    test: &Feed<'_>,
    teacher: Option<&Teacher>,
    (config, store): (&ModelConfig, &Store),
    folder: &Path,
    taken: Taken,
) -> Result<(ArmReport, Option<f64>), Error> {
    let mut evaluator = Evaluator::new(config, store).against(teacher);
    let metrics = evaluator.metrics(device, test, None, None, 1.0, 0.0)?;
    evaluator.close(device);
    let (tokens, accuracy) = (test.masked_tokens(), metrics.accuracy.unwrap_or(0.0));
    let mut arm = ArmReport {
        accuracy,
        errors: tokens - (accuracy * tokens as f64).round() as usize,
        cross_entropy: metrics.hard,
        perplexity: metrics.hard.map(f64::exp),
        steps: taken.steps,
        kept_step: taken.kept,
        ..ArmReport::default()
    };
    of_model(&mut arm, config, folder);
    Ok((arm, metrics.agreement))
}

/// What the model itself adds to a report.
fn of_model(arm: &mut ArmReport, config: &ModelConfig, folder: &Path) {
    arm.parameters = Some(config.parameter_count());
    arm.bytes = fs::metadata(folder.join(models::WEIGHTS)).map(|metadata| metadata.len()).ok();
}

/// Measures a model that is saved in `folder` and whose logits of the test set are known.
pub(crate) fn measure(
    device: &mut dyn Device,
    split: &Split,
    omitted: &[usize],
    (config, store): (&ModelConfig, &Store),
    logits: &[f32],
    folder: &Path,
    taken: Taken,
) -> Result<ArmReport, Error> {
    let mut arm = match config.embeds() {
        true => {
            let Taken { steps, kept } = taken;
            ArmReport { steps, kept_step: kept, ..ArmReport::default() }
        }
        false => count(split.test.need_classes()?, logits, taken),
    };
    if !omitted.is_empty() {
        let train = Feed::new(&config.input, split.train.examples())?;
        let mut evaluator = Evaluator::new(config, store);
        let known = evaluator.logits(device, &train, &mut |_| ())?;
        evaluator.close(device);
        let (train, test) = (split.train.need_classes()?, split.test.need_classes()?);
        arm.bias_corrected = correct_biases(omitted, (train, &known), (test, logits));
    }
    of_model(&mut arm, config, folder);
    Ok(arm)
}

/// At most this share of the time of a run goes into measuring speeds.
const SPEED_SHARE: f64 = 0.08;
/// The least time for it: a few passes of a small model.
const LEAST_SPEED_SECONDS: f64 = 0.2;

/// Speeds of models, the medians of several turns that they take: whatever else the machine does meanwhile slows all of
/// them. They take 8 % of the `seconds` that the run has taken, 0.2 s at least, or less where that is enough; but no
/// pass is cut short.
pub(crate) fn speeds(
    device: &mut dyn Device,
    models: &[(&ModelConfig, &Store)],
    test: &Examples,
    seconds: f64,
) -> Result<Vec<Speed>, Error> {
    const TURNS: usize = 3;
    let most = (SPEED_SHARE * seconds).max(LEAST_SPEED_SECONDS) / (TURNS * models.len()) as f64;
    let most = Duration::try_from_secs_f64(most).unwrap_or(Duration::MAX);
    let mut timed = Vec::new();
    for &(config, store) in models {
        let feed = Feed::new(&config.input, test)?;
        timed.push((Evaluator::new(config, store), feed, Vec::new()));
    }
    for _ in 0..TURNS {
        for (evaluator, feed, speeds) in &mut timed {
            speeds.push(evaluator.speed_within(device, feed, most)?);
        }
    }
    let median = |(evaluator, _, mut speeds): (Evaluator<'_>, _, Vec<Speed>)| {
        evaluator.close(device);
        speeds.sort_by(|a, b| a.examples_per_second.total_cmp(&b.examples_per_second));
        let examples_per_second = speeds[TURNS / 2].examples_per_second;
        speeds.sort_by_key(|speed| speed.latency);
        Speed { latency: speeds[TURNS / 2].latency, examples_per_second }
    };
    Ok(timed.into_iter().map(median).collect())
}

/// How near an arm's embeddings of the test texts are to the teacher's, each with their width.
pub(crate) fn compare(arm: &mut ArmReport, ours: (&[f32], usize), theirs: (&[f32], usize)) {
    let near = Nearness::of(ours, theirs);
    arm.accuracy = near.neighbours;
    arm.errors = near.other_nearest;
    arm.cosine = near.cosine;
}

/// What logits of the test set alone tell.
pub(crate) fn count(test: &ClassLabels, logits: &[f32], taken: Taken) -> ArmReport {
    let errors_per_class = errors_per_class(logits, test.ids(), test.classes(), None);
    let errors = errors_per_class.iter().sum();
    let scores = Scores::of(logits, test.ids(), test.classes());
    let examples = test.ids().len();
    ArmReport {
        accuracy: (examples - errors) as f64 / examples as f64,
        errors,
        macro_f1: scores.macro_f1(),
        matthews: scores.matthews(),
        errors_per_class,
        steps: taken.steps,
        kept_step: taken.kept,
        ..ArmReport::default()
    }
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

/// Share of rows whose largest logit is in the same place.
pub(crate) fn agreement(ours: &[f32], theirs: &[f32], classes: usize) -> f64 {
    let best =
        |row: &[f32]| (1..classes).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    let rows = ours.chunks_exact(classes).zip(theirs.chunks_exact(classes));
    let same = rows.filter(|(a, b)| best(a) == best(b)).count();
    same as f64 * classes as f64 / ours.len() as f64
}
