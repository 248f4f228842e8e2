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
        let measure @ Measure { title, format, .. } = self.task.score();
        let [teacher, control, distilled] = Arm::ALL.map(|arm| self.score(arm));
        let (Some(teacher), Some(control), Some(distilled)) = (teacher, control, distilled) else {
            (self.retained, self.gap_closed) = (None, None);
            return;
        };
        let constant = constant_teacher(self.task, teacher, self.majority);
        let kept = constant.is_none() && teacher > 0.0 && measure.higher_is_better;
        self.retained = kept.then(|| distilled / teacher);
        let ahead = |score: f64| measure.merit(score) - measure.merit(control);
        let gap = ahead(teacher);
        self.gap_closed = (gap > 0.0).then(|| ahead(distilled) / gap);
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
            (None, Some(_)) if !self.task.score().higher_is_better => None,
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
    use super::*;

    #[test]
    fn a_teacher_without_a_mistake_is_not_constant() {
        // Where all test examples are of one class.
        assert_eq!(constant_teacher(TaskRef::default(), 1.0, Some(1.0)), None);
        assert_eq!(constant_teacher(TaskRef::default(), 0.5, None), None);
    }
}
