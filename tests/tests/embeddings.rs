//! Sentence embeddings.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use distil_gpu_engine::Error;
use distil_gpu_engine::data::{Examples, Text, Texts};
use distil_gpu_engine::device::{CpuDevice, Device, Outlook};
use distil_gpu_engine::forecast::Forecast;
use distil_gpu_engine::measure::Evaluator;
use distil_gpu_engine::models::{self, BatchEncoder, Head, Origin};
use distil_gpu_engine::objective::frozen_store;
use distil_gpu_engine::recipe::{Recipe, Teacher, Weights};
use distil_gpu_engine::results::{ArmReport, Record};
use distil_gpu_engine::run::{Begin, Run, Silent, prepare, run};
use distil_gpu_engine::store::Storage;
use distil_gpu_engine::task::TaskRef;
use distil_gpu_engine::verify;
use distil_gpu_tests::StopAfter;
use safetensors::SafeTensors;
use tempfile::TempDir;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A folder with some texts, and the fixtures' BERT as a model of embeddings.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let words = ["good", "bad", "film", "films", "the", "a", "b", "c", "d"];
        let text = |n: usize| format!("{} {} {}", words[n % 9], words[n / 9 % 9], words[n / 3 % 9]);
        let texts = |range: std::ops::Range<usize>| range.map(text).collect::<Vec<_>>().join("\n");
        fs::write(home.path("train.txt"), texts(0..60)).unwrap();
        fs::write(home.path("test.txt"), texts(60..81)).unwrap();
        let (config, values) =
            models::load_start(&path("fixtures/bert"), Head::Embedding, false).unwrap();
        let values: Vec<Vec<f32>> = values.into_iter().map(Option::unwrap).collect();
        models::save(&home.path("bert"), &config, &values).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn recipe(&self, out: &str) -> Recipe {
        let bert = self.path("bert");
        let text = format!(
            "task = \"embedding\"\nout = {out:?}\n\
             [data]\nsource = \"text\"\ntrain = {train:?}\ntest = {test:?}\n\
             [teacher]\nfolder = {bert:?}\n\
             [student]\nmodel = {{ type = \"encoder\", from = {bert:?}, layers = [0], dropout = 0.0 }}\n\
             [train]\nepochs = 12\nbatch = 16\noptimizer = {{ name = \"adamw\", lr = 0.003 }}\n\
             [distil]\nhidden = [{{ loss = \"mse\", weight = 0.1 }}]\n",
            out = self.path(out),
            train = self.path("train.txt"),
            test = self.path("test.txt"),
        );
        Recipe::parse(&text, "embeddings.toml").unwrap()
    }

    fn run(&self, out: &str, device: &mut dyn Device) -> Run {
        run(prepare(&self.recipe(out), Begin::New).unwrap(), device, &mut Silent).unwrap()
    }
}

/// A score of an arm.
fn of(arm: &ArmReport, key: &str) -> f64 {
    arm.scores.get(key).unwrap()
}

#[test]
fn a_student_comes_near_its_teacher_without_labels() {
    let home = Home::new();
    let mut device = CpuDevice::<f32>::new();
    let report = home.run("run", &mut device).report;
    let arms = &report.arms;
    let teacher = arms.teacher.as_ref().unwrap();
    assert!(of(teacher, "accuracy") == 1.0 && of(teacher, "errors") == 0.0, "{teacher:?}");
    assert!((of(teacher, "cosine") - 1.0).abs() < 1e-6);
    let [control, distilled] = [&arms.control, &arms.distilled]
        .map(|arm| (of(arm, "cosine"), of(arm, "accuracy"), arm.steps));
    assert!(distilled.0 > 0.9 && control.0 < 0.5, "{control:?} {distilled:?}");
    assert_eq!((control.2, distilled.2), (None, Some(48)));
    assert_eq!(report.retained, Some(distilled.1));

    // The control is the student's start: the teacher's first layer, untouched.
    let [(_, theirs), (config, control), (_, student)] = ["teacher", "control", "student"]
        .map(|arm| models::load(&home.path("run").join(arm)).unwrap());
    assert!(config.embeds() && control.iter().all(|values| theirs.contains(values)));
    assert!(student != control);
    let page = distil_gpu_report::single(&Record::read(&home.path("run")).unwrap());
    assert!(page.contains("ten nearest neighbours kept") && !page.contains("accuracy kept"));
}

