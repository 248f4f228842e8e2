//! The CPU device: walks a plan through the kernels' CPU twins. In f32 it is the fallback where there is
//! no GPU; in f64 it is the oracle.

use std::time::{Duration, Instant};

use distil_gpu_kernels::{Access, Arg, Args, Blocks, Caps, DType, Kernel, Real, StepState};
use half::f16;

use super::{BufferId, Device, DeviceInfo, DeviceKind, HostTensor, Limits, ProgramId, Stats};
use crate::error::Error;
use crate::plan::{BufferKind, Plan, View};
use crate::store::StorePart;
use crate::words::counted;

/// The kernels of one number type.
pub trait CpuReal: Real {
    /// Runs a kernel in this type.
    fn run(kernel: &dyn Kernel, args: Args<'_, Self>, state: &StepState);
}

impl CpuReal for f32 {
    fn run(kernel: &dyn Kernel, args: Args<'_, Self>, state: &StepState) {
        kernel.run_f32(args, state);
    }
}

impl CpuReal for f64 {
    fn run(kernel: &dyn Kernel, args: Args<'_, Self>, state: &StepState) {
        kernel.run_f64(args, state);
    }
}

#[derive(Debug)]
enum Memory<F> {
    Floats(Vec<F>),
    Integers(Vec<i32>),
    Halves(Vec<f16>),
    Bytes(Vec<i8>),
    Blocks(Blocks, Vec<u32>),
}

impl<F: Real> Memory<F> {
    fn zeroed(dtype: DType, len: usize) -> Self {
        match dtype {
            DType::F32 => Self::Floats(vec![F::zero(); len]),
            DType::I32 => Self::Integers(vec![0; len]),
            DType::F16 => Self::Halves(vec![f16::ZERO; len]),
            DType::I8 => Self::Bytes(vec![0; len]),
            DType::Blocks(blocks) => Self::Blocks(blocks, vec![0; dtype.bytes_of(len) / 4]),
        }
    }

    /// Writes floats as the memory's own; halves and bytes are made of f32 whatever the values are in, as on a GPU.
    fn write<T: Copy>(
        &mut self,
        offset: usize,
        values: &[T],
        float: fn(T) -> F,
        half: fn(T) -> f16,
        byte: fn(T) -> i8,
    ) {
        match self {
            Self::Floats(floats) => put(&mut floats[offset..], values, float),
            Self::Halves(halves) => put(&mut halves[offset..], values, half),
            Self::Bytes(bytes) => put(&mut bytes[offset..], values, byte),
            Self::Integers(_) | Self::Blocks(..) => panic!("floats are written to floats"),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Floats(floats) => floats.len(),
            Self::Halves(halves) => halves.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Integers(integers) => integers.len(),
            Self::Blocks(blocks, words) => words.len() / blocks.words() * blocks.numbers(),
        }
    }

    /// Reads floats as numbers of another type, at once: a model's parameters may be half of the machine's memory.
    fn read<T>(&self, offset: usize, len: usize, float: fn(F) -> T, half: fn(f16) -> T) -> Vec<T> {
        match self {
            Self::Floats(floats) => floats[offset..][..len].iter().map(|v| float(*v)).collect(),
            Self::Halves(halves) => halves[offset..][..len].iter().map(|v| half(*v)).collect(),
            // Exact in f16.
            Self::Bytes(bytes) => {
                let value = |v: &i8| half(f16::from_f32(f32::from(*v)));
                bytes[offset..][..len].iter().map(value).collect()
            }
            Self::Blocks(blocks, words) => {
                let mut values = vec![F::zero(); len];
                blocks.widen(words, offset, &mut values);
                values.into_iter().map(float).collect()
            }
            Self::Integers(_) => panic!("integers are read as floats"),
        }
    }
}

fn put<T: Copy, U>(to: &mut [U], from: &[T], convert: fn(T) -> U) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to = convert(from));
}

#[derive(Debug)]
struct Program {
    plan: Plan,
    /// Index into the device's memory of each of the plan's buffers.
    memory: Vec<usize>,
    times: Vec<Duration>,
}

