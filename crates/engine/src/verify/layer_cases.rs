//! Kernels of layers that some families of models have: rotary embeddings, gated units, blocks of columns.

use distil_gpu_kernels::columns::Columns;
use distil_gpu_kernels::glu::{Gate, Glu, Halves};
use distil_gpu_kernels::relative_gather::{RelativeGather, runs};
use distil_gpu_kernels::rotary::Rotary;
use distil_gpu_kernels::sample::{DRAW, SETTINGS, Sample};
use distil_gpu_kernels::scatter::Scatter;
use distil_gpu_kernels::{Access, Kernel};

use super::cases::Case;
use super::kernel::Data;
use super::numbers::{random, random_in};

/// Heads that turn whole and in part, tables longer than the examples, both ways; grids that have to be folded.
pub fn rotary() -> Vec<Case> {
    let mut cases = Vec::new();
    for (batch, length, heads, head_dim, half, positions) in [
        (1, 1, 1, 2, 1, 1),
        (2, 5, 3, 8, 4, 9),
        (3, 7, 2, 9, 2, 7),
        (2, 33, 4, 64, 32, 40),
        (3, 50, 3, 20, 5, 50),
        (1, 513, 7, 96, 48, 513),
    ] {
        for inverse in [false, true] {
            let kernel = Rotary { batch, length, heads, head_dim, half, positions, inverse };
            cases.push(Case::random(kernel, -1.5, 1.5));
        }
    }
    cases
}

/// Every gate, either half of a row first and both apart, forward and backward.
pub fn glu() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, half, gate, halves) in [
        (1, 1, Gate::Sigmoid, Halves::GateFirst),
        (5, 3, Gate::Sigmoid, Halves::GateLast),
        (7, 33, Gate::Relu, Halves::GateFirst),
        (9, 100, Gate::Gelu, Halves::GateFirst),
        (300, 129, Gate::Gelu, Halves::GateLast),
        (20, 64, Gate::GeluTanh, Halves::GateFirst),
        (31, 65, Gate::Silu, Halves::GateFirst),
        (200, 576, Gate::Silu, Halves::GateLast),
        (1, 1, Gate::Silu, Halves::Apart),
        (130, 1536, Gate::Silu, Halves::Apart),
        (41, 67, Gate::GeluTanh, Halves::Apart),
    ] {
        for backward in [false, true] {
            let kernel = Glu { rows, half, gate, halves, backward };
            cases.push(Case::random(kernel, -6.0, 6.0));
        }
    }
    cases
}

/// Two to four blocks, cut and put together.
pub fn columns() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, cols, blocks) in [(1, 1, 1), (3, 5, 2), (65, 1, 3), (40, 77, 4), (700, 64, 3)] {
        for join in [false, true] {
            cases.push(Case::random(Columns { rows, cols, blocks, join }, -1.0, 1.0));
        }
    }
    cases
}

/// Vocabularies of one token to a large one; the likeliest token, and draws from all tokens and from those that each
/// setting leaves; logits that are no numbers in some rows.
pub fn sample() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, cols) in [(1, 1), (9, 7), (16, 300), (12, 5003), (10, 49_152)] {
        for penalised in [false, true] {
            let kernel = Sample { rows, cols, penalised };
            let mut logits = random_in(-8.0, 8.0, rows * cols, 1);
            if rows > 9 {
                logits[9 * cols + cols / 2] = f64::NAN;
            }
            let ways: [([f64; SETTINGS], i32); 8] = [
                ([0.0, 1.0, 0.0, 1.0], 0),
                ([1.0, 1.0, 0.0, 1.5], 0),
                ([0.75, 0.875, 0.0, 1.25], 0),
                ([2.0, 1.0, 0.0, 1.0], 40),
                ([1.0, 1.0, 0.0625, 1.0], 0),
                ([1.5, 0.5, 0.03125, 0.75], 5),
                ([0.0, 0.5, 0.5, 2.0], 3),
                ([0.25, 0.75, 0.0, 1.0], 1),
            ];
            let of = |row: usize| ways[row % ways.len()];
            let settings = (0..rows).flat_map(|row| of(row).0).collect();
            let draw: Vec<i32> = (0..rows).flat_map(|row| [7, row as i32, of(row).1]).collect();
            assert_eq!(draw.len(), rows * DRAW);
            let positions = (0..rows as i32).map(|row| 31 * row).collect();
            let mut data = vec![
                Data::Floats(logits),
                Data::Floats(settings),
                Data::Integers(draw),
                Data::Integers(positions),
            ];
            let said = random_in(-1.0, 1.0, rows * cols, 2);
            let said = said.into_iter().map(|at| f64::from(at > 0.5)).collect();
            data.extend(penalised.then_some(Data::Floats(said)));
            data.push(Data::Unwritten);
            cases.push(Case::new(kernel, data));
        }
    }
    cases
}

/// Places in any order, some of them no row of the table, of which not all are written.
pub fn scatter() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rows, cols, table_rows) in
        [(1, 1, 1), (3, 5, 9), (64, 33, 64), (8, 192, 4096), (70_000, 1, 70_001)]
    {
        let kernel = Scatter { rows, cols, table_rows };
        let place = |row: usize| match row % 5 {
            3 => -1,
            4 => (table_rows + row) as i32,
            _ => (table_rows - 1 - row) as i32,
        };
        let places = (0..rows).map(place).collect();
        let [x, table] = [(rows, 1), (table_rows, 2)].map(|(n, salt)| random(n * cols, salt));
        let data = vec![Data::Floats(x), Data::Integers(places), Data::Floats(table)];
        cases.push(Case::new(kernel, data));
    }
    cases
}

/// Either summand and both, forward and backward: a bucket for each distance, and long runs of distances in one, with
/// buckets that no distance has at both ends.
pub fn relative_gather() -> Vec<Case> {
    let mut cases = Vec::new();
    for (batch, heads, length, a_run, summands) in [
        (1, 1, 1, 1, (true, true)),
        (3, 2, 7, 1, (true, false)),
        (2, 3, 9, 4, (false, true)),
        (2, 2, 65, 1, (true, true)),
        (1, 4, 130, 50, (true, true)),
    ] {
        let (content, position) = summands;
        let buckets_of: Vec<i32> = (0..2 * length as i32 - 1).map(|t| 1 + t / a_run).collect();
        let buckets = (2 * length - 2) / a_run as usize + 3;
        for backward in [false, true] {
            let kernel =
                RelativeGather { batch, heads, length, buckets, content, position, backward };
            cases.push(relative(kernel, &buckets_of));
        }
    }
    cases
}

/// The kernel over random numbers and these buckets.
pub fn relative(kernel: RelativeGather, buckets_of: &[i32]) -> Case {
    let integers = match kernel.backward {
        true => runs(buckets_of, kernel.buckets),
        false => buckets_of.to_vec(),
    };
    let operands = kernel.operands();
    let floats = operands[1..].iter().zip(1..).map(|(operand, salt)| match operand.access {
        Access::Read => Data::Floats(random(operand.len, salt)),
        _ => Data::Unwritten,
    });
    let data = [Data::Integers(integers)].into_iter().chain(floats).collect();
    Case::new(kernel, data)
}
