//! Models as folders for other runtimes: what is in them, what is refused. What onnxruntime makes of their files is
//! `tools/check_onnx.py`'s.

use std::path::Path;

use serde_json::Value;

use super::Home;
use super::commands::base;
use super::{tasks, texts};

/// Names of the files of an exported folder, by its own list.
fn files(home: &Home, folder: &str) -> Vec<String> {
    let list = home.json(&format!("{folder}/export.json"));
    list["files"].as_object().unwrap().keys().cloned().collect()
}

fn copied(home: &Home, fixture: &str, name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(fixture);
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_file() {
            let file = format!("{name}/{}", entry.file_name().to_str().unwrap());
            home.write(&file, std::fs::read(entry.path()).unwrap());
        }
    }
}

#[test]
fn a_folder_has_what_runtimes_take() {
    let home = texts::home();
    home.write("texts.txt", "good films!\nthe bad film\n");
    let said = home.done("export bert --to out --license apache-2.0");
    assert!(said.starts_with("out is written\n") && said.contains("  onnx/model.onnx, "), "{said}");
    let names = files(&home, "out");
    for name in [
        "README.md",
        "config.json",
        "int8/model.int8.safetensors",
        "model.safetensors",
        "onnx/model.onnx",
        "onnx/model_fp16.onnx",
        "onnx/model_quantized.onnx",
        "tokenizer.json",
        "web/index.html",
    ] {
        assert!(names.iter().any(|own| own == name), "{name} of {names:?}");
        let bytes = home.read(&format!("out/{name}")).len();
        assert_eq!(home.json("out/export.json")["files"][name], bytes, "{name}");
    }
    assert!(!names.iter().any(|name| name == "model.gguf"), "{names:?}");
    // A folder is a model, and the same one.
    for (model, out) in [("bert", "a"), ("out", "b")] {
        home.done(&format!("logits {model} --input texts.txt --out {out} --device cpu -q"));
    }
    let logits = ["a", "b"].map(|file| super::tensor(&home.read(file), "logits"));
    assert_eq!(logits[0], logits[1]);
    // So is the one in eight bits, as near as these allow; it is what the whole model is with matrices in eight bits.
    for (model, out, more) in [("out/int8", "c", ""), ("bert", "d", "--weights int8")] {
        home.done(&format!("logits {model} --input texts.txt --out {out} --device cpu -q {more}"));
    }
    let [whole, eighths, again] =
        ["a", "c", "d"].map(|file| super::tensor(&home.read(file), "logits").1);
    let far =
        |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    let moved = far(&whole, &eighths);
    assert!(moved > 0.0 && moved < 0.1, "{moved}");
    assert!(far(&again, &eighths) < 1e-4 * moved.max(1.0), "{again:?} {eighths:?}");
    let config = home.json("out/int8/config.json");
    assert_eq!(config["quantization_config"]["quant_method"], "distil-gpu-int8");
    // Others would take its bytes for the weights.
    assert!(!home.path("out/int8/model.safetensors").exists());
    let card = String::from_utf8(home.read("out/README.md")).unwrap();
    for part in [
        "---\nlicense: apache-2.0\npipeline_tag: text-classification\n",
        "# out\n",
        "A classifier of texts",
        "onnxruntime.InferenceSession(\"onnx/model.onnx\")",
        "@huggingface/transformers",
        "pipeline(\"text-classification\", \".\")",
    ] {
        assert!(card.contains(part), "{part}: {card}");
    }
    assert!(!card.contains("What was measured"), "it is of no run: {card}");

    // What is there is replaced when told, and only what an export wrote.
    home.refused("export bert --to out", &["out is there already", "--force"]);
    let said: Value =
        serde_json::from_str(&home.done("export bert --to out --force --only onnx --json"))
            .unwrap();
    assert!(said["files"]["onnx/model.onnx"].as_u64() > Some(10_000), "{said}");
    assert!(!home.path("out/web").exists() && !home.path("out/onnx/model_fp16.onnx").exists());
    home.write("out/mine.txt", "mine");
    home.refused("export bert --to out --force", &["out holds mine.txt", "another name"]);
    assert_eq!(home.read("out/mine.txt"), b"mine");
    home.write("file", "mine");
    home.refused("export bert --to file --force", &["file", "no folder"]);
    // Nothing is left of what was refused.
    let rest: Vec<_> = std::fs::read_dir(home.path(".")).unwrap().map(Result::unwrap).collect();
    assert!(!rest.iter().any(|entry| entry.file_name().to_string_lossy().starts_with(".export")));
}

