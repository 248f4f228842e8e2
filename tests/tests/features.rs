//! Runs whose student learns from inside its teacher.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use distil_gpu_engine::Error;
use distil_gpu_engine::device::{CpuDevice, Device, Outlook};
use distil_gpu_engine::forecast::Forecast;
use distil_gpu_engine::models::{self, Architecture, Initialization, Input};
use distil_gpu_engine::recipe::Recipe;
use distil_gpu_engine::run::{Begin, Silent, prepare, run};
use distil_gpu_tests::StopAfter;
use tempfile::TempDir;

const HIDDEN: &str = "distil.hidden=[{ loss = \"cosine\" }, { loss = \"mse\", student_layer = 0, \
                      teacher_layer = 1, weight = 0.5 }]";
const RELATIONS: &str =
    "distil.relations=[{ of = \"attention\" }, { of = \"values\", weight = 2 }]";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A folder with some texts and a student that is narrower than the fixtures' BERT, its teacher.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let texts = ["good film", "bad films", "the good, the bad!", "a", "bad bad film?", "films"];
        let labels = ["x", "y", "z"];
        let rows = (0..30)
            .map(|row| format!("\"{} {}\",{}", texts[row % 6], texts[row / 6], labels[row % 3]));
        let table = rows.collect::<Vec<_>>().join("\n");
        fs::write(home.path("texts.csv"), format!("text,label\n{table}\n")).unwrap();

        let (mut config, _) = models::load(&fixture("bert")).unwrap();
        let Architecture::Encoder(encoder) = &mut config.architecture else { panic!() };
        (encoder.hidden_size, encoder.num_hidden_layers) = (12, 1);
        let specs = config.model().parameters();
        let narrow = home.path("narrow");
        models::save(&narrow, &config, &Initialization::initial(&specs, &[], 5)).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn recipe(&self, out: &str, sets: &[&str]) -> Recipe {
        let model = |folder: PathBuf| format!("{{ type = \"encoder\", from = {folder:?} }}");
        let text = format!(
            "[data]\nsource = \"text\"\ntrain = {texts:?}\ntest = {texts:?}\n\
             [teacher]\nmodel = {teacher}\n[student]\nmodel = {student}\n\
             [train]\nepochs = 3\nbatch = 8\noptimizer = {{ name = \"adamw\", lr = 0.01 }}\n",
            texts = self.path("texts.csv"),
            teacher = model(fixture("bert")),
            student = model(self.path("narrow")),
        );
        let mut sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        sets.push(format!("out={:?}", self.path(out)));
        Recipe::parse_with(&text, "features.toml", &sets).unwrap()
    }

    fn run(&self, out: &str, sets: &[&str], device: &mut dyn Device) {
        let recipe = self.recipe(out, sets);
        run(prepare(&recipe, Begin::New).unwrap(), device, &mut Silent).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// The lines of a run's log, without their times.
    fn log(&self, run: &str) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.read(&format!("{run}/metrics.jsonl"))).unwrap();
        let mut lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.iter_mut().for_each(|line| line["seconds"] = 0.into());
        lines
    }
}

#[test]
fn a_narrow_student_learns_them_and_keeps_nothing_of_the_projections() {
    let home = Home::new();
    home.run("plain", &[], &mut CpuDevice::<f32>::new());
    let shares = "distil.gradient_shares=true";
    home.run("run", &[HIDDEN, RELATIONS, shares], &mut CpuDevice::<f32>::new());
    let log = home.log("run");
    for term in [
        "hidden cosine 1 to 2",
        "hidden mse 0 to 1",
        "relations attention 1 to 2",
        "relations values 1 to 2",
    ] {
        let lines = log.iter().filter(|line| line["term"] == term);
        assert!(lines.clone().all(|line| line["arm"] == "distilled"), "{term}: {log:#?}");
        let values: Vec<f64> = lines.map(|line| line["value"].as_f64().unwrap()).collect();
        assert!(values.len() == 3 && values[2] < values[0], "{term}: {values:?}");
    }
    let shares: Vec<f64> =
        log.iter().filter_map(|line| line["gradient_shares"]["features"].as_f64()).collect();
    assert!(shares.len() == 3 && shares.iter().all(|&s| s > 0.0 && s < 1.0), "{shares:?}");
    let (config, _) = models::load(&home.path("run/student")).unwrap();
    let Architecture::Encoder(encoder) = &config.architecture else { panic!() };
    assert_eq!(encoder.hidden_size, 12);
    // The control has had nothing of it; the student has.
    let model = |run: &str, arm: &str| home.read(&format!("{run}/{arm}/model.safetensors"));
    assert!(model("plain", "teacher") == model("run", "teacher"));
    assert!(model("plain", "control") == model("run", "control"));
    assert!(model("plain", "student") != model("run", "student"));
    assert_eq!(model("plain", "student").len(), model("run", "student").len());
}

