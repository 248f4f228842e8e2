//! Runs that are killed, stopped, starved of disk, or aimed at a target.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Home, fails, say};

/// Both students and the teacher, as files.
const MODELS: [&str; 3] = ["teacher", "control", "student"];
/// The default recipe, shortened: dropout, shifts and momentum all have their say.
pub const SHORT: &str =
    "--set teacher.train.epochs=3 --set train.epochs=12 --set data.test_limit=200";
/// A checkpoint as often as their cost allows.
pub const OFTEN: &str = "--set checkpoint_seconds=0.001";
/// Adam has two moments, and the data are few, so that a software GPU is quick enough.
const SMALL: &str = "run tiny.toml --set teacher.model.dropout=0.5 --set teacher.train.shift=1 \
                     --set teacher.train.epochs=20 --set teacher.train.optimizer.name=\"adam\" \
                     --set teacher.train.optimizer.lr=0.001 --set train.epochs=30";

pub fn start(mut command: Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Names of the checkpoints in a run's folder, sorted.
pub fn checkpoints(home: &Home, run: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(home.path(&format!("{run}/checkpoints"))) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(".safetensors")).collect();
    names.sort();
    names
}

/// Waits until the run has written a checkpoint that was not there before, or has ended.
pub fn await_checkpoint(home: &Home, run: &str, child: &mut Child) -> bool {
    let before = checkpoints(home, run);
    let start = Instant::now();
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if checkpoints(home, run).iter().any(|name| !before.contains(name)) {
            return true;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "no checkpoint was written");
        sleep(Duration::from_millis(2));
    }
}

/// Models and log of two runs are the same to the byte.
pub fn assert_same(home: &Home, run: &str, other: &str) {
    for model in MODELS {
        // Weights that a run was given are named.
        let named = home.path(&format!("{other}/{model}/weights.json")).exists();
        let weights = if named { "weights.json" } else { "model.safetensors" };
        for file in ["config.json", weights] {
            let [ours, theirs] =
                [run, other].map(|run| home.read(&format!("{run}/{model}/{file}")));
            assert!(ours == theirs, "{model}/{file} of {run} is not that of {other}");
        }
    }
    let log = |run: &str| -> Vec<serde_json::Value> {
        let text = String::from_utf8(home.read(&format!("{run}/metrics.jsonl"))).unwrap();
        let mut lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.iter_mut().for_each(|line| line["seconds"] = 0.into());
        lines
    };
    assert_eq!(log(run), log(other));
}

/// Kills the run after one checkpoint or another, several times, and resumes it.
pub fn killed_and_resumed(home: &Home, command: &str, moments: &[u64]) {
    home.done(&format!("{command} -q --out whole"));
    let mut child = start(home.command(&format!("{command} {OFTEN} --out killed")));
    let mut kills = 0;
    for moment in moments {
        if !await_checkpoint(home, "killed", &mut child) {
            break;
        }
        sleep(Duration::from_millis(*moment));
        child.kill().unwrap();
        kills += 1;
        child.wait().unwrap();
        if home.path("killed/report.json").exists() {
            break;
        }
        let kept = checkpoints(home, "killed");
        assert!(kept.len() <= 3, "two of the arm, and one that was being replaced: {kept:?}");
        child = start(home.command("run --resume killed"));
    }
    child.wait().unwrap();
    assert!(kills >= 2, "it was killed {kills} times only");
    if !home.path("killed/report.json").exists() {
        home.done("run --resume killed -q");
    }
    assert_same(home, "killed", "whole");
    assert!(!home.path("killed/checkpoints").exists(), "a finished run keeps no checkpoints");
    let left: Vec<_> = home.files().into_keys().collect();
    assert!(!left.iter().any(|path| path.to_string_lossy().contains(".distil-gpu-")), "{left:?}");
    killed_between_students(home, command);
}

