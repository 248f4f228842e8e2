//! What the checksum of a checkpoint costs beside writing it: for docs/reliability.md. Both are as
//! `engine/src/files.rs` has them; medians of 31 files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

const TIMES: usize = 31;

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// Writes a file as a checkpoint is written, `beside` going on meanwhile.
fn write(folder: &Path, bytes: &[u8], beside: impl FnOnce() + Send) -> io::Result<Duration> {
    let start = Instant::now();
    let new = folder.join("new");
    std::thread::scope(|scope| {
        scope.spawn(beside);
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()
    })?;
    fs::rename(&new, folder.join("whole"))?;
    File::open(folder)?.sync_all()?;
    Ok(start.elapsed())
}

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("checksum");
    fs::create_dir_all(&folder)?;
    for megabytes in [1, 10, 100] {
        let byte = |place: usize| (place.wrapping_mul(2_654_435_761) >> 7) as u8;
        let bytes: Vec<u8> = (0..megabytes << 20).map(byte).collect();
        let (mut plain, mut both, mut alone) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..TIMES {
            let start = Instant::now();
            std::hint::black_box(crc32fast::hash(&bytes));
            alone.push(start.elapsed());
            plain.push(write(&folder, &bytes, || ())?);
            both.push(write(&folder, &bytes, || {
                _ = std::hint::black_box(crc32fast::hash(&bytes))
            })?);
        }
        let [plain, both, alone] = [plain, both, alone].map(median);
        println!(
            "{megabytes} MB: checksum {alone:.2} ms; written in {plain:.1} ms, with the checksum beside in {both:.1} ms"
        );
    }
    fs::remove_dir_all(folder)
}
