//! The soft losses at every temperature that a recipe may have, held to references of 40 digits
//! (`tools/make_temperature_fixture.py`): the oracle in f64, every driver and the CPU path in f32.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use distil_gpu_engine::device::Device;
use distil_gpu_kernels::distill_loss::{DistillLoss, IGNORED, TERMS};
use distil_gpu_kernels::pointwise_loss::{PointwiseKind, PointwiseLoss};
use distil_gpu_kernels::{Divergence, Kernel, StepState};
use distil_gpu_tests::{Data, devices, is_slow, oracle, run_kernel, variants};
use serde_json::Value;

/// One row of the reference.
struct Case {
    classes: usize,
    /// Of the teacher's logits, and of the student's differences from them.
    spreads: [f64; 2],
    temperature: f32,
    divergence: Divergence,
    soft: f64,
    /// Of the first classes.
    gradient: Vec<f64>,
    /// The largest part of the whole gradient.
    largest: f64,
}

/// The reference writes reverse KL as a beta of 0.
fn divergence_of(beta: f64) -> Divergence {
    if beta == 0.0 { Divergence::ReverseKl } else { Divergence::Jsd { beta: beta as f32 } }
}

/// Divergences that the reference writes by name.
fn named(name: &str, number: f64) -> Divergence {
    let skew = number as f32;
    match name {
        "skew-kl" => Divergence::SkewKl { skew },
        "skew-reverse-kl" => Divergence::SkewReverseKl { skew },
        "total-variation" => Divergence::TotalVariation,
        _ => panic!("{name}"),
    }
}

fn cases() -> Vec<Case> {
    let files = [
        include_str!("../fixtures/temperatures.json"),
        include_str!("../fixtures/divergences.json"),
        include_str!("../fixtures/bounded_divergences.json"),
    ];
    let cases = files.map(|file| serde_json::from_str::<Vec<Value>>(file).unwrap()).concat();
    let case = |case: &Value| {
        let number = |key: &str| case[key].as_f64().unwrap();
        Case {
            classes: number("classes") as usize,
            spreads: [number("spread"), number("gap")],
            temperature: number("temperature") as f32,
            divergence: match case["divergence"].as_str() {
                Some(name) => named(name, number("number")),
                None => case["beta"].as_f64().map_or(Divergence::ForwardKl, divergence_of),
            },
            soft: number("soft"),
            gradient: case["gradient"]
                .as_array()
                .unwrap()
                .iter()
                .map(|g| g.as_f64().unwrap())
                .collect(),
            largest: number("largest"),
        }
    };
    cases.iter().map(case).collect()
}

impl Case {
    /// Logits of student and teacher, as the tool makes them.
    fn logits(&self) -> [Vec<f64>; 2] {
        let [spread, gap] = self.spreads;
        let part = |scale: f64, place: usize, period: usize| {
            scale * (place as f64 % period as f64 - (period / 2) as f64) / 512.0
        };
        let teacher = |j: usize| part(spread, j * 7919 + 13, 1009);
        let student = |j: usize| f64::from((teacher(j) + part(gap, j * 104_729 + 71, 997)) as f32);
        [(0..self.classes).map(student).collect(), (0..self.classes).map(teacher).collect()]
    }

    /// How far the loss and its gradient are from the reference: shares of the loss and of the gradient's largest part.
    /// Up to T = `coarse_to` what a type of this roundoff cannot tell from 0 is left out, which in f32 is where the
    /// denominators' ratio is not made better: of the loss the roundoff's square, times T², of the gradient some roundoffs,
    /// times T and the larger of the class's probabilities. So is everywhere what is below the smallest number.
    fn errors(
        &self,
        device: &mut dyn Device,
        kernel: &Arc<dyn Kernel>,
        [roundoff, smallest, coarse_to]: [f64; 3],
    ) -> (f64, f64) {
        let [student, teacher] = self.logits();
        let data = [
            Data::Floats(student.clone()),
            Data::Floats(teacher.clone()),
            Data::Integers(vec![IGNORED]),
            Data::Unwritten,
            Data::Unwritten,
        ];
        let state = StepState {
            temperature: self.temperature,
            alpha: 1.0,
            soft_scale: 1.0,
            ..StepState::default()
        };
        let written = run_kernel(device, kernel, &state, &data).unwrap();
        let t = f64::from(self.temperature);
        let roundoff = if t > coarse_to { 0.0 } else { roundoff };
        let beyond = |found: f64, wanted: f64, floor: f64, whole: f64| {
            let error = (found - wanted).abs();
            if error <= floor + smallest { 0.0 } else { error / whole }
        };
        let soft = beyond(written[2][0], self.soft, (t * roundoff).powi(2), self.soft);
        let [q, p] = [student, teacher].map(|row| softmax(&row, t));
        let parts = self.gradient.iter().enumerate().map(|(j, &wanted)| {
            beyond(written[0][j], wanted, 4.0 * t * roundoff * p[j].max(q[j]), self.largest)
        });
        (soft, parts.fold(0.0, f64::max))
    }

