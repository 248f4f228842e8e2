//! A plan on a device, with stores of its own: what verification and measurement run.
//!
//! ```
//! use distil_gpu_engine::device::{CpuDevice, HostTensor};
//! use distil_gpu_engine::graph::Graph;
//! use distil_gpu_engine::kernels::chain::Stage;
//! use distil_gpu_engine::kernels::{DType, StepState};
//! use distil_gpu_engine::plan::{Options, Plan};
//! use distil_gpu_engine::session::Session;
//!
//! let mut graph = Graph::new(Vec::new());
//! let x = graph.input("x", &[3], DType::F32);
//! let squares = graph.map(Stage::Square, x)?;
//! graph.output("squares", squares);
//! let plan = Plan::compile(&graph, Options::default())?;
//!
//! let mut device = CpuDevice::<f32>::new();
//! let mut session = Session::new(&mut device, plan, [])?;
//! session.run(&StepState::default(), &[("x", HostTensor::F32(&[1.0, 2.0, 3.0]))])?;
//! assert_eq!(session.output("squares")?, [1.0, 4.0, 9.0]);
//! # Ok::<(), distil_gpu_engine::Error>(())
//! ```

use distil_gpu_kernels::distill_loss::TERMS;
use distil_gpu_kernels::{DType, StepState, loss_scale};

use crate::device::{Device, HostTensor, ProgramId};
use crate::error::Error;
use crate::plan::{BufferKind, BufferSpec, Plan};
use crate::store::{Layout, Part, Store, StorePart, quantised};

/// A loaded plan and its stores, freed when this is dropped.
pub struct Session<'a> {
    /// The device.
    pub device: &'a mut dyn Device,
    /// The plan.
    pub plan: Plan,
    /// The stores, in the plan's order, with the parts that the plan touches.
    pub stores: Vec<Store>,
    /// The plan on the device.
    pub program: ProgramId,
}

impl std::fmt::Debug for Session<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("stores", &self.stores).finish_non_exhaustive()
    }
}

impl<'a> Session<'a> {
    /// Loads a plan over stores of these layouts; all parameters are 0.
    ///
    /// # Errors
    /// When the device refuses the plan or has no room.
    pub fn new(
        device: &'a mut dyn Device,
        plan: Plan,
        layouts: impl IntoIterator<Item = Layout>,
    ) -> Result<Self, Error> {
        let mut session = Self { device, plan, stores: Vec::new(), program: ProgramId(u32::MAX) };
        for (index, layout) in layouts.into_iter().enumerate() {
            let touches = |part: Part| {
                session.plan.buffers.iter().any(|buffer| match buffer.kind {
                    BufferKind::Persistent(at) => (at.store, at.part) == (index, part),
                    _ => false,
                })
            };
            let others = [Part::Gradients, Part::Moment1, Part::Moment2, Part::LossScale];
            let parts = others.into_iter().filter(|&part| touches(part));
            let parts: Vec<Part> = [Part::Parameters].into_iter().chain(parts).collect();
            let metrics = session.metrics_len(index);
            let store = Store::new(session.device, "store", layout, &parts, metrics)?;
            session.stores.push(store);
        }
        let stores = &session.stores;
        let place = |at: StorePart| stores.get(at.store)?.buffer(at.part, at.segment);
        session.program = session.device.load(&session.plan, &place)?;
        Ok(session)
    }

    /// Elements of a store's metrics: those that the plan touches, and the loss's terms.
    fn metrics_len(&self, store: usize) -> usize {
        let of_metrics = |buffer: &&BufferSpec| match buffer.kind {
            BufferKind::Persistent(at) => (at.store, at.part) == (store, Part::Metrics),
            _ => false,
        };
        self.plan.buffers.iter().find(of_metrics).map_or(TERMS, |buffer| buffer.len.max(TERMS))
    }

