//! Models that PyPI gguf wrote (tools/make_gguf_fixtures.py), read as Hugging Face's, and written again.

use std::collections::HashMap;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use distil_gpu_gguf::{
    Error, Gguf, Model, Options, Pooling, Precision, Tensor, TensorType, check_model, dequantise,
    write_model,
};
use serde_json::{Value, json};

const ALL: [&str; 6] = ["llama", "pieces", "qwen2", "qwen3", "gpt2", "gemma3"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/fixtures/gguf/{name}.gguf"))
}

fn open(name: &str) -> Model {
    Model::open(&fixture(name)).expect("a model")
}

/// The formula that the fixtures are made by.
fn value(name: &str, at: usize) -> f32 {
    let sum: usize = name.bytes().map(usize::from).sum();
    (((at * 31 + sum * 17) % 509) as f32 - 254.0) / 128.0
}

fn tokenizer(model: &Model) -> HashMap<String, Value> {
    let files = model.tokenizer_files().expect("a tokenizer");
    let json = |(name, bytes): &(String, Vec<u8>)| {
        let json = if name.ends_with(".json") {
            serde_json::from_slice(bytes).expect("JSON")
        } else {
            Value::Null
        };
        (name.clone(), json)
    };
    files.iter().map(json).collect()
}

#[test]
fn tensors_have_hugging_faces_names_shapes_and_values() {
    for (name, count) in
        [("llama", 27), ("pieces", 20), ("qwen2", 26), ("qwen3", 24), ("gpt2", 28), ("gemma3", 28)]
    {
        let model = open(name);
        let entries: Vec<_> = model.tensors().collect();
        assert_eq!(entries.len(), count, "{name}");
        for entry in entries {
            let values = model.read_f32(&entry.name).unwrap();
            assert_eq!(values.len(), entry.shape.iter().product::<usize>());
            for (at, found) in values.iter().enumerate() {
                assert_eq!(*found, value(&entry.name, at), "{name}: {} {at}", entry.name);
            }
        }
    }
    let shape = |model: &str, tensor: &str| {
        open(model).tensors().find(|entry| entry.name == tensor).unwrap().shape
    };
    assert_eq!(shape("qwen3", "model.layers.1.self_attn.q_proj.weight"), [24, 16]);
    assert_eq!(shape("gpt2", "transformer.h.0.attn.c_attn.weight"), [16, 48]);
}

#[test]
fn raw_blocks_have_hugging_faces_rows() {
    for name in ALL {
        let model = open(name);
        for entry in model.tensors() {
            let raw = model.read_raw(&entry.name).unwrap();
            let mut values = Vec::new();
            assert!(dequantise(raw.kind, &raw.bytes, &mut values));
            if raw.transposed {
                let (rows, columns) = (raw.shape[0], raw.shape[1]);
                assert_eq!(entry.shape, [columns, rows]);
                values =
                    (0..values.len()).map(|at| values[at % rows * columns + at / rows]).collect();
            }
            assert_eq!(values, model.read_f32(&entry.name).unwrap(), "{name}: {}", entry.name);
        }
    }
}

#[test]
fn configurations_are_those_of_hugging_face() {
    let llama = open("llama");
    let expected = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "intermediate_size": 24, "vocab_size": 268,
        "max_position_embeddings": 32, "rms_norm_eps": 1e-6, "hidden_act": "silu", "attention_dropout": 0.0,
        "attention_bias": true, "mlp_bias": false, "tie_word_embeddings": false, "torch_dtype": "float32",
        "bos_token_id": 259, "eos_token_id": 260, "rope_theta": 5e5,
        "rope_scaling": {
            "type": "llama3", "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "rope_parameters": {
            "rope_theta": 5e5, "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
    });
    assert_eq!(*llama.config(), expected);
    let qwen3 = open("qwen3");
    assert_eq!(qwen3.config()["head_dim"], 12);
    assert_eq!(qwen3.config()["attention_bias"], false);
    assert_eq!(qwen3.config()["tie_word_embeddings"], true);
    assert_eq!(
        qwen3.config()["rope_parameters"],
        json!({"rope_theta": 1e4, "rope_type": "default"})
    );
    let gpt2 = open("gpt2");
    for (key, due) in [
        ("n_embd", 16),
        ("n_inner", 24),
        ("n_layer", 2),
        ("n_head", 2),
        ("n_positions", 32),
        ("vocab_size", 268),
    ] {
        assert_eq!(gpt2.config()[key], due, "{key}");
    }
    let gemma = open("gemma3");
    assert_eq!(gemma.config()["layer_types"], json!(["sliding_attention", "sliding_attention"]));
    assert_eq!(gemma.config()["rope_parameters"]["sliding_attention"]["rope_theta"], 1e4);
}