/// Runs plans on the processor, on all cores.
#[derive(Debug)]
pub struct CpuDevice<F> {
    info: DeviceInfo,
    memory: Vec<Option<Memory<F>>>,
    programs: Vec<Option<Program>>,
    stats: Stats,
}

impl<F: CpuReal> Default for CpuDevice<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: CpuReal> CpuDevice<F> {
    /// The device.
    pub fn new() -> Self {
        let threads = rayon::current_num_threads();
        let info = DeviceInfo {
            name: format!("CPU ({})", counted(threads, "thread")),
            backend: "cpu".to_owned(),
            driver: String::new(),
            kind: DeviceKind::Cpu,
        };
        Self { info, memory: Vec::new(), programs: Vec::new(), stats: Stats::default() }
    }

    fn allocate(&mut self, label: &str, dtype: DType, len: usize) -> Result<usize, Error> {
        // A reservation that fails is an error to report; an allocation that fails ends the process.
        let bytes = match dtype {
            DType::F32 => len * size_of::<F>(),
            _ => dtype.bytes_of(len),
        };
        let room = match dtype {
            DType::F32 => Vec::<F>::new().try_reserve_exact(len),
            DType::I32 => Vec::<i32>::new().try_reserve_exact(len),
            DType::F16 => Vec::<f16>::new().try_reserve_exact(len),
            DType::I8 => Vec::<i8>::new().try_reserve_exact(len),
            DType::Blocks(_) => Vec::<u32>::new().try_reserve_exact(bytes / 4),
        };
        if room.is_err() {
            return Err(Error::OutOfMemory {
                device: self.info.name.clone(),
                tensor: label.to_owned(),
                bytes: bytes as u64,
            });
        }
        self.stats.allocated(bytes as u64);
        self.memory.push(Some(Memory::zeroed(dtype, len)));
        Ok(self.memory.len() - 1)
    }

    fn free(&mut self, index: usize) {
        let bytes = match self.memory[index].take() {
            Some(Memory::Floats(floats)) => floats.len() * size_of::<F>(),
            Some(Memory::Integers(integers)) => DType::I32.bytes_of(integers.len()),
            Some(Memory::Halves(halves)) => DType::F16.bytes_of(halves.len()),
            Some(Memory::Bytes(bytes)) => bytes.len(),
            Some(Memory::Blocks(_, words)) => 4 * words.len(),
            None => 0,
        };
        self.stats.freed(bytes as u64);
    }

    fn held(&mut self, index: usize) -> &mut Memory<F> {
        self.memory[index].as_mut().expect("a buffer is used before it is freed")
    }

    fn program(&self, id: ProgramId) -> &Program {
        self.programs[id.0 as usize].as_ref().expect("a program is used before it is unloaded")
    }

    fn output_index(&self, program: ProgramId, name: &str) -> Result<usize, Error> {
        let program = self.program(program);
        let buffer = program.plan.output(name).ok_or_else(|| Error::Input {
            name: name.to_owned(),
            problem: "the plan has no such output".to_owned(),
        })?;
        Ok(program.memory[buffer])
    }

    fn input_index(&self, program: ProgramId, name: &str, len: usize) -> Result<usize, Error> {
        let program = self.program(program);
        let error = |problem| Error::Input { name: name.to_owned(), problem };
        let buffer = program
            .plan
            .input(name)
            .ok_or_else(|| error("the plan has no such input".to_owned()))?;
        let needed = program.plan.buffers[buffer].len;
        if needed != len {
            return Err(error(format!("{len} values for {needed}")));
        }
        Ok(program.memory[buffer])
    }

