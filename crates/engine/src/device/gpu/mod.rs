//! The GPU device: plans as wgpu command buffers.
//!
//! [`Device::load`] does all the work that can be done once: pipelines, buffers, bind groups. A run then
//! records one command buffer and submits it, with the inputs copied through staging buffers that take
//! turns, so that the host prepares a step while the GPU works on the one before.

mod adapter;
mod context;
mod pipelines;
mod program;
#[cfg(test)]
mod tests;
mod timer;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use distil_gpu_kernels::{Caps, DType, StepState};
use half::f16;
use half::slice::HalfFloatSliceExt;

pub use adapter::{Adapter, adapters};
pub use program::program_bytes;

use self::context::Context;
use self::pipelines::Pipelines;
use self::program::{Program, Shared};
use self::timer::{Timing, elapsed};
use crate::device::{BufferId, Choices, Device, DeviceInfo, HostTensor, Limits, ProgramId, Stats};
use crate::error::Error;
use crate::plan::{BufferKind, Plan};
use crate::store::StorePart;

/// Runs submitted and not waited for: one that the GPU works on and one that the host prepares.
const IN_FLIGHT: usize = 2;
/// Most bytes of one copy between host and GPU: bounds the memory that staging takes.
const COPY_BYTES: usize = 16 << 20;
/// Bytes of what is bound where a launch binds nothing.
const PLACEHOLDER_BYTES: u64 = 16;

/// How a GPU is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// Time every kernel, if the GPU can: for profiles, since it costs some time itself.
    pub timestamps: bool,
    /// Keep the checks of index, loop and divisor in the shaders: slower, for tests and for hunting faults.
    pub checked: bool,
    /// Limits below the GPU's own, to see what other GPUs would do.
    pub limits: Option<Limits>,
}

/// A tensor on the GPU.
#[derive(Clone, Debug)]
struct Tensor {
    /// Its memory: one buffer, or several where it exceeds the limit of one.
    pieces: Vec<wgpu::Buffer>,
    /// Elements of each piece but the last.
    piece_len: usize,
    label: String,
    dtype: DType,
    len: usize,
}

impl Tensor {
    fn new(
        context: &mut Context,
        label: &str,
        dtype: DType,
        (len, piece_len): (usize, usize),
    ) -> Result<Self, Error> {
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        let mut pieces = Vec::new();
        for first in (0..len.max(1)).step_by(piece_len.max(1)) {
            let bytes = buffer_bytes(dtype, piece_len.min(len - first));
            pieces.push(context.buffer(label, bytes, usage)?);
        }
        Ok(Self { pieces, piece_len: piece_len.max(1), label: label.to_owned(), dtype, len })
    }

    /// The piece that an element lies in, and its byte there.
    fn at(&self, element: usize) -> (&wgpu::Buffer, u64) {
        let byte = self.dtype.bytes_of(element % self.piece_len);
        (&self.pieces[element / self.piece_len], byte as u64)
    }

    /// A range of elements in parts of at most `most` that each lie in one piece: first element and length.
    fn spans(&self, offset: usize, len: usize, most: usize) -> Vec<(usize, usize)> {
        let (mut spans, mut first) = (Vec::new(), offset);
        while first < offset + len {
            let rest = (offset + len - first).min(self.piece_len - first % self.piece_len);
            spans.push((first, rest.min(most)));
            first += rest.min(most);
        }
        spans
    }

    /// Refuses a range that is not there, or begins within a word, and integers where floats are meant.
    fn check(&self, offset: usize, len: usize) -> Result<(), Error> {
        let whole = self.dtype.bytes_of(offset).is_multiple_of(4);
        if self.dtype != DType::I32 && whole && offset + len <= self.len {
            return Ok(());
        }
        let problem = format!(
            "elements {offset} to {} as floats, it has {} of {:?}",
            offset + len,
            self.len,
            self.dtype
        );
        Err(Error::Input { name: self.label.clone(), problem })
    }
}

