//! A loaded plan: its buffers, and its launches with their pipelines and bind groups, ready to record.

use std::collections::HashMap;
use std::mem::offset_of;

use distil_gpu_kernels::{Access, Caps, DType, Launch, Operand, StepState, loss_scale};

use super::context::Context;
use super::pipelines::{PipelineKey, Pipelines};
use super::timer::{Timer, Timing};
use super::{IN_FLIGHT, Tensor, buffer_bytes};
use crate::device::{Choices, HostTensor};
use crate::error::Error;
use crate::plan::{BufferKind, Call, Plan, View};
use crate::store::ALIGNMENT_BYTES;

/// Bytes at whose multiples uploads start in a staging buffer.
const STAGING_ALIGNMENT: u64 = 256;

/// What all plans of a device share.
pub(super) struct Shared<'a> {
    pub caps: Caps,
    pub choices: &'a Choices,
    pub timing: Timing,
    /// Holds the [`StepState`].
    pub state: &'a wgpu::Buffer,
    /// Bound where a launch binds nothing.
    pub placeholder: &'a wgpu::Buffer,
    pub pipelines: &'a mut Pipelines,
}

/// One dispatch.
#[derive(Debug)]
struct Dispatch {
    call: usize,
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    workgroups: [u32; 3],
}

/// A tensor that the host writes before a run.
#[derive(Debug)]
struct Input {
    tensor: Tensor,
    /// Where it lies in the staging buffers.
    staged_at: u64,
}

#[derive(Debug)]
pub(super) struct Program {
    labels: Vec<String>,
    dispatches: Vec<Dispatch>,
    inputs: HashMap<String, Input>,
    outputs: HashMap<String, Tensor>,
    /// What the step state's loss scale is copied from.
    loss_scale: Option<Tensor>,
    /// One for each run in flight: the step state, then all inputs.
    staging: [wgpu::Buffer; IN_FLIGHT],
    /// The staging buffer of the next run.
    turn: usize,
    pub timer: Option<Timer>,
    /// Bytes of all buffers that are its own.
    pub bytes: u64,
}

impl Program {
    /// Compiles what is missing, then allocates, then binds. `persistent` has the buffers of stores, by
    /// their index in the plan.
    pub fn new(
        context: &mut Context,
        shared: &mut Shared<'_>,
        plan: &Plan,
        persistent: HashMap<usize, Tensor>,
    ) -> Result<Self, Error> {
        let before = context.stats.bytes;
        for call in &plan.calls {
            check_call(plan, call, &call.kernel.operands())
                .map_err(|reason| context.refused(call.kernel.name(), reason))?;
        }
        let (launches, scratch_len) = launches_of(plan, &shared.caps, shared.choices);
        let key = |(call, launch): &(usize, Launch)| {
            PipelineKey::new(launch, &plan.calls[*call].kernel.operands())
        };
        let keys: Vec<PipelineKey> = launches.iter().map(key).collect();
        shared.pipelines.prepare(context, &keys)?;

        let Buffers { tensors, inputs, outputs, staged_to } =
            Buffers::new(context, plan, persistent)?;
        debug_assert_eq!(staged_to, staging_bytes(plan));
        let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
        let staging = [
            context.buffer("inputs", staged_to, usage)?,
            context.buffer("inputs", staged_to, usage)?,
        ];

        let (dims, dims_at) = dims_buffer(context, launches.iter().map(|(_, launch)| launch))?;
        let scratch = match scratch_len {
            0 => None,
            len => Some(Tensor::new(context, "scratch", DType::F32, (len, len))?),
        };
        let timer = Timer::new(context, shared.timing, launches.len())?;
        let mut dispatches = Vec::with_capacity(launches.len());
        for (((call, launch), key), dims_at) in launches.iter().zip(&keys).zip(dims_at) {
            let (pipeline, layout) = shared.pipelines.get(key);
            let dims = wgpu::BufferBinding {
                buffer: &dims,
                offset: dims_at,
                size: wgpu::BufferSize::new(dims_bytes(launch)),
            };
            let views = &plan.calls[*call].views;
            let storage = launch.bindings.iter().map(|binding| match binding {
                Some(operand) if *operand < views.len() => bind(&tensors, views[*operand]),
                Some(_) => {
                    let scratch = scratch.as_ref().expect("the kernel has scratch memory");
                    scratch.pieces[0].as_entire_buffer_binding()
                }
                None => shared.placeholder.as_entire_buffer_binding(),
            });
            let entries: Vec<wgpu::BindGroupEntry<'_>> =
                [dims, shared.state.as_entire_buffer_binding()]
                    .into_iter()
                    .chain(storage)
                    .map(wgpu::BindingResource::Buffer)
                    .zip(0..)
                    .map(|(resource, binding)| wgpu::BindGroupEntry { binding, resource })
                    .collect();
            let descriptor = wgpu::BindGroupDescriptor { label: None, layout, entries: &entries };
            let bind_group = context
                .guarded(|| context.device.create_bind_group(&descriptor))
                .map_err(|error| context.refused(launch.source.shader, error))?;
            context.stats.bind_groups += 1;
            dispatches.push(Dispatch {
                call: *call,
                pipeline: pipeline.clone(),
                bind_group,
                workgroups: launch.workgroups,
            });
        }
        context.check()?;
        let labels = plan.calls.iter().map(|call| call.label.clone()).collect();
        let bytes = context.stats.bytes - before;
        let loss_scale = plan.loss_scale.map(|buffer| tensors[buffer].clone());
        let turn = 0;
        Ok(Self { labels, dispatches, inputs, outputs, loss_scale, staging, turn, timer, bytes })
    }

