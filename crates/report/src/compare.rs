//! The page that compares runs.

use std::collections::BTreeMap;

use askama::Template;

use super::charts::{self, Chart, Named};
use super::page::{ASSETS, Assets};
use distil_gpu_engine::results::{ArmReport, Record, Report, UNKNOWN, percent};
use distil_gpu_engine::words::thousands;

/// The page that compares runs, each with its name.
pub fn compare(runs: &[(String, Record)]) -> String {
    let named: Vec<Named<'_>> =
        runs.iter().map(|(label, record)| Named { label, record }).collect();
    let curves = charts::overlaid(&named);
    let tradeoffs = charts::tradeoffs(&named);
    let page = Compare {
        assets: ASSETS,
        title: "Runs compared",
        runs: named.iter().enumerate().map(Compared::of).collect(),
        charts: curves.iter().chain(&tradeoffs).collect(),
        curves: &curves,
        tradeoffs: &tradeoffs,
        differences: differences(&named),
    };
    page.render().expect("a page's template cannot fail")
}

#[derive(Template)]
#[template(path = "compare.html")]
struct Compare<'a> {
    assets: Assets,
    title: &'a str,
    runs: Vec<Compared<'a>>,
    charts: Vec<&'a Chart>,
    curves: &'a [Chart],
    tradeoffs: &'a [Chart],
    differences: Vec<(String, Vec<String>)>,
}

/// A run in the table that compares them.
struct Compared<'a> {
    label: &'a str,
    place: usize,
    report: &'a Report,
    cells: Vec<String>,
}

impl<'a> Compared<'a> {
    fn of((place, run): (usize, &Named<'a>)) -> Self {
        let report = &run.record.report;
        let (teacher, student) = (report.arms.teacher.as_ref(), &report.arms.distilled);
        let measure = report.task.score();
        let score = |arm: Option<&ArmReport>| {
            let shown = arm.and_then(|arm| measure.shown(&arm.scores));
            shown.unwrap_or_else(|| UNKNOWN.to_owned())
        };
        let cells = vec![
            score(teacher),
            score(Some(&report.arms.control)),
            score(Some(student)),
            percent(report.retained),
            percent(report.gap_closed),
            percent(report.agreement),
            student.parameters.map_or(UNKNOWN.to_owned(), thousands),
            student.latency_ms.map_or(UNKNOWN.to_owned(), |ms| format!("{ms:.3} ms")),
            report.seed.to_string(),
        ];
        Self { label: run.label, place, report, cells }
    }
}

/// The keys in which recipes differ, with each one's value.
fn differences(runs: &[Named<'_>]) -> Vec<(String, Vec<String>)> {
    let recipes: Vec<BTreeMap<String, String>> = runs
        .iter()
        .map(|run| {
            let mut keys = BTreeMap::new();
            // A recipe that was edited into something else has no keys to compare.
            if let Ok(table) = run.record.recipe.parse::<toml::Table>() {
                flatten("", &toml::Value::Table(table), &mut keys);
            }
            keys.retain(|key, _| key != "out" && key != "name");
            keys
        })
        .collect();
    let mut keys: Vec<&String> = recipes.iter().flat_map(BTreeMap::keys).collect();
    keys.sort();
    keys.dedup();
    let values = |key: &String| {
        let of = |recipe: &BTreeMap<_, _>| recipe.get(key).cloned().unwrap_or(UNKNOWN.to_owned());
        (key.clone(), recipes.iter().map(of).collect::<Vec<String>>())
    };
    keys.into_iter()
        .map(values)
        .filter(|(_, values)| values.iter().any(|value| *value != values[0]))
        .collect()
}

/// Every value of a TOML document by its dotted key.
fn flatten(path: &str, value: &toml::Value, into: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, value, into);
            }
        }
        value => _ = into.insert(path.to_owned(), value.to_string()),
    }
}
