//! The definitions of keys, and what is written from them: `docs/recipe.md` and the starter recipe.

use std::fmt::Write as _;
use std::path::Path;

use super::super::key::{Described, KeyGroup};
use super::super::keys::{GROUPS, all};
use super::super::{Recipe, STARTER, reference};
use super::*;

/// Set to rewrite both files: `DISTIL_GPU_WRITE=1 cargo test -p distil-gpu-engine --lib reference`.
const REWRITE: &str = "DISTIL_GPU_WRITE";

/// What the starter recipe says itself.
const STARTS_WITH: [(&str, &str); 22] = [
    ("seed", "0"),
    ("device", "\"auto\""),
    ("data.source", "\"embedded\""),
    ("teacher.model.type", "\"mlp\""),
    ("teacher.model.hidden_sizes", "[800, 800]"),
    ("teacher.model.activation", "\"relu\""),
    ("teacher.model.dropout", "0.3"),
    ("teacher.train.epochs", "25"),
    ("teacher.train.shift", "1"),
    ("teacher.train.optimizer", "{ name = \"sgd\", lr = 0.05, momentum = 0.9 }"),
    ("student.model.type", "\"mlp\""),
    ("student.model.hidden_sizes", "[300]"),
    ("distil.temperature", "4.0"),
    ("distil.alpha", "0.9"),
    ("distil.train_limit", "1000"),
    ("train.epochs", "60"),
    ("train.batch", "64"),
    ("train.optimizer.name", "\"sgd\""),
    ("train.optimizer.lr", "0.05"),
    ("train.optimizer.momentum", "0.9"),
    ("train.schedule.name", "\"cosine\""),
    ("train.schedule.warmup_steps", "0"),
];

/// Its tables, and what is said of each.
const TABLES: [(&str, &str); 7] = [
    ("target", "a run that keeps less of the teacher's accuracy ends with exit code 3"),
    ("data", "what is learnt from"),
    ("teacher", "exactly one of: model, folder, logits"),
    ("teacher.train", "only for a model; the same keys as [train]"),
    ("student", "the small model"),
    ("distil", "how the teacher's knowledge passes on"),
    ("train", "both students: alone, and with the teacher"),
];

/// Tables whose keys are those of others.
const SHARED: [&str; 2] = ["teacher.model", "teacher.train"];

const WIDTH: usize = 120;
/// Where comments begin.
const COLUMN: usize = 33;

/// A line with a comment, which goes on below it.
fn line(out: &mut String, code: &str, comment: &str) {
    let start = if code.chars().count() < COLUMN { code } else { "" };
    if start.is_empty() {
        let _ = writeln!(out, "{code}");
    }
    fill(out, &format!("{start:COLUMN$}#"), &format!("{:COLUMN$}#", ""), comment);
}

/// A comment by itself.
fn remark(out: &mut String, text: &str) {
    fill(out, "#", "#", text);
}

/// A text in lines, which begin so.
fn fill(out: &mut String, first: &str, others: &str, text: &str) {
    let mut line = first.to_owned();
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{line}");
            line = others.to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(out, "{line}");
}

fn live(path: &str) -> Option<&'static str> {
    STARTS_WITH.iter().find(|(key, _)| *key == path).map(|(_, value)| *value)
}

/// A key's line in the table `section`, live where the starter says it.
fn key_line(
    out: &mut String,
    section: &str,
    table: &str,
    key: &dyn Described,
    first: &mut Vec<String>,
) {
    let about = key.about();
    let path =
        if table.is_empty() { about.name.to_owned() } else { format!("{table}.{}", about.name) };
    let shown = path.strip_prefix(&format!("{section}.")).unwrap_or(&path).to_owned();
    let value = live(&path).filter(|_| !first.contains(&path));
    let mut doc = about.doc.trim().trim_end_matches('.').to_owned();
    let default = about.default.unwrap_or(about.otherwise);
    if !default.is_empty() {
        let _ = write!(doc, "; default: {default}");
    }
    let allowed = key.allowed();
    if allowed.starts_with("one of ") {
        let _ = write!(doc, "; {allowed}");
    }
    match value {
        Some(value) => line(out, &format!("{shown} = {value}"), &doc),
        None => line(out, &format!("# {shown} = {}", about.example), &doc),
    }
    first.push(path);
}

/// Whether a key stands for the tables of another group.
fn is_table(table: &str, key: &dyn Described) -> bool {
    let path = format!("{table}.{}", key.about().name);
    let path = path.trim_start_matches('.');
    let below = GROUPS
        .iter()
        .any(|group| group.table == path || group.table.starts_with(&format!("{path}.")));
    (below || SHARED.contains(&path)) && key.allowed() == "a table"
}

