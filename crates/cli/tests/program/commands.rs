//! What every command does, on the real program.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;

use super::{HAND_WEIGHTS, Home, fails, safetensors, say, tensor};
use safetensors::Dtype;
use serde_json::{Value, json};

/// The tiny recipe's results in the folder `base`, and what the run printed; made once for all tests.
pub fn base() -> &'static (Home, String) {
    static BASE: OnceLock<(Home, String)> = OnceLock::new();
    BASE.get_or_init(|| {
        let home = Home::shared("base");
        let printed = home.done("run tiny.toml --json --out base");
        (home, printed)
    })
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split_whitespace().collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// The names of all GPU drivers, as `--device` takes them.
fn gpus(home: &Home) -> Vec<String> {
    let list: Value = serde_json::from_str(&home.done("devices --json")).unwrap();
    let list = list["devices"].as_array().unwrap().clone();
    assert!(!list.is_empty(), "no GPU driver: run the tests through tests/run.sh");
    list.iter().map(|device| device["device"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn help_explains_every_command() {
    let home = Home::new();
    let all = home.done("--help");
    for command in [
        "run",
        "report",
        "eval",
        "logits",
        "plan",
        "sweep",
        "check",
        "bench",
        "tune",
        "devices",
        "init",
        "keys",
        "completions",
        "man",
        "licences",
    ] {
        assert!(all.contains(&format!("\n  {command} ")), "{all}");
        let help = home.done(&format!("{command} --help"));
        let (usage, examples) = help.split_once("\nExample").unwrap_or_else(|| panic!("{help}"));
        assert!(usage.contains(&format!("Usage: distil-gpu {command}")), "{help}");
        // Examples name this program's commands, and the options that the help lists.
        let lines = examples.lines().filter(|line| line.starts_with("  distil-gpu "));
        for word in lines.flat_map(str::split_whitespace).filter(|word| word.starts_with("--")) {
            let option = word.split('=').next().unwrap();
            assert!(usage.contains(option), "{command}: {option} is no option: {help}");
        }
    }
    assert_eq!(home.done("--version"), concat!("distil-gpu ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn keys_of_recipes_are_explained() {
    let home = Home::new();
    let all = home.done("keys");
    for key in ["temperature = ", "[train.optimizer] with name = \"sgd\"", "[data.normalise]"] {
        assert!(all.contains(key), "{key}: {all}");
    }
    // But for values, which are never cut.
    let mut lines = all.lines().filter(|line| !line.contains(" = "));
    assert!(lines.all(|line| line.chars().count() <= 100), "{all}");
    let one = home.done("keys train.optimizer.lr");
    assert!(
        one.contains("  lr = 1e-3") && one.contains("a number above 0; must be given"),
        "{one}"
    );
    assert!(!one.contains("momentum"), "{one}");
    // The teacher has the keys of the student's model and training.
    assert_eq!(home.done("keys teacher.train.optimizer.lr"), one);
    let tables: Value = serde_json::from_str(&home.done("keys train --json")).unwrap();
    let tables = tables.as_array().unwrap();
    assert!(tables.iter().all(|table| table["table"].as_str().unwrap().starts_with("train")));
    let batch = tables[0]["keys"].as_array().unwrap().iter().find(|key| key["key"] == "batch");
    assert_eq!(batch.unwrap()["default"], "128");
    let said = say(home.command("keys nothing"));
    assert_eq!((said.code, &*said.out), (Some(2), ""), "{said:?}");
    assert!(said.err.contains("no recipe has a table or key `nothing`"), "{said:?}");
}

#[test]
fn a_run_leaves_what_it_promises() {
    let (home, printed) = base();
    let report = home.json("base/report.json");
    assert_eq!(serde_json::from_str::<Value>(printed).unwrap(), report);
    let all = "name task arms retained gap_closed majority agreement examples seed device backend version seconds classes";
    assert_eq!(keys(&report), words(all));
    assert_eq!(keys(&report["arms"]), words("teacher control distilled"));

    let files: BTreeSet<_> = home.files().into_keys().collect();
    let mut wanted = vec![
        "tiny.toml",
        "base/recipe.toml",
        "base/journal.json",
        "base/metrics.jsonl",
        "base/answers.json",
        "base/report.json",
        "base/report.html",
    ];
    let metrics = String::from_utf8(home.read("base/metrics.jsonl")).unwrap();
    let lines: Vec<Value> =
        metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let place = |line: &Value| (line["arm"].as_str().unwrap().to_owned(), number(&line["epoch"]));
    let order = ["teacher", "control", "distilled"].map(|arm| [1.0, 2.0].map(|e| (arm.into(), e)));
    assert_eq!(lines.iter().map(place).collect::<Vec<_>>(), order.concat());

    let arms = [
        ("teacher", 32, ["base/teacher/config.json", "base/teacher/model.safetensors"]),
        ("control", 8, ["base/control/config.json", "base/control/model.safetensors"]),
        ("distilled", 8, ["base/student/config.json", "base/student/model.safetensors"]),
    ];
    for (i, (name, units, [config, weights])) in arms.into_iter().enumerate() {
        let arm = &report["arms"][name];
        let all = "accuracy errors macro_f1 matthews errors_per_class parameters bytes latency_ms \
                   examples_per_second steps";
        assert_eq!(keys(arm), words(all));
        let per_class = arm["errors_per_class"].as_array().unwrap();
        assert_eq!(per_class.len(), 10);
        assert_eq!(per_class.iter().map(number).sum::<f64>(), number(&arm["errors"]));
        assert_eq!(arm["accuracy"], json!((100.0 - number(&arm["errors"])) / 100.0));
        assert!(number(&arm["accuracy"]) > 0.2, "{name} learnt nothing: {arm}");
        assert_eq!(arm["parameters"], 784 * units + units + units * 10 + 10);
        assert_eq!(arm["bytes"], home.read(weights).len());
        assert_eq!(arm["steps"], 2 * 200_usize.div_ceil(32));
        assert!(number(&arm["latency_ms"]) > 0.0 && number(&arm["examples_per_second"]) > 0.0);
        assert_eq!(home.json(config)["hidden_sizes"], json!([units]));
        let last = &lines[2 * i + 1];
        assert_eq!(last["step"], arm["steps"]);
        assert!((number(&last["test"]["accuracy"]) - number(&arm["accuracy"])).abs() < 1e-6);
        wanted.extend([config, weights]);
    }
    assert_eq!(files, wanted.iter().map(|name| home.path(name)).collect());

    let accuracy = |arm: &str| number(&report["arms"][arm]["accuracy"]);
    let [teacher, control, distilled] = ["teacher", "control", "distilled"].map(accuracy);
    assert_eq!(report["retained"], json!(distilled / teacher));
    assert_eq!(report["gap_closed"], json!((distilled - control) / (teacher - control)));
    assert!((number(&lines[5]["test"]["agreement"]) - number(&report["agreement"])).abs() < 1e-6);
    assert_eq!(report["examples"], json!({ "teacher": 200, "students": 200, "test": 100 }));
    assert!(number(&report["seconds"]) > 0.0);
}

/// Products are cut by the number of threads, and no bit depends on it.
#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let home = Home::new();
    let sizes = "--set teacher.model.hidden_sizes=[300] --set student.model.hidden_sizes=[130]";
    let bytes = [1, 2, 3, 7].map(|threads: usize| {
        let run = format!("run tiny.toml -q --out {threads} {sizes} --set train.batch=128");
        let mut command = home.command(&run);
        command.env("RAYON_NUM_THREADS", threads.to_string());
        let said = say(command);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.out.contains("student distilled"), "{}", said.out);
        let model = |arm: &str| home.read(&format!("{threads}/{arm}/model.safetensors"));
        ["teacher", "control", "student"].map(model)
    });
    assert!(bytes.iter().all(|models| *models == bytes[0]), "threads change what is learnt");
}

/// A teacher that learns nothing makes every share of it meaningless.
#[test]
fn a_teacher_with_nothing_to_pass_on_is_said() {
    let home = Home::new();
    // Its answer is always the first class.
    let zeros = |rows: usize| vec![0.0; rows * 10];
    home.write_f32(
        "zeros",
        &[("train", &[200, 10], &zeros(200)), ("test", &[100, 10], &zeros(100))],
    );
    let run =
        "run tiny.toml -q --out lost --set teacher={logits=\"zeros\"} --set target.retain=0.5";
    let said = say(home.command(run));
    let report = home.json("lost/report.json");
    assert_eq!((&report["gap_closed"], &report["retained"]), (&Value::Null, &Value::Null));
    let warnings = report["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for warning in warnings {
        let warning = warning.as_str().unwrap();
        assert!(said.out.contains(&format!("Warning: {warning}\n")), "{}", said.out);
        let page = String::from_utf8(home.read("lost/report.html")).unwrap();
        assert!(page.contains(&warning.replace('\'', "&#39;")), "{warning}");
    }
    // A share of nothing is no success.
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.err.contains("no better than a constant answer"), "{}", said.err);
}

/// Results are for whoever may read the folder.
#[cfg(unix)]
#[test]
fn results_are_as_readable_as_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let (home, _) = base();
    let mode = |name: &str| home.path(name).metadata().unwrap().permissions().mode();
    for name in ["base/report.json", "base/student/config.json", "base/student/model.safetensors"] {
        assert_eq!(mode(name), mode("tiny.toml"), "{name}");
    }
}

#[test]
fn the_resolved_recipe_and_the_seed_decide_every_bit() {
    let (base, _) = base();
    let home = Home::new();
    home.write("resolved.toml", replaced(&base.read("base/recipe.toml"), "out = \"base\"\n", ""));
    home.done("run resolved.toml -q --out same");
    for model in ["teacher", "control", "student"] {
        for file in ["config.json", "model.safetensors"] {
            let [ours, theirs] = [format!("same/{model}/{file}"), format!("base/{model}/{file}")];
            assert!(home.read(&ours) == base.read(&theirs), "{model}/{file} differs");
        }
    }
    home.done("run resolved.toml -q --out other --seed 1");
    let weights = "student/model.safetensors";
    let [same, other] = ["same", "other"].map(|run| home.read(&format!("{run}/{weights}")));
    assert!(same != other, "another seed gave the same student");
    assert_eq!(home.json("other/report.json")["seed"], 1);
}

/// A text with one part of it replaced, which must be there.
pub fn replaced(text: &[u8], from: &str, to: &str) -> String {
    let text = std::str::from_utf8(text).unwrap();
    assert!(text.contains(from), "{from:?} is not in {text}");
    text.replacen(from, to, 1)
}

/// All parameters of a model of the tiny recipe.
fn all_values(file: &[u8]) -> Vec<f32> {
    let names = ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias"];
    names.iter().flat_map(|name| tensor(file, name).1).collect()
}

/// How far apart two models of the tiny recipe are: squared, over the size of the second.
fn distance(ours: &[u8], theirs: &[u8]) -> f32 {
    let [ours, theirs] = [ours, theirs].map(all_values);
    assert_eq!(ours.len(), theirs.len());
    let apart: f32 = ours.iter().zip(&theirs).map(|(a, b)| (a - b).powi(2)).sum();
    apart / theirs.iter().map(|value| value.powi(2)).sum::<f32>()
}

#[test]
fn both_students_start_from_the_same_weights() {
    let home = Home::new();
    let set = "--set teacher.train.epochs=1 --set train.optimizer.lr=1e-12 --set train.epochs=1";
    home.done(&format!("run tiny.toml -q --out still {set}"));
    let [control, student] =
        ["control", "student"].map(|model| home.read(&format!("still/{model}/model.safetensors")));
    assert!(distance(&control, &student) < 1e-14);
    let moved = base().0.read("base/student/model.safetensors");
    assert!(distance(&moved, &student) > 1e-3, "training moves weights");
}

#[test]
fn folders_are_numbered_and_replaced_only_when_told() {
    let home = Home::new();
    home.write("runs/tiny/mine.txt", "mine");
    let set = "--set distil.temperature=8 --set teacher.train.epochs=1";
    let said = say(home.command(&format!("run tiny.toml {set}")));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("Device: CPU"), "{}", said.err);
    let results = "Results: runs/tiny-2\nReport: runs/tiny-2/report.html\n";
    for words in ["student distilled", "The distilled student ", results] {
        assert!(said.out.contains(words), "{words:?} is not in {}", said.out);
    }
    let recipe = replaced(&home.read("runs/tiny-2/recipe.toml"), "temperature = 8.0", "");
    assert!(recipe.contains("[teacher.train]\nepochs = 1\n"), "{recipe}");
    assert!(recipe.contains("[train]\nepochs = 2\n"), "{recipe}");

    home.refused("run tiny.toml --out runs/tiny-2", &["runs/tiny-2: ", "--out", "--force"]);
    let before = home.read("runs/tiny-2/student/model.safetensors");
    home.done("run tiny.toml -q --out runs/tiny-2 --force --seed 3");
    assert!(home.read("runs/tiny-2/student/model.safetensors") != before);
    assert_eq!(home.json("runs/tiny-2/report.json")["seed"], 3);

    // A run that fails leaves nothing of the one that it replaces, which would pass for its own.
    let command = "run tiny.toml -q --out runs/tiny-2 --force --set train.optimizer.lr=1e30";
    fails(home.command(command), &["training of the teacher diverged (NaN or Inf)", "lower"]);
    let old = ["report.json", "answers.json", "report.html", "teacher/config.json"];
    for name in old.into_iter().chain(["student/model.safetensors"]) {
        assert!(!home.path("runs/tiny-2").join(name).exists(), "{name} is of the earlier run");
    }
}

