//! burn with its `flex` backend: eager tensors on the processor, a tape for the gradients.

use std::hint::black_box;

use anyhow::{Context, Result};
use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::nn::loss::{
    CrossEntropyLoss, CrossEntropyLossConfig, KLDivLoss, KLDivLossConfig, Reduction,
};
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::compare::Side;
use crate::work::{
    ALPHA, INPUTS, MOMENTUM, PROOF_RATE, PROOF_STEPS, Product, ROWS, STUDENT, TEACHER, TEMPERATURE,
    TIMED_RATE, change, features, labels, transposed, widths,
};

/// out = a · b.
pub struct Matmul {
    a: Tensor<2>,
    b: Tensor<2>,
    device: Device,
}

impl Matmul {
    /// On the processor.
    pub fn new(product: Product) -> Self {
        let device = Device::flex();
        let Product { m, n, k } = product;
        let tensor =
            |values, shape: [usize; 2]| Tensor::from_data(TensorData::new(values, shape), &device);
        Self { a: tensor(product.a(), [m, k]), b: tensor(product.b(), [k, n]), device }
    }

    fn product(&self) -> Result<Tensor<2>> {
        let product = self.a.clone().matmul(self.b.clone());
        self.device.sync()?;
        Ok(product)
    }
}

impl Side for Matmul {
    fn answer(&mut self) -> Result<Vec<f64>> {
        let product: Vec<f32> = self.product()?.into_data().try_to_vec()?;
        Ok(product.into_iter().map(f64::from).collect())
    }

    fn run(&mut self) -> Result<()> {
        black_box(self.product()?);
        Ok(())
    }
}

/// Linear layers with relu between them.
#[derive(Module, Debug)]
struct Mlp {
    layers: Vec<Linear>,
}

impl Mlp {
    fn new(hidden: usize, device: &Device) -> Self {
        let mut parameters = transposed(hidden).into_iter();
        let mut next = || parameters.next().expect("a weight and a bias a layer");
        let layers = widths(hidden)
            .windows(2)
            .map(|pair| {
                let weight = TensorData::new(next(), [pair[0], pair[1]]);
                let bias = TensorData::new(next(), [pair[1]]);
                Linear {
                    weight: Param::from_tensor(Tensor::from_data(weight, device)),
                    bias: Some(Param::from_tensor(Tensor::from_data(bias, device))),
                }
            })
            .collect();
        Self { layers }
    }

    fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        let mut x = features;
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                x = relu(x);
            }
            x = layer.forward(x);
        }
        x
    }

    /// Weight and bias, layer by layer.
    fn parameters(&self) -> Result<Vec<Vec<f32>>> {
        let mut parameters = Vec::new();
        for layer in &self.layers {
            parameters.push(layer.weight.val().into_data().try_to_vec()?);
            let bias = layer.bias.as_ref().context("every layer has a bias")?;
            parameters.push(bias.val().into_data().try_to_vec()?);
        }
        Ok(parameters)
    }
}

/// Distillation steps, the batch handed over from the host at each. The teacher runs without a tape.
pub struct Distillation {
    device: Device,
    teacher: Mlp,
    /// Absent only within a step, which takes it and gives it back.
    student: Option<Mlp>,
    optimizer: ModuleOptimizer,
    soft: KLDivLoss,
    hard: CrossEntropyLoss,
    features: Vec<f32>,
    labels: Vec<i32>,
}

impl Distillation {
    /// On the processor.
    pub fn new() -> Self {
        let device = Device::flex();
        let training = device.clone().autodiff();
        let momentum = MomentumConfig::new()
            .with_momentum(f64::from(MOMENTUM))
            .with_dampening(0.0)
            .with_nesterov(false);
        Self {
            teacher: Mlp::new(TEACHER, &device).no_grad(),
            student: Some(Mlp::new(STUDENT, &training)),
            optimizer: SgdConfig::new().with_momentum(Some(momentum)).init(),
            soft: KLDivLossConfig::new().with_log_target(true).init(),
            hard: CrossEntropyLossConfig::new().init(&training),
            features: features(),
            labels: labels(),
            device,
        }
    }

    fn step(&mut self, learning_rate: f32) -> Result<()> {
        let features = TensorData::new(self.features.clone(), [ROWS, INPUTS]);
        let features = Tensor::<2>::from_data(features, &self.device);
        let labels = TensorData::new(self.labels.clone(), [ROWS]);
        let labels = Tensor::<1, Int>::from_data(labels, &self.device).autodiff();
        let student = self.student.take().context("a step failed before")?;

        let z_t = self.teacher.forward(features.clone());
        let z_s = student.forward(features.autodiff());
        let soft = self.soft.forward(
            log_softmax(z_s.clone().div_scalar(TEMPERATURE), 1),
            log_softmax(z_t.div_scalar(TEMPERATURE), 1).autodiff(),
            Reduction::BatchMean,
        );
        let hard = self.hard.forward(z_s, labels);
        let soft = soft.mul_scalar(ALPHA * TEMPERATURE * TEMPERATURE);
        let loss = soft + hard.mul_scalar(1.0 - ALPHA);

        let gradients = GradientsParams::from_grads(loss.backward(), &student);
        self.student = Some(self.optimizer.step(f64::from(learning_rate), student, gradients));
        self.device.sync()?;
        Ok(())
    }
}

impl Side for Distillation {
    fn answer(&mut self) -> Result<Vec<f64>> {
        for _ in 0..PROOF_STEPS {
            self.step(PROOF_RATE)?;
        }
        let student = self.student.as_ref().context("a step failed before")?;
        Ok(change(STUDENT, student.parameters()?))
    }

    fn run(&mut self) -> Result<()> {
        self.step(TIMED_RATE)
    }
}
