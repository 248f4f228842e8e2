//! Every kernel, a row each: its cases, and how near the f64 oracle it must come.
//!
//! A limit is an NMSE. f32 has a unit roundoff of 6e-8, whose square is 3.6e-15: what is above that in a
//! limit comes from the reason beside it. One wrong element in a thousand is an NMSE of 1e-3.

use distil_gpu_kernels::{Access, Caps, DType, Kernel, Operand};

use super::attention_cases::attention;
use super::block_cases::in_blocks;
use super::cases::{Case, elementwise, gather, layer_norm, matmul, reduce, roof, softmax};
use super::f16_cases::{cooperative, halved, stored};
use super::feature_cases::{feature_loss, relation_loss};
use super::kernel::variants;
use super::layer_cases::{columns, glu, relative_gather, rotary, sample, scatter};
use super::loss_cases::{distill_loss, pointwise_loss};
use super::numbers::{nmse, rounded_to_f16};
use super::part_cases::parts;
use super::update_cases::{add_to, grad_norm, loss_scale, max_norm, optimizer};
use super::vision_cases::{batch_norm, conv, depthwise, pool};
use super::{Distance, Variants};
use crate::device::Device;
use crate::error::Error;

/// How a kernel is verified.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    /// The kernel's name.
    pub kernel: &'static str,
    /// What it is run on.
    pub cases: fn() -> Vec<Case>,
    /// The largest NMSE, in f32, of what it writes to the operand of this name.
    limit: fn(&dyn Kernel, &str) -> f64,
}

const fn row(
    kernel: &'static str,
    cases: fn() -> Vec<Case>,
    limit: fn(&dyn Kernel, &str) -> f64,
) -> Verified {
    Verified { kernel, cases, limit }
}

/// Every kernel there is.
pub static KERNELS: &[Verified] = &[
    // One rounding an operation; a driver's exp, log and tanh may be off by some units in the last place.
    row("elementwise", elementwise, |_, _| 1e-12),
    // One rounding.
    row("add_to", add_to, |_, _| 1e-12),
    // exp of scores, each a sum of up to 128 products, whose error is the weight's relative one.
    row("attention", attention, |_, _| 5e-12),
    // Nothing is computed.
    row("columns", columns, |_, _| 0.0),
    // An activation, whose exp may be off by some units in the last place, and two products.
    row("glu", glu, |_, _| 1e-12),
    // Sums of up to 100 numbers.
    row("relative_gather", relative_gather, |_, _| 3e-13),
    // Two products and their sum, which may cancel in some elements, not in their mean square.
    row("rotary", rotary, |_, _| 1e-13),
    row("matmul", matmul, |kernel, _| of_products(kernel)),
    // Sums of up to 200,000 numbers in f32, in a tree.
    row("conv", conv, |kernel, _| of_products(kernel)),
    // Sums over 49 taps, or of up to 5,000 places in chunks.
    row("depthwise", depthwise, |_, _| 1e-12),
    // A maximum, or a mean of up to 25 numbers.
    row("pool", pool, |_, _| 1e-13),
    // Sums over up to 5,000 rows in chunks, a root, and a dozen roundings.
    row("batch_norm", batch_norm, |_, _| 1e-12),
    row("reduce", reduce, |_, _| 3e-13),
    // exp, and sums of up to 20,000 numbers in f32.
    row("softmax", softmax, |_, _| 1e-12),
    // Numbers of tokens: a point in between two of them is nowhere near either in these cases.
    row("sample", sample, |_, _| 0.0),
    // Nothing is computed.
    row("scatter", scatter, |_, _| 0.0),
    row("gather", gather, |kernel, _| of_rows(kernel)),
    // A sum of squares, a root and a division, for the factor that it follows.
    row("loss_scale", loss_scale, |_, _| 1e-13),
    // Sums over rows of up to 5,000 numbers, a root, and a dozen roundings; of a short row, dx is a small difference.
    row("layer_norm", layer_norm, |_, _| 1e-12),
    row("distill_loss", distill_loss, of_loss),
    // Sums over rows of up to 5,000 numbers, a root and a division; where student and teacher are close, a twentieth is
    // left of what was rounded.
    row("feature_loss", feature_loss, |_, _| 1e-10),
    // As of logits: scores are sums of up to 128 products, and q - p and its logarithm are small differences.
    row("relation_loss", relation_loss, |_, _| 1e-10),
    // A few roundings a step.
    row("optimizer", optimizer, |_, _| 3e-13),
    row("pointwise_loss", pointwise_loss, of_loss),
    // A sum of squares, a root and a division.
    row("grad_norm", grad_norm, |_, _| 1e-13),
    row("max_norm", max_norm, |_, _| 1e-13),
    // One rounding a round.
    row("roof", roof, |_, _| 1e-12),
];

