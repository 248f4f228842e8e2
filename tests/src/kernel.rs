//! Runs one kernel, in every way that a device could run it.

use std::sync::Arc;

use distil_gpu_engine::device::{DeviceKind, HostTensor};
use distil_gpu_engine::plan::{BufferKind, BufferSpec, Call, Plan, View};
use distil_gpu_engine::store::{Part, StorePart};
use distil_gpu_kernels::{Access, Args, Caps, Cost, DType, Kernel, Launch, Operand, StepState};

use crate::{TestDevice, assert_close, gpus, oracle, random_in};

/// What a kernel's operand holds before it runs.
#[derive(Clone, Debug)]
pub enum Data {
    /// Floats.
    Floats(Vec<f64>),
    /// Integers.
    Integers(Vec<i32>),
    /// Nothing yet: the kernel must write every element.
    Unwritten,
}

/// Elements behind each operand a kernel writes, which it must leave alone.
const GUARD: usize = 64;
const UNTOUCHED: f64 = -77.0;

/// Runs one kernel as a plan of one call; returns each operand that it writes, in order.
///
/// # Panics
/// When the device refuses, or the kernel writes behind an operand.
pub fn run_kernel(
    device: &mut dyn TestDevice,
    kernel: &Arc<dyn Kernel>,
    state: &StepState,
    data: &[Data],
) -> Vec<Vec<f64>> {
    let operands = kernel.operands();
    assert_eq!(operands.len(), data.len(), "{kernel:?}");
    let (mut buffers, mut views, mut ids, mut inputs) = (vec![], vec![], vec![], vec![]);
    for (index, (operand, data)) in operands.iter().zip(data).enumerate() {
        let len = operand.len;
        let mut spec = BufferSpec {
            kind: BufferKind::Input(operand.name.to_owned()),
            dtype: operand.dtype,
            len,
            label: operand.name.to_owned(),
        };
        let floats = match data {
            Data::Integers(values) => {
                inputs.push((operand.name, HostTensor::I32(values)));
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
            let id = device.create_buffer(operand.name, DType::F32, len + GUARD).unwrap();
            device.set(id, 0, &values);
            ids.push((index, id));
        }
        buffers.push(spec);
        views.push(View { buffer: index, offset: 0, len });
    }
    let call = Call { kernel: kernel.clone(), views, label: kernel.name().to_owned() };
    let plan = Plan { buffers, calls: vec![call] };
    let place = |part: StorePart| ids.iter().find(|(i, _)| *i == part.segment).map(|(_, id)| *id);
    let program = device.load(&plan, &place).unwrap();
    device.run(program, state, &inputs).unwrap();
    let mut written = Vec::new();
    for &(index, id) in &ids {
        let operand = operands[index];
        if operand.access != Access::Read {
            let mut values = device.get(id, 0, operand.len + GUARD);
            let guard = values.split_off(operand.len);
            assert!(guard.iter().all(|&v| v == UNTOUCHED), "{kernel:?} wrote behind {operand:?}");
            written.push(values);
        }
    }
    device.unload(program);
    ids.into_iter().for_each(|(_, id)| device.free_buffer(id));
    written
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

/// The kernel as it is, as a GPU with little else in common would run it, and over a folded grid.
pub fn variants(
    kernel: impl Kernel + Clone + 'static,
    device: &dyn TestDevice,
) -> Vec<(&'static str, Arc<dyn Kernel>)> {
    let kernel: Arc<dyn Kernel> = Arc::new(kernel);
    if device.info().kind == DeviceKind::Cpu {
        return vec![("own", kernel)];
    }
    let own = &device.caps();
    let other = Caps { software: !own.software, ..*own };
    let folded = Caps { max_workgroups: 3, ..*own };
    let forced = |caps: &Caps| {
        let launches = kernel.launches(caps);
        (launches != kernel.launches(own))
            .then(|| Arc::new(Forced { kernel: kernel.clone(), launches }) as Arc<dyn Kernel>)
    };
    let variants = [("other", forced(&other)), ("folded", forced(&folded))];
    let variants = variants.into_iter().filter_map(|(name, forced)| Some((name, forced?)));
    [("own", kernel.clone())].into_iter().chain(variants).collect()
}

/// Holds every variant to the oracle on every device; `limits` has one NMSE for each written operand.
pub fn check(
    devices: &mut [Box<dyn TestDevice>],
    kernel: &(impl Kernel + Clone + 'static),
    state: &StepState,
    data: &[Data],
    limits: &[f64],
) {
    let alone: Arc<dyn Kernel> = Arc::new(kernel.clone());
    let expected = run_kernel(&mut oracle(), &alone, state, data);
    let names: Vec<&str> =
        kernel.operands().iter().filter(|o| o.access != Access::Read).map(|o| o.name).collect();
    for device in devices {
        for (variant, kernel) in variants(kernel.clone(), &**device) {
            let found = run_kernel(&mut **device, &kernel, state, data);
            for (((found, expected), limit), name) in
                found.iter().zip(&expected).zip(limits).zip(&names)
            {
                let what = format!("{} of {variant} {alone:?} on {}", name, device.info().name);
                assert_close(&what, found, expected, *limit);
            }
        }
    }
}

/// Random values for every operand that a kernel reads.
pub fn filled(kernel: &dyn Kernel, low: f64, high: f64) -> Vec<Data> {
    let fill = |(salt, operand): (u32, &Operand)| match operand.access {
        Access::Write => Data::Unwritten,
        _ => Data::Floats(random_in(low, high, operand.len, salt)),
    };
    (0..).zip(&kernel.operands()).map(fill).collect()
}

/// Holds the shaders without checks, as in use, to the bits of those with checks.
///
/// # Panics
/// When a bit differs.
pub fn assert_checked_alike(samples: &[(Arc<dyn Kernel>, Vec<Data>)], state: &StepState) {
    for (mut trusted, mut checked) in gpus(false).into_iter().zip(gpus(true)) {
        for (kernel, data) in samples {
            let bits = [&mut trusted, &mut checked].map(|gpu| {
                let written = run_kernel(gpu, kernel, state, data).concat();
                written.into_iter().map(f64::to_bits).collect::<Vec<u64>>()
            });
            assert!(bits[0] == bits[1], "{kernel:?}");
        }
    }
}
