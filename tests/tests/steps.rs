//! Whole distillation steps: what they cost, that they repeat to the bit, and what they count.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use distil_gpu_engine::device::{CpuDevice, Device, HostTensor, Stats};
use distil_gpu_engine::graph::ops::OptimizerConfig;
use distil_gpu_engine::graph::{Graph, differentiate};
use distil_gpu_engine::nn::Activation;
use distil_gpu_engine::plan::{Options, Plan};
use distil_gpu_engine::store::Part;
use distil_gpu_kernels::distill_loss::{IGNORED, PADDING, TERMS};
use distil_gpu_kernels::optimizer::Rule;
use distil_gpu_kernels::{Caps, DType, StepState};
use distil_gpu_tests::{
    Session, assert_close, devices, gpus, is_slow, mlp, mlp_layout, narrow, parameters, random,
    random_labels, session,
};

/// Sizes of a teacher and a student, and the batch.
struct Sizes {
    teacher: &'static [usize],
    student: &'static [usize],
    batch: usize,
}

/// Hinton's MNIST experiment.
const REAL: Sizes =
    Sizes { teacher: &[784, 1200, 1200, 10], student: &[784, 800, 800, 10], batch: 128 };
const SMALL: Sizes = Sizes { teacher: &[30, 40, 40, 10], student: &[30, 20, 20, 10], batch: 13 };

/// SGD with momentum.
const PLAIN: OptimizerConfig = OptimizerConfig {
    rule: Rule::Sgd { momentum: 0.9, nesterov: false },
    weight_decay: 0.0,
    clip: None,
    max_norm: None,
};
/// Everything else an update can do.
const BOUND: f32 = 0.5;
const FULL: OptimizerConfig =
    OptimizerConfig { weight_decay: 1e-4, clip: Some(0.5), max_norm: Some(BOUND), ..PLAIN };

impl Sizes {
    /// Teacher forward, student forward and backward, metrics, update.
    fn step(&self, activation: Activation, rate: f32, config: OptimizerConfig) -> Graph {
        let stores = vec![mlp_layout(self.student, false), mlp_layout(self.teacher, false)];
        let mut graph = Graph::new(stores);
        let x = graph.input("features", &[self.batch, self.student[0]], DType::F32);
        let labels = graph.input("labels", &[self.batch], DType::I32);
        let teacher = mlp(&mut graph, 1, x, Activation::Relu, 0.0);
        let student = mlp(&mut graph, 0, x, activation, rate);
        let (loss, terms) = graph.distill_loss(student, labels, Some(teacher), 10).unwrap();
        graph.accumulate(terms, 0).unwrap();
        graph.output("terms", terms);
        let parameters = parameters(&mut graph, 0);
        let gradients = differentiate(&mut graph, &[loss], &parameters).unwrap();
        graph.optimize(0, &gradients, config).unwrap();
        graph
    }

    fn batch(&self, step: u32) -> (Vec<f32>, Vec<i32>) {
        let features = narrow(&random(self.batch * self.student[0], 100 + step));
        let mut labels = random_labels(self.batch, 10, 200 + step);
        (labels[0], labels[1]) = (IGNORED, PADDING);
        (features, labels)
    }

    fn run(&self, session: &mut Session<'_>, step: u32) {
        let (features, labels) = self.batch(step);
        let state = StepState {
            step,
            seed: 17,
            learning_rate: 0.05,
            temperature: 4.0,
            alpha: 0.7,
            soft_scale: 1.0 / (self.batch - 1) as f32,
            hard_scale: 1.0 / (self.batch - 2) as f32,
            ..StepState::default()
        };
        let inputs =
            [("features", HostTensor::F32(&features)), ("labels", HostTensor::I32(&labels))];
        session.run(&state, &inputs).unwrap();
    }
}

/// Launches of one run of a plan.
fn launches(plan: &Plan, caps: &Caps) -> usize {
    plan.calls.iter().map(|call| call.kernel.launches(caps).len()).sum()
}

