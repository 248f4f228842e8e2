//! Rows of a table by number (embedding lookup, the selection of rows), and the table's gradient.

use rayon::prelude::*;

use crate::parts::cuts;
use crate::{
    Args, Caps, Cost, DType, Kernel, Launch, Operand, Part, Real, Source, StepState, bytes, row,
    twin,
};

/// Threads of a workgroup that strides along rows.
const THREADS: usize = 64;
/// Columns of a workgroup of `long_runs`.
const TILE_COLUMNS: usize = 16;
/// Positions that one thread sums by itself on a GPU; of a longer run the lanes of a workgroup share the sum.
const SHORT_RUN: usize = 32;
/// Elements of one CPU task.
const TASK_LEN: usize = 1 << 14;

/// Forward out\[i] = table[ids\[i]]; backward dtable\[t] = Σ dy\[i] over the i with ids\[i] = t, added onto dtable with
/// `accumulate`.
///
/// Operands: forward `table` [table_rows, cols], `ids` \[rows], `out` [rows, cols]; backward `dy`
/// [rows, cols], `ids` \[rows], `order` \[rows] as [`sorted_order`] makes it, `dtable` [table_rows, cols].
/// An id below 0, or from `table_rows` on, gives a row of zeros and takes part in no gradient. Of a table in parts, each
/// has a kernel of its own: ids name rows from `first` on, and behind the first part `accumulate` keeps what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// Ids, at least 1 and at most `i32::MAX`.
    pub rows: usize,
    /// Rows of the table, at least 1; `first + table_rows` is at most `i32::MAX`.
    pub table_rows: usize,
    /// The id of the table's first row.
    pub first: usize,
    /// Elements of a row, at least 1.
    pub cols: usize,
    /// Whether this is the table's gradient.
    pub backward: bool,
    /// Whether the table's gradient is added onto what is there; forward, whether rows of `out` whose ids name no row of
    /// the table stay as they are.
    pub accumulate: bool,
    /// What the table is stored in: f32, or f16 or bytes, which have no gradient.
    pub table_type: DType,
    /// What the ids are: integers, or, forward alone, floats that are whole numbers, as kernels make them.
    pub ids_type: DType,
}

/// The positions of `ids`, sorted by id; positions of the same id stay in order.
///
/// # Panics
/// When there are more than `i32::MAX` ids.
pub fn sorted_order(ids: &[i32]) -> Vec<i32> {
    let len = i32::try_from(ids.len()).expect("positions are i32");
    let mut order: Vec<i32> = (0..len).collect();
    order.sort_by_key(|&position| ids[position as usize]);
    order
}

impl Gather {
    /// Rows of a whole table in f32, by integers.
    pub fn new(rows: usize, table_rows: usize, cols: usize) -> Self {
        Self {
            rows,
            table_rows,
            first: 0,
            cols,
            backward: false,
            accumulate: false,
            table_type: DType::F32,
            ids_type: DType::I32,
        }
    }

    fn run<F: Real>(&self, args: Args<'_, F>, _state: &StepState) {
        if self.backward { self.backward(args) } else { self.forward(args) }
    }

    fn forward<F: Real>(&self, mut args: Args<'_, F>) {
        let made: Vec<i32>;
        let ids = match self.ids_type {
            DType::I32 => args.read_i32(1),
            _ => {
                made = args.read(1).iter().map(|id| id.f64() as i32).collect();
                &made
            }
        };
        let out = args.write(2);
        match self.table_type {
            DType::F16 => {
                let table = args.read_f16(0);
                self.copy_rows(ids, out, |at, out| F::widen(&table[at..][..self.cols], out));
            }
            DType::I8 => {
                let table = args.read_i8(0);
                self.copy_rows(ids, out, |at, out| F::widen_bytes(&table[at..][..self.cols], out));
            }
            DType::Blocks(blocks) => {
                let table = args.read_blocks(0);
                self.copy_rows(ids, out, |at, out| blocks.widen(table, at, out));
            }
            DType::F32 | DType::I32 => {
                let table = args.read(0);
                self.copy_rows(ids, out, |at, out| out.copy_from_slice(&table[at..][..self.cols]));
            }
        }
    }

