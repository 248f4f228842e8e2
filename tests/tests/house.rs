//! The shape of the source: how long files and functions are, which files import each other in a circle, that nothing
//! matches on a kind outside of its room, and that every kernel is verified.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use distil_gpu_engine::verify::KERNELS;

/// The most lines of a file.
const LINES: usize = 600;
/// The most lines of a function.
const FUNCTION: usize = 99;
/// The most files of a circle of imports: neighbours whose types name each other.
const CIRCLE: usize = 2;
/// Wider ones: a graph is made of ops, each of which adds itself to a graph and writes itself into a file.
const WIDER: [&[&str]; 1] = [&["graph", "graph::export", "graph::ops"]];

/// The crates' folders.
fn crates() -> Vec<String> {
    let entries = fs::read_dir(root().join("crates")).expect("the crates");
    let name = |entry: io::Result<fs::DirEntry>| entry.expect("a crate").file_name();
    let mut names: Vec<String> =
        entries.map(|entry| name(entry).into_string().expect("a plain name")).collect();
    names.sort();
    names
}

fn root() -> PathBuf {
    // Without the folder `tests` in it, which tells tests.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder of the project").to_owned()
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
    crates()
        .iter()
        .flat_map(|name| sources(&format!("crates/{name}/src")))
        .chain(sources("shaders"))
        .collect()
}

fn is_test(path: &Path) -> bool {
    let name = |part: std::path::Component<'_>| part.as_os_str() == "tests";
    path.ends_with("tests.rs") || path.components().any(name)
}

#[test]
fn files_are_short() {
    let code = all().iter().filter(|(path, _)| !is_test(path)).count();
    assert!(code > 200, "{code} files were found");
    let long: Vec<String> = all()
        .iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(path, text)| (path, without_tests(text).lines().count()))
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
            if begun.is_none() && is_function(code) {
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

/// Whether a line begins a function.
fn is_function(line: &str) -> bool {
    let bare = match line.strip_prefix("pub(") {
        Some(rest) => rest.split_once(") ").map_or(line, |(_, bare)| bare),
        None => line.strip_prefix("pub ").unwrap_or(line),
    };
    let words = ["const ", "async ", "unsafe "];
    words.iter().fold(bare, |bare, word| bare.strip_prefix(word).unwrap_or(bare)).starts_with("fn ")
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

/// A file's text up to its tests, which may also lie in a file of their own.
fn without_tests(text: &str) -> String {
    let elsewhere = |part: &str| {
        part.trim_start().starts_with("mod ")
            && part.lines().nth(1).is_some_and(|line| line.ends_with(';'))
    };
    let mut parts = text.split("#[cfg(test)]");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.take_while(|part| elsewhere(part)).fold(first, |all, part| all + part)
}

/// A crate's files and the files that each imports, re-exports followed to where things are defined. Its root has no
/// name.
fn imports(name: &str) -> BTreeMap<String, BTreeSet<String>> {
    let folder = format!("crates/{name}/src");
    let base = root().join(&folder);
    let mut files = BTreeMap::new();
    for (path, text) in sources(&folder) {
        let own = path.strip_prefix(&base).expect("a file of the crate").with_extension("");
        let name = own.to_str().expect("a plain name").replace('/', "::");
        let name = name.strip_suffix("::mod").unwrap_or(&name);
        let name = if matches!(name, "lib" | "main") { "" } else { name };
        if !is_test(&own.with_extension("rs")) {
            files.insert(name.to_owned(), without_tests(&text));
        }
    }
    let child = |file: &str, first: &str| match file {
        "" => first.to_owned(),
        _ => format!("{file}::{first}"),
    };
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
                let mut own: Vec<String> =
                    file.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
                match &*parts[0] {
                    "crate" => drop(parts.remove(0)),
                    "self" => {
                        parts.remove(0);
                        parts = [own, parts].concat();
                    }
                    "super" => {
                        while parts.first().is_some_and(|part| part == "super") {
                            own.pop();
                            parts.remove(0);
                        }
                        parts = [own, parts].concat();
                    }
                    first if files.contains_key(&child(file, first)) => {
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
        (0..=parts.len()).rev().find(|&n| files.contains_key(&parts[..n].join("::")))
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
    let engine = imports("engine");
    assert!(engine.len() > 100 && engine["train"].len() > 5, "the imports were not found");
    for name in crates() {
        circles_of_a_crate(&name, &imports(&name));
    }
}

fn circles_of_a_crate(name: &str, graph: &BTreeMap<String, BTreeSet<String>>) {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|file| (&**file, reach(graph, file))).collect();
    let mut circles: BTreeSet<Vec<&str>> = BTreeSet::new();
    for (file, all) in &reached {
        let circle: Vec<&str> =
            all.iter().copied().filter(|other| reached[other].contains(file)).collect();
        if circle.len() > CIRCLE {
            circles.insert(circle);
        }
    }
    circles.retain(|circle| !WIDER.contains(&&circle[..]));
    assert!(circles.is_empty(), "{name}: circles of more than {CIRCLE} files: {circles:?}");
}

/// Names of kinds, and the rooms that may tell one from another.
const KINDS: [(&[&str], &[&str]); 3] = [
    (
        // What a label or a model's outputs are is called `MultiLabel` too.
        &[
            "Classification",
            "MaskedLm",
            "multi_label::",
            "TokenClassification",
            "QuestionAnswering",
        ],
        &["task"],
    ),
    (
        &["Divergence::ReverseKl", "Divergence::Jsd"],
        &["recipe/divergence.rs", "objective", "verify", "kernels"],
    ),
    (
        &["family::Bert", "\"distilbert\"", "\"modernbert\"", "\"deberta-v2\""],
        &["models", "verify", "gguf"],
    ),
];

#[test]
fn kinds_are_known_in_their_rooms_alone() {
    let mut strays = Vec::new();
    for (path, text) in all().iter().filter(|(path, _)| !is_test(path)) {
        let shown = path.display().to_string();
        let code = without_tests(text);
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

/// The names that kernels give themselves, as they stand in the code.
fn kernel_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, text) in sources("crates/kernels/src").iter().filter(|(path, _)| !is_test(path)) {
        for rest in text.split("fn name(&self) -> &'static str {").skip(1) {
            // A kernel that goes by two names says both.
            let body = rest.split("\n    }\n").next().unwrap_or_default();
            names.extend(body.split('"').skip(1).step_by(2).map(str::to_owned));
        }
    }
    names
}

#[test]
fn every_kernel_has_a_row_with_its_cases_and_its_limit() {
    let names = kernel_names();
    assert!(names.len() > 20, "{names:?}");
    let rows: BTreeSet<String> = KERNELS.iter().map(|row| row.kernel.to_owned()).collect();
    assert_eq!(rows, names, "verify/registry.rs has a row for each kernel");
    assert_eq!(rows.len(), KERNELS.len(), "a kernel has two rows");
}
