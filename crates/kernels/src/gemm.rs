//! Products of matrices on the processor, by the gemm crates of the two types alone that twins have.

use gemm_common::Parallelism;

use crate::Real;

/// A matrix in a larger one: first element, strides of rows and columns.
pub(crate) type Place<P> = (P, usize, usize);

/// What the gemm crates choose for this processor: m, n, k; the target with its strides of columns and rows, and
/// whether it is read; a and b with theirs; factors of target and product; what of the three is conjugated; threads.
pub type Gemm<F> = unsafe fn(
    usize,
    usize,
    usize,
    *mut F,
    isize,
    isize,
    bool,
    *const F,
    isize,
    isize,
    *const F,
    isize,
    isize,
    F,
    F,
    bool,
    bool,
    bool,
    Parallelism,
);

/// The most products of an element that gemm is given at a time. It sums so many at once whatever the sizes of the
/// result, more of them in chunks that depend on those sizes.
const CHUNK: usize = 512;

/// target = factor · a · b, or target + it, for a [m, k] and b [k, n]. On this thread alone. Sums are made in chunks of
/// equal length that depend on k alone, so that but for tiny results, rows and columns an element has the same bits in a
/// result of any size.
///
/// # Safety
/// The places hold matrices of these sizes, and nothing else touches the target.
pub(crate) unsafe fn product<F: Real>(
    [m, n, k]: [usize; 3],
    target: Place<*mut F>,
    add: bool,
    a: Place<*const F>,
    b: Place<*const F>,
    factor: f64,
) {
    // The kernels want columns of the target to lie together: else the transposed product is asked for.
    let transpose = |(first, row, col)| (first, col, row);
    let (m, n, target, (a, a_row, a_col), (b, b_row, b_col)) = if target.2 < target.1 {
        (n, m, (target.0, target.2, target.1), transpose(b), transpose(a))
    } else {
        (m, n, target, a, b)
    };
    let chunk = k.div_ceil(k.div_ceil(CHUNK).max(1)).max(1);
    for first in (0..k.max(1)).step_by(chunk) {
        let add = add || first > 0;
        let kept = if add { F::one() } else { F::zero() };
        // SAFETY: as the caller promises; strides and sizes were exchanged together, and the chunk is some of A's columns
        // and as many of B's rows.
        unsafe {
            F::gemm()(
                m,
                n,
                chunk.min(k - first),
                target.0,
                target.2 as isize,
                target.1 as isize,
                add,
                a.add(first * a_col),
                a_col as isize,
                a_row as isize,
                b.add(first * b_row),
                b_col as isize,
                b_row as isize,
                kept,
                F::of64(factor),
                false,
                false,
                false,
                Parallelism::None,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole numbers, so that every order of the sums gives the same.
    fn check<F: Real>(m: usize, n: usize, k: usize) {
        let numbers = |len: usize, step: usize| -> Vec<F> {
            (0..len).map(|i| F::of64((i * step % 7) as f64 - 3.0)).collect()
        };
        let (a, b) = (numbers(m * k, 5), numbers(k * n, 3));
        for (add, a_turned, b_turned, out_turned) in
            (0..16).map(|case| (case & 1 != 0, case & 2 != 0, case & 4 != 0, case & 8 != 0))
        {
            let strides = |turned, rows, cols| if turned { (1, rows) } else { (cols, 1) };
            let ((a_row, a_col), (b_row, b_col)) =
                (strides(a_turned, m, k), strides(b_turned, k, n));
            let (row, col) = strides(out_turned, m, n);
            let mut out = numbers(m * n, 2);
            let before = out.clone();
            // SAFETY: the vectors have m·n, m·k and k·n elements.
            unsafe {
                product(
                    [m, n, k],
                    (out.as_mut_ptr(), row, col),
                    add,
                    (a.as_ptr(), a_row, a_col),
                    (b.as_ptr(), b_row, b_col),
                    2.0,
                );
            }
            for (i, j) in (0..m).flat_map(|i| (0..n).map(move |j| (i, j))) {
                let at = |i, j| a[i * a_row + j * a_col];
                let sum: F = (0..k).map(|l| at(i, l) * b[l * b_row + j * b_col]).sum();
                let kept = if add { before[i * row + j * col] } else { F::zero() };
                assert_eq!(
                    out[i * row + j * col],
                    kept + F::of64(2.0) * sum,
                    "{m} {n} {k} {i} {j}"
                );
            }
        }
    }

    #[test]
    fn products_are_exact_in_whole_numbers_whatever_the_strides() {
        for (m, n, k) in [
            (1, 1, 1),
            (1, 17, 5),
            (33, 1, 9),
            (5, 7, 0),
            (37, 50, 21),
            (64, 96, 130),
            (3, 70, 1030),
        ] {
            check::<f32>(m, n, k);
            check::<f64>(m, n, k);
        }
    }
}
