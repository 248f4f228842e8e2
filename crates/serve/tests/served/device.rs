//! A device that waits, fails or panics when a test says so.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use distil_gpu_engine::Error;
use distil_gpu_engine::device::{
    BufferId, CpuDevice, Device, DeviceInfo, HostTensor, Limits, ProgramId, Stats,
};
use distil_gpu_engine::kernels::{Caps, DType, StepState};
use distil_gpu_engine::plan::Plan;
use distil_gpu_engine::store::StorePart;

/// What a test tells devices.
#[derive(Debug, Default)]
pub struct Control {
    /// Runs that fail from now on.
    pub failures: AtomicUsize,
    /// Runs that panic from now on.
    pub panics: AtomicUsize,
    /// Openings that fail from now on.
    pub refusals: AtomicUsize,
    /// While it is not 0, each second run fails, the next one first.
    pub fail_every_second: AtomicUsize,
    /// Runs so far.
    pub runs: AtomicUsize,
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Control {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Runs wait until [`Self::open_gate`].
    pub fn close_gate(&self) {
        *self.closed.lock().unwrap() = true;
    }

    pub fn open_gate(&self) {
        *self.closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    /// Opens such a device.
    pub fn opener(
        self: &Arc<Self>,
    ) -> impl FnMut() -> Result<Box<dyn Device>, Error> + Send + 'static {
        let control = self.clone();
        move || match counts_down(&control.refusals) {
            true => Err(lost("it is not there")),
            false => Ok(Box::new(Told { inner: CpuDevice::new(), control: control.clone() })),
        }
    }

    fn before_run(&self) -> Result<(), Error> {
        let closed = self.closed.lock().unwrap();
        drop(self.opened.wait_while(closed, |closed| *closed).unwrap());
        self.runs.fetch_add(1, Ordering::SeqCst);
        if counts_down(&self.panics) {
            panic!("the test says so");
        }
        let every_second = |count: usize| (count > 0).then(|| 3 - count);
        let second =
            self.fail_every_second.fetch_update(Ordering::SeqCst, Ordering::SeqCst, every_second);
        if second == Ok(1) || counts_down(&self.failures) {
            Err(lost("the test says so"))
        } else {
            Ok(())
        }
    }
}

/// Counts down to 0; whether it was above.
fn counts_down(count: &AtomicUsize) -> bool {
    let less = |count: usize| count.checked_sub(1);
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
}

fn lost(reason: &str) -> Error {
    Error::DeviceLost { device: "the test's device".to_owned(), reason: reason.to_owned() }
}

struct Told {
    inner: CpuDevice<f32>,
    control: Arc<Control>,
}

impl Device for Told {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }
    fn caps(&self) -> Caps {
        self.inner.caps()
    }
    fn limits(&self) -> Limits {
        self.inner.limits()
    }
    fn stats(&self) -> Stats {
        self.inner.stats()
    }
    fn create_rows(
        &mut self,
        label: &str,
        dtype: DType,
        len: usize,
        row: Option<usize>,
    ) -> Result<BufferId, Error> {
        self.inner.create_rows(label, dtype, len, row)
    }
    fn free_buffer(&mut self, id: BufferId) {
        self.inner.free_buffer(id);
    }
    fn write(&mut self, id: BufferId, offset: usize, values: &[f32]) -> Result<(), Error> {
        self.inner.write(id, offset, values)
    }
    fn write_blocks(&mut self, id: BufferId, offset: usize, words: &[u32]) -> Result<(), Error> {
        self.inner.write_blocks(id, offset, words)
    }
    fn read(&mut self, id: BufferId, offset: usize, len: usize) -> Result<Vec<f32>, Error> {
        self.inner.read(id, offset, len)
    }
    fn load(
        &mut self,
        plan: &Plan,
        persistent: &dyn Fn(StorePart) -> Option<BufferId>,
    ) -> Result<ProgramId, Error> {
        self.inner.load(plan, persistent)
    }
    fn unload(&mut self, program: ProgramId) {
        self.inner.unload(program);
    }
    fn run(
        &mut self,
        program: ProgramId,
        state: &StepState,
        inputs: &[(&str, HostTensor<'_>)],
    ) -> Result<(), Error> {
        self.control.before_run()?;
        self.inner.run(program, state, inputs)
    }
    fn output(&mut self, program: ProgramId, name: &str) -> Result<Vec<f32>, Error> {
        self.inner.output(program, name)
    }
    fn wait(&mut self) -> Result<(), Error> {
        self.inner.wait()
    }
    fn timings(&mut self, program: ProgramId) -> Result<Option<Vec<(String, Duration)>>, Error> {
        self.inner.timings(program)
    }
}
