//! Every reader of files that a person may bring, as one list: what the mutation test and the fuzz targets of `fuzz/`
//! feed. A new reader is an entry here, a folder of seeds in `fuzz/seeds` and a target in `fuzz/Cargo.toml`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use distil_gpu_engine::data::text::{ChatTemplate, Columns, DocumentEncoder, LossOn, Packing};
use distil_gpu_engine::data::{self, LabelKind};
use distil_gpu_engine::device::{CpuDevice, Device};
use distil_gpu_engine::error::Error;
use distil_gpu_engine::files::save_tensors;
use distil_gpu_engine::models;
use distil_gpu_engine::recipe::Recipe;
use distil_gpu_engine::results::Record;
use distil_gpu_engine::run::{Begin, Event, Observer, Silent, prepare, run};
use distil_gpu_engine::tune::Cache;

use crate::StopAfter;

/// A file by its path within a folder, and what it holds.
pub type Laid = (String, Vec<u8>);

/// One reader.
#[derive(Debug)]
pub struct Reader {
    /// Its name, which is that of its folder of seeds and of its fuzz target.
    pub name: &'static str,
    /// Path of the file that is fed to it, within the folder that it works in.
    file: &'static str,
    /// What lies beside that file.
    beside: fn() -> Vec<Laid>,
    /// Good files beside those of `fuzz/seeds`: of formats that this program writes itself.
    made: fn() -> Vec<Vec<u8>>,
    /// Reads the folder.
    read: fn(&Path) -> Result<(), Error>,
}

/// All readers.
pub const READERS: &[Reader] = &[
    Reader { read: recipe, ..of("recipe", "recipe.toml") },
    Reader { read: table, ..of("table", "table.csv") },
    Reader { read: |at| texts(at, "texts.csv"), ..of("text_csv", "texts.csv") },
    Reader { read: |at| texts(at, "texts.jsonl"), ..of("json_lines", "texts.jsonl") },
    Reader { read: |at| texts(at, "texts.json"), ..of("json", "texts.json") },
    Reader { read: |at| texts(at, "texts.parquet"), ..of("parquet", "texts.parquet") },
    Reader { read: |at| words(at, "words.conll"), ..of("words", "words.conll") },
    Reader { read: |at| words(at, "words.parquet"), ..of("words_parquet", "words.parquet") },
    Reader { read: |at| questions(at, "squad.json"), ..of("squad", "squad.json") },
    Reader {
        read: |at| questions(at, "squad.parquet"),
        ..of("questions_parquet", "squad.parquet")
    },
    Reader { read: several, ..of("several", "texts.jsonl") },
    Reader { read: plain_text, ..of("plain_text", "texts.txt") },
    Reader { read: documents, beside: chat_folder, ..of("documents", "rows.jsonl") },
    Reader { read: documents, beside: chat_folder, ..of("chat_template", "chat_template.jinja") },
    Reader { read: idx, beside: idx_labels, ..of("idx", "images") },
    Reader { read: safetensors, ..of("safetensors", "rows.safetensors") },
    Reader { read: logits, ..of("logits", "logits.safetensors") },
    Reader { read: pictures, beside: picture, ..of("png", "ant/0.png") },
    Reader { read: pictures, beside: picture, ..of("jpeg", "ant/0.jpg") },
    Reader { read: pictures, beside: picture, ..of("bmp", "ant/0.bmp") },
    Reader { read: pictures, beside: picture, ..of("pnm", "ant/0.ppm") },
    Reader { read: pictures, beside: picture, ..of("gif", "ant/0.gif") },
    Reader { read: pictures, beside: picture, ..of("webp", "ant/0.webp") },
    Reader { read: pictures, beside: picture, ..of("tiff", "ant/0.tiff") },
    Reader { read: model, beside: bert, ..of("config", "config.json") },
    Reader { read: model, beside: bert, ..of("weights", "model.safetensors") },
    Reader { read: model, beside: bert, ..of("tokenizer", "tokenizer.json") },
    Reader { read: model, beside: mlp, ..of("mlp_config", "config.json") },
    Reader { read: page, beside: finished, made: report, ..of("report", "run/report.json") },
    Reader { read: page, beside: finished, made: metrics, ..of("metrics", "run/metrics.jsonl") },
    Reader { read: page, beside: finished, made: answers, ..of("answers", "run/answers.json") },
    Reader { read: page, beside: finished, ..of("exports", "run/exports.json") },
    Reader { read: resume_journal, beside: stopped, made: journal, ..of("journal", JOURNAL) },
    Reader {
        read: resume_checkpoint,
        beside: stopped,
        made: checkpoint,
        ..of("checkpoint", CHECKPOINT)
    },
    Reader { read: tuned, made: findings, ..of("tuned", "tuned.json") },
];

