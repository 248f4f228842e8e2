//! What the program says to texts, tokenizers and models of texts that are wrong; see `bad_input`.

use safetensors::Dtype;

use super::bad_input::hostile;
use super::texts::home;
use super::{floats, safetensors, say};

#[test]
fn files_of_texts() {
    let home = home();
    let run = "run texts.toml";
    for (text, wanted) in [
        ("", "there is no column `text`"),
        ("text,label\n", "it holds no text"),
        ("txt,label\ngood,pos\n", "there is no column `text`; it has `txt`, `label`"),
        ("text,lable\ngood,pos\n", "there is no column `label`; it has `text`, `lable`"),
        ("text,label\ngood,pos\n  ,neg\n", "line 3, column `text`: the text is empty"),
        ("text,label\ngood,\n", "line 2, column `label`: the label is empty"),
        ("text,label\ngood,pos,3\n", "it cannot be read: CSV error: record 1 (line: 2"),
    ] {
        home.write("train.csv", text);
        home.refused(run, &["train.csv: ", wanted]);
    }
    home.write("train.csv", b"text,label\ngood,pos\nb\xe4d,neg\n");
    home.refused(run, &["train.csv: line 3: this is no UTF-8 text"]);
    home.write("train.csv", "text,label\ngood,pos\nbad,neg\n");
    home.write("test.csv", "text,label\ngood,pos\nwell,so so\n");
    let wanted = "test.csv: line 3, column `label`: the training data have no class \"so so\"";
    home.refused(&format!("{run} --set data.test=\"test.csv\""), &[wanted]);
    for (name, bytes, wanted) in [
        (
            "t.jsonl",
            &b"{\"text\": \"good\", \"label\": \"pos\"}\n{\"text\": \"b\xe4d\"}"[..],
            "line 2: this is no UTF-8",
        ),
        ("t.jsonl", b"{\"text\": \"good\"", "line 1 is no JSON object"),
        ("t.jsonl", b"{\"text\": \"good\"}", "there is no column `label`; it has `text`"),
        ("t.tsv", b"text\tlabel\ngood\n", "it cannot be read: CSV error: record 1 (line: 2"),
        ("t.txt", b"good\n", "a .txt file holds texts alone, and here each needs a label"),
        ("t.parquet", b"PAR1 and no more", "this is no whole Parquet file"),
        (
            "t.doc",
            b"good",
            "texts are read from .csv, .tsv, .json, .jsonl, .ndjson, .parquet and .txt files",
        ),
    ] {
        home.write(name, bytes);
        home.refused(&format!("{run} --set data.train=\"{name}\""), &[name, wanted]);
    }
}

#[test]
fn texts_without_labels() {
    let home = home();
    home.done("run texts.toml -q --out a");
    home.write("new.txt", "a good film\n\nbad, bad, bad, bad, bad, bad, bad, bad!\n");
    let logits = "logits a/student --out z --device cpu";
    home.done(&format!("{logits} --input new.txt"));
    assert_eq!(super::tensor(&home.read("z"), "logits").0, [2, 2]);
    std::fs::remove_file(home.path("z")).unwrap();
    home.write("new.txt", "\n \n");
    home.refused(&format!("{logits} --input new.txt"), &["new.txt: it holds no text"]);
    home.write("new.txt", b"good\nb\xe4d\n");
    home.refused(&format!("{logits} --input new.txt"), &["new.txt: line 2: this is no UTF-8 text"]);
    home.refused(&format!("{logits} --input train.csv --text review"), &["no column `review`"]);
}

#[test]
fn tokenizers() {
    let home = home();
    let tokenizer = String::from_utf8(home.read("bert/tokenizer.json")).unwrap();
    let run = "run texts.toml";
    let config = String::from_utf8(home.read("bert/config.json")).unwrap();
    home.write("bert/config.json", config.replace("\"vocab_size\": 40", "\"vocab_size\": 30"));
    let wanted = "tokenizer.json: it is not the model's: its token";
    home.refused(run, &[wanted, "has number 30, and the model knows 30 tokens"]);
    home.write("bert/config.json", config.replace("\"pad_token_id\": 0", "\"pad_token_id\": 77"));
    let wanted = "the vocabulary cannot be trimmed: the model's padding token, number 77, is none";
    home.refused(run, &["student.model.from, the teacher: ", wanted]);
    home.write("bert/config.json", &config);
    for (content, wanted) in [
        (&tokenizer[..tokenizer.len() / 2], "it is no tokenizer that can be used: EOF"),
        ("{}", "it is no tokenizer that can be used"),
        ("", "it is no tokenizer that can be used"),
    ] {
        home.write("bert/tokenizer.json", content);
        home.refused(run, &["bert/tokenizer.json: ", wanted]);
    }
    // The library panics on this one.
    let mut document: serde_json::Value = serde_json::from_str(&tokenizer).unwrap();
    document["normalizer"] = serde_json::json!({"type": "Precompiled"});
    home.write("bert/tokenizer.json", document.to_string());
    home.refused(run, &["bert/tokenizer.json: it is no tokenizer that can be used: Precompiled"]);
    std::fs::remove_file(home.path("bert/tokenizer.json")).unwrap();
    home.refused(run, &["bert/tokenizer.json: no such file: make one with transformers"]);
    home.write("bert/vocab.json", "{}");
    home.refused(run, &["no such file; there is vocab.json alone, which is not read: make one"]);
    home.write("bert/vocab.txt", "[PAD]\n[UNK]\n[CLS]\ngood\n");
    home.refused(run, &["bert/vocab.txt: it has no token `[SEP]`"]);
}

