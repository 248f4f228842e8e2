//! Tasks on every source of data, with every kind of teacher and every option: it runs, or it is refused in one
//! sentence that says what to do instead. The table of refusals below is the whole of what is refused.

use std::fmt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use safetensors::Dtype;

use super::next_tokens::llama;
use super::tasks::write_words_and_questions;
use super::{Home, floats, safetensors};

const TASKS: [&str; 8] = [
    "classification",
    "masked-lm",
    "embedding",
    "causal-lm",
    "regression",
    "multi-label",
    "token-classification",
    "question-answering",
];
const NUMBERS: [&str; 5] = ["embedded", "idx", "csv", "safetensors", "images"];
const TEXTS: [&str; 4] = ["texts.csv", "texts.jsonl", "texts.parquet", "texts.txt"];
/// Words with tags, and questions with contexts and answers.
const WORDS: [&str; 2] = ["words.jsonl", "words.conll"];
const QUESTIONS: [&str; 2] = ["squad.jsonl", "squad.json"];
const TEACHERS: [&str; 3] = ["trained", "folder", "logits"];
/// In this order: what the later ones read, the first leaves.
const OPTIONS: [&str; 12] = [
    "none",
    "share",
    "file",
    "unlabelled",
    "omit",
    "best",
    "sweep",
    "resume",
    "eval",
    "logits",
    "plan",
    "bench",
];

/// A combination.
#[derive(Clone, Copy)]
struct Cell {
    task: &'static str,
    source: &'static str,
    teacher: &'static str,
    option: &'static str,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, source, teacher, option } = self;
        write!(f, "{task} × {source} × {teacher} × {option}")
    }
}

/// What is refused: tasks, sources, teachers and options, each a list parted by spaces or all (`*`), and words of the
/// message. The first line that holds counts; a combination that no line has runs.
const REFUSED: [(&str, &str, &str, &str, &str); 29] = [
    // A key that is wrong is told before anything is read.
    ("*", "embedded idx", "*", "file", "`data.validation` is the string"),
    ("*", "numbers", "*", "unlabelled", "unknown key `unlabelled`"),
    (
        "masked-lm embedding causal-lm",
        "texts words questions",
        "*",
        "unlabelled",
        "put them all into `train`",
    ),
    ("*", "texts words questions", "logits", "unlabelled", "give its `folder`"),
    ("embedding", "*", "*", "sweep", "compare the runs with `report`"),
    // Tasks of texts.
    (
        "masked-lm embedding causal-lm token-classification question-answering",
        "numbers",
        "*",
        "*",
        "set `data.source` to \"text\"",
    ),
    (
        "masked-lm causal-lm token-classification question-answering",
        "*",
        "logits",
        "*",
        "give the `folder` of a model, or a `model` to train",
    ),
    ("embedding", "*", "trained logits", "*", "set `teacher.folder`"),
    ("embedding", "*", "*", "best", "leave `keep` out"),
    ("embedding", "*", "*", "share file", "leave `data.validation` out"),
    (
        "masked-lm embedding causal-lm regression multi-label token-classification question-answering",
        "*",
        "*",
        "omit",
        "`distil.omit_classes` is for `task = \"classification\"`",
    ),
    (
        "masked-lm causal-lm token-classification question-answering",
        "*",
        "*",
        "logits",
        "`eval` measures it",
    ),
    // Files of another task's examples.
    (
        "token-classification question-answering",
        "*",
        "*",
        "unlabelled",
        "`data.unlabelled` holds whole texts",
    ),
    (
        "classification masked-lm embedding causal-lm regression multi-label",
        "words.conll",
        "*",
        "*",
        "are read from .csv, .tsv",
    ),
    ("causal-lm", "words questions", "*", "*", "it is no document: it has none of `messages`"),
    (
        "classification masked-lm embedding regression multi-label",
        "words questions",
        "*",
        "*",
        "there is no column `text`",
    ),
    ("token-classification", "texts.txt", "*", "*", "part sentences by empty lines"),
    ("token-classification", "texts questions", "*", "*", "there is no column `tokens`"),
    (
        "question-answering",
        "texts.txt words.conll",
        "*",
        "*",
        "questions are read from SQuAD's .json",
    ),
    ("question-answering", "texts words", "*", "*", "there is no column `question`"),
    // The file is one document, as no line of it is empty.
    ("causal-lm", "texts.txt", "*", "share best", "leave `data.validation` out"),
    // Labels that these sources lack.
    (
        "regression",
        "embedded idx images",
        "*",
        "*",
        "set it to \"text\", \"csv\" or \"safetensors\"",
    ),
    (
        "multi-label",
        "embedded idx images",
        "*",
        "*",
        "set it to \"text\", \"csv\" or \"safetensors\"",
    ),
    // What is finished has nothing to go on with; `interrupted`, `texts` and `guessing` go on with what is not.
    ("*", "*", "*", "resume", "this run is finished: there is nothing to resume"),
    // Without labels a finished teacher's answers are learnt.
    ("regression multi-label", "texts.txt", "*", "*", "give a file with named columns"),
    ("classification", "texts.txt", "trained logits", "*", "give files with a column of labels"),
    ("classification", "texts.txt", "*", "eval", "give files with a column of labels"),
    ("classification", "texts.txt", "*", "omit", "leaves out examples by their labels"),
    ("classification", "texts.txt", "*", "best", "leave `keep` out"),
];

