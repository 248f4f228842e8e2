//! The distillation step of `recipes/hinton-mnist.toml`: teacher 2 x 1200 forward, student 2 x 800 forward
//! and backward, SGD with momentum, 128 examples. `tools/bench_step_pytorch.py` times the same in PyTorch.

#![allow(missing_docs)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use distil_gpu_benches::devices;
use distil_gpu_engine::data::Normalisation;
use distil_gpu_engine::device::HostTensor;
use distil_gpu_engine::graph::ops::OptimizerConfig;
use distil_gpu_engine::kernels::StepState;
use distil_gpu_engine::kernels::distill_loss::TERMS;
use distil_gpu_engine::kernels::optimizer::Rule;
use distil_gpu_engine::models::{Architecture, BatchShape, Input, Mlp, ModelConfig, ProblemType};
use distil_gpu_engine::nn::Activation;
use distil_gpu_engine::objective::{TeacherInput, TeacherModel, training_plan};
use distil_gpu_engine::store::{Layout, Part, Store};

const ROWS: usize = 128;

fn mlp(hidden: usize) -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Mlp(Mlp {
            input_size: 784,
            hidden_sizes: vec![hidden, hidden],
            num_classes: 10,
            activation: Activation::Relu,
            dropout: 0.0,
            input_dropout: 0.0,
        }),
        input: Input::Numbers {
            shape: vec![1, 28, 28],
            normalisation: Normalisation::identity(),
            background: None,
        },
        class_names: (0..10).map(|class| class.to_string()).collect(),
        problem: ProblemType::default(),
    }
}

fn initial(config: &ModelConfig) -> Vec<Vec<f32>> {
    let specs = config.model().parameters();
    specs.iter().enumerate().map(|(index, spec)| spec.initial(0, index)).collect()
}

fn step(c: &mut Criterion) {
    let (teacher_config, student_config) = (mlp(1200), mlp(800));
    let optimizer = OptimizerConfig {
        rule: Rule::Sgd { momentum: 0.9, nesterov: false },
        weight_decay: 0.0,
        clip: None,
        max_norm: None,
    };
    let plan = training_plan(
        &student_config,
        TeacherInput::model(&teacher_config),
        BatchShape::of_numbers(ROWS),
        optimizer,
    )
    .expect("the graph is sound");
    let features: Vec<f32> = (0..ROWS * 784).map(|i| (i % 255) as f32 / 255.0).collect();
    let labels: Vec<i32> = (0..ROWS as i32).map(|i| i % 10).collect();
    for mut device in devices() {
        let device = &mut *device;
        let layout = Layout::new(student_config.model().parameters()).expect("the model fits");
        let parts = [Part::Parameters, Part::Gradients, Part::Moment1];
        let student = Store::new(device, "student", layout, &parts, TERMS).expect("room");
        for (index, values) in initial(&student_config).iter().enumerate() {
            student.write(device, Part::Parameters, index, values).expect("room");
        }
        let teacher = TeacherModel::new(device, teacher_config.clone(), &initial(&teacher_config))
            .expect("room");
        let teacher = &teacher.store;
        let program = device
            .load(&plan, &|part| {
                let store = if part.store == 0 { &student } else { teacher };
                store.buffer(part.part, part.segment)
            })
            .expect("the plan fits");
        let state = StepState {
            learning_rate: 0.001,
            temperature: 20.0,
            alpha: 0.9,
            soft_scale: 1.0 / ROWS as f32,
            hard_scale: 1.0 / ROWS as f32,
            ..StepState::default()
        };
        let inputs =
            [("features", HostTensor::F32(&features)), ("labels", HostTensor::I32(&labels))];
        let mut group = c.benchmark_group(format!("step on {}", device.info().name));
        group.sample_size(20).throughput(Throughput::Elements(ROWS as u64));
        group.bench_function("hinton-mnist, batch 128", |bencher| {
            bencher.iter(|| {
                device.run(program, &state, &inputs).expect("a step");
                device.wait().expect("the device answers");
            });
        });
        group.finish();
    }
}

criterion_group!(benches, step);
criterion_main!(benches);
