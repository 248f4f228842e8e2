//! What is printed: nothing in it commands the terminal, tables fit it, JSON comes alone, and drivers are silent.

use std::process::Command;

use serde_json::Value;

use super::{Home, Said, safetensors, say};
use safetensors::Dtype;

/// A name that recolours the screen, renames its window, turns the text around and rings the bell.
const HOSTILE: &str = "x\u{1b}[31m\u{1b}]0;owned\u{7}\u{202e}y\r\u{9b}2J";
/// How it is printed.
const SHOWN: &str = r"x\u{1b}[31m\u{1b}]0;owned\u{7}\u{202e}y\u{d}\u{9b}2J";
/// Inputs of two numbers, which a model of another task could have made.
const DATA: &str = "--set data={source=\"csv\",train=\"t.csv\",test=\"t.csv\"}";

/// What was printed holds no control characters and nothing that turns the text.
#[track_caller]
fn harmless(said: &Said) {
    for text in [&said.out, &said.err] {
        let harmful = |letter: char| {
            (letter.is_control() && letter != '\n' && letter != '\t')
                || ('\u{202a}'..='\u{202e}').contains(&letter)
        };
        assert!(!text.contains(harmful), "{text:?}");
    }
}

/// The program with arguments that may hold anything.
fn program(home: &Home, arguments: &[&str]) -> Said {
    let mut command = home.command("");
    command.args(arguments);
    say(command)
}

