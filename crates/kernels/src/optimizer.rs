//! One optimizer step, in PyTorch's conventions.

use rayon::prelude::*;

use crate::loss_scale;
use crate::parts::cuts;
use crate::row::vectorised;
use crate::row_tile;
use crate::{
    Args, Caps, Cost, Kernel, Launch, Operand, Part, Real, Source, StepState, Variant, bytes, twin,
};

const THREADS: usize = 64;
const TASK: usize = 1 << 14;

/// How a parameter follows its gradient g.
///
/// The betas are f64, as 1 - β is wanted to f32's precision and 1 - 0.999 from f32 is off by 5e-5.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// `torch.optim.SGD` with dampening 0: m = momentum · m + g; p -= lr · m, or with Nesterov's
    /// momentum p -= lr · (g + momentum · m). Weight decay is added to g.
    Sgd {
        /// Factor of the velocity; 0 keeps no moment.
        momentum: f32,
        /// Whether to look ahead (Sutskever et al. 2013).
        nesterov: bool,
    },
    /// `torch.optim.Adam` (Kingma and Ba 2015). Weight decay is added to g.
    Adam {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the denominator, after bias correction.
        eps: f32,
    },
    /// `torch.optim.AdamW` (Loshchilov and Hutter 2019). Weight decay is p *= 1 - lr · weight_decay.
    AdamW {
        /// Decay of the first moment.
        beta1: f64,
        /// Decay of the second moment.
        beta2: f64,
        /// Added to the denominator, after bias correction.
        eps: f32,
    },
}

impl Rule {
    /// Moments a parameter carries: 0, 1 or 2. All start at 0.
    pub fn moments(self) -> usize {
        match self {
            Self::Sgd { momentum, .. } => usize::from(momentum != 0.0),
            Self::Adam { .. } | Self::AdamW { .. } => 2,
        }
    }
}

/// What a gradient is multiplied by before it is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factor {
    /// Nothing.
    One,
    /// What bounds the norm of all gradients: norm\[1] of `norm` \[2], see [`crate::grad_norm`].
    Clip,
    /// The same, and what undoes the loss's scale: norm\[1] of `norm` \[4], see [`crate::loss_scale`]. Where it is 0 the step
    /// is left out; the bias corrections come from there too.
    ClipAndUnscale,
}

/// Updates a contiguous range of the parameter store.
///
/// Operands: `params` \[len], `grads` \[len], [`Rule::moments`] times `moment1`, `moment2` \[len], and `norm`, unless the
/// factor is one. The learning rate and Adam's bias corrections come with the [`StepState`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimizer {
    /// The update rule.
    pub rule: Rule,
    /// Parameters in the range.
    pub len: usize,
    /// Factor of the learning rate for this range.
    pub lr_scale: f32,
    /// Weight decay.
    pub weight_decay: f32,
    /// What the gradient is multiplied by.
    pub factor: Factor,
}

