//! Pools: the largest or the mean of what a window sees of images [n, height, width, channels], channel by channel.

use rayon::prelude::*;

use crate::patches::{Patches, Window};
use crate::{Args, Caps, Cost, Kernel, Launch, Operand, Real, Source, StepState, bytes, row, twin};

const THREADS: usize = 64;

/// What a pool makes of what its window sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// The largest; NaN where there is one. Its gradient goes to the first of the largest in the order of rows.
    Max,
    /// The mean.
    Mean {
        /// Whether pixels beyond the edge count, as zeros.
        count_padding: bool,
    },
}

/// out [n, places, channels] of x, or with `backward` the gradient by x.
///
/// Operands: `x`, `out`; backward `x` (of a maximum), `dy`, `dx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// What a place sees: at least one pixel each, see [`Pool::is_filled`].
    pub window: Window,
    /// Images.
    pub images: usize,
    /// Their height and width.
    pub size: [usize; 2],
    /// Their channels.
    pub channels: usize,
    /// What becomes of what is seen.
    pub kind: PoolKind,
    /// The gradient.
    pub backward: bool,
}

impl Pool {
    /// Whether each place sees a pixel, so that it has a largest one: the padding is at most half of the window's reach.
    pub fn is_filled(window: &Window) -> bool {
        let [top, left, bottom, right] = window.padding;
        let fits = |axis: usize, before: usize, after: usize| {
            let reach = window.dilation[axis] * (window.taps[axis] - 1) + 1;
            window.dilation[axis] == 1 && 2 * before.max(after) <= reach
        };
        fits(0, top, bottom) && fits(1, left, right)
    }

    fn looking(&self) -> Patches {
        Patches::looking(&self.window, self.images, self.size, self.channels)
    }

    fn looking_back(&self) -> Patches {
        Patches::looking_back(&self.window, self.images, self.size, self.channels)
    }

    fn pixels(&self) -> usize {
        self.images * self.size[0] * self.size[1]
    }

    fn outputs(&self) -> usize {
        let rows = if self.backward { self.pixels() } else { self.looking().rows() };
        rows * self.channels
    }

    fn run<F: Real>(&self, args: Args<'_, F>, _state: &StepState) {
        match (self.kind, self.backward) {
            (PoolKind::Max, false) => self.largest(args),
            (PoolKind::Mean { count_padding }, false) => self.mean(args, count_padding),
            (PoolKind::Max, true) => self.largest_back(args),
            (PoolKind::Mean { count_padding }, true) => self.mean_back(args, count_padding),
        }
    }

    fn largest<F: Real>(&self, mut args: Args<'_, F>) {
        let (patches, x) = (self.looking(), args.read(0));
        row::each(args.write(1), self.channels, |place, out| {
            let pixels = (0..patches.taps()).filter_map(|tap| patches.pixel(place, tap));
            for (number, pixel) in pixels.enumerate() {
                let seen = &x[pixel * self.channels..][..self.channels];
                for (best, &v) in out.iter_mut().zip(seen) {
                    *best = if number == 0 || exceeds(v, *best) { v } else { *best };
                }
            }
        });
    }

    fn mean<F: Real>(&self, mut args: Args<'_, F>, count_padding: bool) {
        let (patches, x) = (self.looking(), args.read(0));
        row::each(args.write(1), self.channels, |place, out| {
            out.fill(F::zero());
            let pixels = (0..patches.taps()).filter_map(|tap| patches.pixel(place, tap));
            for pixel in pixels {
                let seen = &x[pixel * self.channels..][..self.channels];
                out.iter_mut().zip(seen).for_each(|(sum, &v)| *sum += v);
            }
            let count = F::of64(counted(&patches, place, count_padding));
            out.iter_mut().for_each(|sum| *sum = *sum / count);
        });
    }

