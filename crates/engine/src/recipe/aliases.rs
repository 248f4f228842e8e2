//! Keys by the names that other trainers give them, and where each key of a recipe stands: what was meant by a key
//! that is unknown where it was written.

use super::key::{About, KeyGroup};
use super::keys;

/// The table that a key of the table `home` stands in, for one that was written in `table`: what concerns the teacher stays
/// there.
fn table_for(home: &str, table: &str) -> String {
    let of_teacher = table.split('.').next() == Some("teacher");
    let shared = ["train", "student"].contains(&home.split('.').next().unwrap_or(""));
    match (of_teacher && shared, home.strip_prefix("student")) {
        (false, _) => home.to_owned(),
        (true, Some(rest)) => format!("teacher{rest}"),
        (true, None) => format!("teacher.{home}"),
    }
}

/// What may be meant by `word`, a key that the table at `path` does not know, in a sentence: a name that others give it,
/// or a key of another table. Nothing where no key is called so. `own` are the keys that this table has, which may
/// depend on what else it says.
pub(super) fn meant(word: &str, path: &str, own: &[&str]) -> Option<String> {
    // The items of a list are tables alike.
    let is_name = |part: &&str| part.parse::<usize>().is_err();
    let path = path.split('.').filter(is_name).collect::<Vec<_>>().join(".");
    let found = called(word).map(|(group, known)| (known, table_for(group.table, &path)));
    let (known, table) = found.min_by_key(|(known, table)| match table == &path {
        true if own.contains(&known.name) => 0,
        // The same key in another form of this table.
        true => 1,
        false if table.starts_with(&path) => 2,
        false => 3,
    })?;
    if table == path && !own.contains(&known.name) {
        let form = form(&path)?;
        return Some(format!("it goes with another `{form}` than this one."));
    }
    let mut meant = match (table == path, table.is_empty()) {
        (true, _) => format!("`{}`", known.name),
        (_, true) => format!("`{}` at the top of the recipe, before any [table]", known.name),
        (_, false) => format!("`{table}.{}`", known.name),
    };
    // A key that is ours means here what it means there.
    if known.name != word && !known.hint.is_empty() {
        meant = format!("{meant}, {}", known.hint);
    }
    Some(format!("did you mean {meant}?"))
}

/// The whole path of the key that is called so, by others or here: `train.optimizer.lr` for `learning_rate`.
pub fn path_of_key(word: &str) -> Option<String> {
    let (KeyGroup { table, .. }, About { name, .. }) = called(word).next()?;
    Some(if table.is_empty() { (*name).to_owned() } else { format!("{table}.{name}") })
}

/// The keys that have a name.
fn called(word: &str) -> impl Iterator<Item = (&'static KeyGroup, &'static About)> {
    let word = word.to_lowercase().replace('-', "_");
    let keys = keys::all().map(|(group, key)| (group, key.about()));
    keys.filter(move |(_, known)| known.name == word || known.others.contains(&&*word))
}

/// The key of a table that says which others it has.
fn form(path: &str) -> Option<&'static str> {
    let path = path.strip_prefix("teacher.").map_or(path.to_owned(), |rest| match rest {
        "model" => "student.model".to_owned(),
        other => other.to_owned(),
    });
    keys::GROUPS.iter().filter(|group| group.table == path).find_map(|group| Some(group.form?.0))
}