/// The starter recipe.
fn starter() -> String {
    let mut out = String::new();
    for text in [
        "A recipe for distil-gpu: it runs as it is, on the pictures that come with the program.",
        "Run it with: distil-gpu run recipe.toml        Change one key: --set distil.temperature=8",
        "Paths are relative to this file. A key with a # before it shows what it could be; `distil-gpu keys` lists them all.",
    ] {
        out.push_str(&format!("# {text}\n"));
    }
    out.push('\n');
    let mut done = Vec::new();
    for key in GROUPS[0].keys.iter().filter(|key| !is_table("", **key)) {
        key_line(&mut out, "", "", *key, &mut done);
    }
    for (section, doc) in TABLES {
        out.push('\n');
        let commented = if section == "target" { "# " } else { "" };
        line(&mut out, &format!("{commented}[{section}]"), doc);
        let within = |group: &&&KeyGroup| {
            group.table == section
                || group.table.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
        };
        let mut conditional = false;
        for group in GROUPS.iter().filter(within) {
            let title = group.title.trim();
            if let Some(condition) = group_condition(section, group) {
                out.push('\n');
                remark(&mut out, &format!("With {condition}: {title}"));
            } else if conditional || group.table != section {
                out.push('\n');
                remark(&mut out, title);
            }
            conditional = group.form.is_some();
            for key in group.keys.iter().filter(|key| !is_table(group.table, **key)) {
                if is_list(group.table) {
                    let about = key.about();
                    line(
                        &mut out,
                        &format!("#   {} = {}", about.name, about.example),
                        about.doc.trim(),
                    );
                } else {
                    key_line(&mut out, section, group.table, *key, &mut done);
                }
            }
        }
        if section == "teacher" {
            out.push('\n');
            remark(
                &mut out,
                "A model that is trained first; it has the same keys as the student's.",
            );
        }
        for (path, value) in STARTS_WITH {
            let own = path.strip_prefix(&format!("{section}."));
            let shared = !done.iter().any(|known| known == path);
            let deeper = TABLES.iter().any(|(other, _)| {
                other.len() > section.len() && path.starts_with(&format!("{other}."))
            });
            if let (Some(key), true, false) = (own, shared, deeper) {
                out.push_str(&format!("{key} = {value}\n"));
            }
        }
    }
    out
}

fn is_list(table: &str) -> bool {
    all().any(|(group, key)| {
        format!("{}.{}", group.table, key.about().name) == table
            && key.allowed() == "a list of tables"
    })
}

fn group_condition(section: &str, group: &KeyGroup) -> Option<String> {
    let (key, words) = group.form?;
    let path = format!("{}.{key}", group.table);
    let shown = path.strip_prefix(&format!("{section}.")).unwrap_or(&path).to_owned();
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    Some(format!("{shown} = {}", words.join(" or ")))
}

/// A cell of a table in Markdown.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// `docs/recipe.md`.
fn markdown() -> String {
    let mut out = "# Keys of a recipe\n\n\
        A recipe is a TOML file; `distil-gpu init` writes one to begin with, and `distil-gpu keys TABLE` tells what is \
        written here. `[teacher.train]` has the keys of `[train]`, and `[teacher.model]` those of `[student.model]`. A key \
        is set from the command line by its path: `--set train.optimizer.lr=0.01`.\n\n\
        This page is written from the definitions of the keys in `crates/engine/src/recipe`, by a test: \
        `DISTIL_GPU_WRITE=1 cargo test -p distil-gpu-engine --lib reference`.\n"
        .to_owned();
    let mut last = None;
    for table in reference() {
        if last != Some(table.table) {
            let title = if table.table.is_empty() {
                "At the top".to_owned()
            } else {
                format!("`[{}]`", table.table)
            };
            let _ = write!(out, "\n## {title}\n");
            last = Some(table.table);
        }
        let title = table.title;
        let _ = match table.condition() {
            Some(condition) => write!(out, "\nWith `{condition}`: {title}\n"),
            None => write!(out, "\n{title}\n"),
        };
        out.push_str(
            "\n| key | what it may be | unless given | what it does |\n|---|---|---|---|\n",
        );
        for key in table.keys {
            let default = match (key.needed, key.default) {
                (true, _) => "must be given".to_owned(),
                (_, Some(default)) => cell(default),
                (_, None) => String::new(),
            };
            let _ = writeln!(
                out,
                "| `{} = {}` | {} | {} | {} |",
                key.key,
                cell(key.example),
                cell(&key.allowed),
                default,
                cell(key.doc)
            );
        }
    }
    out
}

