//! Measures beside those of scipy, scikit-learn, seqeval and torchmetrics, see tools/make_measure_fixtures.py.

use serde_json::Value;

use super::several::average_precision;
use super::spans::choose;
use super::*;
use crate::data::{Question, Questions, Tokens, Windows};

fn fixture(name: &str) -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/measures.json");
    let mut all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    all[name].take()
}

fn doubles(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    doubles(value).into_iter().map(|number| number as f32).collect()
}

#[track_caller]
fn near(found: f64, wanted: &Value) {
    let wanted = wanted.as_f64().unwrap();
    assert!((found - wanted).abs() < 1e-12 * wanted.abs().max(1.0), "{found} is not {wanted}");
}

#[test]
fn numbers_agree_with_scikit_learn_and_scipy() {
    let known = fixture("numbers");
    let (predicted, truth) = (floats(&known["predicted"]), floats(&known["truth"]));
    let fits = Fit::of_each(&predicted, &truth, 2);
    assert_eq!(fits.len(), 2);
    for (column, fit) in fits.iter().enumerate() {
        near(fit.rmse, &known["rmse"][column]);
        near(fit.mae, &known["mae"][column]);
        near(fit.r2.unwrap(), &known["r2"][column]);
        near(fit.pearson.unwrap(), &known["pearson"][column]);
        near(fit.spearman.unwrap(), &known["spearman"][column]);
    }
    let mean = Fit::mean(&fits).unwrap();
    near(mean.rmse, &known["mean_rmse"]);
    near(mean.r2.unwrap(), &known["mean_r2"]);
}

#[test]
fn numbers_that_do_not_vary_have_an_error_alone() {
    let fit = Fit::of(&[1.0, 2.0], &[3.0, 3.0]).unwrap();
    assert_eq!((fit.mae, fit.r2, fit.pearson, fit.spearman), (1.5, None, None, None));
    // The mean, predicted for all, explains nothing.
    assert_eq!(Fit::of(&[2.0, 2.0], &[1.0, 3.0]).unwrap().r2, Some(0.0));
    assert_eq!((Fit::of(&[], &[]), Fit::mean(&[])), (None, None));
    let varied = Fit::of(&[1.0, 2.0], &[1.0, 3.0]).unwrap();
    assert_eq!(Fit::mean(&[fit, varied]).unwrap().r2, varied.r2);
}

#[test]
fn several_labels_agree_with_scikit_learn() {
    let known = fixture("several");
    let found = SeveralLabels::of(&floats(&known["logits"]), &floats(&known["flags"]), 5);
    near(found.micro_f1(), &known["micro_f1"]);
    near(found.macro_f1(), &known["macro_f1"]);
    near(found.subset_accuracy(), &known["subset_accuracy"]);
    let precisions = doubles(&known["average_precision"]);
    assert_eq!((precisions.len(), found.average_precision[4]), (4, None));
    for (found, wanted) in found.average_precision.iter().zip(&precisions) {
        assert!((found.unwrap() - wanted).abs() < 1e-12);
    }
    let mean = precisions.iter().sum::<f64>() / 4.0;
    assert!((found.mean_average_precision().unwrap() - mean).abs() < 1e-12);
}

#[test]
fn a_logit_of_0_says_nothing() {
    let found = SeveralLabels::of(&[0.0, 1e-9], &[1.0, 1.0], 2);
    assert_eq!(found.per_label[0], Counts { truth: 1, predicted: 0, correct: 0 });
    assert_eq!(found.per_label[1], Counts { truth: 1, predicted: 1, correct: 1 });
    let found = average_precision(&[1.0, 1.0, 0.0], &[true, false, true]).unwrap();
    assert!((found - 7.0 / 12.0).abs() < 1e-15);
}

#[test]
fn entities_agree_with_seqeval() {
    for known in fixture("entities").as_array().unwrap() {
        let names: Vec<String> = serde_json::from_value(known["names"].clone()).unwrap();
        let rows =
            |key: &str| -> Vec<Vec<u32>> { serde_json::from_value(known[key].clone()).unwrap() };
        assert!(are_entities(&names), "{names:?}");
        let mut found = EntityCounts::new(&names);
        for (predicted, truth) in rows("predicted").iter().zip(&rows("truth")) {
            found.add(predicted, truth);
        }
        let holds = |counts: Counts, report: &Value| {
            near(counts.precision(), &report["precision"]);
            near(counts.recall(), &report["recall"]);
            near(counts.f1(), &report["f1-score"]);
            near(counts.truth as f64, &report["support"]);
        };
        let report = &known["report"];
        holds(found.total(), &report["micro avg"]);
        near(found.macro_f1(), &report["macro avg"]["f1-score"]);
        near(found.accuracy(), &known["accuracy"]);
        assert_eq!(found.per_type().len(), 3, "{names:?}");
        for (kind, counts) in found.per_type() {
            holds(counts, &report[kind]);
        }
    }
}

#[test]
fn tags_of_entities_are_told_from_others() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (tags, wanted) in [
        (&["O", "B-PER", "I-PER"][..], true),
        (&["O", "B", "I"], true),
        (&["NOUN", "VERB"], false),
        (&["O", "PER"], false),
        (&["O"], false),
        (&["B-", "O"], false),
    ] {
        assert_eq!(are_entities(&names(tags)), wanted, "{tags:?}");
    }
    // Tags without types are of one type, and a whole sentence without entities counts as right.
    let mut found = EntityCounts::new(&names(&["B", "I", "O"]));
    found.add(&[0, 1, 2, 0], &[0, 1, 2, 2]);
    found.add(&[2, 2], &[2, 2]);
    assert_eq!(found.per_type(), [("_", Counts { truth: 1, predicted: 2, correct: 1 })]);
    assert_eq!((found.sentence_accuracy(), found.words()), (0.5, (6, 1)));
}

