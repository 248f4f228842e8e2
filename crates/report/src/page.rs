//! The page of a run: one file with everything in it.

use std::path::Path;

use askama::Template;

use super::charts::{self, Chart, Named};
use super::knowledge::{Matrix, Shown};
use distil_gpu_engine::Error;
use distil_gpu_engine::files::write_atomically;
use distil_gpu_engine::results::{
    ArmReport, Arms, Context, Exports, GuessedText, PAGE, Record, Report, Row, Texts, UNKNOWN,
    percent,
};
use distil_gpu_engine::words::thousands;

/// What is put into every page.
pub(super) struct Assets {
    pub style: &'static str,
    pub script: &'static str,
    pub chart_js: &'static str,
}

pub(super) const ASSETS: Assets = Assets {
    style: include_str!("assets/page.css"),
    script: include_str!("assets/page.js"),
    chart_js: include_str!("assets/chart.js/chart.umd.min.js"),
};

/// Writes the page of a run into its folder, from the files there alone.
///
/// # Errors
/// As [`Record::read`], and [`Error::Io`] when the page cannot be written.
pub fn write_page(folder: &Path) -> Result<(), Error> {
    let page = single(&Record::read(folder)?);
    write_atomically(&folder.join(PAGE), page.as_bytes())
}

/// The page of one run.
pub fn single(record: &Record) -> String {
    let run = Named { label: &record.report.name, record };
    let curves = charts::curves(&run);
    let tradeoffs = charts::tradeoffs(std::slice::from_ref(&run));
    let per_class = charts::per_class(&record.report, record.answers.as_ref());
    let page = Single {
        assets: ASSETS,
        title: &record.report.name,
        report: &record.report,
        tiles: tiles(&record.report),
        rows: record.report.rows(),
        exports: record.exports.as_ref(),
        charts: curves.iter().chain(&tradeoffs).chain(&per_class).collect(),
        curves: &curves,
        tradeoffs: &tradeoffs,
        per_class: per_class.as_ref(),
        temperature: record.answers.as_ref().map_or(String::new(), |a| a.temperature.to_string()),
        groups: record.answers.as_ref().map_or(Vec::new(), Shown::all),
        texts: record.texts.as_ref(),
        contexts: contexts(&record.report),
        before: record.report.before_training(),
        guesses: record.guesses.as_ref().map_or(&[], |guesses| &guesses.texts),
        matrix: record.answers.as_ref().and_then(Matrix::of),
        recipe: &record.recipe,
        facts: facts(&record.report),
    };
    page.render().expect("a page's template cannot fail")
}

#[derive(Template)]
#[template(path = "single.html")]
struct Single<'a> {
    assets: Assets,
    title: &'a str,
    report: &'a Report,
    tiles: Vec<Tile>,
    rows: Vec<Row>,
    exports: Option<&'a Exports>,
    /// Those of the three fields below, for the script.
    charts: Vec<&'a Chart>,
    curves: &'a [Chart],
    tradeoffs: &'a [Chart],
    per_class: Option<&'a Chart>,
    temperature: String,
    groups: Vec<Shown<'a>>,
    guesses: &'a [GuessedText],
    texts: Option<&'a Texts>,
    contexts: Vec<ContextRow>,
    before: Option<String>,
    matrix: Option<Matrix<'a>>,
    recipe: &'a str,
    facts: Vec<(&'static str, String)>,
}

/// A figure that sums a run up.
pub(super) struct Tile {
    pub value: String,
    pub what: String,
}

/// What the models guess of tokens that have so many before them.
struct ContextRow {
    /// How many, in words.
    before: String,
    /// Tokens that are guessed.
    tokens: String,
    /// Nats of the three models, then KL to the teacher of both students.
    cells: [String; 5],
}

fn contexts(report: &Report) -> Vec<ContextRow> {
    let Arms { teacher, control, distilled } = &report.arms;
    let row = |(at, own): (usize, &Context)| {
        let of = |arm: &ArmReport| arm.contexts.get(at).copied();
        let nats = |context: Option<Context>| {
            context.map_or(UNKNOWN.to_owned(), |one| format!("{:.4}", one.cross_entropy))
        };
        let kl = |context: Option<Context>| {
            context.and_then(|one| one.kl).map_or(UNKNOWN.to_owned(), |kl| format!("{kl:.4}"))
        };
        let (theirs, alone) = (teacher.as_ref().and_then(of), of(control));
        ContextRow {
            before: format!("{} to {}", own.from, own.to),
            tokens: thousands(own.tokens),
            cells: [nats(theirs), nats(alone), nats(Some(*own)), kl(alone), kl(Some(*own))],
        }
    };
    distilled.contexts.iter().enumerate().map(row).collect()
}

fn tiles(report: &Report) -> Vec<Tile> {
    let (teacher, student) = (report.arms.teacher.as_ref(), &report.arms.distilled);
    let times = |ratio: Option<f64>| ratio.map(|ratio| format!("{ratio:.1} ×"));
    let share = |share: Option<f64>| share.map(|share| percent(Some(share)));
    let smaller = teacher.and_then(|t| Some(t.parameters? as f64 / student.parameters? as f64));
    let faster = teacher.and_then(|t| Some(t.latency_ms? / student.latency_ms?));
    let gap = match report.no_gap() {
        None => (share(report.gap_closed), "of the gap to the teacher closed".to_owned()),
        Some(reason) => {
            (Some(UNKNOWN.to_owned()), format!("of the gap to the teacher closed: {reason}"))
        }
    };
    let all = [
        (share(report.retained), format!("of {} kept", report.kept())),
        gap,
        (times(smaller), "smaller than the teacher".to_owned()),
        (times(faster), "as fast as the teacher".to_owned()),
    ];
    let tile = |(value, what): (Option<String>, _)| Some(Tile { value: value?, what });
    all.into_iter().filter_map(tile).collect()
}

fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let examples = &report.examples;
    let unlabelled = examples.unlabelled.map(|count| ("Examples without labels", thousands(count)));
    let facts = [
        ("Device", report.device.clone()),
        ("Driver", report.backend.clone()),
        ("distil-gpu", report.version.clone()),
        ("Seed", report.seed.to_string()),
        ("Whole run", format!("{:.1} s", report.seconds)),
        ("Teacher's examples", thousands(examples.teacher)),
        ("Students' examples", thousands(examples.students)),
        ("Test examples", thousands(examples.test)),
    ];
    let stored = report.arms.teacher.as_ref().and_then(|teacher| teacher.stored.as_ref());
    let stored = stored.map(|stored| {
        let (bytes, whole) = (stored.bytes as f64 / 1e6, stored.f32_bytes as f64 / 1e6);
        let words = [stored.in_words(), stored.cost_in_words()].join("; ");
        ("Teacher's weights", format!("{bytes:.2} MB, {whole:.2} MB in f32; {words}"))
    });
    facts.into_iter().chain(unlabelled).chain(stored).collect()
}
