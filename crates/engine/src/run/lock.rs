//! A lock on a folder: one run or sweep at a time works in it.
//!
//! The lock is the system's own on an open file, so it ends with the process however that ends, and what a killed
//! process leaves of the file hinders nobody. What the file says is for the message to whoever comes second.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files::{io_error, sync_folder};

/// Name of the file that is locked.
pub(crate) const NAME: &str = ".distil-gpu.lock";

/// A folder that is this process's own until the lock is dropped.
#[derive(Debug)]
pub(crate) struct FolderLock {
    folder: PathBuf,
    /// The open file is the lock.
    file: File,
    /// Why there is no lock, where the file system has none.
    missing: Option<String>,
    /// Folders that were made for it, the innermost first: they go with it if they are still empty.
    made: Vec<PathBuf>,
}

/// Who works in a folder.
#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    process: u32,
    host: Option<String>,
    /// Seconds since 1970.
    since: u64,
}

impl Owner {
    fn this_process() -> Self {
        Self { process: std::process::id(), host: host(), since: now() }
    }

    /// For a message.
    fn in_words(&self) -> String {
        let Self { process, host, since } = self;
        let host = host.as_ref().map_or(String::new(), |host| format!(" on {host}"));
        let seconds = now().saturating_sub(*since);
        let time = match seconds {
            0..60 => format!("{seconds} s"),
            60..7200 => format!("{} min", seconds / 60),
            _ => format!("{} h", seconds / 3600),
        };
        format!("process {process}{host} has been at work in it for {time}")
    }
}

impl FolderLock {
    /// Locks a folder, which is made where it is missing.
    ///
    /// # Errors
    /// [`Error::Run`] naming the process that has it, or [`Error::Io`].
    pub fn acquire(folder: &Path) -> Result<Self, Error> {
        Self::try_acquire(folder)?.ok_or_else(|| at_work(folder))
    }

    /// Locks a folder, which is made where it is missing; none if another process has it.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file or folder.
    pub fn try_acquire(folder: &Path) -> Result<Option<Self>, Error> {
        if folder.exists() && !folder.is_dir() {
            return Err(io_error(folder)(ErrorKind::AlreadyExists.into()));
        }
        let path = folder.join(NAME);
        let mut made = Vec::new();
        loop {
            let more = make(folder)?;
            made.retain(|folder| !more.contains(folder));
            made.splice(0..0, more);
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let file = match options.open(&path) {
                Ok(file) => file,
                // Whoever had made the folder took it away again.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => {
                    remove_empty(&made);
                    return Err(io_error(&path)(error));
                }
            };
            let missing = match file.try_lock() {
                Ok(()) => None,
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => Some(error.to_string()),
            };
            // The one before may have deleted the file between our opening and locking it.
            if missing.is_none() && !is_at(&file, &path) {
                continue;
            }
            let mut lock = Self { folder: folder.to_owned(), file, missing, made };
            lock.write_owner().map_err(io_error(&path))?;
            return Ok(Some(lock));
        }
    }

    /// Refuses a folder that another process works in; nothing is locked or written.
    ///
    /// # Errors
    /// [`Error::Run`] naming the process.
    pub fn check_free(folder: &Path) -> Result<(), Error> {
        let Ok(file) = File::open(folder.join(NAME)) else { return Ok(()) };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => Err(at_work(folder)),
            _ => Ok(()),
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether nobody else can have it: it is locked, or was made just now.
    pub fn is_exclusive(&self) -> bool {
        self.missing.is_none() || self.made.contains(&self.folder)
    }

    /// What a person should know, where there are no locks.
    pub fn note(&self) -> Option<String> {
        let reason = self.missing.as_ref()?;
        Some(format!(
            "The file system of {} has no locks ({reason}): take care that no other run works in this folder",
            self.folder.display()
        ))
    }

    fn write_owner(&mut self) -> io::Result<()> {
        let owner = serde_json::to_vec(&Owner::this_process())?;
        self.file.set_len(0)?;
        self.file.write_all(&owner)
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        let path = self.folder.join(NAME);
        // Another folder may be in the place of this one by now.
        if is_at(&self.file, &path) {
            // While it is locked: who locks it later finds that it is gone.
            _ = fs::remove_file(path);
            remove_empty(&self.made);
        }
    }
}