/// Kills the run when the student alone is finished and the distilled one is not, and resumes it.
fn killed_between_students(home: &Home, command: &str) {
    let between = || {
        let journal = fs::read(home.path("between/journal.json")).unwrap_or_default();
        let journal: serde_json::Value = serde_json::from_slice(&journal).unwrap_or_default();
        journal["arms"]["control"].is_object()
    };
    for _ in 0..20 {
        let mut child = start(home.command(&format!("{command} --out between")));
        while !between() && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if !home.path("between/report.json").exists() {
            home.done("run --resume between -q");
            return assert_same(home, "between", "whole");
        }
        fs::remove_dir_all(home.path("between")).unwrap();
    }
    panic!("it always ends before it is killed");
}

#[test]
fn a_killed_run_goes_on_bit_for_bit() {
    let home = Home::new();
    killed_and_resumed(&home, &format!("run --device cpu {SHORT}"), &[0, 31, 7, 113, 59]);
}

/// Running statistics are part of what goes on, in steps of several batches too.
#[test]
fn so_does_a_run_of_convolutions() {
    let home = Home::new();
    let net = |blocks: &str| format!("{{type=\"resnet\",depths=[1,{blocks}],hidden_sizes=[4,6]}}");
    let command = format!(
        "run tiny.toml --set teacher.model={} --set student.model={} --set teacher.train.epochs=3 --set train.epochs=6 --set \
         train.batch=16 --set train.accumulate=2",
        net("2"),
        net("1")
    );
    killed_and_resumed(&home, &command, &[0, 31, 7]);
}

#[test]
fn so_it_does_on_a_gpu() {
    let home = Home::new();
    killed_and_resumed(&home, &format!("{SMALL} --device gpu"), &[0, 17, 5]);
}

/// Products are cut by the number of threads, and no bit depends on it, so nothing is said of it.
#[test]
fn a_run_goes_on_bit_for_bit_with_another_number_of_threads() {
    let home = Home::new();
    let command = format!("run --device cpu {SHORT}");
    let with = |arguments: &str, threads: &str| {
        let mut command = home.command(arguments);
        command.env("RAYON_NUM_THREADS", threads);
        command
    };
    assert_eq!(say(with(&format!("{command} -q --out whole"), "2")).code, Some(0));
    let mut child = start(with(&format!("{command} {OFTEN} --out killed"), "1"));
    assert!(await_checkpoint(&home, "killed", &mut child), "it ended before it was killed");
    child.kill().unwrap();
    child.wait().unwrap();
    let said = say(with("run --resume killed", "3"));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(!said.err.contains("began on"), "{said:?}");
    assert_same(&home, "killed", "whole");
}

#[test]
fn another_device_is_told_of() {
    let home = Home::new();
    let diverges = "run tiny.toml -q --device cpu --out a --set teacher.train.epochs=1 \
                    --set train.optimizer.lr=1e30";
    fails(home.command(diverges), &["--resume a"]);
    let goes_on = "run --resume a --accept-changes --set train.optimizer.lr=0.05";
    let gpu = home.ready_gpu();
    let said = say(home.command(&format!("{goes_on} --set device=\"{gpu}\"")));
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("This run began on a processor with"), "{said:?}");
    assert!(said.err.contains("may differ in the last bits"), "{said:?}");
}

