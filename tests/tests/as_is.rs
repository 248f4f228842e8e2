//! A model whose matrices stay as its file has them: the numbers of every kind of blocks, in the model's order of rows, and the
//! logits of the same numbers in f32.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use distil_gpu_engine::device::{CpuDevice, Device, HostTensor};
use distil_gpu_engine::models::{self, BatchShape, HostBatch, ModelConfig, Rows};
use distil_gpu_engine::objective::{forward_plan_in, frozen_store, store_of};
use distil_gpu_engine::plan::Plan;
use distil_gpu_engine::store::{Numbers, Storage, Store, StorePart};
use distil_gpu_engine::verify::{made_up, made_up_length};
use distil_gpu_gguf::{Array, Gguf, Outline, TensorType, Value, Writer};
use distil_gpu_kernels::{Blocks, DType, StepState, random};
use distil_gpu_tests::{assert_close, devices, oracle};
use half::f16;

/// Kinds of the matrices, one after another.
const KINDS: [TensorType; 10] = [
    TensorType::Q4_K,
    TensorType::Q6_K,
    TensorType::Q8_0,
    TensorType::Q5_K,
    TensorType::Q4_0,
    TensorType::F16,
    TensorType::Q4_1,
    TensorType::Q5_0,
    TensorType::BF16,
    TensorType::Q5_1,
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// Blocks of random small numbers.
fn random_bytes(kind: TensorType, count: usize, seed: u32) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..(count * kind.block_bytes()).div_ceil(4) as u32)
        .flat_map(|word| random::word(seed, 0, 0, word).to_le_bytes())
        .collect();
    bytes.truncate(count * kind.block_bytes());
    for (number, block) in bytes.chunks_exact_mut(kind.block_bytes()).enumerate() {
        let mut put = |at: usize, value: f32| {
            block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
        };
        let scale = 1e-3 * (1.0 + (number % 7) as f32);
        match kind {
            TensorType::F16 => put(0, 10.0 * scale),
            TensorType::BF16 => block.copy_from_slice(&half::bf16::from_f32(scale).to_le_bytes()),
            TensorType::Q6_K => put(208, scale / 64.0),
            TensorType::Q4_K | TensorType::Q5_K => {
                put(0, scale / 32.0);
                put(2, scale / 16.0);
            }
            TensorType::Q4_1 | TensorType::Q5_1 => {
                put(0, scale);
                put(2, -8.0 * scale);
            }
            TensorType::F32 => block.copy_from_slice(&(1.0 + scale).to_le_bytes()),
            _ => put(0, scale / if kind == TensorType::Q8_0 { 16.0 } else { 1.0 }),
        }
    }
    bytes
}

/// A Llama whose matrices are of all kinds, with the tokenizer of a fixture.
fn mixed(path: &Path) {
    mixed_with(path, None);
}

/// The same, where the last block of a tensor has a scale that is none.
fn mixed_with(path: &Path, damaged: Option<usize>) -> Vec<Outline> {
    let known = Gguf::open(&fixture("gguf/pieces.gguf")).unwrap();
    let sizes = [
        ("llama.embedding_length", 256),
        ("llama.feed_forward_length", 512),
        ("llama.attention.key_length", 128),
        ("llama.attention.value_length", 128),
    ];
    let keys: Vec<(String, Value)> = known
        .metadata()
        .iter()
        .map(|(key, value)| {
            let size = sizes.iter().find(|(name, _)| name == key);
            (key.clone(), size.map_or_else(|| value.clone(), |(_, size)| Value::U32(*size)))
        })
        .collect();
    let wider = |n: usize| match n {
        16 => 256,
        24 => 512,
        8 => 128,
        other => other,
    };
    let mut kinds = KINDS.iter().cycle();
    let outlines: Vec<Outline> = known
        .tensors()
        .iter()
        .map(|tensor| {
            let shape: Vec<usize> = tensor.shape.iter().map(|&n| wider(n)).collect();
            let matrix = shape.len() > 1;
            let kind = if matrix { *kinds.next().unwrap() } else { TensorType::F32 };
            Outline { name: tensor.name.clone(), shape, kind }
        })
        .collect();
    let mut writer = Writer::create(path, &keys, &outlines).unwrap();
    for (seed, Outline { shape, kind, .. }) in outlines.iter().enumerate() {
        let count = shape.iter().product::<usize>() / kind.block_len();
        let mut bytes = random_bytes(*kind, count, seed as u32);
        if damaged == Some(seed) {
            let in_block = if *kind == TensorType::Q6_K { 208 } else { 0 };
            let at = bytes.len() - kind.block_bytes() + in_block;
            let none = if *kind == TensorType::BF16 { [0xc0, 0x7f] } else { [0, 0x7e] };
            bytes[at..at + 2].copy_from_slice(&none);
        }
        writer.write(&bytes).unwrap();
    }
    writer.finish().unwrap();
    outlines
}

