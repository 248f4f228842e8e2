//! What was found about a device's variants, in a file of the user's cache folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use distil_gpu_kernels::shader;
use etcetera::BaseStrategy;
use serde::{Deserialize, Serialize};

use crate::device::{Choices, DeviceInfo};
use crate::error::Error;
use crate::files::{io_error, write_atomically};

/// Names the folder of the cache; else it lies in the user's cache folder.
pub const FOLDER_VARIABLE: &str = "DISTIL_GPU_CACHE";
/// What is held against a variant that ended the program.
const CRASHED: &str = "the program ended while it ran";

/// One device's findings.
#[derive(Debug)]
pub struct Cache {
    path: PathBuf,
    findings: Findings,
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Findings {
    device: String,
    backend: String,
    driver: String,
    kernels: BTreeMap<String, KernelFindings>,
}

/// Those of one kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct KernelFindings {
    /// Checksum of its shaders: with others, nothing that was found holds.
    shaders: String,
    buckets: BTreeMap<String, Bucket>,
}

/// Those of one bucket of a kernel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// The fastest variant that computes right; absent until all have been timed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen: Option<String>,
    /// Median time of each variant that computes right, in microseconds.
    pub microseconds: BTreeMap<String, f64>,
    /// Variants never to be tried again, and why.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[serde(default)]
    pub refused: BTreeMap<String, String>,
    /// The variant that is being tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(default)]
    trying: Option<String>,
}

impl Cache {
    /// What is known of a device: nothing, where there is no file or none that can be read.
    ///
    /// # Errors
    /// [`Error::NoDevice`] where this user has no folder for caches.
    pub fn open(info: &DeviceInfo) -> Result<Self, Error> {
        let folder = match std::env::var_os(FOLDER_VARIABLE) {
            Some(folder) => PathBuf::from(folder),
            None => match etcetera::choose_base_strategy() {
                Ok(user) => user.cache_dir().join("distil-gpu"),
                Err(_) => {
                    return Err(Error::NoDevice(format!(
                        "there is no home folder to keep timings in: name one in {FOLDER_VARIABLE}"
                    )));
                }
            },
        };
        Ok(Self::in_folder(&folder, info))
    }

    /// As [`Cache::open`], in a folder.
    pub fn in_folder(folder: &Path, info: &DeviceInfo) -> Self {
        let DeviceInfo { name, backend, driver, .. } = info;
        let id = crc32fast::hash(format!("{name}\n{backend}\n{driver}").as_bytes());
        let readable: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let path = folder.join("tuning").join(format!("{readable}-{id:08x}.json"));
        let mut findings: Findings = std::fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        (findings.device, findings.backend, findings.driver) =
            (name.clone(), backend.clone(), driver.clone());
        findings.kernels.retain(|name, kernel| kernel.shaders == checksum(name));
        for bucket in findings.kernels.values_mut().flat_map(|kernel| kernel.buckets.values_mut()) {
            if let Some(variant) = bucket.trying.take() {
                bucket.refused.insert(variant, CRASHED.to_owned());
            }
        }
        Self { path, findings }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The fastest variants.
    pub fn choices(&self) -> Choices {
        let mut choices = Choices::default();
        for (name, kernel) in &self.findings.kernels {
            for (bucket, found) in &kernel.buckets {
                if let Some(variant) = &found.chosen {
                    choices.insert(name, bucket, variant);
                }
            }
        }
        choices
    }

    /// What is known of a bucket.
    pub fn bucket(&mut self, kernel: &str, bucket: &str) -> &mut Bucket {
        let new = || KernelFindings { shaders: checksum(kernel), ..KernelFindings::default() };
        let kernel = self.findings.kernels.entry(kernel.to_owned()).or_insert_with(new);
        kernel.buckets.entry(bucket.to_owned()).or_default()
    }

    /// Notes that a variant is about to run, so that it is known should it end the program.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written.
    pub fn trying(&mut self, kernel: &str, bucket: &str, variant: &str) -> Result<(), Error> {
        self.bucket(kernel, bucket).trying = Some(variant.to_owned());
        self.write()
    }

    /// Notes a variant's median time in microseconds, or why it is never to run again, or that nothing was found.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be written.
    pub fn tried(
        &mut self,
        kernel: &str,
        bucket: &str,
        variant: &str,
        result: Option<Result<f64, String>>,
    ) -> Result<(), Error> {
        let bucket = self.bucket(kernel, bucket);
        bucket.trying = None;
        match result {
            None => {}
            Some(Ok(microseconds)) => {
                bucket.microseconds.insert(variant.to_owned(), microseconds);
            }
            Some(Err(reason)) => {
                bucket.refused.insert(variant.to_owned(), reason);
            }
        }
        self.write()
    }

    /// Writes the file.
    ///
    /// # Errors
    /// [`Error::Io`] naming it.
    pub fn write(&self) -> Result<(), Error> {
        let folder = self.path.parent().expect("the file lies in a folder");
        std::fs::create_dir_all(folder).map_err(io_error(folder))?;
        let json = serde_json::to_string_pretty(&self.findings).expect("findings are plain data");
        write_atomically(&self.path, format!("{json}\n").as_bytes())
    }
}

/// Of all shaders of a kernel, and of whatever may be imported.
fn checksum(kernel: &str) -> String {
    let own = shader::SHADERS.iter().filter(|(name, _)| name.starts_with(kernel));
    let mut hasher = crc32fast::Hasher::new();
    own.chain(shader::COMMON).for_each(|(_, source)| hasher.update(source.as_bytes()));
    format!("{:08x}", hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceKind;

    fn info(driver: &str) -> DeviceInfo {
        DeviceInfo {
            name: "A card (4/2)".to_owned(),
            backend: "Vulkan".to_owned(),
            driver: driver.to_owned(),
            kind: DeviceKind::DiscreteGpu,
        }
    }

    #[test]
    fn findings_are_kept_for_a_driver_and_for_these_shaders() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = Cache::in_folder(folder.path(), &info("1.0"));
        assert!(cache.choices().is_empty());
        cache.tried("matmul", "small", "one", Some(Ok(3.5))).unwrap();
        cache.bucket("matmul", "small").chosen = Some("one".to_owned());
        cache.write().unwrap();
        let again = Cache::in_folder(folder.path(), &info("1.0"));
        assert_eq!(again.findings, cache.findings);
        let mut expected = Choices::default();
        expected.insert("matmul", "small", "one");
        assert_eq!(again.choices(), expected);
        assert!(Cache::in_folder(folder.path(), &info("1.1")).choices().is_empty());

        cache.findings.kernels.get_mut("matmul").unwrap().shaders = "0".to_owned();
        cache.write().unwrap();
        assert!(Cache::in_folder(folder.path(), &info("1.0")).choices().is_empty());
        std::fs::write(cache.path(), "{").unwrap();
        assert!(Cache::in_folder(folder.path(), &info("1.0")).choices().is_empty());
    }

    #[test]
    fn what_ended_the_program_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = Cache::in_folder(folder.path(), &info("1.0"));
        cache.trying("matmul", "small", "two").unwrap();
        let mut next = Cache::in_folder(folder.path(), &info("1.0"));
        assert_eq!(next.bucket("matmul", "small").refused["two"], CRASHED);
    }
}
