//! Blocks against PyPI gguf, bit for bit (tools/make_gguf_fixtures.py).

use std::fs;
use std::path::Path;

use distil_gpu_gguf::{Precision, TensorType, dequantise, quantise};
use safetensors::SafeTensors;

fn fixture() -> Vec<u8> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/gguf/blocks.safetensors");
    fs::read(path).expect("the fixture")
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[test]
fn numbers_of_blocks_are_ggmls() {
    let file = fixture();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let mut seen = 0;
    for kind in (0..64).filter_map(TensorType::from_id).filter(|kind| kind.is_read()) {
        let name = kind.name();
        if kind == TensorType::F32 {
            continue;
        }
        let blocks = tensors.tensor(&format!("{name}.blocks")).unwrap();
        let expected = floats(tensors.tensor(&format!("{name}.values")).unwrap().data());
        let mut values = Vec::new();
        assert!(dequantise(kind, blocks.data(), &mut values));
        assert_eq!(values.len(), expected.len(), "{name}");
        for (at, (value, due)) in values.iter().zip(&expected).enumerate() {
            assert!(
                value.to_bits() == due.to_bits() || (value.is_nan() && due.is_nan()),
                "{name} {at}: {value} {due}"
            );
        }
        assert!(values.iter().any(|v| *v != 0.0), "{name}");
        seen += 1;
    }
    assert_eq!(seen, 10);
}

#[test]
fn blocks_of_numbers_are_ggmls() {
    let file = fixture();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let source = floats(tensors.tensor("source").unwrap().data());
    for precision in [Precision::F16, Precision::BF16, Precision::Q8_0] {
        let name = precision.kind().name();
        let expected = tensors.tensor(&format!("{name}.written")).unwrap();
        let mut blocks = Vec::new();
        quantise(precision, &source, &mut blocks);
        assert_eq!(blocks, expected.data(), "{name}");
    }
    let mut plain = Vec::new();
    quantise(Precision::F32, &source, &mut plain);
    assert_eq!(floats(&plain), source);
}
