//! `distil-gpu sweep`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use distil_gpu_engine::results::{SWEEP_PAGE, SweepReport};
use distil_gpu_engine::run;
use distil_gpu_engine::run::{Axis, Begin, Grid};

use super::toml_string;
use crate::table::Table;
use crate::watch::Watch;
use crate::{STUDENTS_FAILED, Usage, Voice, say, say_json, table};

/// Arguments of `sweep`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu sweep --set distil.temperature=1,2,4,8,20 --set distil.alpha=0.1,0.5,0.9 --seeds 3
      Fifteen combinations, three students each, one teacher
  distil-gpu sweep mine.toml --set 'student.model.hidden_sizes=[30],[100],[300]'
      Students of three sizes
  distil-gpu sweep mine.toml --seeds 5
      The recipe as it is, with five seeds: what one run's figures are worth
  distil-gpu sweep --resume runs/default-sweep
      Go on with a sweep that was interrupted

A student whose training diverges (NaN or Inf) is entered as failed, with the reason, and the sweep goes on; it then
ends with exit code 4.")]
pub struct Args {
    /// Recipe to vary [default: the one that comes with the program]
    recipe: Option<PathBuf>,
    /// Values for any key of `[student]`, `[distil]` or `[train]`, with commas between them; one value for any key
    /// fixes it
    #[arg(long, value_name = "KEY=VALUE,VALUE...")]
    set: Vec<String>,
    /// Students of each combination, with seeds from the recipe's on
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    seeds: u32,
    /// Folder for the results [default: runs/NAME-sweep, numbered when that exists]
    #[arg(long)]
    out: Option<PathBuf>,
    /// auto, cpu, gpu or gpu:N (see `distil-gpu devices`)
    #[arg(long, value_parser = super::device)]
    device: Option<String>,
    /// Replace the results of an earlier sweep in the same folder
    #[arg(long)]
    force: bool,
    /// Go on with the interrupted sweep in this folder
    #[arg(long, value_name = "SWEEP", conflicts_with_all = ["recipe", "set", "seeds", "out", "force"])]
    resume: Option<PathBuf>,
    /// Go on though the recipe, the grid or the data are not those that the sweep began with: what was trained otherwise
    /// is trained again; the report says so
    #[arg(long, requires = "resume", conflicts_with = "recipe")]
    accept_changes: bool,
}

pub fn run(args: Args, voice: Voice) -> Result<ExitCode> {
    let mut sets: Vec<String> = Vec::new();
    sets.extend(args.device.map(|device| format!("device={}", toml_string(&device))));
    let out = args.out.as_ref().or(args.resume.as_ref());
    sets.extend(out.map(|out| format!("out={}", toml_string(&out.to_string_lossy()))));
    let (recipe, grid, begin) = match &args.resume {
        Some(folder) => {
            let grid = Grid::read(folder)?;
            let begin = Begin::Resume { accept_changes: args.accept_changes };
            (super::recipe(Some(&folder.join("recipe.toml")), &sets, voice)?, grid, begin)
        }
        None => {
            let (axes, fixed) = axes(&args.set)?;
            if axes.is_empty() && args.seeds == 1 {
                let problem = "nothing varies: give a key several values, as in --set distil.temperature=1,2,4, or \
                               several seeds, as in --seeds 3";
                bail!(Usage(problem.to_owned()));
            }
            sets.splice(0..0, fixed);
            let begin = if args.force { Begin::Replace } else { Begin::New };
            let grid = Grid { axes, seeds: args.seeds };
            (super::recipe(args.recipe.as_deref(), &sets, voice)?, grid, begin)
        }
    };
    let mut device = super::open(&recipe.device, false, voice)?;
    super::tune::apply(&mut *device, &recipe, None, voice)?;
    let mut watch = Watch::new(voice)?;
    let sweep = match run::sweep(&recipe, &grid, &mut *device, begin, &mut watch) {
        Ok(sweep) => sweep,
        Err(error) => return watch.explain(error, "sweep"),
    };
    if voice.json {
        say_json(&sweep.report)?;
    } else {
        say(points(&sweep.report))?;
        say(sweep.report.sentence())?;
        for warning in &sweep.report.warnings {
            say(format_args!("Warning: {warning}"))?;
        }
        for (student, reason) in sweep.report.failures() {
            say(format_args!("Failed: {student}: {reason}"))?;
        }
        say(format_args!("* marks {}.", SweepReport::FRONT))?;
        say(format_args!("Results: {}", sweep.folder.display()))?;
        say(format_args!("Report: {}", sweep.folder.join(SWEEP_PAGE).display()))?;
    }
    distil_gpu_report::write_sweep_page(&sweep.folder).with_context(|| {
        let folder = sweep.folder.display();
        format!("the sweep is finished; `distil-gpu report {folder}` makes its page")
    })?;
    Ok(match sweep.report.failures().is_empty() {
        true => ExitCode::SUCCESS,
        false => STUDENTS_FAILED.into(),
    })
}

