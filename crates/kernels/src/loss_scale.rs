//! Dynamic loss scaling: Micikevicius et al., "Mixed Precision Training", 2018; the constants are those of
//! `torch.amp.GradScaler`.

use crate::{Args, Caps, Cost, Kernel, Launch, Operand, Real, Source, StepState, bytes, twin};

/// Numbers of the scale's state: the scale; steps since it last changed; steps left out; Adam's 1 - β1ᵗ and 1 - β2ᵗ of
/// the steps that were taken.
pub const LEN: usize = 5;

/// A bound that bounds nothing, and whose quotient by a norm is no infinity, which WGSL has not.
pub const UNBOUNDED: f32 = 1e30;

/// Numbers of a norm that tells the optimizer the corrections too.
pub const NORM_LEN: usize = 4;

/// The state before the first step.
pub const INITIAL: [f32; LEN] = [65_536.0, 0.0, 0.0, 0.0, 0.0];

/// Place of the scale in its state.
pub const SCALE: usize = 0;

/// Place of the number of steps that were left out.
pub const LEFT_OUT: usize = 2;

/// Steps in a row after which the scale is doubled.
pub const INTERVAL: u32 = 2000;

/// The largest scale: 2²⁴.
const LARGEST: f64 = 16_777_216.0;

/// The least scale: 2⁻²⁴. Where it is reached, it was no gradient's size that was beyond f16.
pub const LEAST: f32 = 1.0 / 16_777_216.0;

/// Takes the scale out of the norm and the optimizer's factor, tells the optimizer by a factor of 0 to leave out a step
/// whose gradients are not finite, and keeps the scale.
///
/// Operands: `norm` [[`NORM_LEN`]], updated: squared norm and factor, as [`crate::grad_norm::GradNormFinish`] makes them,
/// and behind them the corrections; `scale` [[`LEN`]], updated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LossScale {
    /// Bound of the true norm; [`UNBOUNDED`] where nothing is clipped.
    pub max_norm: f32,
    /// Steps in a row after which the scale is doubled.
    pub interval: u32,
    /// Decays of the optimizer's moments; 0 where it has none.
    pub betas: [f64; 2],
}

impl LossScale {
    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let (norm, scale) = (args.write(0), args.write(1));
        if !norm[0].f64().is_finite() {
            norm[1] = F::zero();
            scale[0] = F::of64((scale[0].f64() * 0.5).max(f64::from(LEAST)));
            scale[1] = F::zero();
            scale[2] += F::one();
            return;
        }
        let inverse = 1.0 / scale[0].f64();
        let length = norm[0].f64().sqrt() * inverse;
        norm[0] = F::of64(length * length);
        norm[1] = F::of64(inverse * (f64::from(self.max_norm) / (length + 1e-6)).min(1.0));
        scale[1] += F::one();
        if scale[1].f64() >= f64::from(self.interval) {
            scale[0] = F::of64((2.0 * scale[0].f64()).min(LARGEST));
            scale[1] = F::zero();
        }
        for (correction, beta) in scale[3..].iter_mut().zip(self.betas) {
            *correction = F::of64(correction.f64() + (1.0 - correction.f64()) * (1.0 - beta));
        }
        norm[2..].copy_from_slice(&scale[3..]);
    }
}

impl Kernel for LossScale {
    fn name(&self) -> &'static str {
        "loss_scale"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![Operand::update("norm", NORM_LEN), Operand::update("scale", LEN)]
    }

    fn launches(&self, _caps: &Caps) -> Vec<Launch> {
        let numbers = [self.max_norm, self.interval as f32];
        let betas = self.betas.map(|beta| (1.0 - beta) as f32);
        vec![Launch {
            source: Source::of("loss_scale"),
            entry: "loss_scale",
            overrides: Vec::new(),
            dims: numbers.into_iter().chain(betas).map(f32::to_bits).collect(),
            bindings: vec![Some(0), Some(1)],
            workgroups: [1, 1, 1],
        }]
    }

    fn cost(&self) -> Cost {
        Cost { flops: 12, bytes_read: bytes(2 + LEN), bytes_written: bytes(NORM_LEN + LEN) }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arg;

    const KERNEL: LossScale = LossScale { max_norm: 2.0, interval: 3, betas: [0.9, 0.999] };

    fn step(squares: f64, scale: &mut [f64]) -> [f64; NORM_LEN] {
        let mut norm = [squares, f64::NAN, 0.0, 0.0];
        let args = Args::new(vec![Arg::Write(&mut norm), Arg::Write(scale)]);
        KERNEL.run_f64(args, &StepState::default());
        norm
    }

    #[test]
    fn takes_the_scale_out() {
        let mut scale = INITIAL.map(f64::from);
        // Gradients of norm 1, then of norm 8, which is clipped.
        let [squares, factor, ..] = step(65_536.0_f64.powi(2), &mut scale);
        assert_eq!([squares, factor], [1.0, 1.0 / 65_536.0]);
        let [squares, factor, told @ ..] = step((8.0 * 65_536.0_f64).powi(2), &mut scale);
        assert!((squares - 64.0).abs() < 1e-12);
        assert!((factor * 65_536.0 - 2.0 / (8.0 + 1e-6)).abs() < 1e-12);
        let corrections = [1.0 - 0.9_f64.powi(2), 1.0 - 0.999_f64.powi(2)];
        assert!(scale[3..].iter().zip(corrections).all(|(c, wanted)| (c - wanted).abs() < 1e-15));
        assert_eq!(told, scale[3..]);
    }

    #[test]
    fn halves_and_doubles() {
        let mut scale = [16.0, 0.0, 0.0, 0.0, 0.0];
        for squares in [f64::INFINITY, f64::NAN] {
            assert_eq!(step(squares, &mut scale)[1], 0.0);
        }
        // What was left out moves no correction.
        assert_eq!(scale, [4.0, 0.0, 2.0, 0.0, 0.0]);
        let scales: Vec<f64> = (0..7)
            .map(|_| {
                step(1.0, &mut scale);
                scale[0]
            })
            .collect();
        assert_eq!(scales, [4.0, 4.0, 8.0, 8.0, 8.0, 16.0, 16.0]);
        (0..100).for_each(|_| _ = step(f64::NAN, &mut scale));
        assert_eq!(scale[0], f64::from(LEAST));
        scale[0] = 16_777_216.0;
        (0..3).for_each(|_| _ = step(1.0, &mut scale));
        assert_eq!(scale[0], 16_777_216.0);
    }
}
