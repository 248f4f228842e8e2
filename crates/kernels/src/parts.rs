//! One kernel's work as several kernels', where a device cannot bind an operand whole.

use std::ops::Range;
use std::sync::Arc;

use crate::Kernel;

/// Where a tensor is cut, in rows: as many elements are a multiple of 256 bytes, at which every device can bind.
const ROWS: usize = 64;

/// A part of a kernel's work: parts run in order.
#[derive(Clone, Debug)]
pub struct Part {
    /// The kernel of the part.
    pub kernel: Arc<dyn Kernel>,
    /// For each of its operands, in order, the operand of the whole kernel that it lies in, and which elements.
    pub operands: Vec<(usize, Range<usize>)>,
}

impl Part {
    /// A kernel whose operands start at these elements of the whole kernel's: (which operand, first element).
    pub(crate) fn new(kernel: impl Kernel + 'static, starts: &[(usize, usize)]) -> Self {
        let lens = kernel.operands().into_iter().map(|operand| operand.len);
        let operands = starts
            .iter()
            .zip(lens)
            .map(|(&(operand, start), len)| (operand, start..start + len))
            .collect();
        Self { kernel: Arc::new(kernel), operands }
    }
}

/// The rows of an operand in ranges whose elements are `most` at most, each from a multiple of 64 rows on; `None` where
/// 64 rows are more, or rows have no length.
pub(crate) fn cuts(rows: usize, row_len: usize, most: usize) -> Option<Vec<Range<usize>>> {
    let step = most.checked_div(row_len)? / ROWS * ROWS;
    (step > 0).then(|| (0..rows).step_by(step).map(|first| first..rows.min(first + step)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::add_to::AddTo;
    use crate::chain::{Binary, Chain, Stage};
    use crate::elementwise::Elementwise;
    use crate::gather::{Gather, sorted_order};
    use crate::grad_norm::GradNormPartial;
    use crate::matmul::Matmul;
    use crate::max_norm::MaxNorm;
    use crate::optimizer::{Factor, Optimizer, Rule};
    use crate::{Access, Arg, Args, DType, StepState, random};

    /// Random numbers for every operand; ids from two below 0 to two beyond a table of 300 rows, and their order.
    fn filled(kernel: &dyn Kernel) -> (Vec<Vec<f64>>, Vec<i32>) {
        let operands = kernel.operands();
        let word = |stream, i| random::word(3, stream, 0, i);
        let number = |stream, i| f64::from(random::unit(word(stream, i))) + 0.1;
        let floats = (0..).zip(&operands);
        let floats =
            floats.map(|(stream, o)| (0..o.len as u32).map(|i| number(stream, i)).collect());
        let ids = operands.iter().find(|operand| operand.dtype == DType::I32);
        let ids = (0..ids.map_or(0, |ids| ids.len as u32)).map(|i| (word(9, i) % 304) as i32 - 2);
        (floats.collect(), ids.collect())
    }

    /// Runs a kernel over parts of the whole kernel's operands.
    fn run(kernel: &dyn Kernel, at: &[(usize, Range<usize>)], data: &mut [Vec<f64>], ids: &[i32]) {
        let order = sorted_order(ids);
        let mut taken: Vec<Vec<f64>> =
            at.iter().map(|(i, r)| data[*i][r.clone()].to_vec()).collect();
        let operands = kernel.operands();
        let args = operands.iter().zip(&mut taken).map(|(operand, values)| match operand {
            o if o.name == "ids" => Arg::ReadI32(ids),
            o if o.name == "order" => Arg::ReadI32(&order),
            o if o.access == Access::Read => Arg::Read(values),
            _ => Arg::Write(values),
        });
        let state = StepState { learning_rate: 0.1, ..StepState::default() };
        kernel.run_f64(Args::new(args.collect()), &state);
        for (((i, range), taken), operand) in at.iter().zip(taken).zip(&operands) {
            if operand.access != Access::Read {
                data[*i][range.clone()].copy_from_slice(&taken);
            }
        }
    }

    /// Cut at each operand that can be, a kernel makes what it makes whole.
    fn assert_alike(kernel: impl Kernel + Clone + 'static, cut_at: &[usize]) {
        let operands = kernel.operands();
        let (start, ids) = filled(&kernel);
        let whole: Vec<_> = operands.iter().enumerate().map(|(i, o)| (i, 0..o.len)).collect();
        let mut expected = start.clone();
        run(&kernel, &whole, &mut expected, &ids);
        for &operand in cut_at {
            let most = operands[operand].len / 2;
            let parts =
                kernel.parts(operand, most).unwrap_or_else(|| panic!("{kernel:?} at {operand}"));
            assert!(parts.len() > 1, "{kernel:?} at {operand}");
            let mut found = start.clone();
            for part in parts {
                assert!(
                    part.operands.iter().all(|(i, range)| *i != operand || range.len() <= most)
                );
                assert!(part.operands.iter().all(|(_, range)| range.start.is_multiple_of(64)));
                run(&*part.kernel, &part.operands, &mut found, &ids);
            }
            for ((found, expected), shape) in found.iter().zip(&expected).zip(&operands) {
                let near = |(f, e): (&f64, &f64)| (f - e).abs() <= 1e-12 * e.abs();
                let sums = shape.name == "partials";
                let total = |values: &[f64]| values.iter().sum::<f64>();
                assert!(
                    found.iter().zip(expected).all(near)
                        || sums && near((&total(found), &total(expected))),
                    "{kernel:?} at {operand}: {}",
                    shape.name
                );
            }
        }
    }

    #[test]
    fn parts_make_what_the_whole_makes() {
        let add =
            Chain { stages: vec![Stage::Binary(Binary::Add, 0)], operands: vec![[0, 0, 0, 1]] };
        let mul =
            Chain { stages: vec![Stage::Binary(Binary::Mul, 0)], operands: vec![[0, 0, 300, 1]] };
        for (trans_a, trans_b, cut_at) in [
            (false, false, &[0, 1, 2][..]),
            (false, true, &[0, 1, 2]),
            (true, false, &[0, 1, 2]),
            (true, true, &[1, 2]),
        ] {
            let kernel = Matmul::new(200, 300, 150, trans_a, trans_b);
            assert_alike(kernel.clone(), cut_at);
            assert_alike(Matmul { accumulate: true, ..kernel.clone() }, cut_at);
            let last = *cut_at.last().unwrap() + 1;
            let with_chain = [&cut_at[..cut_at.len() - 1], &[last]].concat();
            assert_alike(Matmul { chain: add.clone(), ..kernel.clone() }, &with_chain);
            assert_alike(
                Matmul { chain: mul.clone(), ..kernel.clone() },
                &[&with_chain[..], &[2]].concat(),
            );
            // A part can be cut again.
            if !(trans_a && trans_b) {
                let parts = kernel.parts(1, 300 * 64).unwrap();
                assert!(parts[0].kernel.parts(2, 64 * 300).is_some());
            }
        }
        for accumulate in [false, true] {
            let gather = Gather { accumulate, ..Gather::new(500, 300, 3) };
            assert_alike(gather, &[0]);
            assert_alike(Gather { backward: true, ..gather }, &[3]);
        }
        for (rule, factor) in [
            (Rule::Sgd { momentum: 0.0, nesterov: false }, Factor::One),
            (Rule::Sgd { momentum: 0.9, nesterov: true }, Factor::Clip),
            (Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 }, Factor::Clip),
        ] {
            let kernel = Optimizer { rule, len: 1000, lr_scale: 0.5, weight_decay: 0.1, factor };
            assert_alike(kernel, &[0, 1]);
        }
        assert_alike(AddTo { len: 1000 }, &[0, 1]);
        assert_alike(MaxNorm { rows: 200, cols: 5, bound: 0.5 }, &[0]);
        let norm = GradNormPartial::new(10_000);
        assert_alike(norm, &[0]);
        assert_alike(GradNormPartial { accumulate: true, ..norm }, &[0]);
        let stages = vec![Stage::Binary(Binary::Mul, 0)];
        for extent in [[1, 1, 1, 500], [1, 1, 200, 9], [150, 2, 3, 4]] {
            let strides = chain_strides(extent);
            let chain = Chain { stages: stages.clone(), operands: vec![strides] };
            assert_alike(Elementwise { extent, main_strides: Some(strides), chain }, &[0, 1, 2]);
        }
    }

    fn chain_strides(extent: [u32; 4]) -> [u32; 4] {
        [1, 2, 3, 4].map(|next| extent[next..].iter().product())
    }

    #[test]
    fn what_cannot_be_cut_says_so() {
        let product = Matmul::new(200, 300, 150, false, true);
        let drop =
            Chain { stages: vec![Stage::Dropout { rate: 0.1, stream: 1 }], operands: vec![] };
        assert!(Matmul { chain: drop.clone(), ..product.clone() }.parts(1, 10_000).is_none());
        assert!(Matmul { batch: 2, ..product.clone() }.parts(1, 10_000).is_none());
        assert!(product.parts(1, 64 * 150 - 1).is_none());
        assert!(product.parts(1, 64 * 150).is_some());
        let extent = [1, 1, 1, 1000];
        let kernel = Elementwise { extent, main_strides: Some([0, 0, 0, 1]), chain: drop };
        assert!(kernel.parts(0, 500).is_none());
        assert!(GradNormPartial::new(1000).parts(1, 1).is_none());
    }
}