const fn of(name: &'static str, file: &'static str) -> Reader {
    Reader { name, file, beside: Vec::new, made: Vec::new, read: |_| Ok(()) }
}

impl Reader {
    /// The reader of this name.
    pub fn named(name: &str) -> &'static Self {
        READERS.iter().find(|reader| reader.name == name).expect("a reader of that name")
    }

    /// Good files to begin with, each with its name.
    pub fn seeds(&self) -> Vec<Laid> {
        let folder = seeds_folder().join(self.name);
        let mut seeds = Vec::new();
        if folder.is_dir() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                seeds.push((name, fs::read(path).unwrap()));
            }
        }
        seeds.sort();
        seeds.extend((self.made)().into_iter().map(|bytes| ("made".to_owned(), bytes)));
        assert!(!seeds.is_empty(), "{} has no seeds", self.name);
        seeds
    }

    /// Writes those of the files that this program writes itself among the seeds.
    pub fn write_seeds(&self) {
        for bytes in (self.made)() {
            let folder = seeds_folder().join(self.name);
            fs::create_dir_all(&folder).unwrap();
            let name = Path::new(self.file).file_name().unwrap();
            fs::write(folder.join(name), bytes).unwrap();
        }
    }

    /// Lays `bytes` in the place of its file in `folder`, with all that belongs beside it, and reads them.
    ///
    /// # Errors
    /// What the reader says.
    pub fn read(&self, folder: &Path, bytes: &[u8]) -> Result<(), Error> {
        let file = (self.file.to_owned(), bytes.to_vec());
        for (name, bytes) in
            (self.beside)().iter().filter(|(name, _)| name != self.file).chain([&file])
        {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        (self.read)(folder)
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn seeds_folder() -> PathBuf {
    root().join("fuzz/seeds")
}

fn fixture(name: &str) -> Vec<u8> {
    let path = root().join("tests/fixtures").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn recipe(at: &Path) -> Result<(), Error> {
    let recipe = Recipe::load(&at.join("recipe.toml"), &[])?;
    // A recipe as it was resolved is read as the same one.
    let written = recipe.to_toml()?;
    let again = Recipe::parse(&written, &at.join("recipe.toml").display().to_string())?;
    assert_eq!(recipe, again);
    Ok(())
}

/// Loads the data of a recipe whose table `data` holds these lines.
fn load(at: &Path, lines: &str) -> Result<(), Error> {
    let text = format!(
        "[data]\n{lines}\n[teacher]\nmodel = {{ type = \"mlp\", hidden_sizes = [4] }}\n\
         [student]\nmodel = {{ type = \"mlp\", hidden_sizes = [2] }}\n\
         [train]\nepochs = 1\nbatch = 4\noptimizer = {{ name = \"sgd\", lr = 0.1 }}\n"
    );
    let recipe = Recipe::parse(&text, &at.join("recipe.toml").display().to_string())?;
    data::load(&recipe.data, recipe.task.labels())?;
    Ok(())
}

fn table(at: &Path) -> Result<(), Error> {
    load(at, "source = \"csv\"\ntrain = \"table.csv\"\ntest = \"table.csv\"\nlabel = \"species\"")
}

fn texts(at: &Path, file: &str) -> Result<(), Error> {
    load(at, &format!("source = \"text\"\ntrain = \"{file}\"\ntest = \"{file}\""))
}

fn columns<'a>(text: &'a [String], label: &'a [String]) -> Columns<'a> {
    Columns { text, label, skip_empty: false }
}

fn words(at: &Path, file: &str) -> Result<(), Error> {
    let (path, [text, label]) =
        (at.join(file), ["tokens", "ner_tags"].map(|name| [name.to_owned()]));
    data::text::load_words(&path, &path, columns(&text, &label))?;
    Ok(())
}

fn questions(at: &Path, file: &str) -> Result<(), Error> {
    let (path, text) = (at.join(file), ["question", "context"].map(str::to_owned));
    let label = ["answers".to_owned()];
    data::text::load_questions(&path, &path, columns(&text, &label))?;
    Ok(())
}

fn several(at: &Path) -> Result<(), Error> {
    let (path, [text, label]) =
        (at.join("texts.jsonl"), ["text", "label"].map(|name| [name.to_owned()]));
    data::text::load(&path, &path, columns(&text, &label), LabelKind::MultiLabel)?;
    Ok(())
}

fn plain_text(at: &Path) -> Result<(), Error> {
    data::text::read_texts(&at.join("texts.txt"), &["text".to_owned()], false)?;
    Ok(())
}

/// A tokenizer, a template, and a chat.
fn chat_folder() -> Vec<Laid> {
    let file = |name: &str| (name.to_owned(), fixture(&format!("chat/qwen/{name}")));
    let seed =
        |name: &str, path: &str| (name.to_owned(), fs::read(seeds_folder().join(path)).unwrap());
    vec![
        file("tokenizer.json"),
        file("tokenizer_config.json"),
        seed("rows.jsonl", "documents/kinds.jsonl"),
        seed("chat_template.jinja", "chat_template/chatml.jinja"),
    ]
}

fn documents(at: &Path) -> Result<(), Error> {
    let tokenizer = data::Tokenizer::load(at)?;
    let template = ChatTemplate::of(&tokenizer)?;
    let read = data::text::read_documents(&at.join("rows.jsonl"), "text", false)?;
    for loss_on in [LossOn::Completions, LossOn::All] {
        let encoder = DocumentEncoder::new(&tokenizer, template.clone(), loss_on)?;
        let tokens = encoder.encode(&read.documents)?;
        if let Ok(packing) = Packing::new(&tokens, 16, true) {
            (0..packing.rows()).for_each(|row| assert_eq!(packing.row(&tokens, row).ids.len(), 16));
        }
        encoder.shown(&read.documents, 3)?;
    }
    Ok(())
}

fn idx_labels() -> Vec<Laid> {
    vec![("labels".to_owned(), vec![0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 0, 1])]
}

fn idx(at: &Path) -> Result<(), Error> {
    load(
        at,
        "source = \"idx\"\ntrain_images = \"images\"\ntrain_labels = \"labels\"\n\
         test_images = \"images\"\ntest_labels = \"labels\"",
    )
}

fn safetensors(at: &Path) -> Result<(), Error> {
    load(at, "source = \"safetensors\"\ntrain = \"rows.safetensors\"\ntest = \"rows.safetensors\"")
}

fn logits(at: &Path) -> Result<(), Error> {
    data::read_logits(&at.join("logits.safetensors"), "train")?;
    Ok(())
}

fn picture() -> Vec<Laid> {
    let bytes = fs::read(seeds_folder().join("png/rgb.png")).unwrap();
    vec![("bee/0.png".to_owned(), bytes)]
}

fn pictures(at: &Path) -> Result<(), Error> {
    load(at, "source = \"images\"\ntrain = \".\"\ntest = \".\"\nsize = [6, 5]\nchannels = 3")
}

fn bert() -> Vec<Laid> {
    let file = |name: &str| (name.to_owned(), fixture(&format!("bert/{name}")));
    ["config.json", "model.safetensors", "tokenizer.json"].map(file).to_vec()
}

fn mlp() -> Vec<Laid> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let tensor = |(name, shape): (&str, &[usize])| {
        (format!("layers.{name}"), shape.to_vec(), vec![0.0; shape.iter().product()])
    };
    let shapes: [(&str, &[usize]); 4] =
        [("0.weight", &[2, 2]), ("0.bias", &[2]), ("1.weight", &[3, 2]), ("1.bias", &[3])];
    save_tensors(&path, &shapes.map(tensor), HashMap::new()).unwrap();
    vec![("model.safetensors".to_owned(), fs::read(path).unwrap())]
}

fn model(at: &Path) -> Result<(), Error> {
    models::load(at)?;
    Ok(())
}

/// A tiny run that is finished and one that was stopped.
struct Runs {
    done: PathBuf,
    stopped: PathBuf,
    _guard: tempfile::TempDir,
}

const JOURNAL: &str = "run/journal.json";
/// In the place of the last checkpoint, whose name has the checksum of its bytes.
const CHECKPOINT: &str = "run/checkpoints/newest";

/// The recipe of the tiny runs.
fn tiny(out: &Path) -> Recipe {
    let text = "device = \"cpu\"\n[data]\nsource = \"embedded\"\ntrain_limit = 64\ntest_limit = 16\n\
         [teacher]\nmodel = { type = \"mlp\", hidden_sizes = [4] }\n\
         [student]\nmodel = { type = \"mlp\", hidden_sizes = [2] }\n\
         [train]\nepochs = 1\nbatch = 16\noptimizer = { name = \"adamw\", lr = 0.01 }\n";
    let out = format!("out={}", serde_json::Value::from(out.to_str().unwrap()));
    Recipe::parse_with(text, "tiny.toml", &[out]).unwrap()
}

fn runs() -> &'static Runs {
    static RUNS: OnceLock<Runs> = OnceLock::new();
    RUNS.get_or_init(|| {
        let guard = tempfile::tempdir().unwrap();
        let (done, stopped) = (guard.path().join("done"), guard.path().join("stopped"));
        let mut device = CpuDevice::<f32>::new();
        let recipe = tiny(&done);
        run(prepare(&recipe, Begin::New).unwrap(), &mut device, &mut Silent).unwrap();
        let recipe = tiny(&stopped);
        let ended = run(prepare(&recipe, Begin::New).unwrap(), &mut device, &mut StopAfter::new(2));
        assert!(matches!(ended, Err(Error::Interrupted { .. })), "{ended:?}");
        Runs { done, stopped, _guard: guard }
    })
}

/// Every file of a run's folder, as of a folder `run`.
fn files_of(folder: &Path) -> Vec<Laid> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), "run".to_owned())];
    while let Some((folder, name)) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{name}/{}", path.file_name().unwrap().to_string_lossy());
            match path.is_dir() {
                true => folders.push((path, name)),
                false => found.push((name, fs::read(&path).unwrap())),
            }
        }
    }
    found
}

