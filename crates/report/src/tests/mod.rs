//! Pages made from records written by hand.

use serde_json::{Value, json};

mod sweep;
mod verdict;

use super::knowledge::{Matrix, Shown};
use super::*;
use distil_gpu_engine::data::{Dataset, Features, Numbers};
use distil_gpu_engine::results::{
    ACCURACY, Answers, Arm, ArmReport, Arms, ClassReport, ERRORS, Examples, Exports, Figures,
    Guess, GuessedText, Guesses, Outcome, Record, Report, Row, Scores, TestLogits, UNKNOWN, Way,
};
use distil_gpu_engine::task::TaskRef;

/// What a page must never run.
pub(super) const HOSTILE: &str =
    "</script><script>alert('&amp;')</script><img src=x onerror=\"alert(1)\">";

/// The scores of so many errors in so many examples.
pub(super) fn scores(errors: usize, of: usize) -> Scores {
    let accuracy = (of - errors) as f64 / of as f64;
    Scores::default().with(ACCURACY, accuracy).with(ERRORS, errors as f64)
}

pub(super) fn arm(errors: &[usize], parameters: usize) -> ArmReport {
    let all: usize = errors.iter().sum();
    ArmReport {
        scores: scores(all, 6),
        errors_per_class: errors.to_vec(),
        parameters: Some(parameters),
        bytes: Some(4 * parameters as u64),
        latency_ms: Some(parameters as f64 / 1e4),
        examples_per_second: Some(1e6),
        steps: Some(2),
        ..ArmReport::default()
    }
}

/// A model that was exported, its names beginning with `name`.
fn exports(name: &str) -> Exports {
    let figures = Figures {
        runtime: format!("{name} 1.0"),
        examples: None,
        score: Some(0.5),
        agreement: Some(0.875),
        furthest: Some(0.0015),
        latency_ms: 1.5,
        examples_per_second: 4.25,
    };
    let reason = format!("no {name}");
    let outcomes = [Outcome::Measured(figures), Outcome::NotMeasured(reason)];
    let way = |outcome| Way { name: name.to_owned(), bytes: 2_500_000, outcome };
    Exports {
        arm: Arm::Control,
        task: TaskRef::default(),
        examples: 1200,
        ways: outcomes.map(way).into(),
    }
}

/// Six test pictures of three classes, the classes' names and the run's beginning with `name`.
pub(super) fn record(name: &str, teacher: bool) -> Record {
    let pictures = Numbers::new(Features::U8((0..24).collect()), vec![1, 2, 2]).unwrap();
    let names = (0..3).map(|class| format!("{name}{class}")).collect();
    let test = Dataset::new(pictures, vec![0, 0, 1, 1, 2, 2], names).unwrap();
    let logits: Vec<f32> = (0..18).map(|i| (i * 7 % 5) as f32).collect();
    let reversed: Vec<f32> = logits.iter().rev().copied().collect();
    let logits = TestLogits {
        teacher: teacher.then_some(&logits[..]),
        control: &reversed,
        distilled: &logits,
    };
    let arms = Arms {
        teacher: teacher.then(|| arm(&[0, 1, 0], 1000)),
        control: arm(&[2, 1, 1], 100),
        distilled: arm(&[1, 1, 0], 100),
    };
    let metrics = json!({ "loss": 0.5, "hard": 0.5, "accuracy": 0.5 });
    let epoch = |arm: &str, epoch: u32| json!({ "arm": arm, "epoch": epoch, "step": epoch, "train": metrics, "test": metrics });
    let arms_trained = ["teacher", "control", "distilled"].into_iter().skip(usize::from(!teacher));
    let epochs = arms_trained.flat_map(|arm| [1, 2].map(|number| epoch(arm, number)));
    let mut record = Record {
        report: Report {
            name: name.to_owned(),
            task: TaskRef::default(),
            arms,
            retained: None,
            gap_closed: None,
            majority: Some(1.0 / 3.0),
            agreement: teacher.then_some(0.5),
            target: None,
            examples: Examples {
                teacher: 9,
                students: 9,
                unlabelled: None,
                test: 6,
                validation: None,
                masked: None,
            },
            seed: 0,
            device: format!("{name} device"),
            backend: "none".to_owned(),
            version: "1.0".to_owned(),
            seconds: 1.0,
            classes: ClassReport::all(&test),
            warnings: Vec::new(),
            before: None,
            influence: None,
        },
        epochs: epochs.map(|epoch| serde_json::from_value(epoch).unwrap()).collect(),
        answers: Some(Answers::collect(test.examples(), test.need_classes().unwrap(), 4.0, logits)),
        guesses: None,
        texts: None,
        exports: Some(exports(name)),
        recipe: format!("# {name}\nname = \"a\"\nseed = 1\n[train]\nepochs = 2\n"),
    };
    record.report.judge();
    record
}