    fn call(&mut self, program: &Program, index: usize, state: &StepState) {
        let call = &program.plan.calls[index];
        let operands = call.kernel.operands();
        let places: Vec<usize> = call.views.iter().map(|v| program.memory[v.buffer]).collect();
        let writes = |index: &usize| operands[*index].access != Access::Read;
        // What is written leaves the table for the call, so that the rest can be borrowed beside it.
        let mut written: Vec<(usize, Memory<F>)> = Vec::new();
        for index in (0..operands.len()).filter(writes) {
            if let Some(memory) = self.memory[places[index]].take() {
                written.push((places[index], memory));
            }
        }
        // A buffer may be written in several places that do not overlap.
        let mut parts: Vec<Option<&mut [F]>> = operands.iter().map(|_| None).collect();
        for (place, memory) in &mut written {
            let Memory::Floats(floats) = memory else { panic!("{} writes no floats", call.label) };
            let mut here: Vec<usize> =
                (0..operands.len()).filter(writes).filter(|&i| places[i] == *place).collect();
            here.sort_by_key(|&index| call.views[index].offset);
            let (mut rest, mut start) = (&mut floats[..], 0);
            for index in here {
                let View { offset, len, .. } = call.views[index];
                let gap = offset.checked_sub(start).expect("what a kernel writes does not overlap");
                let (part, behind) = rest[gap..].split_at_mut(len);
                (parts[index], rest, start) = (Some(part), behind, offset + len);
            }
        }
        let args = call
            .views
            .iter()
            .zip(&places)
            .zip(parts)
            .map(|((view, &place), part)| {
                let range = view.offset..view.offset + view.len;
                match (part, &self.memory[place]) {
                    (Some(part), _) => Arg::Write(part),
                    (None, Some(Memory::Floats(floats))) => Arg::Read(&floats[range]),
                    (None, Some(Memory::Integers(integers))) => Arg::ReadI32(&integers[range]),
                    (None, Some(Memory::Halves(halves))) => Arg::ReadF16(&halves[range]),
                    (None, Some(Memory::Bytes(bytes))) => Arg::ReadI8(&bytes[range]),
                    (None, Some(Memory::Blocks(_, words))) => {
                        let [start, len] = [view.offset, view.len].map(|n| view.dtype.bytes_of(n));
                        Arg::ReadBlocks(&words[start / 4..(start + len) / 4])
                    }
                    (None, None) => panic!("{} reads and writes one buffer", call.label),
                }
            })
            .collect();
        F::run(&*call.kernel, Args::new(args), state);
        for (place, memory) in written {
            self.memory[place] = Some(memory);
        }
    }
}

impl<F: CpuReal> Device for CpuDevice<F> {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn caps(&self) -> Caps {
        Caps { software: true, ..Caps::default() }
    }

    fn limits(&self) -> Limits {
        // A kernel counts elements in u32.
        let bytes = u64::from(u32::MAX) * 4;
        Limits { buffer_bytes: bytes, binding_bytes: bytes }
    }

    fn stats(&self) -> Stats {
        self.stats
    }

    fn create_rows(
        &mut self,
        label: &str,
        dtype: DType,
        len: usize,
        _row: Option<usize>,
    ) -> Result<BufferId, Error> {
        Ok(BufferId(self.allocate(label, dtype, len)? as u32))
    }

    fn free_buffer(&mut self, id: BufferId) {
        self.free(id.0 as usize);
    }

    fn write(&mut self, id: BufferId, offset: usize, values: &[f32]) -> Result<(), Error> {
        self.held(id.0 as usize).write(offset, values, F::of, f16::from_f32, |value| value as i8);
        Ok(())
    }

    fn write_blocks(&mut self, id: BufferId, offset: usize, words: &[u32]) -> Result<(), Error> {
        match self.held(id.0 as usize) {
            Memory::Blocks(blocks, held) => {
                held[offset / blocks.numbers() * blocks.words()..][..words.len()]
                    .copy_from_slice(words);
                Ok(())
            }
            _ => panic!("blocks are written to blocks"),
        }
    }

    fn read(&mut self, id: BufferId, offset: usize, len: usize) -> Result<Vec<f32>, Error> {
        let float = |value: F| value.f64() as f32;
        Ok(self.held(id.0 as usize).read(offset, len, float, f16::to_f32))
    }

