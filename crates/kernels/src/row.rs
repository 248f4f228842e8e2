//! Passes over one row of a matrix: vectorised for the processor at hand, and long rows over all cores.
//!
//! A row is cut in the same places whatever the number of threads, and sums are added in the order of the
//! row, so that the same row always gives the same bits.

use std::array::from_fn;

use rayon::prelude::*;

use crate::Real;

/// Elements of a row that one task takes.
const PART: usize = 1 << 15;
/// Elements summed in the row's own type before they go into an f64.
const BLOCK: usize = 1 << 10;
/// Sums that run side by side: two of the widest registers there are.
const LANES: usize = 32;
/// Elements of which a lane adds up four before they go into its sum: several sums lie in memory, and each addition
/// waits for the one before to arrive there.
const GROUP: usize = 4 * LANES;

/// Runs `f` compiled for the widest vector instructions of this processor. What `f` calls takes part only
/// where it is inlined. A loop that writes has to own what it reads beside its slices (`move`): a number behind a
/// reference may be what it has just written, as far as the compiler knows, and is read again for every element.
#[inline(always)]
pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// The widest vector instructions of this processor that the twins are compiled for. With others, the last bits of a sum
/// may be others.
pub fn vector_instructions() -> &'static str {
    match pulp::Arch::new() {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        pulp::Arch::V4(_) => "AVX-512",
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        pulp::Arch::V3(_) => "AVX2",
        #[cfg(target_arch = "aarch64")]
        pulp::Arch::Neon(_) => "NEON",
        _ => "no vectors",
    }
}

/// The row's largest number and its first place; the lowest finite number and 0 where nothing is larger.
pub(crate) fn peak<F: Real>(row: &[F]) -> (F, usize) {
    let peaks = map_parts(row.par_chunks(PART), |part| {
        vectorised(
            #[inline(always)]
            || peak_of(part),
        )
    });
    let mut best = (F::min_value(), 0);
    for (part, (value, place)) in peaks.into_iter().enumerate() {
        if value > best.0 {
            best = (value, part * PART + place);
        }
    }
    best
}

/// Σ f(a, b) over two rows of the same length, `K` sums at once.
pub(crate) fn sums<F: Real, const K: usize>(
    a: &[F],
    b: &[F],
    f: impl Fn(F, F) -> [F; K] + Copy + Sync + Send,
) -> [f64; K] {
    let parts = a.par_chunks(PART).zip(b.par_chunks(PART));
    total(map_parts(parts, move |(a, b)| {
        vectorised(
            #[inline(always)]
            move || sums_of(a, b, f),
        )
    }))
}

/// Puts the first result of f(a, b) into a, all over the row, and returns the sum of the second.
pub(crate) fn update<F: Real>(
    a: &mut [F],
    b: &[F],
    f: impl Fn(F, F) -> (F, F) + Copy + Sync + Send,
) -> f64 {
    let parts = a.par_chunks_mut(PART).zip(b.par_chunks(PART));
    total(map_parts(parts, move |(a, b)| {
        vectorised(
            #[inline(always)]
            move || [update_of(a, b, f)],
        )
    }))[0]
}

/// Calls `make` with the number and the elements of each row of `out`, many rows a task.
pub(crate) fn each<F: Real>(out: &mut [F], width: usize, make: impl Fn(usize, &mut [F]) + Sync) {
    const TASK: usize = 1 << 14;
    let rows = (TASK / width).max(1);
    out.par_chunks_mut(rows * width).enumerate().for_each(|(task, out)| {
        for (row, out) in (task * rows..).zip(out.chunks_exact_mut(width)) {
            make(row, out);
        }
    });
}

/// a = f(a) all over the row.
pub(crate) fn map<F: Real>(a: &mut [F], f: impl Fn(F) -> F + Copy + Sync + Send) {
    a.par_chunks_mut(PART).for_each(move |part| {
        vectorised(
            #[inline(always)]
            move || {
                for a in part {
                    *a = f(*a);
                }
            },
        );
    });
}

fn map_parts<P: IndexedParallelIterator, R: Send>(
    parts: P,
    f: impl Fn(P::Item) -> R + Sync + Send,
) -> Vec<R> {
    parts.map(f).collect()
}

fn total<const K: usize>(parts: Vec<[f64; K]>) -> [f64; K] {
    parts.into_iter().fold([0.0; K], |sum, part| from_fn(|k| sum[k] + part[k]))
}

#[inline(always)]
fn larger<F: Real>(a: F, b: F) -> F {
    if b > a { b } else { a }
}

