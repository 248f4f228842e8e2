//! What the tests share: every device there is, random numbers, comparisons, and how to run one kernel
//! or one graph and read what it made.
//!
//! Values are `Vec<f64>` on the host: exact for the f64 oracle, and for f32 devices whenever the numbers
//! came from [`random`].

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use distil_gpu_engine::device::{
    BufferId, CpuDevice, CpuReal, Device, GpuDevice, GpuOptions, HostTensor, ProgramId, adapters,
};
use distil_gpu_engine::graph::{Graph, TensorId};
use distil_gpu_engine::nn::{self, Activation};
use distil_gpu_engine::plan::{BufferKind, BufferSpec, Call, Options, Plan, View};
use distil_gpu_engine::store::{Layout, ParameterSpec, Part, Store, StorePart};
use distil_gpu_kernels::distill_loss::TERMS;
use distil_gpu_kernels::{Access, Args, Cost, DType, Kernel, Launch, Operand, StepState};

/// A device whose values a test reads and writes without losing what the device itself holds.
pub trait TestDevice: Device {
    /// Reads a buffer.
    fn get(&mut self, id: BufferId, offset: usize, len: usize) -> Vec<f64>;
    /// Writes a buffer.
    fn set(&mut self, id: BufferId, offset: usize, values: &[f64]);
    /// Reads an output of the last run.
    fn get_output(&mut self, program: ProgramId, name: &str) -> Vec<f64>;
}

impl<F: CpuReal> TestDevice for CpuDevice<F> {
    fn get(&mut self, id: BufferId, offset: usize, len: usize) -> Vec<f64> {
        self.read_exact(id, offset, len)
    }
    fn set(&mut self, id: BufferId, offset: usize, values: &[f64]) {
        self.write_exact(id, offset, values);
    }
    fn get_output(&mut self, program: ProgramId, name: &str) -> Vec<f64> {
        self.output_exact(program, name).unwrap()
    }
}

impl TestDevice for GpuDevice {
    fn get(&mut self, id: BufferId, offset: usize, len: usize) -> Vec<f64> {
        widen(&self.read(id, offset, len).unwrap())
    }
    fn set(&mut self, id: BufferId, offset: usize, values: &[f64]) {
        self.write(id, offset, &narrow(values)).unwrap();
    }
    fn get_output(&mut self, program: ProgramId, name: &str) -> Vec<f64> {
        widen(&self.output(program, name).unwrap())
    }
}

/// Every GPU driver of this machine, with the shaders' checks left out as in use, or kept.
///
/// # Panics
/// When there is none: a test that found nothing to test must not pass.
pub fn gpus(checked: bool) -> Vec<GpuDevice> {
    let adapters = adapters();
    assert!(!adapters.is_empty(), "no GPU driver: run the tests through tests/run.sh");
    let options = GpuOptions { checked, ..GpuOptions::default() };
    adapters.iter().map(|adapter| GpuDevice::new(adapter, options).unwrap()).collect()
}

/// Every device that computes in f32: all GPUs, then the CPU path.
pub fn devices() -> Vec<Box<dyn TestDevice>> {
    let gpus = gpus(false).into_iter().map(|gpu| Box::new(gpu) as Box<dyn TestDevice>);
    gpus.chain([Box::new(CpuDevice::<f32>::new()) as Box<dyn TestDevice>]).collect()
}

/// The device everything else is held to.
pub fn oracle() -> CpuDevice<f64> {
    CpuDevice::new()
}

/// Whether a device is too slow for the largest shapes: SwiftShader takes ten times lavapipe's time.
pub fn is_slow(device: &dyn TestDevice) -> bool {
    device.info().name.contains("SwiftShader")
}

/// Numbers in [-1, 1), exact in f32; the same for the same `salt`.
pub fn random(len: usize, salt: u32) -> Vec<f64> {
    use distil_gpu_kernels::random::{unit, word};
    (0..len as u32).map(|i| f64::from(unit(word(20, salt, 0, i))) * 2.0 - 1.0).collect()
}

/// Numbers in `low..high`, rounded to f32.
pub fn random_in(low: f64, high: f64, len: usize, salt: u32) -> Vec<f64> {
    let scaled = |v: f64| f64::from((low + (high - low) * (v + 1.0) / 2.0) as f32);
    random(len, salt).into_iter().map(scaled).collect()
}

/// Whole numbers in `0..bound`.
pub fn random_labels(len: usize, bound: usize, salt: u32) -> Vec<i32> {
    random_in(0.0, bound as f64, len, salt)
        .iter()
        .map(|v| (*v as i32).min(bound as i32 - 1))
        .collect()
}

/// f32 to f64.
pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// f64 to f32.
pub fn narrow(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&v| v as f32).collect()
}

/// Distance of two numbers; a NaN is at no distance from a NaN, and infinitely far from anything else.
fn distance(found: f64, expected: f64) -> f64 {
    if found == expected || (found.is_nan() && expected.is_nan()) {
        return 0.0;
    }
    let distance = (found - expected).abs();
    if distance.is_nan() { f64::INFINITY } else { distance }
}

