//! Trains one arm.

use distil_gpu_kernels::distill_loss::{PADDING, TERMS};
use distil_gpu_kernels::optimizer::Rule;
use distil_gpu_kernels::{StepState, random};

use super::evaluate::{Evaluator, read_metrics, reset_metrics};
use super::program::{self, FEATURES, LABELS, TEACHER_LOGITS, TeacherInput};
use super::teacher::{Named, Teacher};
use super::{Arm, Event, Metrics, Observer};
use crate::data::{Dataset, Shift};
use crate::device::{Device, HostTensor};
use crate::error::Error;
use crate::graph::ops::OptimizerConfig;
use crate::models::ModelConfig;
use crate::recipe::{self, Optimizer};
use crate::store::{Layout, Part, Store};

/// What an arm is trained with.
#[derive(Debug)]
pub struct Lesson<'a> {
    /// Which arm.
    pub arm: Arm,
    /// The model.
    pub config: &'a ModelConfig,
    /// How.
    pub train: &'a recipe::Train,
    /// Seed of weights, order, shifts and dropout.
    pub seed: u32,
    /// Examples to learn from.
    pub data: &'a Dataset,
    /// Examples to measure on.
    pub test: &'a Dataset,
    /// The teacher, if it has one.
    pub teacher: Option<&'a Teacher>,
    /// The teacher's raw logits of the test examples.
    pub test_answers: Option<&'a [f32]>,
    /// Temperature.
    pub temperature: f32,
    /// Weight of the soft term.
    pub alpha: f32,
}

/// A trained model on the device.
#[derive(Debug)]
pub struct Trained {
    /// Its parameters.
    pub store: Store,
    /// Over the test set at the end.
    pub test: Metrics,
    /// Steps taken.
    pub steps: u32,
}

/// The update that a recipe asks for, and the betas of its moments (0 where it has none).
pub fn optimizer_config(train: &recipe::Train) -> (OptimizerConfig, [f64; 2]) {
    let (rule, weight_decay, betas) = match &train.optimizer {
        Optimizer::Sgd(sgd) => {
            let rule = Rule::Sgd { momentum: sgd.momentum, nesterov: sgd.nesterov };
            (rule, sgd.weight_decay, [0.0; 2])
        }
        Optimizer::Adam(adam) | Optimizer::AdamW(adam) => {
            let recipe::Adam { beta1, beta2, eps, weight_decay, .. } = *adam;
            let rule = match train.optimizer {
                Optimizer::AdamW(_) => Rule::AdamW { beta1, beta2, eps },
                _ => Rule::Adam { beta1, beta2, eps },
            };
            (rule, weight_decay, [beta1, beta2])
        }
    };
    let config = OptimizerConfig { rule, weight_decay, clip: train.clip, max_norm: train.max_norm };
    (config, betas)
}

