//! What can be known of a device before it is opened: which limits hold, and what a plan would take on it.

use std::borrow::Cow;

use distil_gpu_kernels::Caps;

use super::gpu::{Adapter, program_bytes, readback_bytes, resident_bytes};
use super::{Choices, CpuDevice, Device, Limits};
use crate::plan::Plan;

/// A device that is not opened.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// Its name.
    pub name: String,
    /// What kernels choose their variants by.
    pub caps: Caps,
    /// What it allows.
    pub limits: Limits,
    /// The variants it was tuned to.
    pub choices: Choices,
    /// At whose multiples a uniform may start; `None` for the CPU path, which has no need of any buffer that
    /// is no tensor.
    uniform_alignment: Option<usize>,
}

impl Outlook {
    /// The CPU path.
    pub fn cpu() -> Self {
        let device = CpuDevice::<f32>::new();
        Self {
            name: device.info().name.clone(),
            caps: device.caps(),
            limits: device.limits(),
            choices: Choices::default(),
            uniform_alignment: None,
        }
    }

    /// A GPU, tuned to these variants.
    pub fn of(adapter: &Adapter, choices: Choices) -> Self {
        Self {
            name: adapter.info.name.clone(),
            caps: adapter.caps,
            limits: adapter.limits,
            choices,
            uniform_alignment: Some(adapter.uniform_alignment()),
        }
    }

    /// Whether it is the CPU path, whose buffers lie in the machine's memory.
    pub fn is_processor(&self) -> bool {
        self.uniform_alignment.is_none()
    }

    /// A plan as the device runs it; one that exceeds its limits as it is.
    fn within<'p>(&self, plan: &'p Plan) -> Cow<'p, Plan> {
        plan.within(self.limits).unwrap_or(Cow::Borrowed(plan))
    }

    /// Kernel launches of one run of a plan.
    pub fn launches(&self, plan: &Plan) -> usize {
        let launches = |kernel: &dyn distil_gpu_kernels::Kernel| match self.uniform_alignment {
            Some(_) => self.choices.launches(kernel, &self.caps).len(),
            None => 1,
        };
        self.within(plan).calls.iter().map(|call| launches(&*call.kernel)).sum()
    }

    /// Bytes beside its tensors that a loaded plan takes: staging buffers, the launches' dims and scratch memory.
    pub fn plan_bytes(&self, plan: &Plan) -> u64 {
        let bytes =
            |alignment| program_bytes(&self.within(plan), &self.caps, &self.choices, alignment);
        self.uniform_alignment.map_or(0, bytes)
    }

    /// Bytes beside tensors and plans, the largest read by the host being of so many elements.
    pub fn other_bytes(&self, largest_read: usize) -> u64 {
        self.uniform_alignment.map_or(0, |_| resident_bytes() + readback_bytes(largest_read * 4))
    }
}