/// The largest distance of two elements.
///
/// # Panics
/// When the lengths differ.
pub fn max_error(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).fold(0.0, |worst, (&f, &e)| f64::max(worst, distance(f, e)))
}

/// Normalised mean square error: Σ (found - expected)² / Σ expected².
///
/// # Panics
/// When the lengths differ.
pub fn nmse(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let error: f64 = found.iter().zip(expected).map(|(&f, &e)| distance(f, e).powi(2)).sum();
    let power: f64 = expected.iter().filter(|e| !e.is_nan()).map(|e| e * e).sum();
    if error == 0.0 { 0.0 } else { error / power }
}

/// Holds an NMSE to a limit, and prints it.
///
/// # Panics
/// When it is above the limit.
pub fn assert_close(what: &str, found: &[f64], expected: &[f64], limit: f64) {
    let error = nmse(found, expected);
    println!("{error:9.1e}  {what}");
    if error <= limit {
        return;
    }
    let far = |i: &usize| distance(found[*i], expected[*i]);
    let worst = (0..found.len()).max_by(|a, b| far(a).total_cmp(&far(b))).unwrap();
    panic!(
        "{what}: NMSE {error:e} is above {limit:e}; element {worst} of {} is {} and not {}",
        found.len(),
        found[worst],
        expected[worst]
    );
}

/// What a kernel's operand holds before it runs.
#[derive(Clone, Debug)]
pub enum Data {
    /// Floats.
    Floats(Vec<f64>),
    /// Integers.
    Integers(Vec<i32>),
    /// Nothing yet: the kernel must write every element.
    Unwritten,
}

/// Elements behind each operand a kernel writes, which it must leave alone.
const GUARD: usize = 64;
const UNTOUCHED: f64 = -77.0;

/// Runs one kernel as a plan of one call; returns each operand that it writes, in order.
///
/// # Panics
/// When the device refuses, or the kernel writes behind an operand.
pub fn run_kernel(
    device: &mut dyn TestDevice,
    kernel: &Arc<dyn Kernel>,
    state: &StepState,
    data: &[Data],
) -> Vec<Vec<f64>> {
    let operands = kernel.operands();
    assert_eq!(operands.len(), data.len(), "{kernel:?}");
    let (mut buffers, mut views, mut ids, mut inputs) = (vec![], vec![], vec![], vec![]);
    for (index, (operand, data)) in operands.iter().zip(data).enumerate() {
        let len = operand.len;
        let mut spec = BufferSpec {
            kind: BufferKind::Input(operand.name.to_owned()),
            dtype: operand.dtype,
            len,
            label: operand.name.to_owned(),
        };
        let floats = match data {
            Data::Integers(values) => {
                inputs.push((operand.name, HostTensor::I32(values)));
                None
            }
            Data::Floats(values) => Some(values.clone()),
            Data::Unwritten => Some(vec![f64::NAN; len]),
        };
        if let Some(mut values) = floats {
            assert_eq!(values.len(), len, "{} of {kernel:?}", operand.name);
            values.resize(len + GUARD, UNTOUCHED);
            let part = StorePart { store: 0, part: Part::Parameters, segment: index };
            (spec.kind, spec.len) = (BufferKind::Persistent(part), len + GUARD);
            let id = device.create_buffer(operand.name, DType::F32, len + GUARD).unwrap();
            device.set(id, 0, &values);
            ids.push((index, id));
        }
        buffers.push(spec);
        views.push(View { buffer: index, offset: 0, len });
    }
    let call = Call { kernel: kernel.clone(), views, label: kernel.name().to_owned() };
    let plan = Plan { buffers, calls: vec![call] };
    let place = |part: StorePart| ids.iter().find(|(i, _)| *i == part.segment).map(|(_, id)| *id);
    let program = device.load(&plan, &place).unwrap();
    device.run(program, state, &inputs).unwrap();
    let mut written = Vec::new();
    for &(index, id) in &ids {
        let operand = operands[index];
        if operand.access != Access::Read {
            let mut values = device.get(id, 0, operand.len + GUARD);
            let guard = values.split_off(operand.len);
            assert!(guard.iter().all(|&v| v == UNTOUCHED), "{kernel:?} wrote behind {operand:?}");
            written.push(values);
        }
    }
    device.unload(program);
    ids.into_iter().for_each(|(_, id)| device.free_buffer(id));
    written
}

/// A kernel with launches that its device would not choose by itself.
#[derive(Clone, Debug)]
pub struct Forced {
    /// The kernel.
    pub kernel: Arc<dyn Kernel>,
    /// How it is launched.
    pub launches: Vec<Launch>,
}

impl Kernel for Forced {
    fn name(&self) -> &'static str {
        self.kernel.name()
    }
    fn operands(&self) -> Vec<Operand> {
        self.kernel.operands()
    }
    fn launches(&self, _: &distil_gpu_kernels::Caps) -> Vec<Launch> {
        self.launches.clone()
    }
    fn cost(&self) -> Cost {
        self.kernel.cost()
    }
    fn run_f32(&self, args: Args<'_, f32>, state: &StepState) {
        self.kernel.run_f32(args, state);
    }
    fn run_f64(&self, args: Args<'_, f64>, state: &StepState) {
        self.kernel.run_f64(args, state);
    }
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
