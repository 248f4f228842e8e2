//! A product in parts: some of its rows, of its columns, or of the products that each element sums.

use std::ops::Range;

use super::Matmul;
use crate::chain::Chain;
use crate::parts::{Part, cuts};

/// What is cut.
#[derive(Clone, Copy)]
enum Side {
    Rows,
    Columns,
    Depth,
}

impl Matmul {
    /// The parts whose operand `operand` has at most `most` elements. A batch of products has none, nor has one of
    /// patches, nor one with dropout behind it, whose numbers hang on an element's place in the whole.
    pub(super) fn cut(&self, operand: usize, most: usize) -> Option<Vec<Part>> {
        let Self { m, n, k, trans_a, trans_b, .. } = *self;
        if self.batch != 1 || self.chain.drops() || self.patches.is_some() {
            return None;
        }
        let (side, row_len) = match (operand, trans_a, trans_b) {
            (0, false, _) => (Side::Rows, self.a_row_len()),
            // Both are stored k by k.
            (0, true, false) => (Side::Depth, self.a_row_len()),
            (1, _, false) => (Side::Depth, n),
            (1, _, true) => (Side::Columns, k),
            (0, true, true) => return None,
            _ => {
                let operand = self.chain.operands.get(operand - 2);
                (Side::Rows, operand.map_or(self.out_row_len(), |strides| strides[2] as usize))
            }
        };
        // 64 rows of halves, or of bytes, begin where a device can bind if their words are whole.
        if operand == 1 && !self.b_type.bytes_of(row_len).is_multiple_of(4) {
            return None;
        }
        let rows = match side {
            Side::Rows => m,
            Side::Columns => n,
            Side::Depth => k,
        };
        let flat = self.extent[..2] == [1, 1] || self.chain.operands.is_empty();
        if matches!(side, Side::Rows) && !flat {
            return None;
        }
        let part = |range: &Range<usize>| self.part(side, range);
        Some(cuts(rows, row_len, most)?.iter().map(part).collect())
    }

    fn part(&self, side: Side, range: &Range<usize>) -> Part {
        let (a_row, out_row, first, len) =
            (self.a_row_len(), self.out_row_len(), range.start, range.len());
        let mut kernel = Self { lda: Some(a_row), ldc: Some(out_row), ..self.clone() };
        // First elements of A, B and out, and by how much the coordinates that a chain sees start later.
        let (a, b, out, shift) = match side {
            Side::Rows => {
                kernel.m = len;
                kernel.extent = [1, 1, len as u32, self.n as u32];
                let a = if self.trans_a { first } else { first * a_row };
                (a, 0, first * out_row, [first, 0])
            }
            Side::Columns => {
                kernel.n = len;
                kernel.extent[3] = len as u32;
                (0, first * self.k, first, [0, first])
            }
            Side::Depth => {
                kernel.k = len;
                kernel.accumulate |= first > 0;
                if range.end < self.k {
                    kernel.chain = Chain::default();
                }
                (if self.trans_a { first * a_row } else { first }, first * self.n, 0, [0, 0])
            }
        };
        let mut starts = vec![(0, a), (1, b)];
        let at =
            |strides: &[u32; 4]| strides[2] as usize * shift[0] + strides[3] as usize * shift[1];
        starts.extend(kernel.chain.operands.iter().map(at).enumerate().map(|(i, at)| (2 + i, at)));
        starts.push((2 + self.chain.operands.len(), out));
        Part::new(kernel, &starts)
    }
}
