//! Devices: what runs a plan.
//!
//! ```
//! use distil_gpu_engine::device::{Choice, GpuOptions, select};
//!
//! let selected = select(Choice::Cpu, GpuOptions::default())?;
//! println!("{}: {}", selected.device.info().name, selected.reason);
//! # Ok::<(), distil_gpu_engine::Error>(())
//! ```

mod choices;
mod cpu;
mod gpu;
mod outlook;
mod select;

use std::time::Duration;

use distil_gpu_kernels::{Caps, DType, StepState};

pub use choices::Choices;
pub use cpu::{CpuDevice, CpuReal};
pub use gpu::{Adapter, GpuDevice, GpuOptions, adapters};
pub use outlook::Outlook;
pub use select::{Choice, Selected, select};

use crate::error::Error;
use crate::layout::StorePart;
pub use crate::plan::Limits;
use crate::plan::Plan;

/// A buffer that outlives plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BufferId(pub u32);

/// A loaded plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProgramId(pub u32);

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Name as its driver gives it, or `CPU`.
    pub name: String,
    /// `Vulkan`, `Metal`, `Dx12` or `cpu`.
    pub backend: String,
    /// Driver and version; empty for the CPU device.
    pub driver: String,
    /// Discrete GPU, integrated GPU, software driver, CPU.
    pub kind: DeviceKind,
}

/// Kind of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKind {
    /// A card of its own.
    DiscreteGpu,
    /// Shares memory with the processor.
    IntegratedGpu,
    /// A GPU seen through a virtual machine, or of unknown kind.
    OtherGpu,
    /// A Vulkan driver that runs shaders on the processor.
    SoftwareGpu,
    /// No driver at all: the CPU path of this program.
    Cpu,
}

/// Values for one input of a plan.
#[derive(Clone, Copy, Debug)]
pub enum HostTensor<'a> {
    /// Floats.
    F32(&'a [f32]),
    /// Integers.
    I32(&'a [i32]),
}

/// Counts that a test or a profile looks at: all but `bytes` grow with use and never shrink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Buffers created.
    pub buffers: u64,
    /// Bind groups created.
    pub bind_groups: u64,
    /// Pipelines created.
    pub pipelines: u64,
    /// Kernel launches recorded.
    pub launches: u64,
    /// Submissions.
    pub submits: u64,
    /// Bytes of the buffers that are there now.
    pub bytes: u64,
    /// The most that there ever were.
    pub peak_bytes: u64,
}

impl Stats {
    /// A buffer was made.
    fn allocated(&mut self, bytes: u64) {
        self.buffers += 1;
        self.bytes += bytes;
        self.peak_bytes = self.peak_bytes.max(self.bytes);
    }

    /// Buffers were freed.
    fn freed(&mut self, bytes: u64) {
        self.bytes -= bytes;
    }
}

/// Runs plans. A GPU records one command buffer a step; the CPU device walks the same list.
pub trait Device {
    /// What it is.
    fn info(&self) -> &DeviceInfo;
    /// What kernels choose their variants by.
    fn caps(&self) -> Caps;
    /// What it allows.
    fn limits(&self) -> Limits;
    /// Counts so far.
    fn stats(&self) -> Stats;
    /// The variants that plans run, where the device has any.
    fn choices(&self) -> Choices {
        Choices::default()
    }
    /// Has plans that are loaded from now on run these variants.
    fn choose(&mut self, choices: Choices) {
        let _ = choices;
    }

    /// A zeroed buffer of `len` elements.
    ///
    /// # Errors
    /// As [`Self::create_rows`].
    fn create_buffer(&mut self, label: &str, dtype: DType, len: usize) -> Result<BufferId, Error> {
        self.create_rows(label, dtype, len, None)
    }
    /// A zeroed buffer of `len` elements, which may be cut between rows of `row` elements where it is too large for one.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when a limit forbids it, [`Error::OutOfMemory`] when there is no room.
    fn create_rows(
        &mut self,
        label: &str,
        dtype: DType,
        len: usize,
        row: Option<usize>,
    ) -> Result<BufferId, Error>;
    /// Frees a buffer.
    fn free_buffer(&mut self, id: BufferId);
    /// Writes floats from element `offset` on. A buffer of f16 rounds them; there `offset` is even, and the element
    /// behind an odd number of values becomes 0.
    ///
    /// # Errors
    /// When the device is lost.
    fn write(&mut self, id: BufferId, offset: usize, values: &[f32]) -> Result<(), Error>;
    /// Writes the words of quantised blocks to a buffer of these, from element `offset` on, where a block begins.
    ///
    /// # Errors
    /// When the device is lost.
    fn write_blocks(&mut self, id: BufferId, offset: usize, words: &[u32]) -> Result<(), Error>;
    /// Reads floats from element `offset` on, once all work so far is done.
    ///
    /// # Errors
    /// When the device is lost.
    fn read(&mut self, id: BufferId, offset: usize, len: usize) -> Result<Vec<f32>, Error>;

    /// Makes a plan ready to run; `persistent` finds the stores' buffers.
    ///
    /// # Errors
    /// [`Error::TooLarge`] naming tensor and limit, before anything is allocated.
    fn load(
        &mut self,
        plan: &Plan,
        persistent: &dyn Fn(StorePart) -> Option<BufferId>,
    ) -> Result<ProgramId, Error>;
    /// Drops a loaded plan.
    fn unload(&mut self, program: ProgramId);
    /// Runs a plan once. Inputs not given keep their last values. A GPU may return before the work is done.
    ///
    /// # Errors
    /// [`Error::Input`] for an unknown name or a wrong length; when the device is lost.
    fn run(
        &mut self,
        program: ProgramId,
        state: &StepState,
        inputs: &[(&str, HostTensor<'_>)],
    ) -> Result<(), Error>;
    /// Reads an output of the last run.
    ///
    /// # Errors
    /// [`Error::Input`] for an unknown name; when the device is lost.
    fn output(&mut self, program: ProgramId, name: &str) -> Result<Vec<f32>, Error>;
    /// Reads floats as they are: unrounded from the f64 oracle.
    ///
    /// # Errors
    /// When the device is lost.
    fn read_exact(&mut self, id: BufferId, offset: usize, len: usize) -> Result<Vec<f64>, Error> {
        Ok(self.read(id, offset, len)?.into_iter().map(f64::from).collect())
    }
    /// Writes floats as they are: rounded to f32, but not for the f64 oracle.
    ///
    /// # Errors
    /// When the device is lost.
    fn write_exact(&mut self, id: BufferId, offset: usize, values: &[f64]) -> Result<(), Error> {
        let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
        self.write(id, offset, &values)
    }
    /// Reads an output of the last run as it is.
    ///
    /// # Errors
    /// [`Error::Input`] for an unknown name; when the device is lost.
    fn output_exact(&mut self, program: ProgramId, name: &str) -> Result<Vec<f64>, Error> {
        Ok(self.output(program, name)?.into_iter().map(f64::from).collect())
    }
    /// Waits for all work.
    ///
    /// # Errors
    /// When the device is lost.
    fn wait(&mut self) -> Result<(), Error>;
    /// Time on the device of each call of the last run, by label; `None` where it has no timestamps or
    /// they were not asked for.
    fn timings(&mut self, program: ProgramId) -> Result<Option<Vec<(String, Duration)>>, Error>;
}
