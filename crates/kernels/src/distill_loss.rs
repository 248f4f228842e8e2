//! The fused distillation loss: a divergence at a temperature and cross-entropy, loss and gradient in one kernel that
//! never stores a probability. The formulas stand in `shaders/distill_loss.wgsl`.

use rayon::prelude::*;

use crate::row_tile::{self, RowTile};
use crate::{
    Args, Caps, Cost, Divergence, Kernel, Launch, Operand, Real, StepState, Variant, bytes, twin,
};

mod twin;

/// A label that leaves its row out of the hard term.
pub const IGNORED: i32 = -100;
/// A label that marks a padding row, which counts in no term.
pub const PADDING: i32 = i32::MIN;
/// Columns of `terms`: soft, hard, student right, agrees with the teacher, counts in soft, counts in hard.
pub const TERMS: usize = 6;

/// Rows of one launch, so that a launch stays far below a driver's watchdog: 2^31 logits.
const MAX_LOGITS_A_LAUNCH: usize = 1 << 31;
/// Most numbers of each tensor a thread holds in registers.
const MAX_HELD: usize = 16;

/// Loss and gradient of a block of logit rows.
#[derive(Clone, Debug, PartialEq)]
pub struct DistillLoss {
    /// Rows.
    pub rows: usize,
    /// Classes, without padded columns.
    pub classes: usize,
    /// Elements from one student row to the next; columns from `classes` on are padding.
    pub student_stride: usize,
    /// The same for the teacher; `None`: cross-entropy alone.
    pub teacher_stride: Option<usize>,
    /// Whether the gradient overwrites the student's logits.
    pub gradient: bool,
    /// Whether the hard term of each row has a weight of its own.
    pub weighted: bool,
    /// The soft term.
    pub divergence: Divergence,
    /// Whether the soft term is of logits less their row's mean, over its standard deviation.
    pub standardise: bool,
    /// Share of the hard term that is spread over all classes, from 0 to 1; `terms` has the rest's cross-entropy.
    pub smoothing: f32,
}

impl DistillLoss {
    /// Forward KL and cross-entropy, with their gradient, of logits of both models that lie close together.
    pub fn new(rows: usize, classes: usize) -> Self {
        Self {
            rows,
            classes,
            student_stride: classes,
            teacher_stride: Some(classes),
            gradient: true,
            weighted: false,
            divergence: Divergence::ForwardKl,
            standardise: false,
            smoothing: 0.0,
        }
    }

    /// Whether a sweep of its own makes the soft term.
    fn is_graded(&self) -> bool {
        self.teacher_stride.is_some() && !self.divergence.is_forward()
    }

    /// The divergence, of which a loss without a teacher has none.
    fn soft_term(&self) -> Divergence {
        if self.teacher_stride.is_some() { self.divergence } else { Divergence::ForwardKl }
    }

    /// By one subgroup a row on a driver on the CPU, which pays for barriers.
    fn tile(&self, caps: &Caps) -> RowTile {
        let one = RowTile::one_subgroup(self.classes, caps).filter(|_| caps.software);
        let strides = self.strides();
        let words = self.classes.div_ceil(row_tile::word(&strides));
        let several = || RowTile::of_lanes(words.next_power_of_two().clamp(32, 256));
        one.unwrap_or_else(several).for_rows_apart(&strides)
    }

    /// Whether the soft term's logits are standardised, of which a loss without a teacher has none.
    fn is_standardised(&self) -> bool {
        self.standardise && self.teacher_stride.is_some()
    }

    fn strides(&self) -> Vec<usize> {
        [self.student_stride].into_iter().chain(self.teacher_stride).collect()
    }

    fn launches_with(&self, tile: RowTile, caps: &Caps) -> Vec<Launch> {
        let teacher = usize::from(self.teacher_stride.is_some());
        let (mut source, mut overrides) =
            tile.holding("distill_loss", self.classes, MAX_HELD, caps);
        if self.weighted {
            source.imports.push(("common/row_weight", "common/row_weights"));
        }
        overrides.extend([("TEACHER", teacher as f64), ("GRADIENT", f64::from(self.gradient))]);
        let divergence = self.soft_term();
        overrides.push(("DIVERGENCE", f64::from(divergence.code())));
        overrides.push(("STANDARDISE", f64::from(self.is_standardised())));
        let numbers = [divergence.share(), divergence.others(), self.smoothing].map(f32::to_bits);
        let step = (MAX_LOGITS_A_LAUNCH / self.classes).max(1);
        let launch = |first: usize| Launch {
            source: source.clone(),
            entry: "distill_loss",
            overrides: overrides.clone(),
            dims: [
                (first + step).min(self.rows),
                self.classes,
                tile.words(self.student_stride),
                tile.words(self.teacher_stride.unwrap_or(0)),
                first,
            ]
            .map(|word| word as u32)
            .into_iter()
            .chain(numbers)
            .collect(),
            bindings: [
                Some(0),
                (teacher == 1).then_some(1),
                Some(1 + teacher),
                Some(2 + teacher),
                Some(3 + teacher),
            ]
            .into_iter()
            .chain(self.weighted.then_some(Some(4 + teacher)))
            .collect(),
            workgroups: tile.grid(step.min(self.rows - first), caps),
        };
        (0..self.rows).step_by(step).map(launch).collect()
    }