#[test]
fn a_stopped_run_goes_on_to_the_same_student() {
    let home = Home::new();
    let mut device = CpuDevice::<f32>::new();
    home.run("whole", &mut device);
    let recipe = home.recipe("halves");
    let prepared = prepare(&recipe, Begin::New).unwrap();
    let error = run(prepared, &mut device, &mut StopAfter::new(9)).unwrap_err();
    assert!(matches!(error, Error::Interrupted { step: 9, .. }), "{error}");
    let prepared = prepare(&recipe, Begin::Resume { accept_changes: false }).unwrap();
    run(prepared, &mut device, &mut Silent).unwrap();
    let student = |run: &str| fs::read(home.path(run).join("student/model.safetensors")).unwrap();
    assert!(student("whole") == student("halves"));
}

#[test]
fn memory_is_foretold_and_steps_are_verified() {
    let home = Home::new();
    let recipe = home.recipe("run");
    let forecast = Forecast::of(&recipe, &[Outlook::cpu()]).unwrap();
    let prepared = prepare(&recipe, Begin::New).unwrap();
    let mut device = CpuDevice::<f32>::new();
    let report = verify::recipe(&mut device, &recipe, prepared.setup(), &mut |_, _| ()).unwrap();
    assert!(report.ok, "{report:#?}");
    let mut device = CpuDevice::<f32>::new();
    run(prepared, &mut device, &mut Silent).unwrap();
    assert_eq!(forecast.devices[0].peak_bytes, device.stats().peak_bytes);
}

#[test]
fn what_embeddings_cannot_have_is_refused() {
    let home = Home::new();
    let refused = |change: &dyn Fn(Recipe) -> Recipe, message: &str| {
        let error = prepare(&change(home.recipe("run")), Begin::New).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    };
    let classes = |recipe| Recipe { task: TaskRef::default(), ..recipe };
    refused(&classes, "not made for `task = \"classification\"`, but for `embedding`");
    let trained = |recipe: Recipe| {
        let (model, train) = (Box::new(recipe.student.model.clone()), recipe.train.clone());
        Recipe { teacher: Teacher::Trained { model, train, weights: Storage::F32 }, ..recipe }
    };
    refused(&trained, "set `teacher.folder` to the folder of one");
    let classifier = |recipe| Recipe {
        teacher: Teacher::Folder {
            folder: Origin::Folder(path("fixtures/bert")),
            weights: Weights::In(Storage::F32),
            labels: Default::default(),
            cache: None,
        },
        ..recipe
    };
    refused(&classifier, "the teacher is not made for `task = \"embedding\"`");
}

#[test]
#[ignore = "needs MiniLM: run data/fetch-text.sh"]
fn minilm_embeds_as_sentence_transformers_does() {
    let sentences = std::fs::read_to_string(path("fixtures/minilm/sentences.txt")).unwrap();
    let text = |line: &str| Text { first: line.to_owned(), second: None };
    let texts = Texts::new(sentences.lines().map(text).collect()).unwrap();
    let file = std::fs::read(path("fixtures/minilm/embeddings.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    let expected = file.tensor("embeddings").unwrap();
    assert_eq!(expected.shape(), [texts.len(), 384]);
    let expected: Vec<f32> = bytemuck::pod_collect_to_vec(expected.data());

    let (config, values) = models::load(&path("../data/cache/minilm")).unwrap();
    assert!(config.embeds() && config.answer_len() == 384);
    let mut device = CpuDevice::<f32>::new();
    let store = frozen_store(&mut device, &config, &values, Storage::F32).unwrap();
    let examples = Examples::from(texts);
    let feed = BatchEncoder::new(&config.input, &examples).unwrap();
    let mut evaluator = Evaluator::new(&config, &store);
    let found = evaluator.logits(&mut device, &feed, &mut |_| ()).unwrap();
    for (row, (found, expected)) in found.chunks(384).zip(expected.chunks(384)).enumerate() {
        let dot = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
        };
        let distance = 1.0 - dot(found, expected);
        println!("{distance:9.1e}  sentence {row}");
        assert!(distance.abs() < 1e-5, "sentence {row}: {distance}");
        assert!((dot(found, found) - 1.0).abs() < 1e-5);
    }
}