#[test]
fn tokenizers_are_those_of_hugging_face() {
    let llama = tokenizer(&open("llama"));
    let file = &llama["tokenizer.json"];
    assert_eq!(file["model"]["ignore_merges"], true);
    assert_eq!(file["model"]["merges"][1], json!(["th", "e"]));
    // The rows that no token has are no tokens.
    assert_eq!(file["model"]["vocab"].as_object().unwrap().len(), 264);
    let added = file["added_tokens"].as_array().unwrap();
    let told: Vec<_> =
        added.iter().map(|token| (&token["id"], &token["content"], &token["special"])).collect();
    let due = [
        (json!(259), json!("<|im_start|>"), json!(true)),
        (json!(260), json!("<|im_end|>"), json!(true)),
        (json!(261), json!("<tool>"), json!(false)),
    ];
    assert_eq!(told, due.iter().map(|(a, b, c)| (a, b, c)).collect::<Vec<_>>());
    assert_eq!(
        file["post_processor"]["processors"][1]["single"][0]["SpecialToken"]["id"],
        "<|im_start|>"
    );
    assert_eq!(llama["tokenizer_config.json"]["eos_token"], "<|im_end|>");
    assert!(llama.contains_key("chat_template.jinja"));
    assert_eq!(tokenizer(&open("qwen2"))["tokenizer.json"]["normalizer"]["type"], "NFC");
    assert_eq!(tokenizer(&open("gpt2"))["tokenizer.json"]["pre_tokenizer"]["type"], "ByteLevel");
    let pieces = tokenizer(&open("pieces"));
    let model = &pieces["tokenizer.json"]["model"];
    assert_eq!(model["byte_fallback"], true);
    assert_eq!(model["unk_token"], "<unk>");
    assert_eq!(model["merges"], json!([["▁", "a"], ["a", "b"], ["▁a", "b"], ["▁", "ab"]]));
    assert_eq!(
        pieces["tokenizer.json"]["post_processor"]["single"][0]["SpecialToken"]["id"],
        "<s>"
    );
}

/// Writes a model again with some of its tensors changed or left out.
fn written(
    name: &str,
    to: &Path,
    precision: Precision,
    change: impl Fn(&mut Value, &mut Vec<Tensor<'_>>),
) -> Result<(), Error> {
    let model = open(name);
    let tensor = |entry: distil_gpu_gguf::Entry| {
        let (model, name) = (&model, entry.name.clone());
        Tensor {
            name: entry.name,
            shape: entry.shape,
            read: Box::new(move || Ok(model.read_f32(&name)?)),
        }
    };
    let mut tensors: Vec<Tensor<'_>> = model.tensors().map(tensor).collect();
    let mut config = model.config().clone();
    change(&mut config, &mut tensors);
    let files = model.tokenizer_files().expect("a tokenizer");
    write_model(
        to,
        &config,
        &files,
        tensors,
        Options { precision, name: Some("x"), pre: model.pre(), pooling: None },
    )
}

#[test]
fn what_is_written_again_is_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("again.gguf");
    for name in ALL {
        let model = open(name);
        for precision in [Precision::F32, Precision::F16, Precision::Q8_0] {
            written(name, &path, precision, |_, _| ()).unwrap();
            let again = Model::open(&path).unwrap();
            assert_eq!(again.config(), model.config(), "{name}");
            assert_eq!(
                again.tokenizer_files().unwrap(),
                model.tokenizer_files().unwrap(),
                "{name}"
            );
            assert_eq!(again.tensors().count(), model.tensors().count(), "{name}");
            for entry in again.tensors() {
                // Rows of 16 and 24 are no blocks; those of 32 and 64 would be.
                let due = if entry.shape.len() == 1
                    || entry.name.ends_with("wpe.weight")
                    || precision == Precision::F32
                {
                    TensorType::F32
                } else {
                    TensorType::F16
                };
                assert_eq!(entry.kind, due, "{name}: {}", entry.name);
                assert_eq!(
                    again.read_f32(&entry.name).unwrap(),
                    model.read_f32(&entry.name).unwrap(),
                    "{}",
                    entry.name
                );
            }
            for key in ["tokens", "token_type", "merges", "pre", "bos_token_id", "eos_token_id"] {
                let key = format!("tokenizer.ggml.{key}");
                let is_scores = name == "pieces" && key.ends_with("pre");
                assert!(
                    is_scores || again.gguf().get(&key) == model.gguf().get(&key),
                    "{name}: {key}"
                );
            }
        }
    }
}

