//! `distil-gpu keys`

use anyhow::{Result, bail};
use distil_gpu_engine::recipe::{TableReference, reference};

use crate::{Usage, Voice, say, say_json};

/// Columns of the text.
const COLUMNS: usize = 100;

/// Arguments of `keys`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  distil-gpu keys train
      What [train] may say, and the tables in it
  distil-gpu keys train.optimizer.lr
      One key: what it may be, and what it is unless given")]
pub struct Args {
    /// Table or key of a recipe, by its path; all unless given
    table: Option<String>,
}

pub fn run(args: Args, voice: Voice) -> Result<()> {
    let tables = match &args.table {
        Some(path) => within(path)?,
        None => reference(),
    };
    if voice.json {
        return say_json(&tables);
    }
    let shown: Vec<String> = tables.iter().map(text).collect();
    say(shown.join("\n"))
}

/// The keys at a path and below it. `teacher.train` and `teacher.model` have what `train` and `student.model` have.
fn within(path: &str) -> Result<Vec<TableReference>> {
    let meant = match path.strip_prefix("teacher.") {
        Some(rest) if rest.starts_with("train") => rest.to_owned(),
        Some(rest) if rest.starts_with("model") => format!("student.{rest}"),
        _ => path.to_owned(),
    };
    let mut tables = reference();
    for table in &mut tables {
        let of_table = table.table;
        table.keys.retain(|key| {
            let whole = match of_table {
                "" => key.key.to_owned(),
                table => format!("{table}.{}", key.key),
            };
            whole.strip_prefix(&meant).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
    }
    tables.retain(|table| !table.keys.is_empty());
    // A table's own line says nothing that its title does not.
    if tables.iter().any(|table| table.table == meant) {
        tables.retain(|table| table.table.starts_with(&meant));
    }
    if tables.is_empty() {
        bail!(Usage(format!("no recipe has a table or key `{path}`: `distil-gpu keys` lists all")));
    }
    Ok(tables)
}

/// A table with its keys.
fn text(table: &TableReference) -> String {
    let name = match table.table {
        "" => "At the top".to_owned(),
        table => format!("[{table}]"),
    };
    let name = match table.condition() {
        Some(condition) => format!("{name} with {condition}"),
        None => name,
    };
    let mut out = format!("{name}\n{}", filled(table.title, ""));
    for key in &table.keys {
        let default = match (key.needed, key.default) {
            (true, _) => "must be given".to_owned(),
            (_, Some(default)) => format!("default: {default}"),
            (_, None) => "optional".to_owned(),
        };
        out.push_str(&format!("\n  {} = {}\n", key.key, key.example));
        out.push_str(&filled(key.doc, "      "));
        out.push_str(&filled(&format!("{}; {default}", key.allowed), "      "));
    }
    out
}

/// A text in lines of so many columns, each indented.
fn filled(text: &str, indent: &str) -> String {
    let (mut out, mut line) = (String::new(), String::new());
    for word in text.split_whitespace() {
        if !line.is_empty()
            && indent.len() + line.chars().count() + 1 + word.chars().count() > COLUMNS
        {
            out.push_str(&format!("{indent}{line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        out.push_str(&format!("{indent}{line}\n"));
    }
    out
}
