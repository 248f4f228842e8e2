//! Gradients against slopes, terms against their definitions.

use super::*;
use crate::Arg;

const CLASSES: usize = 7;
const LABELS: [i32; 4] = [3, IGNORED, PADDING, 0];

fn logits(salt: usize) -> Vec<f64> {
    (0..4 * CLASSES).map(|i| ((i * 31 + salt * 17) % 23) as f64 / 4.0 - 2.5).collect()
}

fn state() -> StepState {
    StepState {
        temperature: 3.0,
        alpha: 0.25,
        soft_scale: 1.0 / 3.0,
        hard_scale: 0.5,
        ..StepState::default()
    }
}

const WEIGHTS: [f64; 4] = [0.25, 8.0, 2.0, 3.0];

fn loss(z_s: &[f64], z_t: Option<&[f64]>, gradient: bool) -> (f64, Vec<f64>, Vec<f64>) {
    weighted_loss(z_s, z_t, gradient, None)
}

fn weighted_loss(
    z_s: &[f64],
    z_t: Option<&[f64]>,
    gradient: bool,
    weights: Option<&[f64; 4]>,
) -> (f64, Vec<f64>, Vec<f64>) {
    let kernel = DistillLoss {
        teacher_stride: z_t.map(|_| CLASSES),
        gradient,
        weighted: weights.is_some(),
        ..DistillLoss::new(4, CLASSES)
    };
    run(&kernel, z_s, z_t, weights)
}

fn run(
    kernel: &DistillLoss,
    z_s: &[f64],
    z_t: Option<&[f64]>,
    weights: Option<&[f64; 4]>,
) -> (f64, Vec<f64>, Vec<f64>) {
    run_at(kernel, z_s, z_t, weights, &state())
}

fn run_at(
    kernel: &DistillLoss,
    z_s: &[f64],
    z_t: Option<&[f64]>,
    weights: Option<&[f64; 4]>,
    state: &StepState,
) -> (f64, Vec<f64>, Vec<f64>) {
    let mut z_s = z_s.to_vec();
    let (mut row_loss, mut terms) = (vec![0.0; 4], vec![0.0; 4 * TERMS]);
    let mut args = vec![Arg::Write(&mut z_s)];
    args.extend(z_t.map(Arg::Read));
    args.extend([Arg::ReadI32(&LABELS), Arg::Write(&mut row_loss), Arg::Write(&mut terms)]);
    args.extend(weights.map(|weights| Arg::Read(weights)));
    kernel.run_f64(Args::new(args), state);
    (row_loss.iter().sum(), z_s, terms)
}

#[test]
fn gradient_is_the_loss_s_slope() {
    let (z_s, z_t) = (logits(1), logits(2));
    let settings = [(Some(&z_t[..]), None), (None, None)];
    let weighted = settings.map(|(teacher, _)| (teacher, Some(&WEIGHTS)));
    for (teacher, weights) in settings.into_iter().chain(weighted) {
        let loss = |z: &[f64], gradient| weighted_loss(z, teacher, gradient, weights);
        let (_, gradient, _) = loss(&z_s, true);
        for i in 0..z_s.len() {
            let mut moved = z_s.clone();
            moved[i] += 1e-5;
            let above = loss(&moved, false).0;
            moved[i] -= 2e-5;
            let below = loss(&moved, false).0;
            let slope = (above - below) / 2e-5;
            assert!((gradient[i] - slope).abs() < 1e-9, "{i}: {} {slope}", gradient[i]);
        }
    }
}

fn of_divergence(divergence: Divergence, z_s: &[f64], gradient: bool) -> (f64, Vec<f64>, Vec<f64>) {
    let kernel = DistillLoss { divergence, gradient, ..DistillLoss::new(4, CLASSES) };
    run(&kernel, z_s, Some(&logits(2)), None)
}

