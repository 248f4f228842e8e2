//! JSON files that tell whether they are whole, and the checksums of a folder's files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::files::{checksum, io_error, make_folder, write_atomically};

/// The key under which a JSON object has the checksum of everything else in it.
const CHECKSUM: &str = "crc32";

/// The CRC-32 of a JSON value, however it was indented.
fn digest(value: &Value) -> String {
    hex(crc32fast::hash(value.to_string().as_bytes()))
}

/// A checksum as it is written.
pub(crate) fn hex(checksum: u32) -> String {
    format!("{checksum:08x}")
}

/// An object as JSON text with its checksum.
///
/// # Panics
/// If the value is no JSON object.
pub(crate) fn to_text(value: &impl Serialize) -> String {
    let mut value = serde_json::to_value(value).expect("it is plain data");
    let checksum = digest(&value);
    let object = value.as_object_mut().expect("it is an object");
    object.insert(CHECKSUM.to_owned(), checksum.into());
    format!("{value:#}\n")
}

/// Reads what [`to_text`] gave; else why it cannot be trusted.
pub(crate) fn from_text<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let mut value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let given = value.as_object_mut().and_then(|object| object.remove(CHECKSUM));
    match given {
        None => return Err("it has no checksum".to_owned()),
        Some(given) if given != digest(&value) => {
            return Err("its checksum is not that of its content".to_owned());
        }
        Some(_) => {}
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// Writes an object with its checksum, whole or not at all.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub(crate) fn write(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    write_atomically(path, to_text(value).as_bytes())
}

/// Reads an object that was written with its checksum; else why it cannot be trusted.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
    from_text(text)
}

/// Files of a folder with their lengths and checksums.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Files {
    /// By their paths in the folder, with `/` between parts.
    by_path: BTreeMap<String, FileSeal>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileSeal {
    bytes: u64,
    crc32: String,
}

impl FileSeal {
    fn of(path: &Path) -> std::io::Result<Self> {
        let (bytes, crc) = checksum(path)?;
        Ok(Self { bytes, crc32: hex(crc) })
    }
}

impl Files {
    /// All files in a folder and in those below it.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file or folder.
    pub fn of(folder: &Path) -> Result<Self, Error> {
        let mut files = Self::default();
        files.add(folder, "")?;
        Ok(files)
    }

    /// These files of a folder; "" is the folder, where it is a file.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn named<'a>(
        folder: &Path,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, Error> {
        let seal = |name: &str| {
            let path = within(folder, name);
            Ok((name.to_owned(), FileSeal::of(&path).map_err(io_error(&path))?))
        };
        Ok(Self { by_path: names.into_iter().map(seal).collect::<Result<_, Error>>()? })
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        self.by_path.values().map(|seal| seal.bytes).sum()
    }

    fn add(&mut self, folder: &Path, prefix: &str) -> Result<(), Error> {
        for entry in fs::read_dir(folder).map_err(io_error(folder))? {
            let path = entry.map_err(io_error(folder))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let name = format!("{prefix}{name}");
            if path.is_dir() {
                self.add(&path, &format!("{name}/"))?;
            } else {
                self.by_path.insert(name, FileSeal::of(&path).map_err(io_error(&path))?);
            }
        }
        Ok(())
    }

    /// Their paths in the folder. Where a file says so, nothing outside of the folder is ever touched.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let is_inside = |path: &&str| {
            Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
        };
        self.by_path.keys().map(String::as_str).filter(is_inside)
    }

    /// The first of them that is not there any more as it was.
    pub fn damaged(&self, folder: &Path) -> Option<PathBuf> {
        self.first(folder, |path, seal| FileSeal::of(path).map_or(true, |found| found != *seal))
    }

    /// The first of them in whose place there is something else.
    pub fn altered(&self, folder: &Path) -> Option<PathBuf> {
        self.first(folder, |path, seal| FileSeal::of(path).is_ok_and(|found| found != *seal))
    }

    fn first(&self, folder: &Path, is_it: impl Fn(&Path, &FileSeal) -> bool) -> Option<PathBuf> {
        let mut all = self.by_path.iter().map(|(name, seal)| (within(folder, name), seal));
        all.find(|(path, seal)| is_it(path, seal)).map(|(path, _)| path)
    }

    /// Moves them from one folder to another, `last` behind all others.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn rename(&self, from: &Path, to: &Path, last: &str) -> Result<(), Error> {
        let (end, start): (Vec<_>, Vec<_>) = self.paths().partition(|path| *path == last);
        for name in start.into_iter().chain(end) {
            let path = to.join(name);
            if let Some(parent) = path.parent() {
                make_folder(parent)?;
            }
            fs::rename(from.join(name), &path).map_err(io_error(&path))?;
            if let Some(parent) = path.parent() {
                crate::files::sync_folder(parent).map_err(io_error(parent))?;
            }
        }
        Ok(())
    }

    /// Deletes them from a folder, and the folders that are empty then.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn remove(&self, folder: &Path) -> Result<(), Error> {
        for name in self.paths() {
            remove_file(&folder.join(name))?;
        }
        for name in self.paths() {
            let inner = Path::new(name).ancestors().skip(1);
            for name in inner.take_while(|name| !name.as_os_str().is_empty()) {
                _ = fs::remove_dir(folder.join(name));
            }
        }
        _ = fs::remove_dir(folder);
        Ok(())
    }
}

