//! Every task that has labels of its own kind, on every source that can hold them, with every option: it runs, or is
//! refused with a way out.

use std::fmt::Write as _;

use safetensors::Dtype;

use super::{Home, floats, safetensors};

/// Words that the fixtures' tokenizers know.
const WORDS: [&str; 6] = ["good", "bad", "film", "films", "the", "a"];
const ROWS: usize = 24;

/// The words of a text.
fn words(row: usize) -> Vec<&'static str> {
    (0..3 + row % 4).map(|at| WORDS[(row * 5 + at * at + row / 3) % WORDS.len()]).collect()
}

/// Whether a text has a word.
fn has(row: usize, word: &str) -> bool {
    words(row).contains(&word)
}

/// A task on a source: the keys of `[data]` that are not usual, and whether examples are numbers.
pub const CASES: [(&str, &str, &str, bool); 10] = [
    ("regression", "texts.csv", "label = \"score\"", false),
    ("regression", "texts.csv", "label = [\"score\", \"length\"]", false),
    ("regression", "points.csv", "label = [\"x\", \"y\"]", true),
    ("regression", "points.safetensors", "", true),
    ("multi-label", "labels.jsonl", "label = \"labels\"", false),
    ("multi-label", "flags.csv", "label = [\"is_good\", \"is_bad\"]", false),
    ("token-classification", "words.jsonl", "", false),
    ("token-classification", "words.conll", "", false),
    ("question-answering", "squad.jsonl", "", false),
    ("question-answering", "squad.json", "", false),
];

pub fn home() -> Home {
    let home = Home::new();
    let all = |head: &str, line: &dyn Fn(usize) -> String| {
        (0..ROWS).fold(head.to_owned(), |text, row| text + &line(row) + "\n")
    };
    let score = |row: usize| f64::from(has(row, "good")) - f64::from(has(row, "bad")) / 2.0;
    home.write(
        "texts.csv",
        all("text,score,length\n", &|row| {
            format!("{},{},{}", words(row).join(" "), score(row), words(row).len())
        }),
    );
    let point = |row: usize| [row as f32 * 0.1 - 0.8, (row * row % 7) as f32 * 0.2];
    home.write(
        "points.csv",
        all("a,b,x,y\n", &|row| {
            let [a, b] = point(row);
            format!("{a},{b},{},{}", a - b, a * b)
        }),
    );
    let features: Vec<f32> = (0..ROWS).flat_map(point).collect();
    let sums: Vec<f32> = (0..ROWS).map(|row| point(row).iter().sum()).collect();
    let tensors: [(&str, Dtype, &[usize], &[u8]); 2] = [
        ("features", Dtype::F32, &[ROWS, 2], &floats(&features)),
        ("labels", Dtype::F32, &[ROWS], &floats(&sums)),
    ];
    home.write("points.safetensors", safetensors(&tensors));
    home.write(
        "labels.jsonl",
        all("", &|row| {
            let labels = ["good", "bad"].map(|word| has(row, word).then(|| format!("{word:?}")));
            let labels: Vec<String> = labels.into_iter().flatten().collect();
            format!("{{\"text\": {:?}, \"labels\": [{}]}}", words(row).join(" "), labels.join(", "))
        }),
    );
    home.write(
        "flags.csv",
        all("text,is_good,is_bad\n", &|row| {
            format!("{},{},{}", words(row).join(" "), has(row, "good"), has(row, "bad"))
        }),
    );
    write_words_and_questions(&home);
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        home.write(
            &format!("bert/{file}"),
            std::fs::read(fixtures.join("bert").join(file)).unwrap(),
        );
    }
    home
}