#[test]
fn rows_of_whole_blocks_are_written_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.gguf");
    // GPT-2's second matrix of 64 rows lies on its other side in the file, where they are columns.
    let wide = |config: &mut Value, tensors: &mut Vec<Tensor<'_>>| {
        config["n_inner"] = json!(64);
        for tensor in tensors.iter_mut().filter(|tensor| tensor.name.contains("mlp.c_")) {
            let side = usize::from(tensor.name.contains("c_fc"));
            if tensor.shape.len() == 2 || side == 1 {
                let side = side.min(tensor.shape.len() - 1);
                tensor.shape[side] = 64;
                let count = tensor.shape.iter().product();
                tensor.read =
                    Box::new(move || Ok((0..count).map(|at| at as f32 / 64.0 - 8.0).collect()));
            }
        }
    };
    written("gpt2", &path, Precision::Q8_0, wide).unwrap();
    let model = Model::open(&path).unwrap();
    let entry =
        model.tensors().find(|entry| entry.name == "transformer.h.1.mlp.c_proj.weight").unwrap();
    assert_eq!((entry.kind, entry.shape), (TensorType::Q8_0, vec![64, 16]));
    for (at, found) in model.read_f32(&entry.name).unwrap().into_iter().enumerate() {
        let due = at as f32 / 64.0 - 8.0;
        // Half a step of a block's scale, which is no more than 8 / 127, and what f16 rounds of it.
        assert!((found - due).abs() <= 8.0 / 127.0 * 0.5 + 8.0 / 2048.0, "{at}: {found} and {due}");
    }
}

#[test]
fn what_is_not_whole_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("never.gguf");
    let refused = |name: &str, change: &dyn Fn(&mut Value, &mut Vec<Tensor<'_>>)| {
        written(name, &path, Precision::F16, change).unwrap_err().to_string()
    };
    let is = |problem: String, words: &str| {
        assert!(problem.contains(words), "{problem} and not {words}")
    };
    is(refused("llama", &|_, tensors| drop(tensors.pop())), "it is missing");
    is(
        refused("llama", &|_, tensors| {
            tensors[3].name = "model.layers.7.mlp.up_proj.weight".into()
        }),
        "2 layers",
    );
    is(
        refused("llama", &|_, tensors| tensors[3].name = "model.layers.0.mlp.router.weight".into()),
        "router",
    );
    is(refused("qwen2", &|config, _| config["vocab_size"] = json!(300)), "embed_tokens");
    is(
        refused("qwen2", &|config, _| config["use_sliding_window"] = json!(true)),
        "use_sliding_window",
    );
    is(refused("qwen2", &|config, _| config["model_type"] = json!("albert")), "model_type");
    // What llama.cpp knows of Gemma by numbers of layers, or not at all.
    for (key, value) in [
        ("layer_types", json!(["sliding_attention", "full_attention"])),
        ("query_pre_attn_scalar", json!(7)),
        ("final_logit_softcapping", json!(30.0)),
        ("attention_bias", json!(true)),
        ("hidden_activation", json!("silu")),
        ("sliding_window", Value::Null),
    ] {
        is(refused("gemma3", &|config, _| config[key] = value.clone()), key);
    }
    is(
        refused("gpt2", &|config, _| config["activation_function"] = json!("relu")),
        "activation_function",
    );
    is(refused("gpt2", &|_, tensors| tensors[2].read = Box::new(|| Ok(vec![1.0]))), "1 values");
    is(refused("gpt2", &|_, tensors| tensors[2].read = Box::new(|| Err("gone".into()))), "gone");
    let count = 268 * 16;
    is(
        refused("gpt2", &|_, tensors| {
            tensors[0].read = Box::new(move || Ok(vec![f32::NAN; count]))
        }),
        "NaN",
    );
    is(
        refused("gpt2", &|_, tensors| tensors[0].read = Box::new(move || Ok(vec![1e6; count]))),
        "which F16 cannot",
    );
    let bare = |config: &mut Value| {
        config["rope_theta"] = Value::Null;
        config["rope_parameters"] = Value::Null;
    };
    is(refused("qwen3", &|config, _| bare(config)), "rope_theta");
    // Nothing is left of what began.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn damaged_models_are_refused_or_read_and_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let mut seed = 7_u64;
    // Knuth's linear congruential generator.
    let mut chance = |end: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % end
    };
    let (mut read, mut refused) = (0, 0);
    for name in ALL {
        let good = fs::read(fixture(name)).unwrap();
        for _ in 0..500 {
            let mut bytes = good.clone();
            for _ in 0..=chance(2) {
                // Most of a file is tokens and weights; its first part and the tensors' description decide.
                let end = if chance(2) == 0 { 1_200 } else { bytes.len() - 4 };
                let at = chance(end);
                match chance(4) {
                    0 => bytes[at] ^= 1 << chance(8),
                    1 => bytes[at] = [0, 1, 0x7f, 0xff][chance(4)],
                    2 => bytes[at..][..4].copy_from_slice(
                        &[0_u32, 1, 2, 0x7fff_ffff, u32::MAX][chance(5)].to_le_bytes(),
                    ),
                    _ => bytes.truncate(at.max(1_200) + 16),
                }
            }
            fs::write(&path, &bytes).unwrap();
            let outcome = catch_unwind(|| {
                let model = Model::open(&path)?;
                model.tensors().try_for_each(|entry| model.read_f32(&entry.name).map(drop))?;
                model.tensors().try_for_each(|entry| model.read_raw(&entry.name).map(drop))?;
                model.tokenizer_files().map(drop)
            });
            match outcome.expect("a panic") {
                Ok(()) => read += 1,
                Err(_) => refused += 1,
            }
        }
    }
    assert!(read > 100 && refused > 1_000, "{read} read, {refused} refused");
}

