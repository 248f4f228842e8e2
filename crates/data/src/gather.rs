//! The hot path: rows of a batch, normalised, and moved a little if asked.

use distil_gpu_kernels::random::{stream, threefry2x32};
use rayon::prelude::*;

use super::{Features, Normalisation, Numbers};

/// A random move of every image of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// The furthest an image moves, in x and in y.
    pub pixels: u32,
    /// Seed of the recipe.
    pub seed: u32,
    /// Number of the training step.
    pub step: u32,
    /// Position of the batch's first image among those of the step.
    pub first: u32,
}

/// Batches of fewer numbers are written by one thread.
const PARALLEL: usize = 1 << 15;

impl Numbers {
    /// Writes the examples of these numbers, normalised, to `out` [indices, example_len].
    ///
    /// With a `shift`, the image at each position in the batch moves by a whole number of pixels in x and
    /// in y, each uniform in [-pixels, pixels]; pixels that come in from outside have the raw value 0. The
    /// same seed, step and position give the same move.
    ///
    /// # Panics
    /// If an index is out of range, `out` is of another length, the normalisation does not fit
    /// ([`Normalisation::check`]), or rows that are not images are to be moved ([`super::Examples::check_shift`]).
    pub fn gather(
        &self,
        indices: &[u32],
        normalisation: &Normalisation,
        shift: Option<Shift>,
        out: &mut [f32],
    ) {
        let len = self.example_len();
        assert_eq!(out.len(), indices.len() * len, "a batch of {} examples", indices.len());
        let shift = shift.filter(|shift| shift.pixels > 0);
        // Where all is treated alike, the whole example is one plane.
        let whole = shift.is_none() && normalisation.mean.len() == 1;
        let groups = if whole { 1 } else { self.shape()[0] };
        let affines = normalisation.affines(groups);
        let batch = Batch { indices, groups, plane: len / groups, image: self.shape(), shift };
        match self.features() {
            Features::U8(pixels) if batch.plane == 1 => {
                batch.write(pixels, out, |group| {
                    let affine = affines[group];
                    move |pixel| affine.apply_pixel(pixel)
                });
            }
            Features::U8(pixels) => {
                let tables: Vec<[f32; 256]> = affines
                    .iter()
                    .map(|affine| std::array::from_fn(|pixel| affine.apply_pixel(pixel as u8)))
                    .collect();
                batch.write(pixels, out, |group| {
                    let table = &tables[group];
                    move |pixel| table[usize::from(pixel)]
                });
            }
            Features::F32(values) => {
                batch.write(values, out, |group| {
                    let affine = affines[group];
                    move |value| affine.apply(value)
                });
            }
        }
    }
}

/// What the rows of a batch have in common: an example is `groups` planes of `plane` numbers.
struct Batch<'a> {
    indices: &'a [u32],
    groups: usize,
    plane: usize,
    image: &'a [usize],
    shift: Option<Shift>,
}

impl Batch<'_> {
    /// `normalise` gives the function for a plane of that number.
    fn write<T: Copy + Default + Sync, N: Fn(T) -> f32>(
        &self,
        source: &[T],
        out: &mut [f32],
        normalise: impl Fn(usize) -> N + Sync,
    ) {
        let len = self.groups * self.plane;
        let write = |(position, out): (usize, &mut [f32])| {
            let source = &source[self.indices[position] as usize * len..][..len];
            self.write_row(position, source, out, &normalise);
        };
        if out.len() < PARALLEL {
            out.chunks_exact_mut(len).enumerate().for_each(write);
        } else {
            out.par_chunks_exact_mut(len).enumerate().for_each(write);
        }
    }

    fn write_row<T: Copy + Default, N: Fn(T) -> f32>(
        &self,
        position: usize,
        source: &[T],
        out: &mut [f32],
        normalise: &impl Fn(usize) -> N,
    ) {
        if let Some(shift) = self.shift {
            let [_, _, width] = *self.image else { panic!("{:?} is no image", self.image) };
            let (dx, dy) = shift.offsets(shift.first + position as u32);
            let planes = source.chunks_exact(self.plane).zip(out.chunks_exact_mut(self.plane));
            for (group, (source, out)) in planes.enumerate() {
                write_moved(source, out, width, (dx, dy), normalise(group));
            }
        } else if self.plane == 1 {
            for (group, (out, &value)) in out.iter_mut().zip(source).enumerate() {
                *out = normalise(group)(value);
            }
        } else {
            let planes = source.chunks_exact(self.plane).zip(out.chunks_exact_mut(self.plane));
            for (group, (source, out)) in planes.enumerate() {
                let normalised = normalise(group);
                for (out, &value) in out.iter_mut().zip(source) {
                    *out = normalised(value);
                }
            }
        }
    }
}

impl Shift {
    /// How far the image at a position of the step moves, in x (to the right) and in y (down).
    pub fn offsets(self, position: u32) -> (i64, i64) {
        let words = threefry2x32([self.seed, stream::SHIFT], [position, self.step]);
        let places = 2 * u64::from(self.pixels) + 1;
        let offset = |word: u32| ((u64::from(word) * places) >> 32) as i64 - i64::from(self.pixels);
        (offset(words[0]), offset(words[1]))
    }
}

