//! A variable within a loop begins each round with what its declaration says: WGSL makes one without an initialiser zero
//! at every round, and not all browsers do, so each has one, or is written whole before it is read.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Variables of loops that have no initialiser, by file: each round reads only what it wrote. To
/// make these registers zero before that would be work of the innermost loop for nothing.
const WRITTEN_FIRST: [(&str, &[&str]); 4] = [
    ("matmul.wgsl", &["from_a", "from_b", "left"]),
    // Either side of the branch behind it loads the tile.
    ("matmul_cooperative.wgsl", &["left", "right"]),
    ("matmul_subgroup.wgsl", &["right", "right"]),
    ("matmul_vectors.wgsl", &["squares", "left"]),
];

/// Names of the variables that a shader declares within loops without an initialiser, in order.
fn bare_variables(shader: &str) -> Vec<String> {
    let code: Vec<&str> = shader.lines().map(|line| line.split("//").next().unwrap()).collect();
    let (mut statement, mut parentheses) = (String::new(), 0);
    // Whether each open brace is that of a loop.
    let mut blocks: Vec<bool> = Vec::new();
    let mut found = Vec::new();
    for letter in code.join("\n").chars() {
        match letter {
            '(' => parentheses += 1,
            ')' => parentheses -= 1,
            _ => {}
        }
        match letter {
            '{' => {
                let first = statement.split(|c: char| !c.is_alphanumeric()).find(|w| !w.is_empty());
                blocks.push(matches!(first, Some("for" | "while" | "loop")));
            }
            '}' => _ = blocks.pop().expect("a brace that was opened"),
            ';' if parentheses == 0 => {
                let declared = statement.trim().strip_prefix("var ");
                let bare = declared.filter(|rest| !rest.contains('='));
                if let Some(rest) = bare.filter(|_| blocks.contains(&true)) {
                    found.push(rest.split(':').next().unwrap().trim().to_owned());
                }
            }
            _ => {
                statement.push(letter);
                continue;
            }
        }
        // What stands in parentheses is part of its statement.
        match parentheses {
            0 if letter != ')' => statement.clear(),
            _ => statement.push(letter),
        }
    }
    assert!(blocks.is_empty(), "a brace is not closed");
    found
}

fn shaders(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(shaders(&path)),
            false if path.extension().is_some_and(|extension| extension == "wgsl") => {
                found.push(path)
            }
            false => {}
        }
    }
    found
}

#[test]
fn variables_of_loops_have_initialisers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shaders");
    let all = shaders(&folder);
    assert!(all.len() > 30, "{all:?}");
    for path in all {
        let name = path.file_name().unwrap().to_str().unwrap();
        let known = WRITTEN_FIRST.iter().find(|(file, _)| *file == name);
        let allowed = known.map_or(&[][..], |(_, variables)| variables);
        let found = bare_variables(&fs::read_to_string(&path).unwrap());
        assert_eq!(found, allowed, "{name}: give it an initialiser, as `= Word()`");
    }
}

#[test]
fn bare_variables_are_found() {
    let shader = "
        var<private> far: f32;
        fn f(x: u32) -> u32 {
            var fine: u32;
            for (var i = 0u; i < min(x, 3u); i += 1u) {
                var good = 0u; // var commented: u32;
                var also: vec2<u32> = vec2<u32>(1u);
                if i > 2u {
                    var bad: u32;
                }
            }
            loop { var worse: array<f32, 3>; if x > 1u { break; } }
            while x < fine { let y = f(x); var last: f32; }
            var behind: f32;
            return fine;
        }";
    assert_eq!(bare_variables(shader), ["bad", "worse", "last"]);
}