/// A file of a folder. A path that is joined with nothing ends as one of a folder.
fn within(folder: &Path, name: &str) -> PathBuf {
    if name.is_empty() { folder.to_owned() } else { folder.join(name) }
}

/// Deletes a file, if it is there.
///
/// # Errors
/// [`Error::Io`] naming the file.
pub(crate) fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io_error(path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Thing {
        name: String,
        values: Vec<f32>,
        time: f64,
    }

    fn thing() -> Thing {
        Thing { name: "a \"b\" ü".to_owned(), values: vec![0.1, 1e-30, 3.0], time: 1.0 / 3.0 }
    }

    /// Every way to flip a bit of the text, and every length to cut it at: refused, or the same thing.
    #[test]
    fn no_damage_to_the_text_is_taken_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("thing.json");
        write(&path, &thing()).unwrap();
        assert_eq!(read::<Thing>(&path).unwrap(), thing());
        let bytes = fs::read(&path).unwrap();
        let (mut refused, mut harmless) = (0, 0);
        let mut damage = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).map_err(|error| error.to_string());
            match text.and_then(from_text::<Thing>) {
                Ok(found) => {
                    assert_eq!(found, thing());
                    harmless += 1;
                }
                Err(_) => refused += 1,
            }
        };
        for bit in 0..8 * bytes.len() {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            damage(&flipped);
        }
        for len in 0..bytes.len() {
            damage(&bytes[..len]);
            let zeros = [&bytes[..len], &vec![0; bytes.len() - len][..]].concat();
            damage(&zeros);
        }
        println!("{refused} damaged texts refused, {harmless} changed in white space alone");
        assert!(refused > 8 * bytes.len() / 2);
    }

    #[test]
    fn files_of_a_folder_are_told_damaged_moved_and_removed() {
        let home = tempfile::tempdir().unwrap();
        let (from, to) = (home.path().join("from"), home.path().join("to"));
        fs::create_dir_all(from.join("1_Pooling")).unwrap();
        for (name, text) in [("config.json", "{}"), ("model", "weights"), ("1_Pooling/x", "y")] {
            fs::write(from.join(name), text).unwrap();
        }
        let files = Files::of(&from).unwrap();
        assert_eq!(files.paths().collect::<Vec<_>>(), ["1_Pooling/x", "config.json", "model"]);
        fs::create_dir(&to).unwrap();
        fs::write(to.join("notes.txt"), "mine").unwrap();
        files.rename(&from, &to, "config.json").unwrap();
        assert_eq!(files.damaged(&to), None);
        for text in ["", "weighty", "weights ", "\0\0\0\0\0\0\0"] {
            fs::write(to.join("model"), text).unwrap();
            assert_eq!(files.damaged(&to), Some(to.join("model")), "{text:?}");
            assert_eq!(files.altered(&to), Some(to.join("model")), "{text:?}");
        }
        fs::write(to.join("model"), "weights").unwrap();
        fs::remove_file(to.join("1_Pooling/x")).unwrap();
        assert_eq!(files.damaged(&to), Some(to.join("1_Pooling/x")));
        assert_eq!(files.altered(&to), None);
        files.remove(&to).unwrap();
        let left: Vec<_> = fs::read_dir(&to).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["notes.txt"]);
        let outside =
            r#"{"../from": {"bytes": 1, "crc32": "0"}, "/etc/x": {"bytes": 1, "crc32": "0"}}"#;
        assert_eq!(serde_json::from_str::<Files>(outside).unwrap().paths().count(), 0);
    }
}
