//! Runs small plans on every driver of this machine; `tests/run.sh` sees to it that there is one.

use std::sync::Arc;

use distil_gpu_kernels::chain::{Binary, Chain, Stage};
use distil_gpu_kernels::elementwise::Elementwise;

use super::*;
use crate::plan::{BufferSpec, Call, View};
use crate::store::Part;

const LEN: usize = 1000;
const WEIGHTS: StorePart = StorePart { store: 0, part: Part::Parameters, segment: 0 };

fn devices(options: GpuOptions) -> Vec<GpuDevice> {
    let adapters = adapters();
    assert!(!adapters.is_empty(), "no GPU driver: run the tests through tests/run.sh");
    adapters.iter().map(|adapter| GpuDevice::new(adapter, options).unwrap()).collect()
}

fn spec(kind: BufferKind, label: &str, len: usize) -> BufferSpec {
    BufferSpec { kind, dtype: DType::F32, len, row: None, label: label.to_owned() }
}

fn call(views: &[usize], label: &str, stages: Vec<Stage>) -> Call {
    let operands = views.len() - 2;
    Call {
        kernel: Arc::new(Elementwise {
            extent: [1, 1, 1, LEN as u32],
            main_strides: Some([0, 0, 0, 1]),
            chain: Chain { stages, operands: vec![[0, 0, 0, 1]; operands] },
        }),
        views: views
            .iter()
            .map(|&buffer| View { buffer, dtype: DType::F32, offset: 0, len: LEN })
            .collect(),
        label: label.to_owned(),
    }
}

/// y = relu(x · weights − 1), then weights = x, for the next run and for another plan to read.
fn plan() -> Plan {
    let affine = Stage::Affine { scale: 1.0, offset: -1.0 };
    Plan {
        buffers: vec![
            spec(BufferKind::Input("x".to_owned()), "x", LEN),
            spec(BufferKind::Persistent(WEIGHTS), "weights", LEN),
            spec(BufferKind::Slot, "product", LEN),
            spec(BufferKind::Output("y".to_owned()), "y", LEN),
        ],
        calls: vec![
            call(&[0, 1, 2], "product", vec![Stage::Binary(Binary::Mul, 0), affine]),
            call(&[2, 3], "y", vec![Stage::Relu]),
            call(&[0, 1], "weights", vec![]),
        ],
        loss_scale: None,
    }
}

/// z = the weights, doubled.
fn reader() -> Plan {
    Plan {
        buffers: vec![
            spec(BufferKind::Persistent(WEIGHTS), "weights", LEN),
            spec(BufferKind::Output("z".to_owned()), "z", LEN),
        ],
        calls: vec![call(&[0, 1], "z", vec![Stage::Affine { scale: 2.0, offset: 0.0 }])],
        loss_scale: None,
    }
}

fn ramp(scale: f32) -> Vec<f32> {
    (0..LEN).map(|i| (i as f32 - 500.0) * scale).collect()
}

fn loaded(device: &mut GpuDevice, plan: &Plan) -> (BufferId, ProgramId) {
    let weights = device.create_buffer("weights", DType::F32, LEN).unwrap();
    let program = device.load(plan, &|part| (part == WEIGHTS).then_some(weights)).unwrap();
    (weights, program)
}

#[test]
fn runs_plans_that_share_a_store_and_allocates_nothing_after_load() {
    for checked in [false, true] {
        for mut device in devices(GpuOptions { checked, ..GpuOptions::default() }) {
            let (weights, program) = loaded(&mut device, &plan());
            let other = device.load(&reader(), &|_| Some(weights)).unwrap();
            assert_eq!(device.read(weights, 0, LEN).unwrap(), vec![0.0; LEN]);
            device.write(weights, 0, &vec![2.0; LEN]).unwrap();

            let state = StepState::default();
            let mut last = vec![2.0; LEN];
            let loaded = device.stats();
            for step in 1..=5 {
                let x = ramp(step as f32 * 0.01);
                device.run(program, &state, &[("x", HostTensor::F32(&x))]).unwrap();
                device.run(other, &state, &[]).unwrap();
                if step == 1 || step == 5 {
                    let y = x.iter().zip(&last).map(|(x, w)| (x * w - 1.0).max(0.0));
                    let found = device.output(program, "y").unwrap();
                    for (found, y) in found.iter().zip(y) {
                        // A GPU may fuse the product and the sum.
                        assert!((found - y).abs() <= (1.0 + y) * 1e-6, "{found} for {y}");
                    }
                    let doubled: Vec<f32> = x.iter().map(|x| x * 2.0).collect();
                    assert_eq!(device.output(other, "z").unwrap(), doubled);
                }
                last = x;
            }
            assert_eq!(device.read(weights, 64, 10).unwrap(), last[64..74]);
            let stats = device.stats();
            assert_eq!(stats.buffers, loaded.buffers);
            assert_eq!(stats.bind_groups, loaded.bind_groups);
            assert_eq!(stats.pipelines, loaded.pipelines);
            assert_eq!(stats.launches, loaded.launches + 5 * 4);
            // A submission a run, and one for each of the five values read.
            assert_eq!(stats.submits, loaded.submits + 10 + 5);
        }
    }
}

#[test]
fn an_input_not_given_keeps_its_value() {
    for mut device in devices(GpuOptions::default()) {
        let (_, program) = loaded(&mut device, &plan());
        let x = ramp(1.0);
        device.run(program, &StepState::default(), &[("x", HostTensor::F32(&x))]).unwrap();
        // The weights are x now, so y = relu(x² − 1).
        device.run(program, &StepState::default(), &[]).unwrap();
        let y: Vec<f32> = x.iter().map(|x| (x * x - 1.0).max(0.0)).collect();
        assert_eq!(device.output(program, "y").unwrap(), y);
    }
}

