//! Depthwise convolutions over images [n, height, width, channels]: each channel is summed over the taps by itself.

use rayon::prelude::*;

use crate::chunks::{chunk, chunks, tile};
use crate::patches::{Patches, Window};
use crate::row::{self, vectorised};
use crate::{
    Args, Caps, Cost, Kernel, Launch, Operand, Real, Source, StepState, Variant, bytes, twin,
};

const THREADS: usize = 64;

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// out [n, places, channels] of x and the weights.
    Forward,
    /// The gradient by x, of dy and the weights.
    Input,
    /// The gradient by the weights, of x and dy.
    Weights,
}

/// A depthwise convolution, or a gradient of it; weights are [taps, channels].
///
/// Operands: `image` (x, or dy), `weights` (or `dy`), `out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Depthwise {
    /// What a place sees.
    pub window: Window,
    /// Images.
    pub images: usize,
    /// Their height and width.
    pub size: [usize; 2],
    /// Their channels.
    pub channels: usize,
    /// What is made.
    pub pass: Pass,
}

impl Depthwise {
    fn patches(&self) -> Patches {
        let look = match self.pass {
            Pass::Input => Patches::looking_back,
            Pass::Forward | Pass::Weights => Patches::looking,
        };
        look(&self.window, self.images, self.size, self.channels)
    }

    /// Places of a chunk of a sum over all, and chunks.
    fn parts(&self) -> [usize; 2] {
        let places = self.patches().rows();
        [chunk(places), chunks(places)]
    }

    fn word(&self) -> usize {
        if self.channels.is_multiple_of(4) { 4 } else { 1 }
    }

    fn launches_with(&self, word: usize, caps: &Caps) -> Vec<Launch> {
        let patches = self.patches();
        let (words, taps) = (self.channels / word, patches.taps());
        let source = Source { fours: word == 4, ..Source::of("depthwise") };
        let dims = |len: usize| {
            let [chunk, chunks] = self.parts();
            let words = [words, patches.rows(), chunk, chunks, len];
            words.map(|word| word as u32).to_vec()
        };
        if self.pass != Pass::Weights {
            let (rounds, len) = (caps.rounds(), patches.rows() * words);
            let mut overrides = patches.geometry();
            overrides.push(("ROUNDS", rounds as f64));
            return vec![Launch {
                source,
                entry: "by_places",
                overrides,
                dims: dims(len),
                bindings: vec![Some(0), Some(1), Some(2)],
                workgroups: caps.grid(len.div_ceil(THREADS * rounds)),
            }];
        }
        let launch =
            |entry: &'static str, tile: [usize; 2], bindings: [Option<usize>; 4], groups: usize| {
                let mut overrides = if entry == "add" { Vec::new() } else { patches.geometry() };
                let [columns, lanes] = tile.map(|side| side as f64);
                overrides.extend([("COLUMNS", columns), ("LANES", lanes)]);
                Launch {
                    source: source.clone(),
                    entry,
                    overrides,
                    dims: dims(taps * words),
                    bindings: bindings.to_vec(),
                    workgroups: caps.grid(groups),
                }
            };
        let (own, all) = (tile(words), tile(taps * words));
        let groups = self.parts()[1] * taps * words.div_ceil(own[0]);
        let added = (taps * words).div_ceil(all[0]);
        vec![
            launch("by_weights", own, [Some(0), Some(1), None, Some(3)], groups),
            launch("add", all, [None, None, Some(2), Some(3)], added),
        ]
    }

    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let (patches, channels) = (self.patches(), self.channels);
        let (image, other, out) = (args.read(0), args.read(1), args.write(2));
        if self.pass == Pass::Weights {
            let (rows, chunk) = (patches.rows(), chunk(patches.rows()));
            let starts: Vec<usize> = (0..rows).step_by(chunk).collect();
            let sums = starts.par_iter().map(|&first| {
                let mut sums = vec![F::zero(); out.len()];
                for place in first..rows.min(first + chunk) {
                    let dy = &other[place * channels..][..channels];
                    each_tap(&patches, place, |tap, pixel| {
                        let seen = &image[pixel * channels..][..channels];
                        add_products(&mut sums[tap * channels..][..channels], seen, dy);
                    });
                }
                sums
            });
            let sums: Vec<Vec<F>> = sums.collect();
            out.fill(F::zero());
            for sums in &sums {
                out.iter_mut().zip(sums).for_each(|(out, &sum)| *out += sum);
            }
            return;
        }
        row::each(out, channels, |place, out| {
            out.fill(F::zero());
            each_tap(&patches, place, |tap, pixel| {
                let seen = &image[pixel * channels..][..channels];
                add_products(out, seen, &other[tap * channels..][..channels]);
            });
        });
    }
}

/// The taps through which a place sees a pixel.
fn each_tap(patches: &Patches, place: usize, mut see: impl FnMut(usize, usize)) {
    for tap in 0..patches.taps() {
        if let Some(pixel) = patches.pixel(place, tap) {
            see(tap, pixel);
        }
    }
}

fn add_products<F: Real>(sums: &mut [F], a: &[F], b: &[F]) {
    vectorised(
        #[inline(always)]
        move || {
            for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
                *sum = a.mul_add(b, *sum);
            }
        },
    );
}

impl Kernel for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise"
    }

    fn operands(&self) -> Vec<Operand> {
        let pixels = self.images * self.size[0] * self.size[1] * self.channels;
        let patches = self.patches();
        let weights = patches.taps() * self.channels;
        match self.pass {
            Pass::Forward => vec![
                Operand::read("x", pixels),
                Operand::read("weights", weights),
                Operand::write("out", patches.rows() * self.channels),
            ],
            Pass::Input => vec![
                Operand::read("dy", patches.len()),
                Operand::read("weights", weights),
                Operand::write("dx", pixels),
            ],
            Pass::Weights => vec![
                Operand::read("x", pixels),
                Operand::read("dy", patches.rows() * self.channels),
                Operand::write("dweights", weights),
            ],
        }
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        self.launches_with(self.word(), caps)
    }

    fn variants(&self, caps: &Caps) -> Vec<Variant> {
        let variant = |word: usize| Variant {
            name: format!("{word} at once"),
            launches: self.launches_with(word, caps),
        };
        let single = (self.word() > 1).then_some(1);
        [Some(self.word()), single].into_iter().flatten().map(variant).collect()
    }

    fn bucket(&self) -> String {
        let channels = self.channels.next_power_of_two();
        let places = self.patches().rows().next_power_of_two();
        format!("{:?}, {places} places of {channels}, {:?}", self.pass, self.window)
    }

    fn halves(&self) -> Vec<usize> {
        match self.pass {
            Pass::Weights => vec![0, 1],
            Pass::Forward | Pass::Input => vec![0, 1, 2],
        }
    }

    fn scratch(&self) -> usize {
        match self.pass {
            Pass::Weights => self.parts()[1] * self.patches().taps() * self.channels,
            Pass::Forward | Pass::Input => 0,
        }
    }

    fn cost(&self) -> Cost {
        let operands = self.operands();
        let (out, read) = operands.split_last().expect("it writes something");
        let read = read.iter().map(|operand| operand.len).sum();
        let patches = self.patches();
        let flops = 2 * patches.rows() * patches.taps() * self.channels;
        Cost { flops: flops as u64, bytes_read: bytes(read), bytes_written: bytes(out.len) }
    }

    twin!();
}