    fn run<F: Real>(&self, mut args: Args<'_, F>, state: &StepState) {
        let teacher = self.teacher_stride.map(|stride| (args.read(1), stride));
        let next = 1 + usize::from(teacher.is_some());
        let labels = args.read_i32(next);
        let weights = self.weighted.then(|| args.read(next + 3));
        let (z_s, row_loss, terms) = (args.write(0), args.write(next + 1), args.write(next + 2));
        z_s.par_chunks_mut(self.student_stride)
            .zip(row_loss.par_iter_mut())
            .zip(terms.par_chunks_mut(TERMS))
            .zip(labels)
            .enumerate()
            .with_min_len((1_usize << 12).div_ceil(self.classes))
            .for_each(|(row, (((z_s, row_loss), terms), &label))| {
                let z_t = teacher.map(|(z_t, stride)| &z_t[row * stride..][..self.classes]);
                let weight = weights.map_or(F::one(), |weights| weights[row]);
                *row_loss = self.row(z_s, z_t, (label, weight), terms, state);
            });
    }
}

impl Kernel for DistillLoss {
    fn name(&self) -> &'static str {
        "distill_loss"
    }

    fn operands(&self) -> Vec<Operand> {
        let mut operands = vec![Operand::update("z_s", self.rows * self.student_stride)];
        if let Some(stride) = self.teacher_stride {
            operands.push(Operand::read("z_t", self.rows * stride));
        }
        operands.push(Operand::read_i32("labels", self.rows));
        operands.push(Operand::write("row_loss", self.rows));
        operands.push(Operand::write("terms", self.rows * TERMS));
        operands.extend(self.weighted.then(|| Operand::read("row_weights", self.rows)));
        operands
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        self.launches_with(self.tile(caps), caps)
    }

    fn variants(&self, caps: &Caps) -> Vec<Variant> {
        let launches = |tile| self.launches_with(tile, caps);
        self.tile(caps).variants(self.classes, caps, launches)
    }

    fn bucket(&self) -> String {
        let teacher = if self.teacher_stride.is_some() { " with teacher" } else { "" };
        let gradient = if self.gradient { " with gradient" } else { "" };
        let weighted = if self.weighted { " weighted" } else { "" };
        let divergence = self.soft_term().suffix();
        let standardised = if self.is_standardised() { " standardised" } else { "" };
        format!(
            "{}{teacher}{gradient}{weighted}{divergence}{standardised}",
            row_tile::bucket(self.rows, self.classes, &self.strides())
        )
    }

    fn cost(&self) -> Cost {
        let logits = self.rows * self.classes;
        let tensors = 1 + usize::from(self.teacher_stride.is_some());
        let caps = Caps::default();
        let held = self.tile(&caps).held(self.classes, MAX_HELD, &caps);
        let (graded, taught) =
            (usize::from(self.is_graded()), usize::from(self.teacher_stride.is_some()));
        let (standardised, apart) =
            (usize::from(self.is_standardised()), usize::from(!self.soft_term().is_of_outcomes()));
        let refined = usize::from(graded == 1 && self.divergence.is_of_signs());
        let sweeps = 2 + graded + refined + 4 * standardised + 2 * apart;
        let reads = tensors * if held.is_some() { 1 } else { sweeps };
        let writes = if self.gradient { logits } else { 0 };
        // The last two sweeps make a class's part and its slope.
        let part = self.divergence.flops();
        Cost {
            flops: (logits * (12 * tensors + taught * part + 24 * standardised)) as u64,
            bytes_read: bytes(reads * logits + self.rows * (1 + usize::from(self.weighted))),
            bytes_written: bytes(writes + self.rows * (1 + TERMS)),
        }
    }

    twin!();
}

#[cfg(test)]
mod tests;