/// Each of these ended the program, took gigabytes or gave tokens that the model does not have.
#[test]
fn hostile_tokenizers_are_refused_in_one_line() {
    let home = home();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/hostile-tokenizers");
    let map = "its normaliser's precompiled_charsmap";
    for (name, wanted) in [
        ("abort-charsmap-len", format!("{map} says that 4294967292 bytes follow, and 4 do")),
        ("panic-charsmap-oob", format!("{map} leads to node")),
        ("panic-charsmap-short", format!("{map} has 1 bytes, fewer than its length takes")),
        ("panic-charsmap-zero", format!("{map} says that 0 bytes follow")),
        (
            "silent-token-id",
            "its post_processor gives `[CLS]` number 999999, and its vocabulary has number 2"
                .to_owned(),
        ),
    ] {
        let tokenizer = std::fs::read(folder.join(format!("{name}.json"))).unwrap();
        home.write("bert/tokenizer.json", tokenizer);
        let wanted = ["bert/tokenizer.json: it is no tokenizer that can be used: ", &wanted];
        home.refused("run texts.toml", &wanted);
        home.refused("logits bert --input train.csv --out z --device cpu", &wanted);
        home.refused("plan texts.toml", &wanted);
    }
}

/// A tokenizer whose second text is of a type that the model has no row for, and one with two tokens of one number.
#[test]
fn numbers_beyond_the_models_tables_are_refused() {
    let home = home();
    let config = String::from_utf8(home.read("bert/config.json")).unwrap();
    let tokenizer = String::from_utf8(home.read("bert/tokenizer.json")).unwrap();
    let twice = tokenizer.replace("\"film\": 7", "\"film\": 6");
    assert_ne!(twice, tokenizer);
    home.write("bert/tokenizer.json", twice);
    home.refused("run texts.toml", &["its tokens `bad` and `film` both have number 6"]);
    home.write("bert/tokenizer.json", tokenizer);
    home.write("pairs.csv", "text,other\ngood,bad\n");
    let logits = "logits bert --input pairs.csv --text text --text other --out z --device cpu";
    home.done(logits);
    let mut narrow: serde_json::Value = serde_json::from_str(&config).unwrap();
    narrow["type_vocab_size"] = 1.into();
    home.write("bert/config.json", narrow.to_string());
    // One row fewer than its weights have is found before any text is read.
    home.refused(logits, &["bert.embeddings.token_type_embeddings.weight [2, 24] for [1, 24]"]);
    let name = "bert.embeddings.token_type_embeddings.weight";
    let whole = home.read("bert/model.safetensors");
    let file = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let views = file.tensors();
    let tensors: Vec<_> = views
        .iter()
        .map(|(known, view)| match known == name {
            true => (&**known, view.dtype(), &[1, 24][..], &view.data()[..96]),
            false => (&**known, view.dtype(), view.shape(), view.data()),
        })
        .collect();
    home.write("bert/model.safetensors", safetensors(&tensors));
    let wanted = "text 0 has a token of type 1, and its type_vocab_size is 1";
    home.refused(logits, &["bert cannot answer pairs.csv", wanted]);
}

/// What stands in the place of weights that can be read.
#[test]
fn weights_of_other_kinds_are_named() {
    let home = home();
    let run = "run texts.toml";
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258da\nsize 90868376\n";
    let lfs =
        "it is a Git LFS pointer and not the file itself: run `git lfs install` and `git lfs pull`";
    for name in ["model.safetensors", "tokenizer.json", "config.json"] {
        let whole = home.read(&format!("bert/{name}"));
        home.write(&format!("bert/{name}"), pointer);
        home.refused(run, &[&format!("bert/{name}: "), lfs]);
        home.write(&format!("bert/{name}"), whole);
    }
    home.write("data.csv", pointer);
    home.write("data.safetensors", pointer);
    for arguments in [
        "run texts.toml --set data.train=\"data.csv\"",
        "run texts.toml --set data.unlabelled=\"data.csv\"",
        "run --set data={source=\"safetensors\",train=\"data.safetensors\",test=\"data.safetensors\"}",
        "logits bert --input data.csv --out z",
        "eval bert --data data.csv",
    ] {
        home.refused(arguments, &["data.", lfs]);
    }
    let whole = home.read("bert/model.safetensors");
    let file = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let name = "bert.pooler.dense.weight";
    for dtype in [Dtype::I8, Dtype::F8_E4M3] {
        let views = file.tensors();
        let bytes = [0; 24 * 24];
        let tensors: Vec<_> = views
            .iter()
            .map(|(known, view)| match known == name {
                true => (&**known, dtype, view.shape(), &bytes[..]),
                false => (&**known, view.dtype(), view.shape(), view.data()),
            })
            .collect();
        home.write("bert/model.safetensors", safetensors(&tensors));
        home.refused(
            run,
            &[&format!("{name} is quantised ({dtype:?}), and weights are read as F32")],
        );
    }
    let config = home.json("bert/config.json");
    let mut quantised = config.clone();
    quantised["quantization_config"] = serde_json::json!({"quant_method": "gptq", "bits": 4});
    home.write("bert/config.json", quantised.to_string());
    home.refused(run, &["its weights are quantised (quantization_config: gptq)"]);
    home.write("bert/config.json", config.to_string());
    std::fs::remove_file(home.path("bert/model.safetensors")).unwrap();
    for (name, wanted) in [
        (
            "adapter_model.safetensors",
            "it has adapter_model.safetensors and no model.safetensors: it is an adapter",
        ),
        (
            "tf_model.h5",
            "it has tf_model.h5 and no model.safetensors: convert it with transformers",
        ),
        ("pytorch_model.bin", "it has pytorch_model.bin and no model.safetensors: convert it"),
    ] {
        home.write(&format!("bert/{name}"), "");
        home.refused(run, &[wanted]);
    }
}