impl Cell {
    /// Words of the refusal, if it is refused.
    fn refused(self) -> Option<&'static str> {
        let listed = |list: &str, own: &str| {
            list.split(' ').any(|one| match one {
                "*" => true,
                "numbers" => NUMBERS.contains(&own),
                "texts" => TEXTS.contains(&own),
                "words" => WORDS.contains(&own),
                "questions" => QUESTIONS.contains(&own),
                one => one == own,
            })
        };
        let Self { task, source, teacher, option } = self;
        let holds = |line: &&(&str, &str, &str, &str, &str)| {
            listed(line.0, task)
                && listed(line.1, source)
                && listed(line.2, teacher)
                && listed(line.3, option)
        };
        REFUSED.iter().find(holds).map(|line| line.4)
    }

    /// Whether what an option reads was refused before.
    fn is_moot(self) -> bool {
        let reads = ["resume", "eval", "logits"].contains(&self.option);
        reads && Self { option: "none", ..self }.refused().is_some()
    }

    fn recipe(self) -> String {
        format!("{}-{}-{}.toml", self.task, self.source, self.teacher)
    }

    fn run(self) -> String {
        format!("{}-{}-{}", self.task, self.source, self.teacher)
    }

    fn command(self) -> String {
        let (recipe, run) = (self.recipe(), self.run());
        let file = match self.source {
            "images" => "images",
            "csv" => "points.csv",
            "safetensors" => "points.safetensors",
            source => source,
        };
        let set = match self.option {
            "none" => return format!("run {recipe} -q --out {run}"),
            "share" => "--set data.validation=0.3".to_owned(),
            "file" => format!("--set data.validation=\"{file}\""),
            "unlabelled" => "--set data.unlabelled=\"texts.txt\"".to_owned(),
            "omit" => "--set distil.omit_classes=[1]".to_owned(),
            "best" => "--set data.validation=0.3 --set train.keep=\"best\"".to_owned(),
            "sweep" => {
                return format!("sweep {recipe} -q --out {run}-sweep --set distil.temperature=2,4");
            }
            "resume" => return format!("run --resume {run} -q"),
            "eval" if self.task == "embedding" => {
                return format!(
                    "eval {run}/student --data pairs.csv --text a --text b --label score --device cpu -q"
                );
            }
            "eval" => return format!("eval {run}/student --data {recipe} --device cpu -q"),
            "logits" => {
                return format!(
                    "logits {run}/student --input {recipe} --out {run}.z --device cpu -q"
                );
            }
            "plan" => return format!("plan {recipe} -q"),
            "bench" => return format!("bench {recipe} --device cpu --seconds 0.001 -q"),
            other => unreachable!("no option is {other}"),
        };
        format!("run {recipe} -q --out {run}-{} {set}", self.option)
    }
}

