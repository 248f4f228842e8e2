//! One file a command.

pub mod devices;
pub mod eval;
pub mod init;
pub mod logits;
pub mod report;
pub mod run;

use anyhow::Result;
use distil_gpu_engine::device::{Choice, Device, GpuOptions, select};

use indicatif::{ProgressBar, ProgressStyle};

use crate::{Voice, note};

/// Opens a device and says which and why.
fn open(choice: &str, checked: bool, voice: Voice) -> Result<Box<dyn Device>> {
    let choice: Choice = choice.parse()?;
    let selected = select(choice, GpuOptions { timestamps: false, checked })?;
    if voice.progress() {
        note(format_args!("Device: {}", selected.reason));
    }
    Ok(selected.device)
}

/// A bar over examples.
fn bar(voice: Voice, examples: usize) -> ProgressBar {
    if !voice.progress() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:24} {pos}/{len} examples  {per_sec}  {eta} left");
    ProgressBar::new(examples as u64).with_style(style.expect("the template is well formed"))
}