#[test]
fn a_step_is_one_submission_of_few_launches() {
    for mut gpu in gpus(false) {
        let slow = is_slow(&gpu);
        for sizes in [SMALL, REAL] {
            let graph = sizes.step(Activation::Relu, 0.2, PLAIN);
            let plan = Plan::compile(&graph, Options::default()).unwrap();
            let planned = launches(&plan, &gpu.caps());
            assert!((10..=24).contains(&planned), "{planned} launches");
            if slow && sizes.batch == REAL.batch {
                // A minute a step.
                continue;
            }
            let mut session = session(&mut gpu, &graph, Options::default());
            session.initialise(1).unwrap();
            sizes.run(&mut session, 0);
            session.device.wait().unwrap();
            for step in 1..=4 {
                let before = session.device.stats();
                sizes.run(&mut session, step);
                let launched = before.launches + planned as u64;
                let submits = before.submits + 1;
                // No buffer, no bind group, no pipeline more.
                assert_eq!(session.device.stats(), Stats { launches: launched, submits, ..before });
            }
            session.device.wait().unwrap();
        }
    }
}

/// All that a run of some steps leaves behind.
fn train(device: &mut dyn Device, activation: Activation, rate: f32, steps: u32) -> [Vec<f64>; 3] {
    let graph = SMALL.step(activation, rate, FULL);
    let mut session = session(device, &graph, Options::default());
    session.initialise(1).unwrap();
    (0..steps).for_each(|step| SMALL.run(&mut session, step));
    [
        session.all(0, Part::Parameters).unwrap(),
        session.all(0, Part::Moment1).unwrap(),
        session.metrics(0).unwrap(),
    ]
}

#[test]
fn the_same_seed_gives_the_same_bits() {
    for device in &mut devices() {
        let first = train(&mut **device, Activation::Gelu, 0.5, 8);
        assert_eq!(first, train(&mut **device, Activation::Gelu, 0.5, 8), "{}", device.info().name);
        assert_ne!(first[0], train(&mut **device, Activation::Gelu, 0.4, 8)[0]);
    }
    // A device opened anew is no different.
    let anew = || gpus(false).into_iter().map(|mut gpu| train(&mut gpu, Activation::Relu, 0.5, 3));
    assert_eq!(anew().collect::<Vec<_>>(), anew().collect::<Vec<_>>());
}

#[test]
fn dropout_training_is_the_same_on_cpu_and_gpu() {
    for activation in [Activation::Relu, Activation::Gelu, Activation::Tanh] {
        let expected = train(&mut CpuDevice::<f32>::new(), activation, 0.5, 20);
        // The first layer's rows of 30 weights keep to the bound, and some have met it.
        let norms = expected[0][..20 * 30]
            .chunks(30)
            .map(|row| row.iter().map(|w| w * w).sum::<f64>().sqrt());
        let largest = norms.fold(0.0, f64::max);
        assert!((largest - f64::from(BOUND)).abs() < 1e-6, "{largest}");
        for mut gpu in gpus(false) {
            let found = train(&mut gpu, activation, 0.5, 20);
            for (found, expected) in found.iter().zip(&expected) {
                // Twenty steps of rounding; with another mask the error would be about 1e-2.
                let what = format!("{activation:?} on {}", gpu.info().name);
                assert_close(&what, found, expected, 1e-11);
            }
        }
    }
}

#[test]
fn metrics_add_up_over_steps() {
    for device in &mut devices() {
        let graph = SMALL.step(Activation::Relu, 0.0, PLAIN);
        let mut session = session(&mut **device, &graph, Options::default());
        session.initialise(1).unwrap();
        let mut sums = [0.0; TERMS];
        for step in 0..7 {
            SMALL.run(&mut session, step);
            let terms = session.output("terms").unwrap();
            sums.iter_mut().enumerate().for_each(|(column, sum)| {
                *sum += terms.iter().skip(column).step_by(TERMS).sum::<f64>();
            });
        }
        let found = session.metrics(0).unwrap();
        // Soft and hard losses are sums in f32, all else are whole numbers.
        assert_close("losses", &found[..2], &sums[..2], 1e-13);
        assert_eq!(found[2..], sums[2..]);
        assert_eq!(found[4..], [7.0 * 12.0, 7.0 * 11.0]);
    }
}