/// A home with data of every source, and what teachers are made of.
fn home() -> Home {
    let home = Home::new();
    let rows = 18;
    let label = |row: usize| row % 3;
    let point = |row: usize| [row as f32 * 0.1 - 0.8, (row * row % 7) as f32 * 0.2];
    let line = |row: usize| format!("{},{},{}\n", point(row)[0], point(row)[1], label(row));
    home.write("points.csv", format!("a,b,label\n{}", (0..rows).map(line).collect::<String>()));
    let features: Vec<f32> = (0..rows).flat_map(point).collect();
    let labels: Vec<u8> = (0..rows).map(|row| label(row) as u8).collect();
    let several: Vec<u8> = (0..rows * 3).map(|at| u8::from(at * at % 5 < 2)).collect();
    let tensors: [(&str, Dtype, &[usize], &[u8]); 3] = [
        ("features", Dtype::F32, &[rows, 2], &floats(&features)),
        ("labels", Dtype::U8, &[rows], &labels),
        ("several", Dtype::U8, &[rows, 3], &several),
    ];
    home.write("points.safetensors", safetensors(&tensors));
    let idx = |magic: u8, sizes: &[u8], values: &[u8]| -> Vec<u8> {
        let sizes = sizes.iter().flat_map(|&size| [0, 0, 0, size]);
        [0, 0, 8, magic].into_iter().chain(sizes).chain(values.iter().copied()).collect()
    };
    let pixels: Vec<u8> = (0..rows * 4).map(|at| (at * 53 % 256) as u8).collect();
    home.write("images.idx", idx(3, &[rows as u8, 2, 2], &pixels));
    home.write("labels.idx", idx(1, &[rows as u8], &labels));
    for (row, image) in pixels.chunks(4).enumerate() {
        let image = [b"P5\n2 2\n255\n", image].concat();
        home.write(&format!("images/{}/{row:02}.pgm", label(row)), image);
    }
    // Words that the fixtures' tokenizers know; the same texts as the Parquet file's.
    let words = ["good", "bad", "film", "films", "the", "a"];
    let text =
        |row: usize| format!("{} {} {}", words[row % 6], words[row / 2 % 6], words[row / 3 % 6]);
    let all = |line: &dyn Fn(usize) -> String| (0..rows).map(line).collect::<String>();
    let csv = all(&|row| format!("{},{}\n", text(row), label(row)));
    home.write("texts.csv", format!("text,label\n{csv}"));
    let json = |row| format!("{{\"text\": {:?}, \"label\": {}}}\n", text(row), label(row));
    home.write("texts.jsonl", all(&json));
    home.write("texts.txt", all(&|row| format!("{}\n", text(row))));
    let pairs = all(&|row| format!("{},{},{}\n", text(row), text(row + 5), label(row)));
    home.write("pairs.csv", format!("a,b,score\n{pairs}"));
    write_words_and_questions(&home);
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    home.write("texts.parquet", std::fs::read(fixtures.join("texts.parquet")).unwrap());
    for name in ["bert", "bert-mlm"] {
        for file in ["config.json", "model.safetensors", "tokenizer.json"] {
            home.write(
                &format!("{name}/{file}"),
                std::fs::read(fixtures.join(name).join(file)).unwrap(),
            );
        }
    }
    llama(&home);
    // Without its classifier it makes embeddings.
    let config = String::from_utf8(home.read("bert/config.json")).unwrap();
    home.write(
        "bert-embeds/config.json",
        config.replace("BertForSequenceClassification", "BertModel"),
    );
    for file in ["model.safetensors", "tokenizer.json"] {
        home.write(&format!("bert-embeds/{file}"), home.read(&format!("bert/{file}")));
    }
    home
}