/// Bytes of a device's buffers that no plan and no tensor owns, but for the one of reads.
pub fn resident_bytes() -> u64 {
    size_of::<StepState>() as u64 + PLACEHOLDER_BYTES
}

/// Bytes of the buffer through which the host reads so many.
pub fn readback_bytes(bytes: usize) -> u64 {
    bytes.min(COPY_BYTES).next_power_of_two() as u64
}

/// Bytes of a buffer of `len` elements: whole words; WebGPU has no empty bindings.
fn buffer_bytes(dtype: DType, len: usize) -> u64 {
    (dtype.bytes_of(len.max(1)) as u64).next_multiple_of(4)
}

/// Runs plans on a GPU.
#[derive(Debug)]
pub struct GpuDevice {
    info: DeviceInfo,
    caps: Caps,
    limits: Limits,
    timing: Timing,
    context: Context,
    pipelines: Pipelines,
    choices: Choices,
    /// By [`BufferId`]; ids are not used twice, so that a stale one is noticed.
    tensors: Vec<Option<Tensor>>,
    /// By [`ProgramId`].
    programs: Vec<Option<Program>>,
    state: wgpu::Buffer,
    placeholder: wgpu::Buffer,
    /// Reused by every read it is large enough for.
    readback: Option<wgpu::Buffer>,
    /// Bytes of it.
    readback_held: u64,
    in_flight: VecDeque<wgpu::SubmissionIndex>,
    /// Bytes that wait for the next submission in staging buffers of wgpu.
    unflushed: usize,
}

impl GpuDevice {
    /// Opens a GPU.
    ///
    /// # Errors
    /// [`Error::NoDevice`] when the driver refuses or offers less than WebGPU asks for.
    pub fn new(adapter: &Adapter, options: GpuOptions) -> Result<Self, Error> {
        let Limits { buffer_bytes, binding_bytes } = options.limits.unwrap_or(adapter.limits);
        let limits = Limits {
            buffer_bytes: buffer_bytes.min(adapter.limits.buffer_bytes),
            binding_bytes: binding_bytes.min(adapter.limits.binding_bytes),
        };
        let (timing, mut features) = match options.timestamps {
            true => Timing::of(adapter.handle.features()),
            false => (Timing::Off, wgpu::Features::empty()),
        };
        features.set(wgpu::Features::SUBGROUP, adapter.subgroups.is_some());
        features.set(wgpu::Features::SHADER_F16, adapter.caps.f16);
        let mut caps = adapter.caps;
        let experimental = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        let cooperative = caps.cooperative_f32.or(caps.cooperative_f16);
        let with_it = cooperative.map(|_| Context::new(adapter, features | experimental, limits));
        let mut context = match with_it {
            Some(Ok(context)) => context,
            // None listed, or a driver that refuses what it lists.
            None | Some(Err(_)) => {
                (caps.cooperative_f32, caps.cooperative_f16) = (None, None);
                Context::new(adapter, features, limits)?
            }
        };
        let state_bytes = size_of::<StepState>() as u64;
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let state = context.buffer("step state", state_bytes, usage)?;
        let placeholder =
            context.buffer("placeholder", PLACEHOLDER_BYTES, wgpu::BufferUsages::STORAGE)?;
        Ok(Self {
            info: adapter.info.clone(),
            caps,
            limits,
            timing,
            context,
            pipelines: Pipelines::new(options.checked),
            choices: Choices::default(),
            tensors: Vec::new(),
            programs: Vec::new(),
            state,
            placeholder,
            readback: None,
            readback_held: 0,
            in_flight: VecDeque::new(),
            unflushed: 0,
        })
    }

    fn tensor(&self, id: BufferId) -> Result<&Tensor, Error> {
        let freed = || Error::Input { name: format!("{id:?}"), problem: "it was freed".to_owned() };
        self.tensors.get(id.0 as usize).and_then(Option::as_ref).ok_or_else(freed)
    }

