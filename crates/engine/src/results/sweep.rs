//! What a sweep leaves: `sweep.json`, the sentence and the table that sum it up.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::json::{bad, parse};
use super::{ArmReport, UNKNOWN, verdict};
use crate::error::Error;
use crate::results::{Format, Measure};
use crate::task::TaskRef;
use crate::words::thousands;

/// Key of a language model's perplexity.
pub const PERPLEXITY: &str = "perplexity";

/// Name of a sweep's report in its folder.
pub const SWEEP: &str = "sweep.json";

/// The content of `sweep.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepReport {
    /// The recipe's name.
    pub name: String,
    /// What the models do.
    #[serde(default)]
    pub task: TaskRef,
    /// Keys that were varied, each with its values.
    pub axes: Vec<(String, Vec<String>)>,
    /// Seeds of each combination.
    pub seeds: u32,
    /// The teacher; absent when it is a file of logits that holds none for the test set.
    pub teacher: Option<ArmReport>,
    /// Score of always giving the most frequent answer of the test set, where there is such an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub majority: Option<f64>,
    /// Every combination, the last axis fastest.
    pub points: Vec<SweepPoint>,
    /// The device's name.
    pub device: String,
    /// The device's backend and driver.
    pub backend: String,
    /// Version of this program.
    pub version: String,
    /// Time of all trainings.
    pub seconds: f64,
    /// What a reader should know before trusting the numbers; see also [`Self::judge`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A key of the recipe with its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// As `distil.temperature`.
    pub key: String,
    /// As `4.0`.
    pub value: String,
}

/// One combination of settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepPoint {
    /// The combination.
    pub settings: Vec<Setting>,
    /// Its students, one a seed, but for those that failed.
    pub runs: Vec<SweepRun>,
    /// Those that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedRun>,
}

/// A student of a sweep that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRun {
    /// The seed.
    pub seed: u32,
    /// Its folder in the sweep's.
    pub folder: String,
    /// Why: its own training, or that of the same student alone, diverged.
    pub reason: String,
}

/// One student of a sweep, and the same student alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SweepRun {
    /// The seed.
    pub seed: u32,
    /// Its folder in the sweep's.
    pub folder: String,
    /// Its model, as the recipe has it.
    pub model: String,
    /// Share of the test examples on which it gives the teacher's answer.
    pub agreement: Option<f64>,
    /// What was measured of it.
    pub distilled: ArmReport,
    /// What was measured of the student alone, from the same seed.
    pub control: ArmReport,
}

/// Mean, median and sample standard deviation over the seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The median.
    pub median: f64,
    /// The sample standard deviation; absent for one seed.
    pub deviation: Option<f64>,
}

impl Spread {
    /// Of some values; of none, no numbers.
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        Self { mean, median: median(values.to_vec()).unwrap_or(mean), deviation }
    }

    /// As a number: `12.31 ± 0.12`.
    pub fn number(&self) -> String {
        match self.deviation {
            _ if self.mean.is_nan() => UNKNOWN.to_owned(),
            Some(deviation) => format!("{:.2} ± {deviation:.2}", self.mean),
            None => format!("{:.2}", self.mean),
        }
    }

    /// As a measure is shown: `97.31 ± 0.12 %`, `0.8412 ± 0.0031`.
    pub fn shown(&self, format: Format) -> String {
        let Some(deviation) = self.deviation.filter(|_| !self.mean.is_nan()) else {
            return if self.mean.is_nan() { UNKNOWN.to_owned() } else { format.show(self.mean) };
        };
        match format {
            Format::Percent => format!("{:.2} ± {:.2} %", 100.0 * self.mean, 100.0 * deviation),
            _ => format!("{} ± {}", format.show(self.mean), format.show(deviation)),
        }
    }
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    Some(match values.len() % 2 {
        0 => (values[values.len() / 2 - 1] + upper) / 2.0,
        _ => upper,
    })
}