/// The recipe of a task, a source and a teacher; what a folder or a file of logits holds, the trained teacher left.
fn recipe(cell: Cell) -> String {
    let Cell { task, source, teacher, .. } = cell;
    let data = match source {
        "embedded" => "source = \"embedded\"\ntrain_limit = 40\ntest_limit = 20".to_owned(),
        "idx" => "source = \"idx\"\ntrain_images = \"images.idx\"\ntrain_labels = \"labels.idx\"\n\
                  test_images = \"images.idx\"\ntest_labels = \"labels.idx\""
            .to_owned(),
        "csv" | "safetensors" => {
            let labels = match (task, source) {
                ("multi-label", "safetensors") => "\nlabels = \"several\"",
                _ => "",
            };
            format!(
                "source = \"{source}\"\ntrain = \"points.{source}\"\ntest = \"points.{source}\"{labels}"
            )
        }
        "images" => "source = \"images\"\ntrain = \"images\"\ntest = \"images\"".to_owned(),
        texts => format!("source = \"text\"\ntrain = \"{texts}\"\ntest = \"{texts}\""),
    };
    let (folder, model, student) = match (task, NUMBERS.contains(&source)) {
        (_, true) => {
            ("", "{ type = \"mlp\", hidden_sizes = [6] }", "{ type = \"mlp\", hidden_sizes = [3] }")
        }
        ("classification", false) => (
            "bert",
            "{ type = \"encoder\", from = \"bert\" }",
            "{ type = \"encoder\", from = \"bert\", layers = [0] }",
        ),
        ("masked-lm", _) => (
            "bert-mlm",
            "{ type = \"encoder\", from = \"bert-mlm\" }",
            "{ type = \"encoder\", from = \"bert-mlm\", layers = [0] }",
        ),
        ("causal-lm", _) => (
            "",
            "{ type = \"decoder\", from = \"llama\", random = true, max_length = 16 }",
            "{ type = \"decoder\", from = \"llama\", random = true, layers = [0], max_length = 16 }",
        ),
        ("token-classification" | "question-answering", _) => (
            "",
            "{ type = \"encoder\", from = \"bert\" }",
            "{ type = \"encoder\", from = \"bert\", layers = [0] }",
        ),
        ("regression" | "multi-label", _) => (
            "",
            "{ type = \"encoder\", from = \"bert-mlm\" }",
            "{ type = \"encoder\", from = \"bert-mlm\", layers = [0] }",
        ),
        _ => (
            "bert-embeds",
            "{ type = \"encoder\", from = \"bert-embeds\" }",
            "{ type = \"encoder\", from = \"bert-embeds\", layers = [0] }",
        ),
    };
    let trained = Cell { teacher: "trained", ..cell }.run();
    let teacher = match (teacher, folder) {
        ("trained", _) => format!("model = {model}"),
        ("folder", "") => format!("folder = \"{trained}/teacher\""),
        ("folder", folder) => format!("folder = \"{folder}\""),
        _ => format!("logits = \"{trained}.safetensors\""),
    };
    format!(
        "task = \"{task}\"\ndevice = \"cpu\"\n[data]\n{data}\n[teacher]\n{teacher}\n[student]\nmodel = {student}\n\
         [train]\nepochs = 1\nbatch = 8\noptimizer = {{ name = \"sgd\", lr = 0.01 }}\n"
    )
}

/// What is wrong with how a combination ended.
fn problem(home: &Home, cell: Cell) -> Option<String> {
    let mut command = home.command(&cell.command());
    // No GPU is looked for: what one is like changes nothing here.
    command.env("VK_DRIVER_FILES", home.path("none")).env("VK_ICD_FILENAMES", home.path("none"));
    let output = command.output().unwrap();
    let (code, err) = (output.status.code(), String::from_utf8_lossy(&output.stderr));
    let err = err.trim_end();
    // The value of a --set is an argument.
    let wanted = if err.starts_with("error: --set ") { 2 } else { 1 };
    let one_line = err.starts_with("error: ") && !err.contains('\n');
    let fault = match cell.refused() {
        _ if err.contains("panicked") => "it panicked",
        None if code == Some(0) => return None,
        None => "it should run",
        Some(_) if code != Some(wanted) => "it should be refused with code 1, or 2 for a --set",
        Some(_) if !one_line => "it should be refused in one line",
        Some(words) if !err.contains(words) => "it should be refused in other words",
        Some(_) if err.contains("supported") => "the message says what is not, not what to do",
        Some(_) => return None,
    };
    Some(format!("{cell}: {fault}; {} ended with {:?}: {err}", cell.command(), code))
}

#[test]
fn every_combination_runs_or_is_refused_with_a_way_out() {
    let home = home();
    let mut groups = Vec::new();
    for task in TASKS {
        for source in NUMBERS.into_iter().chain(TEXTS).chain(WORDS).chain(QUESTIONS) {
            groups.push((task, source));
        }
    }
    let (next, ran, refused) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let problems: Mutex<Vec<String>> = Mutex::default();
    let work = || {
        while let Some(&(task, source)) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
            for teacher in TEACHERS {
                for option in OPTIONS {
                    let cell = Cell { task, source, teacher, option };
                    if option == "none" {
                        home.write(&cell.recipe(), recipe(cell));
                    }
                    if cell.is_moot() {
                        continue;
                    }
                    match problem(&home, cell) {
                        Some(problem) => problems.lock().unwrap().push(problem),
                        None if cell.refused().is_some() => {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        None => {
                            ran.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    // What the teacher of the next recipes is read from.
                    if teacher == "trained" && option == "none" && cell.refused().is_none() {
                        let (run, recipe) = (cell.run(), cell.recipe());
                        let has_logits =
                            ["classification", "regression", "multi-label"].contains(&task);
                        if has_logits && home.path(&run).join("teacher/config.json").is_file() {
                            home.done(&format!(
                                "logits {run}/teacher --input {recipe} --out {run}.safetensors --device cpu -q"
                            ));
                        }
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(work))));
    let problems = problems.into_inner().unwrap();
    println!("{} ran, {} refused", ran.into_inner(), refused.into_inner());
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}