/// Results rounded to f16: a driver may round towards zero, which puts each off by up to 2⁻¹⁰ of itself.
const ROUNDED_TO_F16: f64 = 4e-7;

/// Sums of up to 65 products have an error of about √k roundoffs; longer ones, for each product: a running sum loses half a
/// roundoff a step.
fn of_products(kernel: &dyn Kernel) -> f64 {
    let out = kernel.operands().last().map_or(1, |out| out.len.max(1));
    let k = kernel.cost().flops as f64 / (2 * out) as f64;
    (4e-15 * k).max(3e-13)
}

/// Copies, and for each row that may be summed onto one of the table's: half a roundoff a step.
fn of_rows(kernel: &dyn Kernel) -> f64 {
    let ids = kernel.operands().iter().find(|o| o.name == "ids").map_or(1, |ids| ids.len);
    4e-15 * ids as f64
}

/// The soft term is T² (400 for T = 20) times a small difference of logarithms; in its gradient q - p cancels where the
/// student is close to the teacher.
fn of_loss(_: &dyn Kernel, operand: &str) -> f64 {
    if operand == "z_s" { 1e-10 } else { 2e-9 }
}

/// The largest NMSE of what a kernel writes to one of its operands. A kernel without a row has none, and no error is within
/// it.
fn limit(kernel: &dyn Kernel, operand: &Operand) -> f64 {
    let known = KERNELS.iter().find(|known| known.kernel == kernel.name());
    let limit = known.map_or(f64::NAN, |known| (known.limit)(kernel, operand.name));
    match operand.dtype {
        DType::F16 if !limit.is_nan() => ROUNDED_TO_F16.max(limit),
        _ => limit,
    }
}

/// Every case there is for a device: those of each kernel, then those of several.
pub fn all(caps: &Caps) -> Vec<Case> {
    let mut cases: Vec<Case> = KERNELS.iter().flat_map(|kernel| (kernel.cases)()).collect();
    cases.extend(cooperative(caps));
    cases.extend([stored, in_blocks, halved, parts].into_iter().flat_map(|more| more()));
    cases
}

/// Of a batch's moments [3, channels] the means, each the sum of two numbers, and the variances.
fn means_and_variances(moments: &[f64]) -> Vec<f64> {
    let channels = moments.len() / 3;
    let mean = |channel: usize| moments[channel] + moments[2 * channels + channel];
    (0..channels).map(mean).chain(moments[channels..2 * channels].iter().copied()).collect()
}

impl Case {
    /// How far the kernel is from the oracle on the device, in each operand that it writes, in the variants wanted.
    ///
    /// # Errors
    /// When the device refuses or fails.
    pub fn distances(
        &self,
        device: &mut dyn Device,
        wanted: Variants,
    ) -> Result<Vec<Distance>, Error> {
        let expected = self.expected()?;
        let mut distances = Vec::new();
        let variants = match wanted {
            Variants::InUse => vec![("in use".to_owned(), self.kernel.clone())],
            Variants::All => variants(&self.kernel, device),
        };
        for (variant, forced) in variants {
            let found = self.found(device, &forced)?;
            distances.extend(self.distances_of(&variant, &found, &expected));
        }
        Ok(distances)
    }

    /// How far a variant's results are from the expected ones.
    pub fn distances_of(
        &self,
        variant: &str,
        found: &[Vec<f64>],
        expected: &[Vec<f64>],
    ) -> Vec<Distance> {
        let operands = self.kernel.operands();
        let written = operands.iter().filter(|operand| operand.access != Access::Read);
        let compared = written.zip(found).zip(expected).map(|((operand, found), expected)| {
            let expected = match operand.dtype {
                DType::F16 => &rounded_to_f16(expected),
                _ => expected,
            };
            let error = match operand.name {
                // How the total is shared out is the device's own affair.
                "partials" => nmse(&[found.iter().sum()], &[expected.iter().sum()]),
                // So is how a mean lies in two numbers.
                "moments" => nmse(&means_and_variances(found), &means_and_variances(expected)),
                _ => nmse(found, expected),
            };
            let name = operand.name;
            let what = format!("{name} of {:?}, variant {variant}", self.kernel);
            Distance { what, error, limit: limit(&*self.kernel, operand) }
        });
        compared.collect()
    }
}
