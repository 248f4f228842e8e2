//! Plans as data: what a browser must know to replay them.

use std::collections::HashMap;

use base64::prelude::{BASE64_STANDARD, Engine};
use distil_gpu_engine::device::Choices;
use distil_gpu_engine::kernels::{Access, Caps, DType, Launch, StepState};
use distil_gpu_engine::models::BatchShape;
use distil_gpu_engine::objective::LOGITS;
use distil_gpu_engine::plan::{BufferKind, Call, Limits, Plan};
use distil_gpu_engine::{Error, kernels};
use serde::Serialize;

use crate::probe::Probe;

/// What every WebGPU device allows.
pub const LIMITS: Limits = Limits { buffer_bytes: 256 << 20, binding_bytes: 128 << 20 };
/// Storage buffers of a shader that every WebGPU device allows.
const MOST_BINDINGS: usize = 8;
/// Bytes of uniforms that it allows.
const MOST_UNIFORM_BYTES: usize = 64 << 10;

/// A compiled kernel.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Pipeline {
    /// Index into [`Recorded::wgsl`].
    pub module: usize,
    /// Entry point.
    pub entry: &'static str,
    /// Values of its `override` declarations.
    pub overrides: Vec<(&'static str, f64)>,
    /// Of each storage binding, whether it is only read.
    pub read_only: Vec<bool>,
}

/// A buffer of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Buffer {
    /// Scratch memory, shared by all plans.
    Slot {
        /// Index into [`Recorded::slots`].
        index: usize,
    },
    /// A segment of the weights.
    Segment {
        /// Which.
        index: usize,
    },
    /// A constant.
    Constant {
        /// Index into [`Recorded::constants`].
        index: usize,
    },
    /// Written before a run.
    Input {
        /// Its name.
        name: String,
        /// Its elements, four bytes each.
        len: usize,
    },
    /// Read after a run, f32.
    Output {
        /// Its elements.
        len: usize,
    },
}

/// What a storage binding of a launch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Binding {
    /// Buffer of the plan, first byte, bytes.
    Part(usize, u64, u64),
    /// The scratch memory of kernels: `true`. Nothing: `false`.
    Whole(bool),
}

/// One dispatch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dispatch {
    /// Index into [`Recorded::pipelines`].
    pub pipeline: usize,
    /// Words of its uniform.
    pub dims: Vec<u32>,
    /// Its storage bindings.
    pub bindings: Vec<Binding>,
    /// Its grid.
    pub workgroups: [u32; 3],
}

/// A plan for batches of one shape.
#[derive(Clone, Debug, Serialize)]
pub struct PlanRecord {
    /// Examples.
    pub rows: usize,
    /// Tokens of a text, padding included; 0 where examples are numbers.
    pub length: usize,
    /// Its buffers.
    pub buffers: Vec<Buffer>,
    /// Its launches in order.
    pub launches: Vec<Dispatch>,
    /// Which buffer is the logits.
    pub output: usize,
    /// What it must answer to.
    pub probe: Probe,
}

/// What all plans of a bundle share.
#[derive(Clone, Debug, Serialize)]
pub struct Recorded {
    /// Shaders, each once.
    pub wgsl: Vec<String>,
    /// Pipelines, each once.
    pub pipelines: Vec<Pipeline>,
    /// Constants, each once: their bytes in base64.
    pub constants: Vec<String>,
    /// Bytes of the shared scratch memory.
    pub slots: Vec<u64>,
    /// Bytes of the kernels' scratch memory.
    pub scratch: u64,
    /// Words of the step state, which is always the same.
    pub state: Vec<u32>,
}

/// Records plans.
#[derive(Debug)]
pub struct Recorder {
    recorded: Recorded,
    modules: HashMap<String, usize>,
    pipelines: HashMap<String, usize>,
    constants: HashMap<String, usize>,
}

impl Recorder {
    /// Nothing yet.
    pub fn new() -> Self {
        let state = bytemuck::cast::<StepState, [u32; 12]>(StepState::default()).to_vec();
        let recorded = Recorded {
            wgsl: Vec::new(),
            pipelines: Vec::new(),
            constants: Vec::new(),
            slots: Vec::new(),
            scratch: 0,
            state,
        };
        let (modules, pipelines, constants) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { recorded, modules, pipelines, constants }
    }

    /// What was recorded.
    pub fn finish(self) -> Recorded {
        self.recorded
    }

    /// Records a forward plan.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a tensor that browsers cannot bind; [`Error::Unsupported`] for what they have no room for.
    pub fn record(
        &mut self,
        plan: &Plan,
        shape: BatchShape,
        probe: Probe,
    ) -> Result<PlanRecord, Error> {
        let plan = plan.within(LIMITS)?;
        let mut buffers = Buffers::of(&plan);
        let mut launches = Vec::new();
        for call in &plan.calls {
            for launch in Choices::default().launches(&*call.kernel, &Caps::default()) {
                check(call, &launch)?;
                let bindings = launch.bindings.iter();
                let bindings = bindings.map(|binding| self.binding(call, *binding, &mut buffers));
                launches.push(Dispatch {
                    bindings: bindings.collect(),
                    pipeline: self.pipeline(call, &launch),
                    dims: launch.dims,
                    workgroups: launch.workgroups,
                });
            }
        }
        let output = plan.output(LOGITS).map(|output| buffers.place(output));
        let output = output.ok_or_else(|| Error::Unsupported {
            what: "the model's plan has no logits".to_owned(),
            instead: "export a classifier, a regressor or an embedder".to_owned(),
        })?;
        let used = &buffers.used;
        let buffers = used.iter().map(|&index| self.buffer(&plan, &buffers.ranks, index)).collect();
        let BatchShape { rows, length, .. } = shape;
        Ok(PlanRecord { rows, length, buffers, launches, output, probe })
    }

