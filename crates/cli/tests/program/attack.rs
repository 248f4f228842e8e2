//! Runs and sweeps that are killed at random moments, again and again. `tests/attack.sh` does so many times.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::interrupted::start;
use super::{Home, say};

/// What is attacked: the default recipe with fewer epochs, one with Adam's moments, texts' patience and best
/// parameters, and a sweep.
const TARGETS: [&str; 3] = [
    "run --device cpu --set teacher.train.epochs=2 --set train.epochs=6 --set data.test_limit=200",
    "run tiny.toml --set data.validation=0.2 --set teacher.train.epochs=9 --set train.epochs=12 \
     --set train.keep=\"best\" --set train.evaluate_every=3 --set train.optimizer={name=\"adam\",lr=0.001} \
     --set tensorboard=true",
    "sweep tiny.toml --set distil.alpha=0.3,0.9 --set train.epochs=8 --set student.model.dropout=0.2",
];

/// How many kills there are where nobody says so: enough to see that all this works.
const KILLS: usize = 9;

/// A number from the environment.
fn asked(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |text| text.parse().expect(name))
}

/// Random numbers of a seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % most
    }
}

/// What an attack came to.
#[derive(Debug, Default)]
struct Figures {
    kills: usize,
    /// Of them, those in the midst of saving what a signal had asked for.
    while_saving: usize,
    finished: usize,
    /// Kills before anything was written, after which the command was given again.
    anew: usize,
    bytes_compared: usize,
}

/// The files below a folder that an undisturbed run has to the byte: models, answers, logs without their times.
fn results(home: &Home, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let folder = home.path(folder);
    let mut results = BTreeMap::new();
    for (path, bytes) in home.files() {
        let Ok(name) = path.strip_prefix(&folder) else { continue };
        let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = match (&*file, &*ending) {
            ("metrics.jsonl", _) => {
                let text = String::from_utf8(bytes).unwrap();
                let line = |line: &str| {
                    let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
                    line["seconds"] = 0.into();
                    format!("{line}\n")
                };
                text.lines().map(line).collect::<String>().into_bytes()
            }
            ("config.json" | "answers.json", _) | (_, "safetensors") => bytes,
            // What else there is tells of times, or of the folder's name.
            _ => continue,
        };
        results.insert(name.to_owned(), bytes);
    }
    results
}

/// Kills a target until it is through, up to `most` times and two or three in a row, and compares what it left.
fn attack(home: &Home, command: &str, most: usize, random: &mut Random, figures: &mut Figures) {
    let kind = command.split(' ').next().unwrap();
    let wanted = results(home, "whole");
    assert!(wanted.len() > 5, "{wanted:?}");
    let begin = format!("{command} -q --set checkpoint_seconds=0.001 --out killed");
    let resume = format!("{kind} --resume killed -q");
    let whole: f64 = say_time(home);
    let mut next = begin.clone();
    for _ in 0..most.min(2 + random.below(2) as usize) {
        let mut child = start(home.command(&next));
        let moment = random.below((whole * 1e6) as u64 + 1);
        sleep(Duration::from_micros(moment));
        if random.below(4) == 0 && child.try_wait().unwrap().is_none() {
            // In the midst of saving.
            #[cfg(unix)]
            super::interrupted::send("TERM", &child);
            sleep(Duration::from_micros(random.below(30_000)));
            figures.while_saving += usize::from(child.try_wait().unwrap().is_none());
        }
        figures.kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        let is_there = |name: &str| home.path(&format!("killed/{name}")).exists();
        next = match (is_there("journal.json"), is_there("recipe.toml")) {
            // As if it had never begun.
            (false, _) => begin.clone(),
            (true, false) => format!("{begin} --force"),
            (true, true) => resume.clone(),
        };
        figures.anew += usize::from(next != resume);
        if is_there("report.json") || is_there("sweep.json") {
            break;
        }
    }
    let last = say(home.command(&next));
    let is_done = last.err.contains("this run is finished");
    assert!(last.code == Some(0) || is_done, "{next}: {last:?}");
    let found = results(home, "killed");
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (name, bytes) in &found {
        assert!(*bytes == wanted[name], "{} of `{command}` is another", name.display());
        figures.bytes_compared += bytes.len();
    }
    let left: Vec<_> = home.paths();
    let is_litter = |path: &&PathBuf| {
        let path = path.to_string_lossy();
        (path.contains(".distil-gpu") && !path.contains("tfevents")) || path.contains("checkpoints")
    };
    let litter: Vec<_> = left.iter().filter(is_litter).collect();
    // One that was killed when all was done may leave the file of its lock, which hinders nobody.
    let is_lock = |path: &&&PathBuf| path.ends_with("killed/.distil-gpu.lock");
    assert!(litter.iter().all(|path| is_done && is_lock(&path)), "{litter:?}");
    std::fs::remove_dir_all(home.path("killed")).unwrap();
    figures.finished += 1;
}

/// How long an undisturbed run took, in seconds.
fn say_time(home: &Home) -> f64 {
    String::from_utf8(home.read("seconds")).unwrap().parse().unwrap()
}

#[test]
fn what_is_killed_at_random_moments_ends_as_if_it_had_not_been() {
    let (kills, seed) = (asked("DISTIL_GPU_KILLS", KILLS), asked("DISTIL_GPU_ATTACK_SEED", 1));
    let mut random = Random(seed as u64);
    let homes = TARGETS.map(|command| {
        let home = Home::new();
        let begun = Instant::now();
        home.done(&format!("{command} -q --out whole"));
        home.write("seconds", begun.elapsed().as_secs_f64().to_string());
        home
    });
    let mut figures = Figures::default();
    for round in 0.. {
        let left = kills.saturating_sub(figures.kills);
        if left == 0 {
            break;
        }
        assert!(round < 4 * kills + 20, "hardly any kill came in time: {figures:?}");
        let target = round % TARGETS.len();
        attack(&homes[target], TARGETS[target], left, &mut random, &mut figures);
    }
    println!("seed {seed}: {figures:?}, all of them as in undisturbed runs");
}
