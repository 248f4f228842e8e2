//! Progress on the terminal.

use distil_gpu_engine::distill::{Event, Observer};
use distil_gpu_engine::models::hub;
use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::note;

/// Draws one bar an arm; without a terminal, one line an arm.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    batch: usize,
    /// Steps taken before this start of the program.
    first: u32,
    download: Download,
}

impl Progress {
    /// Nothing is drawn until the first event.
    pub fn new() -> Self {
        Self { bar: ProgressBar::hidden(), batch: 0, first: 0, download: Download::default() }
    }
}

fn style(batch: usize) -> ProgressStyle {
    let rate = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        // A bar's writer is a String: it cannot fail.
        let _ = write!(out, "{:.0} examples/s", state.per_sec() * batch as f64);
    };
    let template = "{prefix:>9} {bar:24} {pos}/{len} steps  {rate}  {eta} left  {msg}";
    ProgressStyle::with_template(template)
        .expect("the template is well formed")
        .with_key("rate", rate)
}

impl Observer for Progress {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Opened { .. } => {}
            Event::Download(progress) => self.download.show(progress),
            Event::Started { arm, steps, done, batch } => {
                self.batch = *batch;
                self.bar = ProgressBar::with_draw_target(
                    Some(u64::from(*steps)),
                    ProgressDrawTarget::stderr(),
                )
                .with_style(style(*batch))
                .with_prefix(arm.name())
                .with_position(u64::from(*done));
                self.first = *done;
                self.bar.reset_eta();
            }
            Event::Step { done, .. } => self.bar.set_position(u64::from(*done)),
            Event::Epoch { test, .. } => {
                if let Some(accuracy) = test.accuracy {
                    self.bar.set_message(format!("test accuracy {:.2} %", 100.0 * accuracy));
                } else if let Some(cosine) = test.cosine {
                    self.bar.set_message(format!("cosine with the teacher's {cosine:.4}"));
                }
            }
            Event::Measured { metrics, validation, .. } => {
                if let Some(accuracy) = metrics.accuracy {
                    let set = if *validation { "validation" } else { "test" };
                    self.bar.set_message(format!("{set} accuracy {:.2} %", 100.0 * accuracy));
                }
            }
            Event::Finished { arm } => {
                let (took, message) = (self.bar.elapsed().as_secs_f64(), self.bar.message());
                let steps = self.bar.position() - u64::from(self.first);
                let examples = steps as f64 * self.batch as f64;
                self.bar.finish_and_clear();
                note(format_args!(
                    "{:>9}: {steps} steps in {took:.1} s ({:.0} examples/s), {message}",
                    arm.name(),
                    examples / took.max(1e-9),
                ));
            }
            Event::Note(text) => self.bar.suspend(|| note(text)),
        }
    }
}

/// Draws a bar a file that is downloaded; without a terminal, one line a file.
#[derive(Debug, Default)]
pub struct Download {
    bar: Option<ProgressBar>,
}

impl Download {
    /// Shows how far a file has come.
    pub fn show(&mut self, progress: &hub::Progress<'_>) {
        let hub::Progress { model, file, bytes, total } = progress;
        let bar = self.bar.get_or_insert_with(|| {
            let template = "{msg} {bar:24} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
            let style =
                ProgressStyle::with_template(template).expect("the template is well formed");
            ProgressBar::with_draw_target(Some(*total), ProgressDrawTarget::stderr())
                .with_style(style)
                .with_message(format!("{model}: {file}"))
        });
        bar.set_position(*bytes);
        if bytes == total {
            bar.finish_and_clear();
            self.bar = None;
            note(format_args!("Downloaded {file} of {model}: {}", HumanBytes(*total)));
        }
    }
}