    /// A task for each image, whose windows give what they have to their pixels, in order.
    fn largest_back<F: Real>(&self, mut args: Args<'_, F>) {
        let (patches, x, dy) = (self.looking(), args.read(0), args.read(1));
        let (channels, pixels) = (self.channels, self.size[0] * self.size[1]);
        let windows = patches.rows() / self.images.max(1);
        args.write(2).par_chunks_mut(pixels * channels).enumerate().for_each(|(image, dx)| {
            dx.fill(F::zero());
            let mut best: Vec<(F, usize)> = Vec::new();
            for window in image * windows..(image + 1) * windows {
                best.clear();
                for pixel in (0..patches.taps()).filter_map(|tap| patches.pixel(window, tap)) {
                    let seen = &x[pixel * channels..][..channels];
                    if best.is_empty() {
                        best.extend(seen.iter().map(|&v| (v, pixel)));
                        continue;
                    }
                    for (best, &v) in best.iter_mut().zip(seen) {
                        *best = if exceeds(v, best.0) { (v, pixel) } else { *best };
                    }
                }
                for (channel, &(_, pixel)) in best.iter().enumerate() {
                    let at = (pixel - image * pixels) * channels + channel;
                    dx[at] += dy[window * channels + channel];
                }
            }
        });
    }

    fn mean_back<F: Real>(&self, mut args: Args<'_, F>, count_padding: bool) {
        let (back, patches, dy) = (self.looking_back(), self.looking(), args.read(0));
        row::each(args.write(1), self.channels, |pixel, dx| {
            dx.fill(F::zero());
            for window in (0..back.taps()).filter_map(|tap| back.pixel(pixel, tap)) {
                let share = F::of64(counted(&patches, window, count_padding)).recip();
                let seen = &dy[window * self.channels..][..self.channels];
                dx.iter_mut().zip(seen).for_each(|(sum, &g)| *sum += g * share);
            }
        });
    }
}

/// Whether `v` takes the place of what was the largest so far.
fn exceeds<F: Real>(v: F, best: F) -> bool {
    !best.is_nan() && (v.is_nan() || v > best)
}

/// How many numbers a window's mean is of.
fn counted(patches: &Patches, window: usize, count_padding: bool) -> f64 {
    let seen = (0..patches.taps()).filter(|&tap| patches.pixel(window, tap).is_some());
    if count_padding { patches.taps() as f64 } else { seen.count().max(1) as f64 }
}

impl Kernel for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn operands(&self) -> Vec<Operand> {
        let (x, out) = (self.pixels() * self.channels, self.looking().rows() * self.channels);
        match (self.kind, self.backward) {
            (_, false) => vec![Operand::read("x", x), Operand::write("out", out)],
            (PoolKind::Max, true) => {
                vec![Operand::read("x", x), Operand::read("dy", out), Operand::write("dx", x)]
            }
            (PoolKind::Mean { .. }, true) => {
                vec![Operand::read("dy", out), Operand::write("dx", x)]
            }
        }
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        let patches = if self.backward { self.looking_back() } else { self.looking() };
        let (entry, bindings) = match (self.kind, self.backward) {
            (PoolKind::Max, false) => ("largest", [Some(0), None, Some(1)]),
            (PoolKind::Mean { .. }, false) => ("mean", [Some(0), None, Some(1)]),
            (PoolKind::Max, true) => ("largest_back", [Some(0), Some(1), Some(2)]),
            (PoolKind::Mean { .. }, true) => ("mean_back", [None, Some(0), Some(1)]),
        };
        let mut overrides = patches.geometry();
        if let PoolKind::Mean { count_padding } = self.kind {
            overrides.push(("COUNT_PADDING", f64::from(u8::from(count_padding))));
        }
        let rounds = caps.rounds();
        overrides.push(("ROUNDS", rounds as f64));
        vec![Launch {
            source: Source::of("pool"),
            entry,
            overrides,
            dims: vec![self.outputs() as u32],
            bindings: bindings.to_vec(),
            workgroups: caps.grid(self.outputs().div_ceil(THREADS * rounds)),
        }]
    }

    fn halves(&self) -> Vec<usize> {
        (0..self.operands().len()).collect()
    }

    fn cost(&self) -> Cost {
        let operands = self.operands();
        let (out, read) = operands.split_last().expect("it writes something");
        let read = read.iter().map(|operand| operand.len).sum();
        let flops = self.looking().rows() * self.channels * self.looking().taps();
        Cost { flops: flops as u64, bytes_read: bytes(read), bytes_written: bytes(out.len) }
    }

    twin!();
}