/// Files of words with tags and of questions with answers.
pub fn write_words_and_questions(home: &Home) {
    let all = |line: &dyn Fn(usize) -> String| {
        (0..ROWS).fold(String::new(), |text, row| text + &line(row) + "\n")
    };
    let tag = |word: &str| match word {
        "good" | "bad" => "B-KIND",
        "film" | "films" => "B-THING",
        _ => "O",
    };
    home.write(
        "words.jsonl",
        all(&|row| {
            let tags: Vec<&str> = words(row).into_iter().map(tag).collect();
            format!("{{\"tokens\": {:?}, \"ner_tags\": {tags:?}}}", words(row))
        }),
    );
    home.write(
        "words.conll",
        all(&|row| {
            words(row).into_iter().fold(String::new(), |mut text, word| {
                let _ = writeln!(text, "{word} X {}", tag(word));
                text
            })
        }),
    );
    // Every fifth question has no answer.
    let answers = |row: usize| {
        let context = words(row).join(" ");
        let word = if row.is_multiple_of(5) { "none" } else { words(row)[row % words(row).len()] };
        let found = context.find(word);
        (context, word, found)
    };
    home.write(
        "squad.jsonl",
        all(&|row| {
            let (context, word, found) = answers(row);
            let (text, start) = match found {
                Some(start) => (format!("{word:?}"), start.to_string()),
                None => (String::new(), String::new()),
            };
            format!(
                "{{\"id\": \"{row}\", \"question\": {word:?}, \"context\": {context:?}, \
                 \"answers\": {{\"text\": [{text}], \"answer_start\": [{start}]}}}}"
            )
        }),
    );
    let paragraph = |row: usize| {
        let (context, word, found) = answers(row);
        let answers =
            found.map(|start| format!("{{\"text\": {word:?}, \"answer_start\": {start}}}"));
        format!(
            "{{\"context\": {context:?}, \"qas\": [{{\"id\": \"{row}\", \"question\": {word:?}, \
             \"is_impossible\": {}, \"answers\": [{}]}}]}}",
            answers.is_none(),
            answers.unwrap_or_default()
        )
    };
    let paragraphs: Vec<String> = (0..ROWS).map(paragraph).collect();
    home.write(
        "squad.json",
        format!(
            "{{\"version\": \"v2.0\", \"data\": [{{\"title\": \"films\", \"paragraphs\": [{}]}}]}}",
            paragraphs.join(", ")
        ),
    );
}

pub fn recipe((task, file, keys, numbers): (&str, &str, &str, bool), teacher: &str) -> String {
    let source = match file.rsplit_once('.').unwrap().1 {
        "safetensors" => "safetensors",
        "csv" if numbers => "csv",
        _ => "text",
    };
    let (teacher_model, student) = if numbers {
        ("{ type = \"mlp\", hidden_sizes = [6] }", "{ type = \"mlp\", hidden_sizes = [3] }")
    } else {
        (
            "{ type = \"encoder\", from = \"bert\" }",
            "{ type = \"encoder\", from = \"bert\", layers = [0] }",
        )
    };
    let teacher = match teacher {
        "" => format!("model = {teacher_model}"),
        folder => format!("folder = \"{folder}\""),
    };
    format!(
        "task = \"{task}\"\ndevice = \"cpu\"\n[data]\nsource = \"{source}\"\ntrain = \"{file}\"\ntest = \"{file}\"\n{keys}\n\
         [teacher]\n{teacher}\n[student]\nmodel = {student}\n[distil]\ngradient_shares = true\n\
         [train]\nepochs = 2\nbatch = 8\noptimizer = {{ name = \"adamw\", lr = 0.003 }}\n"
    )
}

