//! Heat maps: what was measured of the combinations of two axes, a map for each combination of the others.

use crate::knowledge::tone;
use distil_gpu_engine::results::{Format, Setting, Spread, SweepPoint, SweepReport, named};
use distil_gpu_engine::words::capital;

/// Maps of one kind on a page, at most.
const MOST_MAPS: usize = 12;
/// Combinations in maps, at most: beyond, a table is slow to show and nobody reads it.
const MOST_CELLS: usize = 10_000;

/// Heat maps of one measure.
pub struct Heat<'a> {
    /// Its section on the page.
    pub id: &'static str,
    pub title: String,
    pub note: String,
    /// The axis whose values are the rows; absent when one alone was varied.
    pub rows: Option<&'a str>,
    /// The axis whose values are the columns.
    pub columns: &'a str,
    /// The values of the columns.
    pub values: &'a [String],
    pub maps: Vec<Map<'a>>,
    /// How many maps there would be in all, if some are left out.
    pub of: Option<usize>,
}

/// One heat map.
pub struct Map<'a> {
    /// Values of the further axes; empty when there are none.
    pub name: String,
    pub rows: Vec<(&'a str, Vec<Cell>)>,
}

/// One combination.
pub struct Cell {
    /// Its mean, an accuracy in percent.
    pub value: String,
    /// Standard deviation over the seeds, in the same unit.
    pub deviation: Option<String>,
    /// Everything about it.
    pub title: String,
    /// 0 to 1: how strong its colour is.
    pub shade: f64,
    /// Classes: what keeps its text readable, whether it is a loss, whether it is the best.
    pub classes: String,
}

/// What a map shows.
#[derive(Clone, Copy, PartialEq)]
enum Shown {
    Perplexity,
    Score,
    Gain,
}

impl<'a> Heat<'a> {
    /// The maps of mean accuracy and of the gain over the student alone; of language models, of perplexity first.
    pub fn all(report: &'a SweepReport) -> Vec<Self> {
        let heat = |measure| Self::of(report, measure);
        let perplexity = report.guesses().then_some(Shown::Perplexity);
        perplexity.into_iter().chain([Shown::Score, Shown::Gain]).filter_map(heat).collect()
    }

    fn of(report: &'a SweepReport, measure: Shown) -> Option<Self> {
        let none: &[String] = &[];
        let (rows, columns, further) = match &report.axes[..] {
            [] => return None,
            [(columns, values)] => ((None, none), (columns, values), &[][..]),
            [(rows, down), (columns, values), further @ ..] => {
                ((Some(&**rows), &down[..]), (columns, values), further)
            }
        };
        let shades = Shades::of(report, measure);
        let apart: usize = further.iter().map(|(_, values)| values.len()).product();
        let (down, across) = (rows.1.len().max(1), columns.1.len());
        let room = MOST_CELLS / (down * across).max(1);
        let shown = apart.min(MOST_MAPS).min(room.max(1));
        let map = |which: usize| {
            // The last axis is the fastest: the further ones step through neighbours.
            let cell = |row: usize, column: usize| {
                let point = &report.points[(row * across + column) * apart + which];
                shades.cell(report, point)
            };
            let line = |row: usize| {
                let head = rows.1.get(row).map_or(measure.id(report), String::as_str);
                (head, (0..across).map(|column| cell(row, column)).collect())
            };
            let others = report.points.get(which).map_or(&[][..], |point| &point.settings);
            let name = named(others.get(report.axes.len() - further.len()..).unwrap_or_default());
            Map { name, rows: (0..down).map(line).collect() }
        };
        let maps =
            if report.points.is_empty() { Vec::new() } else { (0..shown).map(map).collect() };
        Some(Self {
            id: measure.id(report),
            title: measure.title(report),
            note: shades.note(),
            rows: rows.0,
            columns: columns.0,
            values: columns.1,
            maps,
            of: (shown < apart).then_some(apart),
        })
    }
}

impl Shown {
    /// Its section, and the head of a single row.
    fn id(self, report: &SweepReport) -> &'static str {
        match self {
            Self::Perplexity => "perplexity",
            Self::Score => report.task.score().key,
            Self::Gain => "gain",
        }
    }

    fn title(self, report: &SweepReport) -> String {
        match self {
            Self::Perplexity => "Perplexity of the distilled student".to_owned(),
            Self::Score => {
                capital(&format!("{} of the distilled student", report.task.score().title))
            }
            Self::Gain => "What distillation gained".to_owned(),
        }
    }

    fn of(self, report: &SweepReport, point: &SweepPoint) -> Spread {
        match self {
            Self::Perplexity => point.perplexity().map_or(Spread::of(&[]), |[own, _]| own),
            Self::Score => report.score(point),
            Self::Gain => report.gain(point),
        }
    }

    /// How a value is shown, but for a sign: a factor, and the digits behind the point.
    fn scale(self, report: &SweepReport) -> (f64, usize) {
        match (self, report.task.score().format) {
            (Self::Perplexity, _) => (1.0, 2),
            (_, Format::Percent) => (100.0, 2),
            _ => (1.0, 4),
        }
    }
}