    fn load(
        &mut self,
        plan: &Plan,
        persistent: &dyn Fn(StorePart) -> Option<BufferId>,
    ) -> Result<ProgramId, Error> {
        plan.precision().check(&self.caps(), &self.info.name)?;
        let plan = plan.within(self.limits())?.into_owned();
        let mut memory = Vec::new();
        for spec in &plan.buffers {
            memory.push(match &spec.kind {
                BufferKind::Persistent(part) => {
                    let id = persistent(*part).ok_or_else(|| Error::Input {
                        name: spec.label.clone(),
                        problem: "the store was made without it".to_owned(),
                    })?;
                    id.0 as usize
                }
                BufferKind::Constant(constant) => {
                    let index = self.allocate(&spec.label, spec.dtype, spec.len)?;
                    match self.held(index) {
                        Memory::Floats(floats) => {
                            put(floats, &constant.words, |word| F::of(f32::from_bits(word)));
                        }
                        Memory::Integers(integers) => {
                            put(integers, &constant.words, u32::cast_signed);
                        }
                        _ => {
                            panic!("constants are floats or integers")
                        }
                    }
                    index
                }
                _ => self.allocate(&spec.label, spec.dtype, spec.len)?,
            });
        }
        self.programs.push(Some(Program { plan, memory, times: Vec::new() }));
        Ok(ProgramId(self.programs.len() as u32 - 1))
    }

    fn unload(&mut self, program: ProgramId) {
        if let Some(program) = self.programs[program.0 as usize].take() {
            for (spec, index) in program.plan.buffers.iter().zip(program.memory) {
                if !matches!(spec.kind, BufferKind::Persistent(_)) {
                    self.free(index);
                }
            }
        }
    }

    fn run(
        &mut self,
        id: ProgramId,
        state: &StepState,
        inputs: &[(&str, HostTensor<'_>)],
    ) -> Result<(), Error> {
        for (name, values) in inputs {
            let len = match values {
                HostTensor::F32(values) => values.len(),
                HostTensor::I32(values) => values.len(),
            };
            let index = self.input_index(id, name, len)?;
            match (&mut self.memory[index], values) {
                (Some(Memory::Floats(to)), HostTensor::F32(from)) => {
                    to.iter_mut().zip(*from).for_each(|(to, &from)| *to = F::of(from));
                }
                (Some(Memory::Integers(to)), HostTensor::I32(from)) => to.copy_from_slice(from),
                _ => {
                    let problem = "floats for integers, or the other way round".to_owned();
                    return Err(Error::Input { name: (*name).to_owned(), problem });
                }
            }
        }
        let slot = id.0 as usize;
        let mut program =
            self.programs[slot].take().expect("a program is used before it is unloaded");
        program.times.clear();
        // On one of the threads that share the work: from outside, each call would wait for one to wake.
        rayon::scope(|_| {
            for index in 0..program.plan.calls.len() {
                let start = Instant::now();
                self.call(&program, index, state);
                program.times.push(start.elapsed());
            }
        });
        self.stats.launches += program.plan.calls.len() as u64;
        self.stats.submits += 1;
        self.programs[slot] = Some(program);
        Ok(())
    }

    fn output(&mut self, program: ProgramId, name: &str) -> Result<Vec<f32>, Error> {
        let index = self.output_index(program, name)?;
        let (held, float) = (self.held(index), |value: F| value.f64() as f32);
        Ok(held.read(0, held.len(), float, f16::to_f32))
    }

    fn read_exact(&mut self, id: BufferId, offset: usize, len: usize) -> Result<Vec<f64>, Error> {
        Ok(self.held(id.0 as usize).read(offset, len, F::f64, f16::to_f64))
    }

    fn write_exact(&mut self, id: BufferId, offset: usize, values: &[f64]) -> Result<(), Error> {
        let half = |value| f16::from_f32(value as f32);
        self.held(id.0 as usize).write(offset, values, F::of64, half, |value| value as f32 as i8);
        Ok(())
    }

    fn output_exact(&mut self, program: ProgramId, name: &str) -> Result<Vec<f64>, Error> {
        let index = self.output_index(program, name)?;
        let held = self.held(index);
        Ok(held.read(0, held.len(), F::f64, f16::to_f64))
    }

    fn wait(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn timings(&mut self, program: ProgramId) -> Result<Option<Vec<(String, Duration)>>, Error> {
        let program = self.program(program);
        let labels = program.plan.calls.iter().map(|call| call.label.clone());
        Ok(Some(labels.zip(program.times.iter().copied()).collect()))
    }
}
