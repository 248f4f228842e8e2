//! What `plan` foretells of the machine's memory, held to what a run on the processor takes of it. Linux alone tells the
//! most that a process has ever held (`VmHWM` of /proc/PID/status).
#![cfg(target_os = "linux")]

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use super::{Home, say, texts};

/// How far a forecast may be from what is measured.
const WITHIN: f64 = 0.15;

/// The program with two threads, each of which takes some memory. It is in no hurry, so that whoever looks at its memory is
/// not late.
fn command(home: &Home, arguments: &str) -> Command {
    let program = home.command(arguments);
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(program.get_program()).args(program.get_args());
    program.get_envs().for_each(|(name, value)| match value {
        Some(value) => _ = command.env(name, value),
        None => _ = command.env_remove(name),
    });
    program.get_current_dir().into_iter().for_each(|folder| _ = command.current_dir(folder));
    command.env("RAYON_NUM_THREADS", "2");
    command
}

/// The forecast, and the same with what writing a checkpoint takes, in bytes.
fn forecast(home: &Home, recipe: &str) -> [u64; 2] {
    let said = say(command(home, &format!("plan {recipe} --json")));
    assert_eq!(said.code, Some(0), "{recipe}: {said:?}");
    let plan: Value = serde_json::from_str(&said.out).unwrap();
    let devices = plan["devices"].as_array().unwrap();
    let memory =
        devices.iter().map(|device| &device["main_memory"]).find(|memory| !memory.is_null());
    let memory = memory.expect("the processor is a device");
    let bytes = |name: &str| memory[name].as_u64().unwrap();
    let all = ["program", "data", "models", "work"].map(bytes).iter().sum();
    [all, all + bytes("checkpoint")]
}

/// The most memory that a run had, in bytes.
fn measured(home: &Home, recipe: &str) -> u64 {
    let mut run = command(home, &format!("run {recipe} -q --out run"));
    let mut run = run.stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", run.id());
    let mut most = 0;
    let ended = loop {
        // The most so far never falls, so only what the last milliseconds add can be missed.
        let status = fs::read_to_string(&status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        if let Some(line) = line {
            most = line.trim().strip_suffix("kB").unwrap().trim().parse::<u64>().unwrap();
        }
        if let Some(ended) = run.try_wait().unwrap() {
            break ended;
        }
        sleep(Duration::from_millis(5));
    };
    assert!(ended.success(), "{recipe}: {ended}");
    fs::remove_dir_all(home.path("run")).unwrap();
    1024 * most
}

/// Holds the forecast to a run that writes no checkpoint, or to one that writes one after nearly every step.
#[track_caller]
fn is_near(home: &Home, recipe: &str, checkpoints: bool) {
    let recipe = match checkpoints {
        true => format!("{recipe} --set checkpoint_seconds=0.001"),
        false => format!("{recipe} --set checkpoint_seconds=10000"),
    };
    let [without, with] = forecast(home, &recipe);
    let foretold = if checkpoints { with } else { without };
    let measured = measured(home, &recipe);
    println!(
        "{recipe}: {:.1} MB foretold, {:.1} MB measured",
        foretold as f64 / 1e6,
        measured as f64 / 1e6
    );
    let ratio = foretold as f64 / measured as f64;
    assert!(
        (ratio - 1.0).abs() <= WITHIN,
        "{recipe}: {foretold} bytes are foretold, {measured} measured, {ratio:.3} of it"
    );
}

#[test]
fn the_default_recipes_memory_is_foretold() {
    let home = Home::new();
    is_near(&home, "--set device=\"cpu\" --set teacher.train.epochs=1 --set train.epochs=1", false);
}

/// Nearly all of it is parameters, gradients, moments, and copies of parameters that the host makes. Small steps, each of
/// which makes the loss less, so that the best parameters are there while newer ones are read.
#[test]
fn the_memory_of_wide_models_is_foretold() {
    let home = Home::new();
    let wide = "tiny.toml --set student.model.hidden_sizes=[24000] --set train.epochs=1 \
                --set data.train_limit=128";
    let best = "--set data.validation=0.25 --set train.keep=\"best\" \
                --set train.best_by=\"loss\" --set train.evaluate_every=1";
    let sgd = "--set train.optimizer.lr=0.001";
    is_near(&home, &format!("{wide} {sgd}"), false);
    is_near(&home, &format!("{wide} {sgd} {best}"), false);
    let adam = "--set train.optimizer={name=\"adam\",lr=0.00001}";
    is_near(&home, &format!("{wide} {adam} {best}"), true);
}

/// Encoders that are larger than the fixture whose tokenizer they have, and longer texts.
#[test]
fn the_memory_of_encoders_is_foretold() {
    let home = texts::home();
    let mut config = home.json("bert/config.json");
    for (name, value) in [
        ("hidden_size", 192),
        ("num_attention_heads", 3),
        ("intermediate_size", 768),
        ("num_hidden_layers", 3),
        ("max_position_embeddings", 128),
    ] {
        config[name] = value.into();
    }
    home.write("bert/config.json", config.to_string());
    let words = ["good", "bad", "film", "films", "the", "a"];
    let text = |row: usize| {
        let word = |at: usize| words[(row * 7 + at * at) % words.len()];
        let text: Vec<_> = (0..20 + row).map(word).collect();
        format!("{},{}\n", text.join(" "), ["pos", "neg"][row % 2])
    };
    home.write("train.csv", format!("text,label\n{}", (0..32).map(text).collect::<String>()));
    let random = "--set teacher.model.random=true --set teacher.train.epochs=1 \
                  --set teacher.train.batch=16 --set train.batch=16";
    is_near(&home, &format!("texts.toml {random} --set student.model.hidden_size=192"), false);
}
