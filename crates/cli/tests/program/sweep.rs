//! A sweep: what it leaves, that its students are those of plain runs, and how it goes on after it was killed.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Home, fails, say};

/// Two keys with two values each.
const AXES: &str = "--set distil.temperature=1,4 --set distil.alpha=0.5,0.9";

/// A tiny sweep in the folder `swept`, and what it printed; made once for all tests.
pub fn swept() -> &'static (Home, String) {
    static SWEPT: OnceLock<(Home, String)> = OnceLock::new();
    SWEPT.get_or_init(|| {
        let home = Home::shared("sweep");
        let printed = home
            .done(&format!("sweep tiny.toml {AXES} --seeds 2 --device cpu --quiet --out swept"));
        (home, printed)
    })
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

fn folders(home: &Home, folder: &str) -> Vec<String> {
    let entries = home.path(folder).read_dir().unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_sweep_leaves_every_combination() {
    let (home, printed) = swept();
    let report = home.json("swept/sweep.json");
    let axes = json!([["distil.temperature", ["1", "4"]], ["distil.alpha", ["0.5", "0.9"]]]);
    assert_eq!(report["axes"], axes);
    let points = list(&report["points"]);
    assert_eq!(points.len(), 4);
    for point in points {
        let seeds: Vec<&Value> = list(&point["runs"]).iter().map(|run| &run["seed"]).collect();
        assert_eq!(seeds, [0, 1]);
        for (run, first) in list(&point["runs"]).iter().zip(list(&points[0]["runs"])) {
            // The student alone does not know of the distillation.
            assert_eq!(run["control"], first["control"]);
            for arm in ["distilled", "control"] {
                assert_eq!(run[arm]["parameters"], 784 * 8 + 8 + 8 * 10 + 10);
                let errors = run[arm]["errors"].as_u64().unwrap();
                assert_eq!(run[arm]["accuracy"], (100 - errors) as f64 / 100.0);
            }
        }
    }
    assert_eq!(folders(home, "swept/controls"), ["001", "002"]);
    let all: Vec<String> = (1..=8).map(|number| format!("{number:03}")).collect();
    assert_eq!(folders(home, "swept/students"), all);
    // Every setting and every seed tells.
    let models: BTreeSet<Vec<u8>> = all
        .iter()
        .map(|student| home.read(&format!("swept/students/{student}/model.safetensors")))
        .collect();
    assert_eq!(models.len(), 8);
    for part in
        ["Best: distil.temperature = ", "% alone; the teacher has", "Report: swept/sweep.html"]
    {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let page = String::from_utf8(home.read("swept/sweep.html")).unwrap();
    let sentence = printed.lines().find(|line| line.starts_with("Best: ")).unwrap();
    assert!(page.contains(sentence), "{sentence}");
}

#[test]
fn its_page_is_made_again_to_the_byte() {
    let home = Home::new();
    home.write("copy/sweep.json", swept().0.read("swept/sweep.json"));
    assert_eq!(home.done("report copy"), "Report: copy/sweep.html\n");
    assert!(home.read("copy/sweep.html") == swept().0.read("swept/sweep.html"));
    home.done("report copy --out here.html");
    assert!(home.read("here.html") == home.read("copy/sweep.html"));
}

/// The sweep asks the teacher once for all its answers, a run's plan asks it at every step. On the processor an
/// example's answer does not depend on its batch, so the students are the same to the byte.
#[test]
fn its_students_are_those_of_plain_runs() {
    let (home, _) = swept();
    let teacher = format!("{:?}", home.path("swept/teacher"));
    let settings = [("1", "0.5"), ("1", "0.9"), ("4", "0.5"), ("4", "0.9")];
    let plain = Home::new();
    for (number, (temperature, alpha)) in settings.into_iter().enumerate() {
        for seed in 0..2 {
            let mut run = plain.command("run tiny.toml --device cpu --quiet --force --out run");
            run.args(["--set", &format!("teacher={{folder={teacher}}}")]);
            run.args(["--set", &format!("distil.temperature={temperature}")]);
            run.args(["--set", &format!("distil.alpha={alpha}"), "--seed", &seed.to_string()]);
            let said = say(run);
            assert_eq!(said.code, Some(0), "{said:?}");
            let student = format!("swept/students/{:03}", 2 * number + seed + 1);
            let control = format!("swept/controls/{:03}", seed + 1);
            for (model, theirs) in [(&*student, "student"), (&*control, "control")] {
                for file in ["config.json", "model.safetensors"] {
                    let [ours, theirs] = [
                        home.read(&format!("{model}/{file}")),
                        plain.read(&format!("run/{theirs}/{file}")),
                    ];
                    assert!(ours == theirs, "{file} of {model} differs");
                }
            }
        }
    }
}

/// The checkpoints and finished models of sweeps: they change while one works.
fn progress(home: &Home) -> Vec<String> {
    let mut files: Vec<String> = home
        .paths()
        .into_iter()
        .map(|path| path.to_string_lossy().into_owned())
        .filter(|path| {
            path.ends_with("result.json")
                || path.contains("checkpoints/") && !path.ends_with("journal.json")
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_killed_sweep_goes_on_to_the_same_students() {
    let home = Home::new();
    let long = "--set teacher.train.epochs=5 --set train.epochs=40 --set student.model.dropout=0.2";
    let sweep =
        format!("sweep tiny.toml --device cpu -q {long} --set distil.alpha=0.3,0.9 --seeds 2");
    home.done(&format!("{sweep} --out whole"));
    let start = |arguments: &str| -> Child {
        let mut command = home.command(arguments);
        let errors = fs::File::create(home.path("errors")).unwrap();
        command.stdout(Stdio::null()).stderr(errors).spawn().unwrap()
    };
    let mut child = start(&format!("{sweep} --set checkpoint_seconds=0.001 --out killed"));
    // Before its grid is written nothing is trained, and there is nothing to go on with.
    while !home.path("killed/grid.json").exists() && child.try_wait().unwrap().is_none() {
        sleep(Duration::from_millis(2));
    }
    let mut kills = 0;
    for moment in [3, 0, 17, 7, 29, 1, 11] {
        let before = progress(&home);
        let began = Instant::now();
        while progress(&home) == before && child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < Duration::from_secs(120), "the sweep does not go on");
            sleep(Duration::from_millis(2));
        }
        sleep(Duration::from_millis(moment));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        child = start("sweep --resume killed -q");
    }
    child.wait().unwrap();
    let errors = String::from_utf8(home.read("errors")).unwrap();
    assert!(kills >= 3 && errors.is_empty(), "it was killed {kills} times: {errors}");
    home.done("sweep --resume killed -q");

    let wanted: Vec<String> = folders(&home, "whole/students");
    assert_eq!(folders(&home, "killed/students"), wanted);
    let students = wanted.iter().map(|name| format!("students/{name}"));
    let controls =
        folders(&home, "whole/controls").into_iter().map(|name| format!("controls/{name}"));
    for model in students.chain(controls).chain(["teacher".to_owned()]) {
        let [whole, killed] = ["whole", "killed"]
            .map(|sweep| home.read(&format!("{sweep}/{model}/model.safetensors")));
        assert!(whole == killed, "{model} differs");
        assert!(!home.path(&format!("killed/{model}/checkpoints")).exists(), "{model}");
    }
    let accuracies = |sweep: &str| -> Vec<Value> {
        let report = home.json(&format!("{sweep}/sweep.json"));
        let runs = list(&report["points"]).iter().flat_map(|point| list(&point["runs"]));
        runs.map(|run| {
            json!([run["distilled"]["errors"], run["control"]["errors"], run["agreement"]])
        })
        .collect()
    };
    assert_eq!(accuracies("killed"), accuracies("whole"));
    let left = home.paths();
    assert!(!left.iter().any(|path| path.to_string_lossy().contains(".distil-gpu-")), "{left:?}");
}

#[test]
fn what_cannot_be_swept_is_refused() {
    let home = Home::new();
    let sweep = "sweep tiny.toml --device cpu --out out";
    home.refused(sweep, &["nothing varies", "--set distil.temperature=1,2,4", "--seeds 3"]);
    home.refused(&format!("{sweep} --set distil.alpha=0.5"), &["nothing varies"]);
    home.refused(&format!("{sweep} --set distil.alpha"), &["KEY=VALUE,VALUE"]);
    home.refused(&format!("{sweep} --set distil.alpha=0.1,,0.5"), &["a value between two commas"]);
    home.refused(
        &format!("{sweep} --set distil.alpha=0.1,0.2 --set distil.alpha=0.3,0.4"),
        &["distil.alpha is varied already"],
    );
    for axis in [
        "data.train_limit=50,100",
        "teacher.model.hidden_sizes=[8],[16]",
        "teacher.train.epochs=1,2",
        "seed=1,2",
        "checkpoint_seconds=1,2",
    ] {
        let key = axis.split('=').next().unwrap();
        let wanted = [key, "one teacher and one data set", "[student], [distil] and [train]"];
        home.refused(&format!("{sweep} --set {axis}"), &wanted);
    }
    home.refused(&format!("{sweep} --set distil.temprature=1,2"), &["temprature", "temperature"]);
    home.refused(&format!("{sweep} --set distil.alpha=0.5,1.5"), &["alpha"]);
    home.refused(&format!("{sweep} --set distil.alpha=0.5,x"), &["alpha"]);

    home.refused("sweep --resume none", &["none", "give the folder of a sweep"]);
    home.write("run/recipe.toml", super::TINY);
    home.refused("sweep --resume run", &["run/grid.json", "give the folder of a sweep"]);
    home.write("run/grid.json", "{}");
    home.refused("sweep --resume run", &["run/grid.json", "not the grid of a sweep"]);
    home.write("out/something", "");
    home.refused(&format!("{sweep} {AXES}"), &["out: holds files already", "--force", "--resume"]);
    assert_eq!(say(home.command("sweep --seeds 0")).code, Some(2));
}

#[test]
fn a_teacher_that_diverges_is_told() {
    let home = Home::new();
    let rate = "teacher.train.optimizer={name=\"sgd\",lr=1e30}";
    let sweep = format!("sweep tiny.toml --device cpu -q --out a --set {rate}");
    let command = format!("{sweep} --set distil.alpha=0.5,0.9 --set teacher.train.epochs=1");
    fails(
        home.command(&command),
        &["training of the teacher diverged (NaN or Inf) at step", "begin it anew"],
    );
}

#[test]
fn a_page_of_what_is_no_sweep_is_refused() {
    let home = Home::new();
    home.write("begun/grid.json", "{}");
    home.refused("report begun", &["begun: ", "the sweep is not finished"]);
    let whole = swept().0.read("swept/sweep.json");
    home.write("half/sweep.json", &whole[..whole.len() / 2]);
    home.refused("report half", &["half/sweep.json: damaged: ", "line"]);
    let mut fewer: Value = serde_json::from_slice(&whole).unwrap();
    fewer["points"].as_array_mut().unwrap().pop();
    home.write("half/sweep.json", fewer.to_string());
    home.refused("report half", &["half/sweep.json: damaged: ", "not all combinations"]);
    home.write("half/sweep.json", whole);
    home.refused("report half half", &["half: ", "a page of its own"]);
}

#[test]
fn a_student_that_diverges_stops_no_sweep() {
    let home = Home::new();
    let command = "sweep tiny.toml --set train.optimizer.lr=0.05,1e30 --set distil.alpha=0.5,0.9 --set teacher.train.epochs=1";
    let said = say(home.command(&format!("{command} --quiet --out a")));
    assert_eq!(said.code, Some(4), "{said:?}");
    assert!(
        said.out.contains(
            "Failed: train.optimizer.lr = 1e30, distil.alpha = 0.5, seed 0: training of the "
        ),
        "{}",
        said.out
    );
    assert_eq!(said.out.matches("diverged (NaN or Inf)").count(), 2, "{}", said.out);
    let report = home.json("a/sweep.json");
    let points = list(&report["points"]);
    for (place, point) in points.iter().enumerate() {
        let [runs, failed] =
            ["runs", "failed"].map(|key| point[key].as_array().map_or(0, Vec::len));
        assert_eq!([runs, failed], if place < 2 { [1, 0] } else { [0, 1] }, "{point}");
    }
    let reason = points[3]["failed"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("lower optimizer.lr"), "{reason}");
    let page = String::from_utf8(home.read("a/sweep.html")).unwrap();
    assert!(page.contains("diverged (NaN or Inf)"));
    assert!(home.paths().iter().all(|path| !path.to_string_lossy().contains("checkpoints")));
    // What failed is not tried again, and the students before it are those of a sweep without it.
    let again = say(home.command("sweep --resume a --quiet"));
    assert_eq!((again.code, &again.out), (Some(4), &said.out));
    assert_eq!(home.json("a/sweep.json")["points"], report["points"]);
    home.done(
        "sweep tiny.toml --set distil.alpha=0.5,0.9 --set teacher.train.epochs=1 --quiet --out b",
    );
    for student in ["001", "002"] {
        let file = format!("students/{student}/model.safetensors");
        assert!(home.read(&format!("a/{file}")) == home.read(&format!("b/{file}")), "{student}");
    }
}
