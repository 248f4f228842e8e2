//! Damaged files of every kind: each is read or refused by one error that says something, without a panic and without
//! an allocation that the file's own size does not bear out.
//!
//! `DISTIL_GPU_MUTATIONS=1000` sets how many a reader gets, `DISTIL_GPU_ATTACK_SEED` another attack.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use distil_gpu_tests::mutate::{Chance, mutated};
use distil_gpu_tests::readers::{READERS, Reader};

/// The most that any file here may make the program ask for at once: a picture's limit is the largest.
const LARGEST: usize = 256 << 20;

/// The system's allocator, which remembers the largest request.
struct Watched;

static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.fetch_max(size, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn damaged_files_are_read_or_refused() {
    let (count, first) =
        (setting("DISTIL_GPU_MUTATIONS", 200), setting("DISTIL_GPU_ATTACK_SEED", 0));
    let home = tempfile::tempdir().unwrap();
    let mut faults = Vec::new();
    println!("{:>12}  {:>6} {:>8} {:>12} {:>8}", "reader", "inputs", "refused", "largest", "time");
    for reader in READERS {
        let seeds = reader.seeds();
        let (mut refused, mut largest, begun) = (0, 0, Instant::now());
        let good =
            seeds.iter().map(|(name, bytes)| (Some(!name.starts_with("bad-")), bytes.clone()));
        let damaged = (0..count).map(|number| {
            let mut chance = Chance::new((first << 32) + number);
            let [seed, other] = [0; 2].map(|_| &seeds[chance.below(seeds.len())].1);
            (None, mutated(seed, other, &mut chance))
        });
        for (number, (good, bytes)) in good.chain(damaged).enumerate() {
            let folder = home.path().join(reader.name);
            fs::create_dir_all(&folder).unwrap();
            ASKED.store(0, Ordering::Relaxed);
            let read = catch_unwind(AssertUnwindSafe(|| reader.read(&folder, &bytes)));
            let asked = ASKED.load(Ordering::Relaxed);
            largest = largest.max(asked);
            let fault = match &read {
                Err(_) => Some("panicked".to_owned()),
                _ if asked > LARGEST => Some(format!("asked for {asked} bytes at once")),
                Ok(Err(error)) if error.to_string().len() < 8 => Some(format!("says `{error}`")),
                Ok(Err(error)) if said(error).chars().count() > 2000 => {
                    Some(format!("says {} characters", said(error).chars().count()))
                }
                Ok(Err(error)) if good == Some(true) => {
                    Some(format!("refused, though good: {}", said(error)))
                }
                Ok(Ok(())) if good == Some(false) => Some("taken, though bad".to_owned()),
                Ok(_) => None,
            };
            refused += usize::from(matches!(read, Ok(Err(_))));
            if let Some(fault) = fault {
                let kept = std::env::temp_dir().join(format!("{}-{number}", reader.name));
                fs::write(&kept, &bytes).unwrap();
                faults.push(format!("{}: {fault}: {}", reader.name, kept.display()));
            }
            fs::remove_dir_all(&folder).unwrap();
        }
        let seconds = begun.elapsed().as_secs_f64();
        let inputs = seeds.len() as u64 + count;
        println!("{:>12}  {inputs:>6} {refused:>8} {largest:>12} {seconds:>6.1} s", reader.name);
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Fuzzing by coverage begins with files, so those of this program's own formats lie among the seeds.
#[test]
#[ignore = "writes into fuzz/seeds: to be run when a format has changed"]
fn seeds_of_own_formats_are_written() {
    READERS.iter().for_each(Reader::write_seeds);
}

/// All that an error says.
fn said(error: &dyn Error) -> String {
    let below = error.source().map_or(String::new(), |below| format!(": {}", said(below)));
    format!("{error}{below}")
}