#[test]
fn every_driver_trains_as_the_processor_does() {
    let (base, _) = base();
    let home = Home::new();
    for gpu in gpus(&home) {
        home.done(&format!("run tiny.toml -q --device {gpu} --out {gpu}"));
        let report = home.json(&format!("{gpu}/report.json"));
        assert!(!report["device"].as_str().unwrap().starts_with("CPU"), "{report}");
        let theirs = base.json("base/report.json");
        for (arm, folder) in
            [("teacher", "teacher"), ("control", "control"), ("distilled", "student")]
        {
            let [ours, theirs] = [&report, &theirs].map(|r| number(&r["arms"][arm]["accuracy"]));
            assert!((ours - theirs).abs() <= 0.02, "{gpu} {arm}: {ours}, processor {theirs}");
            let file = format!("{folder}/model.safetensors");
            let theirs = base.read(&format!("base/{file}"));
            // Fourteen steps of f32, summed in another order.
            let apart = distance(&home.read(&format!("{gpu}/{file}")), &theirs);
            assert!(apart < 1e-8, "{gpu} {arm}: NMSE {apart}");
        }
    }
}

#[test]
fn cached_logits_and_a_saved_teacher_teach_the_same() {
    let (base, _) = base();
    let home = Home::new();
    let teacher = base.path("base/teacher");
    let teacher = teacher.display();
    home.done(&format!(
        "logits {teacher} --input tiny.toml --device cpu --out answers.safetensors"
    ));
    let answers = home.read("answers.safetensors");
    assert_eq!(tensor(&answers, "train").0, [200, 10]);
    assert_eq!(tensor(&answers, "test").0, [100, 10]);
    let wanted = &base.json("base/report.json")["arms"]["teacher"];
    for (out, source) in [
        ("cached", "teacher={logits=\"answers.safetensors\"}".to_owned()),
        ("saved", format!("teacher={{folder=\"{teacher}\"}}")),
    ] {
        home.done(&format!("run tiny.toml -q --out {out} --set {source}"));
        for model in ["control", "student"] {
            let file = format!("{model}/model.safetensors");
            let [ours, theirs] =
                [home.read(&format!("{out}/{file}")), base.read(&format!("base/{file}"))];
            // Another number of rows at a time: the cached logits are rounded otherwise.
            let same = ours == theirs || (out == "cached" && distance(&ours, &theirs) < 1e-11);
            assert!(same, "{out}: the {model} differs by {}", distance(&ours, &theirs));
        }
        let arm = &home.json(&format!("{out}/report.json"))["arms"]["teacher"];
        assert_eq!(arm["errors_per_class"], wanted["errors_per_class"]);
        assert_eq!(arm["steps"], Value::Null);
        let parameters = if out == "saved" { &wanted["parameters"] } else { &Value::Null };
        assert_eq!(&arm["parameters"], parameters);
        assert_eq!(home.path(out).join("teacher").exists(), out == "saved");
    }
}