    /// Fills the rows of `out`; `copy` writes the row of the table that begins at an element.
    fn copy_rows<F: Real>(
        &self,
        ids: &[i32],
        out: &mut [F],
        copy: impl Fn(usize, &mut [F]) + Sync,
    ) {
        let rows =
            out.par_chunks_mut(self.cols).zip(ids).with_min_len(TASK_LEN.div_ceil(self.cols));
        rows.for_each(|(out, &id)| {
            let row = usize::try_from(id).ok().and_then(|id| id.checked_sub(self.first));
            match row.filter(|&row| row < self.table_rows) {
                Some(row) => copy(row * self.cols, out),
                None if self.accumulate => {}
                None => out.fill(F::zero()),
            }
        });
    }

    fn backward<F: Real>(&self, mut args: Args<'_, F>) {
        let (dy, ids, order) = (args.read(0), args.read_i32(1), args.read_i32(2));
        // As in the shader, no order leads out of range.
        let row_at = |position: i32| (position as u32 as usize).min(self.rows - 1);
        let id_at = |position: i32| ids[row_at(position)];
        let additions = self.rows.div_ceil(self.table_rows) * self.cols;
        let rows_a_task = TASK_LEN.div_ceil(additions);
        let tasks = args.write(3).par_chunks_mut(rows_a_task * self.cols).enumerate();
        tasks.for_each(|(task, dtable)| {
            let first = (self.first + task * rows_a_task) as i32;
            let mut rest = &order[order.partition_point(|&p| id_at(p) < first)..];
            for (row, sum) in (first..).zip(dtable.chunks_exact_mut(self.cols)) {
                let run = rest.iter().take_while(|&&p| id_at(p) == row).count();
                if !self.accumulate {
                    sum.fill(F::zero());
                }
                for &position in &rest[..run] {
                    add(sum, &dy[row_at(position) * self.cols..][..self.cols]);
                }
                rest = &rest[run..];
            }
        });
    }

    /// Threads along a row, and rows of a workgroup: nothing is shared, so no driver pays for barriers.
    fn tile(&self) -> [usize; 2] {
        let lanes = self.cols.next_power_of_two().min(THREADS);
        [lanes, THREADS / lanes]
    }

    fn launch(&self, entry: &'static str, [block, short]: [usize; 2], grid: [u32; 3]) -> Launch {
        let [lanes, rows] = self.tile();
        let tiled = entry != "long_runs";
        let mut overrides = match tiled {
            true => vec![("LANES", lanes as f64), ("ROWS", rows as f64)],
            false => Vec::new(),
        };
        if self.accumulate {
            overrides.push(("ACCUMULATE", 1.0));
        }
        let mut imports = Vec::new();
        match self.table_type {
            DType::F16 => imports.push(("common/table_f32", "common/table_f16")),
            DType::I8 => imports.push(("common/table_f32", "common/table_i8")),
            DType::Blocks(blocks) => {
                imports.push(("common/table_f32", "common/table_blocks"));
                imports.push(("common/blocks_q8_0", blocks.reader()));
            }
            DType::F32 | DType::I32 => {}
        }
        if self.ids_type == DType::F32 {
            imports.push(("common/ids_i32", "common/ids_f32"));
        }
        let shader = if self.backward { "gather_backward" } else { "gather" };
        Launch {
            source: Source { imports, ..Source::of(shader) },
            entry,
            overrides,
            dims: [self.rows, self.table_rows, self.cols, block, short, self.first]
                .map(|n| n as u32)
                .to_vec(),
            bindings: if self.backward { &[0, 1, 3, 2][..] } else { &[0, 1, 2] }
                .iter()
                .map(|&operand| Some(operand))
                .collect(),
            workgroups: grid,
        }
    }
}

