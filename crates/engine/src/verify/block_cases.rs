//! Kernels whose weights lie in quantised blocks: products and rows of tables, of random blocks of every kind.

use distil_gpu_kernels::gather::Gather;
use distil_gpu_kernels::matmul::Matmul;
use distil_gpu_kernels::{Blocks, DType, Kernel, random};
use half::f16;

use super::cases::{Case, epilogues};
use super::kernel::Data;
use super::numbers::random_in;

/// Of every kind: products in both layouts of B, of one row to blocks enough for a large tile, in batches, with epilogues
/// and in odd numbers of rows and columns; rows of tables, whose ids are made by the host or by a kernel.
pub fn in_blocks() -> Vec<Case> {
    let mut cases = Vec::new();
    for blocks in Blocks::ALL {
        let len = blocks.numbers().max(32);
        let product = |m, n, k, trans_a, trans_b| {
            let b_type = DType::Blocks(blocks);
            Matmul { b_type, ..Matmul::new(m, n, k, trans_a, trans_b) }
        };
        for kernel in [
            product(3, 5, 2 * len, false, true),
            product(1, 300, 3 * len, false, true),
            product(130, 67, 2 * len, true, true),
            product(17, len, 33, false, false),
        ] {
            cases.push(with_blocks(kernel, 1));
        }
        let extent = [3, 2, 18, 7];
        let chain = epilogues(extent).swap_remove(1);
        let batch = product(36, 7, len, false, true);
        cases.push(with_blocks(Matmul { batch: 3, shared_b: true, chain, extent, ..batch }, 1));
        for (rows, table_rows, cols) in [(1, 1, len), (700, 130, 3 * len)] {
            let table_type = DType::Blocks(blocks);
            let gather = Gather { table_type, ..Gather::new(rows, table_rows, cols) };
            cases.push(with_blocks(gather, 0));
            let mut made = with_blocks(Gather { ids_type: DType::F32, ..gather }, 0);
            let ids = (0..rows).map(|row| (row * 7 % (table_rows + 2)) as f64 - 1.0);
            made.data[1] = Data::Floats(ids.collect());
            cases.push(made);
        }
    }
    cases.push(with_blocks(
        Matmul { b_type: DType::Blocks(Blocks::Q4_K), ..Matmul::new(1601, 1536, 256, false, true) },
        1,
    ));
    cases
}

/// A case whose operand in blocks has random ones, the others random numbers.
fn with_blocks(kernel: impl Kernel + 'static, operand: usize) -> Case {
    let operands = kernel.operands();
    let shape = operands[operand];
    let DType::Blocks(blocks) = shape.dtype else { panic!("{} is in no blocks", shape.name) };
    let data = operands.iter().enumerate().map(|(at, other)| match at {
        _ if at == operand => Data::Blocks(random_blocks(blocks, shape.len)),
        _ if other.name == "out" => Data::Unwritten,
        _ if other.dtype == DType::I32 => {
            let rows = shape.len / other.len.max(1);
            Data::Integers((0..other.len).map(|id| (id * 31 % (rows + 3)) as i32 - 1).collect())
        }
        _ => Data::Floats(random_in(-1.0, 1.0, other.len, at as u32)),
    });
    let data = data.collect();
    Case::new(kernel, data)
}

/// Words of random blocks, whose scales are of the size of weights', some of them below the smallest normal half.
pub(super) fn random_blocks(blocks: Blocks, len: usize) -> Vec<u32> {
    let count = len.div_ceil(blocks.numbers());
    let mut words: Vec<u32> =
        (0..(count * blocks.words()) as u32).map(|at| random::word(9, 3, 0, at)).collect();
    let scales = random_in(-0.01, 0.01, 2 * count, 5);
    let own = words.chunks_exact_mut(blocks.words()).zip(scales.chunks_exact(2)).enumerate();
    for (at, (words, scales)) in own {
        let factor = if at % 3 == 2 { 1e-3 } else { 1.0 };
        let [first, second] =
            [0, 1].map(|i| u32::from(f16::from_f64(factor * scales[i]).to_bits()));
        match blocks {
            Blocks::BF16 => {
                let [first, second] = [0, 1].map(|i| (scales[i] as f32).to_bits() >> 16);
                words[0] = first | second << 16;
            }
            Blocks::Q8_0 => words[0] = ((factor * scales[0]) as f32).to_bits(),
            Blocks::Q6_K => words[52] = first,
            Blocks::Q4_0 | Blocks::Q5_0 => words[0] = first,
            _ => words[0] = first | second << 16,
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use distil_gpu_gguf::{TensorType, dequantise};

    /// Blocks of a file are the numbers that ggml makes of them, bit for bit, wherever one begins to read.
    #[test]
    fn blocks_are_ggmls() {
        for blocks in Blocks::ALL {
            let kind = (0..64).filter_map(TensorType::from_id);
            let named = |kind: &TensorType| kind.name().eq_ignore_ascii_case(blocks.name());
            let kind = kind.clone().find(named).unwrap();
            // A file's bytes are those of the words, without what pads a scale.
            let words = random_blocks(blocks, 5 * blocks.numbers());
            let mut file = Vec::new();
            for block in words.chunks_exact(blocks.words()) {
                let bytes: &[u8] = bytemuck::cast_slice(block);
                match blocks {
                    Blocks::Q8_0 => {
                        let scale = f16::from_f32(f32::from_bits(block[0]));
                        file.extend(scale.to_le_bytes());
                        file.extend(&bytes[4..]);
                    }
                    Blocks::Q4_0 | Blocks::Q5_0 => {
                        file.extend(&bytes[..2]);
                        file.extend(&bytes[4..]);
                    }
                    Blocks::Q6_K => file.extend(&bytes[..210]),
                    _ => file.extend(bytes),
                }
            }
            assert_eq!(blocks.file_bytes(), file.len() / 5);
            let (mut packed, mut expected) = (Vec::new(), Vec::new());
            blocks.pack(&file, &mut packed);
            assert!(dequantise(kind, &file, &mut expected));
            let mut found = vec![0.0_f32; expected.len()];
            blocks.widen(&packed, 0, &mut found);
            assert_eq!(found, expected, "{}", blocks.name());
            for first in [1, blocks.numbers() - 1, blocks.numbers(), 2 * blocks.numbers() + 3] {
                let mut part = vec![0.0_f64; expected.len() - first];
                blocks.widen(&packed, first, &mut part);
                let same = part.iter().zip(&expected[first..]).all(|(a, b)| *a == f64::from(*b));
                assert!(same, "{} from {first}", blocks.name());
            }
        }
    }
}
