//! Mixed precision: activations in f16, a scaled loss, everything else as in f32.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use distil_gpu_engine::Error;
use distil_gpu_engine::device::{
    Choice, Choices, CpuDevice, Device, GpuOptions, Outlook, adapters, select,
};
use distil_gpu_engine::forecast::Forecast;
use distil_gpu_engine::models::{self, Architecture, Head};
use distil_gpu_engine::plan::Precision;
use distil_gpu_engine::recipe::Recipe;
use distil_gpu_engine::run::{Begin, Silent, prepare, run};
use distil_gpu_engine::store::Part;
use distil_gpu_engine::tune::{Cache, tune};
use distil_gpu_engine::verify::{self, Models, StepCase};
use distil_gpu_kernels::DType;
use distil_gpu_kernels::loss_scale::{INITIAL, LEFT_OUT, LEN, SCALE};
use distil_gpu_tests::{Session, StopAfter};
use serde_json::Value;
use tempfile::TempDir;

/// The GPUs that have f16, each with what is known of it before.
fn gpus() -> Vec<(Box<dyn Device>, Outlook)> {
    let adapters = adapters();
    let able = adapters.iter().enumerate().filter(|(_, adapter)| adapter.caps.f16);
    let open = |(number, adapter)| {
        let gpu = select(Choice::Gpu(Some(number)), GpuOptions::default()).unwrap().device;
        (gpu, Outlook::of(adapter, Choices::default()))
    };
    let gpus: Vec<_> = able.map(open).collect();
    if gpus.is_empty() {
        eprintln!("left out: no driver of this machine has f16");
    }
    gpus
}

/// A folder with texts, and runs of a BERT that teaches one of its layers.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let texts = ["good film", "bad films", "the good, the bad!", "a", "bad bad film?", "films"];
        let row = |row: usize| {
            format!("\"{} {}\",{}", texts[row % 6], texts[row / 6], ["x", "y"][row % 2])
        };
        let table = (0..30).map(row).collect::<Vec<_>>().join("\n");
        fs::write(home.path("texts.csv"), format!("text,label\n{table}\n")).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn recipe(&self, out: &str, sets: &[&str]) -> Recipe {
        let bert = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bert");
        let text = format!(
            "[data]\nsource = \"text\"\ntrain = {texts:?}\ntest = {texts:?}\n\
             [teacher]\nmodel = {{ type = \"encoder\", from = {bert:?} }}\n\
             [student]\nmodel = {{ type = \"encoder\", from = {bert:?}, layers = [0] }}\n\
             [distil]\nhidden = [{{ loss = \"cosine\" }}]\nrelations = [{{ of = \"values\" }}]\n\
             [train]\nepochs = 4\nbatch = 8\nclip = 1.0\noptimizer = {{ name = \"adamw\", lr = 0.003 }}\n",
            texts = self.path("texts.csv"),
        );
        let mut sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        sets.push(format!("out={:?}", self.path(out)));
        Recipe::parse_with(&text, "mixed.toml", &sets).unwrap()
    }

    fn run(&self, out: &str, sets: &[&str], device: &mut dyn Device) {
        let recipe = self.recipe(out, sets);
        run(prepare(&recipe, Begin::New).unwrap(), device, &mut Silent).unwrap();
    }

    /// The lines of a run's log, without their times.
    fn log(&self, run: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap();
        let mut lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.iter_mut().for_each(|line| line["seconds"] = 0.into());
        lines
    }
}

const MIXED: &str = "precision=mixed";

#[test]
fn it_learns_as_in_f32() {
    for (mut gpu, _) in gpus() {
        let home = Home::new();
        home.run("f32", &[], &mut *gpu);
        home.run("mixed", &[MIXED], &mut *gpu);
        let (f32, mixed) = (home.log("f32"), home.log("mixed"));
        assert_eq!(f32.len(), mixed.len());
        for (f32, mixed) in f32.iter().zip(&mixed) {
            let loss = |line: &Value| line["train"]["loss"].as_f64().or(line["value"].as_f64());
            let (f32, mixed) = (loss(f32).unwrap(), loss(mixed).unwrap());
            assert!((f32 - mixed).abs() < 0.02 * f32 + 1e-4, "{f32} and {mixed}");
        }
        let scales = mixed.iter().filter(|line| line.get("train").is_some());
        for line in scales {
            let [scale, left_out] = ["scale", "left_out"].map(|of| line["loss_scale"][of].as_f64());
            let scale = scale.unwrap() * 2_f64.powf(left_out.unwrap());
            assert_eq!(scale, f64::from(INITIAL[SCALE]), "{line}");
        }
        assert!(f32.iter().all(|line| line.get("loss_scale").is_none()));
        // What is saved is f32, of which the oracle knows no other kind.
        let bytes = |run: &str| fs::metadata(home.path(run).join("student/model.safetensors"));
        assert_eq!(bytes("f32").unwrap().len(), bytes("mixed").unwrap().len());
    }
}