#[test]
fn students_learn_from_less_than_the_teacher() {
    let home = Home::new();
    let set = "--set distil.omit_classes=[3] --set distil.train_limit=50 --set train.epochs=20";
    let report: Value =
        serde_json::from_str(&home.done(&format!("run tiny.toml --json --out a {set}"))).unwrap();
    assert_eq!(report["examples"], json!({ "teacher": 200, "students": 50, "test": 100 }));
    assert_eq!(report["arms"]["teacher"]["steps"], 140);
    for arm in ["teacher", "control", "distilled"] {
        let corrected = report["arms"][arm]["bias_corrected"].as_array().unwrap();
        assert_eq!(corrected.len(), 1);
        assert_eq!(keys(&corrected[0]), words("class shift errors errors_of_class"));
        assert_eq!(corrected[0]["class"], 3);
    }
    // It never saw a 3 and knows of them from the teacher alone: it says 3 less than it should.
    let student = &report["arms"]["distilled"];
    let [before, after] =
        [&student["errors_per_class"][3], &student["bias_corrected"][0]["errors_of_class"]];
    assert!(number(&student["bias_corrected"][0]["shift"]) > 0.0, "{student}");
    assert!(number(after) < number(before), "{student}");
}

/// Small grey pictures of three kinds, not quite easy to tell apart: pixels [36] and class.
fn pictures(count: usize, mut state: u32) -> (Vec<u8>, Vec<u8>) {
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for class in (0..3).cycle().take(count) {
        for place in 0..36 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let stripe = if place / 12 == class { 30 } else { 0 };
            pixels.push((state >> 25) as u8 + stripe);
        }
        labels.push(class);
    }
    (pixels, labels)
}