#[test]
fn a_card_tells_of_its_run() {
    let home = Home::new();
    run_of_pictures(&home);
    home.done("export base/student --to student -q");
    let card = String::from_utf8(home.read("student/README.md")).unwrap();
    let report = home.json("base/report.json");
    for part in [
        "pipeline_tag: image-classification",
        "Licence: unknown.",
        "Distilled from a teacher",
        "## What was measured",
        "| | teacher | student alone | student distilled |",
        report["version"].as_str().unwrap(),
        "`Trouser`",
    ] {
        assert!(card.contains(part), "{part}: {card}");
    }
    home.done("export base/teacher --to teacher -q --only web");
    let card = String::from_utf8(home.read("teacher/README.md")).unwrap();
    assert!(
        card.contains("The teacher of the run") && !home.path("teacher/onnx").exists(),
        "{card}"
    );
}

/// The run of pictures, whole, in the home of another test.
fn run_of_pictures(home: &Home) {
    for folder in ["base", "base/student", "base/control", "base/teacher"] {
        for entry in std::fs::read_dir(base().0.path(folder)).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
                home.write(&name, std::fs::read(entry.path()).unwrap());
            }
        }
    }
}

/// A script in the place of Python, or of a browser.
#[cfg(unix)]
fn script(home: &Home, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    home.write(name, format!("#!/bin/sh\n{text}\n"));
    std::fs::set_permissions(home.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// What was measured of a way, by its name.
#[cfg(unix)]
fn way(exports: &Value, name: &str) -> Value {
    let ways = exports["ways"].as_array().unwrap();
    let found = ways.iter().find(|way| way["name"] == name);
    found.unwrap_or_else(|| panic!("{name}: {exports}")).clone()
}

#[cfg(unix)]
#[test]
fn a_page_is_measured_in_a_browser() {
    let home = Home::new();
    run_of_pictures(&home);
    let said = home.done(
        "export base/student --to out --measure --only web --web-weights f32 --device cpu --json -q",
    );
    let said: Value = serde_json::from_str(&said).unwrap();
    let exports = home.json("base/exports.json");
    assert_eq!(said["measured"], exports);
    assert_eq!((&exports["arm"], &exports["examples"]), (&"distilled".into(), &100.into()));
    let report = home.json("base/report.json");
    for (name, arm) in
        [("student distilled", "distilled"), ("student alone", "control"), ("teacher", "teacher")]
    {
        let own = way(&exports, name);
        assert_eq!(own["measured"]["score"], report["arms"][arm]["accuracy"], "{name}");
        assert_eq!(own["bytes"], report["arms"][arm]["bytes"], "{name}");
    }
    let page = way(&exports, "browser page");
    let figures = &page["measured"];
    assert_eq!(figures["agreement"], 1.0, "{page}");
    assert_eq!(figures["score"], report["arms"]["distilled"]["accuracy"], "{page}");
    assert!(figures["furthest"].as_f64().unwrap() < 1e-4, "{page}");
    assert!(figures["runtime"].as_str().unwrap().starts_with("Chromium "), "{page}");
    for key in ["latency_ms", "examples_per_second"] {
        assert!(figures[key].as_f64().unwrap() > 0.0, "{page}");
    }
    let files = home.json("out/export.json")["files"].as_object().unwrap().clone();
    let web = files.iter().filter(|(name, _)| name.starts_with("web/"));
    let bytes: u64 = web.map(|(_, bytes)| bytes.as_u64().unwrap()).sum();
    assert_eq!(page["bytes"], bytes);
    assert!(!files.keys().any(|name| name.contains("measure")), "{files:?}");
    let card = String::from_utf8(home.read("out/README.md")).unwrap();
    assert_eq!(files["README.md"], card.len());
    let html = String::from_utf8(home.read("base/report.html")).unwrap();
    for (text, row) in [(&card, "| browser page | Chromium "), (&html, ">browser page</th>")] {
        assert!(text.contains("The ways out") && text.contains(row), "{row}: {text}");
        assert!(text.contains("Measured on the same 100 test examples"), "{text}");
    }
    home.done("report base");
    assert!(home.read("base/report.html") == html.into_bytes());
    // What is damaged is one clear error, before anything is written.
    let whole = home.read("base/exports.json");
    home.write("base/exports.json", &whole[..whole.len() / 2]);
    home.refused("report base", &["base/exports.json: damaged: "]);
    home.refused("export base/student --to x --measure", &["base/exports.json: damaged: "]);
    assert!(!home.path("x").exists());
    // A run in its place has no figures of it.
    home.done("run tiny.toml -q --out base --force");
    assert!(!home.path("base/exports.json").exists());
}

#[cfg(unix)]
#[test]
fn every_task_with_one_answer_is_measured() {
    let home = tasks::home();
    for (case, name) in [(5, "labels"), (2, "numbers"), (0, "values")] {
        home.write(&format!("{name}.toml"), tasks::recipe(tasks::CASES[case], ""));
        home.done(&format!("run {name}.toml -q --out {name}"));
        home.done(&format!(
            "export {name}/student --to x --force --only web --web-weights f32 --measure --device cpu -q"
        ));
        let exports = home.json(&format!("{name}/exports.json"));
        let [own, page] = ["student distilled", "browser page"]
            .map(|name| way(&exports, name)["measured"].take());
        let score = |figures: &Value| figures["score"].as_f64().unwrap();
        assert!((score(&own) - score(&page)).abs() < 1e-3, "{name}: {exports}");
        assert!(page["furthest"].as_f64().unwrap() < 1e-4, "{name}: {exports}");
        assert!(way(&exports, "teacher")["measured"]["score"].is_number(), "{name}: {exports}");
    }
    home.write("words.toml", tasks::recipe(tasks::CASES[6], ""));
    home.done("run words.toml -q --out words");
    home.refused(
        "export words/student --to y --measure",
        &["words/student cannot be measured", "`token-classification` is no row of numbers"],
    );
}

#[cfg(unix)]
#[test]
fn what_cannot_be_measured_is_said() {
    let home = Home::new();
    run_of_pictures(&home);
    script(&home, "fails", "echo 'first' >&2; echo 'no such luck | <b>' >&2; exit 1");
    script(&home, "lacks", "exit 3");
    script(&home, "nothing", "exit 0");
    script(
        &home,
        "short",
        "echo '{\"logits\": [1.5], \"runtime\": \"r\", \"latency_ms\": 1, \"examples_per_second\": 1}' > \"$4\"",
    );
    script(
        &home,
        "nan",
        "awk 'BEGIN { printf \"{\\\"runtime\\\": \\\"r\\\", \\\"latency_ms\\\": 1, \\\"examples_per_second\\\": 1, \\\"logits\\\": [null\"; for (i = 1; i < 70; i++) printf \", 1\"; print \"]}\" }' > \"$4\"",
    );
    script(&home, "junk", "echo '[1' > \"$4\"");
    for (python, wanted) in [
        ("./lacks", "no Python with onnxruntime"),
        ("./none", "no Python with onnxruntime"),
        ("./nothing", "it left no answers"),
        ("./short", "it answered 1 numbers instead of 70"),
        ("./nan", "some of its answers are no numbers"),
        ("./junk", "its answers cannot be read: "),
        ("./fails", "no such luck | <b>"),
    ] {
        let said = home.done(&format!(
            "export base/student --to out --force --only onnx --measure=7 --device cpu --python {python}"
        ));
        assert!(said.contains(&format!("not measured: {wanted}")), "{python}: {said}");
        let exports = home.json("base/exports.json");
        let reason = way(&exports, "ONNX, f32")["not_measured"].take();
        assert!(reason.as_str().unwrap().starts_with(wanted), "{reason}");
        assert_eq!(exports["examples"], 7);
        assert!(way(&exports, "student distilled")["measured"]["latency_ms"].is_number());
    }
    for (file, wanted) in [
        ("out/README.md", "no such luck \\| <b>"),
        ("base/report.html", "no such luck | &#60;b&#62;"),
    ] {
        let text = String::from_utf8(home.read(file)).unwrap();
        assert!(text.contains(&format!("not measured: {wanted}")), "{file}: {text}");
    }
    // Programs that are not there, and a browser that is none.
    for (browser, wanted) in [("", "no Chromium"), ("echo 'no display' >&2; exit 1", "no display")]
    {
        if !browser.is_empty() {
            script(&home, "bin/chromium", browser);
        }
        let mut command = home.command(
            "export base/control --to web --force --only web --measure=7 --device cpu -q --json",
        );
        let said = super::say({
            command.env("PATH", home.path("bin"));
            command
        });
        assert_eq!(said.code, Some(0), "{said:?}");
        let exports = home.json("base/exports.json");
        assert_eq!(
            (&exports["arm"], &way(&exports, "browser page")["not_measured"]),
            (&"control".into(), &wanted.into())
        );
    }

    // A model without a run, a run without an end, a model of another task.
    std::fs::rename(home.path("web"), home.path("model")).unwrap();
    home.refused("export model --to x --measure", &["model cannot be measured", "folder of a run"]);
    copied(&home, "bert", "student");
    home.refused("export student --to x --measure", &["student cannot be measured", "test data"]);
    copied(&home, "bert-mlm", "other/student");
    home.write("other/recipe.toml", home.read("base/recipe.toml"));
    home.refused("export other/student --to x --measure", &["`masked-lm` is no row of numbers"]);
    std::fs::remove_file(home.path("base/report.json")).unwrap();
    home.refused("export base/student --to x --measure", &["base: the run is not finished"]);
    for (arguments, wanted) in [
        ("export base/student --to x.html --measure", "--measure are for a folder"),
        ("export base/student --to x --measure=0", "--measure"),
        ("export base/student --to x --python python3", "--measure"),
    ] {
        let said = super::say(home.command(arguments));
        assert_eq!(said.code, Some(2), "{arguments}: {said:?}");
        assert!(said.err.contains(wanted), "{arguments}: {}", said.err);
    }
    assert!(!home.path("x").exists());
}

/// A process whose command line has this text, and is at work. Systems without `/proc` list none.
#[cfg(target_os = "linux")]
fn at_work(text: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|entry| {
        let number = entry.file_name().into_string().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        (number != own && line.contains(text)).then(|| format!("{number}: {line}"))
    });
    lines.collect()
}

/// Programs that measure, and what these start, end with the program that started them, and nothing is written.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_ends_what_measures_too() {
    fn until(what: &str, is: impl Fn() -> bool) {
        let begun = std::time::Instant::now();
        while !is() {
            assert!(begun.elapsed().as_secs() < 300, "{what}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
    let home = Home::new();
    run_of_pictures(&home);
    std::fs::create_dir(home.path("scratch")).unwrap();
    let scratch = home.path("scratch").display().to_string();
    // A program that starts another, as launchers of Python do; Chromium starts several.
    script(&home, "python", "sh -c 'sleep 1000; : \"$0\"' \"$4\" & wait");
    for (only, signal, code) in [("onnx", "TERM", 143), ("onnx", "INT", 130), ("web", "TERM", 143)]
    {
        let mut command = home.command(&format!(
            "export base/student --to x --only {only} --measure --python ./python --device cpu -q"
        ));
        command.env("TMPDIR", &scratch).stderr(std::process::Stdio::piped());
        let program = command.spawn().unwrap();
        let least = if only == "web" { 3 } else { 2 };
        until("nothing was started", || at_work(&scratch).len() >= least);
        let number = program.id().to_string();
        let sent = std::process::Command::new("kill").args(["-s", signal, &number]).status();
        assert!(sent.unwrap().success());
        let said = program.wait_with_output().unwrap();
        assert_eq!(said.status.code(), Some(code), "{only}: {said:?}");
        assert_eq!(String::from_utf8(said.stderr).unwrap(), "stopped; nothing is written\n");
        until("something is at work", || at_work(&scratch).is_empty());
        let left: Vec<_> = home.paths();
        let is_rest = |path: &&std::path::PathBuf| {
            let path = path.to_string_lossy();
            path.contains("/.export-") || path.contains("/scratch/") || path.contains("/x/")
        };
        let rest = left.iter().find(is_rest);
        assert_eq!(rest, None, "{only}");
    }
}

#[test]
fn models_of_vectors_and_of_next_tokens_are_for_llama_cpp() {
    let home = Home::new();
    copied(&home, "bert", "bert");
    // The same model without its head, as a model of vectors.
    let mut config = home.json("bert/config.json");
    config["architectures"] = serde_json::json!(["BertModel"]);
    home.write("bert/config.json", config.to_string());
    home.done("export bert --to vectors -q");
    let names = files(&home, "vectors");
    for name in ["model.gguf", "onnx/model.onnx", "web/index.html", "modules.json"] {
        assert!(names.iter().any(|own| own == name), "{name} of {names:?}");
    }
    assert!(home.read("vectors/model.gguf").starts_with(b"GGUF"));

    // Where llama.cpp does not run a family, or makes other tokens, a folder has no such file, and who asks hears why.
    let weights = home.read("bert/model.safetensors");
    let file = safetensors::SafeTensors::deserialize(&weights).unwrap();
    let tensors = file.tensors();
    let bare: Vec<_> = tensors
        .iter()
        .filter_map(|(name, view)| Some((name.strip_prefix("bert.")?, view)))
        .filter(|(name, _)| !name.starts_with("pooler"))
        .map(|(name, view)| (name, view.dtype(), view.shape(), view.data()))
        .collect();
    home.write("electra/model.safetensors", super::safetensors(&bare));
    home.write("electra/tokenizer.json", home.read("bert/tokenizer.json"));
    config["model_type"] = "electra".into();
    config["embedding_size"] = config["hidden_size"].clone();
    config["architectures"] = serde_json::json!(["ElectraModel"]);
    home.write("electra/config.json", config.to_string());
    let mut cased = home.json("bert/tokenizer.json");
    cased["normalizer"]["lowercase"] = false.into();
    for file in ["config.json", "model.safetensors"] {
        home.write(&format!("cased/{file}"), home.read(&format!("bert/{file}")));
    }
    home.write("cased/tokenizer.json", cased.to_string());
    for (model, wanted) in [
        (
            "electra",
            "gguf: llama.cpp runs bert, distilbert, roberta, xlm-roberta, camembert, and no `electra`",
        ),
        ("cased", "gguf: llama.cpp would not run it as it is: "),
    ] {
        home.refused(&format!("export {model} --to x --only gguf"), &[wanted]);
        home.done(&format!("export {model} --to {model}-out -q"));
        assert!(!files(&home, &format!("{model}-out")).iter().any(|name| name == "model.gguf"));
    }
}

#[test]
fn what_cannot_be_is_said() {
    let home = texts::home();
    for (arguments, code, wanted) in [
        ("export bert", 2, "--to"),
        (
            "export bert --to x --only onyx",
            2,
            "`onyx` is none of onnx, onnx-int8, onnx-f16, int8, gguf, web",
        ),
        ("export bert --to x --license a:b", 2, "letters, digits"),
        ("export bert --to x.html --only onnx", 2, "one page"),
        ("export none --to x", 1, "none"),
        ("export bert --to x --only gguf", 1, "gguf: a GGUF file holds a model of next tokens"),
    ] {
        let said = super::say(home.command(arguments));
        assert_eq!(said.code, Some(code), "{arguments}: {said:?}");
        assert!(said.err.contains(wanted), "{arguments}: {}", said.err);
        assert!(!home.path("x").exists());
    }
    copied(&home, "bert-mlm", "mlm");
    home.refused("export mlm --to x --only web", &["web: a page shows no answers"]);
    home.done("export mlm --to x -q");
    assert!(files(&home, "x").iter().any(|name| name == "onnx/model.onnx"));
    // A damaged model leaves nothing.
    let weights = home.read("bert/model.safetensors");
    home.write("bert/model.safetensors", &weights[..weights.len() / 2]);
    home.refused("export bert --to y", &["bert/model.safetensors"]);
    assert!(!home.path("y").exists());
}
