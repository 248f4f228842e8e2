//! Runs whose models guess masked words: of rows of letters, which a model can learn.

use std::fmt::Write;
use std::path::Path;

use serde_json::json;

use super::Home;
use super::interrupted::killed_and_resumed;

/// So many texts: letters one after another from some place in the alphabet on, round and round.
fn letters(count: usize, salt: usize) -> String {
    let mut texts = String::new();
    for row in 0..count {
        let start = (row * 7 + salt) % 26;
        let len = 6 + (row * 5 + salt) % 8;
        for at in start..start + len {
            write!(texts, "{} ", char::from(b'a' + (at % 26) as u8)).unwrap();
        }
        texts.push('\n');
    }
    texts
}

/// A home with texts, and `guess.toml`: a teacher of two layers and students of one, from random weights.
fn home() -> Home {
    let home = Home::new();
    home.write("train.txt", letters(256, 0));
    home.write("test.txt", letters(64, 3));
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/bert-mlm");
    let from = from.to_str().unwrap().replace('\\', "/");
    let recipe = format!(
        r#"
task = "masked-lm"

[data]
source = "text"
train = "train.txt"
test = "test.txt"

[teacher]
model = {{ type = "encoder", from = "{from}", random = true, dropout = 0.0 }}

[teacher.train]
epochs = 60
batch = 16
optimizer = {{ name = "adamw", lr = 3e-3, weight_decay = 0.01 }}

[student]
model = {{ type = "encoder", from = "{from}", layers = [1], random = true, dropout = 0.1 }}

[distil]
temperature = 2.0
soft_weight = 5.0
hard_weight = 2.0
hidden = [{{ loss = "cosine" }}]

[train]
epochs = 60
batch = 16
clip = 5.0
optimizer = {{ name = "adamw", lr = 3e-3, weight_decay = 0.01 }}
"#
    );
    home.write("guess.toml", recipe);
    home
}