#[test]
fn answers_agree_with_squads_definition() {
    for known in fixture("answers").as_array().unwrap() {
        let answers: Vec<String> = serde_json::from_value(known["answers"].clone()).unwrap();
        let predicted = known["predicted"].as_str().unwrap();
        let (exact, f1) = answers::score(predicted, &answers);
        near(f64::from(u8::from(exact)), &known["exact"]);
        // torchmetrics computes in f32.
        let wanted = known["f1"].as_f64().unwrap();
        assert!((f1 - wanted).abs() < 1e-6, "{predicted:?}: {f1} is not {wanted}");
    }
}

#[test]
fn questions_without_answers_are_answered_by_nothing() {
    let mut scores = AnswerScores::default();
    scores.add::<&str>("", &[]);
    scores.add::<&str>("something", &[]);
    scores.add("the cat", &["a cat", "dog"]);
    scores.add("black cat", &["cat"]);
    assert_eq!(scores.unanswerable(), Some((0.5, 0.5, 2)));
    assert_eq!(scores.answerable(), Some((0.5, 0.5 * (1.0 + 2.0 / 3.0), 2)));
    assert_eq!((scores.exact(), scores.questions()), (0.5, 4));
    assert!((scores.f1() - (1.0 + 1.0 + 2.0 / 3.0) / 4.0).abs() < 1e-15);
    // An answer of articles alone is none.
    assert_eq!(answers::score("", &["the"]), (true, 1.0));
}

/// A window whose tokens but the first two stand at places of two characters each, from `from` on.
fn window<'a>(
    start: &'a [f32],
    end: &'a [f32],
    places: &'a mut Vec<Option<std::ops::Range<usize>>>,
    from: usize,
) -> SpanLogits<'a> {
    *places = (0..start.len())
        .map(|token| token.checked_sub(2).map(|at| from + 2 * at..from + 2 * at + 2))
        .collect();
    SpanLogits { start, end, places }
}

#[test]
fn the_best_span_of_all_windows_is_chosen() {
    let mut places = [Vec::new(), Vec::new()];
    let [first, second] = &mut places;
    let windows = [
        window(&[1.0, 9.0, 2.0, 5.0, 0.0], &[0.5, 9.0, 4.0, 1.0, 3.0], first, 0),
        window(&[0.5, 9.0, 0.0, 4.0, 1.0], &[0.0, 9.0, 1.0, 2.0, 4.5], second, 10),
    ];
    // 4 + 4.5 of the second; in the first an end before its start, 5 + 4, is none, nor is the question.
    let how = SpanChoice::default();
    let chosen = choose(&windows, how);
    assert_eq!((chosen.place, chosen.score), (Some(12..16), 8.5));
    assert_eq!(chosen.null_difference, 0.5 - 8.5);
    // One token: 5 + 1 and 2 + 4 are the first window's, 4 + 2 and 1 + 4.5 the second's.
    let one = choose(&windows[..1], SpanChoice { max_tokens: 1, ..how });
    assert_eq!((one.place, one.score), (Some(2..4), 6.0));
    // The likeliest two first and last tokens of the second window: 9 and 4, 9 and 4.5.
    let few = choose(&windows[1..], SpanChoice { best: 1, ..how });
    assert_eq!((few.place, few.score), (None, f32::NEG_INFINITY));
    let few = choose(&windows[1..], SpanChoice { best: 2, ..how });
    assert_eq!(few.place, Some(12..16));
}

#[test]
fn no_answer_has_to_be_better_by_the_threshold() {
    let mut places = Vec::new();
    let windows = [window(&[4.0, 0.0, 1.0], &[3.0, 0.0, 5.0], &mut places, 0)];
    let chosen = |threshold| {
        choose(&windows, SpanChoice { null_threshold: Some(threshold), ..SpanChoice::default() })
    };
    assert_eq!((chosen(0.0).place, chosen(0.0).null_difference), (None, 1.0));
    assert_eq!(chosen(1.0).place, Some(0..2));
    assert_eq!(choose(&windows, SpanChoice::default()).place, Some(0..2));
}

#[test]
fn answers_are_parts_of_contexts() {
    let question = |context: &str| Question {
        id: String::new(),
        question: "?".to_owned(),
        context: context.into(),
    };
    let questions = Questions::new(vec![question("ab"), question("Zwölf Äpfel")]).unwrap();
    let mut tokens = Tokens::default();
    for _ in 0..3 {
        tokens.push(&[1, 2, 3], &[0; 3], false);
    }
    let place = |start, end| Some([start, end]);
    let places = [
        None,
        place(0, 5),
        place(6, 11),
        None,
        place(0, 1),
        place(1, 2),
        None,
        place(6, 8),
        place(8, 11),
    ];
    let windows = Windows::new(tokens.into(), vec![1, 0, 1], places.to_vec(), None).unwrap();
    let logits = |window: usize| [vec![0.0, 1.5, window as f32], vec![0.0, 1.0, 1.5]];
    let found = predict(&questions, &windows, logits, SpanChoice::default());
    let found: Vec<_> =
        found.iter().map(|(question, text, chosen)| (*question, *text, chosen.score)).collect();
    assert_eq!(found, [(0, "ab", 3.0), (1, "fel", 3.5)]);
    let never = SpanChoice { null_threshold: Some(-10.0), ..SpanChoice::default() };
    assert_eq!(predict(&questions, &windows, logits, never)[1].1, "");
    assert_eq!(questions.all()[1].part(6..99), "Äpfel");
}