#[test]
fn eval_agrees_with_the_report_in_every_format() {
    let home = Home::new();
    for (name, count, seed) in [("train", 60, 1), ("test", 45, 2)] {
        let (pixels, labels) = pictures(count, seed);
        let features = ("features", Dtype::U8, &[count, 6, 6][..], &*pixels);
        let tensors = [features, ("labels", Dtype::U8, &[count], &labels)];
        home.write(&format!("{name}.safetensors"), safetensors(&tensors));
    }
    let (pixels, labels) = pictures(45, 2);
    let mut csv = (0..36).map(|i| format!("p{i},")).collect::<String>() + "kind\n";
    for (i, (pixels, class)) in pixels.chunks(36).zip(&labels).enumerate() {
        let cells = pixels.iter().map(|&pixel| format!("{},", f32::from(pixel) / 255.0));
        csv += &format!("{}{class}\n", cells.collect::<String>());
        let image = [b"P5\n6 6\n255\n", pixels].concat();
        home.write(&format!("images/{class}/{i}.pgm"), &image);
        if *class > 0 {
            home.write(&format!("some/{class}/{i}.pgm"), &image);
        }
    }
    home.write("test.csv", csv);
    let sets =
        "--set data={source=\"safetensors\",train=\"train.safetensors\",test=\"test.safetensors\"}";
    home.done(&format!("run tiny.toml -q --out run {sets} --set train.epochs=10"));

    let report = home.json("run/report.json");
    let eval = |model: &str, data: &str| -> Value {
        let arguments = format!("eval run/{model} --json --device cpu --label kind --data {data}");
        serde_json::from_str(&home.done(&arguments)).unwrap()
    };
    for (model, arm) in [("teacher", "teacher"), ("student", "distilled")] {
        let arm = &report["arms"][arm];
        assert!(number(&arm["errors"]) > 0.0 && number(&arm["accuracy"]) > 0.4, "{arm}");
        for data in ["test.safetensors", "test.csv", "images", "run/recipe.toml"] {
            let measured = eval(model, data);
            for key in
                ["accuracy", "errors", "macro_f1", "matthews", "errors_per_class", "parameters"]
            {
                assert_eq!(measured[key], arm[key], "{model} on {data}");
            }
        }
        // A folder without the first class: the others keep their numbers.
        let some = &eval(model, "some")["errors_per_class"];
        let wanted = &arm["errors_per_class"];
        assert_eq!(some, &json!([0, wanted[1], wanted[2]]), "{model}");
    }
    let all = "accuracy errors macro_f1 matthews errors_per_class examples cross_entropy \
               parameters latency_ms examples_per_second device";
    assert_eq!(keys(&eval("student", "images")), words(all));
}

