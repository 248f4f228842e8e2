//! What the teacher passes on, as the page shows it: chosen examples and the similarity matrix.

use distil_gpu_engine::results::Answers;
use distil_gpu_engine::results::answers::{Answer, Example, Group, Reason, Similarity};

/// A matrix of more classes has no room for numbers.
const MOST_NUMBERED: usize = 16;
/// Shades from which on a cell's text has another colour: class of the cell, and where it begins.
const TONES: [(&str, f64); 2] = [("strong", 0.7), ("mid", 0.55)];

/// A group of examples with what is said of it.
pub struct Shown<'a> {
    pub title: &'static str,
    pub note: &'static str,
    pub count: Option<usize>,
    pub examples: Vec<Card<'a>>,
}

/// One example.
pub struct Card<'a> {
    pub example: &'a Example,
    pub class: &'a str,
    pub teacher: bool,
    pub lines: Vec<Line<'a>>,
}

/// One class of an example: teacher, teacher softened, student alone, student distilled.
pub struct Line<'a> {
    pub class: &'a str,
    pub own: bool,
    pub cells: Vec<Bar>,
}

/// A share as a bar.
pub struct Bar {
    pub arm: &'static str,
    pub share: f64,
    pub percent: String,
    pub first: bool,
}

impl<'a> Shown<'a> {
    /// The groups that have examples.
    pub fn all(answers: &'a Answers) -> Vec<Self> {
        let groups = answers.groups.iter().filter(|group| !group.examples.is_empty());
        let shown = |group: &'a Group| {
            let (title, note) = words(group.reason);
            let examples = group.examples.iter().map(|example| Card::of(answers, example));
            Self { title, note, count: group.count, examples: examples.collect() }
        };
        groups.map(shown).collect()
    }
}

/// The class that keeps a cell's text readable on its shade; empty for a faint cell.
pub fn tone(shade: f64) -> &'static str {
    TONES.iter().find(|(_, from)| shade > *from).map_or("", |(tone, _)| tone)
}

/// Heading and explanation.
fn words(reason: Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::Gained => (
            "Distillation put right",
            "The student alone is wrong, the distilled one right. Largest gain first.",
        ),
        Reason::Lost => (
            "Distillation spoilt",
            "The student alone is right, the distilled one wrong. Largest loss first.",
        ),
        Reason::Missed => (
            "The teacher knew",
            "The teacher is right, the distilled student wrong. The teacher's surest first.",
        ),
        Reason::BothWrong => (
            "Beyond both students",
            "Both are wrong. Where the distilled student is surest of its mistake first.",
        ),
        Reason::Unsure => (
            "The teacher hesitates",
            "Its answers at T = 1 are the most spread out of the test set, but for those above.",
        ),
    }
}

impl<'a> Card<'a> {
    fn of(answers: &'a Answers, example: &'a Example) -> Self {
        let column = |arm: &'static str, share: &dyn Fn(&Answer) -> Option<f64>| {
            let shares: Option<Vec<f64>> = example.answers.iter().map(share).collect();
            shares.map(|shares| (arm, shares))
        };
        let columns = [
            column("teacher", &|answer| answer.teacher),
            column("softened", &|answer| answer.softened),
            column("control", &|answer| Some(answer.control)),
            column("distilled", &|answer| Some(answer.distilled)),
        ];
        let line = |(place, answer): (usize, &Answer)| {
            let bar = |(arm, shares): &(&'static str, Vec<f64>)| {
                let share = shares[place];
                let first = shares.iter().all(|other| *other <= share);
                Bar { arm, share, percent: whole_percent(share), first }
            };
            Line {
                class: name(answers, answer.class),
                own: answer.class == example.class,
                cells: columns.iter().flatten().map(bar).collect(),
            }
        };
        Self {
            class: name(answers, example.class),
            teacher: columns[0].is_some() && columns[1].is_some(),
            lines: example.answers.iter().enumerate().map(line).collect(),
            example,
        }
    }
}

fn name(answers: &Answers, class: usize) -> &str {
    answers.class_names.get(class).map_or("", String::as_str)
}

fn whole_percent(share: f64) -> String {
    match 100.0 * share {
        little if little > 0.0 && little < 0.5 => "<1".to_owned(),
        percent => format!("{percent:.0}"),
    }
}

/// The similarity matrix as a table.
pub struct Matrix<'a> {
    pub names: Vec<&'a str>,
    pub rows: Vec<(&'a str, Vec<Cell>)>,
    /// Whether cells have room for their numbers.
    pub numbers: bool,
    /// Of how many classes it shows the most frequent, if not all.
    pub of: Option<usize>,
    pub largest: String,
}

/// A cell of the matrix.
pub struct Cell {
    pub own: bool,
    /// 0 to 1: the share of the largest outside the diagonal.
    pub shade: f64,
    /// Class that keeps its text readable; empty for a faint cell.
    pub tone: &'static str,
    pub percent: String,
}

impl<'a> Matrix<'a> {
    /// The matrix, if there is one.
    pub fn of(answers: &'a Answers) -> Option<Self> {
        let Similarity { classes, rows } = answers.similarity.as_ref()?;
        let places = || 0..classes.len();
        let others = places().flat_map(|i| places().filter(move |&j| j != i).map(move |j| (i, j)));
        let largest = others.map(|(i, j)| rows[i][j]).fold(0.0, f64::max);
        let cell = |own: bool, share: f64| {
            let shade = if own || largest == 0.0 { 0.0 } else { share / largest };
            Cell { own, shade, tone: tone(shade), percent: format!("{:.1}", 100.0 * share) }
        };
        let row = |(i, &class): (usize, &usize)| {
            let cells = rows[i].iter().enumerate().map(|(j, &share)| cell(i == j, share));
            (name(answers, class), cells.collect())
        };
        let all = answers.class_names.len();
        Some(Self {
            names: classes.iter().map(|&class| name(answers, class)).collect(),
            rows: classes.iter().enumerate().map(row).collect(),
            numbers: classes.len() <= MOST_NUMBERED,
            of: (classes.len() < all).then_some(all),
            largest: format!("{:.1}", 100.0 * largest),
        })
    }
}
