//! Reports and pages made from points written by hand.

use std::collections::BTreeSet;

use distil_gpu_engine::results::{
    ArmReport, FailedRun, PERPLEXITY, SWEEP, Setting, Spread, SweepPoint, SweepReport, SweepRun,
    UNKNOWN,
};
use distil_gpu_engine::task::TaskRef;

use super::{HOSTILE, arm, charts, ids};
use crate::{heat, sweep_page};

/// A point for every combination; students of index `i` make `i % 3` errors of 6, alone 2.
fn report(axes: &[(&str, &[&str])], seeds: u32) -> SweepReport {
    let combinations =
        axes.iter().fold(vec![Vec::new()], |all: Vec<Vec<Setting>>, (key, values)| {
            let with = |one: &Vec<Setting>, value: &str| {
                let setting = Setting { key: (*key).to_owned(), value: value.to_owned() };
                one.iter().cloned().chain([setting]).collect()
            };
            all.iter().flat_map(|one| values.iter().map(move |value| with(one, value))).collect()
        });
    let point = |(index, settings): (usize, Vec<Setting>)| {
        let run = |seed: u32| SweepRun {
            seed,
            folder: format!("students/{index}"),
            model: "the same".to_owned(),
            agreement: None,
            distilled: arm(&[(index + seed as usize) % 3, 0], 100),
            control: arm(&[1, 1], 100),
        };
        SweepPoint { settings, runs: (0..seeds).map(run).collect(), failed: Vec::new() }
    };
    let strings = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
    SweepReport {
        name: "grid".to_owned(),
        task: TaskRef::default(),
        axes: axes.iter().map(|(key, values)| ((*key).to_owned(), strings(values))).collect(),
        seeds,
        teacher: Some(arm(&[0, 1], 1000)),
        majority: Some(0.5),
        points: combinations.into_iter().enumerate().map(point).collect(),
        device: "a device".to_owned(),
        backend: "none".to_owned(),
        version: "1.0".to_owned(),
        seconds: 1.5,
        warnings: Vec::new(),
    }
}