#[inline(always)]
fn peak_of<F: Real>(row: &[F]) -> (F, usize) {
    let mut lanes = [F::min_value(); LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        lanes = from_fn(
            #[inline(always)]
            |i| larger(lanes[i], chunk[i]),
        );
    }
    let top = lanes.iter().chain(rest).fold(F::min_value(), |top, &value| larger(top, value));
    let holds = |block: &[F]| block.iter().fold(false, |any, &value| any | (value == top));
    let place = row.chunks(BLOCK).position(holds).and_then(|block| {
        let first = block * BLOCK;
        Some(first + row[first..].iter().position(|&value| value == top)?)
    });
    (top, place.unwrap_or(0))
}

/// The lanes' sum, in a tree: a chain of additions would take as long as a short row.
#[inline(always)]
fn sum_of<F: Real>(lanes: [F; LANES]) -> f64 {
    let sums: [F; LANES / 2] = from_fn(
        #[inline(always)]
        |i| lanes[i] + lanes[i + LANES / 2],
    );
    let sums: [f64; LANES / 4] = from_fn(
        #[inline(always)]
        |i| sums[i].f64() + sums[i + LANES / 4].f64(),
    );
    let sums: [f64; LANES / 8] = from_fn(
        #[inline(always)]
        |i| sums[i] + sums[i + LANES / 8],
    );
    (sums[0] + sums[2]) + (sums[1] + sums[3])
}

/// The end of a row, made as long as the lanes by its first element, whose results are dropped.
#[inline(always)]
fn padded<F: Real>(rest: &[F]) -> [F; LANES] {
    let mut lanes = [rest[0]; LANES];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}

/// As [`sums`], in one part and within the caller's [`vectorised`].
#[inline(always)]
pub(crate) fn sums_of<F: Real, const K: usize>(
    a: &[F],
    b: &[F],
    f: impl Fn(F, F) -> [F; K],
) -> [f64; K] {
    let mut sums = [0.0; K];
    for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
        let mut lanes = [[F::zero(); LANES]; K];
        let (a, a_rest) = a.as_chunks::<GROUP>();
        let (b, b_rest) = b.as_chunks::<GROUP>();
        for (a, b) in a.iter().zip(b) {
            for i in 0..LANES {
                let mut values = f(a[i], b[i]);
                for i in (i + LANES..GROUP).step_by(LANES) {
                    let more = f(a[i], b[i]);
                    for k in 0..K {
                        values[k] += more[k];
                    }
                }
                for k in 0..K {
                    lanes[k][i] += values[k];
                }
            }
        }
        let (a, a_rest) = a_rest.as_chunks::<LANES>();
        let (b, b_rest) = b_rest.as_chunks::<LANES>();
        for (a, b) in a.iter().zip(b) {
            for i in 0..LANES {
                let values = f(a[i], b[i]);
                for k in 0..K {
                    lanes[k][i] += values[k];
                }
            }
        }
        if !a_rest.is_empty() {
            let (a, b) = (padded(a_rest), padded(b_rest));
            for i in 0..LANES {
                let values = f(a[i], b[i]);
                for k in 0..K {
                    lanes[k][i] += if i < a_rest.len() { values[k] } else { F::zero() };
                }
            }
        }
        for (sum, lanes) in sums.iter_mut().zip(lanes) {
            *sum += sum_of(lanes);
        }
    }
    sums
}

#[inline(always)]
fn update_of<F: Real>(a: &mut [F], b: &[F], f: impl Fn(F, F) -> (F, F)) -> f64 {
    let mut sum = 0.0;
    for (a, b) in a.chunks_mut(BLOCK).zip(b.chunks(BLOCK)) {
        let mut lanes = [F::zero(); LANES];
        let (a, a_rest) = a.as_chunks_mut::<LANES>();
        let (b, b_rest) = b.as_chunks::<LANES>();
        for (a, b) in a.iter_mut().zip(b) {
            let mut values = *a;
            for i in 0..LANES {
                let (value, term) = f(values[i], b[i]);
                values[i] = value;
                lanes[i] += term;
            }
            *a = values;
        }
        if !a_rest.is_empty() {
            let (mut values, b) = (padded(a_rest), padded(b_rest));
            for i in 0..LANES {
                let (value, term) = f(values[i], b[i]);
                values[i] = value;
                lanes[i] += if i < b_rest.len() { term } else { F::zero() };
            }
            a_rest.copy_from_slice(&values[..b_rest.len()]);
        }
        sum += sum_of(lanes);
    }
    sum
}