    /// Output `name`.
    pub fn output(&self, name: &str) -> Result<&Tensor, Error> {
        let problem = || format!("the plan has only {}", names(&self.outputs));
        let missing = || Error::Input { name: name.to_owned(), problem: problem() };
        self.outputs.get(name).ok_or_else(missing)
    }

    /// Runs the plan once. The run two before this one must be done.
    pub fn run(
        &mut self,
        context: &mut Context,
        state_buffer: &wgpu::Buffer,
        state: &StepState,
        values: &[(&str, HostTensor<'_>)],
    ) -> Result<wgpu::SubmissionIndex, Error> {
        let mut given = Vec::with_capacity(values.len());
        for &(name, values) in values {
            given.push(self.input(name, values)?);
        }
        let staging = &self.staging[self.turn];
        let mut encoder = context.encoder();
        {
            let mut view = staging.get_mapped_range_mut(..).map_err(|error| context.lost(error))?;
            let mut upload = |target: &wgpu::Buffer, at: u64, bytes: &[u8]| {
                view.slice(at as usize..at as usize + bytes.len()).copy_from_slice(bytes);
                encoder.copy_buffer_to_buffer(staging, at, target, 0, bytes.len() as u64);
            };
            upload(state_buffer, 0, bytemuck::bytes_of(state));
            for (input, bytes) in given {
                upload(&input.tensor.pieces[0], input.staged_at, bytes);
            }
        }
        staging.unmap();
        if let Some(tensor) = &self.loss_scale {
            let (scale, at) = tensor.at(loss_scale::SCALE);
            let place = offset_of!(StepState, loss_scale) as u64;
            encoder.copy_buffer_to_buffer(scale, at, state_buffer, place, Some(4));
        }
        match &self.timer {
            Some(timer) if timer.edges => self.record_in_passes(&mut encoder, timer),
            timer => self.record(&mut encoder, timer.as_ref()),
        }
        context.stats.launches += self.dispatches.len() as u64;
        let submission = context.submit(encoder);
        // A failure shows when the range is next asked for.
        staging.map_async(wgpu::MapMode::Write, .., |_| {});
        self.turn = (self.turn + 1) % IN_FLIGHT;
        if let Some(timer) = &mut self.timer {
            timer.written = true;
        }
        Ok(submission)
    }

    /// Label of each launch's call, with the number of the call.
    pub fn calls(&self) -> impl Iterator<Item = (usize, &str)> {
        let label = |dispatch: &Dispatch| (dispatch.call, self.labels[dispatch.call].as_str());
        self.dispatches.iter().map(label)
    }

    /// All launches in one pass, with timestamps between them if there is a timer.
    fn record(&self, encoder: &mut wgpu::CommandEncoder, timer: Option<&Timer>) {
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        let mut pipeline = None;
        for (index, dispatch) in self.dispatches.iter().enumerate() {
            let queries = timer.map(|timer| timer.queries(index));
            if let Some((set, [first, _])) = queries {
                pass.write_timestamp(set, first);
            }
            if pipeline != Some(&dispatch.pipeline) {
                pass.set_pipeline(&dispatch.pipeline);
                pipeline = Some(&dispatch.pipeline);
            }
            dispatch.record(&mut pass);
            if let Some((set, [_, last])) = queries {
                pass.write_timestamp(set, last);
            }
        }
    }

    /// A pass for each launch, with timestamps at its edges.
    fn record_in_passes(&self, encoder: &mut wgpu::CommandEncoder, timer: &Timer) {
        for (index, dispatch) in self.dispatches.iter().enumerate() {
            let (query_set, [first, last]) = timer.queries(index);
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set,
                    beginning_of_pass_write_index: Some(first),
                    end_of_pass_write_index: Some(last),
                }),
            });
            pass.set_pipeline(&dispatch.pipeline);
            dispatch.record(&mut pass);
        }
    }

    fn input<'a>(&self, name: &str, values: HostTensor<'a>) -> Result<(&Input, &'a [u8]), Error> {
        let refuse = |problem| Error::Input { name: name.to_owned(), problem };
        let input = self
            .inputs
            .get(name)
            .ok_or_else(|| refuse(format!("the plan has only {}", names(&self.inputs))))?;
        let (dtype, len, bytes): (_, _, &[u8]) = match values {
            HostTensor::F32(values) => (DType::F32, values.len(), bytemuck::cast_slice(values)),
            HostTensor::I32(values) => (DType::I32, values.len(), bytemuck::cast_slice(values)),
        };
        if (dtype, len) != (input.tensor.dtype, input.tensor.len) {
            let (needed, needed_len) = (input.tensor.dtype, input.tensor.len);
            return Err(refuse(format!(
                "given {len} values of {dtype:?}, it needs {needed_len} of {needed:?}"
            )));
        }
        Ok((input, bytes))
    }
}

