//! What `plan` foretells is what a run takes, to the byte, on every device.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use distil_gpu_engine::data;
use distil_gpu_engine::device::{
    Choice, Choices, CpuDevice, Device, GpuOptions, Limits, Outlook, adapters, select,
};
use distil_gpu_engine::files::save_tensors;
use distil_gpu_engine::forecast::{DeviceForecast, Forecast};
use distil_gpu_engine::recipe::Recipe;
use distil_gpu_engine::run::{Begin, Silent, prepare, run};

const RECIPE: &str = r#"
[data]
source = "embedded"
train_limit = 300
test_limit = 50

[teacher]
model = { type = "mlp", hidden_sizes = [40, 24], dropout = 0.2 }

[student]
model = { type = "mlp", hidden_sizes = [16] }

[train]
epochs = 1
batch = 64
clip = 1.0
optimizer = { name = "adamw", lr = 0.001 }
"#;

fn recipe(sets: &[String]) -> Recipe {
    Recipe::parse_with(RECIPE, "tiny.toml", sets).unwrap()
}

/// Runs the recipe and compares the most bytes that there ever were, and a step's launches.
fn check(device: &mut dyn Device, outlook: &Outlook, text: &str, sets: &[String]) {
    let folder = tempfile::tempdir().unwrap();
    let mut all = sets.to_vec();
    all.push(format!("out={:?}", folder.path().join("run").display().to_string()));
    let recipe = Recipe::parse_with(text, "tiny.toml", &all).unwrap();
    let forecast = Forecast::of(&recipe, std::slice::from_ref(outlook)).unwrap();
    let before = device.stats().bytes;
    run(prepare(&recipe, Begin::New).unwrap(), device, &mut Silent).unwrap();
    let stats = device.stats();
    let foretold = &forecast.devices[0];
    assert_eq!(foretold.peak_bytes, stats.peak_bytes, "{} {sets:?}: {foretold:#?}", outlook.name);
    assert!(foretold.exceeded.is_empty());
    // The teacher, if it is a model, stays to the end; nothing else does.
    assert!(stats.bytes - before < foretold.peak_bytes);
}

#[test]
fn memory_is_foretold_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let teacher = format!("{:?}", folder.path().join("first").display().to_string());
    let first = recipe(&[format!("out={teacher}")]);
    run(prepare(&first, Begin::New).unwrap(), &mut CpuDevice::<f32>::new(), &mut Silent).unwrap();
    let split = data::load(&first.data, first.task.labels()).unwrap();
    let logits = folder.path().join("logits.safetensors");
    let tensors = [("train", &split.train), ("test", &split.test)]
        .map(|(name, data)| (name, vec![data.len(), 10], vec![0.5; data.len() * 10]));
    save_tensors(&logits, &tensors, Default::default()).unwrap();
    let ways = [
        vec![],
        vec![format!(
            "teacher={{folder={:?}}}",
            folder.path().join("first/teacher").display().to_string()
        )],
        vec![format!("teacher={{logits={:?}}}", logits.display().to_string())],
        vec!["teacher.weights=f16".to_owned()],
        // A student larger than its teacher, and a batch larger than those of the measurements.
        vec!["student.model.hidden_sizes=[90]".to_owned(), "train.batch=300".to_owned()],
        // Steps of several batches, and measurements on validation data.
        ["train.accumulate=3", "data.validation=0.2", "train.keep=best", "train.evaluate_every=1"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for sets in &ways {
        everywhere(RECIPE, sets);
    }
    for (number, adapter) in adapters().iter().enumerate() {
        let options = GpuOptions { limits: Some(FEW), ..GpuOptions::default() };
        let mut gpu = select(Choice::Gpu(Some(number)), options).unwrap().device;
        let mut outlook = Outlook::of(adapter, Choices::default());
        outlook.limits = FEW;
        check(&mut *gpu, &outlook, RECIPE, &[]);
    }
}

/// Checks a recipe on every device.
fn everywhere(text: &str, sets: &[String]) {
    check(&mut CpuDevice::<f32>::new(), &Outlook::cpu(), text, sets);
    for (number, adapter) in adapters().iter().enumerate() {
        let choice = Choice::Gpu(Some(number));
        let mut gpu = select(choice, GpuOptions::default()).unwrap().device;
        check(&mut *gpu, &Outlook::of(adapter, Choices::default()), text, sets);
    }
}

/// Batches of texts have many shapes, whose plans share their memory.
#[test]
fn memory_of_texts_is_foretold_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["good", "bad", "film", "films", "the", "!"];
    let texts = |rows: std::ops::Range<usize>| {
        let row = |row: usize| {
            let words: Vec<&str> = (0..1 + row % 13).map(|at| words[(row + at * at) % 6]).collect();
            format!("{},{}\n", words.join(" "), ["x", "y", "z"][row % 3])
        };
        format!("text,label\n{}", rows.map(row).collect::<String>())
    };
    std::fs::write(folder.path().join("train.csv"), texts(0..60)).unwrap();
    std::fs::write(folder.path().join("test.csv"), texts(60..130)).unwrap();
    let bert = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bert");
    let data = folder.path();
    let recipe = format!(
        r#"
[data]
source = "text"
train = {:?}
test = {:?}
[teacher]
model = {{ type = "encoder", from = {bert:?} }}
[student]
model = {{ type = "encoder", from = {bert:?}, layers = [0] }}
[train]
epochs = 2
batch = 8
optimizer = {{ name = "adamw", lr = 0.001 }}
"#,
        data.join("train.csv"),
        data.join("test.csv"),
    );
    everywhere(&recipe, &[]);
    everywhere(&recipe, &["teacher.weights=f16".to_owned()]);
    let more = ["train.accumulate=2", "data.validation=0.3", "train.keep=best"];
    everywhere(&recipe, &more.map(str::to_owned));
}