impl SweepPoint {
    fn over(&self, value: impl Fn(&SweepRun) -> f64) -> Spread {
        Spread::of(&self.runs.iter().map(value).collect::<Vec<_>>())
    }

    /// Whether any of its students came to something.
    pub fn is_measured(&self) -> bool {
        !self.runs.is_empty()
    }

    /// How many of its students failed, in words; nothing if none did.
    pub fn failures(&self) -> Option<String> {
        let all = self.runs.len() + self.failed.len();
        match self.failed.len() {
            0 => None,
            failed if failed == all => Some("failed".to_owned()),
            failed => Some(format!("{failed} of {all} failed")),
        }
    }

    /// Perplexity of the distilled students and of the students alone, where they are language models.
    pub fn perplexity(&self) -> Option<[Spread; 2]> {
        let known = |arm: &ArmReport| arm.scores.get(PERPLEXITY).unwrap_or(f64::NAN);
        self.runs.first()?.distilled.scores.get(PERPLEXITY)?;
        Some([self.over(|run| known(&run.distilled)), self.over(|run| known(&run.control))])
    }

    /// Number of parameters, the same for every seed.
    pub fn parameters(&self) -> Option<usize> {
        self.runs.first()?.distilled.parameters
    }

    /// The combination in words: `distil.temperature = 4, distil.alpha = 0.5`.
    pub fn name(&self) -> String {
        match self.settings.is_empty() {
            true => "the recipe as it is".to_owned(),
            false => named(&self.settings),
        }
    }
}

/// Settings in words.
pub fn named(settings: &[Setting]) -> String {
    let one = |Setting { key, value }: &Setting| format!("{key} = {value}");
    settings.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// A combination in the table of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweepRow {
    /// Its cells, but for the mark of the front.
    pub cells: Vec<String>,
    /// Whether no other combination beats it.
    pub front: bool,
}

