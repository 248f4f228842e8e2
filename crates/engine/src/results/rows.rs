//! The table of a run, as the terminal and the page show it.

use super::{ArmReport, ClassReport, Report, StoredWeights};
use crate::results::Measure;
use crate::words::{counted_thousands, thousands};

/// Stands for a figure that is not known, or that there cannot be.
pub const UNKNOWN: &str = "–";

/// Classes whose recall the table shows, at most.
const RECALLS: usize = 10;
/// Letters of a class's name in the table, at most.
const LONGEST_NAME: usize = 40;

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What is compared.
    pub name: String,
    /// Of the teacher, the student alone and the student distilled; [`UNKNOWN`] where it is not known, empty where
    /// there is no such thing.
    pub cells: [String; 3],
}

impl Report {
    /// The three arms side by side.
    pub fn rows(&self) -> Vec<Row> {
        let arms =
            [self.arms.teacher.as_ref(), Some(&self.arms.control), Some(&self.arms.distilled)];
        let row = |name: &str, value: &dyn Fn(&ArmReport) -> Option<String>| Row {
            name: name.to_owned(),
            cells: arms.map(|arm| arm.and_then(value).unwrap_or_else(|| UNKNOWN.to_owned())),
        };
        let measured = self.task.measured(&self.examples);
        let known =
            |measure: &&Measure| arms.iter().flatten().any(|arm| measure.of(&arm.scores).is_some());
        let mut rows: Vec<Row> = self
            .task
            .measures()
            .iter()
            .filter(known)
            .map(|measure| {
                let title = measure.title.replace("{}", &measured);
                row(&title, &|arm| measure.shown(&arm.scores))
            })
            .collect();
        for (class, ClassReport { name, test }) in self.rarest_classes() {
            let name: String = name.chars().take(LONGEST_NAME).collect();
            let name = format!("recall of {name}, {}", counted_thousands(*test, "example"));
            rows.push(row(&name, &|arm| {
                let errors = arm.errors_per_class.get(class)?;
                Some(percent(Some(1.0 - *errors as f64 / *test as f64)))
            }));
        }
        for (i, correction) in self.arms.distilled.bias_corrected.iter().enumerate() {
            let class = correction.class;
            rows.push(row(&format!("errors on class {class}, unseen by the students"), &|arm| {
                arm.errors_per_class.get(class).map(ToString::to_string)
            }));
            rows.push(row(&format!("the same, bias of class {class} corrected"), &|arm| {
                arm.bias_corrected.get(i).map(|c| c.errors_of_class.to_string())
            }));
            rows.push(row("errors in all, bias corrected", &|arm| {
                arm.bias_corrected.get(i).map(|c| c.errors.to_string())
            }));
        }
        if arms.iter().flatten().any(|arm| arm.kept_step.is_some()) {
            let kept = |arm: &ArmReport| Some(format!("{} of {}", arm.kept_step?, arm.steps?));
            rows.push(row("best step on the validation data", &kept));
        }
        let tokens = arms.iter().flatten().any(|arm| arm.tokens_per_second.is_some());
        let rate = |arm: &ArmReport| match tokens {
            true => arm.tokens_per_second,
            false => arm.examples_per_second,
        };
        let unit = if tokens { "tokens a second" } else { "examples a second" };
        rows.extend([
            row("parameters", &|arm| arm.parameters.map(thousands)),
            row("size", &|arm| arm.bytes.map(|bytes| format!("{:.2} MB", bytes as f64 / 1e6))),
            row("latency, one example", &|arm| arm.latency_ms.map(|ms| format!("{ms:.3} ms"))),
            row(unit, &|arm| rate(arm).map(|rate| thousands(rate as usize))),
        ]);
        if arms.iter().flatten().any(|arm| arm.stored.is_some()) {
            let megabytes = |stored: &StoredWeights| format!("{:.2} MB", stored.bytes as f64 / 1e6);
            rows.push(row("weights in memory", &|arm| arm.stored.as_deref().map(megabytes)));
            let kl = |arm: &ArmReport| Some(format!("{:.2e} nats", arm.stored.as_ref()?.kl?));
            rows.push(row("KL to itself in f32", &kl));
        }
        let only = |name: &str, value: Option<f64>| Row {
            name: name.to_owned(),
            cells: [String::new(), String::new(), percent(value)],
        };
        if self.task.keeps_score() {
            rows.push(only(&format!("kept of {}", self.kept()), self.retained));
        }
        rows.push(only("gap to the teacher closed", self.gap_closed));
        if self.agreement.is_some() || self.task.keeps_score() {
            rows.push(only("same answer as the teacher", self.agreement));
        }
        rows
    }
}

impl Report {
    /// What a student that is a language model was worth before its training, in a sentence.
    pub fn before_training(&self) -> Option<String> {
        let before = self.before.as_ref()?;
        let measures = self.task.measures().iter();
        let shown = measures
            .filter_map(|one| Some(format!("{} {}", one.title, one.shown(&before.scores)?)));
        let all: Vec<String> = shown.collect();
        Some(format!("The student before its training: {}", all.join(", ")))
    }

    /// Where classes are unequal, the most frequent having at least twice the test examples of the rarest: the rarest, at
    /// most [`RECALLS`], in their order, each with its number.
    fn rarest_classes(&self) -> Vec<(usize, &ClassReport)> {
        let held = self.classes.iter().enumerate().filter(|(_, class)| class.test > 0);
        let mut classes: Vec<_> = held.collect();
        classes.sort_by_key(|(number, class)| (class.test, *number));
        match (classes.first(), classes.last()) {
            (Some((_, rarest)), Some((_, most))) if most.test >= 2 * rarest.test => {
                classes.truncate(RECALLS);
                classes.sort_by_key(|(number, _)| *number);
                classes
            }
            _ => Vec::new(),
        }
    }
}

/// A share to a tenth of a percent; [`UNKNOWN`] where it is not known.
pub fn percent(share: Option<f64>) -> String {
    share.map_or(UNKNOWN.to_owned(), |share| format!("{:.1} %", 100.0 * share))
}
