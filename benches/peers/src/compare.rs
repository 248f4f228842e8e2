//! Two sides at the same work: their results held to each other, then their times, in turns.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use distil_gpu_engine::verify::numbers::nmse;
use serde::Serialize;

/// Least time that a side runs before it is the other's turn.
const SLICE: Duration = Duration::from_millis(100);

/// One who does the work.
pub trait Side {
    /// Does it from the start, and says what came out. Called once, before any [`Self::run`].
    fn answer(&mut self) -> Result<Vec<f64>>;
    /// Does it once more, and returns when it is done.
    fn run(&mut self) -> Result<()>;
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The work.
    pub work: String,
    /// Whom the engine is compared with.
    pub peer: String,
    /// The device that both ran on.
    pub device: String,
    /// Median time of a run of the engine.
    pub ours_milliseconds: f64,
    /// Median time of a run of the peer.
    pub peer_milliseconds: f64,
    /// The peer's time over the engine's: above 1 the engine is faster.
    pub ratio: f64,
    /// Least and greatest ratio of a pair of turns.
    pub ratio_range: [f64; 2],
    /// Pairs of turns.
    pub turns: usize,
    /// How far the results are apart: the norm of their difference over the norm of the peer's.
    pub distance: f64,
}

/// What is compared, and how.
#[derive(Clone, Copy, Debug)]
pub struct Work<'a> {
    /// The work.
    pub name: &'a str,
    /// Whom the engine is compared with.
    pub peer: &'a str,
    /// The device that both run on.
    pub device: &'a str,
    /// Greatest distance of the results.
    pub limit: f64,
    /// Time to measure each side for.
    pub budget: Duration,
}

/// Holds the results to each other, then measures each side.
///
/// # Errors
/// When the results differ by more than the limit, or a side fails.
pub fn compare(work: Work<'_>, ours: &mut dyn Side, peer: &mut dyn Side) -> Result<Comparison> {
    let (found, expected) = (ours.answer()?, peer.answer()?);
    ensure!(found.len() == expected.len(), "{}: the results have other lengths", work.name);
    ensure!(expected.iter().any(|&value| value != 0.0), "{}: the peer's result is 0", work.name);
    let distance = nmse(&found, &expected).sqrt();
    ensure!(
        distance <= work.limit,
        "{}, {}: the results are {distance:.1e} apart, more than {:.0e}",
        work.name,
        work.peer,
        work.limit
    );
    let mut times = [Vec::new(), Vec::new()];
    let start = Instant::now();
    // The first turn of each counts for nothing; who goes first changes from turn to turn.
    let mut turn = 0;
    while times[0].len() < 3 || start.elapsed() < 2 * work.budget {
        for side in if turn % 2 == 0 { [0, 1] } else { [1, 0] } {
            let time = if side == 0 { slice(ours)? } else { slice(peer)? };
            if turn > 0 {
                times[side].push(time);
            }
        }
        turn += 1;
    }
    let ratios: Vec<f64> = times[0].iter().zip(&times[1]).map(|(ours, peer)| peer / ours).collect();
    let turns = ratios.len();
    let range = [
        ratios.iter().copied().fold(f64::INFINITY, f64::min),
        ratios.iter().copied().fold(0.0, f64::max),
    ];
    let [ours, peer] = times.map(median);
    Ok(Comparison {
        work: work.name.to_owned(),
        peer: work.peer.to_owned(),
        device: work.device.to_owned(),
        ours_milliseconds: ours * 1e3,
        peer_milliseconds: peer * 1e3,
        ratio: peer / ours,
        ratio_range: range,
        turns,
        distance,
    })
}

/// Seconds of a run, over a turn.
fn slice(side: &mut dyn Side) -> Result<f64> {
    let (start, mut runs) = (Instant::now(), 0);
    while runs == 0 || start.elapsed() < SLICE {
        side.run()?;
        runs += 1;
    }
    Ok(start.elapsed().as_secs_f64() / f64::from(runs))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