/// A batch that is not full has rows of zeros, whose length is 1e-12.
#[test]
fn embeddings_of_batches_that_are_not_full_are_numbers() {
    let bert = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bert");
    for (mut gpu, _) in gpus() {
        let home = Home::new();
        let (mut config, parameters) = models::load(&bert).unwrap();
        let Architecture::Encoder(encoder) = &mut config.architecture else { panic!() };
        encoder.head = Head::Embedding;
        config.class_names.clear();
        let kept = config.model().parameters().len();
        models::save(&home.path("teacher"), &config, &parameters[..kept]).unwrap();
        fs::write(home.path("texts.txt"), "good film\nbad films\nthe good, the bad!\na\nbad?\n")
            .unwrap();
        let [teacher, texts] = ["teacher", "texts.txt"].map(|name| home.path(name));
        let recipe = |out: &str, precision: &str| {
            let text = format!(
                "task = \"embedding\"\nprecision = {precision:?}\nout = {:?}\n\
                 [data]\nsource = \"text\"\ntrain = {texts:?}\ntest = {texts:?}\n\
                 [teacher]\nfolder = {teacher:?}\n\
                 [student]\nmodel = {{ type = \"encoder\", from = {teacher:?}, layers = [0] }}\n\
                 [train]\nepochs = 3\nbatch = 3\noptimizer = {{ name = \"adamw\", lr = 0.003 }}\n",
                home.path(out)
            );
            Recipe::parse_with(&text, "embedding.toml", &[]).unwrap()
        };
        for precision in ["f32", "mixed"] {
            let recipe = recipe(precision, precision);
            run(prepare(&recipe, Begin::New).unwrap(), &mut *gpu, &mut Silent).unwrap();
        }
        let (f32, mixed) = (home.log("f32"), home.log("mixed"));
        let last = |log: &[Value]| {
            let line = log.iter().rfind(|line| line.get("test").is_some()).unwrap().clone();
            (line["test"]["cosine"].as_f64().unwrap(), line["loss_scale"]["left_out"].as_u64())
        };
        let ((f32, _), (mixed, left_out)) = (last(&f32), last(&mixed));
        assert_eq!(left_out, Some(0));
        assert!((f32 - mixed).abs() < 0.01, "{f32} and {mixed}");
    }
}

#[test]
fn a_run_that_was_stopped_goes_on_with_the_same_scale() {
    for (mut gpu, _) in gpus() {
        let home = Home::new();
        home.run("whole", &[MIXED], &mut *gpu);
        let recipe = home.recipe("halves", &[MIXED]);
        let prepared = prepare(&recipe, Begin::New).unwrap();
        let error = run(prepared, &mut *gpu, &mut StopAfter::new(6)).unwrap_err();
        assert!(matches!(error, Error::Interrupted { step: 6, .. }), "{error}");
        run(
            prepare(&recipe, Begin::Resume { accept_changes: false }).unwrap(),
            &mut *gpu,
            &mut Silent,
        )
        .unwrap();
        assert_eq!(home.log("halves"), home.log("whole"));
        let student =
            |run: &str| fs::read(home.path(run).join("student/model.safetensors")).unwrap();
        assert!(student("halves") == student("whole"));
    }
}

/// The state of the loss's scale.
fn scale(session: &mut Session<'_>) -> [f32; LEN] {
    let buffer = session.stores[0].buffer(Part::LossScale, 0).unwrap();
    session.device.read(buffer, 0, LEN).unwrap().try_into().unwrap()
}

