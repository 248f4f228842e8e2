//! Caches of a teacher's answers: written, shared, killed, damaged, of another teacher, and learnt from.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use safetensors::SafeTensors;
use serde_json::Value;

use super::attack::Random;
use super::interrupted::{killed_and_resumed, start};
use super::next_tokens::{TEMPLATE, llama};
use super::{Home, say, tensor};

/// Texts of words of one letter, of unequal lengths, no two of which are the same.
fn texts(count: usize) -> String {
    let letter = |at: usize| char::from(b'a' + (at % 26) as u8);
    (0..count).fold(String::new(), |all, row| {
        let text = (0..3 + row % 9).fold(format!("{row}"), |mut text, at| {
            write!(text, " {}", letter(row * 5 + at * 3)).unwrap();
            text
        });
        all + &serde_json::json!({ "text": text }).to_string() + "\n"
    })
}

/// A language model's cache in `answers`, its student one of random weights.
const NEXT: &str = r#"
task = "causal-lm"
device = "cpu"
[data]
source = "text"
train = "texts.jsonl"
test = "texts.jsonl"
test_limit = 20
[teacher]
folder = "teacher"
[student]
model = { type = "decoder", from = "llama", random = true, layers = [0], hidden_size = 16, num_attention_heads = 2, num_key_value_heads = 1, intermediate_size = 32, max_length = 32 }
[distil]
temperature = 2.0
alpha = 0.9
[train]
epochs = 2
batch = 8
optimizer = { name = "adamw", lr = 1e-2 }
"#;

const CACHED: &str = "--set teacher.cache=\"answers\"";

/// A home with so many texts, a `teacher/` that has learnt a little, and `next.toml`.
pub(super) fn home(count: usize) -> Home {
    let home = Home::new();
    llama(&home);
    home.write("texts.jsonl", texts(count));
    home.write("next.toml", NEXT);
    home.done(
        "run next.toml -q --out run --set train.epochs=1 --set data.train_limit=40 \
         --set teacher={model={type=\"decoder\",from=\"llama\",random=true,max_length=32},train={epochs=3,batch=8,\
         optimizer={name=\"adamw\",lr=0.01}}}",
    );
    fs::rename(home.path("run/teacher"), home.path("teacher")).unwrap();
    fs::remove_dir_all(home.path("run")).unwrap();
    home
}

/// The files of a cache.
fn files(home: &Home, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let folder = home.path(folder);
    let own = home.files().into_iter();
    own.filter_map(|(path, bytes)| Some((path.strip_prefix(&folder).ok()?.to_owned(), bytes)))
        .filter(|(path, _)| path.extension().is_some_and(|end| end == "safetensors"))
        .collect()
}

fn student(home: &Home, run: &str) -> Vec<u8> {
    home.read(&format!("{run}/student/model.safetensors"))
}

fn labelled(home: &Home, arguments: &str) -> Value {
    serde_json::from_str(&home.done(&format!("label {arguments} --json"))).unwrap()
}

#[test]
fn a_student_of_a_cache_is_that_of_the_teacher_itself() {
    let home = home(120);
    let told = labelled(&home, &format!("next.toml {CACHED} --numbers f32"));
    assert_eq!((&told["documents"], &told["there"]), (&120.into(), &0.into()));
    assert_eq!(told["difference"]["error"], 0.0);
    home.done("run next.toml -q --out live");
    home.done(&format!("run next.toml -q --out kept {CACHED}"));
    assert!(student(&home, "live") == student(&home, "kept"));
    let distilled =
        |run: &str| home.json(&format!("{run}/report.json"))["arms"]["distilled"]["kl"].clone();
    assert_eq!(distilled("live"), distilled("kept"));
    // As the students of a sweep are, some of which learn from fewer texts.
    let axis = "--set distil.temperature=1,2";
    home.done(&format!("sweep next.toml -q --out swept {axis} {CACHED}"));
    let swept = home.read("swept/students/002/model.safetensors");
    assert!(swept == student(&home, "live"));
    let limit = "--set distil.train_limit=50";
    home.done(&format!("run next.toml -q --out few {limit}"));
    home.done(&format!("run next.toml -q --out few-kept {limit} {CACHED}"));
    // The student's texts are packed with fewer others, by which last bits may differ.
    let difference = home.json("few/report.json")["arms"]["distilled"]["kl"].as_f64().unwrap()
        - home.json("few-kept/report.json")["arms"]["distilled"]["kl"].as_f64().unwrap();
    assert!(difference.abs() < 1e-6, "{difference}");
    // Nothing more is asked.
    let again = labelled(&home, &format!("next.toml {CACHED} --numbers f32"));
    assert_eq!((&again["written"], &again["rows"]), (&0.into(), &told["rows"]));
    let verified = home.done(&format!("label next.toml {CACHED} --verify 10%"));
    assert!(verified.contains("a KL of 0.0e0 nats at a temperature of 2"), "{verified}");
}