/// A tiny encoder: its configuration, and its tensors with Hugging Face's names, values by [`value`].
fn encoder(kind: &str) -> (Value, Vec<Tensor<'static>>) {
    let distil = kind == "distilbert";
    let config = match distil {
        true => json!({
            "model_type": kind, "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 24, "vocab_size": 9,
            "max_position_embeddings": 12, "activation": "gelu",
        }),
        false => json!({
            "model_type": kind, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 24, "vocab_size": 9, "max_position_embeddings": 12, "type_vocab_size": 2,
            "hidden_act": "gelu", "layer_norm_eps": 1e-5, "pad_token_id": 1,
        }),
    };
    let mut shapes = vec![("embeddings.word_embeddings.weight".to_owned(), vec![9, 16])];
    shapes.push(("embeddings.position_embeddings.weight".to_owned(), vec![12, 16]));
    if !distil {
        shapes.push(("embeddings.token_type_embeddings.weight".to_owned(), vec![2, 16]));
    }
    let (stem, norms, linears): (_, _, [(&str, usize, usize); 6]) = match distil {
        true => (
            "transformer.layer.0",
            ["sa_layer_norm", "output_layer_norm"],
            [
                ("attention.q_lin", 16, 16),
                ("attention.k_lin", 16, 16),
                ("attention.v_lin", 16, 16),
                ("attention.out_lin", 16, 16),
                ("ffn.lin1", 24, 16),
                ("ffn.lin2", 16, 24),
            ],
        ),
        false => (
            "encoder.layer.0",
            ["attention.output.LayerNorm", "output.LayerNorm"],
            [
                ("attention.self.query", 16, 16),
                ("attention.self.key", 16, 16),
                ("attention.self.value", 16, 16),
                ("attention.output.dense", 16, 16),
                ("intermediate.dense", 24, 16),
                ("output.dense", 16, 24),
            ],
        ),
    };
    for (part, rows, columns) in linears {
        shapes.push((format!("{stem}.{part}.weight"), vec![rows, columns]));
        shapes.push((format!("{stem}.{part}.bias"), vec![rows]));
    }
    let norms = norms.map(|part| format!("{stem}.{part}"));
    for name in norms.into_iter().chain(["embeddings.LayerNorm".to_owned()]) {
        shapes.push((format!("{name}.weight"), vec![16]));
        shapes.push((format!("{name}.bias"), vec![16]));
    }
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let (count, named) = (shape.iter().product::<usize>(), name.clone());
        let read = move || Ok((0..count).map(|at| value(&named, at)).collect());
        Tensor { name: format!("{kind}.{name}").replace("xlm-", ""), shape, read: Box::new(read) }
    };
    (config, shapes.into_iter().map(tensor).collect())
}

