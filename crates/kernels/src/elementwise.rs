//! Map, binary operations with broadcasting, dropout, and chains of them, in one pass over memory.

use rayon::prelude::*;

use crate::chain::{self, Chain, Coord, MAX_OPERANDS, OPERAND_NAMES, Row};
use crate::parts::cuts;
use crate::{
    Args, Caps, Cost, Kernel, Launch, Operand, Part, Real, Source, StepState, bytes, twin,
};

const THREADS: usize = 64;
/// Elements of one CPU task.
const TASK_LEN: usize = 1 << 14;
/// Elements that go through a chain together.
const PART_LEN: usize = 1 << 11;

/// out\[coord] = chain(main\[coord])
#[derive(Clone, Debug)]
pub struct Elementwise {
    /// Extents of the output.
    pub extent: Coord,
    /// Strides of `main` over the output's coordinates, 0 where it is broadcast; `None`: the chain starts
    /// from nothing, with a `Fill`.
    pub main_strides: Option<Coord>,
    /// What is done to each element.
    pub chain: Chain,
}

impl Elementwise {
    fn len(&self) -> usize {
        self.extent.iter().map(|&e| e as usize).product()
    }

    /// The same as one row, where no operand is broadcast along some axes alone: threads then divide no index.
    fn flat(&self) -> Option<Self> {
        let row = |strides: &Coord| {
            let mut whole = 1;
            let axes = self.extent.iter().zip(strides).rev().filter(|&(&extent, _)| extent > 1);
            let contiguous = axes.clone().all(|(extent, &stride)| {
                let is_next = stride == whole;
                whole *= extent;
                is_next
            });
            let broadcast = axes.clone().all(|(_, &stride)| stride == 0);
            (contiguous || broadcast).then_some([0, 0, 0, u32::from(!broadcast)])
        };
        let operands = self.chain.operands.iter().map(row).collect::<Option<_>>()?;
        let main_strides = match &self.main_strides {
            Some(strides) => Some(row(strides)?),
            None => None,
        };
        Some(Self {
            extent: [1, 1, 1, self.len() as u32],
            main_strides,
            chain: Chain { operands, ..self.chain.clone() },
        })
    }

    fn run<F: Real>(&self, mut args: Args<'_, F>, state: &StepState) {
        let flat = self.flat();
        let Self { extent, main_strides, chain } = flat.as_ref().unwrap_or(self);
        let first = usize::from(main_strides.is_some());
        let main = main_strides.map(|strides| (args.read(0), strides));
        let operands: Vec<&[F]> = (0..chain.operands.len()).map(|i| args.read(first + i)).collect();
        let out = args.write(first + operands.len());
        let w = extent[3] as usize;
        // The elements of a row from `first` on; parts go through all stages while they are in the nearest cache.
        let elements = |row: usize, first: usize, values: &mut [F]| {
            for (part, values) in values.chunks_mut(PART_LEN).enumerate() {
                let coord = chain::place(row, first + part * PART_LEN, *extent);
                let mut from = None;
                if let Some((main, strides)) = main {
                    let main = &main[chain::offset(coord, strides)..];
                    match strides[3] as usize {
                        0 => values.fill(main[0]),
                        1 => from = Some(&main[..values.len()]),
                        step => {
                            let main = main.iter().step_by(step);
                            values.iter_mut().zip(main).for_each(|(v, &x)| *v = x);
                        }
                    }
                }
                chain.apply_row(Row { from, values }, coord, *extent, &operands, state);
            }
        };
        // A task takes several short rows, or a part of a long one.
        let rows_a_task = (TASK_LEN / w).max(1);
        out.par_chunks_mut(w * rows_a_task).enumerate().for_each(|(task, rows)| {
            let first = task * rows_a_task;
            if rows_a_task > 1 {
                rows.chunks_mut(w).zip(first..).for_each(|(values, row)| elements(row, 0, values));
            } else {
                let parts = rows.par_chunks_mut(TASK_LEN).enumerate();
                parts.for_each(|(part, values)| elements(first, part * TASK_LEN, values));
            }
        });
    }
}

impl Kernel for Elementwise {
    fn name(&self) -> &'static str {
        "elementwise"
    }

    fn operands(&self) -> Vec<Operand> {
        let main = |strides| Operand::read("main", chain::strided_len(self.extent, strides));
        let mut operands: Vec<Operand> = self.main_strides.map(main).into_iter().collect();
        for (i, name) in OPERAND_NAMES.iter().enumerate().take(self.chain.operands.len()) {
            operands.push(Operand::read(name, self.chain.operand_len(i, self.extent)));
        }
        operands.push(Operand::write("out", self.len()));
        operands
    }

    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        let flat = self.flat();
        let Self { extent, main_strides, chain } = flat.as_ref().unwrap_or(self);
        let used = chain.operands.len();
        let mut dims = chain.dims(*extent);
        dims.extend(main_strides.unwrap_or_default());
        dims.extend([self.len() as u32, 0, 0, 0]);
        let first = usize::from(self.main_strides.is_some());
        let mut bindings = vec![(first == 1).then_some(0)];
        bindings.extend((0..MAX_OPERANDS).map(|i| (i < used).then_some(first + i)));
        bindings.push(Some(first + used));
        let mut overrides = self.chain.overrides();
        let rounds = caps.rounds();
        overrides.push(("ROUNDS", rounds as f64));
        let leading = extent.iter().take_while(|&&e| e == 1).count();
        overrides.push(("AXES", (extent.len() - leading).max(1) as f64));
        vec![Launch {
            source: Source::of("elementwise"),
            entry: "elementwise",
            overrides,
            dims,
            bindings,
            workgroups: caps.grid(self.len().div_ceil(THREADS * rounds)),
        }]
    }

    /// Cut along the first axis that has an extent. Dropout's numbers hang on an element's place in the whole.
    fn parts(&self, operand: usize, most: usize) -> Option<Vec<Part>> {
        let axis = self.extent.iter().position(|&extent| extent > 1)?;
        if self.chain.drops() {
            return None;
        }
        let inner: u32 = self.extent[axis + 1..].iter().product();
        let mut steps: Vec<u32> = self.main_strides.iter().map(|strides| strides[axis]).collect();
        steps.extend(self.chain.operands.iter().map(|strides| strides[axis]));
        steps.push(inner);
        let part = |range: std::ops::Range<usize>| {
            let mut kernel = self.clone();
            kernel.extent[axis] = range.len() as u32;
            let starts = steps.iter().map(|&step| range.start * step as usize).enumerate();
            Part::new(kernel, &starts.collect::<Vec<_>>())
        };
        let ranges = cuts(self.extent[axis] as usize, steps[operand] as usize, most)?;
        Some(ranges.into_iter().map(part).collect())
    }

    /// What is made stays in f32 where it may be far out of f16's range, as squares and quotients are.
    fn halves(&self) -> Vec<usize> {
        let operands = self.operands().len();
        (0..operands - usize::from(self.chain.leaves_range())).collect()
    }

    fn cost(&self) -> Cost {
        let operands = self.operands();
        let read: usize = operands[..operands.len() - 1].iter().map(|o| o.len).sum();
        Cost {
            flops: (self.len() * self.chain.stages.len()) as u64,
            bytes_read: bytes(read),
            bytes_written: bytes(self.len()),
        }
    }

    twin!();
}
