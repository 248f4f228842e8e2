//! What a run's figures come to: what was kept and gained, and where the teacher makes both meaningless.

use super::{Arms, Report};
use crate::results::{Arm, Measure};
use crate::task::TaskRef;

/// Why there is no gap, where the teacher was measured.
const NO_GAP: &str = "the teacher is no better than the student alone";

/// What there is to say of a teacher that is no better than always giving the most frequent answer. One that makes no
/// mistake is as good as can be.
pub(super) fn constant_teacher(task: TaskRef, score: f64, majority: Option<f64>) -> Option<String> {
    let majority = majority.filter(|&majority| score <= majority && score < 1.0)?;
    let Measure { title, format, .. } = task.score();
    Some(format!(
        "The teacher's {title} ({}) is no better than that of always giving the most frequent answer ({}): it has \
         nothing to pass on. Check that its classes are those of the data, and how it was trained.",
        format.show(score),
        format.show(majority),
    ))
}

/// Adds warnings that are not there yet.
pub(super) fn enter(warnings: &mut Vec<String>, more: impl Iterator<Item = String>) {
    for warning in more {
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
}

impl Report {
    /// Enters what follows from the figures of the arms: [`Report::retained`], [`Report::gap_closed`], and warnings of a
    /// teacher that is no better than always giving the most frequent answer, or than the student alone.
    pub fn judge(&mut self) {
        let Measure { title, format, .. } = self.task.score();
        let [teacher, control, distilled] = Arm::ALL.map(|arm| self.score(arm));
        let (Some(teacher), Some(control), Some(distilled)) = (teacher, control, distilled) else {
            (self.retained, self.gap_closed) = (None, None);
            return;
        };
        let constant = constant_teacher(self.task, teacher, self.majority);
        let kept = constant.is_none() && teacher > 0.0;
        self.retained = kept.then(|| distilled / teacher);
        let gap = teacher - control;
        self.gap_closed = (gap > 0.0).then(|| (distilled - control) / gap);
        let beaten = (gap <= 0.0).then(|| {
            format!(
                "The teacher's {title} ({}) is no better than that of the student alone ({}): there is no gap to \
                 close. A larger teacher, or one trained for longer or on more data, would have more to pass on.",
                format.show(teacher),
                format.show(control),
            )
        });
        enter(&mut self.warnings, constant.into_iter().chain(beaten));
    }

    /// Why no share of the gap can be closed: the teacher is no better than the student alone.
    pub fn no_gap(&self) -> Option<&'static str> {
        self.score(Arm::Teacher).filter(|_| self.gap_closed.is_none()).map(|_| NO_GAP)
    }

    /// Why it is not known what share of the teacher's accuracy was kept, if it is not.
    pub fn not_retained(&self) -> Option<&'static str> {
        match (self.retained, &self.arms.teacher) {
            (Some(_), _) => None,
            (None, None) => Some("the teacher could not be measured"),
            (None, Some(_)) if self.score(Arm::Teacher).is_none() => {
                Some("the test data have no labels")
            }
            (None, Some(_)) => Some("the teacher is no better than a constant answer"),
        }
    }

    /// What happened, in plain words.
    pub fn sentence(&self) -> String {
        let Arms { teacher, distilled, .. } = &self.arms;
        let verdict = self.verdict();
        let Some(teacher) = teacher else {
            return format!("The distilled student {verdict}.");
        };
        let size = match (teacher.parameters, distilled.parameters) {
            (Some(large), Some(small)) if small < large => {
                format!(
                    "has {:.0} % fewer parameters, ",
                    100.0 * (1.0 - small as f64 / large as f64)
                )
            }
            _ => String::new(),
        };
        let kept = self.retained.map_or_else(String::new, |kept| {
            format!("keeps {:.1} % of {}, ", 100.0 * kept, self.kept())
        });
        let speed = match (teacher.latency_ms, distilled.latency_ms) {
            (Some(slow), Some(fast)) if slow > fast => {
                format!("answers {:.1} times as fast, ", slow / fast)
            }
            _ => String::new(),
        };
        let doubt = match (self.not_retained(), self.no_gap()) {
            (Some(_), _) => {
                " But the teacher is no better than always giving the most frequent answer."
            }
            (None, Some(_)) => " But the teacher is no better than the student alone.",
            (None, None) => "",
        };
        format!("The distilled student {size}{kept}{speed}and {verdict}.{doubt}")
    }

    /// What it is that a student keeps of its teacher.
    pub fn kept(&self) -> String {
        self.task.kept()
    }

    /// The score of an arm by which the arms are compared, if it was measured.
    pub fn score(&self, arm: Arm) -> Option<f64> {
        self.task.score().of(&self.arm(arm)?.scores)
    }

    /// What distillation gained.
    fn verdict(&self) -> String {
        self.task.verdict(self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{arm, record, scores};
    use super::super::{ArmReport, compare, single};
    use super::*;

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
        let gap =
            |teacher, control, distilled| report(Some(teacher), control, distilled).gap_closed;
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
        let said =
            "is no better than that of the student alone (99.21 %): there is no gap to close";
        assert!(run.warnings.len() == 1 && run.warnings[0].contains(said), "{:?}", run.warnings);
        let sentence = run.sentence();
        assert!(
            sentence.ends_with("hurt here. But the teacher is no better than the student alone.")
        );
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
        let tile =
            "of the gap to the teacher closed: the teacher is no better than the student alone";
        assert!(single(&record).contains(tile));
    }

    #[test]
    fn nothing_is_kept_of_a_teacher_that_learnt_nothing() {
        let mut run = report(Some(9_000), 9_100, 9_050);
        assert_eq!(
            (run.retained, run.gap_closed.map(|gap| (gap * 2.0).round())),
            (None, Some(1.0))
        );
        assert!(run.warnings[0].contains("(10.00 %) is no better than that of always giving"));
        assert!(run.sentence().contains("But the teacher is no better than always giving"));
        run.target = Some(crate::recipe::Target { retain: 0.5 });
        assert!(!run.reaches_target(), "a share of nothing is no success");
        // Worse than the student alone too: both are said.
        assert_eq!(report(Some(9_500), 9_100, 9_050).warnings.len(), 2);
        assert_eq!(report(Some(8_999), 9_100, 9_050).warnings, [""; 0]);
        // Where all test examples are of one class, a teacher without a mistake is no worse for it.
        assert_eq!(constant_teacher(TaskRef::default(), 1.0, Some(1.0)), None);
        assert_eq!(constant_teacher(TaskRef::default(), 0.5, None), None);
    }
}
