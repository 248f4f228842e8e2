//! Graphs to test with.

use distil_gpu_engine::device::Device;
use distil_gpu_engine::graph::{Graph, TensorId};
use distil_gpu_engine::nn::{self, Activation};
use distil_gpu_engine::plan::{Options, Plan};
use distil_gpu_engine::session::Session;
use distil_gpu_engine::store::{Init, Layout, ParameterSpec};
use distil_gpu_kernels::StepState;

use crate::random;

/// Settings of a step, none of them neutral.
pub fn some_state() -> StepState {
    StepState {
        step: 3,
        seed: 5,
        learning_rate: 0.1,
        temperature: 2.5,
        alpha: 0.3,
        soft_scale: 0.25,
        hard_scale: 0.2,
        ..StepState::default()
    }
}

/// Parameters `p0`, `p1`, … of these shapes.
pub fn layout_of(shapes: &[&[usize]]) -> Layout {
    let spec = |(i, shape): (usize, &&[usize])| ParameterSpec {
        name: format!("p{i}"),
        shape: shape.to_vec(),
        decay: true,
        init: Init::Constant(0.0),
    };
    Layout::new(shapes.iter().enumerate().map(spec).collect()).unwrap()
}

/// A graph with one store of these parameters.
pub fn graph_of(shapes: &[&[usize]]) -> (Graph, Vec<TensorId>) {
    let mut graph = Graph::new(vec![layout_of(shapes)]);
    let parameters = parameters(&mut graph, 0);
    (graph, parameters)
}

/// Random values for parameters of these shapes.
pub fn values_of(shapes: &[&[usize]]) -> Vec<Vec<f64>> {
    (0..).zip(shapes).map(|(salt, shape)| random(shape.iter().product(), salt)).collect()
}

/// Parameters of an MLP, named as PyTorch names them. Weight decay acts on weights, and on biases if asked.
pub fn mlp_layout(sizes: &[usize], decay_biases: bool) -> Layout {
    let layers = sizes.windows(2).enumerate();
    let mut specs: Vec<ParameterSpec> = layers
        .flat_map(|(i, sizes)| nn::linear_parameters(&format!("layers.{i}"), sizes[0], sizes[1]))
        .collect();
    specs.iter_mut().for_each(|spec| spec.decay |= decay_biases);
    Layout::new(specs).unwrap()
}

/// The MLP of all parameters of `store`: dropout behind each hidden layer's activation.
pub fn mlp(
    graph: &mut Graph,
    store: usize,
    mut x: TensorId,
    activation: Activation,
    rate: f32,
) -> TensorId {
    let layers = graph.stores[store].parameters.len() / 2;
    for layer in 0..layers {
        x = nn::linear(graph, store, &format!("layers.{layer}"), x).unwrap();
        if layer + 1 < layers {
            x = nn::activate(graph, activation, x, rate, layer as u32).unwrap();
        }
    }
    x
}

/// All parameters of a store, as tensors of a graph.
pub fn parameters(graph: &mut Graph, store: usize) -> Vec<TensorId> {
    (0..graph.stores[store].parameters.len()).map(|index| graph.parameter(store, index)).collect()
}

/// A graph on a device, with stores of its own; parameters are 0.
///
/// # Panics
/// When the graph does not compile or the device refuses it.
pub fn session<'a>(device: &'a mut dyn Device, graph: &Graph, options: Options) -> Session<'a> {
    let plan = Plan::compile(graph, options).unwrap();
    Session::new(device, plan, graph.stores.clone()).unwrap()
}
