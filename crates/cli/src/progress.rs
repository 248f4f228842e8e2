//! Progress: bars on a terminal; elsewhere, as in a log, a line every ten seconds.

use std::cell::Cell;
use std::time::{Duration, Instant};

use distil_gpu_engine::models::hub;
use distil_gpu_engine::results::{Arm, Measure, Metrics};
use distil_gpu_engine::run::{Event, Observer};
use distil_gpu_engine::words::counted;
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::terminal::{clean, note};

/// Time from one line to the next, where lines stand for a bar.
const INTERVAL: Duration = Duration::from_secs(10);

/// One piece of work: a bar on a terminal, elsewhere lines, the first after ten seconds.
#[derive(Debug)]
pub struct Meter {
    bar: ProgressBar,
    /// Begins each line, where lines are printed.
    name: Option<String>,
    unit: &'static str,
    /// When it began, and with how much done.
    began: Instant,
    first: u64,
    printed: Cell<Instant>,
}

impl Meter {
    /// Shows nothing.
    pub fn hidden() -> Self {
        Self::new(ProgressBar::hidden(), None, "")
    }

    /// Draws `bar`; where that cannot be seen, prints lines that begin with `name`.
    fn drawn(bar: ProgressBar, style: ProgressStyle, name: &str, unit: &'static str) -> Self {
        bar.set_draw_target(ProgressDrawTarget::stderr());
        let name = bar.is_hidden().then(|| name.to_owned());
        Self::new(bar.with_style(style), name, unit)
    }

    fn new(bar: ProgressBar, name: Option<String>, unit: &'static str) -> Self {
        let (began, first) = (Instant::now(), bar.position());
        Self { bar, name, unit, began, first, printed: Cell::new(began) }
    }

    /// Counts so many of `unit`.
    pub fn counting(len: usize, unit: &'static str) -> Self {
        let template = format!("{{bar:24}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left");
        Self::drawn(ProgressBar::no_length(), style(&template), "", unit).with_len(len as u64)
    }

    /// Says what is being done, where nobody knows for how long.
    pub fn spinner() -> Self {
        let meter =
            Self::drawn(ProgressBar::new_spinner(), ProgressStyle::default_spinner(), "", "");
        if meter.name.is_none() {
            meter.bar.enable_steady_tick(Duration::from_millis(120));
        }
        meter
    }

    fn with_len(self, len: u64) -> Self {
        self.bar.set_length(len);
        self
    }

    /// How many there are in all.
    pub fn set_length(&self, len: u64) {
        self.bar.set_length(len);
    }

    /// So many are done.
    pub fn set_position(&self, done: u64) {
        self.bar.set_position(done);
        self.print(Instant::now());
    }

    /// So many more are done.
    pub fn inc(&self, more: u64) {
        self.set_position(self.bar.position() + more);
    }

    /// What is said beside the count.
    pub fn set_message(&self, message: &str) {
        self.bar.set_message(clean(message).into_owned());
        self.print(Instant::now());
    }

    /// Prints a line above the bar.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| note(text));
    }

    /// Takes the bar away.
    pub fn finish_and_clear(&self) {
        self.bar.finish_and_clear();
    }

    fn print(&self, now: Instant) {
        if self.name.is_some() && now - self.printed.get() >= INTERVAL {
            self.printed.set(now);
            note(self.line(now - self.began));
        }
    }

    /// What a line says after so long.
    fn line(&self, elapsed: Duration) -> String {
        let (done, len) = (self.bar.position(), self.bar.length().unwrap_or(0));
        let counted = (len > 0).then(|| {
            let (unit, left) =
                (self.unit, left(elapsed, done.saturating_sub(self.first), len - done.min(len)));
            format!("{done}/{len} {unit}{left}")
        });
        let name = self.name.clone().filter(|name| !name.is_empty());
        let said = Some(self.bar.message()).filter(|message| !message.is_empty());
        let count = [counted, said].into_iter().flatten().collect::<Vec<_>>().join(", ");
        name.map_or(count.clone(), |name| format!("{name}: {count}"))
    }
}