/// A WordPiece tokenizer of nine tokens.
fn words() -> Vec<(String, Vec<u8>)> {
    let special = |id: u64, content: &str| json!({ "id": id, "content": content, "special": true });
    let json = json!({
        "normalizer": { "type": "BertNormalizer", "lowercase": true, "strip_accents": null, "handle_chinese_chars": true },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": { "type": "BertProcessing", "cls": ["[CLS]", 2], "sep": ["[SEP]", 3] },
        "added_tokens": [special(0, "[PAD]"), special(1, "[UNK]"), special(2, "[CLS]"), special(3, "[SEP]")],
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "vocab": { "[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "film": 4, "##s": 5 },
        },
    });
    vec![("tokenizer.json".to_owned(), json.to_string().into_bytes())]
}

#[test]
fn encoders_are_berts_to_llama_cpp() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let options = |pooling| Options { precision: Precision::F32, name: None, pre: None, pooling };
    // RoBERTa's first two positions are of padding, and of none.
    for (kind, first, types) in
        [("bert", 0, 2), ("roberta", 2, 2), ("xlm-roberta", 2, 2), ("distilbert", 0, 1)]
    {
        let (config, tensors) = encoder(kind);
        check_model(&config, &words(), options(Some(Pooling::First))).unwrap();
        write_model(&path, &config, &words(), tensors, options(Some(Pooling::First))).unwrap();
        let gguf = Gguf::open(&path).unwrap();
        let get = |key: &str| gguf.get(key).and_then(distil_gpu_gguf::Value::as_u64);
        assert_eq!(gguf.get("general.architecture").and_then(|v| v.as_str()), Some("bert"));
        assert_eq!(get("bert.context_length"), Some(12 - first), "{kind}");
        assert_eq!(get("bert.pooling_type"), Some(2), "{kind}");
        assert_eq!(get("tokenizer.ggml.token_type_count"), Some(types), "{kind}");
        let positions = gguf.read_f32("position_embd.weight").unwrap();
        assert_eq!(positions.len() as u64, (12 - first) * 16, "{kind}");
        for (at, found) in positions.iter().enumerate() {
            let name = "embeddings.position_embeddings.weight";
            assert_eq!(*found, value(name, at + first as usize * 16), "{kind}: {at}");
        }
        let names: Vec<&str> = gguf.tensors().iter().map(|tensor| &*tensor.name).collect();
        // Without a table of types, though it counts one.
        let due = if kind == "distilbert" { 4 + 16 } else { 5 + 16 };
        assert_eq!(names.len(), due, "{kind}: {names:?}");
        for name in
            ["blk.0.attn_output.bias", "blk.0.ffn_up.weight", "blk.0.layer_output_norm.bias"]
        {
            assert!(names.contains(&name), "{kind}: {names:?}");
        }
    }
    let refused = |kind: &str, key: &str, wrong: Value| {
        let (mut config, _) = encoder(kind);
        config[key] = wrong;
        check_model(&config, &words(), options(None)).unwrap_err().to_string()
    };
    for (kind, key, wrong) in [
        ("roberta", "pad_token_id", json!(11)),
        ("roberta", "pad_token_id", json!(u64::MAX - 1)),
        ("bert", "hidden_act", json!("relu")),
        ("distilbert", "activation", json!("relu")),
        ("roberta", "position_embedding_type", json!("relative_key")),
        ("bert", "model_type", json!("deberta-v2")),
    ] {
        let wanted = if key == "pad_token_id" { "max_position_embeddings" } else { key };
        let problem = refused(kind, key, wrong);
        assert!(problem.contains(wanted), "{kind}: {problem}");
    }
    // A table that lacks what the configuration says is there.
    let (config, mut tensors) = encoder("roberta");
    tensors[1].shape = vec![2, 16];
    let problem = write_model(&path, &config, &words(), tensors, options(None)).unwrap_err();
    assert!(problem.to_string().contains("no positions"), "{problem}");
}

#[test]
fn other_architectures_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    let mut bytes = fs::read(fixture("qwen2")).unwrap();
    let at = bytes.windows(5).position(|five| five == b"qwen2").unwrap();
    bytes[at..at + 5].copy_from_slice(b"mamba");
    fs::write(&path, bytes).unwrap();
    let problem = Model::open(&path).unwrap_err().to_string();
    assert!(problem.contains("general.architecture") && problem.contains("mamba"), "{problem}");
}
