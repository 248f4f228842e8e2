//! What the program tells of itself: completions, manual pages, licences.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use super::{Home, say};

/// The commands that the help lists.
fn commands(home: &Home) -> Vec<String> {
    let help = home.done("--help");
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    let names = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<String> =
        names.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    assert!(names.len() >= 14, "{help}");
    names
}

#[test]
fn every_shell_is_told_of_every_command_and_option() {
    let home = Home::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = home.done(&format!("completions {shell}"));
        for command in commands(&home) {
            assert!(script.contains(&command), "{shell}: {command}");
        }
        assert!(script.contains("resume"), "{shell}");
        let json: Value =
            serde_json::from_str(&home.done(&format!("completions {shell} --json"))).unwrap();
        assert_eq!(json["shell"], shell);
        assert_eq!(json["script"].as_str().unwrap().trim_end(), script.trim_end());
    }
}

/// Bash itself completes `distil-gpu bench --ba`.
#[test]
#[cfg(unix)]
fn bash_completes_an_option() {
    let home = Home::new();
    home.write("completions.bash", home.done("completions bash"));
    // As bash does it: by the function that the script names.
    let script = "source ./completions.bash; set -- $(complete -p distil-gpu); \
                  while [ \"$1\" != -F ]; do shift; done; \
                  COMP_WORDS=(distil-gpu bench --ba); COMP_CWORD=2; \
                  \"$2\" distil-gpu --ba bench; echo \"${COMPREPLY[@]}\"";
    let mut bash = Command::new("bash");
    let said = say({
        bash.args(["--noprofile", "--norc", "-c", script]).current_dir(home.path("."));
        bash
    });
    assert_eq!((said.out.trim(), &*said.err), ("--baseline", ""), "{said:?}");
}

#[test]
fn every_command_has_a_manual_page() {
    let home = Home::new();
    let printed = home.done("man");
    assert!(printed.contains(".TH distil-gpu 1") && printed.contains("licences"), "{printed}");
    assert_eq!(home.done("man --out pages --quiet"), "");
    let mut pages: BTreeSet<String> = home
        .paths()
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "1"))
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert!(pages.remove("distil-gpu.1"), "{pages:?}");
    let mut wanted: BTreeSet<String> =
        commands(&home).iter().map(|command| format!("distil-gpu-{command}.1")).collect();
    wanted.remove("distil-gpu-help.1");
    pages.remove("distil-gpu-help.1");
    assert_eq!(pages, wanted);
    let page = String::from_utf8(home.read("pages/distil-gpu-bench.1")).unwrap();
    assert!(page.contains(".TH distil-gpu-bench 1") && page.contains("baseline"), "{page}");
    let json: Value = serde_json::from_str(&home.done("man --out pages --json")).unwrap();
    assert!(json["pages"].as_array().unwrap().len() > wanted.len());
    let page: Value = serde_json::from_str(&home.done("man --json")).unwrap();
    assert_eq!(page["page"].as_str().unwrap().trim_end(), printed.trim_end());
}

#[test]
fn the_licences_of_all_parts_are_listed() {
    let home = Home::new();
    let list: Value = serde_json::from_str(&home.done("licences --json")).unwrap();
    let list = list.as_array().unwrap();
    let licence = |name: &str| {
        let part = list.iter().find(|part| part["name"] == name);
        part.unwrap_or_else(|| panic!("{name} is not listed"))["licence"].as_str().unwrap()
    };
    assert_eq!(licence("distil-gpu"), "Apache-2.0 OR MIT");
    assert_eq!(licence("wgpu"), "Apache-2.0 OR MIT");
    assert_eq!(licence("tokenizers"), "Apache-2.0");
    assert!(list.iter().all(|part| part["name"] != "criterion"), "a benchmark's crate is no part");
    let text = home.done("licences");
    assert!(text.contains("Apache-2.0 OR MIT:\n") && text.contains("Fashion-MNIST"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn wrong_arguments_of_these_commands_exit_with_2() {
    let home = Home::new();
    for arguments in ["completions", "completions cmd", "man --out", "licences all", "unknown"] {
        let said = say(home.command(arguments));
        assert_eq!((said.code, &*said.out), (Some(2), ""), "{arguments}: {said:?}");
    }
}