/// A tiny BERT and a student of one of its layers, with all that a training can have a state of: steps of several
/// batches, measurements within epochs, the best parameters so far, rates of their own.
#[test]
fn texts_go_on_bit_for_bit() {
    let home = Home::new();
    let bert = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/bert");
    let texts = |rows: std::ops::Range<usize>| {
        let words = ["good", "bad", "film", "films", "the", "a", "!", "?"];
        let row = |row: usize| {
            let text: Vec<&str> =
                (0..2 + row * 7 % 11).map(|at| words[(row * 5 + at * at) % 8]).collect();
            format!("{},{}\n", text.join(" "), ["x", "y", "z"][row * row % 7 % 3])
        };
        format!("text,label\n{}", rows.map(row).collect::<String>())
    };
    home.write("train.csv", texts(0..240));
    home.write("test.csv", texts(240..300));
    let recipe = format!(
        r#"
device = "cpu"
[data]
source = "text"
train = "train.csv"
test = "test.csv"
validation = 0.2
[teacher]
model = {{ type = "encoder", from = {bert:?}, dropout = 0.1 }}
[teacher.train]
epochs = 6
batch = 16
optimizer = {{ name = "adamw", lr = 2e-3 }}
[student]
model = {{ type = "encoder", from = {bert:?}, layers = [1], dropout = 0.1 }}
[train]
epochs = 20
batch = 8
accumulate = 3
clip = 1.0
evaluate_every = 5
keep = "best"
optimizer = {{ name = "adamw", lr = 2e-3 }}
layer_decay = 0.9
groups = [{{ match = "classifier", lr_factor = 2.0 }}, {{ match = "*embeddings*", lr = 0.0 }}]
"#
    );
    home.write("texts.toml", recipe);
    killed_and_resumed(&home, "run texts.toml", &[0, 90, 15, 230, 60]);
    let report = home.json("whole/report.json");
    for arm in ["control", "distilled"] {
        let arm = &report["arms"][arm];
        assert_eq!(arm["steps"], 160, "{arm}");
        assert!(arm["kept_step"].as_u64().is_some_and(|step| step % 5 == 0), "{arm}");
    }
    assert_eq!(report["arms"]["teacher"]["kept_step"], serde_json::Value::Null);
    assert_eq!(report["examples"]["validation"], 48);
}

#[cfg(unix)]
#[test]
fn a_signal_saves_and_says_how_to_go_on() {
    let home = Home::new();
    let command = format!("run --device cpu {SHORT}");
    home.done(&format!("{command} -q --out whole"));
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let run = format!("stopped-{signal}");
        let mut interrupted = home.command(&format!("{command} --out {run}"));
        let child = interrupted.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !home.path(&format!("{run}/metrics.jsonl")).exists() && Instant::now() < deadline {
            sleep(Duration::from_millis(5));
        }
        sleep(Duration::from_millis(200));
        send(signal, &child);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("Stopped after step"), "{said}");
        assert!(said.contains(&format!("distil-gpu run --resume {run}")), "{said}");
        assert!(!home.path(&format!("{run}/.distil-gpu.lock")).exists());
        assert_eq!(checkpoints(&home, &run).len(), 1);
        let holds = format!("{run}: holds files");
        home.refused(&format!("{command} --out {run}"), &[&holds, "--resume"]);
        if signal != "INT" {
            continue;
        }
        home.done(&format!("run --resume {run} -q"));
        assert_same(&home, &run, "whole");
        let finished = format!("{run}: this run is finished");
        home.refused(&format!("run --resume {run}"), &[&finished]);
    }
}

/// Sends a signal to a process.
#[cfg(unix)]
pub fn send(signal: &str, child: &Child) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
}