impl Optimizer {
    fn run<F: Real>(&self, mut args: Args<'_, F>, state: &StepState) {
        let lr = F::of(state.learning_rate) * F::of(self.lr_scale);
        let decay = F::of(self.weight_decay);
        let moments = self.rule.moments();
        let unscales = self.factor == Factor::ClipAndUnscale;
        let norm = match self.factor {
            Factor::One => &[F::zero(), F::one()],
            Factor::Clip | Factor::ClipAndUnscale => args.read(2 + moments),
        };
        let clip = norm[1];
        if unscales && clip == F::zero() {
            return;
        }
        let params = args.write(0).par_chunks_mut(TASK);
        let tasks = params.zip(args.read(1).par_chunks(TASK));
        match self.rule {
            Rule::Sgd { .. } if moments == 0 => tasks.for_each(move |(params, grads)| {
                vectorised(
                    #[inline(always)]
                    move || {
                        for (p, &g) in params.iter_mut().zip(grads) {
                            *p = *p - lr * (g * clip + decay * *p);
                        }
                    },
                );
            }),
            Rule::Sgd { momentum, nesterov } => {
                let momentum = F::of(momentum);
                let tasks = tasks.zip(args.write(2).par_chunks_mut(TASK));
                tasks.for_each(move |((params, grads), m)| {
                    vectorised(
                        #[inline(always)]
                        move || {
                            for ((p, &g), m) in params.iter_mut().zip(grads).zip(m) {
                                let g = g * clip + decay * *p;
                                *m = momentum * *m + g;
                                let direction = if nesterov { g + momentum * *m } else { *m };
                                *p = *p - lr * direction;
                            }
                        },
                    );
                });
            }
            Rule::Adam { beta1, beta2, eps } | Rule::AdamW { beta1, beta2, eps } => {
                let [rate1, beta2, rate2] = [1.0 - beta1, beta2, 1.0 - beta2].map(F::of64);
                let corrections = match unscales {
                    true => [norm[2], norm[3]],
                    false => [state.bias_correction1, state.bias_correction2].map(F::of),
                };
                let (step, root) = (lr / corrections[0], corrections[1].sqrt());
                let eps = F::of(eps);
                // What decays: the parameter itself, or by way of the gradient.
                let [kept, decay] = match self.decoupled() {
                    true => [F::one() - lr * decay, F::zero()],
                    false => [F::one(), decay],
                };
                let tasks = tasks.zip(args.write(2).par_chunks_mut(TASK));
                let tasks = tasks.zip(args.write(3).par_chunks_mut(TASK));
                tasks.for_each(move |(((params, grads), m), v)| {
                    vectorised(
                        #[inline(always)]
                        move || {
                            for (((p, &g), m), v) in params.iter_mut().zip(grads).zip(m).zip(v) {
                                let g = g * clip + decay * *p;
                                *m += rate1 * (g - *m);
                                *v = beta2 * *v + rate2 * g * g;
                                *p = *p * kept - step * *m / (v.sqrt() / root + eps);
                            }
                        },
                    );
                });
            }
        }
    }

    /// Launches of which a thread takes `word` elements at once, 1 or 4.
    fn launches_by(&self, word: usize, caps: &Caps) -> Vec<Launch> {
        let moments = self.rule.moments();
        let rounds = caps.rounds().div_ceil(word);
        let source = Source { fours: word == 4, ..Source::of("optimizer") };
        let clips = self.factor != Factor::One;
        let mut overrides = vec![
            ("ROUNDS", rounds as f64),
            ("CLIP", f64::from(clips)),
            ("UNSCALE", f64::from(self.factor == Factor::ClipAndUnscale)),
        ];
        let (entry, constants) = match self.rule {
            Rule::Sgd { momentum, nesterov } => {
                overrides.push(("NESTEROV", f64::from(nesterov)));
                let entry = if moments == 0 { "sgd" } else { "momentum" };
                (entry, [0.0, momentum, 0.0, 0.0, 0.0])
            }
            Rule::Adam { beta1, beta2, eps } | Rule::AdamW { beta1, beta2, eps } => {
                overrides.push(("DECOUPLED", f64::from(self.decoupled())));
                let [rate1, beta2, rate2] = [1.0 - beta1, beta2, 1.0 - beta2].map(|c| c as f32);
                ("adam", [eps, 0.0, rate1, beta2, rate2])
            }
        };
        let words = self.len / word;
        let mut dims = vec![words as u32, self.lr_scale.to_bits(), self.weight_decay.to_bits()];
        dims.extend(constants.map(f32::to_bits));
        let mut bindings = vec![Some(0), Some(1), clips.then_some(2 + moments)];
        bindings.extend((0..moments).map(|i| Some(2 + i)));
        vec![Launch {
            source,
            entry,
            overrides,
            dims,
            bindings,
            workgroups: caps.grid(words.div_ceil(THREADS * rounds)),
        }]
    }

    fn norm_len(&self) -> usize {
        match self.factor {
            Factor::One => 0,
            Factor::Clip => 2,
            Factor::ClipAndUnscale => loss_scale::NORM_LEN,
        }
    }

    /// Elements that a thread can take at once.
    fn word(&self) -> usize {
        row_tile::word(&[self.len])
    }

    fn decoupled(&self) -> bool {
        matches!(self.rule, Rule::AdamW { .. })
    }
}