    fn program(&self, id: ProgramId) -> Result<&Program, Error> {
        self.programs.get(id.0 as usize).and_then(Option::as_ref).ok_or_else(|| unloaded(id))
    }

    /// Copies bytes to the host, after all work so far.
    fn read_bytes(&mut self, source: &wgpu::Buffer, at: u64, out: &mut [u8]) -> Result<(), Error> {
        self.context.check()?;
        let wanted = readback_bytes(out.len());
        let readback = match self.readback.take().filter(|known| known.size() >= wanted) {
            Some(known) => known,
            None => {
                self.context.stats.freed(std::mem::take(&mut self.readback_held));
                let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
                let made = self.context.buffer("values read by the host", wanted, usage)?;
                self.readback_held = wanted;
                made
            }
        };
        for (piece, at) in out.chunks_mut(COPY_BYTES).zip((at..).step_by(COPY_BYTES)) {
            let bytes = piece.len() as u64;
            let mut encoder = self.context.encoder();
            encoder.copy_buffer_to_buffer(source, at, &readback, 0, bytes);
            let submission = self.context.submit(encoder);
            readback.map_async(wgpu::MapMode::Read, ..bytes, |_| {});
            self.context.wait(Some(submission))?;
            let mapped =
                readback.get_mapped_range(..bytes).map_err(|error| self.context.lost(error))?;
            piece.copy_from_slice(&mapped);
            drop(mapped);
            readback.unmap();
        }
        self.readback = Some(readback);
        self.in_flight.clear();
        self.unflushed = 0;
        Ok(())
    }

    fn read_tensor(&mut self, tensor: &Tensor, at: usize, len: usize) -> Result<Vec<f32>, Error> {
        tensor.check(at, len)?;
        let mut values = vec![0.0; len];
        for (first, count) in tensor.spans(at, len, len) {
            let (piece, byte) = tensor.at(first);
            let values = &mut values[first - at..][..count];
            match tensor.dtype {
                DType::F16 => {
                    let mut halves = vec![f16::ZERO; count.next_multiple_of(2)];
                    self.read_bytes(piece, byte, bytemuck::cast_slice_mut(&mut halves))?;
                    halves[..count].convert_to_f32_slice(values);
                }
                DType::I8 => {
                    let mut bytes = vec![0_i8; count.next_multiple_of(4)];
                    self.read_bytes(piece, byte, bytemuck::cast_slice_mut(&mut bytes))?;
                    values.iter_mut().zip(bytes).for_each(|(value, byte)| *value = byte.into());
                }
                DType::Blocks(blocks) => {
                    let mut words = vec![0_u32; tensor.dtype.bytes_of(count) / 4];
                    self.read_bytes(piece, byte, bytemuck::cast_slice_mut(&mut words))?;
                    blocks.widen(&words, 0, values);
                }
                DType::F32 | DType::I32 => {
                    self.read_bytes(piece, byte, bytemuck::cast_slice_mut(values))?;
                }
            }
        }
        Ok(values)
    }

    /// Writes bytes to a buffer, waiting where much is under way.
    fn upload(
        &mut self,
        label: &str,
        piece: &wgpu::Buffer,
        at: u64,
        bytes: &[u8],
    ) -> Result<(), Error> {
        if self.unflushed + bytes.len() > COPY_BYTES {
            self.wait()?;
        }
        self.context
            .guarded(|| self.context.queue.write_buffer(piece, at, bytes))
            .map_err(|error| self.context.no_room(error, label, bytes.len() as u64))?;
        self.unflushed += bytes.len();
        Ok(())
    }

    /// Refuses halves where the driver's shaders cannot read them.
    fn check_dtype(&self, label: &str, dtype: DType) -> Result<(), Error> {
        if dtype != DType::F16 || self.caps.reads_f16 {
            return Ok(());
        }
        Err(Error::NoDevice(format!(
            "the driver of {} cannot read {label} in f16: set `teacher.weights` to \"f32\", or use another device",
            self.info.name
        )))
    }