impl Dispatch {
    fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        let [x, y, z] = self.workgroups;
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

/// A plan's buffers, by their index in it and by name.
struct Buffers {
    tensors: Vec<Tensor>,
    inputs: HashMap<String, Input>,
    outputs: HashMap<String, Tensor>,
    /// Bytes of a staging buffer.
    staged_to: u64,
}

impl Buffers {
    /// Allocates those that are not `persistent`, and writes the constants.
    fn new(
        context: &mut Context,
        plan: &Plan,
        mut persistent: HashMap<usize, Tensor>,
    ) -> Result<Self, Error> {
        let mut tensors = Vec::with_capacity(plan.buffers.len());
        let (mut inputs, mut outputs) = (HashMap::new(), HashMap::new());
        let mut staged_to = STAGING_ALIGNMENT;
        for (index, spec) in plan.buffers.iter().enumerate() {
            let tensor = match persistent.remove(&index) {
                Some(tensor) => tensor,
                None => Tensor::new(context, &spec.label, spec.dtype, (spec.len, spec.len))?,
            };
            match &spec.kind {
                BufferKind::Input(name) => {
                    let input = Input { tensor: tensor.clone(), staged_at: staged_to };
                    staged_to +=
                        buffer_bytes(spec.dtype, spec.len).next_multiple_of(STAGING_ALIGNMENT);
                    inputs.insert(name.clone(), input);
                }
                BufferKind::Output(name) => {
                    outputs.insert(name.clone(), tensor.clone());
                }
                BufferKind::Constant(constant) => {
                    let bytes: &[u8] = bytemuck::cast_slice(&constant.words);
                    context
                        .guarded(|| context.queue.write_buffer(&tensor.pieces[0], 0, bytes))
                        .map_err(|e| context.no_room(e, &spec.label, bytes.len() as u64))?;
                }
                BufferKind::Slot | BufferKind::Persistent(_) => {}
            }
            tensors.push(tensor);
        }
        Ok(Self { tensors, inputs, outputs, staged_to })
    }
}

/// Names in a fixed order, for messages.
fn names<T>(map: &HashMap<String, T>) -> String {
    let mut names: Vec<&str> = map.keys().map(String::as_str).collect();
    names.sort_unstable();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn bind(tensors: &[Tensor], view: View) -> wgpu::BufferBinding<'_> {
    let tensor = &tensors[view.buffer];
    let (buffer, offset) = tensor.at(tensor.dtype.held_in(view.dtype.bytes_of(view.offset)));
    let size = wgpu::BufferSize::new(buffer_bytes(view.dtype, view.len));
    wgpu::BufferBinding { buffer, offset, size }
}

/// Bytes of a launch's dims: whole vectors of 16 bytes, as uniform structs are.
fn dims_bytes(launch: &Launch) -> u64 {
    (launch.dims.len().max(1) as u64 * 4).next_multiple_of(16)
}

/// One uniform buffer with the dims of all launches, and where each lies.
fn dims_buffer<'a>(
    context: &mut Context,
    launches: impl Iterator<Item = &'a Launch>,
) -> Result<(wgpu::Buffer, Vec<u64>), Error> {
    let alignment = context.device.limits().min_uniform_buffer_offset_alignment as usize;
    let (bytes, offsets) = dims(launches, alignment);
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let buffer = context.buffer("dims", bytes.len() as u64, usage)?;
    context.queue.write_buffer(&buffer, 0, &bytes);
    Ok((buffer, offsets))
}