/// The data that a page hands to its script.
pub(super) fn charts(page: &str) -> Value {
    let (_, rest) = page.split_once(r#"<script id="charts" type="application/json">"#).unwrap();
    let (data, _) = rest.split_once("</script>").unwrap();
    serde_json::from_str(data).unwrap()
}

pub(super) fn ids(charts: &Value) -> Vec<&str> {
    charts.as_array().unwrap().iter().map(|chart| chart["id"].as_str().unwrap()).collect()
}

#[test]
fn a_page_has_every_part() {
    let page = single(&record("run ", true));
    let all = ["accuracy", "test-loss", "train-loss", "parameters", "latency", "per-class"];
    assert_eq!(ids(&charts(&page)), all);
    for id in all {
        assert!(page.contains(&format!(r#"<canvas id="{id}" role="img" aria-label=""#)), "{id}");
    }
    for part in ["arms", "curves", "tradeoff", "answers", "similarity", "errors", "recipe"] {
        assert!(page.contains(&format!(r#"<section id="{part}">"#)), "{part}");
    }
    assert!(page.contains("data:image/png;base64,"));
    assert!(page.contains("[train]\nepochs = 2\n"));
    assert!(page.contains("run  device"));
    assert_eq!(page, single(&record("run ", true)), "the same folder, the same page");
    assert!(page.len() < 500_000, "{}", page.len());
}

#[test]
fn names_stay_text() {
    let hostile = record(HOSTILE, true);
    let other = record("other", true);
    let pages = [
        single(&hostile),
        compare(&[(HOSTILE.to_owned(), hostile.clone()), ("other".to_owned(), other)]),
    ];
    for page in pages {
        assert!(page.contains("&#60;/script&#62;&#60;script&#62;alert("), "the name is not shown");
        assert!(!page.contains("<script>alert"));
        assert!(!page.contains("<img src=x"));
        // One for the data, two for the code.
        assert_eq!(page.matches("</script>").count(), 3);
    }
    // The names pass unharmed through the script's data.
    let data = charts(&single(&hostile));
    assert_eq!(data[5]["labels"][1], format!("{HOSTILE}1"));
}

#[test]
fn without_a_teacher_its_parts_are_left_out() {
    let page = single(&record("run ", false));
    assert!(page.contains(r#"<section id="answers">"#));
    assert!(!page.contains(r#"<section id="similarity">"#));
    assert!(!page.contains(r#"class="softened""#));
    let data = charts(&page);
    let arms = |chart: &Value| -> Vec<Value> {
        chart["series"].as_array().unwrap().iter().map(|series| series["arm"].clone()).collect()
    };
    for chart in data.as_array().unwrap() {
        assert_eq!(arms(chart), ["control", "distilled"]);
    }
}

#[test]
fn a_run_without_answers_has_a_page() {
    let page = single(&Record { answers: None, ..record("run ", true) });
    assert!(!page.contains(r#"<section id="answers">"#));
    // Classes then go by number.
    assert_eq!(charts(&page)[5]["labels"], json!(["0", "1", "2"]));
    assert_eq!(charts(&page)[5]["totals"], json!([]));
}

#[test]
fn guessed_tokens_are_counted_instead_of_examples() {
    let mut run = record("run ", true);
    run.answers = None;
    run.report.examples.masked = Some(1234);
    run.report.task = TaskRef::named("masked-lm").unwrap();
    let Arms { teacher, control, distilled } = &mut run.report.arms;
    for arm in teacher.iter_mut().chain([control, distilled]) {
        arm.errors_per_class.clear();
        arm.scores =
            arm.scores.clone().with("cross_entropy", 1.5).with("perplexity", 1.5_f64.exp());
    }
    let page = single(&run);
    for wanted in ["errors of 1,234 masked tokens", "perplexity", "4.48"] {
        assert!(page.contains(wanted), "{wanted}");
    }
    assert!(!ids(&charts(&page)).contains(&"per-class"));
}

#[test]
fn unequal_classes_have_their_recall_in_the_table() {
    let mut report = record("c", true).report;
    let recalls = |report: &Report| -> Vec<Row> {
        report.rows().into_iter().filter(|row| row.name.starts_with("recall")).collect()
    };
    assert!(recalls(&report).is_empty(), "two of each");
    report.classes[1].test = 4;
    let cells = recalls(&report).into_iter().map(|row| (row.name, row.cells)).collect::<Vec<_>>();
    let row = |name: &str, cells: [&str; 3]| (name.to_owned(), cells.map(str::to_owned));
    let wanted = [
        row("recall of c0, 2 examples", ["100.0 %", "0.0 %", "50.0 %"]),
        row("recall of c1, 4 examples", ["75.0 %", "75.0 %", "75.0 %"]),
        row("recall of c2, 2 examples", ["100.0 %", "50.0 %", "100.0 %"]),
    ];
    assert_eq!(cells, wanted);
    // Of many, the rarest alone.
    let class = |number: usize| ClassReport { name: number.to_string(), test: 100 - number };
    report.classes = (0..60).map(class).collect();
    let names: Vec<String> = recalls(&report).into_iter().map(|row| row.name).collect();
    assert_eq!(names.len(), 10);
    assert_eq!(
        (&*names[0], &*names[9]),
        ("recall of 50, 50 examples", "recall of 59, 41 examples")
    );
}

#[test]
fn runs_are_overlaid_and_their_recipes_compared() {
    let (first, mut second) = (record("a", true), record("b", false));
    second.recipe = "name = \"b\"\nseed = 1\n[train]\nepochs = 3\nclip = 1.0\n".to_owned();
    let page = compare(&[("a".to_owned(), first), ("b".to_owned(), second)]);
    let data = charts(&page);
    assert_eq!(ids(&data), ["accuracy", "test-loss", "parameters", "latency"]);
    let labels = |chart: &Value| -> Vec<String> {
        let series = chart["series"].as_array().unwrap().iter();
        series.map(|series| series["label"].as_str().unwrap().to_owned()).collect()
    };
    let students = ["a, student alone", "a, student distilled", "b, student alone"];
    assert_eq!(labels(&data[0])[..3], students);
    assert_eq!(labels(&data[2]).len(), 5);
    let row = |key: &str, values: [&str; 2]| {
        let [first, second] = values.map(|value| format!("<td>{value}</td>"));
        page.contains(&format!("<tr><th scope=\"row\"><code>{key}</code></th>{first}{second}</tr>"))
    };
    assert!(row("train.epochs", ["2", "3"]));
    assert!(row("train.clip", [UNKNOWN, "1.0"]));
    assert!(!page.contains("<code>seed</code>") && !page.contains("<code>name</code>"));
}

#[test]
fn the_matrix_is_shaded_beside_its_diagonal() {
    let mut answers = record("c", true).answers.unwrap();
    let similarity = answers.similarity.as_mut().unwrap();
    similarity.rows = vec![vec![0.8, 0.2, 0.0], vec![0.12, 0.7, 0.05], vec![0.0, 0.1, 0.9]];
    let matrix = Matrix::of(&answers).unwrap();
    let shades: Vec<Vec<f64>> = matrix
        .rows
        .iter()
        .map(|(_, cells)| cells.iter().map(|cell| cell.shade).collect())
        .collect();
    assert_eq!(shades[0], [0.0, 1.0, 0.0]);
    assert_eq!(shades[2], [0.0, 0.5, 0.0]);
    let tones: Vec<&str> = matrix.rows[1].1.iter().map(|cell| cell.tone).collect();
    assert_eq!((tones, matrix.rows[0].1[1].tone), (vec!["mid", "", ""], "strong"));
    assert_eq!((matrix.largest.as_str(), matrix.names), ("20.0", vec!["c0", "c1", "c2"]));
}

#[test]
fn first_choices_are_marked() {
    let answers = record("c", true).answers.unwrap();
    for group in Shown::all(&answers) {
        for card in &group.examples {
            for column in 0..4 {
                let firsts = card.lines.iter().filter(|line| line.cells[column].first);
                assert!(firsts.count() >= 1, "{}", card.example.index);
            }
            assert_eq!(card.lines.iter().filter(|line| line.own).count(), 1);
        }
    }
}

#[test]
fn guesses_of_masked_words_are_shown() {
    let guess =
        |token: &str, right, probability| Guess { token: token.to_owned(), right, probability };
    let text = GuessedText {
        index: 7,
        before: "…the".to_owned(),
        after: format!("{HOSTILE} sat"),
        token: "cat".to_owned(),
        teacher: vec![guess("cat", true, 0.5), guess(HOSTILE, false, 0.25)],
        control: vec![guess("dog", false, 0.125)],
        distilled: vec![guess("dog", false, 0.1), guess("cat", true, 0.0625)],
    };
    let none = single(&record("run ", true));
    assert!(!none.contains(r#"<section id="guesses">"#));
    let guesses = Some(Guesses { texts: vec![text] });
    let page = single(&Record { answers: None, guesses, ..record("run ", true) });
    for part in [
        r#"<blockquote>…the <mark>cat</mark> "#,
        r#"<td class="teacher first" style="--share: 0.5" title="cat">cat 50.0</td>"#,
        r#"<td class="control" style="--share: 0.125" title="dog">dog 12.5</td>"#,
        // The student alone has no second guess.
        r#"</td><td></td><td class="distilled first" style="--share: 0.0625""#,
        "text 7",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains(HOSTILE));
}

#[test]
fn ways_out_are_rows() {
    let exports = exports("name");
    let json = serde_json::to_value(&exports).unwrap();
    assert_eq!(
        json["ways"][1],
        json!({ "name": "name", "bytes": 2_500_000, "not_measured": "no name" })
    );
    assert_eq!(serde_json::from_value::<Exports>(json).unwrap(), exports);
    let [measured, not] = &exports.rows()[..] else { panic!("two rows") };
    assert_eq!(
        measured,
        &["name", "name 1.0", "2.50 MB", "50.00 %", "87.5 %", "1.5e-3", "1.500 ms", "4.2"]
    );
    assert_eq!(not[..4], ["name", "not measured: no name", "2.50 MB", UNKNOWN]);
    assert_eq!(exports.head()[3], "accuracy");
    let page = single(&record("run", true));
    for part in ["The student alone, exported.", "same 1,200 test examples", "not measured: no run"]
    {
        assert!(page.contains(part), "{part}");
    }
}