/// Whose guesses are read back for the page.
#[test]
fn memory_of_language_models_is_foretold_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let text = |row: usize| {
        let letters = (0..4 + row % 9).map(|at| char::from(b'a' + ((row + at) % 26) as u8));
        letters.flat_map(|letter| [letter, ' ']).chain(['\n']).collect::<String>()
    };
    let [train, test] = ["train.txt", "test.txt"].map(|name| folder.path().join(name));
    std::fs::write(&train, (0..60).map(text).collect::<String>()).unwrap();
    std::fs::write(&test, (60..130).map(text).collect::<String>()).unwrap();
    let bert = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bert-mlm");
    let recipe = format!(
        r#"
task = "masked-lm"
[data]
source = "text"
train = {train:?}
test = {test:?}
[teacher]
folder = {bert:?}
[student]
model = {{ type = "encoder", from = {bert:?}, layers = [0] }}
[train]
epochs = 2
batch = 2
optimizer = {{ name = "adamw", lr = 0.001 }}
"#
    );
    everywhere(&recipe, &[]);
}

/// Students that are cut out of a decoder: what is found out of it before is foretold too, and as many passes are made.
#[test]
fn memory_of_cut_decoders_is_foretold_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let [train, test, llama] =
        ["train.jsonl", "test.jsonl", "llama"].map(|name| folder.path().join(name));
    let texts = |rows: std::ops::Range<usize>| {
        let text = |row: usize| {
            let letters = (0..5 + row % 6).map(|at| char::from(b'a' + ((row * 7 + at) % 26) as u8));
            let text: String = letters.flat_map(|letter| [letter, ' ']).collect();
            format!("{{\"text\": {text:?}}}\n")
        };
        rows.map(text).collect::<String>()
    };
    std::fs::write(&train, texts(0..60)).unwrap();
    std::fs::write(&test, texts(60..90)).unwrap();
    std::fs::create_dir(&llama).unwrap();
    let qwen = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/chat/qwen");
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(qwen.join(file), llama.join(file)).unwrap();
    }
    let config = r#"{"model_type": "llama", "vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 5,
        "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64, "rms_norm_eps": 1e-5,
        "max_position_embeddings": 128, "rope_theta": 1e4, "tie_word_embeddings": true, "eos_token_id": 0}"#;
    std::fs::write(llama.join("config.json"), config).unwrap();
    let recipe = format!(
        r#"
task = "causal-lm"
[data]
source = "text"
train = {train:?}
test = {test:?}
[teacher]
model = {{ type = "decoder", from = {llama:?}, random = true, max_length = 32 }}
[student]
model = {{ type = "decoder", from = "teacher", layers = {{ keep = 2, by = "influence" }}, intermediate_size = 40, max_length = 32 }}
[train]
epochs = 1
batch = 2
optimizer = {{ name = "adamw", lr = 0.001 }}
"#
    );
    everywhere(&recipe, &[]);
    everywhere(&recipe, &["student.model.layers=[0,1]".to_owned(), "train.batch=1".to_owned()]);
    everywhere(&recipe, &["distil.on_policy={fraction=0.5}".to_owned()]);
    let taught = folder.path().join("taught");
    let sets = [format!("out={:?}", taught.display().to_string()), "device=cpu".to_owned()];
    let first = Recipe::parse_with(&recipe, "tiny.toml", &sets).unwrap();
    run(prepare(&first, Begin::New).unwrap(), &mut CpuDevice::<f32>::new(), &mut Silent).unwrap();
    let loaded = format!("teacher={{folder={:?}}}", taught.join("teacher").display().to_string());
    everywhere(&recipe, std::slice::from_ref(&loaded));
    everywhere(&recipe, &[loaded, "student.model.vocabulary=trimmed".to_owned()]);

    let forecast = Forecast::of(&first, &[Outlook::cpu()]).unwrap();
    let [layers, parts] = &forecast.cuts[..] else { panic!("{:?}", forecast.cuts) };
    assert_eq!(
        (layers.phase, parts.phase),
        ("choosing layers by influence", "ranking units and heads")
    );
    // The whole model; then without one of five layers, of four and of three.
    assert_eq!((layers.passes, parts.passes), (1 + 5 + 4 + 3, 1));
    assert!(layers.flops > 13 * parts.flops && parts.flops > 0, "{:?}", forecast.cuts);
    let phases: Vec<&str> =
        forecast.devices[0].phases.iter().map(|memory| &*memory.phase).collect();
    let wanted = ["measuring the teacher", layers.phase, parts.phase, "training the student alone"];
    assert!(phases.windows(4).any(|phases| phases == wanted), "{phases:?}");
    let whole = Recipe::parse_with(
        &recipe,
        "tiny.toml",
        &["student.model.layers=[0,1]".to_owned(), "student.model.intermediate_size=64".to_owned()],
    );
    assert!(Forecast::of(&whole.unwrap(), &[]).unwrap().cuts.is_empty());
}

