//! Files that are whole, wrong in one place, and damaged by chance.

use std::fs;
use std::panic::catch_unwind;

use super::*;
use crate::write::{Outline, Writer};

/// A folder with a file of these bytes.
fn with_file<T>(bytes: &[u8], use_it: impl FnOnce(&Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    fs::write(&path, bytes).unwrap();
    use_it(&path)
}

fn every_value() -> Vec<(String, Value)> {
    let values = [
        Value::U8(200),
        Value::I8(-3),
        Value::U16(60_000),
        Value::I16(-300),
        Value::U32(4_000_000_000),
        Value::I32(-5),
        Value::F32(1e-5),
        Value::Bool(true),
        Value::String("ünï".into()),
        Value::U64(u64::MAX),
        Value::I64(i64::MIN),
        Value::F64(-0.1),
        Value::Array(Array::U8(vec![1, 2])),
        Value::Array(Array::I8(vec![-1])),
        Value::Array(Array::U16(vec![])),
        Value::Array(Array::I16(vec![-1, 1])),
        Value::Array(Array::U32(vec![7])),
        Value::Array(Array::I32(vec![-7, 7, 0])),
        Value::Array(Array::F32(vec![0.5])),
        Value::Array(Array::Bool(vec![true, false])),
        Value::Array(Array::String(vec![String::new(), "Ġa".into()])),
        Value::Array(Array::U64(vec![u64::MAX])),
        Value::Array(Array::I64(vec![-1])),
        Value::Array(Array::F64(vec![2.5])),
    ];
    values.into_iter().enumerate().map(|(at, value)| (format!("key.{at}"), value)).collect()
}

/// A whole file of every kind of value and two tensors.
fn whole() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let outline = |name: &str, shape: &[usize], kind| Outline {
        name: name.into(),
        shape: shape.into(),
        kind,
    };
    let tensors = [outline("a", &[3], TensorType::F32), outline("b", &[2, 32], TensorType::Q8_0)];
    let mut writer = Writer::create(&path, &every_value(), &tensors).unwrap();
    writer.write(&[0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0x40, 0x40]).unwrap();
    writer.write(&[1; 68]).unwrap();
    writer.finish().unwrap();
    fs::read(path).unwrap()
}

