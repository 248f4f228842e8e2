//! The shape of the source: how long files and functions are, which files import each other in a circle, and that nothing
//! matches on a kind outside of its room.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The most lines of a file.
const LINES: usize = 600;
/// The most lines of a function.
const FUNCTION: usize = 110;
/// The most files of a circle of imports. What an encoder is, what its families say of it and what they share of the
/// forward pass, are types that name each other.
const CIRCLE: usize = 11;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every source file below a folder, with its text, in order.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder of the project") {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs" || e == "wgsl") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(&root().join(folder), &mut found);
    found.sort();
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(path).expect("text"))).collect()
}

fn all() -> Vec<(PathBuf, String)> {
    let folders = ["crates/kernels/src", "crates/engine/src", "crates/cli/src", "shaders"];
    folders.into_iter().flat_map(sources).collect()
}

fn is_test(path: &Path) -> bool {
    let name = |part: std::path::Component<'_>| part.as_os_str() == "tests";
    path.ends_with("tests.rs") || path.components().any(name)
}

#[test]
fn files_are_short() {
    let long: Vec<String> = all()
        .iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| {
            (path, text.split("#[cfg(test)]").next().unwrap_or_default().lines().count())
        })
        .filter(|(_, lines)| *lines > LINES)
        .map(|(path, lines)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "split these: {long:#?}");
}

#[test]
fn functions_are_short() {
    let mut long = Vec::new();
    let is_code = |path: &Path| path.extension().is_some_and(|e| e == "rs") && !is_test(path);
    for (path, text) in all().iter().filter(|(path, _)| is_code(path)) {
        let mut begun: Option<(usize, String, String)> = None;
        for (number, line) in text.lines().enumerate() {
            let indent: String = line.chars().take_while(|c| *c == ' ').collect();
            let code = line.trim_start();
            let begins = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn "];
            if begun.is_none() && begins.iter().any(|word| code.starts_with(word)) {
                begun = Some((number, indent, code.to_owned()));
            } else if let Some((first, own, name)) = &begun
                && line == format!("{own}}}")
            {
                if number + 1 - first > FUNCTION {
                    long.push(format!("{}:{}: {name}", path.display(), first + 1));
                }
                begun = None;
            } else if begun
                .as_ref()
                .is_some_and(|(_, own, _)| line.starts_with(&format!("{own}fn ")))
            {
                // A declaration of a trait has no end.
                begun = Some((number, indent, code.to_owned()));
            }
        }
    }
    assert!(long.is_empty(), "functions of more than {FUNCTION} lines: {long:#?}");
}