fn finished() -> Vec<Laid> {
    static FILES: OnceLock<Vec<Laid>> = OnceLock::new();
    FILES.get_or_init(|| files_of(&runs().done)).clone()
}

fn stopped() -> Vec<Laid> {
    static FILES: OnceLock<Vec<Laid>> = OnceLock::new();
    FILES.get_or_init(|| files_of(&runs().stopped)).clone()
}

fn file_of(files: Vec<Laid>, wanted: &str) -> Vec<Vec<u8>> {
    let of = |(name, bytes)| (name == wanted).then_some(bytes);
    files.into_iter().filter_map(of).collect()
}

fn report() -> Vec<Vec<u8>> {
    file_of(finished(), "run/report.json")
}

fn metrics() -> Vec<Vec<u8>> {
    file_of(finished(), "run/metrics.jsonl")
}

fn answers() -> Vec<Vec<u8>> {
    file_of(finished(), "run/answers.json")
}

fn journal() -> Vec<Vec<u8>> {
    file_of(stopped(), JOURNAL)
}

fn checkpoint() -> Vec<Vec<u8>> {
    let last = stopped().into_iter().filter(|(name, _)| is_last_checkpoint(name));
    last.map(|(_, bytes)| bytes).collect()
}

fn is_last_checkpoint(name: &str) -> bool {
    name.starts_with("run/checkpoints/distilled-2-")
}

