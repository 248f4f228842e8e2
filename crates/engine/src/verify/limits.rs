//! How near the f64 oracle a kernel must come.
//!
//! A limit is an NMSE. f32 has a unit roundoff of 6e-8, whose square is 3.6e-15: what is above that in a
//! limit comes from the reason it gives. One wrong element in a thousand is an NMSE of 1e-3.

use distil_gpu_kernels::{DType, Kernel, Operand};

/// One rounding an operation; a driver's exp, log and tanh may be off by some units in the last place.
const ELEMENTWISE: f64 = 1e-12;
/// Sums of up to 65 products: an error of about √k roundoffs.
const MATMUL: f64 = 3e-13;
/// Of longer sums, for each product: a running sum loses half a roundoff a step.
const MATMUL_A_PRODUCT: f64 = 4e-15;
/// Sums of up to 200,000 numbers in f32, in a tree.
const REDUCE: f64 = 3e-13;
/// exp, and sums of up to 20,000 numbers in f32.
const SOFTMAX: f64 = 1e-12;
/// Copies, and for each row that may be summed onto one of the table's: half a roundoff a step.
const GATHER_A_ROW: f64 = 4e-15;
/// Sums over rows of up to 5,000 numbers, a root, and a dozen roundings; of a short row, dx is a small
/// difference.
const LAYER_NORM: f64 = 1e-12;
/// exp of scores, each a sum of up to 128 products, whose error is the weight's relative one.
const ATTENTION: f64 = 5e-12;
/// Sums of up to 100 numbers.
const RUNS: f64 = 3e-13;
/// Two products and their sum, which may cancel in some elements, not in their mean square.
const ROTARY: f64 = 1e-13;
/// An activation, whose exp may be off by some units in the last place, and two products.
const GLU: f64 = 1e-12;
/// Nothing is computed.
const COPY: f64 = 0.0;
/// A few roundings a step.
const OPTIMIZER: f64 = 3e-13;
/// A sum of squares, a root and a division.
const NORM: f64 = 1e-13;
/// The soft term is T² (400 for T = 20) times a small difference of logarithms.
const LOSS: f64 = 2e-9;
/// q - p cancels where the student is close to the teacher.
const LOSS_GRADIENT: f64 = 1e-10;
/// Sums over rows of up to 5,000 numbers, a root and a division; where student and teacher are close, a twentieth is
/// left of what was rounded.
const FEATURES: f64 = 1e-10;
/// As of logits: scores are sums of up to 128 products, and q - p and its logarithm are small differences.
const RELATIONS: f64 = 1e-10;

/// Results rounded to f16: a driver may round towards zero, which puts each off by up to 2⁻¹⁰ of itself.
const ROUNDED_TO_F16: f64 = 4e-7;

/// The largest NMSE of what a kernel writes to one of its operands.
pub fn limit(kernel: &dyn Kernel, operand: &Operand) -> f64 {
    match operand.dtype {
        DType::F16 => ROUNDED_TO_F16.max(limit_in_f32(kernel, operand.name)),
        _ => limit_in_f32(kernel, operand.name),
    }
}

fn limit_in_f32(kernel: &dyn Kernel, operand: &str) -> f64 {
    match kernel.name() {
        "matmul" => {
            let out = kernel.operands().last().map_or(1, |out| out.len.max(1));
            let k = kernel.cost().flops as f64 / (2 * out) as f64;
            MATMUL.max(MATMUL_A_PRODUCT * k)
        }
        "reduce" => REDUCE,
        "softmax" => SOFTMAX,
        "gather" => {
            let ids = kernel.operands().iter().find(|o| o.name == "ids").map_or(1, |ids| ids.len);
            GATHER_A_ROW * ids as f64
        }
        "layer_norm" => LAYER_NORM,
        "attention" => ATTENTION,
        "relative_gather" => RUNS,
        "rotary" => ROTARY,
        "glu" => GLU,
        "columns" => COPY,
        "optimizer" => OPTIMIZER,
        "grad_norm" | "loss_scale" | "max_norm" => NORM,
        "distill_loss" if operand == "z_s" => LOSS_GRADIENT,
        "distill_loss" => LOSS,
        "feature_loss" => FEATURES,
        "relation_loss" => RELATIONS,
        _ => ELEMENTWISE,
    }
}
