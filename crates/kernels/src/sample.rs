//! The choice of next tokens by their logits.

use rayon::prelude::*;

use crate::random::{stream, unit, word};
use crate::row_tile::RowTile;
use crate::{
    Args, Caps, Cost, Kernel, Launch, Operand, Real, StepState, Variant, bytes, row, twin,
};

/// Numbers of a row's `settings`.
pub const SETTINGS: usize = 4;
/// Numbers of a row's `draw`.
pub const DRAW: usize = 3;
/// What is written where a logit is no number.
pub const NO_TOKEN: f32 = -1.0;

/// One token a row, drawn from softmax(logits / temperature), of which some tokens are left out. What is set acts in this
/// order: the penalty on tokens that were said, `top_k`, `top_p`, `min_p`; tokens as likely as the last one that is left
/// are left too.
///
/// Operands: `logits` [rows, cols]; `settings` [rows, 4]: the temperature, 0 for the likeliest token (the first of several);
/// `top_p`, the probability that those that are left have together, 1 for all; `min_p`, the share of the likeliest token's
/// probability that each of those has at least, 0 for all; the penalty, which divides logits of said tokens where they are
/// positive and multiplies them else, 1 for none (Keskar et al., "CTRL", 2019). `draw` i32 [rows, 3]: seed, number of the
/// text, `top_k`, 0 for all. `positions` i32 \[rows]: the place of the token before, which with seed and number tells the
/// draw. With `penalised`, `said` [rows, cols]: 1 for tokens that were said, among which the chosen one is counted, else 0.
/// `tokens` \[rows]: the numbers of the tokens, or [`NO_TOKEN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Texts.
    pub rows: usize,
    /// Tokens of the vocabulary, 1 to 2²⁴.
    pub cols: usize,
    /// Whether tokens that were said count.
    pub penalised: bool,
}

/// A row's settings.
#[derive(Clone, Copy, Debug)]
struct Choice<F> {
    temperature: F,
    top_p: F,
    min_p: F,
    top_k: usize,
    /// In [0, 1).
    point: F,
}

impl Sample {
    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let (logits, settings) = (args.read(0), args.read(1));
        let (draws, positions) = (args.read_i32(2), args.read_i32(3));
        let mut nothing = Vec::new();
        let said: Vec<&mut [F]> = if self.penalised {
            args.write(4).chunks_mut(self.cols).collect()
        } else {
            nothing.resize_with(self.rows, Default::default);
            nothing
        };
        let tokens = args.write(4 + usize::from(self.penalised));
        let rows = tokens.par_iter_mut().zip(logits.par_chunks(self.cols)).zip(said).enumerate();
        rows.for_each(|(row, ((token, logits), said))| {
            let settings = &settings[row * SETTINGS..][..SETTINGS];
            let draw = &draws[row * DRAW..][..DRAW];
            let index = positions[row].cast_unsigned().wrapping_add(1);
            let [seed, text] = [draw[0], draw[1]].map(i32::cast_unsigned);
            let choice = Choice {
                temperature: settings[0],
                top_p: settings[1],
                min_p: settings[2],
                top_k: usize::try_from(draw[2]).unwrap_or(0),
                point: F::of(unit(word(seed, stream::TOKENS, text, index))),
            };
            *token = match penalised(logits, said, settings[3]) {
                Some(values) => chosen(&values, choice).map_or(F::of(NO_TOKEN), |place| {
                    said.iter_mut().skip(place).take(1).for_each(|said| *said = F::one());
                    F::of(place as f32)
                }),
                None => F::of(NO_TOKEN),
            };
        });
    }

    fn launches_with(&self, tile: RowTile, caps: &Caps) -> Vec<Launch> {
        // A row has its own way through the kernel, on which all threads of a workgroup go together.
        let tile = RowTile { rows: 1, word: 1, ..tile };
        let [lanes, rows] = tile.overrides();
        let mut source = tile.source("sample");
        // `said`, where there is one, comes before the tokens and is bound behind them.
        let mut bindings: Vec<usize> = (0..5).collect();
        if self.penalised {
            source.imports.push(("common/unsaid", "common/said"));
            bindings = vec![0, 1, 2, 3, 5, 4];
        }
        vec![Launch {
            source,
            entry: "sample",
            overrides: vec![lanes, rows, ("SHARES", lanes.1)],
            dims: [self.rows, self.cols].map(|n| n as u32).to_vec(),
            bindings: bindings.into_iter().map(Some).collect(),
            workgroups: tile.grid(self.rows, caps),
        }]
    }

    fn tile(&self, caps: &Caps) -> RowTile {
        RowTile { word: 1, ..RowTile::new(1, self.cols, caps) }
    }
}