/// Sizes that no machine has are refused before anything is made of them.
#[test]
fn hostile_sizes_are_refused_at_once() {
    let home = home();
    let config = home.json("bert/config.json");
    for (key, value, wanted) in [
        (
            "num_hidden_layers",
            1_000_000_000_u64,
            "a num_hidden_layers of 1000000000 is not possible",
        ),
        (
            "num_hidden_layers",
            4000,
            "bert/model.safetensors: its tensors are not those of config.json",
        ),
        ("hidden_size", 12_000_000, "parameters, and 68719476736 are the most"),
        ("vocab_size", 16_000_000, "[40, 24] for [16000000, 24]"),
        ("max_position_embeddings", 16_000_000, "[16, 24] for [16000000, 24]"),
        ("intermediate_size", 1 << 24, "for [16777216, 24]"),
    ] {
        let mut hostile = config.clone();
        hostile[key] = value.into();
        home.write("bert/config.json", hostile.to_string());
        home.refused("run texts.toml", &[wanted]);
    }
}

#[test]
fn files_of_encoders() {
    let home = home();
    let run = "run texts.toml";
    let whole = home.read("bert/model.safetensors");
    let big = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    let over = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\
                \"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}";
    for bytes in [
        whole[..whole.len() / 2].to_vec(),
        whole[..100].to_vec(),
        Vec::new(),
        [&(1_u64 << 63).to_le_bytes()[..], b"{}"].concat(),
        [&u64::MAX.to_le_bytes()[..], b"{}"].concat(),
        hostile(over, 12),
        hostile(big, 4),
    ] {
        home.write("bert/model.safetensors", bytes);
        home.refused(run, &["bert/model.safetensors: not a whole safetensors file"]);
    }
    home.write("bert/model.safetensors", hostile(big, 8));
    home.refused(run, &["Missing: bert.embeddings.word_embeddings.weight", "Unexpected: a."]);

    // One tensor of the wrong type.
    let file = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let name = "bert.embeddings.LayerNorm.bias";
    let integers = floats(&[0.0; 24]);
    let views = file.tensors();
    let tensors: Vec<_> = views
        .iter()
        .map(|(known, view)| match known == name {
            true => (&**known, Dtype::I32, view.shape(), &*integers),
            false => (&**known, view.dtype(), view.shape(), view.data()),
        })
        .collect();
    home.write("bert/model.safetensors", safetensors(&tensors));
    home.refused(run, &[&format!("{name} is I32 [24], and must be F32 [24]")]);
}

#[test]
fn what_an_encoder_cannot_be() {
    let home = home();
    for (set, wanted) in [
        ("student.model.hidden_size=20", "its heads are 8 wide"),
        ("student.model.hidden_size=48", "its hidden_size is 24, and what starts from it"),
        ("student.model.layers=[2]", "it has no layer 2, but 2 layers, counted from 0"),
        (
            "student.model.max_length=2",
            "a text can have 2 tokens here, and the tokenizer adds 2 to each: set a larger `max_length`",
        ),
        ("student.model={type=\"mlp\",hidden_sizes=[4]}", "give it type \"encoder\""),
        ("teacher.model.from=\"teacher\"", "the teacher cannot start from itself"),
        ("teacher={logits=\"z\"}", "a student cannot start from the teacher's logits"),
        ("data={source=\"embedded\"}", "give it type \"mlp\""),
    ] {
        home.refused(&format!("run texts.toml --set {set}"), &[wanted]);
    }
}

#[test]
fn texts_that_are_too_long_are_named() {
    let home = home();
    let said = say(home.command("run texts.toml --out a --set teacher.model.max_length=4"));
    assert_eq!(said.code, Some(0), "{said:?}");
    let wanted = "reads 4 tokens of a text at most: of 4 training texts, it cuts 3";
    assert!(said.err.contains(&format!("The teacher {wanted}")), "{said:?}");
    assert!(said.err.contains(&format!("The student {wanted}")), "{said:?}");
}