    fn binding(&mut self, call: &Call, binding: Option<usize>, buffers: &mut Buffers) -> Binding {
        match binding {
            Some(operand) if operand < call.views.len() => {
                let view = call.views[operand];
                let offset = view.dtype.bytes_of(view.offset) as u64;
                Binding::Part(buffers.place(view.buffer), offset, bytes(view.dtype, view.len))
            }
            Some(_) => {
                let needed = bytes(DType::F32, call.kernel.scratch());
                self.recorded.scratch = self.recorded.scratch.max(needed);
                Binding::Whole(true)
            }
            None => Binding::Whole(false),
        }
    }

    fn pipeline(&mut self, call: &Call, launch: &Launch) -> usize {
        let operands = call.kernel.operands();
        let reads = |binding: &Option<usize>| {
            let access = |operand: usize| {
                operands.get(operand).map_or(Access::ReadWrite, |operand| operand.access)
            };
            binding.is_none_or(|operand| access(operand) == Access::Read)
        };
        let text = plain(&launch.source.link());
        let module = index_of(&mut self.modules, &mut self.recorded.wgsl, text.clone(), text);
        let read_only = launch.bindings.iter().map(reads).collect();
        let overrides = launch.overrides.clone();
        let pipeline = Pipeline { module, entry: launch.entry, overrides, read_only };
        let key = format!("{pipeline:?}");
        index_of(&mut self.pipelines, &mut self.recorded.pipelines, key, pipeline)
    }

    fn buffer(&mut self, plan: &Plan, ranks: &HashMap<usize, usize>, index: usize) -> Buffer {
        let spec = &plan.buffers[index];
        match &spec.kind {
            BufferKind::Slot => {
                let rank = ranks[&index];
                let slots = &mut self.recorded.slots;
                slots.resize(slots.len().max(rank + 1), 0);
                slots[rank] = slots[rank].max(bytes(spec.dtype, spec.len));
                Buffer::Slot { index: rank }
            }
            BufferKind::Persistent(part) => Buffer::Segment { index: part.segment },
            BufferKind::Constant(constant) => {
                let text = BASE64_STANDARD.encode(bytemuck::cast_slice::<u32, u8>(&constant.words));
                let all = &mut self.recorded.constants;
                Buffer::Constant { index: index_of(&mut self.constants, all, text.clone(), text) }
            }
            BufferKind::Input(name) => Buffer::Input { name: name.clone(), len: spec.len },
            BufferKind::Output(_) => Buffer::Output { len: spec.len },
        }
    }
}

/// The buffers that launches touch, in the order in which they do.
struct Buffers {
    used: Vec<usize>,
    /// Of each slot its rank among them by size: those of one rank share memory, as in `scratch::Scratch`.
    ranks: HashMap<usize, usize>,
}

impl Buffers {
    fn of(plan: &Plan) -> Self {
        let mut slots: Vec<usize> = (0..plan.buffers.len())
            .filter(|&index| plan.buffers[index].kind == BufferKind::Slot)
            .collect();
        slots.sort_by_key(|&index| std::cmp::Reverse(plan.buffers[index].len));
        Self { used: Vec::new(), ranks: slots.into_iter().zip(0..).collect() }
    }

    fn place(&mut self, buffer: usize) -> usize {
        self.used.iter().position(|used| *used == buffer).unwrap_or_else(|| {
            self.used.push(buffer);
            self.used.len() - 1
        })
    }
}

/// The place of a thing in a list that has each once, by its key.
fn index_of<T>(
    known: &mut HashMap<String, usize>,
    list: &mut Vec<T>,
    key: String,
    thing: T,
) -> usize {
    *known.entry(key).or_insert_with(|| {
        list.push(thing);
        list.len() - 1
    })
}

/// Bytes of a binding: whole words, and never none.
fn bytes(dtype: DType, len: usize) -> u64 {
    (dtype.bytes_of(len.max(1)) as u64).next_multiple_of(4)
}

fn check(call: &Call, launch: &Launch) -> Result<(), Error> {
    let most = kernels::Caps::default().max_workgroups;
    let problem = if launch.bindings.len() > MOST_BINDINGS {
        format!("binds {} tensors at once, and browsers {MOST_BINDINGS}", launch.bindings.len())
    } else if launch.dims.len() * 4 > MOST_UNIFORM_BYTES {
        format!("has {} numbers of sizes, more than browsers take", launch.dims.len())
    } else if launch.workgroups.iter().any(|&side| side > most) {
        format!("needs a grid of {:?}, and browsers have {most} a side", launch.workgroups)
    } else {
        return Ok(());
    };
    Err(Error::Unsupported {
        what: format!("a browser cannot run this model: {} {problem}", call.label),
        instead: "use a smaller model".to_owned(),
    })
}

/// A shader without comments and empty lines.
fn plain(wgsl: &str) -> String {
    // WGSL has no strings that could hold a comment.
    let code = wgsl.lines().map(|line| line.split("//").next().unwrap_or_default().trim_end());
    code.filter(|line| !line.is_empty()).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_left_out() {
        assert_eq!(plain("// a\n\nfn f() { // b\n    x = 1u; }\n"), "fn f() {\n    x = 1u; }\n");
    }
}