    /// Gives freed memory back now: wgpu keeps it until it hears that the GPU is done with it.
    fn reclaim(&mut self) {
        // A lost device is reported by the next call that needs it.
        let _ = self.wait();
    }
}

fn unloaded(id: ProgramId) -> Error {
    Error::Input { name: format!("{id:?}"), problem: "it was unloaded".to_owned() }
}

impl Device for GpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn caps(&self) -> Caps {
        self.caps
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn stats(&self) -> Stats {
        self.context.stats
    }

    fn choices(&self) -> Choices {
        self.choices.clone()
    }

    fn choose(&mut self, choices: Choices) {
        self.choices = choices;
    }

    fn create_rows(
        &mut self,
        label: &str,
        dtype: DType,
        len: usize,
        row: Option<usize>,
    ) -> Result<BufferId, Error> {
        self.check_dtype(label, dtype)?;
        let piece = self.limits.piece(label, dtype, len, row)?;
        self.tensors.push(Some(Tensor::new(&mut self.context, label, dtype, (len, piece))?));
        Ok(BufferId(self.tensors.len() as u32 - 1))
    }

    fn free_buffer(&mut self, id: BufferId) {
        // A loaded plan that binds the buffer keeps its memory until it is unloaded itself.
        if let Some(tensor) = self.tensors.get_mut(id.0 as usize).and_then(Option::take) {
            self.context.stats.freed(buffer_bytes(tensor.dtype, tensor.len));
        }
        self.reclaim();
    }

    fn write(&mut self, id: BufferId, offset: usize, values: &[f32]) -> Result<(), Error> {
        self.context.check()?;
        let tensor = self.tensor(id)?.clone();
        tensor.check(offset, values.len())?;
        let most = tensor.dtype.held_in(COPY_BYTES);
        for (first, count) in tensor.spans(offset, values.len(), most) {
            let (piece, at) = tensor.at(first);
            let values = &values[first - offset..][..count];
            let (mut halves, mut eighths) = (Vec::new(), Vec::new());
            let bytes: &[u8] = match tensor.dtype {
                DType::F16 => {
                    halves.resize(count.next_multiple_of(2), f16::ZERO);
                    halves[..count].convert_from_f32_slice(values);
                    bytemuck::cast_slice(&halves)
                }
                DType::I8 => {
                    eighths.extend(values.iter().map(|&value| value as i8));
                    eighths.resize(count.next_multiple_of(4), 0);
                    bytemuck::cast_slice(&eighths)
                }
                DType::Blocks(_) => panic!("blocks are written by their words"),
                DType::F32 | DType::I32 => bytemuck::cast_slice(values),
            };
            self.upload(&tensor.label, piece, at, bytes)?;
        }
        self.context.check()
    }

    fn write_blocks(&mut self, id: BufferId, offset: usize, words: &[u32]) -> Result<(), Error> {
        self.context.check()?;
        let tensor = self.tensor(id)?.clone();
        let len = tensor.dtype.held_in(4 * words.len());
        tensor.check(offset, len)?;
        for (first, count) in tensor.spans(offset, len, tensor.dtype.held_in(COPY_BYTES)) {
            let (piece, at) = tensor.at(first);
            let [start, bytes] = [first - offset, count].map(|len| tensor.dtype.bytes_of(len));
            let bytes = &bytemuck::cast_slice(words)[start..start + bytes];
            self.upload(&tensor.label, piece, at, bytes)?;
        }
        self.context.check()
    }

    fn read(&mut self, id: BufferId, offset: usize, len: usize) -> Result<Vec<f32>, Error> {
        let tensor = self.tensor(id)?.clone();
        self.read_tensor(&tensor, offset, len)
    }