#[test]
fn eval_measures_the_embedded_pictures() {
    let (base, _) = base();
    let home = Home::new();
    let set = "test_limit = 100\n";
    home.write("all.toml", replaced(&home.read("tiny.toml"), set, ""));
    let model = base.path("base/student");
    let eval = |data: &str| -> Value {
        let arguments = format!("eval {} --json --device cpu --data {data}", model.display());
        serde_json::from_str(&home.done(&arguments)).unwrap()
    };
    let [embedded, recipe] = ["embedded", "all.toml"].map(eval);
    assert_eq!(embedded["examples"], 1000);
    for key in ["errors_per_class", "cross_entropy"] {
        assert_eq!(embedded[key], recipe[key]);
    }
    let shown = home.done(&format!("eval {} --device cpu --data embedded", model.display()));
    assert!(shown.contains(&format!("({} errors in 1000)", embedded["errors"])), "{shown}");
    assert!(shown.contains("Ankle boot"), "{shown}");
}

#[test]
fn eval_goes_by_the_names_of_the_classes() {
    let home = Home::new();
    home.write_hand();
    // The model says ant, bee, ant.
    home.write("some.csv", "a,b,label\n2,1,bee\n-4,2,bee\n8,-4,cat\n");
    let json = home.done("eval hand --json --device cpu --data some.csv");
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["errors_per_class"], json!([0, 1, 1]));
    assert_eq!(report["accuracy"], json!(1.0 / 3.0));
}

