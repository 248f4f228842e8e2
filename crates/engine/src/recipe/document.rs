//! A recipe's text as tables whose keys and values know where they stand.
//!
//! Each part of a recipe reads itself from a [`Table`]: it says which keys it knows, then takes each by
//! its [`Key`]. So every error names the key, its place, and what is allowed, inside tagged tables too.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Place, RecipeError};
use super::key::{Described, Key, KeyGroup, Nested};
use super::rules::{PATH, Rule, TEXT};
use super::sets::Set;
use crate::models::Origin;
use crate::words::nearest;

/// A parsed recipe with the `--set`s applied.
pub(super) struct Document<'a> {
    file: &'a str,
    text: &'a str,
    sets: &'a [Set],
    root: DeTable<'a>,
    meant: Meant,
}

/// What may be meant by a key that the table at a path does not know, of the keys that it knows, in a sentence.
pub(super) type Meant = fn(&str, &str, &[&str]) -> Option<String>;

impl<'a> Document<'a> {
    pub fn parse(
        text: &'a str,
        file: &'a str,
        sets: &'a [Set],
        meant: Meant,
    ) -> Result<Self, RecipeError> {
        let root = DeTable::parse(text).map_err(|error| RecipeError::Syntax {
            place: Box::new(place_in(file, text, &error.span().unwrap_or(0..0))),
            problem: error.message().trim().replace('\n', ", "),
        })?;
        let mut document = Self { file, text, sets, root: root.into_inner(), meant };
        for set in sets {
            set.apply(&mut document.root)?;
        }
        Ok(document)
    }

    /// The recipe's outermost table.
    pub fn root(&self) -> Table<'_> {
        Table { document: self, path: String::new(), span: 0..0, entries: &self.root }
    }

    /// The set that the value at `path` comes from, if it is not the file's.
    fn set_at(&self, path: &str) -> Option<&Set> {
        self.sets.iter().rev().find(|set| set.covers(path))
    }

    fn place(&self, path: &str, span: &Range<usize>) -> Box<Place> {
        Box::new(match self.set_at(path) {
            Some(set) => Place { source: format!("--set {}", set.text), position: None },
            None if span.is_empty() => Place { source: self.file.to_owned(), position: None },
            None => place_in(self.file, self.text, span),
        })
    }
}

/// The place of a span in a text.
fn place_in(file: &str, text: &str, span: &Range<usize>) -> Place {
    let before = text.get(..span.start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    Place { source: file.to_owned(), position: Some((line, column)) }
}

/// One table of a recipe.
pub(super) struct Table<'a> {
    document: &'a Document<'a>,
    /// Whole path; empty for the outermost table.
    path: String,
    span: Range<usize>,
    entries: &'a DeTable<'a>,
}

impl<'a> Table<'a> {
    /// Refuses any key that is in none of these groups; the first in the file is named.
    pub fn known(&self, groups: &[&KeyGroup]) -> Result<(), RecipeError> {
        let keys = groups.iter().flat_map(|group| group.keys);
        let known: Vec<&str> = keys.map(|key| key.about().name).collect();
        let unknown = self.entries.keys().filter(|key| !known.contains(&key.get_ref().as_ref()));
        let Some(key) = unknown.min_by_key(|key| key.span().start) else { return Ok(()) };
        Err(RecipeError::UnknownKey {
            place: self.document.place(&self.path_of(key.get_ref()), &key.span()),
            key: key.get_ref().to_string(),
            table: self.title(),
            meant: (self.document.meant)(key.get_ref(), &self.path, &known).or_else(|| {
                nearest(key.get_ref(), &known).map(|near| format!("did you mean `{near}`?"))
            }),
            known: known.join(", "),
        })
    }

    /// The value of a key, if it is there.
    pub fn get<T>(&self, key: &Key<T>) -> Result<Option<T>, RecipeError> {
        let Some(value) = self.entries.get(key.about.name) else { return Ok(None) };
        key.read(value.get_ref()).map(Some).ok_or_else(|| {
            let word = value.get_ref().as_str();
            let nearest = word.and_then(|word| nearest(word, &key.words()));
            self.refuse(key.about.name, value, key.allowed(), nearest)
        })
    }

    /// The value of a key, or else its default; a key without one must be there.
    pub fn value<T>(&self, key: &Key<T>) -> Result<T, RecipeError> {
        let value = self.get(key)?.or_else(|| key.default());
        value.ok_or_else(|| self.lacks(&format!("`{}`", key.about.name), &key.allowed()))
    }

    /// The value of any key, which must be there.
    pub fn named<T>(&self, name: &str, rule: &Rule<T>) -> Result<T, RecipeError> {
        let Some(value) = self.entries.get(name) else {
            return Err(self.lacks(&format!("`{name}`"), rule.allowed));
        };
        let read = (rule.read)(value.get_ref());
        read.ok_or_else(|| self.refuse(name, value, rule.allowed.to_owned(), None))
    }