#[test]
fn three_models_learn_the_alphabet() {
    let home = home();
    home.done("run guess.toml --device cpu -q --out run");
    let report = home.json("run/report.json");
    let masked = report["examples"]["masked"].as_u64().unwrap();
    assert!(masked > 64, "{masked} masked tokens of 64 texts");
    for arm in ["teacher", "control", "distilled"] {
        let of = |key: &str| report["arms"][arm][key].as_f64().unwrap();
        let (loss, accuracy) = (of("cross_entropy"), of("accuracy"));
        assert!((of("perplexity") - loss.exp()).abs() < 1e-9 * loss.exp(), "{report}");
        assert!((accuracy - (1.0 - of("errors") / masked as f64)).abs() < 1e-6, "{report}");
        // By chance one letter of 26 is right, and ln 26 the loss.
        let least = if arm == "teacher" { 0.5 } else { 0.2 };
        assert!(accuracy > least && loss < 3.0, "{arm}: {report}");
    }
    assert!(report["agreement"].as_f64().unwrap() > 0.2, "{report}");

    // The last epoch is of the distilled student: both terms count by their weights.
    let log = String::from_utf8(home.read("run/metrics.jsonl")).unwrap();
    let mut lines =
        log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let last = lines.rfind(|line| line["test"].is_object()).unwrap();
    let of = |key: &str| last["test"][key].as_f64().unwrap();
    let sum = 5.0 * of("soft") + 2.0 * of("hard");
    assert!((of("loss") - sum).abs() < 1e-5 * sum, "{last}");
    assert!(
        (of("accuracy") - report["arms"]["distilled"]["accuracy"].as_f64().unwrap()).abs() < 1e-6
    );

    for (model, layers) in [("teacher", 2), ("control", 1), ("student", 1)] {
        let config = home.json(&format!("run/{model}/config.json"));
        assert_eq!(config["architectures"][0], "BertForMaskedLM");
        assert_eq!(config["num_hidden_layers"], layers);
    }
    let page = String::from_utf8(home.read("run/report.html")).unwrap();
    assert!(page.contains("perplexity") && page.contains("masked tokens"));

    // The page shows some guesses: of those masks that the measurements have.
    let guesses = home.json("run/guesses.json");
    let texts = guesses["texts"].as_array().unwrap();
    assert!(texts.len() > 6 && page.contains("What they guess"), "{guesses}");
    let test = String::from_utf8(home.read("test.txt")).unwrap();
    let lines: Vec<&str> = test.lines().map(str::trim).collect();
    let mut right = 0;
    for text in texts {
        let of = |key: &str| text[key].as_str().unwrap();
        let whole = [of("before"), of("token"), of("after")].join(" ");
        let letters = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (shown, own) =
            (letters(&whole), letters(lines[text["index"].as_u64().unwrap() as usize]));
        // Other tokens of the text may be masked or replaced too.
        let place = letters(of("before")).len();
        assert_eq!((shown.len(), &shown[place]), (own.len(), &own[place]), "{text}");
        for model in ["teacher", "control", "distilled"] {
            let guesses = text[model].as_array().unwrap();
            let shares: Vec<f64> =
                guesses.iter().map(|guess| guess["probability"].as_f64().unwrap()).collect();
            assert!(shares.len() == 3 && shares.is_sorted_by(|a, b| a >= b), "{text}");
            assert!(shares.iter().sum::<f64>() <= 1.001, "{text}");
            for guess in guesses {
                assert_eq!(guess["right"], guess["token"] == text["token"], "{text}");
            }
        }
        right += usize::from(text["teacher"][0]["right"] == true);
    }
    // By chance, one letter of 26.
    assert!(right * 4 > texts.len(), "{right} of {guesses}");

    // A trained one is a teacher, also on a GPU; what has no meaning for it is refused.
    let saved =
        "run guess.toml --set teacher={folder=\"run/teacher\"} --set train.epochs=1 --device gpu";
    home.done(&format!("{saved} -q --out again --verify"));
    let accuracy = |run: &str| {
        let report = home.json(&format!("{run}/report.json"));
        report["arms"]["teacher"]["accuracy"].as_f64().unwrap()
    };
    assert!((accuracy("again") - accuracy("run")).abs() < 0.02);
    home.done("plan guess.toml");
    let report = home.json("run/report.json");
    for data in ["test.txt", "guess.toml"] {
        let eval = format!("eval run/student --device cpu --data {data}");
        let measured: serde_json::Value =
            serde_json::from_str(&home.done(&format!("{eval} --json"))).unwrap();
        let distilled = &report["arms"]["distilled"];
        for name in ["accuracy", "perplexity", "cross_entropy"] {
            let [found, wanted] = [&measured, distilled].map(|of| of[name].as_f64().unwrap());
            assert!((found - wanted).abs() < 1e-5 * wanted, "{name}: {found}, {wanted}");
        }
        assert_eq!((&measured["masked"], &measured["examples"]), (&json!(masked), &json!(64)));
        let shown = home.done(&eval);
        assert!(shown.contains(&format!("of {masked} masked tokens in 64 texts")), "{shown}");
    }
    home.refused(
        "logits run/student --input test.txt --out z.safetensors",
        &["does `masked-lm`", "`eval` measures"],
    );
    let classify = "run guess.toml --set task=\"classification\"";
    home.refused(classify, &["the training data have no labels"]);
}

