//! Text classifiers: students that start from their own teacher, and what plan says of them.

use std::path::Path;

use super::interrupted::killed_and_resumed;
use super::{Home, tensor};

/// A small BERT that learns, and a student that begins as its first layer, narrower, and stays as it is.
const RECIPE: &str = r#"
device = "cpu"

[data]
source = "text"
train = "train.csv"
test = "train.csv"

[teacher]
model = { type = "encoder", from = "bert" }

[teacher.train]
epochs = 2
batch = 4
optimizer = { name = "adamw", lr = 1e-3 }

[student]
model = { type = "encoder", from = "teacher", layers = "alternate", hidden_size = 16, vocabulary = "trimmed" }

[train]
epochs = 1
batch = 4
optimizer = { name = "sgd", lr = 1e-30 }
"#;

/// A home with labelled texts, a small BERT and the recipe.
pub fn home() -> Home {
    let home = Home::new();
    let bert = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/bert");
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        home.write(&format!("bert/{name}"), std::fs::read(bert.join(name)).unwrap());
    }
    home.write("texts.toml", RECIPE);
    home.write(
        "train.csv",
        "text,label\ngood films!,pos\nthe bad film,neg\na good film,pos\nbad,neg\n",
    );
    home
}

/// The student of `run` is the first of its teacher's rows and columns.
fn assert_cut(home: &Home, teacher: &str, student: &str) {
    let [teacher, student] =
        [teacher, student].map(|folder| home.read(&format!("{folder}/model.safetensors")));
    for (name, rows, columns) in [
        ("bert.encoder.layer.0.attention.self.query.weight", 16, 16),
        ("bert.encoder.layer.0.intermediate.dense.weight", 40, 16),
        ("bert.embeddings.position_embeddings.weight", 16, 16),
        ("classifier.weight", 2, 16),
    ] {
        let (_, theirs) = tensor(&teacher, name);
        let (shape, ours) = tensor(&student, name);
        assert_eq!(shape, [rows, columns], "{name}");
        let wanted: Vec<f32> =
            theirs.chunks(24).take(rows).flat_map(|row| &row[..columns]).copied().collect();
        assert_eq!(ours, wanted, "{name}");
    }
}

#[test]
fn a_student_starts_from_what_its_teacher_has_learnt() {
    let home = home();
    home.done("run texts.toml -q --out a");
    // What the run measured is measured again, on the file.
    let printed = home.done("eval a/student --data train.csv --json --device cpu");
    let measured: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let report = home.json("a/report.json");
    assert_eq!(measured["errors"], report["arms"]["distilled"]["errors"]);
    assert_cut(&home, "a/teacher", "a/student");
    let names =
        ["a/teacher", "bert"].map(|folder| home.read(&format!("{folder}/model.safetensors")));
    let [learnt, before] = names.map(|file| tensor(&file, "bert.pooler.dense.weight"));
    assert!(learnt != before, "the teacher has learnt");

    // Loaded, the teacher gives the same start.
    home.done("run texts.toml -q --out b --set teacher={folder=\"a/teacher\"}");
    assert_cut(&home, "a/teacher", "b/student");

    home.done("sweep texts.toml -q --out s --set student.model.hidden_size=8,16");
    assert_cut(&home, "s/teacher", "s/students/002");
    assert_eq!(home.json("s/students/001/config.json")["num_attention_heads"], 1);
}

/// Rows of tokens that no text has take no part in training: without them, every other value is the same.
#[test]
fn a_trimmed_vocabulary_changes_nothing_of_what_is_learnt() {
    let home = home();
    for vocabulary in ["full", "trimmed"] {
        let set =
            format!("--set student.model.vocabulary=\"{vocabulary}\" --set train.optimizer.lr=0.1");
        home.done(&format!("run texts.toml -q --out {vocabulary} {set}"));
    }
    let files =
        ["full", "trimmed"].map(|run| home.read(&format!("{run}/student/model.safetensors")));
    let words = "bert.embeddings.word_embeddings.weight";
    for name in safetensors::SafeTensors::deserialize(&files[0]).unwrap().names() {
        let [full, trimmed] = [&files[0], &files[1]].map(|file| tensor(file, name));
        assert!(name == words || full == trimmed, "{name}");
    }
    let [full, trimmed] = [&files[0], &files[1]].map(|file| tensor(file, words).1);
    let vocabulary = |run: &str| {
        home.json(&format!("{run}/student/tokenizer.json"))["model"]["vocab"]
            .as_object()
            .unwrap()
            .clone()
    };
    let (all, few) = (vocabulary("full"), vocabulary("trimmed"));
    assert!(few.len() < all.len() && few.contains_key("film") && !few.contains_key("q"), "{few:?}");
    for (token, place) in &few {
        let row = |values: &[f32], id: &serde_json::Value| {
            values[id.as_u64().unwrap() as usize * 16..][..16].to_vec()
        };
        assert_eq!(row(&trimmed, place), row(&full, &all[token]), "{token}");
    }
}

/// A student that spells what its teacher knows as a word has more tokens, and gets batches with room for both.
#[test]
fn teacher_and_student_may_read_texts_of_different_lengths() {
    let home = home();
    let set = "--set student.model.vocabulary={min_count=9} --set teacher.model.max_length=6";
    home.done(&format!("run texts.toml -q --out a {set} --set student.model.from=\"bert\""));
    let tokenizer = String::from_utf8(home.read("a/student/tokenizer.json")).unwrap();
    assert!(!tokenizer.contains("\"film\""), "{tokenizer}");
    assert!(home.json("a/report.json")["agreement"].is_number());
}