/// Writes one plane of an image `width` wide, its content moved by `offset`, in x and in y.
fn write_moved<T: Copy + Default>(
    source: &[T],
    out: &mut [f32],
    width: usize,
    (dx, dy): (i64, i64),
    normalised: impl Fn(T) -> f32,
) {
    let blank = normalised(T::default());
    // Columns of `out` that show the source, and the first column of the source that shows.
    let start = usize::try_from(dx).unwrap_or(0).min(width);
    let hidden = usize::try_from(-dx).unwrap_or(0).min(width);
    let shown = width - start.max(hidden);
    for (y, out) in out.chunks_exact_mut(width).enumerate() {
        let from = usize::try_from(y as i64 - dy).ok();
        let Some(row) = from.and_then(|y| source.chunks_exact(width).nth(y)) else {
            out.fill(blank);
            continue;
        };
        out[..start].fill(blank);
        for (out, &value) in out[start..].iter_mut().zip(&row[hidden..][..shown]) {
            *out = normalised(value);
        }
        out[start + shown..].fill(blank);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(rows: usize, shape: [usize; 3]) -> Numbers {
        let len = rows * shape.iter().product::<usize>();
        let pixels = (0..len).map(|i| (i * 37 % 251) as u8 + 1).collect();
        Numbers::new(Features::U8(pixels), shape.to_vec()).unwrap()
    }

    fn raw(examples: &Numbers, i: usize) -> f32 {
        match examples.features() {
            Features::U8(pixels) => f32::from(pixels[i]) / 255.0,
            Features::F32(values) => values[i],
        }
    }

    #[test]
    fn normalises_every_kind() {
        let floats = (0..60).map(|i| i as f32 * 0.25 - 3.0).collect();
        let table = Numbers::new(Features::F32(floats), vec![6]).unwrap();
        let bytes = Numbers::new(Features::U8((0..60).collect()), vec![6]).unwrap();
        let image = pixels(10, [3, 2, 5]);
        for examples in [table, bytes, image] {
            let groups = examples.shape()[0];
            let (len, plane) = (examples.example_len(), examples.example_len() / groups);
            let indices = [3, 0, 9, 3];
            let each = Normalisation {
                mean: (0..groups).map(|g| g as f32 * 0.5).collect(),
                std: (0..groups).map(|g| g as f32).collect(),
            };
            let one = Normalisation { mean: vec![0.5], std: vec![0.25] };
            for normalisation in [each, one] {
                let mut out = vec![f32::NAN; indices.len() * len];
                examples.gather(&indices, &normalisation, None, &mut out);
                for (i, found) in out.iter().enumerate() {
                    let group = if normalisation.mean.len() == 1 { 0 } else { i % len / plane };
                    let std = normalisation.std[group];
                    let std = if std == 0.0 { 1.0 } else { std };
                    let value = raw(&examples, indices[i / len] as usize * len + i % len);
                    assert_eq!(*found, (value - normalisation.mean[group]) / std);
                }
            }
        }
    }

    #[test]
    fn moves_images_and_fills_with_black() {
        let examples = pixels(4, [2, 5, 3]);
        let normalisation = Normalisation { mean: vec![0.5, 0.25], std: vec![2.0, 0.0] };
        let indices = [2, 1, 1, 0, 3, 3, 3, 3, 3, 3];
        for limit in [1, 2, 9] {
            let shift = Shift { pixels: limit, seed: 11, step: 5, first: 0 };
            let mut out = vec![f32::NAN; indices.len() * 30];
            examples.gather(&indices, &normalisation, Some(shift), &mut out);
            for (i, found) in out.iter().enumerate() {
                let (position, channel, y, x) = (i / 30, i % 30 / 15, i % 15 / 3, i % 3);
                let (dx, dy) = shift.offsets(position as u32);
                assert!(dx.abs() <= i64::from(limit) && dy.abs() <= i64::from(limit));
                let (from_x, from_y) = (x as i64 - dx, y as i64 - dy);
                let inside = (0..3).contains(&from_x) && (0..5).contains(&from_y);
                let place = (from_y * 3 + from_x) as usize;
                let value = match inside {
                    true => raw(&examples, indices[position] as usize * 30 + channel * 15 + place),
                    false => 0.0,
                };
                let std = [2.0, 1.0][channel];
                assert_eq!(*found, (value - normalisation.mean[channel]) / std, "at {i}");
            }
        }
    }

    #[test]
    fn moves_are_uniform_and_repeat() {
        let shift = Shift { pixels: 1, seed: 0, step: 0, first: 0 };
        let mut counts = [[0_u32; 3]; 3];
        for position in 0..9000 {
            let (dx, dy) = shift.offsets(position);
            counts[(dy + 1) as usize][(dx + 1) as usize] += 1;
        }
        assert!(
            counts.as_flattened().iter().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
        assert_eq!(shift.offsets(3), shift.offsets(3));
        let next = Shift { step: 1, ..shift };
        assert!((0..20).any(|position| shift.offsets(position) != next.offsets(position)));
    }

    #[test]
    fn threads_change_nothing() {
        let examples = pixels(20, [1, 28, 28]);
        let normalisation = examples.normalisation();
        let indices: Vec<u32> = (0..100).map(|i| i * 7 % 20).collect();
        let shift = Some(Shift { pixels: 3, seed: 1, step: 2, first: 0 });
        let mut all = vec![0.0; 100 * 784];
        assert!(all.len() > PARALLEL);
        examples.gather(&indices, &normalisation, shift, &mut all);
        let mut few = vec![0.0; 10 * 784];
        examples.gather(&indices[..10], &normalisation, shift, &mut few);
        assert_eq!(few, all[..few.len()]);
    }
}