/// The time that is left, by the time that what is done took.
fn left(elapsed: Duration, done: u64, rest: u64) -> String {
    match done {
        0 => String::new(),
        _ => {
            let left = elapsed.mul_f64((rest as f64 / done as f64).min(1e6));
            format!(", {:#} left", HumanDuration(left))
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is well formed")
}

/// Shows the trainings of a run, one after the other.
#[derive(Debug)]
pub struct Progress {
    meter: Meter,
    /// What a step works through, and in what it is counted.
    step_work: (f64, &'static str),
    /// What is shown of its measurements.
    shown: Option<Measure>,
    /// The score that was measured last, and the loss before it.
    score: String,
    loss: String,
    download: Download,
}

impl Progress {
    /// Nothing is shown until the first event.
    pub fn new() -> Self {
        let (score, loss) = Default::default();
        let (meter, download) = (Meter::hidden(), Download::default());
        Self { meter, step_work: (0.0, ""), shown: None, score, loss, download }
    }

    fn start(
        &mut self,
        arm: Arm,
        steps: u32,
        done: u32,
        step_work: (f64, &'static str),
        shown: Measure,
    ) {
        self.shown = Some(shown);
        let bar = ProgressBar::new(steps.into()).with_position(done.into());
        let bar = bar.with_prefix(arm.title());
        let template = "{prefix:>17} {bar:10} {pos}/{len}  {eta} left  {wide_msg}";
        self.meter = Meter::drawn(bar, style(template), arm.title(), "steps");
        self.meter.bar.reset_eta();
        self.step_work = step_work;
        (self.score, self.loss) = Default::default();
    }

    fn measured(&mut self, set: &str, train: &Metrics, metrics: &Metrics) {
        self.loss = format!("loss {:.4}", train.loss);
        let shown = self.shown.and_then(|shown| Some((shown.title, shown.shown(&metrics.scores)?)));
        if let Some((title, score)) = shown {
            self.score = format!("{set} {title} {score}");
        }
        self.meter.set_message(&joined([&self.score, &self.loss]));
    }

    fn finish(&self, arm: Arm) {
        let (took, meter) = (self.meter.began.elapsed().as_secs_f64(), &self.meter);
        let steps = meter.bar.position() - meter.first;
        let (work, unit) = self.step_work;
        let rate = steps as f64 * work / took.max(1e-9);
        let figures =
            format!("{} in {took:.1} s ({rate:.0} {unit}/s)", counted(steps as usize, "step"));
        meter.finish_and_clear();
        note(format_args!("{:>17}: {}", arm.title(), joined([&figures, &self.score])));
    }
}

/// With commas between what is not empty.
fn joined(parts: [&String; 2]) -> String {
    let parts = parts.into_iter().filter(|part| !part.is_empty());
    parts.map(String::as_str).collect::<Vec<_>>().join(", ")
}

impl Observer for Progress {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Opened { .. } | Event::Wrote { .. } => {}
            Event::Download(progress) => self.download.show(progress),
            Event::Started { arm, steps, done, batch, tokens, shown } => {
                let work = tokens.map_or((*batch as f64, "examples"), |tokens| (tokens, "tokens"));
                self.start(*arm, *steps, *done, work, *shown);
            }
            Event::Step { done, .. } => self.meter.set_position(u64::from(*done)),
            Event::Epoch { train, test, .. } => self.measured("test", train, test),
            Event::Measured { train, metrics, validation, .. } => {
                self.measured(if *validation { "validation" } else { "test" }, train, metrics);
            }
            Event::Finished { arm } => self.finish(*arm),
            Event::Note(text) => self.meter.note(text),
        }
    }
}

/// Shows a file that is downloaded.
#[derive(Debug, Default)]
pub struct Download {
    meter: Option<Meter>,
}

impl Download {
    /// Shows how far a file has come.
    pub fn show(&mut self, progress: &hub::Progress<'_>) {
        let hub::Progress { model, file, bytes, total } = progress;
        let name = format!("{model}: {file}");
        let meter = self.meter.get_or_insert_with(|| {
            let template = "{prefix} {bar:10} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
            let bar = ProgressBar::new(*total).with_prefix(clean(&name).into_owned());
            Meter::drawn(bar, style(template), &name, "bytes")
        });
        meter.set_position(*bytes);
        if bytes == total {
            meter.finish_and_clear();
            self.meter = None;
            note(format_args!("Downloaded {file} of {model}: {}", HumanBytes(*total)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_count_time_left_and_what_was_measured() {
        let bar = ProgressBar::hidden().with_position(100);
        bar.set_length(400);
        let meter = Meter::new(bar, Some("student alone".to_owned()), "steps");
        assert_eq!(meter.line(Duration::from_secs(10)), "student alone: 100/400 steps");
        meter.set_position(150);
        assert_eq!(meter.line(Duration::from_secs(10)), "student alone: 150/400 steps, 50s left");
        meter.set_message("test accuracy 83.20 %, loss 0.4213");
        assert_eq!(
            meter.line(Duration::from_secs(100)),
            "student alone: 150/400 steps, 8m left, test accuracy 83.20 %, loss 0.4213"
        );
    }

    #[test]
    fn lines_are_ten_seconds_apart() {
        let meter = Meter::new(ProgressBar::hidden(), Some("teacher".to_owned()), "steps");
        let (began, first) = (meter.began, meter.printed.get());
        meter.print(began + Duration::from_millis(9_999));
        assert_eq!(meter.printed.get(), first);
        for (second, printed) in [(10, 10), (19, 10), (20, 20), (45, 45), (54, 45)] {
            meter.print(began + Duration::from_secs(second));
            assert_eq!(meter.printed.get(), began + Duration::from_secs(printed));
        }
        let silent = Meter::hidden();
        silent.print(silent.began + Duration::from_secs(60));
        assert_eq!(silent.printed.get(), silent.began);
    }
}