    /// The table at a key, if it is there.
    pub fn table<T>(&self, key: &Key<T>) -> Result<Option<Table<'a>>, RecipeError> {
        let name = key.about.name;
        let Some(value) = self.entries.get(name) else { return Ok(None) };
        match value.get_ref() {
            DeValue::Table(entries) => Ok(Some(Table {
                document: self.document,
                path: self.path_of(name),
                span: value.span(),
                entries,
            })),
            _ => {
                let example = key.about.example;
                Err(self.refuse(name, value, format!("a table, as {example}"), None))
            }
        }
    }

    /// All keys of the table at a key with their strings; none if it is not there.
    pub fn words(&self, key: &Key<Nested>) -> Result<BTreeMap<String, String>, RecipeError> {
        let Some(table) = self.table(key)? else { return Ok(BTreeMap::new()) };
        let names = table.entries.keys().map(|name| name.get_ref());
        names.map(|name| Ok((name.to_string(), table.named(name, &TEXT)?))).collect()
    }

    /// The tables of the list at a key; none if the key is not there.
    pub fn tables(&self, key: &Key<Nested>) -> Result<Vec<Table<'a>>, RecipeError> {
        let name = key.about.name;
        let Some(value) = self.entries.get(name) else { return Ok(Vec::new()) };
        let refuse = || self.refuse(name, value, "a list of tables".to_owned(), None);
        let items = value.get_ref().as_array().ok_or_else(refuse)?;
        let table = |(number, item): (usize, &'a Spanned<DeValue<'a>>)| match item.get_ref() {
            DeValue::Table(entries) => Ok(Table {
                document: self.document,
                path: self.path_of(&format!("{name}.{number}")),
                span: item.span(),
                entries,
            }),
            _ => Err(refuse()),
        };
        items.iter().enumerate().map(table).collect()
    }

    /// The table at a key, which must be there.
    pub fn need_table<T>(&self, key: &Key<T>) -> Result<Table<'a>, RecipeError> {
        let name = key.about.name;
        let shown = if self.path.is_empty() { format!("[{name}]") } else { format!("`{name}`") };
        self.table(key)?.ok_or_else(|| self.lacks(&shown, key.about.what))
    }

    /// The path at a key, made absolute: the recipe's against its folder, a `--set`'s against the current
    /// one.
    pub fn path<T>(&self, key: &Key<T>) -> Result<PathBuf, RecipeError> {
        let name = key.about.name;
        let written = PathBuf::from(self.named(name, &PATH)?);
        let path = match self.document.set_at(&self.path_of(name)) {
            Some(_) => written,
            None => Path::new(self.document.file)
                .parent()
                .map_or(written.clone(), |folder| folder.join(written)),
        };
        Ok(std::path::absolute(&path).unwrap_or(path))
    }

    /// The model's origin at a key, a folder made absolute as by [`Table::path`].
    pub fn origin<T>(&self, key: &Key<T>, origin: Origin) -> Result<Origin, RecipeError> {
        match origin {
            Origin::Folder(_) => self.path(key).map(Origin::Folder),
            hub => Ok(hub),
        }
    }

    /// All keys, in no particular order.
    pub fn keys(&self) -> Vec<String> {
        self.entries.keys().map(|key| key.get_ref().to_string()).collect()
    }

    /// Whether `key` is there.
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether a table stands at `key`.
    pub fn has_table(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|value| value.get_ref().is_table())
    }

    /// An error at `key` about values that do not go together.
    pub fn conflict(&self, key: &str, problem: impl Into<String>) -> RecipeError {
        let span = self.entries.get_key_value(key).map_or(self.span.clone(), |(key, _)| key.span());
        let place = self.document.place(&self.path_of(key), &span);
        RecipeError::Conflict { place, problem: problem.into() }
    }

    /// An error about something that this table must hold: `key` as shown, and what it is.
    pub fn lacks(&self, key: &str, what: &str) -> RecipeError {
        RecipeError::Missing {
            place: self.document.place(&self.path, &self.span),
            table: self.title(),
            key: key.to_owned(),
            what: what.to_owned(),
        }
    }

    fn refuse(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        allowed: String,
        nearest: Option<String>,
    ) -> RecipeError {
        let path = self.path_of(key);
        RecipeError::Value {
            place: self.document.place(&path, &value.span()),
            key: path,
            found: shown(value.get_ref()),
            allowed,
            nearest,
        }
    }

    fn title(&self) -> String {
        if self.path.is_empty() { "the recipe".to_owned() } else { format!("[{}]", self.path) }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// A value as an error shows it.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the string {text:?}"),
        DeValue::Integer(integer) => integer.to_string(),
        DeValue::Float(float) => float.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
        DeValue::Array(items) if items.len() <= 8 => {
            let items: Vec<String> = items.iter().map(|item| shown(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Array(items) => format!("a list of {} values", items.len()),
    }
}