    fn kernel(&self) -> DistillLoss {
        DistillLoss { divergence: self.divergence, ..DistillLoss::new(1, self.classes) }
    }
}

fn softmax(row: &[f64], temperature: f64) -> Vec<f64> {
    let top = row.iter().copied().fold(f64::MIN, f64::max);
    let powers = row.iter().map(|z| ((z - top) / temperature).exp()).collect::<Vec<_>>();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

#[test]
fn the_oracle_is_right_to_nine_digits() {
    let mut worst = (0.0, 0.0);
    for case in cases() {
        let kernel: Arc<dyn Kernel> = Arc::new(case.kernel());
        let (soft, gradient) = case.errors(&mut oracle(), &kernel, [1e-15, 1e-300, f64::INFINITY]);
        let Case { classes, spreads, temperature, divergence, .. } = case;
        let what = format!("{divergence:?} of {classes} classes, {spreads:?}, T = {temperature}");
        assert!(soft <= 1e-9 && gradient <= 1e-9, "{what}: {soft:e}, {gradient:e}");
        worst = (soft.max(worst.0), gradient.max(worst.1));
    }
    println!("{worst:?}");
}

#[test]
fn every_device_is_right_at_every_temperature() {
    for device in &mut devices() {
        let name = device.info().name.clone();
        let (mut worst, mut wrong) = ((0.0_f64, 0.0_f64), Vec::new());
        for case in cases() {
            let Case { classes, spreads, temperature, divergence, .. } = case;
            let kernel: Arc<dyn Kernel> = Arc::new(case.kernel());
            let mut all = variants(&kernel, &**device);
            // Long rows by the default alone where each takes long.
            all.truncate(if is_slow(&**device) && classes > 1000 { 1 } else { all.len() });
            for (variant, kernel) in all {
                let (soft, gradient) = case.errors(&mut **device, &kernel, [1.2e-7, 1e-30, 20.0]);
                if soft > 1e-3 || gradient > 1e-3 || soft.is_nan() || gradient.is_nan() {
                    wrong.push(format!(
                        "{divergence:?} of {classes} classes, {spreads:?}, T = {temperature}, {variant}: {soft:e}, {gradient:e}"
                    ));
                }
                worst = (soft.max(worst.0), gradient.max(worst.1));
            }
        }
        println!("{worst:?} on {name}");
        assert!(wrong.is_empty(), "on {name}:\n{}", wrong.join("\n"));
    }
}

/// One case of the reference between two answers of yes or no: the logits of student and teacher, the temperature, and of each
/// divergence T² times it and its derivative by the student's logit.
struct BinaryCase {
    logits: [f64; 2],
    temperature: f32,
    wanted: Vec<(Divergence, [f64; 2])>,
}

fn binary_cases() -> Vec<BinaryCase> {
    let file = include_str!("../fixtures/binary_divergences.json");
    let cases: Vec<Value> = serde_json::from_str(file).unwrap();
    let case = |case: &Value| {
        let pair = |name: &str| [0, 1].map(|i| case[name][i].as_f64().unwrap());
        let betas = ["0.0", "0.125", "0.5", "0.9375"];
        let names = [("skew-kl", 0.1), ("skew-reverse-kl", 0.1), ("total-variation", 0.0)];
        let others = betas.map(|beta| (divergence_of(beta.parse().unwrap()), pair(beta)));
        BinaryCase {
            logits: ["student", "teacher"].map(|key| case[key].as_f64().unwrap()),
            temperature: case["temperature"].as_f64().unwrap() as f32,
            wanted: [(Divergence::ForwardKl, pair("kl"))]
                .into_iter()
                .chain(others)
                .chain(names.map(|(name, number)| (named(name, number), pair(name))))
                .collect(),
        }
    };
    cases.iter().map(case).collect()
}

/// The largest relative error of any loss and gradient between two answers, on a device; what is below `smallest` counts as 0.
fn binary_errors(device: &mut dyn Device, smallest: f64, limit: f64) -> f64 {
    let (mut worst, mut wrong) = (0.0_f64, Vec::new());
    for BinaryCase { logits, temperature, wanted } in binary_cases() {
        for (divergence, [soft, slope]) in wanted {
            let kind = PointwiseKind::Logistic(divergence);
            let kernel: Arc<dyn Kernel> = Arc::new(PointwiseLoss {
                rows: 1,
                outputs: 1,
                kind,
                teacher: true,
                gradient: true,
            });
            let [z_s, z_t] = logits.map(|z| Data::Floats(vec![z]));
            let none = Data::Floats(vec![f64::NAN]);
            let kinds = Data::Integers(vec![0]);
            let data = [z_s, z_t, none, kinds, Data::Unwritten, Data::Unwritten];
            let alpha = 1.0;
            let state = StepState { temperature, alpha, ..StepState::default() };
            for (variant, kernel) in variants(&kernel, device) {
                let written = run_kernel(device, &kernel, &state, &data).unwrap();
                for (what, found, wanted) in
                    [("soft", written[2][0], soft), ("gradient", written[0][0], slope)]
                {
                    let error = (found - wanted).abs();
                    let error = if error <= smallest { 0.0 } else { error / wanted.abs() };
                    if error > limit || error.is_nan() {
                        wrong.push(format!(
                            "{what} of {divergence:?}, {logits:?}, T = {temperature}, {variant}: {found:e}, not {wanted:e}"
                        ));
                    }
                    worst = worst.max(error);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "on {}:\n{}", device.info().name, wrong.join("\n"));
    worst
}

#[test]
fn two_answers_are_right_at_every_temperature() {
    println!("{} in f64", binary_errors(&mut oracle(), 1e-300, 1e-9));
    for device in &mut devices() {
        let worst = binary_errors(&mut **device, 1e-30, 1e-3);
        println!("{worst} on {}", device.info().name);
    }
}

/// A column that no model gives any probability, as logits of -∞ say, counts in nothing.
#[test]
fn impossible_classes_count_in_nothing() {
    let classes = 40;
    let value = |place: usize, salt: usize| ((place * 31 + salt) % 17) as f64 / 4.0;
    let logits = |salt: usize, impossible: &[usize]| {
        let mut row: Vec<f64> = (0..classes).map(|place| value(place, salt)).collect();
        impossible.iter().for_each(|&place| row[place] = f64::NEG_INFINITY);
        row
    };
    let run = |device: &mut dyn Device, [student, teacher]: [Vec<f64>; 2], setting| {
        let (temperature, divergence) = setting;
        let kernel = DistillLoss { divergence, ..DistillLoss::new(1, student.len()) };
        let data = [
            Data::Floats(student),
            Data::Floats(teacher),
            Data::Integers(vec![IGNORED]),
            Data::Unwritten,
            Data::Unwritten,
        ];
        let state = StepState { temperature, alpha: 1.0, soft_scale: 1.0, ..StepState::default() };
        let written = run_kernel(device, &(Arc::new(kernel) as _), &state, &data).unwrap();
        assert_eq!(written[2].len(), TERMS);
        (written[2][0], written[0].clone())
    };
    for device in &mut devices() {
        let device = &mut **device;
        let temperatures = [0.5, 4.0, 100.0].into_iter();
        for setting in
            temperatures.flat_map(|t| Divergence::each().map(move |divergence| (t, divergence)))
        {
            let (temperature, divergence) = setting;
            // Both exclude one class; the teacher excludes another, which makes reverse KL infinite.
            let theirs = if divergence == Divergence::ReverseKl { &[7][..] } else { &[7, 11] };
            let (student, teacher) = (logits(3, &[7]), logits(8, theirs));
            let without = |row: &[f64]| [&row[..7], &row[8..]].concat();
            let (soft, gradient) = run(device, [student.clone(), teacher.clone()], setting);
            let (wanted, shorter) =
                run(&mut oracle(), [without(&student), without(&teacher)], setting);
            let name = &device.info().name;
            assert!(
                (soft / wanted - 1.0).abs() < 1e-4,
                "{divergence:?}, T = {temperature} on {name}: {soft}, not {wanted}"
            );
            assert_eq!(gradient[7], 0.0);
            let worst = without(&gradient)
                .iter()
                .zip(&shorter)
                .fold(0.0_f64, |worst, (found, wanted)| worst.max((found - wanted).abs()));
            assert!(
                worst < 1e-5 * f64::from(temperature),
                "{divergence:?}, T = {temperature} on {name}: {worst}"
            );
        }
    }
}
