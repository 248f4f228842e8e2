//! Memory of a device in one phase of a run, by purpose.

use distil_gpu_kernels::loss_scale;
use serde::Serialize;

use crate::device::Outlook;
use crate::plan::{BufferKind, Plan};
use crate::scratch::Scratch;
use crate::store::{Layout, Part, Segment};

/// Bytes by purpose, in one phase of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Memory {
    /// What goes on.
    pub phase: String,
    /// Of all models that are there.
    pub parameters: u64,
    /// Of the model in training.
    pub gradients: u64,
    /// The optimizer's.
    pub moments: u64,
    /// Tensors between the kernels of a plan, keys and values of texts that go on, and sums over an epoch.
    pub activations: u64,
    /// What plans read from the host and give back to it.
    pub data: u64,
    /// What the device needs beside: staging buffers, sizes of launches.
    pub staging: u64,
    /// What the host holds of parameters meanwhile, which is no memory of the device.
    #[serde(skip)]
    pub copied: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        let Self { parameters, gradients, moments, activations, data, staging, .. } = self;
        parameters + gradients + moments + activations + data + staging
    }

    /// Adds a store with these parts and so many metrics.
    pub(super) fn store(&mut self, layout: &Layout, parts: &[Part], metrics: usize) {
        let bytes: u64 = layout.segments.iter().map(Segment::bytes).sum();
        for part in parts {
            match part {
                Part::Parameters => self.parameters += bytes,
                Part::Gradients => self.gradients += bytes,
                Part::Moment1 | Part::Moment2 => self.moments += bytes,
                Part::LossScale => self.activations += loss_scale::LEN as u64 * 4,
                Part::Metrics | Part::Scratch => {}
            }
        }
        self.activations += metrics as u64 * 4;
    }

    /// Adds keys and values of texts that go on.
    pub(super) fn cache(&mut self, layout: &Layout) {
        self.activations += layout.segments.iter().map(Segment::bytes).sum::<u64>();
    }

    /// Adds loaded plans that share their scratch memory.
    pub(super) fn plans<'p>(
        &mut self,
        plans: impl Iterator<Item = &'p Plan> + Clone,
        device: &Outlook,
    ) {
        let bytes = |len: usize| len as u64 * 4;
        self.activations += Scratch::lens(plans.clone()).into_iter().map(bytes).sum::<u64>();
        for plan in plans {
            for buffer in &plan.buffers {
                match buffer.kind {
                    BufferKind::Input(_) | BufferKind::Constant(_) | BufferKind::Output(_) => {
                        self.data += buffer.bytes();
                    }
                    BufferKind::Slot | BufferKind::Persistent(_) => {}
                }
            }
            self.staging += device.plan_bytes(plan);
        }
    }
}
