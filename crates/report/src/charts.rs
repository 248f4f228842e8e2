//! What the page's charts show, as data for its script.

use std::borrow::Cow;

use serde::Serialize;

use distil_gpu_engine::results::{
    Answers, Arm, ArmReport, Epoch, Format, Measure, Record, Report, Setting, SweepPoint,
    SweepReport,
};
use distil_gpu_engine::task::TaskRef;
use distil_gpu_engine::words::capital;

/// Points of a curve, at most: the eye sees no more.
const MOST_POINTS: usize = 500;
/// Classes of a chart, at most.
const MOST_CLASSES: usize = 32;

/// A chart.
#[derive(Debug, Serialize)]
pub struct Chart {
    /// Its canvas.
    pub id: &'static str,
    /// Its heading.
    #[serde(skip)]
    pub title: Cow<'static, str>,
    /// A line on how to read it.
    #[serde(skip)]
    pub note: String,
    /// Whether it takes the whole width.
    #[serde(skip)]
    pub wide: bool,
    kind: Kind,
    x: Axis,
    y: Axis,
    /// Names of the bars' places.
    labels: Vec<String>,
    /// Test examples of each place; empty if not known.
    totals: Vec<usize>,
    series: Vec<Series>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Line,
    Scatter,
    Bar,
}

#[derive(Debug, Serialize)]
struct Axis {
    title: Cow<'static, str>,
    /// Follows a value in a tooltip.
    unit: &'static str,
    log: bool,
}

#[derive(Debug, Serialize)]
struct Series {
    label: String,
    /// Decides the dash of a line and the form of a point.
    arm: Arm,
    /// Where there are several runs: which, deciding the colour, and its name for the legend.
    run: Option<(usize, String)>,
    points: Vec<[f64; 2]>,
    /// What each point is, a setting a line; empty when the series' name says it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    /// Whether it stays in the background.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    faint: bool,
}

impl Series {
    fn new(label: String, arm: Arm, points: Vec<[f64; 2]>) -> Self {
        Self { label, arm, run: None, points, names: Vec::new(), faint: false }
    }
}

/// A run and what it is called on the page.
pub struct Named<'a> {
    /// Its name.
    pub label: &'a str,
    /// What it left.
    pub record: &'a Record,
}

/// The axis of a measure on the test set.
fn axis(measure: Measure) -> Axis {
    let (title, unit) = match measure.format {
        Format::Percent => (format!("test {} (%)", measure.title), " %"),
        _ => (format!("test {}", measure.title), ""),
    };
    Axis { title: title.into(), unit, log: false }
}

/// A measure as it is drawn: a share in percent.
fn drawn(measure: Measure, value: f64) -> f64 {
    if measure.format == Format::Percent { 100.0 * value } else { value }
}

const EPOCH: Axis = Axis { title: Cow::Borrowed("epoch"), unit: "", log: false };
const PARAMETERS: Axis = Axis { title: Cow::Borrowed("parameters"), unit: "", log: true };
const LATENCY: Axis =
    Axis { title: Cow::Borrowed("latency of one example (ms)"), unit: " ms", log: true };
const ARMS: [Arm; 3] = [Arm::Teacher, Arm::Control, Arm::Distilled];

impl Chart {
    /// What a reader hears who cannot see it.
    pub fn summary(&self) -> String {
        let last = |series: &Series| {
            let [x, y] = *series.points.last()?;
            let unit = self.y.unit;
            let heights = series.points.iter().map(|[_, y]| *y);
            Some(match self.kind {
                Kind::Scatter if series.points.len() > 1 => format!(
                    "{} at {} points, {:.2}{unit} to {:.2}{unit}",
                    series.label,
                    series.points.len(),
                    heights.clone().fold(f64::INFINITY, f64::min),
                    heights.fold(f64::NEG_INFINITY, f64::max),
                ),
                Kind::Line => format!("{} ends at {y:.4}{unit}", series.label),
                _ => format!("{} at {} {x}, {y:.2}{unit}", series.label, self.x.title),
            })
        };
        let parts: Vec<String> = match self.kind {
            Kind::Bar => self.series.iter().map(|series| series.label.clone()).collect(),
            _ => self.series.iter().filter_map(last).collect(),
        };
        format!("{}, {} against {}: {}", self.title, self.y.title, self.x.title, parts.join("; "))
    }