#[test]
fn a_run_that_was_stopped_goes_on_with_the_same_projections_and_sums() {
    let home = Home::new();
    home.run("whole", &[HIDDEN, RELATIONS], &mut CpuDevice::<f32>::new());
    let recipe = home.recipe("halves", &[HIDDEN, RELATIONS]);
    let prepared = prepare(&recipe, Begin::New).unwrap();
    let mut stop = StopAfter::new(6);
    let error = run(prepared, &mut CpuDevice::<f32>::new(), &mut stop).unwrap_err();
    assert!(matches!(error, Error::Interrupted { step: 6, .. }), "{error}");
    let prepared = prepare(&recipe, Begin::Resume { accept_changes: false }).unwrap();
    run(prepared, &mut CpuDevice::<f32>::new(), &mut Silent).unwrap();
    assert_eq!(home.log("halves"), home.log("whole"));
    let student = |run: &str| home.read(&format!("{run}/student/model.safetensors"));
    assert!(student("halves") == student("whole"));
}

#[test]
fn they_are_means_over_a_step_of_several_batches() {
    let home = Home::new();
    // Each batch has random numbers of its own.
    let still = [HIDDEN, RELATIONS, "student.model.dropout=0.0", "teacher.model.dropout=0.0"];
    home.run("one", &still, &mut CpuDevice::<f32>::new());
    let halves = ["train.batch=4", "train.accumulate=2"];
    let sets = [&still[..], &halves].concat();
    home.run("halves", &sets, &mut CpuDevice::<f32>::new());
    let values = |run: &str| -> Vec<f64> {
        home.log(run).iter().filter_map(|line| line["value"].as_f64()).collect()
    };
    let (one, halves) = (values("one"), values("halves"));
    assert_eq!((one.len(), halves.len()), (12, 12));
    for (one, halves) in one.iter().zip(halves) {
        assert!((one - halves).abs() < 1e-3 * one, "{one} and {halves}");
    }
}

#[test]
fn memory_is_foretold_with_them() {
    let home = Home::new();
    let recipe = home
        .recipe("run", &[HIDDEN, RELATIONS, "distil.gradient_shares=true", "train.accumulate=2"]);
    let forecast = Forecast::of(&recipe, &[Outlook::cpu()]).unwrap();
    let mut device = CpuDevice::<f32>::new();
    run(prepare(&recipe, Begin::New).unwrap(), &mut device, &mut Silent).unwrap();
    assert_eq!(forecast.devices[0].peak_bytes, device.stats().peak_bytes);
}

#[test]
fn what_the_models_do_not_have_is_refused() {
    let home = Home::new();
    let refused = |sets: &[&str], message: &str| {
        let error = prepare(&home.recipe("run", sets), Begin::New).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    };
    refused(
        &["distil.hidden=[{ loss = \"mse\", teacher_layer = 3 }]"],
        "distil.hidden: teacher_layer = 3: the teacher has layers 0 to 2, -1 being the last",
    );
    refused(
        &["distil.relations=[{ of = \"values\", student_layer = -2 }]"],
        "distil.relations: student_layer = -2: the student has layers 1 to 1",
    );
    refused(&[HIDDEN, "student.model.max_length=3"], "make other numbers of tokens of a text");
}

#[test]
fn a_student_of_fewer_tokens_learns_from_inside() {
    let home = Home::new();
    let recipe = home.recipe("run", &[HIDDEN, RELATIONS, "student.model.vocabulary=trimmed"]);
    run(prepare(&recipe, Begin::New).unwrap(), &mut CpuDevice::<f32>::new(), &mut Silent).unwrap();
    let vocabulary = |arm: &str| {
        let config = models::load_config(&home.path("run").join(arm)).unwrap();
        let Input::Tokens(tokens) = config.input else { panic!("it reads tokens") };
        tokens.vocab_size
    };
    assert!(vocabulary("student") < vocabulary("teacher"));
}

#[test]
fn inputs_are_shared() {
    // The students of these tests read as their teachers do: else the tests above would prove less.
    let home = Home::new();
    let [ours, theirs] = [home.path("narrow"), fixture("bert")]
        .map(|folder| models::load_config(&folder).unwrap().input);
    assert!(matches!((&ours, &theirs), (Input::Tokens(_), Input::Tokens(_))) && ours == theirs);
}