/// The logits, those of said tokens less likely; `None` where one is no number.
fn penalised<F: Real>(logits: &[F], said: &[F], penalty: F) -> Option<Vec<F>> {
    let mut values = logits.to_vec();
    for (value, &said) in values.iter_mut().zip(said) {
        if said > F::zero() {
            *value = if *value > F::zero() { *value / penalty } else { *value * penalty };
        }
    }
    let wrong = values.iter().fold(false, |wrong, value| wrong | value.is_nan());
    (!wrong).then_some(values)
}

/// The token that is chosen, if any has a probability.
fn chosen<F: Real>(values: &[F], choice: Choice<F>) -> Option<usize> {
    let Choice { temperature, top_p, min_p, top_k, point } = choice;
    let (max, place) = row::peak(values);
    if max <= F::min_value() || max >= F::infinity() {
        return None;
    }
    if temperature == F::zero() {
        return Some(place);
    }
    let mut weights = values.to_vec();
    let total = row::update(
        &mut weights,
        values,
        #[inline(always)]
        move |_, value| {
            let weight = ((value - max) / temperature).fast_exp();
            (weight, weight)
        },
    );
    let mut least = F::neg_infinity();
    let mut left = total;
    if (1..values.len()).contains(&top_k) {
        let mut sorted = values.to_vec();
        least = *sorted.select_nth_unstable_by(top_k - 1, descending).1;
        let kept = values.iter().zip(&weights).filter(|(value, _)| **value >= least);
        left = kept.map(|(_, weight)| weight.f64()).sum();
    }
    if top_p < F::one() {
        let needed = top_p.f64() * left;
        // All that are less likely than this are together less likely than what may be left out.
        let scarce = F::of64((left - needed) / values.len() as f64);
        let mut kept: Vec<(F, F)> = values
            .iter()
            .zip(&weights)
            .filter(|(value, weight)| **value >= least && **weight >= scarce)
            .map(|(value, weight)| (*value, *weight))
            .collect();
        kept.sort_unstable_by(|a, b| descending(&a.0, &b.0));
        let mut sum = 0.0;
        let reached = kept.iter().find(|(_, weight)| {
            sum += weight.f64();
            sum >= needed
        });
        if let Some((value, _)) = reached.or(kept.last()) {
            least = *value;
        }
    }
    let allowed = |(value, weight): (&F, &F)| *value >= least && *weight >= min_p;
    let kept = || values.iter().zip(&weights).enumerate().filter(move |(_, at)| allowed(*at));
    let total: f64 = kept().map(|(_, (_, weight))| weight.f64()).sum();
    let point = point.f64() * total;
    let mut sum = 0.0;
    let mut last = None;
    for (place, (_, weight)) in kept() {
        sum += weight.f64();
        last = Some(place);
        if sum > point {
            break;
        }
    }
    last
}

fn descending<F: Real>(a: &F, b: &F) -> std::cmp::Ordering {
    b.partial_cmp(a).expect("no logit is NaN")
}