#[test]
fn fewer_bits_are_as_near_as_is_told() {
    let home = home(120);
    let mut errors = Vec::new();
    for numbers in ["f32", "f16", "int8"] {
        let told = labelled(&home, &format!("next.toml --out {numbers} --numbers {numbers}"));
        errors.push(told["difference"]["error"].as_f64().unwrap());
        home.done(&format!(
            "run next.toml -q --out of-{numbers} --set teacher.cache=\"{numbers}\""
        ));
        let verified =
            home.done(&format!("label next.toml --out {numbers} --verify 100% --device cpu"));
        assert!(verified.contains("temperature of 2"), "{verified}");
    }
    assert!(errors[0] == 0.0 && errors[1] > 0.0 && errors[2] > 10.0 * errors[1], "{errors:?}");
    assert!(errors[2] < 1e-3, "{errors:?}");
    home.write("int8-2/lock", "");
    home.refused(
        "label next.toml --out int8-2 --numbers int8 --limit 1e-9",
        &["in int8 the teacher's answers are", "1.0e-9 is the most", "--numbers f16"],
    );
    // The bits that are there are not those that are asked for.
    let other = "label next.toml --out int8 --numbers f16";
    home.refused(
        other,
        &["how numbers are stored (int8 there, f16 here)", "Choose another folder"],
    );
}

