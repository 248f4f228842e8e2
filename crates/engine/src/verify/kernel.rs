//! Runs one kernel, in every way that a device could run it.

use std::sync::Arc;

use distil_gpu_kernels::{
    Access, Args, Caps, Cost, DType, Kernel, Launch, Operand, StepState, distill_loss, gather,
};

use super::numbers::{random_in, random_labels};
use crate::device::{BufferId, Device, DeviceKind, HostTensor, ProgramId};
use crate::error::Error;
use crate::plan::{BufferKind, BufferSpec, Call, Plan, View};
use crate::store::{Part, StorePart};

/// What a kernel's operand holds before it runs.
#[derive(Clone, Debug)]
pub enum Data {
    /// Floats.
    Floats(Vec<f64>),
    /// Integers.
    Integers(Vec<i32>),
    /// Words of quantised blocks.
    Blocks(Vec<u32>),
    /// Nothing yet: the kernel must write every element.
    Unwritten,
}

/// Elements behind each operand a kernel writes, which it must leave alone.
const GUARD: usize = 64;
const UNTOUCHED: f64 = -77.0;

/// Runs one kernel as a plan of one call; returns each operand that it writes, in order.
///
/// # Errors
/// When the device refuses, or the kernel writes behind an operand.
///
/// # Panics
/// When `data` does not fit the kernel's operands.
pub fn run_kernel(
    device: &mut dyn Device,
    kernel: &Arc<dyn Kernel>,
    state: &StepState,
    data: &[Data],
) -> Result<Vec<Vec<f64>>, Error> {
    Loaded::with(device, kernel, data, |device, loaded| {
        loaded.run(device, state)?;
        loaded.written(device)
    })
}

/// Inputs of a plan, by name.
type Inputs<'a> = Vec<(&'static str, HostTensor<'a>)>;

/// One kernel on a device as a plan of one call, its operands holding data.
pub struct Loaded<'a> {
    kernel: &'a Arc<dyn Kernel>,
    /// The plan's program.
    pub program: ProgramId,
    /// What its integers are.
    inputs: Inputs<'a>,
    /// Buffers of the other operands, with these' numbers.
    buffers: Vec<(usize, BufferId)>,
}

impl<'a> Loaded<'a> {
    /// Loads a kernel, does something with it, and takes it from the device again.
    ///
    /// # Errors
    /// When the device refuses; those of `then`.
    ///
    /// # Panics
    /// When `data` does not fit the kernel's operands.
    pub fn with<T>(
        device: &mut dyn Device,
        kernel: &'a Arc<dyn Kernel>,
        data: &'a [Data],
        then: impl FnOnce(&mut dyn Device, &Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut buffers = Vec::new();
        let done = Self::load(device, kernel, data, &mut buffers).and_then(|(program, inputs)| {
            let loaded = Self { kernel, program, inputs, buffers: buffers.clone() };
            let done = then(device, &loaded);
            device.unload(program);
            done
        });
        buffers.into_iter().for_each(|(_, id)| device.free_buffer(id));
        done
    }

    /// Loads the plan; the buffers it makes go to `made`.
    fn load(
        device: &mut dyn Device,
        kernel: &Arc<dyn Kernel>,
        data: &'a [Data],
        made: &mut Vec<(usize, BufferId)>,
    ) -> Result<(ProgramId, Inputs<'a>), Error> {
        let operands = kernel.operands();
        assert_eq!(operands.len(), data.len(), "{kernel:?}");
        let (mut buffers, mut views, mut inputs) = (vec![], vec![], vec![]);
        for (index, (operand, data)) in operands.iter().zip(data).enumerate() {
            let len = operand.len;
            let mut spec = BufferSpec {
                kind: BufferKind::Input(operand.name.to_owned()),
                dtype: operand.dtype,
                len,
                row: None,
                label: operand.name.to_owned(),
            };
            let floats = match data {
                Data::Integers(values) => {
                    inputs.push((operand.name, HostTensor::I32(values)));
                    None
                }
                Data::Blocks(words) => {
                    let part = StorePart { store: 0, part: Part::Parameters, segment: index };
                    spec.kind = BufferKind::Persistent(part);
                    let id = device.create_buffer(operand.name, operand.dtype, len)?;
                    made.push((index, id));
                    device.write_blocks(id, 0, words)?;
                    None
                }
                Data::Floats(values) => Some(values.clone()),
                Data::Unwritten => Some(vec![f64::NAN; len]),
            };
            if let Some(mut values) = floats {
                assert_eq!(values.len(), len, "{} of {kernel:?}", operand.name);
                values.resize(len + GUARD, UNTOUCHED);
                let part = StorePart { store: 0, part: Part::Parameters, segment: index };
                (spec.kind, spec.len) = (BufferKind::Persistent(part), len + GUARD);
                let id = device.create_buffer(operand.name, operand.dtype, len + GUARD)?;
                made.push((index, id));
                device.write_exact(id, 0, &values)?;
            }
            buffers.push(spec);
            views.push(View { buffer: index, dtype: operand.dtype, offset: 0, len });
        }
        let call = Call { kernel: kernel.clone(), views, label: kernel.name().to_owned() };
        let plan = Plan { buffers, calls: vec![call], loss_scale: None };
        let place =
            |part: StorePart| made.iter().find(|(i, _)| *i == part.segment).map(|(_, id)| *id);
        Ok((device.load(&plan, &place)?, inputs))
    }

    /// Runs it once.
    ///
    /// # Errors
    /// When the device fails.
    pub fn run(&self, device: &mut dyn Device, state: &StepState) -> Result<(), Error> {
        device.run(self.program, state, &self.inputs)
    }

    /// Each operand that it writes, in order.
    ///
    /// # Errors
    /// When the device fails, or the kernel has written behind an operand.
    pub fn written(&self, device: &mut dyn Device) -> Result<Vec<Vec<f64>>, Error> {
        let operands = self.kernel.operands();
        let written = self.buffers.iter().filter(|(i, _)| operands[*i].access != Access::Read);
        let unguarded = |&(index, id): &(usize, BufferId)| {
            let mut values = device.read_exact(id, 0, operands[index].len + GUARD)?;
            let guard = values.split_off(values.len() - GUARD);
            if guard.iter().all(|&v| v == UNTOUCHED) {
                return Ok(values);
            }
            Err(Error::Kernel {
                kernel: self.kernel.name(),
                device: device.info().name.clone(),
                reason: "it writes behind its operands".to_owned(),
            })
        };
        written.map(unguarded).collect()
    }
}

/// A kernel with launches that its device would not choose by itself.
#[derive(Clone, Debug)]
pub struct Forced {
    /// The kernel.
    pub kernel: Arc<dyn Kernel>,
    /// How it is launched.
    pub launches: Vec<Launch>,
}

impl Kernel for Forced {
    fn name(&self) -> &'static str {
        self.kernel.name()
    }
    fn operands(&self) -> Vec<Operand> {
        self.kernel.operands()
    }
    fn launches(&self, _: &Caps) -> Vec<Launch> {
        self.launches.clone()
    }
    fn scratch(&self) -> usize {
        self.kernel.scratch()
    }
    fn cost(&self) -> Cost {
        self.kernel.cost()
    }
    fn run_f32(&self, args: Args<'_, f32>, state: &StepState) {
        self.kernel.run_f32(args, state);
    }
    fn run_f64(&self, args: Args<'_, f64>, state: &StepState) {
        self.kernel.run_f64(args, state);
    }
}