/// Splits `--set`s into axes and into those with one value.
fn axes(sets: &[String]) -> Result<(Vec<Axis>, Vec<String>)> {
    let (mut axes, mut fixed) = (Vec::new(), Vec::new());
    for set in sets {
        let Some((key, values)) = set.split_once('=') else {
            bail!(Usage(format!(
                "--set {set}: it must be KEY=VALUE,VALUE..., as in --set distil.temperature=1,2,4"
            )));
        };
        let values = split(values);
        if values.iter().any(String::is_empty) {
            bail!(Usage(format!("--set {set}: a value between two commas is missing")));
        }
        let key = key.trim();
        if axes.iter().any(|axis: &Axis| axis.key == key) {
            bail!(Usage(format!(
                "--set {set}: {key} is varied already; give all its values at once"
            )));
        }
        match values.len() {
            1 => fixed.push(set.clone()),
            _ => axes.push(Axis { key: key.to_owned(), values }),
        }
    }
    Ok((axes, fixed))
}

/// The values between the commas that stand in no bracket, brace or string.
fn split(text: &str) -> Vec<String> {
    let (mut values, mut depth, mut quote) = (vec![String::new()], 0, None);
    for letter in text.chars() {
        match (letter, quote) {
            (',', None) if depth == 0 => {
                values.push(String::new());
                continue;
            }
            ('"' | '\'', None) => quote = Some(letter),
            (_, Some(open)) if letter == open => quote = None,
            ('[' | '{', None) => depth += 1,
            (']' | '}', None) => depth -= 1,
            _ => {}
        }
        values.last_mut().expect("there is one from the start").push(letter);
    }
    values.iter().map(|value| value.trim().to_owned()).collect()
}

/// A line a combination.
fn points(report: &SweepReport) -> Table {
    let header: Vec<String> = report.columns().into_iter().chain(["front".to_owned()]).collect();
    let columns = header.len();
    // Accuracy and gain tell the same.
    let spare: Vec<usize> = ["student alone", "parameters", "latency"]
        .iter()
        .flat_map(|name| header.iter().rposition(|column| column == name))
        .collect();
    let mut table = table::new(header);
    table.spare(spare);
    for row in report.rows() {
        let mark = if row.front { "*" } else { "" };
        table.add_row(row.cells.into_iter().chain([mark.to_owned()]));
    }
    table::right(&mut table, 0..columns);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_split_at_outer_commas() {
        assert_eq!(split("1, 2,4"), ["1", "2", "4"]);
        assert_eq!(split("[30,30],[100]"), ["[30,30]", "[100]"]);
        let tables = r#"{ name = "sgd", lr = 0.1 },{ name = "a,b" }"#;
        assert_eq!(split(tables), [r#"{ name = "sgd", lr = 0.1 }"#, r#"{ name = "a,b" }"#]);
        assert!(axes(&["distil.alpha=1,,2".to_owned()]).is_err());
        assert!(axes(&["distil.alpha=1".to_owned()]).is_ok_and(|(axes, _)| axes.is_empty()));
        assert!(axes(&["distil.alpha".to_owned()]).is_err());
    }
}