impl SweepReport {
    /// The report in a sweep's folder.
    ///
    /// # Errors
    /// [`Error::Run`] when there is none or it is damaged, [`Error::Io`] when it cannot be read.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(SWEEP);
        if !path.is_file() {
            return Err(bad(
                folder,
                format!("not the folder of a sweep: there is no {SWEEP} in it"),
            ));
        }
        let mut report: Self = parse(&path)?;
        report.judge();
        let keys = || report.axes.iter().map(|(key, _)| key);
        let fits = |point: &SweepPoint| {
            let students = point.runs.len() + point.failed.len();
            point.settings.iter().map(|setting| &setting.key).eq(keys()) && students > 0
        };
        let lengths = report.axes.iter().map(|(_, values)| values.len());
        let wanted = lengths.into_iter().try_fold(1, usize::checked_mul);
        match wanted == Some(report.points.len()) && report.points.iter().all(fits) {
            true => Ok(report),
            false => Err(bad(&path, "damaged: its points are not all combinations of its axes")),
        }
    }

    /// Enters into the warnings what there is to say of the teacher: that it is no better than a constant answer, or than
    /// students alone. What is said already is not said twice.
    pub fn judge(&mut self) {
        let Some(teacher) = &self.teacher else { return };
        let measure @ Measure { title, format, .. } = self.task.score();
        let Some(score) = self.score_of(teacher) else { return };
        let constant = verdict::constant_teacher(self.task, score, self.majority);
        let measured = || self.points.iter().filter(|point| point.is_measured());
        let beaten = measured()
            .filter(|point| measure.merit(score) <= measure.merit(self.control(point).mean));
        let beaten = beaten.count();
        let beaten = (beaten > 0).then(|| {
            let of = match (beaten, measured().count()) {
                (_, 1) => String::new(),
                (some, all) if some == all => " in any combination".to_owned(),
                (some, all) => format!(" in {some} of {all} combinations"),
            };
            format!(
                "The teacher ({} {title}) is no better than the student alone{of}: there it has no gap to close.",
                format.show(score)
            )
        });
        verdict::enter(&mut self.warnings, constant.into_iter().chain(beaten));
    }

    /// Whether the teacher is better than always giving the most frequent answer, as far as is known.
    pub fn teacher_is_useful(&self) -> bool {
        let score = self.teacher.as_ref().and_then(|teacher| self.score_of(teacher));
        let constant = |score| verdict::constant_teacher(self.task, score, self.majority);
        score.is_none_or(|score| constant(score).is_none())
    }

    /// The combination of the best score; of language models, that of the least perplexity.
    pub fn best(&self) -> Option<&SweepPoint> {
        let measured = self.points.iter().filter(|point| point.is_measured());
        let merit = |point: &SweepPoint| match point.perplexity() {
            Some([perplexity, _]) => -perplexity.mean,
            None => self.score(point).mean,
        };
        measured.max_by(|a, b| merit(a).total_cmp(&merit(b)))
    }

    /// The score of a model, by which students are compared.
    pub fn score_of(&self, arm: &ArmReport) -> Option<f64> {
        self.task.score().of(&arm.scores)
    }

    /// Scores of a combination's distilled students.
    pub fn score(&self, point: &SweepPoint) -> Spread {
        point.over(|run| self.score_of(&run.distilled).unwrap_or(f64::NAN))
    }

    /// Scores of its students alone.
    pub fn control(&self, point: &SweepPoint) -> Spread {
        point.over(|run| self.score_of(&run.control).unwrap_or(f64::NAN))
    }

    /// Gain of the distilled students over the students alone, seed by seed.
    pub fn gain(&self, point: &SweepPoint) -> Spread {
        point.over(|run| {
            let scores = [&run.distilled, &run.control].map(|arm| self.score_of(arm));
            let [own, alone] =
                scores.map(|score| self.task.score().merit(score.unwrap_or(f64::NAN)));
            own - alone
        })
    }

    /// Whether the students are language models.
    pub fn guesses(&self) -> bool {
        self.points.iter().any(|point| point.perplexity().is_some())
    }

    /// What the sweep found, in plain words.
    pub fn sentence(&self) -> String {
        let Some(best) = self.best() else {
            return "No student came to anything.".to_owned();
        };
        let beaten = |teacher: &ArmReport| {
            let merit = |score| self.task.score().merit(score);
            self.score_of(teacher)
                .is_some_and(|score| merit(score) <= merit(self.control(best).mean))
        };
        let doubt = match (self.teacher_is_useful(), self.teacher.as_ref().is_some_and(beaten)) {
            (false, _) => {
                " But the teacher is no better than always giving the most frequent answer."
            }
            (true, true) => " But the teacher is no better than the student alone.",
            (true, false) => "",
        };
        self.found(best) + doubt
    }

    /// What the best combination is, and what it has come to.
    fn found(&self, best: &SweepPoint) -> String {
        if let Some([perplexity, alone]) = best.perplexity() {
            let teacher = self.teacher.as_ref().and_then(|teacher| teacher.scores.get(PERPLEXITY));
            let teacher = teacher.map_or_else(String::new, |p| format!("; the teacher has {p:.2}"));
            return format!(
                "Best: {} with a perplexity of {}, {} alone{teacher}.",
                best.name(),
                perplexity.number(),
                alone.number(),
            );
        }
        let measure = self.task.score();
        let teacher = self.teacher.as_ref().and_then(|teacher| measure.shown(&teacher.scores));
        let teacher =
            teacher.map_or_else(String::new, |score| format!("; the teacher has {score}"));
        let [distilled, alone] =
            [self.score(best), self.control(best)].map(|spread| spread.shown(measure.format));
        match self.axes.is_empty() {
            true => format!("Distilled {distilled}, {alone} alone{teacher}."),
            false => format!("Best: {} with {distilled}, {alone} alone{teacher}.", best.name()),
        }
    }

    /// What the front is.
    pub const FRONT: &str = "what no other combination beats in accuracy, size and latency";

    /// The heads of the table's columns, as the cells of [`SweepReport::rows`].
    pub fn columns(&self) -> Vec<String> {
        let keys = self.axes.iter().map(|(key, _)| short(key).to_owned());
        let guesses: &[&str] = if self.guesses() { &["perplexity", "student alone"] } else { &[] };
        let score = self.task.score().title;
        let fixed = [score, "student alone", "gain", "parameters", "latency"];
        keys.chain(guesses.iter().chain(&fixed).map(|&name| name.to_owned())).collect()
    }

    /// A line a combination.
    pub fn rows(&self) -> Vec<SweepRow> {
        let front = self.front();
        let row = |(index, point): (usize, &SweepPoint)| {
            let values = point.settings.iter().map(|setting| setting.value.clone());
            let shown = |spread: Spread| spread.shown(self.task.score().format);
            let score = match (point.is_measured(), point.failures()) {
                (true, Some(failures)) => format!("{}, {failures}", shown(self.score(point))),
                (_, Some(failed)) => failed,
                (_, None) => shown(self.score(point)),
            };
            let perplexity = point.perplexity().map(|both| both.map(|one| one.number()));
            let missing = || [UNKNOWN; 2].map(str::to_owned);
            let guesses = self.guesses().then(|| perplexity.unwrap_or_else(missing));
            let measured = [
                score,
                shown(self.control(point)),
                shown(self.gain(point)),
                point.parameters().map_or(UNKNOWN.to_owned(), thousands),
                self.latency_ms(point).map_or(UNKNOWN.to_owned(), |ms| format!("{ms:.3} ms")),
            ];
            let cells = values.chain(guesses.into_iter().flatten()).chain(measured).collect();
            SweepRow { cells, front: front.contains(&index) }
        };
        self.points.iter().enumerate().map(row).collect()
    }

    /// The points that no other beats: at least as good, small and fast, and better in one of them. Speed
    /// is that of the student's model, the median of all its measurements: models alike are equally fast.
    pub fn front(&self) -> BTreeSet<usize> {
        let values: Vec<[f64; 3]> = self.points.iter().map(|point| self.merits(point)).collect();
        let beats = |a: &[f64; 3], b: &[f64; 3]| {
            a.iter().zip(b).all(|(a, b)| a >= b) && a.iter().zip(b).any(|(a, b)| a > b)
        };
        let best = |&index: &usize| {
            self.points[index].is_measured()
                && !values.iter().any(|other| beats(other, &values[index]))
        };
        (0..values.len()).filter(best).collect()
    }

    /// Every student that failed: which, and why.
    pub fn failures(&self) -> Vec<(String, &str)> {
        let of =
            |point: &SweepPoint, run: &FailedRun| format!("{}, seed {}", point.name(), run.seed);
        let all = self
            .points
            .iter()
            .flat_map(|point| point.failed.iter().map(move |run| (of(point, run), &*run.reason)));
        all.collect()
    }

    /// Score, and size and latency as numbers of which more is better.
    fn merits(&self, point: &SweepPoint) -> [f64; 3] {
        let parameters = point.parameters().unwrap_or(0);
        let latency = self.latency_ms(point).unwrap_or(0.0);
        [self.task.score().merit(self.score(point).mean), -(parameters as f64), -latency]
    }

    /// Median latency of all students with the point's model, in milliseconds.
    pub fn latency_ms(&self, point: &SweepPoint) -> Option<f64> {
        let model = &point.runs.first()?.model;
        let runs = self.points.iter().flat_map(|point| &point.runs);
        let alike = runs.filter(|run| run.model == *model);
        median(alike.filter_map(|run| run.distilled.latency_ms).collect())
    }
}

/// The last part of a key: `temperature` of `distil.temperature`.
fn short(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}