impl Kernel for Optimizer {
    fn name(&self) -> &'static str {
        "optimizer"
    }

    fn operands(&self) -> Vec<Operand> {
        let mut operands =
            vec![Operand::update("params", self.len), Operand::read("grads", self.len)];
        for name in ["moment1", "moment2"].into_iter().take(self.rule.moments()) {
            operands.push(Operand::update(name, self.len));
        }
        if self.factor != Factor::One {
            operands.push(Operand::read("norm", self.norm_len()));
        }
        operands
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        self.launches_by(self.word(), caps)
    }

    fn variants(&self, caps: &Caps) -> Vec<Variant> {
        let words = [4, 1].into_iter().filter(|&word| word <= self.word());
        let variant = |word| Variant {
            name: format!("{word} at once"),
            launches: self.launches_by(word, caps),
        };
        words.map(variant).collect()
    }

    fn bucket(&self) -> String {
        let rule = match self.rule {
            Rule::Sgd { .. } if self.rule.moments() == 0 => "sgd",
            Rule::Sgd { .. } => "momentum",
            Rule::Adam { .. } | Rule::AdamW { .. } => "adam",
        };
        let fours = if self.word() == 4 { " in fours" } else { "" };
        format!("{rule} {}{fours}", self.len.next_power_of_two())
    }

    fn parts(&self, _operand: usize, most: usize) -> Option<Vec<Part>> {
        let vectors = 2 + self.rule.moments();
        let part = |range: std::ops::Range<usize>| {
            let mut starts: Vec<_> = (0..vectors).map(|operand| (operand, range.start)).collect();
            starts.extend((self.factor != Factor::One).then_some((vectors, 0)));
            Part::new(Self { len: range.len(), ..*self }, &starts)
        };
        Some(cuts(self.len, 1, most)?.into_iter().map(part).collect())
    }

    fn cost(&self) -> Cost {
        let flops = match self.rule {
            Rule::Sgd { nesterov, .. } => 4 + 2 * self.rule.moments() + 2 * usize::from(nesterov),
            Rule::Adam { .. } | Rule::AdamW { .. } => 15,
        };
        let updated = self.len * (1 + self.rule.moments());
        Cost {
            flops: (self.len * (flops + usize::from(self.factor != Factor::One))) as u64,
            bytes_read: bytes(updated + self.len + self.norm_len()),
            bytes_written: bytes(updated),
        }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arg;

    /// The rules for one parameter, from PyTorch's documentation of each optimizer.
    fn reference(o: &Optimizer, lr: f64, grads: &[f64], clip: f64, mut p: f64) -> f64 {
        let lr = lr * f64::from(o.lr_scale);
        let decay = f64::from(o.weight_decay);
        let (mut velocity, mut m, mut v) = (None, 0.0, 0.0);
        for (t, g) in grads.iter().enumerate() {
            let t = t as i32 + 1;
            let mut g = g * clip;
            match o.rule {
                Rule::Sgd { momentum, nesterov } => {
                    let momentum = f64::from(momentum);
                    g += decay * p;
                    if momentum != 0.0 {
                        let b = velocity.map_or(g, |b: f64| momentum * b + g);
                        velocity = Some(b);
                        g = if nesterov { g + momentum * b } else { b };
                    }
                    p -= lr * g;
                }
                Rule::Adam { beta1, beta2, eps } | Rule::AdamW { beta1, beta2, eps } => {
                    if o.decoupled() {
                        p -= lr * decay * p;
                    } else {
                        g += decay * p;
                    }
                    m = beta1 * m + (1.0 - beta1) * g;
                    v = beta2 * v + (1.0 - beta2) * g.powi(2);
                    let m_hat = m / (1.0 - beta1.powi(t));
                    let v_hat = v / (1.0 - beta2.powi(t));
                    p -= lr * m_hat / (v_hat.sqrt() + f64::from(eps));
                }
            }
        }
        p
    }

    fn rules() -> [Rule; 6] {
        let (beta1, beta2, eps) = (0.9, 0.999, 1e-3);
        [
            Rule::Sgd { momentum: 0.0, nesterov: false },
            Rule::Sgd { momentum: 0.9, nesterov: false },
            Rule::Sgd { momentum: 0.5, nesterov: true },
            Rule::Adam { beta1, beta2, eps },
            Rule::AdamW { beta1, beta2, eps },
            Rule::AdamW { beta1: 0.0, beta2: 0.5, eps },
        ]
    }

    #[test]
    fn agrees_with_scalar_rules_over_several_steps() {
        const STEPS: usize = 6;
        let len = TASK + 3;
        let grad = |t: usize, i: usize| ((t * 31 + i) as f64 * 0.37).sin();
        for rule in rules() {
            for factor in [Factor::One, Factor::Clip] {
                let optimizer = Optimizer { rule, len, lr_scale: 0.5, weight_decay: 0.01, factor };
                let mut params: Vec<f64> = (0..len).map(|i| (i as f64 * 0.11).cos()).collect();
                let start = params.clone();
                let mut moments = vec![vec![0.0; len]; rule.moments()];
                let norm = [16.0, 0.25];
                for t in 0..STEPS {
                    let grads: Vec<f64> = (0..len).map(|i| grad(t, i)).collect();
                    let mut args = vec![Arg::Write(&mut params), Arg::Read(&grads)];
                    args.extend(moments.iter_mut().map(|m| Arg::Write(m)));
                    if factor == Factor::Clip {
                        args.push(Arg::Read(&norm));
                    }
                    let (beta1, beta2) = match rule {
                        Rule::Sgd { .. } => (0.0, 0.0),
                        Rule::Adam { beta1, beta2, .. } | Rule::AdamW { beta1, beta2, .. } => {
                            (beta1, beta2)
                        }
                    };
                    let state = StepState {
                        learning_rate: 0.125,
                        bias_correction1: (1.0 - f64::powi(beta1, t as i32 + 1)) as f32,
                        bias_correction2: (1.0 - f64::powi(beta2, t as i32 + 1)) as f32,
                        ..StepState::default()
                    };
                    optimizer.run_f64(Args::new(args), &state);
                }
                for i in [0, 1, 7, TASK - 1, TASK, len - 1] {
                    let grads: Vec<f64> = (0..STEPS).map(|t| grad(t, i)).collect();
                    let clip = if factor == Factor::Clip { norm[1] } else { 1.0 };
                    let expected = reference(&optimizer, 0.125, &grads, clip, start[i]);
                    let error = (params[i] - expected).abs();
                    // The bias corrections are rounded to f32.
                    assert!(error < 1e-7, "{rule:?}: {} against {expected}", params[i]);
                }
            }
        }
    }

    #[test]
    fn scaled_steps_are_left_out_or_corrected() {
        const LEN: usize = 5;
        let (lr_scale, weight_decay) = (0.5, 0.01);
        for rule in rules() {
            let whole = Optimizer { rule, len: LEN, lr_scale, weight_decay, factor: Factor::Clip };
            let step = |optimizer: Optimizer, norm: &[f64], corrections: [f32; 2]| {
                let mut params = vec![1.0, -2.0, 0.5, 3.0, 0.0];
                let mut moments = vec![vec![0.25; LEN]; rule.moments()];
                let grads = [0.5, 0.25, -1.0, f64::from(f32::MAX), 2.0];
                let mut args = vec![Arg::Write(&mut params), Arg::Read(&grads)];
                args.extend(moments.iter_mut().map(|m| Arg::Write(m)));
                args.push(Arg::Read(norm));
                let [bias_correction1, bias_correction2] = corrections;
                let learning_rate = 0.1;
                let state = StepState {
                    learning_rate,
                    bias_correction1,
                    bias_correction2,
                    ..StepState::default()
                };
                optimizer.run_f64(Args::new(args), &state);
                (params, moments)
            };
            let scaled = Optimizer { factor: Factor::ClipAndUnscale, ..whole };
            assert_eq!(
                step(scaled, &[4.0, 0.125, 0.25, 0.5], [f32::NAN; 2]),
                step(whole, &[4.0, 0.125], [0.25, 0.5])
            );
            let (params, moments) = step(scaled, &[f64::NAN, 0.0, 0.25, 0.5], [0.25, 0.5]);
            assert_eq!(params, [1.0, -2.0, 0.5, 3.0, 0.0]);
            assert!(moments.iter().flatten().all(|&moment| moment == 0.25));
        }
    }
}