/// The dims of all launches one after another, and where each lies.
fn dims<'a>(launches: impl Iterator<Item = &'a Launch>, alignment: usize) -> (Vec<u8>, Vec<u64>) {
    let (mut bytes, mut offsets) = (Vec::new(), Vec::new());
    for launch in launches {
        bytes.resize(bytes.len().next_multiple_of(alignment), 0);
        offsets.push(bytes.len() as u64);
        let end = bytes.len() + dims_bytes(launch) as usize;
        bytes.extend_from_slice(bytemuck::cast_slice(&launch.dims));
        bytes.resize(end, 0);
    }
    bytes.resize(bytes.len().max(16), 0);
    (bytes, offsets)
}

/// Bytes of a staging buffer: the step state and every input, each at a multiple of
/// [`STAGING_ALIGNMENT`].
fn staging_bytes(plan: &Plan) -> u64 {
    let inputs = plan.buffers.iter().filter(|spec| matches!(spec.kind, BufferKind::Input(_)));
    let staged =
        inputs.map(|spec| buffer_bytes(spec.dtype, spec.len).next_multiple_of(STAGING_ALIGNMENT));
    STAGING_ALIGNMENT + staged.sum::<u64>()
}

/// Bytes that a loaded plan takes beside its tensors: staging buffers, dims and scratch memory, on a device of these
/// capabilities whose uniforms start at multiples of `alignment`.
pub fn program_bytes(plan: &Plan, caps: &Caps, choices: &Choices, alignment: usize) -> u64 {
    let (launches, scratch_len) = launches_of(plan, caps, choices);
    let scratch = if scratch_len > 0 { buffer_bytes(DType::F32, scratch_len) } else { 0 };
    let dims = dims(launches.iter().map(|(_, launch)| launch), alignment).0.len() as u64;
    IN_FLIGHT as u64 * staging_bytes(plan) + dims + scratch
}

/// The launches of a plan, each with the number of its call, and the elements of scratch memory that they share.
fn launches_of(plan: &Plan, caps: &Caps, choices: &Choices) -> (Vec<(usize, Launch)>, usize) {
    let (mut launches, mut scratch_len) = (Vec::new(), 0);
    for (index, call) in plan.calls.iter().enumerate() {
        for launch in choices.launches(&*call.kernel, caps) {
            if launch.bindings.iter().flatten().any(|&operand| operand >= call.views.len()) {
                scratch_len = scratch_len.max(call.kernel.scratch());
            }
            launches.push((index, launch));
        }
    }
    (launches, scratch_len)
}

/// What the shaders' unchecked indices rely on, and what the driver would refuse only in mid-run.
fn check_call(plan: &Plan, call: &Call, operands: &[Operand]) -> Result<(), String> {
    let Call { views, label, .. } = call;
    if views.len() != operands.len() {
        let (views, operands) = (views.len(), operands.len());
        return Err(format!("{label} hands it {views} tensors for {operands} operands"));
    }
    for (view, operand) in views.iter().zip(operands) {
        let spec = &plan.buffers[view.buffer];
        let start = view.dtype.bytes_of(view.offset);
        let aligned = start.is_multiple_of(ALIGNMENT_BYTES);
        let inside = start as u64 + view.bytes() <= spec.bytes() && aligned;
        let slot_of_halves = (spec.dtype, view.dtype) == (DType::F32, DType::F16);
        let is_typed = view.dtype == operand.dtype && (view.dtype == spec.dtype || slot_of_halves);
        if !inside || view.len < operand.len || !is_typed {
            return Err(format!(
                "{label} binds {view:?} of {spec:?} as `{}`, {} of {:?}",
                operand.name, operand.len, operand.dtype
            ));
        }
        let reads = |operand: &Operand| operand.access == Access::Read;
        let clash = views.iter().zip(operands).any(|(other_view, other)| {
            view.buffer == other_view.buffer && reads(operand) != reads(other)
        });
        if clash {
            return Err(format!("{label} both reads and writes the buffer of `{}`", operand.name));
        }
    }
    Ok(())
}