/// Logits of made-up tokens.
fn logits(device: &mut dyn Device, config: &ModelConfig, store: &Store) -> Vec<f64> {
    let shape = BatchShape { rows: 3, length: made_up_length(&config.input), guessed: 0 };
    let plan: Plan = forward_plan_in(config, &*store.layout.types, shape).unwrap();
    let place = |part: StorePart| store.buffer(part.part, part.segment);
    let program = device.load(&plan, &place).unwrap();
    let mut batch = HostBatch::default();
    made_up(&config.input, shape, 3, &mut batch);
    let inputs: Vec<(&str, HostTensor<'_>)> =
        batch.inputs().filter(|(name, _)| plan.input(name).is_some()).collect();
    device.run(program, &StepState::default(), &inputs).unwrap();
    let found = device.output_exact(program, "logits").unwrap();
    device.unload(program);
    found
}

#[test]
fn blocks_are_the_numbers_of_the_file_in_the_models_order() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mixed.gguf");
    mixed(&path);
    let (config, mut source) = models::open(&path).unwrap();
    let types = source.types(None).unwrap();
    for blocks in Blocks::ALL {
        assert!(types.contains(&DType::Blocks(blocks)), "{}", blocks.name());
    }
    let specs = config.model().parameters();
    // Rows that are chosen twice, as classes and tokens are, are whole blocks as well.
    let table = specs.iter().position(|spec| spec.name.contains("embed_tokens")).unwrap();
    let width = specs[table].row_len();
    source.choose(table, width, &Arc::new((0..200).rev().collect()));
    source.choose(table, width, &Arc::new(vec![7, 0, 199, 3]));
    let all = models::load(&path).unwrap().1;
    let row = |row: usize| &all[table][row * width..][..width];
    assert_eq!(source.values(table).unwrap(), [row(192), row(199), row(0), row(196)].concat());
    for (index, &dtype) in types.iter().enumerate() {
        let values = source.values(index).unwrap();
        let found = match (source.numbers(index, dtype).unwrap(), dtype) {
            (Numbers::Words(words), DType::Blocks(blocks)) => {
                let mut found = vec![0.0_f32; values.len()];
                blocks.widen(&words, 0, &mut found);
                found
            }
            (Numbers::Floats(found), DType::F16 | DType::F32) => found.into_owned(),
            (_, other) => panic!("{} in {other:?}", specs[index].name),
        };
        assert_eq!(found, values, "{} in {dtype:?}", specs[index].name);
    }
}

#[test]
fn logits_are_those_of_the_same_numbers_in_f32() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mixed.gguf");
    mixed(&path);
    let (config, source) = models::open(&path).unwrap();
    let types = source.types(None).unwrap();
    let values = source.all().unwrap();
    let mut exact = oracle();
    let store = frozen_store(&mut exact, &config, &values, Storage::F32).unwrap();
    let expected = logits(&mut exact, &config, &store);
    let file = std::fs::metadata(&path).unwrap().len();
    for device in &mut devices() {
        let before = device.stats().bytes;
        let store = store_of(&mut **device, &config, &source, &*types).unwrap();
        let most = file + 256 * types.len() as u64 + file / 20;
        let taken = device.stats().bytes - before;
        assert!(taken < most, "{taken} bytes of a file of {file}");
        let found = logits(&mut **device, &config, &store);
        assert_close(&format!("as it is on {}", device.info().name), &found, &expected, 1e-11);
        store.free(&mut **device);
    }
}