/// The distilled student asks its teacher about texts without labels; alone, it takes as many steps on the others.
#[test]
fn texts_without_labels_teach_through_the_teacher() {
    let home = home();
    home.write("more.txt", "films, films\nthe film\ngood, bad\nthe bad\nquite bad\n");
    let faster = "--set train.optimizer.lr=0.1";
    let more = format!("{faster} --set data.unlabelled=\"more.txt\"");
    home.done(&format!("run texts.toml -q --out without {faster}"));
    home.done(&format!("run texts.toml -q --out with {more}"));
    let report = home.json("with/report.json");
    assert_eq!([&report["examples"]["students"], &report["examples"]["unlabelled"]], [4, 5]);
    let log = String::from_utf8(home.read("with/metrics.jsonl")).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    // Nine texts, four a batch.
    let steps: Vec<_> = lines.map(|line| (line["arm"].clone(), line["step"].clone())).collect();
    assert!(steps.contains(&("control".into(), 3.into())), "{steps:?}");
    assert!(steps.contains(&("distilled".into(), 3.into())), "{steps:?}");
    let knows_comma = |run: &str| {
        !home.json(&format!("{run}/student/tokenizer.json"))["model"]["vocab"][","].is_null()
    };
    assert!(knows_comma("with") && !knows_comma("without"));
    let plan = home.done(&format!("plan texts.toml --json {more}"));
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!([&plan["arms"][1]["steps"], &plan["arms"][2]["steps"]], [3, 3]);
    home.done(&format!("sweep texts.toml -q --out s {more} --set distil.alpha=0.5,1.0"));
    killed_and_resumed(&home, &format!("run texts.toml {more} --set train.epochs=20"), &[3, 10]);

    let refused = |set: &str, problem: &str| {
        home.refused(&format!("run texts.toml --out r {more} {set}"), &["unlabelled", problem]);
    };
    refused("--set task=\"masked-lm\"", "put them all into `train`");
    let logits = "--set teacher={logits=\"a.safetensors\"} --set student.model.from=\"bert\"";
    refused(logits, "give its `folder`");
    home.refused(&format!("run --out r {more}"), &["unlabelled"]);
    home.write("more.txt", "\n");
    home.refused(&format!("run texts.toml --out r {more}"), &["more.txt", "it holds no text"]);
    home.refused(
        "run texts.toml --out r --set data.unlabelled=\"none.txt\"",
        &["none.txt", "cannot be read"],
    );
}

/// Scores that are the cosines themselves, put in by way of `logits`.
#[test]
fn pairs_of_texts_are_measured_by_the_cosines_of_their_embeddings() {
    let home = home();
    let mut config = home.json("bert/config.json");
    config["architectures"] = serde_json::json!(["BertModel"]);
    home.write("bert/config.json", config.to_string());
    let texts = ["good films!", "the bad film", "a good film", "bad", "the film", "good"];
    home.write("texts.txt", texts.join("\n"));
    home.done("logits bert --input texts.txt --out vectors.safetensors --device cpu -q");
    let (shape, vectors) = tensor(&home.read("vectors.safetensors"), "logits");
    let rows: Vec<&[f32]> = vectors.chunks(shape[1]).collect();
    let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let pairs = |sign: f32| {
        let row = |at: usize| {
            let (a, b) = (at, (at * 2 + 1) % 6);
            format!("{},{},{}\n", texts[a], texts[b], sign * cosine(rows[a], rows[b]))
        };
        format!("one,other,score\n{}", (0..6).map(row).collect::<String>())
    };
    let eval = "eval bert --text one --text other --label score --device cpu";
    for sign in [1.0, -1.0_f32] {
        home.write("pairs.csv", pairs(sign));
        let measured = home.done(&format!("{eval} --data pairs.csv --json"));
        let measured: serde_json::Value = serde_json::from_str(&measured).unwrap();
        for name in ["spearman", "pearson"] {
            let found = measured[name].as_f64().unwrap();
            assert!((found - f64::from(sign)).abs() < 1e-4, "{measured}");
        }
        assert_eq!(measured["examples"], 6);
    }
    let shown = home.done(&format!("{eval} --data pairs.csv"));
    assert!(shown.contains("Spearman      -1.0000 (6 pairs)"), "{shown}");
    home.write("same.csv", "one,other,score\ngood,bad,1\nfilm,bad,1\n");
    let shown = home.done(&format!("{eval} --data same.csv"));
    assert!(shown.contains("Spearman      none, as one side never varies"), "{shown}");
    home.refused("eval bert --data pairs.csv --text one", &["columns of the texts", "name two"]);
    home.refused(&format!("{eval} --data texts.toml"), &["texts are read from .csv"]);
}

#[test]
fn killed_while_students_follow_their_teacher() {
    let longer =
        "--set teacher.train.epochs=40 --set train.epochs=40 --set train.optimizer.lr=0.01";
    killed_and_resumed(&home(), &format!("run texts.toml {longer}"), &[0, 3, 10, 30]);
}

#[test]
fn a_plan_knows_the_student_before_its_teacher_has_learnt() {
    let home = home();
    let plan = home.done("plan texts.toml --json");
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    home.done("run texts.toml -q --out a");
    let report = home.json("a/report.json");
    for (arm, place) in [("teacher", 0), ("control", 1), ("distilled", 2)] {
        assert_eq!(plan["arms"][place]["parameters"], report["arms"][arm]["parameters"], "{arm}");
    }
    let shown = home.done("plan texts.toml");
    let wanted = "bert of 1 layer, 2 heads, hidden_size 16, intermediate_size 40, ";
    assert!(shown.contains(wanted), "{shown}");
}