/// What `nohup` starts is to outlive its terminal.
#[cfg(unix)]
#[test]
fn a_signal_that_is_ignored_stays_so() {
    let home = Home::new();
    let mut command = Command::new("sh");
    let script = "trap '' HUP; exec \"$0\" \"$@\"";
    command.args(["-c", script, env!("CARGO_BIN_EXE_distil-gpu")]).current_dir(home.path("."));
    command.args(["run", "tiny.toml", "-q", "--out", "a", "--set", "train.epochs=60"]);
    let mut child = start(command);
    while !home.path("a/metrics.jsonl").exists() && child.try_wait().unwrap().is_none() {
        sleep(Duration::from_millis(2));
    }
    send("HUP", &child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn only_an_interrupted_run_is_resumed() {
    let home = Home::new();
    home.refused("run --resume nowhere", &["nowhere cannot be resumed", "recipe.toml"]);
    home.write("half/recipe.toml", super::TINY);
    home.refused("run --resume half", &["half: no interrupted run is here"]);

    // The student's learning rate is too high: the teacher is finished by then.
    let rate = "train.optimizer.lr";
    fails(
        home.command(&format!(
            "run tiny.toml -q --out a --set teacher.train.epochs=1 --set {rate}=1e30"
        )),
        &["--resume a --set KEY=VALUE --accept-changes"],
    );
    let teacher = home.read("a/teacher/model.safetensors");
    home.refused(
        &format!("run --resume a --set {rate}=0.05"),
        &["a: the recipe has changed", "train.optimizer.lr: 1e30 → 0.05", "--accept-changes"],
    );
    let wider = "run --resume a --set teacher.model.hidden_sizes=[33] --accept-changes";
    home.refused(wider, &["a/teacher: this arm is finished"]);
    home.done(&format!("run --resume a -q --set {rate}=0.05 --accept-changes"));
    assert!(home.read("a/teacher/model.safetensors") == teacher);
    let warnings = &home.json("a/report.json")["warnings"];
    let wanted = "train.optimizer.lr: 1e30 → 0.05; trained before: the teacher";
    assert!(warnings[0].as_str().is_some_and(|said| said.contains(wanted)), "{warnings}");
    let recipe = String::from_utf8(home.read("a/recipe.toml")).unwrap();
    assert!(recipe.contains("lr = 0.05"), "{recipe}");
}

/// A limit on the size of files stands for a disk that is full.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_spares_the_last_checkpoint() {
    let home = Home::new();
    let command = format!("run --device cpu {SHORT} {OFTEN} --out full");
    let mut child = start(home.command(&command));
    assert!(await_checkpoint(&home, "full", &mut child));
    child.kill().unwrap();
    child.wait().unwrap();
    let before = checkpoints(&home, "full");
    let bytes: Vec<_> =
        before.iter().map(|name| home.read(&format!("full/checkpoints/{name}"))).collect();
    let script = "trap '' XFSZ; ulimit -f 900; exec \"$0\" run -q --resume full";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_distil-gpu")]).current_dir(home.path("."));
    fails(command, &["full/checkpoints/teacher-", "File too large", "--resume full"]);
    assert_eq!(checkpoints(&home, "full"), before);
    for (name, bytes) in before.iter().zip(bytes) {
        assert!(home.read(&format!("full/checkpoints/{name}")) == bytes, "{name} was changed");
    }
    home.done("run --resume full -q");
}

#[test]
fn a_missed_target_has_its_own_code() {
    let home = Home::new();
    let said = say(home
        .command("run tiny.toml -q --out a --set target.retain=1 --set train.optimizer.lr=1e-9 --set teacher.train.epochs=2"));
    assert_eq!(said.code, Some(3), "{said:?}");
    assert!(said.err.contains("target missed: the student keeps"), "{said:?}");
    assert_eq!(home.json("a/report.json")["target"]["retain"], 1.0);
    home.done("run tiny.toml -q --out b --set target.retain=0.01");
    home.refused("run tiny.toml --out c --set target.retain=97", &["target.retain", "from 0 to 1"]);
}

#[test]
fn tensorboard_files_hold_every_epoch() {
    let home = Home::new();
    home.done("run tiny.toml -q --out a --set tensorboard=true");
    for arm in ["teacher", "student alone", "student distilled"] {
        let folder = home.path(&format!("a/tensorboard/{arm}"));
        let files: Vec<_> =
            fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
        assert_eq!(files.len(), 1);
        let bytes = fs::read(&files[0]).unwrap();
        let (mut at, mut records) = (0, Vec::new());
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            records.push(&bytes[at + 12..at + 12 + length]);
            at += 12 + length + 4;
        }
        assert_eq!(at, bytes.len());
        // The file's version, the start, and two epochs.
        assert_eq!(records.len(), 4);
        let holds =
            |record: &[u8], text: &str| record.windows(text.len()).any(|w| w == text.as_bytes());
        assert!(holds(records[0], "brain.Event:2"));
        assert!(records[2..].iter().all(|record| holds(record, "test/accuracy")));
        assert_eq!(holds(records[2], "train/soft"), arm == "student distilled");
    }
}