/// Compares a file with what it should hold, or writes that.
#[track_caller]
fn compare(path: &str, text: &str) {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(&whole, text).unwrap();
    }
    let found = std::fs::read_to_string(&whole).unwrap_or_default();
    let differs = found.lines().zip(text.lines()).position(|(a, b)| a != b);
    assert!(
        found == text,
        "{path} is not what the keys say, from line {differs:?}: set {REWRITE}=1 to rewrite it"
    );
}

#[test]
fn the_reference_page_is_what_the_keys_say() {
    compare("docs/recipe.md", &markdown());
}

#[test]
fn the_starter_recipe_is_what_the_keys_say() {
    let text = starter();
    compare("recipes/starter.toml", &text);
    let recipe = Recipe::parse(&text, "starter.toml").unwrap();
    assert_eq!(recipe, Recipe::parse(STARTER, "starter.toml").unwrap());
    for (path, value) in STARTS_WITH {
        let key = path.rsplit('.').next().unwrap();
        let said = text.lines().any(|line| line.contains(&format!("{key} = {value}")));
        assert!(said, "the starter does not say {path} = {value}");
    }
    for (_, key) in all() {
        assert!(text.contains(key.about().name), "the starter does not name {}", key.about().name);
    }
}

#[test]
fn every_key_is_explained_and_takes_its_example_and_its_default() {
    for (group, key) in all() {
        let about = key.about();
        let name = format!("[{}] {}", group.table, about.name);
        assert!(about.doc.trim().ends_with('.'), "{name}: {:?}", about.doc);
        assert!(group.title.trim().len() > 5, "{name}");
        assert!(
            !about.example.is_empty() && key.takes(about.example),
            "{name} = {}",
            about.example
        );
        assert!(
            about.default.is_none_or(|default| key.takes(default)),
            "{name}: {:?}",
            about.default
        );
        assert!(about.default.is_none() || about.otherwise.is_empty(), "{name} has two defaults");
        assert!(!about.needed || about.default.is_none(), "{name} is needed, and has a default");
    }
}

/// What Rust users begin with is what recipes do.
#[test]
fn defaults_are_those_of_recipes() {
    let bare = Recipe::parse(&edited(&[("epochs = 8", "epochs = 8\n[distil]")]), "a.toml").unwrap();
    assert_eq!(bare.distil, Distil::default());
    assert_eq!(bare.train, Train::epochs(8));
    assert_eq!(bare.data, Data::default());
    assert_eq!(Recipe::default(), Recipe::embedded_default(&[]).unwrap());
    for (optimizer, name) in [
        (Optimizer::sgd(0.1), "sgd"),
        (Optimizer::adam(0.1), "adam"),
        (Optimizer::adamw(0.1), "adamw"),
    ] {
        let read = set(&[&format!("train.optimizer={{ name = \"{name}\", lr = 0.1 }}")]);
        assert_eq!(read.train.optimizer, optimizer);
    }
    let folder = Teacher::folder(Origin::of("/t".as_ref()).unwrap());
    assert_eq!(set(&["teacher={ folder = \"/t\" }"]).teacher, folder);
    let encoder = set(&["student.model={ type = \"encoder\", from = \"teacher\" }"]);
    assert_eq!(encoder.student.model, Model::encoder(Base::Teacher));
}

#[test]
fn recipes_made_in_rust_are_checked() {
    let recipe = Recipe::default()
        .name("mine")
        .distil(Distil::default().weights(5.0, 2.0))
        .train(Train::steps(7).keep(Keep::Best))
        .data(Data::default().validation(Validation::Share(0.1)));
    let checked = recipe.checked().unwrap();
    assert_eq!(checked.train.best_by.as_deref(), Some("accuracy"));
    assert_eq!((checked.name.as_str(), checked.distil.weight()), ("mine", 7.0));
    assert_eq!(checked.checked().unwrap(), checked);
    let error = recipe.data(Data::default()).checked().unwrap_err().to_string();
    assert!(error.contains("set `data.validation`"), "{error}");
    let error = Recipe::default().train(Train::epochs(0)).checked().unwrap_err().to_string();
    assert!(
        error.contains("`train.epochs` is 0; it must be a whole number of at least 1"),
        "{error}"
    );
}