/// Half floats of a folder stay so; what is read is one tensor at a time, and the device never has more than the file.
#[test]
fn half_floats_of_a_folder_stay_half() {
    let (config, values) = models::load(&fixture("bert")).unwrap();
    let specs = config.model().parameters();
    for (dtype, wanted) in [
        (safetensors::Dtype::F16, DType::F16),
        (safetensors::Dtype::BF16, DType::Blocks(Blocks::BF16)),
        (safetensors::Dtype::F32, DType::F32),
    ] {
        let place = tempfile::tempdir().unwrap();
        models::save(place.path(), &config, &values).unwrap();
        let bytes: Vec<Vec<u8>> = values
            .iter()
            .map(|values| match dtype {
                safetensors::Dtype::F16 => {
                    values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect()
                }
                safetensors::Dtype::BF16 => {
                    values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect()
                }
                _ => bytemuck::cast_slice(values).to_vec(),
            })
            .collect();
        let views = specs.iter().zip(&bytes).map(|(spec, bytes)| {
            let view = safetensors::tensor::TensorView::new(dtype, spec.shape.clone(), bytes);
            (spec.name.as_str(), view.unwrap())
        });
        let file = safetensors::serialize(views, None).unwrap();
        std::fs::write(place.path().join(models::WEIGHTS), file).unwrap();
        let (config, source) = models::open(place.path()).unwrap();
        let types = source.types(None).unwrap();
        for (spec, found) in specs.iter().zip(&types) {
            assert_eq!(*found, if spec.shape.len() > 1 { wanted } else { DType::F32 }, "{spec:?}");
        }
        let mut device = CpuDevice::<f32>::new();
        let own = store_of(&mut device, &config, &source, &*types).unwrap();
        assert_eq!(own.read_all(&mut device).unwrap(), source.all().unwrap());
    }
}

#[test]
fn what_no_reader_has_is_f32_or_refused() {
    // GPT-2's matrices are on their other side in a GGUF.
    let (config, source) = models::open(&fixture("gguf/gpt2.gguf")).unwrap();
    let types = source.types(None).unwrap();
    for (spec, dtype) in config.model().parameters().iter().zip(types) {
        let half = spec.name.contains(".wte.") || spec.name.contains(".wpe.");
        assert_eq!(dtype, if half { DType::F16 } else { DType::F32 }, "{}", spec.name);
    }
    let (config, values) = models::load(&fixture("bert")).unwrap();
    let place = tempfile::tempdir().unwrap();
    models::save_stored(place.path(), &config, &values, Storage::I8).unwrap();
    let source = models::open(place.path()).unwrap().1;
    let error = source.types(None).unwrap_err().to_string();
    assert!(error.contains("int8") && error.contains("\"q8_0\""), "{error}");
    assert!(source.types(Some(Storage::Q8_0)).is_ok());
}

#[test]
fn a_damaged_block_is_named() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mixed.gguf");
    let outlines = mixed_with(&path, None);
    let matrices = outlines.iter().enumerate().filter(|(_, outline)| outline.shape.len() > 1);
    for (damaged, Outline { kind, .. }) in matrices {
        mixed_with(&path, Some(damaged));
        let source = models::open(&path).unwrap().1;
        let types = source.types(None).unwrap();
        let checked = source.check(&types).unwrap_err().to_string();
        assert!(
            checked.contains("mixed.gguf: model.") && checked.contains(" holds NaN at element "),
            "{checked}"
        );
        // Read as floats, it is the same number of the same tensor.
        assert_eq!(checked, source.all().unwrap_err().to_string(), "{}", kind.name());
    }
}

