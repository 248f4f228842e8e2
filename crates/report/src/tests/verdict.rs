//! What is said of a run.

use super::{arm, record, scores};
use crate::{compare, single};
use distil_gpu_engine::results::{ArmReport, Arms, Report};

/// A run whose arms get so many of 10,000 wrong; the most frequent class is a tenth of them.
fn report(teacher: Option<usize>, control: usize, distilled: usize) -> Report {
    let arm = |errors: usize| ArmReport {
        scores: scores(errors, 10_000),
        errors_per_class: vec![errors, 0, 0],
        ..arm(&[0, 0, 0], 100)
    };
    let mut report = record("run ", true).report;
    report.arms =
        Arms { teacher: teacher.map(arm), control: arm(control), distilled: arm(distilled) };
    (report.majority, report.warnings) = (Some(0.1), Vec::new());
    report.judge();
    report
}

#[test]
fn there_is_a_gap_to_close_only_below_a_better_teacher() {
    let gap = |teacher, control, distilled| report(Some(teacher), control, distilled).gap_closed;
    let near = |found: Option<f64>, wanted: f64| (found.unwrap() - wanted).abs() < 1e-9;
    assert!(near(gap(81, 141, 94), 47.0 / 60.0));
    // A student may fall behind or get ahead: that is a share of the gap all the same.
    assert!(near(gap(81, 141, 161), -20.0 / 60.0) && near(gap(81, 141, 71), 70.0 / 60.0));
    // 2.5 of a gap of -2: the smaller the loss, the larger the figure would be.
    assert_eq!([gap(81, 79, 84), gap(80, 80, 70), gap(9_500, 100, 90)], [None; 3]);
    assert_eq!(report(None, 79, 84).gap_closed, None);
}

#[test]
fn a_teacher_worse_than_the_student_alone_is_said() {
    let run = report(Some(81), 79, 84);
    assert!(run.retained.is_some_and(|kept| (kept - 9_916.0 / 9_919.0).abs() < 1e-12));
    let said = "is no better than that of the student alone (99.21 %): there is no gap to close";
    assert!(run.warnings.len() == 1 && run.warnings[0].contains(said), "{:?}", run.warnings);
    let sentence = run.sentence();
    assert!(sentence.ends_with("hurt here. But the teacher is no better than the student alone."));
    assert_eq!(run.rows().iter().find(|row| row.name.contains("gap")).unwrap().cells[2], "–");
    // Judged again, as when its page is made again, nothing is said twice.
    let mut again = run.clone();
    again.judge();
    assert_eq!(again, run);
    let mut record = record("run ", true);
    record.report = run;
    for page in [single(&record), compare(&[("a".to_owned(), record.clone())])] {
        assert!(page.contains(said), "the page does not say so");
    }
    let tile = "of the gap to the teacher closed: the teacher is no better than the student alone";
    assert!(single(&record).contains(tile));
}

#[test]
fn nothing_is_kept_of_a_teacher_that_learnt_nothing() {
    let mut run = report(Some(9_000), 9_100, 9_050);
    assert_eq!((run.retained, run.gap_closed.map(|gap| (gap * 2.0).round())), (None, Some(1.0)));
    assert!(run.warnings[0].contains("(10.00 %) is no better than that of always giving"));
    assert!(run.sentence().contains("But the teacher is no better than always giving"));
    run.target = Some(distil_gpu_engine::recipe::Target { retain: 0.5 });
    assert!(!run.reaches_target(), "a share of nothing is no success");
    // Worse than the student alone too: both are said.
    assert_eq!(report(Some(9_500), 9_100, 9_050).warnings.len(), 2);
    assert_eq!(report(Some(8_999), 9_100, 9_050).warnings, [""; 0]);
}