impl Kernel for Sample {
    fn name(&self) -> &'static str {
        "sample"
    }

    fn operands(&self) -> Vec<Operand> {
        let len = self.rows * self.cols;
        let mut operands = vec![
            Operand::read("logits", len),
            Operand::read("settings", self.rows * SETTINGS),
            Operand::read_i32("draw", self.rows * DRAW),
            Operand::read_i32("positions", self.rows),
        ];
        operands.extend(self.penalised.then(|| Operand::update("said", len)));
        operands.push(Operand::write("tokens", self.rows));
        operands
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        self.launches_with(self.tile(caps), caps)
    }

    fn variants(&self, caps: &Caps) -> Vec<Variant> {
        let default = self.tile(caps);
        let tiles = [default].into_iter().chain(default.others(self.cols, caps));
        let mut variants: Vec<Variant> = Vec::new();
        for tile in tiles {
            let tile = RowTile { rows: 1, word: 1, ..tile };
            let launches = self.launches_with(tile, caps);
            if variants.iter().all(|known| known.launches != launches) {
                variants.push(tile.variant(launches));
            }
        }
        variants
    }

    fn bucket(&self) -> String {
        format!("{}x{}", self.rows.next_power_of_two(), self.cols.next_power_of_two())
    }

    fn cost(&self) -> Cost {
        let len = self.rows * self.cols;
        Cost {
            flops: 4 * len as u64,
            bytes_read: bytes(if self.penalised { 2 * len } else { len }),
            bytes_written: bytes(self.rows),
        }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arg;

    const LOGITS: [f64; 5] = [1.0, 3.0, 2.0, 3.0, -1.0];

    /// Temperature, top_p, min_p, penalty.
    type Settings = [f64; SETTINGS];

    fn sample(logits: &[f64], settings: Settings, draw: [i32; DRAW], position: i32) -> f64 {
        let kernel = Sample { rows: 1, cols: logits.len(), penalised: false };
        let mut token = [f64::NAN];
        let args = vec![
            Arg::Read(logits),
            Arg::Read(&settings),
            Arg::ReadI32(&draw),
            Arg::ReadI32(std::slice::from_ref(&position)),
            Arg::Write(&mut token),
        ];
        kernel.run_f64(Args::new(args), &StepState::default());
        token[0]
    }

    /// How often each token is chosen.
    fn counts(settings: Settings, [seed, top_k]: [i32; 2], draws: i32) -> [usize; 5] {
        let mut counts = [0; 5];
        for at in 0..draws {
            counts[sample(&LOGITS, settings, [seed, 3, top_k], at) as usize] += 1;
        }
        counts
    }

    #[test]
    fn the_most_likely_is_taken_without_a_temperature() {
        assert_eq!(counts([0.0, 1.0, 0.0, 1.0], [0, 0], 5), [0, 5, 0, 0, 0]);
    }

    #[test]
    fn said_tokens_are_less_likely() {
        let kernel = Sample { rows: 2, cols: 3, penalised: true };
        let logits = [1.0, 3.0, 2.5, -1.0, -1.5, -9.0];
        let settings = [0.0, 1.0, 0.0, 2.0].repeat(2);
        let mut said = [0.0, 1.0, 0.0, 1.0, 0.0, 0.0];
        let mut tokens = [f64::NAN; 2];
        let mut choose = || {
            let args = vec![
                Arg::Read(&logits),
                Arg::Read(&settings),
                Arg::ReadI32(&[0; 6]),
                Arg::ReadI32(&[4, 5]),
                Arg::Write(&mut said),
                Arg::Write(&mut tokens),
            ];
            kernel.run_f64(Args::new(args), &StepState::default());
            tokens
        };
        assert_eq!(choose(), [2.0, 1.0]);
        // Said in their turn, they give way: 1.25 to 1.5, and -3 to -2.
        assert_eq!(choose(), [1.0, 0.0]);
        assert_eq!(said, [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn tokens_come_as_often_as_they_are_likely() {
        let settings = [2.0, 1.0, 0.0, 1.0];
        let weights = LOGITS.map(|logit| (logit / 2.0).exp());
        let total: f64 = weights.iter().sum();
        for (count, weight) in counts(settings, [5, 0], 4000).iter().zip(weights) {
            let share = *count as f64 / 4000.0;
            assert!((share - weight / total).abs() < 0.03, "{share}, not {}", weight / total);
        }
        assert_eq!(counts(settings, [5, 0], 100), counts(settings, [5, 0], 100));
        assert_ne!(counts(settings, [5, 0], 100), counts(settings, [6, 0], 100));
    }

    #[test]
    fn the_unlikely_are_left_out() {
        for (top_k, top_p, min_p, left) in [
            (2, 1.0, 0.0, [false, true, false, true, false]),
            (3, 1.0, 0.0, [false, true, true, true, false]),
            // As likely as the first.
            (1, 1.0, 0.0, [false, true, false, true, false]),
            // 0.40, 0.40, 0.15, 0.05, 0.01
            (0, 0.3, 0.0, [false, true, false, true, false]),
            (0, 0.85, 0.0, [false, true, true, true, false]),
            (0, 0.97, 0.0, [true, true, true, true, false]),
            (0, 1.0, 0.2, [false, true, true, true, false]),
            (0, 1.0, 1.0, [false, true, false, true, false]),
            // Of the three that are left, two are enough.
            (3, 0.83, 0.0, [false, true, false, true, false]),
        ] {
            let found = counts([1.0, top_p, min_p, 1.0], [0, top_k], 500).map(|count| count > 0);
            assert_eq!(found, left, "{top_k} {top_p} {min_p}");
        }
    }

    #[test]
    fn what_is_no_number_chooses_nothing() {
        let inf = f64::INFINITY;
        for settings in [[0.0, 1.0, 0.0, 1.0], [1.0, 0.9, 0.1, 1.0]] {
            for wrong in [[0.0, f64::NAN], [inf, 0.0], [-inf, -inf]] {
                assert_eq!(sample(&wrong, settings, [1, 2, 0], 0), -1.0, "{wrong:?}");
            }
            assert_eq!(sample(&[-inf, 2.0], settings, [1, 2, 0], 0), 1.0);
        }
    }
}