/// The teacher is asked within every student's steps, as masks are drawn anew.
#[test]
fn a_sweep_goes_by_perplexity() {
    let home = home();
    let short = "--set teacher.train.epochs=15 --set train.epochs=15 --set device=cpu";
    let sweep = format!("sweep guess.toml -q {short} --set distil.temperature=1,50 --out s");
    home.done(&sweep);
    let report = home.json("s/sweep.json");
    let of = |point: usize, key: &str| report["points"][point]["runs"][0]["distilled"][key].clone();
    let perplexity = |point| of(point, "perplexity").as_f64().unwrap();
    assert!(perplexity(0) != perplexity(1));
    assert_eq!(
        report["points"][0]["runs"][0]["control"],
        report["points"][1]["runs"][0]["control"]
    );
    assert!(report["points"][0]["runs"][0]["agreement"].as_f64().unwrap() > 0.0);
    let page = String::from_utf8(home.read("s/sweep.html")).unwrap();
    let best = if perplexity(0) < perplexity(1) { "1" } else { "50" };
    let sentence = format!("Best: distil.temperature = {best} with a perplexity of ");
    assert!(page.contains(&sentence) && page.contains("id=\"perplexity\""), "{sentence}");

    // A student of the sweep is that of a run with its settings.
    home.done(&format!("run guess.toml -q {short} --set distil.temperature=1 --out r"));
    let run = home.json("r/report.json");
    for key in ["accuracy", "errors", "perplexity"] {
        assert_eq!(run["arms"]["distilled"][key], of(0, key), "{key}");
    }
    assert_eq!(run["agreement"], report["points"][0]["runs"][0]["agreement"]);
    // What is finished is not trained again.
    let before = home.read("s/students/002/model.safetensors");
    std::fs::remove_file(home.path("s/students/001/result.json")).unwrap();
    home.done("sweep --resume s -q");
    assert_eq!(
        of(0, "perplexity"),
        home.json("s/sweep.json")["points"][0]["runs"][0]["distilled"]["perplexity"]
    );
    assert_eq!(before, home.read("s/students/002/model.safetensors"));
}

/// The best of a language model is that of the lowest perplexity, or of the most masked tokens right, on texts that are
/// neither learnt from nor tested on: a share of the training texts, or a file of their own.
#[test]
fn the_best_of_a_language_model_is_kept() {
    let home = home();
    home.write("validation.txt", letters(40, 11));
    home.write("labelled.csv", "text\na b c d e f\n");
    let short = "--device cpu -q --set teacher.train.epochs=3 --set train.epochs=6 --set train.keep=\"best\"";
    let arms = ["teacher", "control", "distilled"];
    for (validation, by, examples) in [("0.2", "loss", 51), ("\"validation.txt\"", "accuracy", 40)]
    {
        let out = format!("run-{by}");
        let set = format!("--set data.validation={validation} --set train.best_by=\"{by}\"");
        home.done(&format!("run guess.toml {short} {set} --out {out}"));
        let report = home.json(&format!("{out}/report.json"));
        assert_eq!(report["examples"]["validation"], json!(examples));
        let log = String::from_utf8(home.read(&format!("{out}/metrics.jsonl"))).unwrap();
        let lines: Vec<serde_json::Value> =
            log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for arm in arms.iter().skip(1) {
            let measured: Vec<(u64, f64)> = lines
                .iter()
                .filter(|line| line["arm"] == *arm && line["validation"].is_object())
                .map(|line| {
                    let of = &line["validation"];
                    let score = match by {
                        "loss" => -of["hard"].as_f64().unwrap(),
                        _ => of["accuracy"].as_f64().unwrap(),
                    };
                    (line["step"].as_u64().unwrap(), score)
                })
                .collect();
            assert_eq!(measured.len(), 6, "{arm}");
            let best = measured.iter().fold(
                (0, f64::MIN),
                |best, &one| {
                    if one.1 > best.1 { one } else { best }
                },
            );
            println!("{arm} by {by}: {measured:?}");
            assert_eq!(report["arms"][arm]["kept_step"], json!(best.0), "{arm}: {measured:?}");
        }
    }
    let wrong = "run guess.toml --set train.keep=\"best\" --set data.validation=0.2";
    home.refused(
        &format!("{wrong} --set train.best_by=\"macro_f1\""),
        &["measures no `macro_f1`", "set \"accuracy\"", "\"loss\""],
    );
    home.refused(
        "run guess.toml --set data.validation=0.2 --set distil.omit_classes=[1]",
        &["`distil.omit_classes` is for `task = \"classification\"`", "leave it out"],
    );
    // Texts are read out of columns too, whether there are labels or not.
    home.done(&format!("run guess.toml {short} --set data.validation=\"labelled.csv\" --out csv"));
}

#[test]
fn a_killed_run_draws_the_same_masks() {
    let home = home();
    let short = "--set teacher.train.epochs=8 --set train.epochs=12";
    killed_and_resumed(&home, &format!("run guess.toml --device cpu {short}"), &[0, 31, 7, 59]);
}