#[test]
fn tasks_run_with_every_option_on_every_source() {
    let home = home();
    for (number, case) in CASES.into_iter().enumerate() {
        let (task, file, ..) = case;
        let (run, toml) = (format!("run{number}"), format!("{number}.toml"));
        home.write(&toml, recipe(case, ""));
        home.done(&format!("run {toml} -q --out {run}"));
        let report = home.json(&format!("{run}/report.json"));
        assert_eq!(report["task"], task, "{file}");
        let page = String::from_utf8(home.read(&format!("{run}/report.html"))).unwrap();
        assert!(page.contains("student distilled"), "{task} {file}");
        for arm in ["teacher", "control", "distilled"] {
            let (key, _) = score(task);
            let value = report["arms"][arm][key].as_f64();
            assert!(value.is_some_and(f64::is_finite), "{task} {file} {arm}: {report}");
        }
        // The same again, from the folder that the run left.
        let folder = format!("folder{number}.toml");
        home.write(&folder, recipe(case, &format!("{run}/teacher")));
        home.done(&format!("run {folder} -q --out {run}-folder"));
        let again = home.json(&format!("{run}-folder/report.json"));
        assert_eq!(
            again["arms"]["teacher"][score(task).0],
            report["arms"]["teacher"][score(task).0],
            "{task} {file}"
        );
        for divergence in ["\"reverse-kl\"", "\"jsd\""] {
            let set = format!("--set distil.divergence={divergence}");
            home.done(&format!(
                "run {folder} -q --out {run}-{} {set}",
                divergence.trim_matches('"')
            ));
        }
        home.done(&format!("run {toml} -q --out {run}-share --set data.validation=0.3"));
        home.done(&format!(
            "run {toml} -q --out {run}-best --set data.validation=\"{file}\" --set train.keep=\"best\""
        ));
        home.done(&format!("sweep {toml} -q --out {run}-sweep --set distil.alpha=0.5,0.9"));
        home.done(&format!("plan {toml} -q"));
        home.done(&format!("bench {folder} --device cpu --seconds 0.001 -q"));
        home.done(&format!("run {folder} -q --out {run}-verified --verify"));
        let measured = home.done(&format!("eval {run}/student --data {toml} --device cpu --json"));
        let measured: serde_json::Value = serde_json::from_str(&measured).unwrap();
        let (key, tolerance) = score(task);
        let (found, known) = (&measured[key], &report["arms"]["distilled"][key]);
        let near = (found.as_f64().unwrap() - known.as_f64().unwrap()).abs() <= tolerance;
        assert!(near, "{task} {file}: {found}, not {known}");
    }
}

/// The score by which models of a task are compared, and how far `eval` may be from `run`.
fn score(task: &str) -> (&'static str, f64) {
    match task {
        "regression" => ("pearson", 1e-9),
        "multi-label" => ("micro_f1", 0.0),
        _ => ("f1", 0.0),
    }
}

#[test]
fn what_a_task_cannot_do_is_said() {
    let home = home();
    for (number, words, set) in [
        (0, "\"dkd\" compares the classes of an example", "distil.divergence=\"dkd\""),
        (0, "`standardise` takes the classes of an example", "distil.standardise=true"),
        (0, "`label_smoothing` spreads a label over the classes", "train.label_smoothing=0.1"),
        (
            0,
            "`task = \"regression\"` measures no `accuracy`",
            "train.best_by=\"accuracy\" --set train.keep=\"best\" --set data.validation=0.2",
        ),
        (4, "`distil.omit_classes` is for `task = \"classification\"`", "distil.omit_classes=[1]"),
        (6, "give the `folder` of a model", "teacher={logits=\"a.safetensors\"}"),
        (8, "give the `folder` of a model", "teacher={logits=\"a.safetensors\"}"),
        (8, "`beta` goes with divergence = \"jsd\"", "distil.beta=0.5"),
        (6, "`class_weights` is for the classes of labels", "train.class_weights=\"balanced\""),
    ] {
        home.write("a.toml", recipe(CASES[number], ""));
        home.refused(&format!("run a.toml --out a --set {set}"), &[words]);
    }
    // A classifier is no teacher of another task.
    home.write("b.toml", recipe(CASES[4], "bert"));
    let words = "not made for `task = \"multi-label\"`, but for `classification`";
    home.refused("run b.toml --out b", &[words]);
}