fn page(at: &Path) -> Result<(), Error> {
    let page = distil_gpu_report::single(&Record::read(&at.join("run"))?);
    assert!(page.ends_with("</html>\n") || page.ends_with("</html>"), "a whole page");
    Ok(())
}

/// Stops before the first step.
struct Stop;

impl Observer for Stop {
    fn event(&mut self, _: &Event<'_>) {}

    fn stop(&self) -> bool {
        true
    }
}

/// Both copies of the journal are damaged, with the checksum of what they hold, so that what lies behind it is read.
fn resume_journal(at: &Path) -> Result<(), Error> {
    let bytes = fs::read(at.join(JOURNAL)).unwrap();
    let bytes = sealed_again(&bytes).unwrap_or(bytes);
    for path in [JOURNAL, "run/checkpoints/journal.json"] {
        fs::write(at.join(path), &bytes).unwrap();
    }
    resume(at)
}

/// A JSON object with the checksum that this program writes into it; none where it is no object.
fn sealed_again(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let object = value.as_object_mut()?;
    object.remove("crc32");
    let checksum = crc32fast::hash(serde_json::Value::from(object.clone()).to_string().as_bytes());
    object.insert("crc32".to_owned(), format!("{checksum:08x}").into());
    Some(value.to_string().into_bytes())
}

/// The last checkpoint, with the name of its bytes, so that what lies behind the checksum is read.
fn resume_checkpoint(at: &Path) -> Result<(), Error> {
    let old = stopped().into_iter().map(|(name, _)| name).filter(|name| is_last_checkpoint(name));
    old.for_each(|name| fs::remove_file(at.join(name)).unwrap());
    let checksum = crc32fast::hash(&fs::read(at.join(CHECKPOINT)).unwrap());
    let name = format!("run/checkpoints/distilled-2-{checksum:08x}.safetensors");
    fs::rename(at.join(CHECKPOINT), at.join(name)).unwrap();
    resume(at)
}

fn resume(at: &Path) -> Result<(), Error> {
    let recipe = tiny(&at.join("run"));
    let prepared = prepare(&recipe, Begin::Resume { accept_changes: false })?;
    match run(prepared, &mut CpuDevice::<f32>::new(), &mut Stop) {
        Ok(_) | Err(Error::Interrupted { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What tuning remembers of the CPU device, in a folder.
fn tuning(at: &Path) -> Cache {
    Cache::in_folder(at, CpuDevice::<f32>::new().info())
}

fn findings() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let mut cache = tuning(folder.path());
    cache.bucket("softmax", "8x8").chosen = Some("subgroup".to_owned());
    cache.write().unwrap();
    vec![fs::read(cache.path()).unwrap()]
}

fn tuned(at: &Path) -> Result<(), Error> {
    let path = tuning(at).path().to_owned();
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy(at.join("tuned.json"), path).unwrap();
    tuning(at).choices();
    Ok(())
}
