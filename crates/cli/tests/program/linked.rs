//! Teachers that are given: a run names where their weights lie, in the place of a copy.

use std::path::Path;

use serde_json::{Value, json};

use super::{Home, fails};

const RECIPE: &str = r#"
task = "causal-lm"
device = "cpu"
[data]
source = "text"
train = "texts.jsonl"
test = "texts.jsonl"
[teacher]
folder = "pieces.gguf"
weights = "as-is"
[student]
model = { type = "decoder", from = "teacher", layers = [0], max_length = 32 }
[train]
steps = 2
batch = 4
"#;

/// A home with a GGUF of half floats, texts and a recipe.
fn home() -> Home {
    let home = Home::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/gguf");
    home.write("pieces.gguf", std::fs::read(fixtures.join("pieces.gguf")).unwrap());
    let texts = ["ab a b ba", "the a of b", "aa bb ab"].into_iter().cycle().take(12);
    let texts: String = texts.map(|text| json!({ "text": text }).to_string() + "\n").collect();
    home.write("texts.jsonl", texts);
    home.write("given.toml", RECIPE);
    home
}

#[test]
fn a_run_names_the_weights_of_its_teacher() {
    let home = home();
    let planned = home.done("plan given.toml");
    let told = "The teacher's weights take ";
    assert!(planned.contains(told) && planned.contains(" in f16, "), "{planned}");
    home.done("run given.toml -q --out a");
    assert!(!home.path("a/teacher/model.safetensors").exists());
    let teacher = &home.json("a/report.json")["arms"]["teacher"];
    assert_eq!(teacher["bytes"], home.read("pieces.gguf").len());
    let stored = &teacher["stored"];
    assert!(stored["types"]["f16"]["tensors"].as_u64() > Some(10), "{stored}");
    assert!(stored["bytes"].as_u64() < stored["f32_bytes"].as_u64(), "{stored}");
    // Half floats of a file are the numbers that f32 has.
    assert!(stored["kl"].as_f64().unwrap().abs() < 1e-9, "{stored}");
    let nats = |model: &str| {
        let said = home.done(&format!("eval {model} --data texts.jsonl --device cpu --json"));
        serde_json::from_str::<Value>(&said).unwrap()["cross_entropy"].as_f64().unwrap()
    };
    assert_eq!(nats("a/teacher"), nats("pieces.gguf"));
    // The folder of a run is a teacher as well, and names the file itself.
    let again = "run given.toml -q --out b --set teacher={folder=\"a/teacher\",weights=\"bf16\"}";
    home.done(again);
    let from = |run: &str| home.json(&format!("{run}/teacher/weights.json"))["from"].clone();
    assert_eq!(from("a"), from("b"));
    // What rounding costs is measured; the file's numbers are those of bf16, what is learnt is not.
    home.done("run given.toml -q --out d --set teacher={folder=\"a/student\",weights=\"bf16\"}");
    let kl = |run: &str| {
        let report = home.json(&format!("{run}/report.json"));
        report["arms"]["teacher"]["stored"]["kl"].as_f64().unwrap()
    };
    assert!(kl("b").abs() < 1e-9 && kl("d") > 0.0 && kl("d") < 1e-2, "{} {}", kl("b"), kl("d"));
    // As a start of students it is read where it lies.
    let start = "--set student.model.from=\"a/teacher\"";
    home.done(&format!("run given.toml -q --out c {start}"));
    let student = |run: &str| home.read(&format!("{run}/student/model.safetensors"));
    assert!(student("a") == student("c"));
}

#[test]
fn weights_that_are_gone_or_others_are_refused() {
    let home = home();
    home.done("run given.toml -q --out a");
    let whole = home.read("pieces.gguf");
    let mut other = whole.clone();
    let last = other.len() - 1;
    other[last] ^= 1;
    let wanted = ["a/teacher/weights.json", "pieces.gguf, which is gone or another one since"];
    let eval = "eval a/teacher --data texts.jsonl --device cpu";
    home.write("pieces.gguf", other);
    home.refused(eval, &wanted);
    home.refused("run given.toml --out b --set teacher.folder=\"a/teacher\"", &wanted);
    std::fs::remove_file(home.path("pieces.gguf")).unwrap();
    home.refused(eval, &wanted);
    home.write("pieces.gguf", whole);
    home.done(eval);
    let mut said = home.read("a/teacher/weights.json");
    let digit = said.iter().position(u8::is_ascii_digit).unwrap();
    said[digit] ^= 1;
    home.write("a/teacher/weights.json", said);
    home.refused(eval, &["a/teacher/weights.json: it is damaged"]);
}

#[test]
fn what_cannot_stay_as_it_is_is_named() {
    let home = home();
    let trained = "--set teacher={model={type=\"decoder\",from=\"pieces.gguf\"},weights=\"as-is\"}";
    home.refused(
        &format!("run given.toml --out a {trained}"),
        &["a teacher that is trained has no file to be as"],
    );
    home.write_hand();
    let own = "run tiny.toml --out a --set teacher.weights=\"as\"";
    fails(home.command(own), &["`teacher.weights`", "as-is"]);
}