    fn load(
        &mut self,
        plan: &Plan,
        persistent: &dyn Fn(StorePart) -> Option<BufferId>,
    ) -> Result<ProgramId, Error> {
        self.context.check()?;
        plan.precision().check(&self.caps, &self.info.name)?;
        let plan = &*plan.within(self.limits)?;
        let mut found = HashMap::new();
        for (index, spec) in plan.buffers.iter().enumerate() {
            let BufferKind::Persistent(part) = spec.kind else { continue };
            let refuse = |problem| Error::Input { name: spec.label.clone(), problem };
            let id = persistent(part).ok_or_else(|| refuse(format!("no store has {part:?}")))?;
            let tensor = self.tensor(id)?;
            if tensor.len < spec.len || tensor.dtype != spec.dtype {
                return Err(refuse(format!(
                    "{part:?} has {} of {:?}, the plan needs {} of {:?}",
                    tensor.len, tensor.dtype, spec.len, spec.dtype
                )));
            }
            found.insert(index, tensor.clone());
        }
        let mut shared = Shared {
            choices: &self.choices,
            caps: self.caps,
            timing: self.timing,
            state: &self.state,
            placeholder: &self.placeholder,
            pipelines: &mut self.pipelines,
        };
        let before = self.context.stats.bytes;
        let program = Program::new(&mut self.context, &mut shared, plan, found)
            .inspect_err(|_| self.context.stats.bytes = before)?;
        self.programs.push(Some(program));
        Ok(ProgramId(self.programs.len() as u32 - 1))
    }

    fn unload(&mut self, program: ProgramId) {
        if let Some(program) = self.programs.get_mut(program.0 as usize).and_then(Option::take) {
            self.context.stats.freed(program.bytes);
        }
        self.reclaim();
    }

    fn run(
        &mut self,
        program: ProgramId,
        state: &StepState,
        inputs: &[(&str, HostTensor<'_>)],
    ) -> Result<(), Error> {
        self.context.check()?;
        // A staging buffer is back in the host's hands once the run two before this one is done.
        while self.in_flight.len() >= IN_FLIGHT {
            self.context.wait(self.in_flight.pop_front())?;
        }
        let loaded = self.programs.get_mut(program.0 as usize).and_then(Option::as_mut);
        let loaded = loaded.ok_or_else(|| unloaded(program))?;
        let submission = loaded.run(&mut self.context, &self.state, state, inputs)?;
        self.in_flight.push_back(submission);
        self.unflushed = 0;
        self.context.check()
    }

    fn output(&mut self, program: ProgramId, name: &str) -> Result<Vec<f32>, Error> {
        let tensor = self.program(program)?.output(name)?.clone();
        self.read_tensor(&tensor, 0, tensor.len)
    }

    fn wait(&mut self) -> Result<(), Error> {
        if self.unflushed > 0 {
            let encoder = self.context.encoder();
            self.context.submit(encoder);
            self.unflushed = 0;
        }
        self.context.wait(None)?;
        self.in_flight.clear();
        Ok(())
    }

    fn timings(&mut self, program: ProgramId) -> Result<Option<Vec<(String, Duration)>>, Error> {
        let Some(timer) = &self.program(program)?.timer else { return Ok(None) };
        if !timer.written {
            return Ok(Some(Vec::new()));
        }
        let mut encoder = self.context.encoder();
        timer.resolve(&mut encoder);
        let resolved = timer.resolved.clone();
        let mut ticks = vec![0_u64; timer.resolved_words()];
        self.context.submit(encoder);
        self.read_bytes(&resolved, 0, bytemuck::cast_slice_mut(&mut ticks))?;

        let period = self.context.queue.get_timestamp_period();
        let mut timings: Vec<(String, Duration)> = Vec::new();
        let mut last_call = None;
        for ((call, label), ticks) in self.program(program)?.calls().zip(ticks.chunks_exact(2)) {
            if last_call.replace(call) != Some(call) {
                timings.push((label.to_owned(), Duration::ZERO));
            }
            if let Some((_, time)) = timings.last_mut() {
                *time += elapsed([ticks[0], ticks[1]], period);
            }
        }
        Ok(Some(timings))
    }
}