#[test]
fn what_is_written_is_read() {
    with_file(&whole(), |path| {
        let gguf = Gguf::open(path).unwrap();
        assert_eq!(gguf.metadata(), every_value());
        assert_eq!(gguf.get("key.6").unwrap().as_f64(), Some(1e-5));
        assert_eq!(gguf.tensors().len(), 2);
        assert_eq!(gguf.tensor("b").unwrap().shape, [2, 32]);
        assert_eq!(gguf.read_f32("a").unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(gguf.read_raw("b").unwrap(), [1; 68]);
        assert_eq!(gguf.read_f32("b").unwrap().len(), 64);
        let problem = gguf.read_f32("c").unwrap_err().to_string();
        assert!(problem.contains("\"c\""), "{problem}");
        let key = gguf.get_as("key.6", "text", Value::as_str).unwrap_err().to_string();
        assert!(key.ends_with("the key \"key.6\": it is float32, and must be text"), "{key}");
    });
}

#[test]
fn a_file_that_is_not_finished_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let tensors = [Outline { name: "a".into(), shape: vec![2], kind: TensorType::F32 }];
    let mut writer = Writer::create(&path, &[], &tensors).unwrap();
    assert!(writer.write(&[0; 4]).unwrap_err().to_string().contains("takes 8"));
    drop(writer);
    let writer = Writer::create(&path, &[], &tensors).unwrap();
    assert!(writer.finish().unwrap_err().to_string().contains("not written"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let wrong = [Outline { name: "a".into(), shape: vec![33], kind: TensorType::Q8_0 }];
    assert!(Writer::create(&path, &[], &wrong).is_err());
}

/// A file of one tensor `a`, its description as given.
fn one(version: u32, shape: &[u64], kind: u32, offset: u64, data: usize) -> Vec<u8> {
    let mut bytes = Vec::from(MAGIC);
    bytes.extend(version.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.push(b'a');
    bytes.extend((shape.len() as u32).to_le_bytes());
    bytes.extend(shape.iter().flat_map(|n| n.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.resize(bytes.len() + data, 0);
    bytes
}

#[test]
fn what_is_wrong_is_named() {
    let problem =
        |bytes: &[u8]| with_file(bytes, |path| Gguf::open(path).err().map(|e| e.to_string()));
    let is = |bytes: &[u8], words: &str| {
        let problem = problem(bytes).unwrap_or_default();
        assert!(problem.contains(words), "{problem:?} and not {words:?}");
    };
    assert_eq!(problem(&one(3, &[4], 0, 0, 16)), None);
    assert_eq!(problem(&one(2, &[4], 0, 0, 16)), None);
    is(b"", "no GGUF");
    is(b"GGML????????", "no GGUF");
    is(&one(1, &[4], 0, 0, 16), "version 1");
    is(&one(3_u32.swap_bytes(), &[4], 0, 0, 16), "big-endian");
    is(&one(3, &[4], 0, 0, 15), "beyond the file's end");
    is(&one(3, &[4], 0, 32, 16), "beyond the file's end");
    is(&one(3, &[4], 0, u64::MAX - 31, 16), "beyond the file's end");
    is(&one(3, &[4], 0, 8, 64), "no multiple of 32");
    is(&one(3, &[4], 99, 0, 16), "type 99");
    is(&one(3, &[4], 4, 0, 16), "type 4");
    is(&one(3, &[4], 8, 0, 64), "blocks of 32");
    is(&one(3, &[u64::MAX, 2], 0, 0, 16), "a shape of");
    is(&one(3, &[1; 5], 0, 0, 16), "5 dimensions");
    is(&one(3, &[0], 0, 0, 16), "a shape of");
    let mut many = one(3, &[4], 0, 0, 16);
    many[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    is(&many, "do not fit");
    let mut cut = one(3, &[4], 0, 0, 16);
    cut.truncate(56);
    is(&cut, "ends in the middle");
    // A type that has a size and no reader opens, and is refused by its name when it is read.
    let odd = one(3, &[256], 10, 0, 84);
    let unread =
        with_file(&odd, |path| Gguf::open(path).unwrap().read_f32("a").unwrap_err().to_string());
    assert!(unread.contains("Q2_K"), "{unread}");
}

#[test]
fn tensors_that_share_bytes_are_refused() {
    let mut bytes = whole();
    // The offset of the second tensor is the last number of the header.
    let at = bytes.windows(8).rposition(|eight| eight == 32_u64.to_le_bytes()).unwrap();
    bytes[at..at + 8].copy_from_slice(&0_u64.to_le_bytes());
    let problem = with_file(&bytes, |path| Gguf::open(path).unwrap_err().to_string());
    assert!(problem.contains("another tensor's bytes"), "{problem}");
}

#[test]
fn damaged_files_are_refused_or_read_and_never_panic() {
    let good = whole();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let (mut seed, mut refused) = (1_u64, 0);
    // SplitMix64 (Steele, Lea and Flood 2014).
    let mut chance = |end: usize| {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33) as usize % end
    };
    for _ in 0..5_000 {
        let mut bytes = good.clone();
        for _ in 0..=chance(3) {
            let at = chance(bytes.len());
            match chance(5) {
                0 => bytes[at] ^= 1 << chance(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][chance(5)],
                2 => bytes.truncate(at + 1),
                3 => drop(bytes.drain(at..(at + 1 + chance(16)).min(bytes.len()))),
                _ => {
                    let wide =
                        [u64::MAX, 1 << 63, 1 << 32, 0xffff_ffff, 9, 0][chance(6)].to_le_bytes();
                    let end = (at + 8).min(bytes.len());
                    bytes[at..end].copy_from_slice(&wide[..end - at]);
                }
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        fs::write(&path, &bytes).unwrap();
        let outcome = catch_unwind(|| {
            let gguf = Gguf::open(&path)?;
            gguf.tensors().iter().try_for_each(|tensor| match tensor.kind.is_read() {
                true => gguf.read_f32(&tensor.name).map(drop),
                false => gguf.read_raw(&tensor.name).map(drop),
            })?;
            crate::Model::open(&path).map(drop)
        });
        refused += usize::from(outcome.expect("a panic").is_err());
    }
    // No file is a model, so all are refused in the end.
    assert_eq!(refused, 5_000);
}