fn at_work(folder: &Path) -> Error {
    let mut text = String::new();
    let read = File::open(folder.join(NAME)).and_then(|mut file| file.read_to_string(&mut text));
    let owner = read.ok().and_then(|_| serde_json::from_str::<Owner>(&text).ok());
    let who = owner
        .map_or("another process is at work in it".to_owned(), |owner: Owner| owner.in_words());
    Error::Run {
        path: folder.display().to_string(),
        problem: format!("{who}: wait until it ends, or stop it; or choose another folder (--out)"),
    }
}

/// Makes a folder and those above it: the ones that were missing, the innermost first.
fn make(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let missing = folder.ancestors().filter(|path| !path.as_os_str().is_empty());
    let missing: Vec<PathBuf> =
        missing.take_while(|path| !path.exists()).map(Path::to_owned).collect();
    let mut made = Vec::new();
    for path in missing.into_iter().rev() {
        match fs::create_dir(&path) {
            Ok(()) => {
                if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
                    sync_folder(above).map_err(io_error(above))?;
                }
                made.insert(0, path);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) => {
                remove_empty(&made);
                return Err(io_error(&path)(error));
            }
        }
    }
    Ok(made)
}

/// Deletes those folders that are empty.
fn remove_empty(folders: &[PathBuf]) {
    for folder in folders {
        _ = fs::remove_dir(folder);
    }
}

/// Whether the open file is the one that the path names.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let key = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) => key(ours) == key(there),
        _ => false,
    }
}

/// Elsewhere a file that is open keeps its name.
#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

/// This machine's name, where the system tells it.
fn host() -> Option<String> {
    let from_file = |path| fs::read_to_string(path).ok();
    let names = [from_file("/proc/sys/kernel/hostname"), from_file("/etc/hostname")];
    let from_env = ["COMPUTERNAME", "HOSTNAME"].map(|name| std::env::var(name).ok());
    let mut names = names.into_iter().chain(from_env).flatten();
    names.find_map(|name| Some(name.trim().to_owned()).filter(|name| !name.is_empty()))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_holders_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a/b");
        let lock = FolderLock::acquire(&folder).unwrap();
        assert!(lock.is_exclusive() && lock.note().is_none());
        assert!(FolderLock::try_acquire(&folder).unwrap().is_none());
        let message = FolderLock::acquire(&folder).unwrap_err().to_string();
        let process = format!("process {}", std::process::id());
        assert!(message.contains(&process) && message.contains("a/b"), "{message}");
        assert_eq!(FolderLock::check_free(&folder).unwrap_err().to_string(), message);
        drop(lock);
        // What was made for it goes with it, and nothing else does.
        assert!(!home.path().join("a").exists() && home.path().is_dir());
        fs::create_dir(home.path().join("a")).unwrap();
        drop(FolderLock::acquire(&folder).unwrap());
        assert!(home.path().join("a").is_dir() && !folder.exists());
    }

    #[test]
    fn what_a_killed_process_left_hinders_nobody() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(NAME), "no owner").unwrap();
        FolderLock::check_free(home.path()).unwrap();
        let lock = FolderLock::acquire(home.path()).unwrap();
        drop(lock);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn of_many_at_once_one_has_it() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("x");
        let most = std::sync::atomic::AtomicUsize::new(0);
        let inside = std::sync::atomic::AtomicUsize::new(0);
        let order = std::sync::atomic::Ordering::SeqCst;
        let had: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let mut had = 0;
                        for _ in 0..200 {
                            if let Some(_lock) = FolderLock::try_acquire(&folder).unwrap() {
                                most.fetch_max(inside.fetch_add(1, order) + 1, order);
                                std::thread::yield_now();
                                inside.fetch_sub(1, order);
                                had += 1;
                            }
                        }
                        had
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        println!("8 threads had the folder {had} times of 1,600");
        assert_eq!(most.into_inner(), 1);
        assert!(had > 0 && !folder.join(NAME).exists());
    }
}