/// What a line's `use` names, `{…}` taken apart.
fn paths(tree: &str) -> Vec<String> {
    let Some((head, rest)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    let inner = &rest[..rest.rfind('}').unwrap_or(rest.len())];
    let (mut depth, mut part, mut found) = (0, String::new(), Vec::new());
    for letter in inner.chars().chain([',']) {
        match letter {
            ',' if depth == 0 => {
                if !part.trim().is_empty() {
                    found.extend(
                        paths(part.trim()).iter().map(|path| format!("{}{path}", head.trim())),
                    );
                }
                part.clear();
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        part.push(letter);
    }
    found
}

/// The engine's files and the files that each imports, re-exports followed to where things are defined.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let base = root().join("crates/engine/src");
    let mut files = BTreeMap::new();
    for (path, text) in sources("crates/engine/src") {
        let own = path.strip_prefix(&base).expect("a file of the engine").with_extension("");
        let name = own.to_str().expect("a plain name").replace('/', "::");
        let name = name.strip_suffix("::mod").unwrap_or(&name).to_owned();
        if name != "lib" && !is_test(&own.with_extension("rs")) {
            files.insert(name, text.split("#[cfg(test)]").next().unwrap_or_default().to_owned());
        }
    }
    let mut uses: BTreeMap<&str, Vec<Vec<String>>> = BTreeMap::new();
    let mut exports: BTreeMap<(&str, String), Vec<String>> = BTreeMap::new();
    for (file, text) in &files {
        for statement in text.split(';') {
            let Some(at) = statement.rfind("use ") else { continue };
            let (before, tree) = statement.split_at(at);
            let line = before.rsplit('\n').next().unwrap_or_default().trim();
            let public = line.starts_with("pub");
            if !line.is_empty() && !public {
                continue;
            }
            for path in paths(&tree[4..].replace('\n', " ")) {
                let mut parts: Vec<String> =
                    path.split("::").map(|part| part.trim().to_owned()).collect();
                let mut own: Vec<String> = file.split("::").map(str::to_owned).collect();
                match &*parts[0] {
                    "crate" => drop(parts.remove(0)),
                    "super" => {
                        while parts.first().is_some_and(|part| part == "super") {
                            own.pop();
                            parts.remove(0);
                        }
                        parts = [own, parts].concat();
                    }
                    first if files.contains_key(&format!("{file}::{first}")) => {
                        parts = [own, parts].concat()
                    }
                    _ => continue,
                }
                if parts.last().is_some_and(|part| part == "self") {
                    parts.pop();
                }
                if public {
                    exports.insert((file, parts.last().cloned().unwrap_or_default()), parts);
                } else {
                    uses.entry(file).or_default().push(parts);
                }
            }
        }
    }
    let file_of = |parts: &[String]| {
        (1..=parts.len()).rev().find(|&n| files.contains_key(&parts[..n].join("::")))
    };
    let mut graph = BTreeMap::new();
    for file in files.keys() {
        let mut found = BTreeSet::new();
        for parts in uses.get(&**file).into_iter().flatten() {
            let mut parts = parts.clone();
            for _ in 0..5 {
                let Some(n) = file_of(&parts) else { break };
                let module = parts[..n].join("::");
                let Some(next) =
                    parts.get(n).and_then(|name| exports.get(&(&*module, name.clone())))
                else {
                    break;
                };
                parts = next.clone();
            }
            if let Some(n) = file_of(&parts) {
                found.insert(parts[..n].join("::"));
            }
        }
        found.remove(file);
        graph.insert(file.clone(), found);
    }
    graph
}

/// All that a file reaches by its imports.
fn reach<'a>(graph: &'a BTreeMap<String, BTreeSet<String>>, from: &'a str) -> BTreeSet<&'a str> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(file) = open.pop() {
        for next in graph.get(file).into_iter().flatten() {
            if seen.insert(&**next) {
                open.push(next);
            }
        }
    }
    seen
}

#[test]
fn circles_of_files_are_small() {
    let graph = imports();
    assert!(graph.len() > 100 && graph["train"].len() > 5, "the imports were not found");
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|file| (&**file, reach(&graph, file))).collect();
    let mut circles: BTreeSet<Vec<&str>> = BTreeSet::new();
    for (file, all) in &reached {
        let circle: Vec<&str> =
            all.iter().copied().filter(|other| reached[other].contains(file)).collect();
        if circle.len() > 2 {
            circles.insert(circle);
        }
    }
    for circle in &circles {
        println!("{} files import each other: {}", circle.len(), circle.join(", "));
    }
    let widest = circles.iter().map(Vec::len).max().unwrap_or(0);
    assert!(widest <= CIRCLE, "the widest circle has {widest} files");
}

/// Names of kinds, and the rooms that may tell one from another.
const KINDS: [(&[&str], &[&str]); 3] = [
    (
        &["Classification", "MaskedLm", "MultiLabel", "TokenClassification", "QuestionAnswering"],
        &["task"],
    ),
    (&["Divergence::ReverseKl", "Divergence::Jsd"], &["recipe/divergence.rs", "verify", "kernels"]),
    (
        &["family::Bert", "\"distilbert\"", "\"modernbert\"", "\"deberta-v2\""],
        &["models", "verify"],
    ),
];

#[test]
fn kinds_are_known_in_their_rooms_alone() {
    let mut strays = Vec::new();
    for (path, text) in all().iter().filter(|(path, _)| !is_test(path)) {
        let shown = path.display().to_string();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (names, rooms) in KINDS {
            let at_home = rooms.iter().any(|room| {
                shown.contains(&format!("/src/{room}"))
                    || shown.contains(&format!("crates/{room}/"))
            });
            let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
            let named = lines.filter(|line| {
                names.iter().any(|name| {
                    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric());
                    let begins = |before: &str| !before.ends_with(|c: char| c.is_alphanumeric());
                    let whole = |(at, _): (usize, &str)| {
                        begins(&line[..at]) && ends(&line[at + name.len()..])
                    };
                    line.match_indices(name).any(whole)
                })
            });
            if !at_home {
                strays.extend(named.map(|line| format!("{shown}: {}", line.trim())));
            }
        }
    }
    assert!(strays.is_empty(), "these lines know a kind: {strays:#?}");
}
