//! The engine's side.

use anyhow::Result;
use distil_gpu_engine::bench::plan_of;
use distil_gpu_engine::device::{Device, HostTensor};
use distil_gpu_engine::objective::{TeacherInput, forward_plan, training_plan};
use distil_gpu_engine::graph::ops::OptimizerConfig;
use distil_gpu_engine::kernels::StepState;
use distil_gpu_engine::kernels::matmul;
use distil_gpu_engine::kernels::optimizer::Rule;
use distil_gpu_engine::models::BatchShape;
use distil_gpu_engine::session::Session;
use distil_gpu_engine::store::{Layout, Part};

use crate::compare::Side;
#[cfg(feature = "burn")]
use crate::work::{ALPHA, MOMENTUM};
use crate::work::{
    PROOF_RATE, PROOF_STEPS, Product, ROWS, STUDENT, TEACHER, TEMPERATURE, TIMED_RATE, features,
    labels, mlp, parameters,
};

/// out = a · b, all on the device.
pub struct Matmul<'a> {
    session: Session<'a>,
    product: Product,
}

impl<'a> Matmul<'a> {
    /// On a device.
    pub fn new(device: &'a mut dyn Device, product: Product) -> Result<Self> {
        let Product { m, n, k } = product;
        let kernel = matmul::Matmul::new(m, n, k, false, false);
        let session = Session::new(device, plan_of(std::sync::Arc::new(kernel)), [])?;
        Ok(Self { session, product })
    }
}

impl Side for Matmul<'_> {
    fn answer(&mut self) -> Result<Vec<f64>> {
        let (a, b) = (self.product.a(), self.product.b());
        let inputs = [("a", HostTensor::F32(&a)), ("b", HostTensor::F32(&b))];
        self.session.run(&StepState::default(), &inputs)?;
        Ok(self.session.output("out")?)
    }

    fn run(&mut self) -> Result<()> {
        self.session.run(&StepState::default(), &[])?;
        Ok(self.session.device.wait()?)
    }
}

/// The layouts and the first parameters of models, a store each.
fn session<'a>(
    device: &'a mut dyn Device,
    plan: distil_gpu_engine::plan::Plan,
    models: &[usize],
) -> Result<Session<'a>> {
    let layouts: Result<Vec<_>, _> =
        models.iter().map(|&hidden| Layout::new(mlp(hidden).model().parameters())).collect();
    let mut session = Session::new(device, plan, layouts?)?;
    for (store, &hidden) in models.iter().enumerate() {
        let exact = |values: Vec<f32>| values.into_iter().map(f64::from).collect();
        let values: Vec<Vec<f64>> = parameters(hidden).into_iter().map(exact).collect();
        session.set_all(store, &values)?;
    }
    Ok(session)
}

/// The teacher's logits, from host memory to host memory.
pub struct Forward<'a> {
    session: Session<'a>,
    features: Vec<f32>,
}

impl<'a> Forward<'a> {
    /// On a device.
    pub fn new(device: &'a mut dyn Device) -> Result<Self> {
        let plan = forward_plan(&mlp(TEACHER), BatchShape::of_numbers(ROWS))?;
        Ok(Self { session: session(device, plan, &[TEACHER])?, features: features() })
    }
}

impl Side for Forward<'_> {
    fn answer(&mut self) -> Result<Vec<f64>> {
        let inputs = [("features", HostTensor::F32(&self.features))];
        self.session.run(&StepState::default(), &inputs)?;
        Ok(self.session.output("logits")?)
    }

    fn run(&mut self) -> Result<()> {
        let inputs = [("features", HostTensor::F32(&self.features))];
        self.session.run(&StepState::default(), &inputs)?;
        let program = self.session.program;
        self.session.device.output(program, "logits")?;
        Ok(())
    }
}

/// Training steps of the student, the batch handed over from the host at each.
pub struct Training<'a> {
    session: Session<'a>,
    features: Vec<f32>,
    labels: Vec<i32>,
    alpha: f32,
}

impl<'a> Training<'a> {
    /// Cross-entropy alone, by SGD without momentum.
    pub fn alone(device: &'a mut dyn Device) -> Result<Self> {
        let shape = BatchShape::of_numbers(ROWS);
        let plan = training_plan(&mlp(STUDENT), TeacherInput::None, shape, sgd(0.0))?;
        Ok(Self::new(session(device, plan, &[STUDENT])?, 0.0))
    }

    #[cfg(feature = "burn")]
    /// Distillation from the teacher, which is part of the step, by SGD with momentum.
    pub fn distilled(device: &'a mut dyn Device) -> Result<Self> {
        let (teacher, shape) = (mlp(TEACHER), BatchShape::of_numbers(ROWS));
        let plan =
            training_plan(&mlp(STUDENT), TeacherInput::model(&teacher), shape, sgd(MOMENTUM))?;
        Ok(Self::new(session(device, plan, &[STUDENT, TEACHER])?, ALPHA))
    }

    fn new(session: Session<'a>, alpha: f32) -> Self {
        Self { session, features: features(), labels: labels(), alpha }
    }

    fn step(&mut self, learning_rate: f32) -> Result<()> {
        let state = StepState {
            learning_rate,
            temperature: TEMPERATURE,
            alpha: self.alpha,
            soft_scale: 1.0 / ROWS as f32,
            hard_scale: 1.0 / ROWS as f32,
            ..StepState::default()
        };
        let inputs = [
            ("features", HostTensor::F32(&self.features)),
            ("labels", HostTensor::I32(&self.labels)),
        ];
        self.session.run(&state, &inputs)?;
        Ok(self.session.device.wait()?)
    }
}

impl Side for Training<'_> {
    fn answer(&mut self) -> Result<Vec<f64>> {
        for _ in 0..PROOF_STEPS {
            self.step(PROOF_RATE)?;
        }
        let after = self.session.all(0, Part::Parameters)?;
        let before = parameters(STUDENT).concat();
        Ok(after.iter().zip(before).map(|(after, before)| after - f64::from(before)).collect())
    }

    fn run(&mut self) -> Result<()> {
        self.step(TIMED_RATE)
    }
}

fn sgd(momentum: f32) -> OptimizerConfig {
    OptimizerConfig {
        rule: Rule::Sgd { momentum, nesterov: false },
        weight_decay: 0.0,
        clip: None,
        max_norm: None,
    }
}