/// How values become colours.
struct Shades {
    measure: Shown,
    least: f64,
    most: f64,
    best: Vec<Setting>,
    seeds: u32,
}

impl Shades {
    fn of(report: &SweepReport, measure: Shown) -> Self {
        let measured = report.points.iter().filter(|point| point.is_measured());
        let means = measured.map(|point| measure.of(report, point).mean);
        let bounds = (f64::INFINITY, f64::NEG_INFINITY);
        let (least, most) = means.fold(bounds, |(a, b), mean| (mean.min(a), mean.max(b)));
        let best = report.best().map_or(Vec::new(), |best| best.settings.clone());
        Self { measure, least, most, best, seeds: report.seeds }
    }

    /// From the worst to the best of the sweep; a gain or a loss against the largest of either.
    fn shade(&self, mean: f64) -> f64 {
        let (part, whole) = match self.measure {
            Shown::Perplexity => (self.most - mean, self.most - self.least),
            Shown::Score => (mean - self.least, self.most - self.least),
            Shown::Gain => (mean.abs(), self.least.abs().max(self.most.abs())),
        };
        if whole > 0.0 { part / whole } else { 0.0 }
    }

    fn cell(&self, report: &SweepReport, point: &SweepPoint) -> Cell {
        if !point.is_measured() {
            let reasons: Vec<&str> = point.failed.iter().map(|run| &*run.reason).collect();
            let title = format!("{}\n{}", point.name(), reasons.join("\n"));
            let (value, classes) = ("failed".to_owned(), String::new());
            return Cell { value, deviation: None, title, shade: 0.0, classes };
        }
        let format = report.task.score().format;
        let score = report.score(point);
        let (spread, (scale, digits)) =
            (self.measure.of(report, point), self.measure.scale(report));
        let mean = match self.measure {
            Shown::Gain => format!("{:+.digits$}", scale * spread.mean),
            _ => format!("{:.digits$}", scale * spread.mean),
        };
        let shade = self.shade(spread.mean);
        let median = match point.runs.len() {
            0..3 => String::new(),
            _ => format!(" (median {})", format.show(score.median)),
        };
        let latency = report.latency_ms(point);
        let latency = latency.map_or_else(String::new, |ms| format!("\n{ms:.3} ms an example"));
        let perplexity = point.perplexity().map_or_else(String::new, |[own, alone]| {
            format!("\nperplexity: {}, {} alone", own.number(), alone.number())
        });
        let title = format!(
            "{}{perplexity}\nstudent distilled: {}{median}\nstudent alone: {}\ngain: {}{latency}",
            point.name(),
            score.shown(format),
            report.control(point).shown(format),
            report.gain(point).shown(format),
        );
        let loss = self.measure == Shown::Gain && spread.mean < 0.0;
        let best = point.settings == self.best;
        let classes = [tone(shade), if loss { "loss" } else { "" }, if best { "best" } else { "" }];
        Cell {
            value: mean,
            deviation: spread.deviation.map(|deviation| format!("{:.digits$}", scale * deviation)),
            title,
            shade,
            classes: classes
                .into_iter()
                .filter(|class| !class.is_empty())
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    fn note(&self) -> String {
        let over = match self.seeds {
            1 => "with one seed".to_owned(),
            seeds => format!("mean ± standard deviation over {seeds} seeds"),
        };
        match self.measure {
            Shown::Perplexity => format!(
                "Of the masked tokens of the test set, {over}; less is better. Colour runs from the most ({:.2}) to \
                 the least ({:.2}); the best has a frame.",
                self.most, self.least,
            ),
            Shown::Score => format!(
                "On the test set, in percent, {over}. Colour runs from the least ({:.2} %) to the most \
                 ({:.2} %); the best has a frame.",
                100.0 * self.least,
                100.0 * self.most,
            ),
            Shown::Gain => format!(
                "Accuracy of the distilled student less that of the student alone from the same seed, in \
                 percentage points, {over}. Blue is a gain, orange a loss."
            ),
        }
    }
}
