//! Rows that are put into places of a table: keys and values of tokens that were read, beside those before them.

use crate::{Args, Caps, Cost, Kernel, Launch, Operand, Real, Source, StepState, bytes, twin};

const THREADS: usize = 64;

/// table\[places\[r\]\] = x\[r\]; a row whose place is no row of the table is left out. No two have the same place.
///
/// Operands: `x` [rows, cols], `places` i32 \[rows], `table` [table_rows, cols].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scatter {
    /// Rows of x.
    pub rows: usize,
    /// Elements of a row.
    pub cols: usize,
    /// Rows of the table.
    pub table_rows: usize,
}

impl Scatter {
    fn run<F: Real>(&self, mut args: Args<'_, F>, _state: &StepState) {
        let (x, places) = (args.read(0), args.read_i32(1));
        let table = args.write(2);
        for (x, &place) in x.chunks_exact(self.cols).zip(places) {
            let place = usize::try_from(place).ok().filter(|&place| place < self.table_rows);
            if let Some(place) = place {
                table[place * self.cols..][..self.cols].copy_from_slice(x);
            }
        }
    }
}

impl Kernel for Scatter {
    fn name(&self) -> &'static str {
        "scatter"
    }

    fn operands(&self) -> Vec<Operand> {
        vec![
            Operand::read("x", self.rows * self.cols),
            Operand::read_i32("places", self.rows),
            Operand::update("table", self.table_rows * self.cols),
        ]
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        let len = self.rows * self.cols;
        vec![Launch {
            source: Source::of("scatter"),
            entry: "scatter",
            overrides: Vec::new(),
            dims: [len, self.cols, self.table_rows].map(|word| word as u32).to_vec(),
            bindings: (0..3).map(Some).collect(),
            workgroups: caps.grid(len.div_ceil(THREADS)),
        }]
    }

    fn cost(&self) -> Cost {
        let len = bytes(self.rows * self.cols);
        Cost { flops: 0, bytes_read: len + bytes(self.rows), bytes_written: len }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arg;

    #[test]
    fn rows_go_to_their_places() {
        let kernel = Scatter { rows: 3, cols: 2, table_rows: 3 };
        let (x, places) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [2, -1, 0]);
        let mut table = [9.0_f64; 6];
        let args = vec![Arg::Read(&x), Arg::ReadI32(&places), Arg::Write(&mut table)];
        kernel.run_f64(Args::new(args), &StepState::default());
        assert_eq!(table, [5.0, 6.0, 9.0, 9.0, 1.0, 2.0]);
        let beyond = [3, i32::MAX, i32::MIN];
        let args = vec![Arg::Read(&x), Arg::ReadI32(&beyond), Arg::Write(&mut table)];
        kernel.run_f64(Args::new(args), &StepState::default());
        assert_eq!(table, [5.0, 6.0, 9.0, 9.0, 1.0, 2.0]);
    }
}
