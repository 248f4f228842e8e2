//! A graph of one's own: built, differentiated, compiled, run on a device. One linear layer learns y = 3 x₁ - 2 x₂ by
//! plain descent.
//!
//!     cargo run --release --example own_graph

use distil_gpu_engine::device::HostTensor;
use distil_gpu_engine::graph::ops::OptimizerConfig;
use distil_gpu_engine::graph::ops::Update;
use distil_gpu_engine::graph::{Graph, differentiate};
use distil_gpu_engine::kernels::chain::Stage;
use distil_gpu_engine::kernels::optimizer::Rule;
use distil_gpu_engine::kernels::{DType, StepState};
use distil_gpu_engine::layout::{Init, Layout, ParameterSpec, Part};
use distil_gpu_engine::plan::{Options, Plan};
use distil_gpu_engine::prelude::*;
use distil_gpu_engine::session::Session;

fn main() -> Result<(), Error> {
    const ROWS: usize = 64;
    let weight = ParameterSpec {
        name: "weight".to_owned(),
        shape: vec![1, 2],
        decay: false,
        init: Init::Constant(0.0),
    };
    let layout = Layout::new(vec![weight])?;
    let mut graph = Graph::new(vec![layout.clone()]);
    let x = graph.input("x", &[ROWS, 2], DType::F32);
    let y = graph.input("y", &[ROWS, 1], DType::F32);
    let weight = graph.parameter(0, 0);
    // The loss of each row is (x · weight - y)² / ROWS; all of them are summed.
    let found = graph.matmul(x, weight, false, true)?;
    let minus = graph.affine(y, -1.0, 0.0)?;
    let error = graph.plus(found, minus)?;
    let square = graph.map(Stage::Square, error)?;
    let loss = graph.affine(square, 1.0 / ROWS as f32, 0.0)?;
    graph.output("loss", loss);
    let gradients = differentiate(&mut graph, &[loss], &[weight])?;
    let descent = OptimizerConfig {
        rule: Rule::Sgd { momentum: 0.0, nesterov: false },
        weight_decay: 0.0,
        clip: None,
        max_norm: None,
    };
    graph.optimize(0, &gradients, Update::from(descent))?;
    let plan = Plan::compile(&graph, Options::default())?;

    let mut device = select(Choice::Auto, GpuOptions::default())?.device;
    let mut session = Session::new(&mut *device, plan, vec![layout])?;
    let xs: Vec<f32> = (0..2 * ROWS).map(|i| ((i * 37 % 41) as f32) / 20.0 - 1.0).collect();
    let ys: Vec<f32> = xs.chunks(2).map(|x| 3.0 * x[0] - 2.0 * x[1]).collect();
    let inputs = [("x", HostTensor::F32(&xs)), ("y", HostTensor::F32(&ys))];
    for step in 0..200 {
        let state = StepState { step, learning_rate: 0.5, ..StepState::default() };
        session.run(&state, &inputs)?;
        if step % 50 == 0 {
            println!("step {step:3}: loss {:.6}", session.output("loss")?.iter().sum::<f64>());
        }
    }
    let weight = session.part(0, Part::Parameters, 0)?;
    println!("y = {:.3} x1 + {:.3} x2", weight[0], weight[1]);
    assert!((weight[0] - 3.0).abs() < 1e-2 && (weight[1] + 2.0).abs() < 1e-2);
    Ok(())
}