#[test]
fn like_kernels_share_a_pipeline() {
    for mut device in devices(GpuOptions::default()) {
        let before = device.stats().pipelines;
        let (weights, _) = loaded(&mut device, &plan());
        assert_eq!(device.stats().pipelines, before + 3);
        device.load(&plan(), &|_| Some(weights)).unwrap();
        assert_eq!(device.stats().pipelines, before + 3);
    }
}

#[test]
fn times_every_call() {
    for mut device in devices(GpuOptions { timestamps: true, ..GpuOptions::default() }) {
        let found = device.timing;
        for timing in [found, Timing::Edges] {
            // A driver that can time inside a pass can time its edges too.
            device.timing = if found == Timing::Off { found } else { timing };
            let (_, program) = loaded(&mut device, &plan());
            let x = ramp(1.0);
            for _ in 0..3 {
                device.run(program, &StepState::default(), &[("x", HostTensor::F32(&x))]).unwrap();
            }
            let timings = device.timings(program).unwrap();
            assert_eq!(timings.is_some(), found != Timing::Off);
            let Some(timings) = timings else { continue };
            let labels: Vec<&str> = timings.iter().map(|(label, _)| label.as_str()).collect();
            assert_eq!(labels, ["product", "y", "weights"]);
            assert!(timings.iter().all(|(_, time)| *time < Duration::from_secs(1)), "{timings:?}");
            assert!(timings.iter().any(|(_, time)| !time.is_zero()), "{timings:?}");
        }
    }
    for mut device in devices(GpuOptions::default()) {
        let (_, program) = loaded(&mut device, &plan());
        assert_eq!(device.timings(program).unwrap(), None);
    }
}

#[test]
fn refuses_inputs_and_outputs_that_the_plan_lacks() {
    for mut device in devices(GpuOptions::default()) {
        let (weights, program) = loaded(&mut device, &plan());
        let (short, integers, x) = ([0.0; 3], [0; LEN], ramp(1.0));
        for (name, values, says) in [
            ("w", HostTensor::F32(&x), "the plan has only x"),
            ("x", HostTensor::F32(&short), "given 3 values of F32, it needs 1000 of F32"),
            ("x", HostTensor::I32(&integers), "given 1000 values of I32"),
        ] {
            let error = device.run(program, &StepState::default(), &[(name, values)]);
            let error = error.unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let error = device.output(program, "loss").unwrap_err().to_string();
        assert!(error.contains("`loss`: the plan has only y"), "{error}");
        device.read(weights, LEN - 1, 2).unwrap_err();
        // The refusals left the device as it was.
        device.run(program, &StepState::default(), &[("x", HostTensor::F32(&x))]).unwrap();

        device.unload(program);
        device.free_buffer(weights);
        device.run(program, &StepState::default(), &[]).unwrap_err();
        device.read(weights, 0, 1).unwrap_err();
    }
}

#[test]
fn refuses_what_its_limits_forbid() {
    for mut device in devices(GpuOptions::default()) {
        let before = device.stats();
        device.limits.buffer_bytes = 2000;
        let error = device.create_buffer("logits", DType::F32, 501).unwrap_err().to_string();
        assert!(error.contains("logits needs 2004 bytes"), "{error}");
        let error = device.load(&plan(), &|_| None).unwrap_err();
        assert!(matches!(error, Error::TooLarge { allowed: 2000, .. }), "{error}");
        // Not even 64 elements can be bound at once.
        device.limits = Limits { buffer_bytes: 1 << 20, binding_bytes: 252 };
        let error = device.load(&plan(), &|_| None).unwrap_err().to_string();
        assert!(error.contains("binding size of 252: use a smaller batch"), "{error}");
        assert_eq!(device.stats(), before);
    }
}

#[test]
fn refuses_a_plan_whose_views_do_not_fit() {
    let break_plan: [fn(&mut Plan); 4] = [
        |plan| plan.calls[0].views[0].len -= 1,
        |plan| plan.calls[0].views[0].offset = 64,
        |plan| plan.buffers[2].dtype = DType::I32,
        |plan| plan.calls[0].views[2] = plan.calls[0].views[0],
    ];
    for mut device in devices(GpuOptions::default()) {
        let weights = device.create_buffer("weights", DType::F32, LEN).unwrap();
        for break_plan in break_plan {
            let mut plan = plan();
            break_plan(&mut plan);
            let error = device.load(&plan, &|_| Some(weights)).unwrap_err();
            assert!(matches!(error, Error::Kernel { kernel: "elementwise", .. }), "{error}");
        }
        let error = device.load(&plan(), &|_| None).unwrap_err().to_string();
        assert!(error.contains("no store has"), "{error}");
    }
}

#[test]
fn a_lost_device_is_an_error_and_no_panic() {
    for mut device in devices(GpuOptions::default()) {
        let (weights, program) = loaded(&mut device, &plan());
        device.run(program, &StepState::default(), &[]).unwrap();
        device.context.device.destroy();
        for _ in 0..3 {
            // The first may still be told nothing; what counts is that reading tells.
            let _ = device.run(program, &StepState::default(), &[]);
        }
        let lost = |error: Error| assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
        lost(device.read(weights, 0, LEN).unwrap_err());
        lost(device.output(program, "y").unwrap_err());
        lost(device.write(weights, 0, &[1.0]).unwrap_err());
        lost(device.run(program, &StepState::default(), &[]).unwrap_err());
        lost(device.load(&plan(), &|_| Some(weights)).unwrap_err());
        lost(device.wait().unwrap_err());
        device.unload(program);
    }
}