#[test]
fn logits_are_those_computed_by_hand() {
    let home = Home::new();
    home.write_hand();
    home.write_f32("floats.safetensors", &[("x", &[3, 2], &[2.0, 1.0, -4.0, 2.0, 8.0, -4.0])]);
    let by_hand = [[0.5, 0.25, -0.125], [0.0, 0.25, -0.5], [16.5, -12.25, 8.75]];
    // As value / 255, less the mean, over the standard deviation, of which 0 counts as 1:
    // (0, 0) and (1.6, -0.4).
    let normalisation = r#""mean": [0.2, 0.4], "std": [0.5, 0.0]"#;
    let identity = r#""mean": [0.0], "std": [1.0]"#;
    let config = replaced(&home.read("hand/config.json"), identity, normalisation);
    home.write("pixels/config.json", config);
    home.write_f32("pixels/model.safetensors", &HAND_WEIGHTS);
    let bytes = safetensors(&[("features", Dtype::U8, &[2, 2], &[51, 102, 255, 0])]);
    home.write("bytes.safetensors", bytes);
    let of_bytes = [[0.5, -0.25, -0.25], [2.9, -2.65, 0.95]];

    for device in gpus(&home).iter().map(String::as_str).chain(["cpu"]) {
        let check = |arguments: &str, wanted: &[[f32; 3]]| {
            let printed = home.done(&format!("logits {arguments} --out z --device {device}"));
            assert_eq!(printed, format!("Wrote z: `logits` [{}, 3]\n", wanted.len()));
            let (shape, found) = tensor(&home.read("z"), "logits");
            assert_eq!(shape, [wanted.len(), 3]);
            for (found, wanted) in found.iter().zip(wanted.as_flattened()) {
                assert!((found - wanted).abs() < 1e-5, "{device}: {found} for {wanted}");
            }
        };
        check("hand --input floats.safetensors --tensor x", &by_hand);
        check("pixels --input bytes.safetensors", &of_bytes);
    }
}

