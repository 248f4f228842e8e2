//! The page of a sweep: one file with everything in it.

use std::collections::BTreeSet;
use std::path::Path;

use askama::Template;

use super::heat::Heat;
use crate::charts::{self, Chart};
use crate::page::{ASSETS, Assets, Tile};
use distil_gpu_engine::Error;
use distil_gpu_engine::files::write_atomically;
use distil_gpu_engine::results::{
    Format, Measure, PERPLEXITY, SWEEP_PAGE, SweepReport, SweepRow, percent,
};
use distil_gpu_engine::words::counted_thousands;

/// Writes the page of a sweep into its folder, from the files there alone.
///
/// # Errors
/// As [`SweepReport::read`], and [`Error::Io`] when the page cannot be written.
pub fn write_sweep_page(folder: &Path) -> Result<(), Error> {
    let page = sweep_page(&SweepReport::read(folder)?);
    write_atomically(&folder.join(SWEEP_PAGE), page.as_bytes())
}

/// The page of a sweep.
pub fn sweep_page(report: &SweepReport) -> String {
    let tradeoffs = charts::pareto(report);
    let page = Page {
        assets: ASSETS,
        title: &report.name,
        report,
        tiles: tiles(report),
        seeds: seeds(report),
        teacher: teacher(report),
        heats: Heat::all(report),
        charts: tradeoffs.iter().collect(),
        tradeoffs: &tradeoffs,
        columns: report.columns(),
        rows: report.rows(),
        facts: facts(report),
    };
    page.render().expect("a page's template cannot fail")
}

#[derive(Template)]
#[template(path = "sweep.html")]
struct Page<'a> {
    assets: Assets,
    title: &'a str,
    report: &'a SweepReport,
    tiles: Vec<Tile>,
    /// Those of each combination.
    seeds: Vec<u32>,
    teacher: Option<String>,
    heats: Vec<Heat<'a>>,
    /// Those of the field below, for the script.
    charts: Vec<&'a Chart>,
    tradeoffs: &'a [Chart],
    columns: Vec<String>,
    rows: Vec<SweepRow>,
    facts: Vec<(&'static str, String)>,
}

fn tiles(report: &SweepReport) -> Vec<Tile> {
    let Some(best) = report.best() else { return Vec::new() };
    let Measure { title, format, .. } = report.task.score();
    let score = report.score(best).mean;
    let kept = report.teacher.as_ref().and_then(|teacher| report.score_of(teacher));
    let kept = kept.filter(|teacher| *teacher > 0.0 && report.teacher_is_useful());
    let gain = report.gain(best).mean;
    let gain = match format {
        Format::Percent => format!("{:+.2}", 100.0 * gain),
        _ => format!("{gain:+.4}"),
    };
    let perplexity = best.perplexity().map(|[own, _]| format!("{:.2}", own.mean));
    let all = [
        perplexity.map(|perplexity| (perplexity, "perplexity of the best combination".to_owned())),
        Some((format.show(score), format!("{title} of the best combination"))),
        Some((gain, "points against the same student alone".to_owned())),
        kept.map(|teacher| {
            (percent(Some(score / teacher)), format!("of {} kept", report.task.kept()))
        }),
        Some((
            format!("{} × {}", report.points.len(), report.seeds),
            "combinations and seeds".to_owned(),
        )),
    ];
    all.into_iter().flatten().map(|(value, what)| Tile { value, what }).collect()
}

/// The seeds of a combination's students, which all combinations have.
fn seeds(report: &SweepReport) -> Vec<u32> {
    let point = report.points.first();
    let seeds = point.map(|point| {
        let measured = point.runs.iter().map(|run| run.seed);
        measured.chain(point.failed.iter().map(|run| run.seed)).collect::<BTreeSet<_>>()
    });
    seeds.into_iter().flatten().collect()
}

/// What the teacher is, in a line.
fn teacher(report: &SweepReport) -> Option<String> {
    let teacher = report.teacher.as_ref()?;
    let score = report.task.score();
    let parts = [
        teacher.scores.get(PERPLEXITY).map(|perplexity| format!("a perplexity of {perplexity:.2}")),
        score.shown(&teacher.scores).map(|shown| format!("{shown} {}", score.title)),
        teacher.parameters.map(|count| counted_thousands(count, "parameter")),
        teacher.latency_ms.map(|ms| format!("{ms:.3} ms an example")),
    ];
    Some(parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

fn facts(report: &SweepReport) -> Vec<(&'static str, String)> {
    let failed = report.failures().into_iter();
    let failed = failed.map(|(student, reason)| ("Failed", format!("{student}: {reason}")));
    let facts = vec![
        ("Device", report.device.clone()),
        ("Driver", report.backend.clone()),
        ("distil-gpu", report.version.clone()),
        ("Seeds of each combination", report.seeds.to_string()),
        ("All trainings", format!("{:.1} s", report.seconds)),
    ];
    facts.into_iter().chain(failed).collect()
}