    /// Gives a parameter its values.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// When there are more or fewer values than elements.
    pub fn set(&mut self, store: usize, index: usize, values: &[f64]) -> Result<(), Error> {
        let store = &self.stores[store];
        let place = store.layout.places[index];
        let id = store.buffer(Part::Parameters, place.segment).expect("a store has parameters");
        assert_eq!(values.len(), store.layout.parameters[index].len());
        match store.layout.segments[place.segment].dtype {
            DType::Blocks(blocks) => {
                let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
                self.device.write_blocks(id, place.offset, &quantised(blocks, &values)?)
            }
            _ => self.device.write_exact(id, place.offset, values),
        }
    }

    /// Gives all parameters of a store their values.
    ///
    /// # Errors
    /// When the device is lost.
    ///
    /// # Panics
    /// When a parameter is left out, or has another number of elements.
    pub fn set_all(&mut self, store: usize, values: &[Vec<f64>]) -> Result<(), Error> {
        assert_eq!(values.len(), self.stores[store].layout.parameters.len());
        values.iter().enumerate().try_for_each(|(index, values)| self.set(store, index, values))
    }

    /// Gives all parameters the values that a new model starts from; each store has its own seed.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn initialise(&mut self, seed: u32) -> Result<(), Error> {
        for (store, seed) in (0..self.stores.len()).zip(seed..) {
            let specs = self.stores[store].layout.parameters.clone();
            for (index, spec) in specs.iter().enumerate() {
                let values: Vec<f64> =
                    spec.initial(seed, index).into_iter().map(f64::from).collect();
                self.set(store, index, &values)?;
            }
        }
        Ok(())
    }

    /// Begins with this scale of the loss, where it is scaled.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn scale_loss(&mut self, scale: f32) -> Result<(), Error> {
        let buffers = self.stores.iter().filter_map(|store| store.buffer(Part::LossScale, 0));
        let buffers: Vec<_> = buffers.collect();
        buffers.into_iter().try_for_each(|id| self.device.write(id, loss_scale::SCALE, &[scale]))
    }

    /// A part of a parameter: its values, gradient or moments.
    ///
    /// # Errors
    /// When the plan does not touch that part, or the device is lost.
    pub fn part(&mut self, store: usize, part: Part, index: usize) -> Result<Vec<f64>, Error> {
        let store = &self.stores[store];
        let (place, spec) = (store.layout.places[index], &store.layout.parameters[index]);
        let id = store.buffer(part, place.segment).ok_or_else(|| Error::Input {
            name: spec.name.clone(),
            problem: format!("the plan has no {part:?}"),
        })?;
        let len = spec.len();
        self.device.read_exact(id, place.offset, len)
    }

    /// A part of all parameters of a store, one after another.
    ///
    /// # Errors
    /// As [`Self::part`].
    pub fn all(&mut self, store: usize, part: Part) -> Result<Vec<f64>, Error> {
        let count = self.stores[store].layout.parameters.len();
        let parts: Result<Vec<_>, _> = (0..count).map(|i| self.part(store, part, i)).collect();
        Ok(parts?.concat())
    }

    /// The sums that a store's metrics have reached.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn metrics(&mut self, store: usize) -> Result<Vec<f64>, Error> {
        let id = self.stores[store].buffer(Part::Metrics, 0).expect("a store has metrics");
        self.device.read_exact(id, 0, self.metrics_len(store))
    }

    /// Runs the plan once.
    ///
    /// # Errors
    /// As [`Device::run`].
    pub fn run(
        &mut self,
        state: &StepState,
        inputs: &[(&str, HostTensor<'_>)],
    ) -> Result<(), Error> {
        self.device.run(self.program, state, inputs)
    }

    /// An output of the last run.
    ///
    /// # Errors
    /// As [`Device::output`].
    pub fn output(&mut self, name: &str) -> Result<Vec<f64>, Error> {
        self.device.output_exact(self.program, name)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // Without a number the plan was refused, and there is nothing to unload.
        if self.program != ProgramId(u32::MAX) {
            self.device.unload(self.program);
        }
        std::mem::take(&mut self.stores).into_iter().for_each(|store| store.free(self.device));
    }
}