#[test]
fn gradient_is_the_slope_of_every_divergence() {
    let z_s = logits(1);
    for divergence in Divergence::each() {
        let (_, gradient, _) = of_divergence(divergence, &z_s, true);
        for i in 0..z_s.len() {
            let moved = |step: f64| {
                let mut moved = z_s.clone();
                moved[i] += step;
                of_divergence(divergence, &moved, false).0
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!(
                (gradient[i] - slope).abs() < 1e-9,
                "{divergence:?} {i}: {} {slope}",
                gradient[i]
            );
        }
    }
}

/// Times T², of distributions by their definitions.
#[test]
fn divergences_are_as_defined() {
    let temperature = f64::from(state().temperature);
    let softmax = |row: &[f64]| -> Vec<f64> {
        let powers: Vec<f64> = row.iter().map(|z| (z / temperature).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.iter().map(|power| power / sum).collect()
    };
    let mean = |a: &[f64], b: &[f64], share: f32| -> Vec<f64> {
        let share = f64::from(share);
        a.iter().zip(b).map(|(a, b)| share * a + (1.0 - share) * b).collect()
    };
    let kl = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>();
    let (z_s, z_t) = (logits(1), logits(2));
    for divergence in Divergence::each() {
        let (_, _, terms) = of_divergence(divergence, &z_s, true);
        for (row, terms) in terms.chunks(TERMS).enumerate().filter(|(_, terms)| terms[4] > 0.0) {
            let [q, p] = [&z_s, &z_t].map(|z| softmax(&z[row * CLASSES..][..CLASSES]));
            let wanted = match divergence {
                Divergence::ForwardKl | Divergence::Taid { .. } => kl(&p, &q),
                Divergence::ReverseKl => kl(&q, &p),
                Divergence::Jsd { beta } => {
                    let (m, beta) = (mean(&p, &q, beta), f64::from(beta));
                    beta * kl(&p, &m) + (1.0 - beta) * kl(&q, &m)
                }
                Divergence::SkewKl { skew } => kl(&p, &mean(&p, &q, skew)),
                Divergence::SkewReverseKl { skew } => kl(&q, &mean(&q, &p, skew)),
                Divergence::TotalVariation => {
                    p.iter().zip(&q).map(|(p, q)| (p - q).abs() / 2.0).sum()
                }
                Divergence::DecoupledKl { target, others } => {
                    let label = usize::try_from(LABELS[row]).ok();
                    decoupled(&p, &q, label, [target, others])
                }
            };
            let wanted = temperature * temperature * wanted;
            assert!((terms[0] / wanted - 1.0).abs() < 1e-12, "{divergence:?}: {terms:?}, {wanted}");
        }
    }
}

/// α KL(p_y ‖ q_y) + β KL(p̂ ‖ q̂) of two distributions.
fn decoupled(p: &[f64], q: &[f64], label: Option<usize>, weights: [f32; 2]) -> f64 {
    let [target, others] = weights.map(f64::from);
    let of_label = |z: &[f64]| label.map_or(0.0, |label| z[label]);
    let (p_y, q_y) = (of_label(p), of_label(q));
    let part = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    let rest = |i: &usize| Some(*i) != label;
    let among = (0..p.len()).filter(rest).map(|i| part(p[i] / (1.0 - p_y), q[i] / (1.0 - q_y)));
    let among: f64 = among.sum();
    target * (part(p_y, q_y) + part(1.0 - p_y, 1.0 - q_y)) + others * among
}

/// KL is the sum with the weights 1 and 1 - p_y.
#[test]
fn decoupled_kl_with_the_teacher_s_weights_is_kl() {
    let (z_s, z_t) = (logits(1), logits(2));
    let temperature = f64::from(state().temperature);
    let (_, _, whole) = of_divergence(Divergence::ForwardKl, &z_s, false);
    for row in [0, 3] {
        let powers: Vec<f64> =
            z_t[row * CLASSES..][..CLASSES].iter().map(|z| (z / temperature).exp()).collect();
        let sure = powers[LABELS[row] as usize] / powers.iter().sum::<f64>();
        let of = |target, others| {
            let divergence = Divergence::DecoupledKl { target, others };
            of_divergence(divergence, &z_s, false).2[row * TERMS]
        };
        let found = of(1.0, 0.0) + (1.0 - sure) * of(0.0, 1.0);
        assert!((found / whole[row * TERMS] - 1.0).abs() < 1e-12, "{row}: {found}");
    }
}

fn standardised(
    divergence: Divergence,
    z: [&[f64]; 2],
    gradient: bool,
) -> (f64, Vec<f64>, Vec<f64>) {
    let loss = DistillLoss::new(4, CLASSES);
    let kernel = DistillLoss { standardise: true, divergence, gradient, smoothing: 0.25, ..loss };
    run(&kernel, z[0], Some(z[1]), Some(&WEIGHTS))
}

/// Each row less its mean, over its standard deviation and 1e-7.
fn standard(z: &[f64]) -> Vec<f64> {
    let each = z.chunks(CLASSES).flat_map(|row| {
        let mean = row.iter().sum::<f64>() / CLASSES as f64;
        let squares: f64 = row.iter().map(|z| (z - mean) * (z - mean)).sum();
        let deviation = (squares / (CLASSES as f64 - 1.0)).sqrt();
        row.iter().map(move |z| (z - mean) / (deviation + f64::from(1e-7_f32)))
    });
    each.collect()
}

#[test]
fn standardised_logits_have_the_soft_term_of_their_scores() {
    let (z_s, z_t) = (logits(1), logits(2));
    for divergence in Divergence::each() {
        let (_, gradient, terms) = standardised(divergence, [&z_s, &z_t], true);
        let kernel = DistillLoss { divergence, ..DistillLoss::new(4, CLASSES) };
        let (_, _, plain) = run(&kernel, &standard(&z_s), Some(&standard(&z_t)), None);
        let (_, _, whole) = loss(&z_s, Some(&z_t), false);
        for (found, wanted) in terms.chunks(TERMS).zip(plain.chunks(TERMS)) {
            assert!((found[0] - wanted[0]).abs() < 1e-12, "{divergence:?}: {found:?} {wanted:?}");
        }
        for (found, wanted) in terms.chunks(TERMS).zip(whole.chunks(TERMS)) {
            assert_eq!(
                found[1], wanted[1],
                "cross-entropy is that of the logits, with their labels alone"
            );
        }
        for i in 0..z_s.len() {
            let moved = |step: f64| {
                let mut moved = z_s.clone();
                moved[i] += step;
                standardised(divergence, [&moved, &z_t], false).0
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            let off = (gradient[i] - slope).abs();
            assert!(off < 1e-8, "{divergence:?} {i}: {} {slope}", gradient[i]);
        }
    }
}

#[test]
fn a_row_of_equal_logits_has_no_standardised_slope() {
    let flat = vec![1.5; 4 * CLASSES];
    let kernel = DistillLoss { standardise: true, ..DistillLoss::new(4, CLASSES) };
    let alone = StepState { alpha: 1.0, ..state() };
    let (loss, gradient, _) = run_at(&kernel, &flat, Some(&logits(2)), None, &alone);
    assert!(loss > 0.0 && gradient.iter().all(|&slope| slope == 0.0));
    let (loss, gradient, _) = run_at(&kernel, &logits(1), Some(&flat), None, &alone);
    assert!(loss > 0.0 && gradient.iter().any(|&slope| slope != 0.0));
}

/// PyTorch's `CrossEntropyLoss(label_smoothing=0.3)`, with a weight for each row.
#[test]
fn smoothed_labels_have_a_share_of_every_class() {
    let z = logits(1);
    let kernel = DistillLoss {
        smoothing: 0.3,
        teacher_stride: None,
        weighted: true,
        ..DistillLoss::new(4, CLASSES)
    };
    let loss = |z: &[f64], gradient| {
        run(&DistillLoss { gradient, ..kernel.clone() }, z, None, Some(&WEIGHTS))
    };
    let share = f64::from(0.3_f32);
    let wanted: f64 = [0, 3]
        .map(|row: usize| {
            let row_of = &z[row * CLASSES..][..CLASSES];
            let sum = row_of.iter().map(|z| z.exp()).sum::<f64>().ln();
            let even = row_of.iter().map(|z| sum - z).sum::<f64>() / CLASSES as f64;
            let own = sum - row_of[LABELS[row] as usize];
            WEIGHTS[row] * ((1.0 - share) * own + share * even) / 2.0
        })
        .iter()
        .sum();
    let (found, gradient, terms) = loss(&z, true);
    assert!((found - wanted).abs() < 1e-13, "{found}, not {wanted}");
    let (_, _, plain) = weighted_loss(&z, None, false, Some(&WEIGHTS));
    assert_eq!(terms, plain, "what is reported is cross-entropy with the labels");
    for i in 0..z.len() {
        let moved = |step: f64| {
            let mut moved = z.clone();
            moved[i] += step;
            loss(&moved, false).0
        };
        let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        assert!((gradient[i] - slope).abs() < 1e-9, "{i}: {} {slope}", gradient[i]);
    }
}

/// As forward KL from a teacher that has the target's logits.
#[test]
fn a_target_between_both_models_is_held_fixed() {
    let (z_s, z_t, blend) = (logits(1), logits(2), 0.375);
    let run = |divergence, z_t: &[f64], blend| {
        let kernel = DistillLoss { divergence, ..DistillLoss::new(4, CLASSES) };
        let state = StepState { blend, ..state() };
        run_at(&kernel, &z_s, Some(z_t), None, &state)
    };
    let target: Vec<f64> =
        z_s.iter().zip(&z_t).map(|(s, t)| s + f64::from(blend) * (t - s)).collect();
    let found = run(Divergence::Taid { start: 0.0 }, &z_t, blend);
    assert_eq!(found, run(Divergence::ForwardKl, &target, 1.0));
    assert_ne!(found, run(Divergence::ForwardKl, &z_t, 1.0));
}

#[test]
fn rows_count_where_they_should() {
    let (_, gradient, terms) = loss(&logits(1), Some(&logits(2)), true);
    let counts: Vec<&[f64]> = terms.chunks(TERMS).map(|row| &row[4..]).collect();
    assert_eq!(counts, [[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]);
    assert!(gradient[2 * CLASSES..3 * CLASSES].iter().all(|&g| g == 0.0));
}

/// PyTorch's `CrossEntropyLoss(weight=w)`: -Σ w_y ln r_y / Σ w_y over the rows that have a label.
#[test]
fn weights_multiply_the_hard_term_of_their_rows() {
    let z = logits(1);
    let entropy = |row: usize| {
        let row_of = &z[row * CLASSES..][..CLASSES];
        let sum: f64 = row_of.iter().map(|z| z.exp()).sum();
        sum.ln() - row_of[LABELS[row] as usize]
    };
    // hard_scale is 1 / 2, so that the row losses sum to the mean over the two rows times their weights.
    let wanted = (WEIGHTS[0] * entropy(0) + WEIGHTS[3] * entropy(3)) / 2.0;
    let (found, _, terms) = weighted_loss(&z, None, false, Some(&WEIGHTS));
    assert!((found - wanted).abs() < 1e-14, "{found}, not {wanted}");
    let (_, _, plain) = loss(&z, None, false);
    assert_eq!(terms, plain, "what is reported counts each row once");
    // The soft term has no weights.
    let teacher = logits(2);
    let parts = |weights| weighted_loss(&z, Some(&teacher), false, weights).0;
    let hard = 0.75 * wanted;
    let plain = 0.75 * (entropy(0) + entropy(3)) / 2.0;
    assert!((parts(Some(&WEIGHTS)) - hard - (parts(None) - plain)).abs() < 1e-14);
}

#[test]
fn the_same_logits_have_no_soft_loss() {
    let z = logits(1);
    let (_, _, terms) = loss(&z, Some(&z), false);
    assert!(terms.chunks(TERMS).all(|row| row[0].abs() < 1e-14));
    assert_eq!(terms[3], 1.0);
}