#[test]
fn what_is_not_the_teachers_is_named() {
    let home = home(60);
    home.done(&format!("label next.toml -q {CACHED}"));
    let run = format!("run next.toml --out x {CACHED}");
    home.refused(
        "run next.toml --out x --set teacher.cache=\"nowhere\"",
        &["nowhere", "distil-gpu label"],
    );
    home.write("empty/lock", "");
    home.refused(
        "run next.toml --out x --set teacher.cache=\"empty\"",
        &["has no answers of a teacher yet"],
    );
    home.refused(
        &format!("{run} --set teacher.weights=\"f16\""),
        &["its quantisation (f32 there, f16 here)"],
    );
    home.refused(
        &format!("label next.toml {CACHED} --set teacher.weights=\"f16\""),
        &["its quantisation"],
    );
    home.refused(
        &format!("sweep next.toml --out x {CACHED} --set teacher.weights=\"f16\" --set distil.temperature=1,2"),
        &["its quantisation"],
    );
    // Another text, among those that are known.
    let more = format!("{}{}\n", texts(60), r#"{"text": "q r s t u"}"#);
    home.write("more.jsonl", more);
    let missing = format!("{run} --set data.train=\"more.jsonl\"");
    home.refused(
        &missing,
        &[
            "no answers to 1 of 61 documents",
            "q r s t u",
            "`distil-gpu label` adds what is missing",
        ],
    );
    home.refused(&format!("{run} --set student.model.max_length=8"), &["the same `max_length`"]);
    home.refused(
        &format!("{run} --set distil.hidden=[{{loss=\"mse\",student_layer=1,teacher_layer=1}}]"),
        &["look inside the teacher", "leave `teacher.cache` out"],
    );
    // What is missing is added to what is there.
    home.done(&format!("label next.toml -q {CACHED} --set data.train=\"more.jsonl\""));
    home.done(&format!("{} -q", missing.replace("--out x", "--out more")));

    let template = home.read("teacher/chat_template.jinja");
    home.write("teacher/chat_template.jinja", TEMPLATE.replace("assistant", "helper"));
    home.refused(&run, &["its chat template ("]);
    home.write("teacher/chat_template.jinja", template);
    let weights = home.read("teacher/model.safetensors");
    let mut other = weights.clone();
    let last = other.len() - 3;
    other[last] ^= 4;
    home.write("teacher/model.safetensors", other);
    home.refused(&run, &["the teacher's weights ("]);
    home.write("teacher/model.safetensors", weights);
    // The student's tokenizer is the teacher's.
    for (folder, blank) in [("teacher", " "), ("llama", " "), ("teacher", ""), ("llama", "")] {
        let file = format!("{folder}/tokenizer.json");
        let tokenizer = String::from_utf8(home.read(&file)).unwrap();
        home.write(&file, format!("{}{blank}", tokenizer.trim_end()));
        if (folder, blank) == ("llama", " ") {
            home.refused(&run, &["its tokenizer ("]);
        }
    }
    home.done(&format!("{run} -q"));
}

#[test]
fn a_damaged_cache_is_told_and_written_anew() {
    let home = home(400);
    home.done(&format!("label next.toml -q {CACHED} --numbers int8"));
    let whole = files(&home, "answers");
    assert!(whole.len() > 1, "{}", whole.len());
    let mut random = Random(7);
    for round in 0..24 {
        let number = random.below(whole.len() as u64) as usize;
        let (path, bytes) = whole.iter().nth(number).unwrap();
        let path = format!("answers/{}", path.display());
        let at = random.below(bytes.len() as u64) as usize;
        let mut damaged = bytes.clone();
        match round % 3 {
            0 => damaged.truncate(at),
            _ => damaged[at] ^= 1 << random.below(8),
        }
        home.write(&path, &damaged);
        let file = path.rsplit('/').next().unwrap();
        home.refused(
            &format!("label next.toml {CACHED} --verify 100%"),
            &[file, "`distil-gpu label` writes it anew"],
        );
        if round == 0 {
            home.refused(&format!("run next.toml --out x {CACHED}"), &[file, "damaged"]);
        }
        let said = say(home.command(&format!("label next.toml {CACHED} --numbers int8")));
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(files(&home, "answers") == whole, "round {round}: {said:?}");
    }
}

#[test]
fn a_killed_run_goes_on_with_its_cache() {
    let home = home(120);
    home.done(&format!("label next.toml -q {CACHED}"));
    let command = format!("run next.toml --device cpu {CACHED} --set train.epochs=12");
    killed_and_resumed(&home, &command, &[0, 31, 7, 113, 59]);
}

#[test]
fn shares_together_are_the_whole() {
    let home = home(400);
    home.done("label next.toml -q --out whole");
    let whole = files(&home, "whole");
    assert!(whole.len() > 3, "{}", whole.len());
    // All at once, as two launchers say it and a person does; one of them twice.
    let mut children = Vec::new();
    for (shard, variable) in [(1, ""), (2, "SLURM_ARRAY_TASK"), (3, "OMPI_COMM_WORLD"), (1, "")] {
        let own = if variable.is_empty() { format!("--shard {shard}/3") } else { String::new() };
        let mut command = home.command(&format!("label next.toml -q --out shared {own}"));
        match variable {
            "SLURM_ARRAY_TASK" => {
                command.env("SLURM_ARRAY_TASK_ID", (shard + 4).to_string());
                command.env("SLURM_ARRAY_TASK_MIN", "5").env("SLURM_ARRAY_TASK_COUNT", "3");
            }
            "OMPI_COMM_WORLD" => {
                command.env("OMPI_COMM_WORLD_RANK", (shard - 1).to_string());
                command.env("OMPI_COMM_WORLD_SIZE", "3");
            }
            _ => {}
        }
        children.push(start(command));
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert!(files(&home, "shared") == whole);
    // A share that is missing costs itself.
    home.done("label next.toml -q --out some --shard 2/3");
    let some = files(&home, "some");
    assert!(!some.is_empty() && some.len() < whole.len());
    assert!(some.iter().all(|(path, bytes)| whole[path] == *bytes));
    home.refused("run next.toml --out x --set teacher.cache=\"some\"", &["has no answers to"]);
    home.done("label next.toml -q --out some");
    assert!(files(&home, "some") == whole);
}

#[test]
fn a_killed_label_ends_with_the_same_bytes() {
    let home = home(2000);
    let begun = std::time::Instant::now();
    home.done("label next.toml -q --out whole");
    let whole_ms = begun.elapsed().as_millis() as u64;
    let whole = files(&home, "whole");
    assert!(whole.len() > 9, "{}", whole.len());
    let (mut random, mut kills, mut partly) = (Random(3), 0, 0);
    for round in 0.. {
        let folder = format!("killed-{round}");
        // Again and again until it is done.
        for _ in 0..4 {
            let mut child = start(home.command(&format!("label next.toml -q --out {folder}")));
            sleep(Duration::from_millis(random.below(whole_ms)));
            kills += usize::from(child.try_wait().unwrap().is_none());
            child.kill().unwrap();
            child.wait().unwrap();
            let left = files(&home, &folder);
            assert!(left.iter().all(|(path, bytes)| whole[path] == *bytes), "a file is not whole");
            partly += usize::from(!left.is_empty() && left.len() < whole.len());
        }
        home.done(&format!("label next.toml -q --out {folder}"));
        assert!(files(&home, &folder) == whole);
        let all = home.paths().into_iter().map(|path| path.display().to_string());
        let left: Vec<String> =
            all.filter(|path| path.contains(&folder) && path.contains(".distil-gpu-")).collect();
        assert!(left.is_empty(), "{left:?}");
        if kills >= 20 {
            break;
        }
    }
    println!("{kills} kills, after {partly} of which some files were there");
    assert!(partly > 0, "no kill was in the midst of its work");
}

/// Pictures, texts and embeddings: what a model answers is kept instead of hidden states.
#[test]
fn answers_of_other_models_are_kept() {
    let home = super::texts::home();
    let rows = (0..32).map(|row| {
        let words = ["good", "bad", "film", "films", "the"].into_iter().enumerate();
        let text: Vec<&str> =
            words.filter(|(bit, _)| row >> bit & 1 == 1).map(|(_, word)| word).collect();
        format!("a {},{}\n", text.join(" "), ["pos", "neg"][row % 2])
    });
    home.write("train.csv", rows.fold("text,label\n".to_owned(), |all, row| all + &row));
    home.done("run tiny.toml -q --out tiny-run");
    home.done("run texts.toml -q --out texts-run");
    home.write("vectors.toml", VECTORS);
    // Without its classifier it makes vectors.
    let config = String::from_utf8(home.read("bert/config.json")).unwrap();
    let config = config.replace("BertForSequenceClassification", "BertModel");
    home.write("vectors/config.json", config);
    for file in ["model.safetensors", "tokenizer.json"] {
        home.write(&format!("vectors/{file}"), home.read(&format!("bert/{file}")));
    }
    let tiny = "tiny.toml --set teacher={folder=\"tiny-run/teacher\"}";
    let texts = "texts.toml --set teacher={folder=\"texts-run/teacher\"} --set train.optimizer.lr=0.1 \
                 --set train.batch=8";
    for (name, recipe) in [("tiny", tiny), ("texts", texts), ("vectors", "vectors.toml")] {
        let cached = format!("{recipe} --set teacher.cache=\"{name}-answers\"");
        let told = labelled(&home, &cached);
        assert_eq!(
            (&told["difference"]["error"], &told["identity"]["kind"]),
            (&0.0.into(), &"logits".into())
        );
        home.done(&format!("run {recipe} -q --out {name}-live"));
        home.done(&format!("run {cached} -q --out {name}-kept"));
        let [live, kept] = ["live", "kept"].map(|run| student(&home, &format!("{name}-{run}")));
        // On the processor the head of a small batch sums in another order than that of a large one.
        assert!(name != "tiny" || live == kept, "{name}");
        for tensor_name in SafeTensors::deserialize(&live).unwrap().names() {
            let [live, kept] = [&live, &kept].map(|file| tensor(file, tensor_name).1);
            let off = live.iter().zip(&kept).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-4, "{name}: {tensor_name} is {off} off");
        }
        home.done(&format!("label {cached} --verify 50%"));
        home.done(&format!("plan {cached} -q"));
    }
    let cached = format!("{tiny} --set teacher.cache=\"tiny-answers\"");
    home.done(&format!("sweep {cached} -q --out swept --set distil.temperature=1,4"));
    home.done(&format!("sweep {tiny} -q --out swept-live --set distil.temperature=1,4"));
    for student in ["001", "002"] {
        let [ours, theirs] = ["swept", "swept-live"]
            .map(|sweep| home.read(&format!("{sweep}/students/{student}/model.safetensors")));
        assert!(ours == theirs);
    }
    home.refused(
        &format!("run {cached} --out x --set train.shift=1"),
        &["cached answers are those of unmoved images"],
    );
    home.refused(
        "run tiny.toml --out x --set teacher.cache=\"a\"",
        &["`cache` keeps the answers of a model's `folder`"],
    );
    home.refused("label tiny.toml --out x", &["a teacher that is there already", "RUN/teacher"]);
    home.refused(&format!("label {tiny}"), &["set `teacher.cache` in the recipe"]);
}

/// Vectors of texts.
const VECTORS: &str = r#"
task = "embedding"
device = "cpu"
[data]
source = "text"
train = "train.csv"
test = "train.csv"
[teacher]
folder = "vectors"
[student]
model = { type = "encoder", from = "teacher", layers = [0] }
[train]
epochs = 2
batch = 8
optimizer = { name = "adamw", lr = 1e-2 }
"#;