/// The maps of one section, each as its rows of text.
fn maps(page: &str, section: &str) -> Vec<Vec<String>> {
    let (_, rest) = page.split_once(&format!(r#"<section id="{section}">"#)).unwrap();
    let (section, _) = rest.split_once("</section>").unwrap();
    let strip = |row: &str| {
        let mut inside = false;
        let text = row.chars().map(|letter| match letter {
            '<' => {
                inside = true;
                ' '
            }
            '>' => {
                inside = false;
                ' '
            }
            _ if inside => ' ',
            letter => letter,
        });
        text.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let section = section.replace("<wbr>", "");
    let tables = section.split("<table").skip(1);
    let bodies = tables.map(|table| table.split("</table>").next().unwrap());
    bodies.map(|map| map.split("<tr>").skip(1).map(strip).collect()).collect()
}

#[test]
fn spread_is_that_of_a_sample() {
    let spread = Spread::of(&[4.0, 1.0, 2.0]);
    assert!((spread.mean - 7.0 / 3.0).abs() < 1e-12);
    assert!((spread.deviation.unwrap() - 1.527_525_231_651_947).abs() < 1e-12);
    assert_eq!(spread.median, 2.0);
    assert_eq!(Spread::of(&[3.0, 1.0, 2.0, 6.0]).median, 2.5);
    assert_eq!(Spread::of(&[3.0]), Spread { mean: 3.0, median: 3.0, deviation: None });
}

#[test]
fn the_front_is_what_nothing_beats() {
    let mut report = report(&[("student.size", &["a", "b", "c", "d"])], 1);
    let merits = [(0, 100), (1, 100), (1, 50), (2, 50)];
    for (point, (errors, parameters)) in report.points.iter_mut().zip(merits) {
        point.runs[0].distilled = arm(&[errors], parameters);
        point.runs[0].model = parameters.to_string();
    }
    assert_eq!(report.front(), BTreeSet::from([0, 2]));
    // Models alike are equally fast, however they were measured.
    report.points[1].runs[0].distilled.latency_ms = Some(1e-9);
    assert_eq!(report.latency_ms(&report.points[0]), report.latency_ms(&report.points[1]));
    assert_eq!(report.front(), BTreeSet::from([0, 2]));
}

#[test]
fn a_page_has_every_part() {
    let report =
        report(&[("distil.temperature", &["1", "4"]), ("distil.alpha", &["0.1", "0.5", "0.9"])], 2);
    let page = sweep_page(&report);
    assert_eq!(ids(&charts(&page)), ["parameters", "latency"]);
    for part in ["axes", "accuracy", "gain", "tradeoff", "points", "facts"] {
        assert!(page.contains(&format!(r#"<section id="{part}">"#)), "{part}");
    }
    // Errors by index and seed: 0 1, 1 2, 2 0, and again.
    let rows = ["91.67 ± 11.79", "75.00 ± 11.79", "83.33 ± 23.57"].join(" ");
    let wanted = [
        "distil.alpha".to_owned(),
        "distil.temperature 0.1 0.5 0.9".to_owned(),
        format!("1 {rows}"),
        format!("4 {rows}"),
    ];
    assert_eq!(maps(&page, "accuracy"), [wanted]);
    assert_eq!(maps(&page, "gain")[0][2], "1 +25.00 ± 11.79 +8.33 ± 11.79 +16.67 ± 23.57");
    assert!(page.contains(
        "student distilled: 75.00 ± 11.79 %\nstudent alone: 66.67 ± 0.00 %\ngain: 8.33 ± 11.79 %"
    ));
    assert!(page.contains("The teacher: 83.33 % accuracy, 1,000 parameters, 0.100 ms an example."));
    assert!(page.contains(&report.sentence()));
    assert_eq!(page.matches("★</span>").count(), report.front().len());
    assert_eq!(page, sweep_page(&report), "the same report, the same page");
}

#[test]
fn one_axis_is_a_row_and_a_third_has_maps_of_its_own() {
    let one = sweep_page(&report(&[("distil.temperature", &["1", "4", "8"])], 1));
    assert_eq!(
        maps(&one, "accuracy"),
        [["distil.temperature", "1 4 8", "accuracy 100.00 83.33 66.67"]]
    );
    assert_eq!(maps(&one, "gain")[0][2], "gain +33.33 +16.67 +0.00");

    let axes: [(&str, &[&str]); 3] = [
        ("distil.temperature", &["1", "4"]),
        ("distil.alpha", &["0.1", "0.9"]),
        ("train.epochs", &["2", "3"]),
    ];
    let three = sweep_page(&report(&axes, 1));
    let [first, second] = &maps(&three, "accuracy")[..] else { panic!("two maps") };
    // Epochs are the fastest: errors 0 2 of the first map's first row, 1 0 of the second's.
    assert_eq!(first[2..], ["1 100.00 66.67", "4 83.33 100.00"]);
    assert_eq!(second[2..], ["1 83.33 100.00", "4 66.67 83.33"]);
    assert!(three.contains("<h3><code>train.epochs = 3</code></h3>"));

    let many: Vec<String> = (0..20).map(|value| value.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let page = sweep_page(&report(&[axes[0], axes[1], ("train.epochs", &many)], 1));
    assert_eq!(maps(&page, "accuracy").len(), 12);
    assert!(page.contains("Shown are the first 12 of 20 maps"));
}

#[test]
fn seeds_alone_may_vary() {
    let report = report(&[], 3);
    let page = sweep_page(&report);
    assert!(page.contains("<code>seed</code></dt><dd><code>0</code><code>1</code><code>2</code>"));
    assert!(!page.contains("class=\"matrix heat\""), "there is nothing to lay out in a map");
    assert_eq!(report.rows().len(), 1);
    assert!(report.sentence().starts_with("Distilled 83.33 ± 16.67 %, 66.67"));
}

#[test]
fn language_models_go_by_perplexity() {
    let mut report = report(&[("distil.temperature", &["1", "4", "8"])], 2);
    report.task = TaskRef::named("masked-lm").unwrap();
    let add = |arm: &mut ArmReport, perplexity: f64| {
        arm.scores = arm.scores.clone().with(PERPLEXITY, perplexity);
    };
    for (point, perplexity) in report.points.iter_mut().zip([9.0, 5.0, 7.0]) {
        for (run, more) in point.runs.iter_mut().zip([0.0, 1.0]) {
            add(&mut run.distilled, perplexity + more);
            add(&mut run.control, 12.0);
        }
    }
    add(report.teacher.as_mut().unwrap(), 4.0);
    // The first is the most accurate.
    assert_eq!(report.best(), Some(&report.points[1]));
    let best = "Best: distil.temperature = 4 with a perplexity of 5.50 ± 0.71, 12.00 ± 0.00 alone; \
                the teacher has 4.00.";
    assert_eq!(report.sentence(), best);
    let columns = report.columns();
    assert_eq!(columns[..4], ["temperature", "perplexity", "student alone", "accuracy"]);
    let rows = report.rows();
    assert!(rows.iter().all(|row| row.cells.len() == columns.len()));
    assert_eq!(rows[2].cells[..3], ["8", "7.50 ± 0.71", "12.00 ± 0.00"]);
    let page = sweep_page(&report);
    let map = &maps(&page, "perplexity")[0];
    assert_eq!(map[2], "perplexity 9.50 ± 0.71 5.50 ± 0.71 7.50 ± 0.71");
    let heats = heat::Heat::all(&report);
    let cells = &heats[0].maps[0].rows[0].1;
    assert_eq!([0, 1, 2].map(|at| cells[at].shade), [0.0, 1.0, 0.5]);
    assert!(cells[1].classes.contains("best"));
    // One that failed has none.
    let runs = std::mem::take(&mut report.points[0].runs);
    let failed = |run: SweepRun| FailedRun {
        seed: run.seed,
        folder: run.folder,
        reason: "it diverged".to_owned(),
    };
    report.points[0].failed = runs.into_iter().map(failed).collect();
    assert_eq!(report.rows()[0].cells[1..4], [UNKNOWN, UNKNOWN, "failed"]);
    assert!(sweep_page(&report).contains("it diverged"));
}

#[test]
fn losses_have_their_own_colour() {
    let mut report = report(&[("distil.alpha", &["0.1", "0.9"])], 1);
    report.points[0].runs[0].distilled = arm(&[4], 100);
    report.points[1].runs[0].distilled = arm(&[1], 100);
    let [_, gain] = &heat::Heat::all(&report)[..] else { panic!("two measures") };
    let cells = &gain.maps[0].rows[0].1;
    assert_eq!(
        (&*cells[0].value, &*cells[0].classes, cells[0].shade),
        ("-33.33", "strong loss", 1.0)
    );
    assert_eq!((&*cells[1].value, &*cells[1].classes), ("+16.67", "best"));
    assert!((cells[1].shade - 0.5).abs() < 1e-9);
}

#[test]
fn keys_and_values_stay_text() {
    let mut hostile =
        report(&[(HOSTILE, &[HOSTILE, "\"x\""]), ("b", &["1", HOSTILE]), ("c", &[HOSTILE])], 2);
    hostile.name = HOSTILE.to_owned();
    hostile.device = HOSTILE.to_owned();
    let page = sweep_page(&hostile);
    assert!(page.contains("&#60;/script&#62;&#60;script&#62;alert("), "the key is not shown");
    assert!(!page.contains("<script>alert") && !page.contains("<img src=x"));
    assert!(!page.contains("title=\"\"x\""));
    // One for the data, two for the code.
    assert_eq!(page.matches("</script>").count(), 3);
    let name = charts(&page)[0]["series"][0]["names"][0].as_str().unwrap().to_owned();
    assert!(name.starts_with(&format!("{HOSTILE} = {HOSTILE}\n")), "{name}");
}

#[test]
fn a_damaged_report_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let problem = |content: Option<&SweepReport>| {
        if let Some(content) = content {
            let json = serde_json::to_string(content).unwrap();
            std::fs::write(folder.path().join(SWEEP), json).unwrap();
        }
        SweepReport::read(folder.path()).map_err(|error| error.to_string())
    };
    assert!(problem(None).unwrap_err().contains("not the folder of a sweep"));
    let whole = report(&[("a", &["1", "2"]), ("b", &["3", "4"])], 1);
    assert_eq!(problem(Some(&whole)).unwrap(), whole);
    let mut short = whole.clone();
    short.points.pop();
    assert!(problem(Some(&short)).unwrap_err().contains("not all combinations"));
    let mut empty = whole;
    empty.points[1].runs.clear();
    assert!(problem(Some(&empty)).unwrap_err().contains("not all combinations"));
}

#[test]
fn students_that_failed_are_shown_and_chosen_nowhere() {
    let mut report = report(&[("train.lr", &["1", "2", "3"])], 2);
    // Those of the script.
    let numbers = |page: &str| page.matches("NaN").count();
    let sound = numbers(&sweep_page(&report));
    let fail = |point: &mut SweepPoint| {
        let SweepRun { seed, folder, .. } = point.runs.pop().unwrap();
        let reason = format!("{HOSTILE} diverged");
        point.failed.push(FailedRun { seed, folder, reason });
    };
    fail(&mut report.points[0]);
    report.points[1].runs.iter_mut().for_each(|run| run.distilled = arm(&[0], 100));
    fail(&mut report.points[1]);
    fail(&mut report.points[1]);
    let rows = report.rows();
    assert_eq!(rows[0].cells[1], "100.00 %, 1 of 2 failed");
    assert_eq!(rows[1].cells[1..4], ["failed", UNKNOWN, UNKNOWN]);
    assert!(!rows[1].front && rows[0].front);
    assert_eq!(report.best().unwrap().name(), "train.lr = 1");
    let failures: Vec<String> = report.failures().into_iter().map(|(student, _)| student).collect();
    assert_eq!(failures, ["train.lr = 1, seed 1", "train.lr = 2, seed 1", "train.lr = 2, seed 0"]);
    let page = sweep_page(&report);
    assert!(numbers(&page) == sound && !page.contains(HOSTILE));
    assert_eq!(page.matches("diverged").count(), 3 + 2 * 2);
    assert!(maps(&page, "accuracy")[0].iter().any(|row| row.contains("failed")));
    report.points.iter_mut().for_each(|point| {
        while !point.runs.is_empty() {
            fail(point)
        }
    });
    assert_eq!(report.sentence(), "No student came to anything.");
    assert_eq!(numbers(&sweep_page(&report)), sound);
}

#[test]
fn a_teacher_with_nothing_to_pass_on_is_said() {
    let mut report = report(&[("distil.temperature", &["1", "4", "8"])], 1);
    report.judge();
    assert_eq!((report.warnings.len(), report.teacher_is_useful()), (0, true));
    // Alone they make 2 errors of 6, and the teacher as many.
    report.teacher = Some(arm(&[1, 1], 1000));
    report.points[1].runs[0].control = arm(&[1, 2], 100);
    report.judge();
    assert!(report.warnings[0].contains("no better than the student alone in 2 of 3 combinations"));
    assert!(report.sentence().ends_with("But the teacher is no better than the student alone."));
    report.teacher = Some(arm(&[2, 2], 1000));
    report.warnings.clear();
    report.judge();
    assert_eq!(report.warnings.len(), 2);
    assert!(report.sentence().contains("than always giving the most frequent answer"));
    let page = sweep_page(&report);
    assert!(page.contains(&report.warnings[1]) && !page.contains("of the teacher's accuracy kept"));
    report.points.iter_mut().for_each(|point| point.runs[0].control = arm(&[3, 3], 100));
    report.warnings.clear();
    report.judge();
    assert_eq!(report.warnings.len(), 1, "better than students alone that get nothing right");
}