    /// Whether there is anything to see.
    fn is_empty(&self) -> bool {
        self.series.iter().all(|series| series.points.is_empty())
    }
}

/// The curves of one run's three arms.
pub fn curves(run: &Named<'_>) -> Vec<Chart> {
    let curved = run.record.report.task.curve();
    let loss = |title: &'static str| Axis { title: title.into(), unit: "", log: false };
    let charts = [
        curve(
            curved.key,
            capital(&format!("test {}", curved.title)),
            "After each epoch, on the test set.".to_owned(),
            axis(curved),
            &[run],
            &ARMS,
            |epoch| curved.of(&epoch.test.scores).map(|score| drawn(curved, score)),
        ),
        curve(
            "test-loss",
            "Test loss",
            "Cross-entropy with the true labels, the same measure for all three.".to_owned(),
            loss("cross-entropy (nats)"),
            &[run],
            &ARMS,
            |epoch| epoch.test.hard,
        ),
        Chart {
            wide: true,
            ..curve(
                "train-loss",
                "Training loss",
                "What each of them lowers: cross-entropy for the teacher and the student alone, the \
                 weighted sum of soft and hard terms for the distilled student."
                    .to_owned(),
                Axis { log: true, ..loss("loss (nats)") },
                &[run],
                &ARMS,
                |epoch| Some(epoch.train.loss).filter(|loss| *loss > 0.0),
            )
        },
    ];
    charts.into_iter().filter(|chart| !chart.is_empty()).collect()
}

