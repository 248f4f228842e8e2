//! The wgpu device with what every part of [`super::GpuDevice`] needs beside it: counts, and a record of
//! what went wrong, so that a driver's failure becomes an error and never a panic.

use std::sync::{Arc, Mutex, PoisonError};

use distil_gpu_data::guard;

use super::Adapter;
use crate::device::{Limits, Stats};
use crate::error::Error;

/// Storage buffers a kernel may bind: what every WebGPU device offers.
const STORAGE_BUFFERS: u32 = 8;

/// The first failure that the driver reported outside any error scope.
#[derive(Clone, Debug, Default)]
struct Failure(Arc<Mutex<Option<String>>>);

impl Failure {
    fn record(&self, reason: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }

    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Debug)]
pub(super) struct Context {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub stats: Stats,
    name: String,
    failure: Failure,
}

impl Context {
    /// Opens the adapter with all its limits, so that large GPUs can be used whole, but for these sizes, which are at
    /// most its own.
    pub fn new(adapter: &Adapter, features: wgpu::Features, sizes: Limits) -> Result<Self, Error> {
        let name = adapter.info.name.clone();
        let mut limits = adapter.handle.limits();
        limits.max_buffer_size = sizes.buffer_bytes;
        limits.max_storage_buffer_binding_size = sizes.binding_bytes;
        let storage_buffers = limits.max_storage_buffers_per_shader_stage;
        if storage_buffers < STORAGE_BUFFERS {
            return Err(Error::NoDevice(format!(
                "{name} binds {storage_buffers} buffers to a kernel; {STORAGE_BUFFERS} are needed"
            )));
        }
        let (device, queue) =
            pollster::block_on(adapter.handle.request_device(&wgpu::DeviceDescriptor {
                label: Some("distil-gpu"),
                required_features: features,
                required_limits: limits,
                // SAFETY: of what wgpu calls experimental, cooperative matrices alone are asked for, and only by variants
                // of a kernel that run where they have been held to the oracle on this very device.
                experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
                ..Default::default()
            }))
            .map_err(|error| Error::NoDevice(format!("{name} cannot be opened: {error}")))?;

        let failure = Failure::default();
        let lost = failure.clone();
        device.set_device_lost_callback(move |reason, message| {
            lost.record(format!("device lost ({reason:?}) {message}").trim_end().to_owned());
        });
        let uncaptured = failure.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            uncaptured.record(error.to_string());
        }));
        Ok(Self { device, queue, stats: Stats::default(), name, failure })
    }

    /// An error if the driver has reported a failure, now or ever: results since then are worth nothing.
    pub fn check(&self) -> Result<(), Error> {
        self.failure.get().map_or(Ok(()), |reason| Err(self.lost(reason)))
    }

    /// The error for a device that failed; the reason recorded first wins, being closest to the cause.
    pub fn lost(&self, reason: impl ToString) -> Error {
        let reason = self.failure.get().unwrap_or_else(|| reason.to_string());
        Error::DeviceLost { device: self.name.clone(), reason }
    }

    /// The error for a kernel that cannot run here.
    pub fn refused(&self, kernel: &'static str, reason: impl ToString) -> Error {
        Error::Kernel { kernel, device: self.name.clone(), reason: reason.to_string() }
    }

    /// Calls the driver and returns the error it raises on this thread meanwhile, if any.
    pub fn guarded<T>(&self, call: impl FnOnce() -> T) -> Result<T, wgpu::Error> {
        use wgpu::ErrorFilter::{Internal, OutOfMemory, Validation};
        let scopes =
            [OutOfMemory, Validation, Internal].map(|filter| self.device.push_error_scope(filter));
        let made = call();
        // Scopes close in reverse order, and every one must.
        let errors = scopes.into_iter().rev().filter_map(|scope| pollster::block_on(scope.pop()));
        errors.last().map_or(Ok(made), Err)
    }

    /// The engine's error for what [`Self::guarded`] caught while it made room for a tensor.
    pub fn no_room(&self, error: wgpu::Error, tensor: &str, bytes: u64) -> Error {
        match error {
            wgpu::Error::OutOfMemory { .. } => {
                Error::OutOfMemory { device: self.name.clone(), tensor: tensor.to_owned(), bytes }
            }
            other => self.lost(format!("{tensor}: {other}")),
        }
    }

    /// A zeroed buffer; one that the host writes starts out mapped.
    pub fn buffer(
        &mut self,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, Error> {
        let descriptor = wgpu::BufferDescriptor {
            label: Some(label),
            size: bytes,
            usage,
            mapped_at_creation: usage.contains(wgpu::BufferUsages::MAP_WRITE),
        };
        let made = self.guarded(|| self.device.create_buffer(&descriptor));
        let buffer = made.map_err(|error| self.no_room(error, label, bytes))?;
        self.check()?;
        self.stats.allocated(bytes);
        Ok(buffer)
    }

    pub fn encoder(&self) -> wgpu::CommandEncoder {
        self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    pub fn submit(&mut self, encoder: wgpu::CommandEncoder) -> wgpu::SubmissionIndex {
        self.stats.submits += 1;
        self.queue.submit([encoder.finish()])
    }

    /// Waits for a submission, or for all work.
    pub fn wait(&self, submission: Option<wgpu::SubmissionIndex>) -> Result<(), Error> {
        self.check()?;
        let poll = wgpu::PollType::Wait { submission_index: submission, timeout: None };
        // wgpu panics where a wait finds the device lost. Nothing of ours is half-changed then.
        match guard::catch_here(|| self.device.poll(poll)) {
            Ok(Ok(_)) => self.check(),
            Ok(Err(error)) => Err(self.lost(error)),
            Err(_) => {
                self.failure.record("the device was lost while it worked".to_owned());
                self.check()
            }
        }
    }
}