/// Room for 64 of the 256 pictures of a measurement.
const FEW: Limits = Limits { buffer_bytes: 1 << 30, binding_bytes: 210_000 };

#[test]
fn what_is_bound_in_tiles_is_named() {
    let mut few = Outlook::cpu();
    few.limits = FEW;
    let forecast = Forecast::of(&recipe(&[]), &[Outlook::cpu(), few]).unwrap();
    let [whole, few] = &forecast.devices[..] else { panic!("two devices") };
    assert!(whole.tiled.is_empty() && few.exceeded.is_empty(), "{:?}", few.exceeded);
    assert!(few.tiled.iter().eq([(&"features [256, 784]".to_owned(), &4)]), "{:?}", few.tiled);
}

#[test]
fn what_is_too_large_is_named() {
    let mut small = Outlook::cpu();
    small.limits = Limits { buffer_bytes: 1 << 30, binding_bytes: 100_000 };
    let forecast = Forecast::of(&recipe(&[]), &[small]).unwrap();
    let DeviceForecast { exceeded, .. } = &forecast.devices[0];
    assert!(exceeded.iter().any(|text| text.contains("features [64, 784]")), "{exceeded:?}");
    let advice = "binding size of 100000: use a smaller batch or model";
    assert!(exceeded.iter().all(|text| text.ends_with(advice)), "{exceeded:?}");
    let arms: Vec<&str> = forecast.arms.iter().map(|arm| arm.arm.name()).collect();
    assert_eq!(arms, ["teacher", "control", "distilled"]);
    assert_eq!(forecast.arms[0].parameters, 784 * 40 + 40 + 40 * 24 + 24 + 24 * 10 + 10);
    assert_eq!(forecast.largest.len(), 5);
}
