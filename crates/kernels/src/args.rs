//! The buffers a CPU twin is handed.

use half::f16;

/// One operand's memory.
#[derive(Debug)]
pub enum Arg<'a, F> {
    /// A float tensor that is read.
    Read(&'a [F]),
    /// A float tensor that is written.
    Write(&'a mut [F]),
    /// An integer tensor that is read.
    ReadI32(&'a [i32]),
    /// A tensor of halves that is read.
    ReadF16(&'a [f16]),
    /// A tensor of bytes that is read.
    ReadI8(&'a [i8]),
    /// The words of quantised blocks that are read.
    ReadBlocks(&'a [u32]),
}

/// The operands of one kernel, in the order of [`crate::Kernel::operands`].
#[derive(Debug)]
pub struct Args<'a, F>(Vec<Arg<'a, F>>);

impl<'a, F> Args<'a, F> {
    /// Wraps the operands.
    pub fn new(args: Vec<Arg<'a, F>>) -> Self {
        Self(args)
    }

    /// Operand `index`, which the kernel reads.
    ///
    /// # Panics
    /// When the operand is not a float tensor bound for reading: the plan broke the kernel's contract.
    pub fn read(&self, index: usize) -> &'a [F] {
        match &self.0[index] {
            Arg::Read(slice) => slice,
            _ => panic!("operand {index} is not bound for reading floats"),
        }
    }

    /// Operand `index`, which the kernel reads as integers.
    ///
    /// # Panics
    /// When the operand is not an integer tensor.
    pub fn read_i32(&self, index: usize) -> &'a [i32] {
        match &self.0[index] {
            Arg::ReadI32(slice) => slice,
            _ => panic!("operand {index} is not bound for reading integers"),
        }
    }

    /// Operand `index`, which the kernel reads as halves.
    ///
    /// # Panics
    /// When the operand is not a tensor of halves.
    pub fn read_f16(&self, index: usize) -> &'a [f16] {
        match &self.0[index] {
            Arg::ReadF16(slice) => slice,
            _ => panic!("operand {index} is not bound for reading halves"),
        }
    }

    /// Operand `index`, which the kernel reads as bytes.
    ///
    /// # Panics
    /// When the operand is not a tensor of bytes.
    pub fn read_i8(&self, index: usize) -> &'a [i8] {
        match &self.0[index] {
            Arg::ReadI8(slice) => slice,
            _ => panic!("operand {index} is not bound for reading bytes"),
        }
    }

    /// Operand `index`, which the kernel reads as words of quantised blocks.
    ///
    /// # Panics
    /// When the operand is no tensor of blocks.
    pub fn read_blocks(&self, index: usize) -> &'a [u32] {
        match &self.0[index] {
            Arg::ReadBlocks(slice) => slice,
            _ => panic!("operand {index} is not bound for reading blocks"),
        }
    }

    /// Takes operand `index`, which the kernel writes; a second take gets an empty slice.
    ///
    /// # Panics
    /// When the operand is not bound for writing.
    pub fn write(&mut self, index: usize) -> &'a mut [F] {
        match &mut self.0[index] {
            Arg::Write(slice) => std::mem::take(slice),
            _ => panic!("operand {index} is not bound for writing"),
        }
    }
}