#[test]
fn init_writes_a_recipe_that_runs_and_replaces_nothing() {
    let home = Home::new();
    assert!(home.done("init mine.toml").contains("distil-gpu run mine.toml"));
    home.refused("init mine.toml", &["mine.toml", "never replaced"]);
    home.refused("init none/mine.toml", &["none/mine.toml", "No such file"]);
    let limits = "--set data.train_limit=64 --set data.test_limit=32 --set train.epochs=1 \
                  --set teacher.train.epochs=1 --set teacher.model.hidden_sizes=[16]";
    home.done(&format!("run mine.toml -q --device cpu {limits}"));
    assert!(home.path("runs/mine/report.json").exists());
}

#[test]
fn devices_lists_what_may_be_asked_for() {
    let home = Home::new();
    let report: Value = serde_json::from_str(&home.done("devices --json")).unwrap();
    let shown = home.done("devices");
    for (number, device) in report["devices"].as_array().unwrap().iter().enumerate() {
        let all = "device name kind backend driver buffer_bytes binding_bytes timestamps f16 \
                   subgroups cooperative_matrices";
        assert_eq!(keys(device), words(all));
        assert_eq!(device["device"], format!("gpu:{number}"));
        assert!(shown.contains(&format!("gpu:{number} ")), "{shown}");
        assert!(shown.contains(device["name"].as_str().unwrap()), "{shown}");
    }
    assert!(shown.contains(report["auto"]["reason"].as_str().unwrap()), "{shown}");
}

/// `| head` and a full disk.
#[cfg(unix)]
#[test]
fn nobody_needs_to_read_what_is_printed() {
    let home = Home::new();
    home.write_hand();
    home.write("some.csv", "a,b,label\n2,1,bee\n");
    let commands = [
        "devices",
        "devices --json",
        "init new.toml",
        "--help",
        "eval --help",
        "eval hand --data some.csv --device cpu",
    ];
    for arguments in commands {
        let mut child = home.command(arguments);
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && !err.contains("panicked"), "{arguments}: {err}");
        // With neither there is nobody to tell, but also nothing wrong.
        let mut child = home.command(&arguments.replace("new", "newer"));
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        assert!(child.wait().unwrap().success(), "{arguments}");
    }
    let full = Path::new("/dev/full");
    if full.exists() {
        let mut command = home.command("devices -q");
        command.stdout(std::fs::OpenOptions::new().write(true).open(full).unwrap());
        fails(command, &["cannot write to the standard output"]);
    }
}