/// The students' curves of several runs.
pub fn overlaid(runs: &[Named<'_>]) -> Vec<Chart> {
    let runs: Vec<&Named<'_>> = runs.iter().collect();
    let students = [Arm::Control, Arm::Distilled];
    let note = "Solid: distilled. Dashed: the same student alone.";
    let curved = runs.first().map_or(TaskRef::default(), |run| run.record.report.task).curve();
    let charts = [
        Chart {
            wide: true,
            ..curve(
                curved.key,
                capital(&format!("test {}", curved.title)),
                note.to_owned(),
                axis(curved),
                &runs,
                &students,
                |e| curved.of(&e.test.scores).map(|score| drawn(curved, score)),
            )
        },
        Chart {
            wide: true,
            ..curve(
                "test-loss",
                "Test loss",
                format!("Cross-entropy with the true labels. {note}"),
                Axis { title: "cross-entropy (nats)".into(), unit: "", log: false },
                &runs,
                &students,
                |e| e.test.hard,
            )
        },
    ];
    charts.into_iter().filter(|chart| !chart.is_empty()).collect()
}

fn curve(
    id: &'static str,
    title: impl Into<Cow<'static, str>>,
    note: String,
    y: Axis,
    runs: &[&Named<'_>],
    arms: &[Arm],
    value: impl Fn(&Epoch) -> Option<f64>,
) -> Chart {
    let line = |(place, run): (usize, &&Named<'_>), arm: Arm| {
        let epochs = run.record.epochs.iter().filter(|epoch| epoch.arm == arm);
        let point = |epoch: &Epoch| Some([f64::from(epoch.epoch), significant(value(epoch)?)]);
        let points = thinned(epochs.filter_map(point).collect());
        let among = (runs.len() > 1).then(|| (place, run.label.to_owned()));
        Series { run: among, ..Series::new(label(run, runs.len(), arm), arm, points) }
    };
    let lines = runs.iter().enumerate().flat_map(|run| arms.iter().map(move |&arm| line(run, arm)));
    let series = lines.filter(|series| !series.points.is_empty()).collect();
    Chart {
        id,
        title: title.into(),
        note,
        wide: false,
        kind: Kind::Line,
        x: EPOCH,
        y,
        labels: Vec::new(),
        totals: Vec::new(),
        series,
    }
}

/// Accuracy against what it costs: a point an arm.
pub fn tradeoffs(runs: &[Named<'_>]) -> Vec<Chart> {
    let measure = runs.first().map_or(TaskRef::default(), |run| run.record.report.task).score();
    let against = |id, title: String, x: Axis, value: &dyn Fn(&Report, Arm) -> Option<f64>| {
        let point = |place, run: &Named<'_>, arm: Arm| {
            let report = &run.record.report;
            let score = drawn(measure, measure.of(&report.arm(arm)?.scores)?);
            let points = vec![[significant(value(report, arm)?), significant(score)]];
            let among = (runs.len() > 1).then(|| (place, run.label.to_owned()));
            Some(Series { run: among, ..Series::new(label(run, runs.len(), arm), arm, points) })
        };
        let all = runs.iter().enumerate();
        let series = all.flat_map(|(place, run)| ARMS.map(|arm| point(place, run, arm)));
        Chart {
            id,
            title: title.into(),
            note: match runs.len() {
                1 => "Better is higher and further to the left.".to_owned(),
                _ => "Squares: teachers. Triangles: students alone. Circles: distilled.".to_owned(),
            },
            wide: false,
            kind: Kind::Scatter,
            x,
            y: axis(measure),
            labels: Vec::new(),
            totals: Vec::new(),
            series: series.flatten().collect(),
        }
    };
    let charts = [
        against(
            "parameters",
            format!("{} and size", capital(measure.title)),
            PARAMETERS,
            &|report, arm| report.arm(arm)?.parameters.map(|count| count as f64),
        ),
        against(
            "latency",
            format!("{} and latency", capital(measure.title)),
            LATENCY,
            &|report, arm| report.arm(arm)?.latency_ms,
        ),
    ];
    charts.into_iter().filter(|chart| !chart.is_empty()).collect()
}

/// Accuracy of a sweep's combinations against what they cost, those on the front apart from the others.
pub fn pareto(report: &SweepReport) -> Vec<Chart> {
    let front = report.front();
    let measure = report.task.score();
    let against = |id, title: String, x: Axis, of: &dyn Fn(&SweepPoint) -> Option<f64>, teacher| {
        let at = |cost: f64, score: f64| [significant(cost), significant(drawn(measure, score))];
        let students = |on_front: bool| {
            let chosen = report.points.iter().enumerate();
            let chosen = chosen.filter(|(place, _)| front.contains(place) == on_front);
            let named = chosen.filter_map(|(_, point)| {
                let name = |Setting { key, value }: &Setting| format!("{key} = {value}");
                let names: Vec<String> = point.settings.iter().map(name).collect();
                Some((at(of(point)?, report.score(point).mean), names.join("\n")))
            });
            let (points, names) = named.unzip();
            let label = if on_front { "distilled, on the front" } else { "distilled" };
            let series = Series::new(label.to_owned(), Arm::Distilled, points);
            Series { names, faint: !on_front, ..series }
        };
        let alone = report.points.iter();
        let alone = alone.filter_map(|point| Some(at(of(point)?, report.control(point).mean)));
        let mut alone: Vec<[f64; 2]> = alone.collect();
        // A student alone is shared by all that differ in the distillation only.
        alone.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
        alone.dedup();
        let alone = Series::new(Arm::Control.title().to_owned(), Arm::Control, alone);
        let teacher: Option<(f64, f64)> = teacher;
        let teacher = teacher.map(|(cost, accuracy)| vec![at(cost, accuracy)]).unwrap_or_default();
        let teacher = Series::new(Arm::Teacher.title().to_owned(), Arm::Teacher, teacher);
        // What is drawn first lies on top.
        let series = [students(true), students(false), Series { faint: true, ..alone }, teacher];
        Chart {
            id,
            title: title.into(),
            note: "Better is higher and further to the left. A point says which it is.".to_owned(),
            wide: false,
            kind: Kind::Scatter,
            x,
            y: axis(measure),
            labels: Vec::new(),
            totals: Vec::new(),
            series: series.into_iter().filter(|series| !series.points.is_empty()).collect(),
        }
    };
    let teacher = |of: &dyn Fn(&ArmReport) -> Option<f64>| {
        report
            .teacher
            .as_ref()
            .and_then(|teacher| Some((of(teacher)?, measure.of(&teacher.scores)?)))
    };
    let charts = [
        against(
            "parameters",
            format!("{} and size", capital(measure.title)),
            PARAMETERS,
            &|point| point.parameters().map(|count| count as f64),
            teacher(&|arm| arm.parameters.map(|count| count as f64)),
        ),
        against(
            "latency",
            format!("{} and latency", capital(measure.title)),
            LATENCY,
            &|point| report.latency_ms(point),
            teacher(&|arm| arm.latency_ms),
        ),
    ];
    charts.into_iter().filter(|chart| !chart.is_empty()).collect()
}

/// Errors of each class, the most frequent ones if there are many; none where there are no classes.
pub fn per_class(report: &Report, answers: Option<&Answers>) -> Option<Chart> {
    let name = |class: usize| match answers.and_then(|answers| answers.class_names.get(class)) {
        Some(name) => name.clone(),
        None => class.to_string(),
    };
    let count = |class: usize| answers.and_then(|answers| answers.class_counts.get(class)).copied();
    let all = report.arms.control.errors_per_class.len();
    if all == 0 {
        return None;
    }
    let mut classes: Vec<usize> = (0..all).collect();
    classes.sort_by_key(|&class| std::cmp::Reverse(count(class)));
    classes.truncate(MOST_CLASSES);
    classes.sort_unstable();
    let bars = |&arm: &Arm| {
        let errors = &report.arm(arm)?.errors_per_class;
        let bar =
            |(place, &class): (usize, &usize)| Some([place as f64, *errors.get(class)? as f64]);
        let points = classes.iter().enumerate().filter_map(bar).collect();
        Some(Series::new(arm.title().to_owned(), arm, points))
    };
    let note = match all > classes.len() {
        true => format!("The {} classes with most test examples, of {all}.", classes.len()),
        false => "Wrong answers by true class; fewer is better.".to_owned(),
    };
    Some(Chart {
        id: "per-class",
        title: "Errors by class".into(),
        note,
        wide: true,
        kind: Kind::Bar,
        x: Axis { title: "true class".into(), unit: "", log: false },
        y: Axis { title: "errors".into(), unit: "", log: false },
        labels: classes.iter().map(|&class| name(class)).collect(),
        totals: classes.iter().filter_map(|&class| count(class)).collect(),
        series: ARMS.iter().filter_map(bars).collect(),
    })
}

fn label(run: &Named<'_>, runs: usize, arm: Arm) -> String {
    match runs {
        1 => arm.title().to_owned(),
        _ => format!("{}, {}", run.label, arm.title()),
    }
}

/// Every so many points, the last among them.
fn thinned(points: Vec<[f64; 2]>) -> Vec<[f64; 2]> {
    let stride = points.len().div_ceil(MOST_POINTS).max(1);
    let offset = points.len().saturating_sub(1) % stride;
    points.into_iter().skip(offset).step_by(stride).collect()
}

/// To six significant digits.
fn significant(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10f64.powi(5 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_curves_are_thinned_and_keep_their_end() {
        let points = |n: usize| (0..n).map(|i| [i as f64, 0.0]).collect::<Vec<_>>();
        assert_eq!(thinned(points(500)).len(), 500);
        let thin = thinned(points(10_001));
        assert!(thin.len() <= MOST_POINTS, "{}", thin.len());
        assert_eq!(thin.last(), Some(&[10_000.0, 0.0]));
        assert_eq!(thinned(Vec::new()).len(), 0);
    }

    #[test]
    fn six_digits_are_kept() {
        assert_eq!(significant(0.012345678), 0.0123457);
        assert_eq!(significant(-1234567.0), -1234570.0);
        assert_eq!(significant(0.0), 0.0);
    }
}
