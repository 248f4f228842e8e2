//! What is found out of a decoder before students are cut out of it: forward passes, and the memory that they take.

use distil_gpu_kernels::Cost;
use distil_gpu_kernels::distill_loss::TERMS;
use serde::Serialize;

use super::{Measured, Memory};
use crate::device::Outlook;
use crate::error::Error;
use crate::measure::influence;
use crate::measure::ranking;
use crate::models::{BatchEncoder, ModelConfig};
use crate::plan::{BufferKind, Plan};
use crate::recipe::Recipe;
use crate::run::Setup;
use crate::run::cut::Sought;
use crate::store::{Layout, Part};

/// Forward passes of a model before students are cut out of it.
#[derive(Clone, Debug, Serialize)]
pub struct CutForecast {
    /// What they find out.
    pub phase: &'static str,
    /// Number of parameters of the model.
    pub parameters: usize,
    /// How many there are.
    pub passes: usize,
    /// Kernel calls of all.
    pub calls: usize,
    /// Operations of all.
    pub flops: u64,
    /// Bytes that their kernels read and write at least.
    pub bytes_moved: u64,
}

/// Forward passes of a model, their plans made once for all devices.
pub(super) struct Search {
    phase: &'static str,
    parameters: usize,
    layout: Layout,
    /// Each runs as often, and is loaded alone.
    plans: Vec<Plan>,
    runs: usize,
}

impl Search {
    /// Those of a recipe, in the order of a run.
    ///
    /// # Errors
    /// When a plan cannot be made.
    pub fn all(recipe: &Recipe, setup: &Setup) -> Result<Vec<Self>, Error> {
        let Some(Sought { base, keep, narrower }) = Sought::of(recipe, setup)? else {
            return Ok(Vec::new());
        };
        let feed = BatchEncoder::new(&base.input, setup.transfer.examples())?;
        let mut all = Vec::new();
        if let Some(keep) = keep {
            let layers = base.decoder().map_or(0, |decoder| decoder.num_hidden_layers);
            let plans = vec![influence::plan_for(&base, &feed)?];
            let runs = influence::passes(layers, keep);
            all.push(Self::new("choosing layers by influence", &base, plans, runs)?);
        }
        if narrower {
            let plans = ranking::plans_for(&base, &feed)?;
            all.push(Self::new("ranking units and heads", &base, plans, 1)?);
        }
        Ok(all)
    }

    fn new(
        phase: &'static str,
        base: &ModelConfig,
        plans: Vec<Plan>,
        runs: usize,
    ) -> Result<Self, Error> {
        let layout = Layout::new(base.model().parameters())?;
        Ok(Self { phase, parameters: base.parameter_count(), layout, plans, runs })
    }

    pub fn plans(&self) -> &[Plan] {
        &self.plans
    }

    /// What it is.
    pub fn forecast(&self) -> CutForecast {
        let cost = self.plans.iter().fold(Cost::default(), |sum, plan| sum + plan.cost());
        let runs = self.runs as u64;
        CutForecast {
            phase: self.phase,
            parameters: self.parameters,
            passes: self.runs * self.plans.len(),
            calls: self.runs * self.plans.iter().map(|plan| plan.calls.len()).sum::<usize>(),
            flops: runs * cost.flops,
            bytes_moved: runs * (cost.bytes_read + cost.bytes_written),
        }
    }

    /// Kernel launches of all passes on a device.
    pub fn launches(&self, device: &Outlook) -> usize {
        self.runs * self.plans.iter().map(|plan| device.launches(plan)).sum::<usize>()
    }

    /// Elements of the largest tensor that the host reads.
    pub fn largest_read(&self) -> usize {
        let buffers = self.plans.iter().flat_map(|plan| &plan.buffers);
        let read = buffers.filter(|buffer| matches!(buffer.kind, BufferKind::Output(_)));
        read.map(|buffer| buffer.len).max().unwrap_or(0)
    }

    /// Its memory beside a teacher's, of the plan that takes most.
    pub fn memory(
        &self,
        device: &Outlook,
        teacher: Option<&Measured>,
        largest_read: usize,
    ) -> Memory {
        let memories = self.plans.iter().map(|plan| {
            let mut memory = Memory { phase: self.phase.to_owned(), ..Memory::default() };
            for layout in teacher.map(|teacher| &teacher.layout).into_iter().chain([&self.layout]) {
                memory.store(layout, &[Part::Parameters], TERMS);
            }
            memory.plans([plan].into_iter(), device);
            memory.staging += device.other_bytes(largest_read);
            memory.copied = 4 * self.parameters as u64;
            memory
        });
        memories.max_by_key(Memory::total).expect("there is a plan")
    }
}