/// The kernel in every way that the device may run it, with a name each: as it is, in its other variants,
/// as a GPU with little else in common would run it, and over a folded grid.
pub fn variants(kernel: &Arc<dyn Kernel>, device: &dyn Device) -> Vec<(String, Arc<dyn Kernel>)> {
    if device.info().kind == DeviceKind::Cpu {
        return vec![("twin".to_owned(), kernel.clone())];
    }
    let own = device.caps();
    let other = Caps { software: !own.software, ..own };
    let folded = Caps { max_workgroups: 3, ..own };
    let mut launches: Vec<(String, Vec<Launch>)> = Vec::new();
    for (name, caps) in [("own", own), ("other", other), ("folded", folded)] {
        for variant in kernel.variants(&caps) {
            if !launches.iter().any(|(_, known)| *known == variant.launches) {
                launches.push((format!("{name} {}", variant.name), variant.launches));
            }
        }
    }
    let forced = |(name, launches)| {
        (name, Arc::new(Forced { kernel: kernel.clone(), launches }) as Arc<dyn Kernel>)
    };
    launches.into_iter().map(forced).collect()
}

/// Random values in `low..high` for every operand that a kernel reads; those that are squares or counts
/// by nature are positive, lengths are short or whole, labels are of the first two classes or count in only
/// some terms, ids are [`some_ids`].
pub fn filled(kernel: &dyn Kernel, low: f64, high: f64) -> Vec<Data> {
    let operands = kernel.operands();
    let fill = |(salt, operand): (u32, &Operand)| {
        let len = operand.len;
        match (operand.access, operand.name) {
            (Access::Write, _) => Data::Unwritten,
            (_, "moment2" | "partials" | "norm") => Data::Floats(random_in(0.0, 1.0, len, salt)),
            (_, "ids") => Data::Integers(some_ids(len, table_rows(&operands))),
            (_, "order") => {
                Data::Integers(gather::sorted_order(&some_ids(len, table_rows(&operands))))
            }
            (_, "lengths") => {
                let mut lengths = random_labels(len, 64, salt);
                // One whole example, one without any key.
                lengths.iter_mut().zip([i32::MAX, 0]).for_each(|(length, other)| *length = other);
                Data::Integers(lengths)
            }
            (_, "places") => Data::Integers((0..len as i32).collect()),
            // All rows of the other side.
            (_, "query_ranges" | "key_ranges") => Data::Integers([0, i32::MAX].repeat(len / 2)),
            (_, "labels" | "kinds") => {
                let special = [distill_loss::IGNORED, distill_loss::PADDING];
                let mut labels = random_labels(len, 2, salt);
                // The first row counts in everything.
                labels.iter_mut().skip(1).zip(special).for_each(|(label, other)| *label = other);
                Data::Integers(labels)
            }
            (_, name) => {
                assert_ne!(operand.dtype, DType::I32, "what integers {name} holds is not told");
                Data::Floats(random_in(low, high, len, salt))
            }
        }
    };
    (0..).zip(&operands).map(fill).collect()
}

/// Rows of the table that the `ids` among these operands number.
fn table_rows(operands: &[Operand]) -> usize {
    let len = |names: [&str; 2]| {
        let operand = operands.iter().find(|operand| names.contains(&operand.name));
        operand.expect("ids come with a table and its rows").len
    };
    len(["table", "dtable"]) * len(["ids", "ids"]) / len(["out", "dy"])
}

/// Ids of rows of a table. Every third is 0, so that one row is named often; some are below 0 or beyond the
/// table.
pub fn some_ids(len: usize, table_rows: usize) -> Vec<i32> {
    let mut ids = random_labels(len, table_rows, 0);
    ids.iter_mut().step_by(3).for_each(|id| *id = 0);
    ids.iter_mut().skip(7).step_by(11).for_each(|id| *id = -1 - *id);
    ids.iter_mut().skip(9).step_by(50).for_each(|id| *id = table_rows as i32);
    ids
}