#[test]
fn steps_beyond_f16_are_left_out() {
    let models = Models::default();
    for (mut gpu, _) in gpus() {
        for name in ["training: MLP, gelu, mixed", "training: encoder, RoBERTa, mixed"] {
            let lessons = models.lessons();
            let lesson: &StepCase<'_> = lessons.iter().find(|lesson| lesson.name == name).unwrap();
            let mut session = lesson.session(&mut *gpu).unwrap();
            session.scale_loss(16_777_216.0).unwrap();
            let start = session.all(0, Part::Parameters).unwrap();
            lesson.batch(0).run(&mut session).unwrap();
            let [scaled, since, left_out, ..] = scale(&mut session);
            assert_eq!([scaled, since, left_out], [8_388_608.0, 0.0, 1.0], "{name}");
            assert_eq!(session.all(0, Part::Parameters).unwrap(), start, "{name}");
            for step in 1..40 {
                lesson.batch(step).run(&mut session).unwrap();
            }
            let state = scale(&mut session);
            assert_eq!(state[SCALE] * 2_f32.powf(state[LEFT_OUT]), 16_777_216.0, "{state:?}");
            assert!(state[LEFT_OUT] < 30.0, "{state:?}");
            let end = session.all(0, Part::Parameters).unwrap();
            assert!(end != start && end.iter().all(|value| value.is_finite()), "{name}");
        }
    }
}

#[test]
fn its_kernels_are_verified_and_tuned() {
    let models = Models::default();
    let lessons = models.lessons();
    let lesson = lessons.iter().find(|lesson| lesson.name == "training: MLP, gelu, mixed").unwrap();
    for (mut gpu, _) in gpus() {
        let lessons = std::slice::from_ref(lesson);
        let report = verify::trainings(&mut *gpu, lessons, &mut |_, _| ()).unwrap();
        assert!(report.ok, "{report:#?}");
        let kernels: Vec<_> = lesson.plan().unwrap().calls.into_iter().map(|c| c.kernel).collect();
        let product = kernels.iter().find(|kernel| kernel.name() == "matmul").unwrap();
        assert!(product.whole().is_some());
        let folder = tempfile::tempdir().unwrap();
        let mut cache = Cache::in_folder(folder.path(), gpu.info());
        let found = tune(&mut *gpu, std::slice::from_ref(product), &mut cache, &mut |_, _| ());
        let [found] = &found.unwrap()[..] else { panic!() };
        assert!(found.bucket.ends_with("in f16"), "{}", found.bucket);
        assert!(found.found.refused.is_empty(), "{found:#?}");
    }
}

#[test]
fn what_lies_in_f16_is_what_can() {
    let models = Models::default();
    for lesson in models.lessons().iter().filter(|lesson| lesson.precision == Precision::Mixed) {
        let plan = lesson.plan().unwrap();
        let in_f32 = StepCase { precision: Precision::F32, ..lesson.clone() }.plan().unwrap();
        assert_eq!(plan.precision(), Precision::Mixed);
        let mut halves = 0;
        for call in &plan.calls {
            for (operand, view) in call.kernel.operands().iter().zip(&call.views) {
                assert_eq!(operand.dtype, view.dtype, "{}", call.label);
                halves += usize::from(view.dtype == DType::F16);
                let exact = ["distill_loss", "grad_norm", "loss_scale", "optimizer"];
                let name = call.kernel.name();
                assert!(view.dtype != DType::F16 || !exact.contains(&name), "{}", call.label);
            }
        }
        assert!(halves > plan.calls.len() / 3, "{}: {halves}", lesson.name);
        // Inputs, logits and what losses need stay as they are.
        assert!(plan.own_bytes() < in_f32.own_bytes(), "{}", lesson.name);
    }
}

#[test]
fn memory_is_foretold_to_the_byte() {
    for sets in [&[MIXED][..], &[MIXED, "train.accumulate=2", "distil.gradient_shares=true"]] {
        for (mut gpu, outlook) in gpus() {
            let home = Home::new();
            let forecast =
                Forecast::of(&home.recipe("run", sets), std::slice::from_ref(&outlook)).unwrap();
            home.run("run", sets, &mut *gpu);
            let [foretold] = &forecast.devices[..] else { panic!() };
            assert_eq!(foretold.peak_bytes, gpu.stats().peak_bytes, "{sets:?}");
            assert!(foretold.exceeded.is_empty());
        }
    }
}

#[test]
fn a_device_without_f16_is_refused() {
    let home = Home::new();
    let recipe = home.recipe("run", &[MIXED]);
    let prepared = prepare(&recipe, Begin::New).unwrap();
    let error = run(prepared, &mut CpuDevice::<f32>::new(), &mut Silent).unwrap_err();
    let wanted =
        "has no 16-bit floats in its shaders, which precision = \"mixed\" needs: leave the key out";
    assert!(error.to_string().contains(wanted), "{error}");
    assert!(!home.path("run").exists());
    let forecast = Forecast::of(&recipe, &[Outlook::cpu()]).unwrap();
    assert!(forecast.devices[0].exceeded[0].contains(wanted));
}