/// Writes a teacher of the shape of Qwen2.5-7B in Q4_K, the sizes of Qwen2.5-0.5B beside it, and a recipe of one step, into the
/// folder `DISTIL_GPU_LARGE`; see docs/benchmarks.md.
#[test]
#[ignore = "it writes 4.3 GB"]
fn a_teacher_of_seven_billion_parameters_is_written() {
    let folder = PathBuf::from(std::env::var("DISTIL_GPU_LARGE").unwrap());
    let teacher = folder.join("teacher.gguf");
    let known = Gguf::open(&fixture("gguf/qwen2.gguf")).unwrap();
    let (hidden, layers, inner, vocab) = (3584, 28, 18944, 152_064);
    let sizes = [
        ("qwen2.context_length", 32_768),
        ("qwen2.embedding_length", hidden),
        ("qwen2.block_count", layers),
        ("qwen2.feed_forward_length", inner),
        ("qwen2.attention.head_count", 28),
        ("qwen2.attention.head_count_kv", 4),
        ("qwen2.attention.key_length", 128),
        ("qwen2.attention.value_length", 128),
    ];
    let padded = |value: &Value| match value {
        Value::Array(Array::String(tokens)) => {
            let more = (tokens.len()..vocab).map(|token| format!("[PAD{token}]"));
            Value::Array(Array::String(tokens.iter().cloned().chain(more).collect()))
        }
        Value::Array(Array::I32(kinds)) => {
            // 5 is a token that is not used.
            let more = std::iter::repeat_n(5, vocab - kinds.len());
            Value::Array(Array::I32(kinds.iter().copied().chain(more).collect()))
        }
        other => panic!("{other:?}"),
    };
    let key = |(key, value): &(String, Value)| {
        let size = sizes.iter().find(|(name, _)| name == key);
        let value = match (&**key, size) {
            (_, Some((_, size))) => Value::U32(*size as u32),
            ("tokenizer.ggml.tokens" | "tokenizer.ggml.token_type", _) => padded(value),
            _ => value.clone(),
        };
        (key.clone(), value)
    };
    let keys: Vec<(String, Value)> = known.metadata().iter().map(key).collect();
    let outline = |name: String, shape: &[usize]| {
        let kind = if shape.len() > 1 { TensorType::Q4_K } else { TensorType::F32 };
        Outline { name, shape: shape.to_vec(), kind }
    };
    let mut outlines = vec![
        outline("token_embd.weight".to_owned(), &[vocab, hidden]),
        outline("output.weight".to_owned(), &[vocab, hidden]),
        outline("output_norm.weight".to_owned(), &[hidden]),
    ];
    for layer in 0..layers {
        let shapes: [(&str, &[usize]); 12] = [
            ("attn_q.weight", &[hidden, hidden]),
            ("attn_q.bias", &[hidden]),
            ("attn_k.weight", &[512, hidden]),
            ("attn_k.bias", &[512]),
            ("attn_v.weight", &[512, hidden]),
            ("attn_v.bias", &[512]),
            ("attn_output.weight", &[hidden, hidden]),
            ("attn_norm.weight", &[hidden]),
            ("ffn_norm.weight", &[hidden]),
            ("ffn_gate.weight", &[inner, hidden]),
            ("ffn_up.weight", &[inner, hidden]),
            ("ffn_down.weight", &[hidden, inner]),
        ];
        let named = shapes.map(|(name, shape)| outline(format!("blk.{layer}.{name}"), shape));
        outlines.extend(named);
    }
    let mut writer = Writer::create(&teacher, &keys, &outlines).unwrap();
    for (seed, Outline { shape, kind, .. }) in outlines.iter().enumerate() {
        let count = shape.iter().product::<usize>() / kind.block_len();
        writer.write(&random_bytes(*kind, count, seed as u32)).unwrap();
    }
    writer.finish().unwrap();
    let student = folder.join("student");
    std::fs::create_dir_all(&student).unwrap();
    for (name, bytes) in distil_gpu_gguf::Model::open(&teacher).unwrap().tokenizer_files().unwrap()
    {
        std::fs::write(student.join(name), bytes).unwrap();
    }
    let config = serde_json::json!({
        "model_type": "qwen2", "vocab_size": vocab, "hidden_size": 896, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "intermediate_size": 4864,
        "rms_norm_eps": 1e-6, "max_position_embeddings": 32768, "rope_theta": 1e6,
        "tie_word_embeddings": true, "hidden_act": "silu", "eos_token_id": 260,
    });
    std::fs::write(student.join("config.json"), config.to_string()).unwrap();
    let text = serde_json::json!({ "text": "the thing in the thing" }).to_string();
    std::fs::write(folder.join("texts.jsonl"), [&*text; 4].join("\n")).unwrap();
    let recipe = r#"task = "causal-lm"
device = "cpu"
[data]
source = "text"
train = "texts.jsonl"
test = "texts.jsonl"
[teacher]
folder = "teacher.gguf"
weights = "as-is"
[student]
model = { type = "decoder", from = "student", random = true, max_length = 1024 }
[train]
steps = 1
batch = 2
optimizer = { name = "sgd", lr = 0.001 }
"#;
    std::fs::write(folder.join("large.toml"), recipe).unwrap();
}
