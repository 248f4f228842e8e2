//! What became slower or faster since an earlier measurement.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Report;
use crate::error::Error;
use crate::files::io_error;

/// Something that both measurements have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// What was timed.
    pub name: String,
    /// Time now over time then, each in units of the device's own copy kernel of that day: 2 is twice as slow. So
    /// a machine that was busy, or is another of the same name, weighs less.
    pub ratio: f64,
}

/// What became of one device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Its name.
    pub device: String,
    /// What became slower first.
    pub changes: Vec<Change>,
}

/// An earlier measurement: of what `distil-gpu bench --json` prints, what is compared.
#[derive(Clone, Debug, Deserialize)]
pub struct Baseline {
    recipe: String,
    devices: Vec<Earlier>,
}

/// One device's.
#[derive(Clone, Debug, Deserialize)]
struct Earlier {
    device: String,
    backend: String,
    roofs: Roof,
    throughput: Vec<Run>,
    kernels: Option<Vec<Kernel>>,
}

#[derive(Clone, Debug, Deserialize)]
struct Roof {
    gigabytes_per_second: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Run {
    name: String,
    rows: usize,
    milliseconds: f64,
}

#[derive(Clone, Debug, Deserialize)]
struct Kernel {
    name: String,
    microseconds: f64,
}

impl Baseline {
    /// Reads a file of `distil-gpu bench --json` for the same recipe.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Run`] when it is something else.
    pub fn read(path: &Path, recipe: &str) -> Result<Self, Error> {
        let bad = |problem| Error::Run { path: path.display().to_string(), problem };
        let text = fs::read_to_string(path).map_err(io_error(path))?;
        let baseline: Self = serde_json::from_str(&text)
            .map_err(|error| bad(format!("not what `distil-gpu bench --json` printed: {error}")))?;
        match baseline.recipe == recipe {
            true => Ok(baseline),
            false => Err(bad(format!("of the recipe {}, not of {recipe}", baseline.recipe))),
        }
    }

    /// Each device that both measurements have.
    pub fn compare(&self, reports: &[Report]) -> Vec<Comparison> {
        let of = |report: &Report| {
            let same = |then: &&Earlier| {
                (&then.device, &then.backend) == (&report.device, &report.backend)
            };
            let changes = self.devices.iter().find(same)?.changes(report);
            Some(Comparison { device: report.device.clone(), changes })
        };
        reports.iter().filter_map(of).collect()
    }
}

impl Earlier {
    fn changes(&self, report: &Report) -> Vec<Change> {
        let copies = report.roofs.gigabytes_per_second / self.roofs.gigabytes_per_second;
        let runs = report.throughput.iter().filter_map(|now| {
            let same = |then: &&Run| (&then.name, then.rows) == (&now.name, now.rows);
            let then = self.throughput.iter().find(same)?;
            let name = format!("{}, batch of {}", now.name, now.rows);
            Some(Change { name, ratio: copies * now.milliseconds / then.milliseconds })
        });
        let kernels = report.kernels.iter().flatten().filter_map(|now| {
            let then = self.kernels.iter().flatten().find(|then| then.name == now.name)?;
            let ratio = copies * now.microseconds / then.microseconds;
            Some(Change { name: now.name.clone(), ratio })
        });
        let mut changes: Vec<Change> = runs.chain(kernels).collect();
        changes.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
        changes
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bench::{KernelTime, Roofs, Startup, Throughput};

    #[test]
    fn a_change_is_against_the_copy_of_its_day() {
        let report = |copy: f64, step: f64, kernel: f64| Report {
            device: "one".to_owned(),
            backend: "Vulkan".to_owned(),
            driver: String::new(),
            roofs: Roofs { gflops: 1.0, gigabytes_per_second: copy },
            startup: Startup { open_ms: 1.0, load_ms: 1.0, first_step_ms: 1.0 },
            throughput: vec![Throughput {
                name: "training".to_owned(),
                rows: 8,
                milliseconds: step,
                examples_per_second: 1.0,
                gflops: 1.0,
            }],
            kernels: Some(vec![KernelTime {
                name: "matmul".to_owned(),
                calls: 1,
                microseconds: kernel,
                gflops: 1.0,
                gigabytes_per_second: 1.0,
                share_of_roof: 1.0,
            }]),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("before.json");
        let before = json!({ "recipe": "digits", "devices": [report(10.0, 4.0, 100.0)] });
        fs::write(&path, before.to_string()).unwrap();
        let baseline = Baseline::read(&path, "digits").unwrap();
        // A machine half as fast in all, but for a kernel that became four times as slow.
        let now = report(5.0, 8.0, 400.0);
        let elsewhere = Report { device: "another".to_owned(), ..now.clone() };
        let change = |name: &str, ratio| Change { name: name.to_owned(), ratio };
        let changes = vec![change("matmul", 2.0), change("training, batch of 8", 1.0)];
        let wanted = Comparison { device: "one".to_owned(), changes };
        assert_eq!(baseline.compare(&[elsewhere, now]), [wanted]);

        let refusal = |recipe| Baseline::read(&path, recipe).unwrap_err().to_string();
        assert!(refusal("letters").contains("of the recipe digits, not of letters"));
        fs::write(&path, "{}").unwrap();
        assert!(refusal("digits").contains("not what `distil-gpu bench --json` printed"));
    }
}
