//! What is done to gradients and parameters once the gradients are there: sums, norms, the loss's scale, the update.

use distil_gpu_kernels::StepState;
use distil_gpu_kernels::add_to::AddTo;
use distil_gpu_kernels::grad_norm::{GradNormFinish, GradNormPartial};
use distil_gpu_kernels::loss_scale::{LossScale, UNBOUNDED};
use distil_gpu_kernels::max_norm::MaxNorm;
use distil_gpu_kernels::optimizer::{Factor, Optimizer, Rule};

use super::cases::{Case, spoilt};
use super::kernel::Data;

/// Every update rule, with the decay and rates of a range.
pub fn rules() -> [Rule; 6] {
    let (beta1, beta2, eps) = (0.9, 0.999, 1e-8);
    [
        Rule::Sgd { momentum: 0.0, nesterov: false },
        Rule::Sgd { momentum: 0.9, nesterov: false },
        Rule::Sgd { momentum: 0.5, nesterov: true },
        Rule::Adam { beta1, beta2, eps },
        Rule::AdamW { beta1, beta2, eps },
        Rule::AdamW { beta1: 0.0, beta2: 0.5, eps: 1e-3 },
    ]
}

/// A state for step `step` of an optimizer.
pub fn update_state(rule: Rule, step: u32) -> StepState {
    let betas = match rule {
        Rule::Sgd { .. } => [0.0; 2],
        Rule::Adam { beta1, beta2, .. } | Rule::AdamW { beta1, beta2, .. } => [beta1, beta2],
    };
    let [bias_correction1, bias_correction2] =
        betas.map(|beta| (1.0 - beta.powf(f64::from(step) + 1.0)) as f32);
    let learning_rate = if rule.moments() == 2 { 2e-3 } else { 0.05 };
    StepState { step, learning_rate, bias_correction1, bias_correction2, ..StepState::default() }
}

/// Every rule, early and late, with and without clipping and weight decay.
pub fn optimizer() -> Vec<Case> {
    let mut cases = Vec::new();
    for rule in rules() {
        for factor in [Factor::One, Factor::Clip, Factor::ClipAndUnscale] {
            for (weight_decay, lr_scale, len, step) in [
                (0.0, 1.0, 1, 0),
                (0.01, 0.5, 1003, 4),
                (0.01, 2.0, 1028, 5),
                (0.1, 1.0, 65, 10_000),
            ] {
                let kernel = Optimizer { rule, len, lr_scale, weight_decay, factor };
                cases.push(Case::random(kernel, -1.0, 1.0).at(update_state(rule, step)));
            }
        }
        // A step that is left out.
        let kernel = Optimizer {
            rule,
            len: 100,
            lr_scale: 1.0,
            weight_decay: 0.1,
            factor: Factor::ClipAndUnscale,
        };
        let mut case = Case::random(kernel, -1.0, 1.0).at(update_state(rule, 1));
        case.data.pop();
        case.data.push(Data::Floats(vec![f64::INFINITY, 0.0, 0.1, 0.1]));
        cases.push(case);
    }
    cases
}

/// Finite norms, clipped and not, a doubling, and norms that are none.
pub fn loss_scale() -> Vec<Case> {
    let mut cases = Vec::new();
    for max_norm in [UNBOUNDED, 0.5] {
        for squares in [0.0, 4.0e9, f64::INFINITY, f64::NAN] {
            for steps in [0.0, 1999.0] {
                let kernel = LossScale { max_norm, interval: 2000, betas: [0.9, 0.999] };
                let norm = Data::Floats(vec![squares, 1.0, 0.0, 0.0]);
                let scale = Data::Floats(vec![4096.0, steps, 3.0, 0.25, 0.5]);
                cases.push(Case::new(kernel, vec![norm, scale]));
            }
        }
    }
    cases
}

/// Sums of squares, and the factor made of them.
pub fn grad_norm() -> Vec<Case> {
    let mut cases = Vec::new();
    for len in [1, 255, 10_000, 100_003] {
        cases.push(Case::random(GradNormPartial::new(len), -1.0, 1.0));
    }
    for partials in [1, 64, 1024, 4096, 10_000] {
        for max_norm in [0.5, 1e6] {
            cases.push(Case::random(GradNormFinish { partials, max_norm }, 0.0, 1.0));
        }
    }
    let lost = GradNormFinish { partials: 64, max_norm: 1.0 };
    cases.push(Case::new(lost, vec![spoilt(64), Data::Unwritten]));
    cases
}

/// Lengths around a workgroup's, and a grid that has to be folded.
pub fn add_to() -> Vec<Case> {
    [1, 63, 65, 5000, 4_200_000].map(|len| Case::random(AddTo { len }, -1.0, 1.0)).to_vec()
}

/// Rows within the bound and above it.
pub fn max_norm() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, cols) in [(1, 1), (7, 3), (100, 50), (100, 52), (3, 3000)] {
        // Half of the mean norm of a row, and far above it.
        for bound in [0.3 * (cols as f32).sqrt(), 100.0] {
            cases.push(Case::random(MaxNorm { rows, cols, bound }, -1.0, 1.0));
        }
    }
    cases
}