fn add<F: Real>(sum: &mut [F], values: &[F]) {
    row::vectorised(
        #[inline(always)]
        || {
            for (sum, &value) in sum.iter_mut().zip(values) {
                *sum += value;
            }
        },
    );
}

impl Kernel for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn operands(&self) -> Vec<Operand> {
        let (table, rows) = (self.table_rows * self.cols, self.rows * self.cols);
        let ids = Operand::read_weights("ids", self.rows, self.ids_type);
        let made = if self.accumulate { Operand::update } else { Operand::write };
        if self.backward {
            let order = Operand::read_i32("order", self.rows);
            vec![Operand::read("dy", rows), ids, order, made("dtable", table)]
        } else {
            let table = Operand::read_weights("table", table, self.table_type);
            vec![table, ids, made("out", rows)]
        }
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        let [_, rows] = self.tile();
        if !self.backward {
            return vec![self.launch("forward", [0; 2], caps.grid(self.rows.div_ceil(rows)))];
        }
        // Few enough searches for a large table, and enough workgroups for a small one.
        let block = (self.table_rows >> 10).clamp(1, 16);
        let short = if caps.software { self.rows } else { SHORT_RUN };
        let groups = self.table_rows.div_ceil(block * rows);
        let mut launches = vec![self.launch("short_runs", [block, short], caps.grid(groups))];
        if short < self.rows {
            let groups = self.rows.div_ceil(short) * self.cols.div_ceil(TILE_COLUMNS);
            launches.push(self.launch("long_runs", [block, short], caps.grid(groups)));
        }
        launches
    }

    fn parts(&self, operand: usize, most: usize) -> Option<Vec<Part>> {
        // 64 rows of halves, or of bytes, begin where a device can bind if their words are whole.
        let odd = !self.table_type.bytes_of(self.cols).is_multiple_of(4);
        if odd || operand != if self.backward { 3 } else { 0 } {
            return None;
        }
        let part = |range: std::ops::Range<usize>| {
            let table = (operand, range.start * self.cols);
            let kernel = Self {
                table_rows: range.len(),
                first: self.first + range.start,
                accumulate: self.accumulate || !self.backward && range.start > 0,
                ..*self
            };
            let starts = if self.backward {
                [(0, 0), (1, 0), (2, 0), table].to_vec()
            } else {
                [table, (1, 0), (2, 0)].to_vec()
            };
            Part::new(kernel, &starts)
        };
        Some(cuts(self.table_rows, self.cols, most)?.into_iter().map(part).collect())
    }

    fn halves(&self) -> Vec<usize> {
        if self.backward { vec![0] } else { vec![2] }
    }

    fn cost(&self) -> Cost {
        let (table, rows) = (self.table_rows * self.cols, self.rows * self.cols);
        if self.backward {
            // What is added onto is read and written where there is something to add.
            let (onto, written) =
                if self.accumulate { (rows.min(table), rows.min(table)) } else { (0, table) };
            Cost {
                flops: rows as u64,
                bytes_read: bytes(rows + 2 * self.rows + onto),
                bytes_written: bytes(written),
            }
        } else {
            let rows_read = self.table_type.bytes_of(rows.min(table)) as u64;
            Cost { flops: 0, bytes_read: rows_read + bytes(self.rows), bytes_written: bytes(rows) }
        }
    }

    twin!();
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::{Arg, random};

    fn numbers(len: usize) -> Vec<f64> {
        (0..len as u32).map(|i| f64::from(random::unit(random::word(2, 7, 0, i))) - 0.5).collect()
    }

    /// Ids from two below 0 to two beyond the table, every third of them 0.
    fn some_ids(rows: usize, table_rows: usize) -> Vec<i32> {
        let span = table_rows as u32 + 4;
        let id = |i| if i % 3 == 1 { 0 } else { (random::word(4, 1, 0, i) % span) as i32 - 2 };
        (0..rows as u32).map(id).collect()
    }

    const SHAPES: [[usize; 3]; 7] = [
        [1, 1, 1],
        [5, 3, 2],
        [200, 2, 7],
        [300, 100, 1],
        [64, 3000, 33],
        [2000, 50, 5],
        [3, 2, 40_000],
    ];

    #[test]
    fn forward_takes_rows_and_zeros() {
        for [rows, table_rows, cols] in SHAPES {
            let (table, ids) = (numbers(table_rows * cols), some_ids(rows, table_rows));
            let mut out = vec![f64::NAN; rows * cols];
            let gather = Gather::new(rows, table_rows, cols);
            let args = vec![Arg::Read(&table), Arg::ReadI32(&ids), Arg::Write(&mut out)];
            gather.run_f64(Args::new(args), &StepState::default());
            for (out, &id) in out.chunks(cols).zip(&ids) {
                match table.chunks(cols).nth(id as u32 as usize) {
                    Some(row) => assert_eq!(out, row),
                    None => assert!(out.iter().all(|&v| v == 0.0)),
                }
            }
            // Stored in halves, the table is rounded and the rest is the same.
            let halves: Vec<f16> = table.iter().map(|&value| f16::from_f64(value)).collect();
            let mut of_halves = vec![f64::NAN; rows * cols];
            let args = vec![Arg::ReadF16(&halves), Arg::ReadI32(&ids), Arg::Write(&mut of_halves)];
            Gather { table_type: DType::F16, ..gather }
                .run_f64(Args::new(args), &StepState::default());
            out.iter_mut().for_each(|value| *value = f16::from_f64(*value).to_f64());
            assert_eq!(out, of_halves);
        }
    }

    #[test]
    fn backward_agrees_with_scattered_additions() {
        for [rows, table_rows, cols] in SHAPES {
            let (dy, ids) = (numbers(rows * cols), some_ids(rows, table_rows));
            let order = sorted_order(&ids);
            for accumulate in [false, true] {
                let start = if accumulate { 0.5 } else { f64::NAN };
                let mut dtable = vec![start; table_rows * cols];
                let gather =
                    Gather { backward: true, accumulate, ..Gather::new(rows, table_rows, cols) };
                let args = vec![
                    Arg::Read(&dy),
                    Arg::ReadI32(&ids),
                    Arg::ReadI32(&order),
                    Arg::Write(&mut dtable),
                ];
                gather.run_f64(Args::new(args), &StepState::default());
                let mut expected = vec![if accumulate { 0.5 } else { 0.0 }; table_rows * cols];
                for (dy, &id) in dy.chunks(cols).zip(&ids) {
                    if (0..table_rows as i32).contains(&id) {
                        let row = &mut expected[id as usize * cols..][..cols];
                        row.iter_mut().zip(dy).for_each(|(sum, dy)| *sum += dy);
                    }
                }
                assert_eq!(dtable, expected);
            }
        }
    }

    #[test]
    fn order_is_sorted_and_stable() {
        assert_eq!(sorted_order(&[3, -1, 0, 3, 0, -7]), [5, 1, 2, 4, 0, 3]);
        assert_eq!(sorted_order(&[]), []);
    }

    #[test]
    fn an_order_out_of_range_reads_nothing_outside() {
        let (dy, ids, order) = ([1.0, 2.0], [0, 1], [-5, 70]);
        let mut dtable = [f64::NAN; 2];
        let args =
            vec![Arg::Read(&dy), Arg::ReadI32(&ids), Arg::ReadI32(&order), Arg::Write(&mut dtable)];
        let gather = Gather { backward: true, ..Gather::new(2, 2, 1) };
        gather.run_f64(Args::new(args), &StepState::default());
        assert_eq!(dtable, [0.0, 4.0]);
    }
}