#[test]
fn what_files_say_cannot_command_the_terminal() {
    let home = Home::new();
    // Names of classes, in the table of a model that was trained on them.
    let rows = format!("1,2,\"{HOSTILE}\"\n3,4,plain\n").repeat(20);
    home.write("t.csv", format!("a,b,label\n{rows}"));
    let said = program(&home, &[&["run", "tiny.toml", "--out", "r"][..], &words(DATA)].concat());
    assert_eq!(said.code, Some(0), "{said:?}");
    harmless(&said);
    let said = program(&home, &["eval", "r/student", "--data", "t.csv", "--device", "cpu"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    harmless(&said);
    assert!(said.out.contains(SHOWN), "{}", said.out);
    // A class that the model does not know.
    home.write("t.csv", format!("a,b,label\n1,2,\"z{HOSTILE}\"\n"));
    refused(&home, &["eval", "r/student", "--data", "t.csv", "--device", "cpu"]);
    // Names of columns.
    home.write("t.csv", format!("a,\"{HOSTILE}\",label\n1,x,2\n"));
    refused(&home, &[&["run", "tiny.toml"][..], &words(DATA)].concat());
    // Keys and values of recipes.
    let escaped = serde_json::to_string(HOSTILE).unwrap().replace('\u{9b}', "\\u009b");
    let toml = |line: &str| format!("{line}\n{}", super::TINY);
    home.write("key.toml", toml(&format!("{escaped} = 1")));
    refused(&home, &["run", "key.toml"]);
    home.write("value.toml", toml(&format!("task = {escaped}")));
    refused(&home, &["run", "value.toml"]);
    // What a model's folder says.
    home.write_hand();
    let config = String::from_utf8(home.read("hand/config.json")).unwrap();
    home.write("hand/config.json", config.replace("\"mlp\"", &escaped));
    refused(&home, &["eval", "hand", "--data", "embedded"]);
    // Tensors.
    home.write("t.safetensors", safetensors(&[(HOSTILE, Dtype::U8, &[1], &[0])]));
    let (data, set) =
        ("data={source=\"safetensors\",train=\"t.safetensors\",test=\"t.safetensors\"}", "--set");
    refused(&home, &["run", "tiny.toml", set, data]);
    // What was typed, or named by a file that `*` found.
    refused(&home, &["run", HOSTILE]);
    refused(&home, &["run", "tiny.toml", "--set", HOSTILE]);
    let said = program(&home, &["run", &format!("--{HOSTILE}")]);
    assert_eq!(said.code, Some(2), "{said:?}");
    harmless(&said);
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[track_caller]
fn refused(home: &Home, arguments: &[&str]) {
    let said = program(home, arguments);
    assert!(matches!(said.code, Some(1 | 2)), "{arguments:?}: {said:?}");
    harmless(&said);
    assert!(said.err.contains(r"\u{1b}"), "{arguments:?}: {}", said.err);
}

#[cfg(unix)]
#[test]
fn names_in_json_read_back_as_they_were() {
    let home = Home::new();
    let escaped = serde_json::to_string(HOSTILE).unwrap().replace('\u{9b}', "\\u009b");
    home.write("named.toml", format!("name = {escaped}\n{}", super::TINY));
    let said = program(&home, &["run", "named.toml", "--json", "--out", "r"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    harmless(&said);
    let report: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(report["name"], HOSTILE);
}

/// The program as on a terminal of 80 columns.
fn on_80_columns(home: &Home, arguments: &str) -> Said {
    let mut command: Command = home.command(arguments);
    command.env("COLUMNS", "80");
    say(command)
}

#[test]
fn tables_fit_80_columns() {
    let home = Home::new();
    let mut tables = 0;
    for arguments in [
        "devices",
        "run tiny.toml --out r",
        "eval r/student --data embedded --device cpu",
        "plan tiny.toml",
        "bench tiny.toml --device cpu --seconds 0.001",
        "sweep tiny.toml --set distil.temperature=1,2.5 --set student.model.hidden_sizes=[8],[300,200,100] \
         --set train.epochs=1",
    ] {
        let said = on_80_columns(&home, arguments);
        assert_eq!(said.code, Some(0), "{arguments}: {said:?}");
        let mut within = false;
        for line in said.out.lines() {
            let rule = !line.is_empty() && line.chars().all(|letter| letter == '─');
            within ^= rule;
            tables += usize::from(rule && within);
            let width = line.chars().count();
            assert!(width <= 80 || !within, "{arguments}: {width} columns: {line}");
        }
        assert!(!within, "{arguments}: {}", said.out);
    }
    assert!(tables >= 12, "{tables} tables");
}

#[test]
fn json_comes_alone_whatever_the_command() {
    let home = Home::new();
    home.write_hand();
    home.write_f32("x", &[("features", &[1, 2], &[2.0, 1.0])]);
    home.write("some.csv", "a,b,label\n2,1,bee\n");
    for (arguments, key) in [
        ("init new.toml", "recipe"),
        ("devices", "devices"),
        ("run tiny.toml --out r", "arms"),
        ("report r", "report"),
        ("plan tiny.toml", "devices"),
        ("eval hand --data some.csv --device cpu", "accuracy"),
        ("logits hand --input x --out z --device cpu", "tensors"),
        ("sweep tiny.toml --seeds 2 --out s --set train.epochs=1", "points"),
        ("bench tiny.toml --device cpu --seconds 0.001", "devices"),
    ] {
        let said = say(home.command(&format!("{arguments} --json")));
        assert_eq!((said.code, &*said.err), (Some(0), ""), "{arguments}: {said:?}");
        let printed: Value = serde_json::from_str(&said.out).unwrap();
        assert!(!printed[key].is_null(), "{arguments}: {printed}");
    }
    // Of what goes wrong, the error alone, and that is no JSON.
    let said = say(home.command("eval hand --data none.csv --json"));
    assert_eq!((said.code, &*said.out), (Some(1), ""), "{said:?}");
}

#[test]
fn quiet_commands_say_nothing_on_stderr() {
    let home = Home::new();
    home.write_hand();
    home.write_f32("x", &[("features", &[1, 2], &[2.0, 1.0])]);
    for arguments in [
        "init new.toml",
        "devices",
        "run tiny.toml --out r",
        "plan tiny.toml",
        "logits hand --input x --out z",
        "sweep tiny.toml --seeds 2 --out s --set train.epochs=1",
        "bench tiny.toml --device cpu --seconds 0.001",
    ] {
        let said = say(home.command(&format!("{arguments} --quiet")));
        assert_eq!((said.code, &*said.err), (Some(0), ""), "{arguments}: {said:?}");
    }
}

/// As in containers, over ssh and from cron. Mesa 22 has a layer that then prints errors of libwayland's.
#[test]
fn drivers_say_nothing_where_there_is_no_desktop() {
    let home = Home::new();
    for name in ["XDG_RUNTIME_DIR", "WAYLAND_DISPLAY", "DISPLAY"] {
        let mut command = home.command("devices");
        command.env_remove("XDG_RUNTIME_DIR").env_remove("WAYLAND_DISPLAY").env_remove("DISPLAY");
        if name != "XDG_RUNTIME_DIR" {
            command.env(name, "/nonexistent");
        }
        let said = say(command);
        assert_eq!((said.code, &*said.err), (Some(0), ""), "{said:?}");
    }
    // Nor where they cannot keep what they compile.
    let mut command =
        home.command(&format!("eval hand --data some.csv -q --device {}", home.quick_gpu()));
    home.write_hand();
    home.write("some.csv", "a,b,label\n2,1,bee\n");
    command.env("HOME", "/dev/null").env_remove("XDG_CACHE_HOME");
    let said = say(command);
    assert_eq!((said.code, &*said.err), (Some(0), ""), "{said:?}");
}