/// Trains a model from its first weights to the last step of the recipe.
///
/// # Errors
/// When the device fails, or the loss stops being a number.
pub fn train(
    device: &mut dyn Device,
    lesson: &Lesson<'_>,
    observer: &mut dyn Observer,
) -> Result<Trained, Error> {
    let Lesson { arm, config, train, data, .. } = *lesson;
    let (optimizer, betas) = optimizer_config(train);
    let base_lr = train.optimizer.lr();
    let rows = train.batch.min(data.len());
    let steps_per_epoch = data.len().div_ceil(rows) as u32;
    let steps = train.length.total_steps(steps_per_epoch);

    let specs = config.model().parameters();
    let moments = [Part::Moment1, Part::Moment2].into_iter().take(optimizer.rule.moments());
    let parts: Vec<Part> = [Part::Parameters, Part::Gradients].into_iter().chain(moments).collect();
    let store = Store::new(device, arm.name(), Layout::new(specs.clone())?, &parts, TERMS)?;
    for (index, spec) in specs.iter().enumerate() {
        store.write(device, Part::Parameters, index, &spec.initial(lesson.seed, index))?;
    }

    let input = match lesson.teacher {
        None => TeacherInput::None,
        Some(Teacher::Model { config, .. }) => TeacherInput::Model(config),
        Some(Teacher::Logits { .. }) => TeacherInput::Given,
    };
    let plan = program::training_plan(config, input, rows, optimizer)?;
    let program = device.load(&plan, &|part| match (part.store, lesson.teacher) {
        (program::TEACHER, Some(Teacher::Model { store, .. })) => {
            store.buffer(part.part, part.segment)
        }
        _ => store.buffer(part.part, part.segment),
    })?;

    observer.event(&Event::Started { arm, steps, batch: rows });
    let mut evaluator = Evaluator::new(config, &store);
    let mut features = vec![0.0; rows * config.input_len()];
    let mut labels = vec![PADDING; rows];
    let mut answers = match lesson.teacher {
        Some(Teacher::Logits { classes, .. }) => vec![0.0; rows * classes],
        _ => Vec::new(),
    };
    let mut test = None;
    let mut step = 0;
    while step < steps {
        let epoch = step / steps_per_epoch;
        let order = random::permutation(data.len(), lesson.seed, epoch);
        reset_metrics(device, &store)?;
        let first_step = step;
        let mut learning_rate = 0.0;
        for indices in order.chunks(rows).take((steps - step) as usize) {
            learning_rate = train.schedule.lr(step, steps, steps_per_epoch, base_lr);
            let shift =
                (train.shift > 0).then_some(Shift { pixels: train.shift, seed: lesson.seed, step });
            let filled = &mut features[..indices.len() * config.input_len()];
            data.gather(indices, &config.normalisation, shift, filled);
            labels.fill(PADDING);
            data.gather_labels(indices, &mut labels[..indices.len()]);
            let mut inputs: Vec<Named<'_>> =
                vec![(FEATURES, HostTensor::F32(&features)), (LABELS, HostTensor::I32(&labels))];
            if let Some(Teacher::Logits { values, classes }) = lesson.teacher {
                Teacher::gather(values, *classes, indices, &mut answers);
                inputs.push((TEACHER_LOGITS, HostTensor::F32(&answers)));
            }
            let power = |beta: f64| (1.0 - beta.powf(f64::from(step) + 1.0)) as f32;
            let state = StepState {
                step,
                seed: lesson.seed,
                learning_rate,
                temperature: lesson.temperature,
                alpha: lesson.alpha,
                soft_scale: scale(labels.iter().filter(|&&label| label != PADDING).count()),
                hard_scale: scale(labels.iter().filter(|&&label| label >= 0).count()),
                bias_correction1: power(betas[0]),
                bias_correction2: power(betas[1]),
                ..StepState::default()
            };
            device.run(program, &state, &inputs)?;
            step += 1;
            observer.event(&Event::Step { arm, done: step });
        }
        let train_metrics = read_metrics(device, &store, lesson.alpha)?;
        let check = |loss: f64| match loss.is_finite() {
            true => Ok(()),
            false => Err(Error::NotFinite(format!(
                "the loss of the {} became {loss} between steps {first_step} and {step}: lower \
                 optimizer.lr (now {base_lr:?}), or set clip = 1.0 in its train section",
                arm.name()
            ))),
        };
        check(train_metrics.loss)?;
        let (temperature, alpha) = (lesson.temperature, lesson.alpha);
        let measured =
            evaluator.metrics(device, lesson.test, lesson.test_answers, temperature, alpha)?;
        // The last step may have spoilt what the training batches no longer show.
        check(measured.loss)?;
        observer.event(&Event::Epoch {
            arm,
            epoch: epoch + 1,
            step,
            learning_rate,
            train: &train_metrics,
            test: &measured,
        });
        test = Some(measured);
    }
    evaluator.close(device);
    device.unload(program);
    observer.event(&Event::Finished { arm });
    let test = test.expect("a recipe asks for at least one step");
    Ok(Trained { store, test, steps })
}

fn scale(rows: usize) -> f32 {
    if rows == 0 { 0.0 } else { 1.0 / rows as f32 }
}
