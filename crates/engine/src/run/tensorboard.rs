//! TensorBoard event files: scalars of each epoch, one folder an arm, whose name is what TensorBoard shows.
//!
//! An event file is a row of TFRecords (length, checksum, bytes, checksum), each holding one `Event` of
//! TensorFlow's `event.proto`. Only the fields that scalars need are written.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::Error;
use crate::files::io_error;
use crate::objective::TermMetrics;
use crate::results::{Arm, Metrics};
use crate::sealed::remove_file;

/// Name of the folder in a run's folder.
const FOLDER: &str = "tensorboard";

/// How the names of event files begin, as TensorBoard looks for them.
const PREFIX: &str = "events.out.tfevents.";
/// How the names of those end that this program writes.
const SUFFIX: &str = ".distil-gpu";

/// Field numbers and wire types of `event.proto` and `summary.proto`, as tags.
mod tag {
    pub const WALL_TIME: u8 = 1 << 3 | 1;
    pub const STEP: u8 = 2 << 3;
    pub const FILE_VERSION: u8 = 3 << 3 | 2;
    pub const SUMMARY: u8 = 5 << 3 | 2;
    pub const SESSION_LOG: u8 = 7 << 3 | 2;
    pub const STATUS: u8 = 1 << 3;
    pub const VALUE: u8 = 1 << 3 | 2;
    pub const VALUE_TAG: u8 = 1 << 3 | 2;
    pub const SIMPLE_VALUE: u8 = 2 << 3 | 5;
}

/// Writes one event file an arm.
#[derive(Debug)]
pub(crate) struct TensorBoard {
    folder: PathBuf,
    files: BTreeMap<Arm, (PathBuf, File)>,
}

impl TensorBoard {
    /// In a run's folder. Nothing is written before the first epoch.
    pub fn new(run: &Path) -> Self {
        Self { folder: run.join(FOLDER), files: BTreeMap::new() }
    }

    /// Adds the scalars of a step: what was measured on each of some sets.
    pub fn add(
        &mut self,
        arm: Arm,
        step: u32,
        learning_rate: f32,
        sets: &[(&str, &Metrics)],
        terms: &[TermMetrics],
    ) -> Result<(), Error> {
        let mut scalars = vec![("learning_rate".to_owned(), learning_rate)];
        for (set, metrics) in sets {
            let Metrics { loss, soft, hard, agreement, scores, .. } = metrics;
            let terms = [
                ("loss", Some(*loss)),
                ("soft", *soft),
                ("hard", *hard),
                ("agreement", *agreement),
            ];
            let scores = scores.iter().map(|(key, score)| (key, Some(score)));
            let named = terms.into_iter().chain(scores).collect::<Vec<_>>();
            let named = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
            scalars.extend(named.map(|(name, value)| (format!("{set}/{name}"), value as f32)));
        }
        let named = terms.iter().map(|term| (format!("train/{}", term.term), term.value as f32));
        scalars.extend(named);
        let mut summary = Vec::new();
        for (name, value) in scalars {
            let mut entry = Vec::new();
            bytes(&mut entry, tag::VALUE_TAG, name.as_bytes());
            entry.push(tag::SIMPLE_VALUE);
            entry.extend(value.to_le_bytes());
            bytes(&mut summary, tag::VALUE, &entry);
        }
        let mut event = head(step);
        bytes(&mut event, tag::SUMMARY, &summary);
        let (path, file) = self.file(arm, step)?;
        file.write_all(&record(&event)).map_err(io_error(path))
    }

    /// The arm's file, new for this start of the program.
    fn file(&mut self, arm: Arm, step: u32) -> Result<&mut (PathBuf, File), Error> {
        if !self.files.contains_key(&arm) {
            let folder = self.folder.join(arm.title());
            fs::create_dir_all(&folder).map_err(io_error(&folder))?;
            let path = folder.join(format!("{PREFIX}{:.6}{SUFFIX}", now()));
            let mut file = OpenOptions::new()
                .append(true)
                .create(true)
                .open(&path)
                .map_err(io_error(&path))?;
            let mut version = head(0);
            bytes(&mut version, tag::FILE_VERSION, b"brain.Event:2");
            // TensorBoard drops what an interrupted run wrote from this step on.
            let mut start = head(step);
            bytes(&mut start, tag::SESSION_LOG, &[tag::STATUS, 1]);
            file.write_all(&[record(&version), record(&start)].concat())
                .map_err(io_error(&path))?;
            self.files.insert(arm, (path, file));
        }
        Ok(self.files.get_mut(&arm).expect("it was just put there"))
    }
}

/// Deletes the event files in a run's folder, and the folders that are empty then.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub(crate) fn remove(run: &Path) -> Result<(), Error> {
    let folder = run.join(FOLDER);
    for arm in Arm::ALL.map(|arm| folder.join(arm.name())) {
        for entry in arm.read_dir().into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
                remove_file(&entry.path())?;
            }
        }
        _ = fs::remove_dir(arm);
    }
    _ = fs::remove_dir(folder);
    Ok(())
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// An event's time and step.
fn head(step: u32) -> Vec<u8> {
    let mut event = vec![tag::WALL_TIME];
    event.extend(now().to_le_bytes());
    event.push(tag::STEP);
    varint(&mut event, u64::from(step));
    event
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn bytes(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    varint(out, content.len() as u64);
    out.extend(content);
}

/// A TFRecord: checksums are CRC-32C, rotated and offset so that a file may hold other checksums.
fn record(event: &[u8]) -> Vec<u8> {
    let masked = |bytes: &[u8]| {
        crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
    };
    let length = (event.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), event, &masked(event)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_bytes_that_tensorflow_writes() {
        // The first record of any event file of TensorFlow, its time set to 0.
        let mut event = vec![tag::WALL_TIME];
        event.extend([0; 8]);
        bytes(&mut event, tag::FILE_VERSION, b"brain.Event:2");
        let record = record(&event);
        assert_eq!(record[..8], 24_u64.to_le_bytes());
        assert_eq!(record[8..12], [0xa3, 0x7f, 0x4b, 0x22]);
        assert_eq!(record.len(), 8 + 4 + 24 + 4);
        let mut long = Vec::new();
        varint(&mut long, 300);
        assert_eq!(long, [0xac, 0x02]);
    }
}
