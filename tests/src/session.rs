//! Runs a graph, once or for many steps.

use distil_gpu_engine::device::{HostTensor, ProgramId};
use distil_gpu_engine::graph::{Graph, TensorId};
use distil_gpu_engine::nn::{self, Activation};
use distil_gpu_engine::plan::{Options, Plan};
use distil_gpu_engine::store::{Init, Layout, ParameterSpec, Part, Store, StorePart};
use distil_gpu_kernels::StepState;
use distil_gpu_kernels::distill_loss::TERMS;

use crate::{TestDevice, random, widen};

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
        x = nn::linear(graph, store, 2 * layer, x).unwrap();
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

/// A graph on a device, with its stores.
pub struct Session<'a> {
    /// The device.
    pub device: &'a mut dyn TestDevice,
    /// The compiled graph.
    pub plan: Plan,
    /// The stores, in the graph's order, with all their parts.
    pub stores: Vec<Store>,
    program: ProgramId,
}

impl<'a> Session<'a> {
    /// Compiles the graph and loads it; parameters are 0.
    ///
    /// # Panics
    /// When the graph does not compile or the device refuses it.
    pub fn new(device: &'a mut dyn TestDevice, graph: &Graph, options: Options) -> Self {
        const PARTS: [Part; 4] = [Part::Parameters, Part::Gradients, Part::Moment1, Part::Moment2];
        let plan = Plan::compile(graph, options).unwrap();
        let make = |layout: &Layout| Store::new(device, "store", layout.clone(), &PARTS, TERMS);
        let stores: Vec<Store> = graph.stores.iter().map(make).collect::<Result<_, _>>().unwrap();
        let place = |at: StorePart| stores[at.store].buffer(at.part, at.segment);
        let program = device.load(&plan, &place).unwrap();
        Self { device, plan, stores, program }
    }

    /// Gives a parameter its values.
    pub fn set(&mut self, store: usize, index: usize, values: &[f64]) {
        let place = self.stores[store].layout.places[index];
        let id = self.stores[store].buffer(Part::Parameters, place.segment).unwrap();
        assert_eq!(values.len(), self.stores[store].layout.parameters[index].len());
        self.device.set(id, place.offset, values);
    }

    /// Gives all parameters of a store their values.
    pub fn set_all(&mut self, store: usize, values: &[Vec<f64>]) {
        assert_eq!(values.len(), self.stores[store].layout.parameters.len());
        values.iter().enumerate().for_each(|(index, values)| self.set(store, index, values));
    }

    /// Gives all parameters the values that a new model starts from.
    pub fn initialise(&mut self, seed: u32) {
        for store in 0..self.stores.len() {
            let specs = self.stores[store].layout.parameters.clone();
            for (index, spec) in specs.iter().enumerate() {
                self.set(store, index, &widen(&spec.initial(seed + store as u32, index)));
            }
        }
    }

    /// A part of a parameter: its values, gradient or moments.
    pub fn part(&mut self, store: usize, part: Part, index: usize) -> Vec<f64> {
        let layout = &self.stores[store].layout;
        let (place, len) = (layout.places[index], layout.parameters[index].len());
        let id = self.stores[store].buffer(part, place.segment).unwrap();
        self.device.get(id, place.offset, len)
    }

    /// A part of all parameters of a store, one after another.
    pub fn all(&mut self, store: usize, part: Part) -> Vec<f64> {
        let count = self.stores[store].layout.parameters.len();
        (0..count).flat_map(|index| self.part(store, part, index)).collect()
    }

    /// The sums that a store's metrics have reached.
    pub fn metrics(&mut self, store: usize) -> Vec<f64> {
        let id = self.stores[store].buffer(Part::Metrics, 0).unwrap();
        self.device.get(id, 0, TERMS)
    }

    /// Runs the plan once.
    pub fn run(&mut self, state: &StepState, inputs: &[(&str, HostTensor<'_>)]) {
        self.device.run(self.program, state, inputs).unwrap();
    }

    /// An output of the last run.
    pub fn output(&mut self, name: &str) -> Vec<f64> {
        self.device.get_output(self.program, name)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.device.unload(self.program);
        std::mem::take(&mut self.stores).into_iter().for_each(|store| store.free(self.device));
    }
}
