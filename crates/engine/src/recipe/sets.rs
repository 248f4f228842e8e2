//! `--set KEY=VALUE` of the command line: values that stand above the file's.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::RecipeError;

/// One `--set`, taken apart.
pub(super) struct Set {
    /// As it was written.
    pub text: String,
    /// The key's whole path, as `distil.temperature`.
    pub path: String,
    /// The value as a TOML document of one key, if it is TOML.
    line: String,
    /// The value as written.
    raw: String,
}

impl Set {
    /// Takes `KEY=VALUE` apart.
    pub fn parse(text: &str) -> Result<Self, RecipeError> {
        let parts = text.split_once('=').map(|(path, raw)| (path.trim(), raw.trim()));
        match parts {
            Some((path, raw)) if path.split('.').all(|key| !key.trim().is_empty()) => Ok(Self {
                text: text.to_owned(),
                path: path.split('.').map(str::trim).collect::<Vec<_>>().join("."),
                line: format!("value = {raw}"),
                raw: raw.to_owned(),
            }),
            _ => Err(RecipeError::Set {
                set: text.to_owned(),
                problem: "it must be KEY=VALUE, as in --set distil.temperature=8".to_owned(),
            }),
        }
    }

    /// Whether the value at `path` comes from here.
    pub fn covers(&self, path: &str) -> bool {
        path.strip_prefix(&self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// Puts the value in its place, over what the file has there.
    pub fn apply<'a>(&'a self, root: &mut DeTable<'a>) -> Result<(), RecipeError> {
        let (parents, key) = match self.path.rsplit_once('.') {
            Some((parents, key)) => (Some(parents), key),
            None => (None, self.path.as_str()),
        };
        let mut table = root;
        for parent in parents.iter().flat_map(|parents| parents.split('.')) {
            if !table.contains_key(parent) {
                table.insert(unplaced(parent.into()), unplaced(DeValue::Table(DeTable::new())));
            }
            table = match table.get_mut(parent).map(Spanned::get_mut) {
                Some(DeValue::Table(inner)) => inner,
                _ => {
                    return Err(RecipeError::Set {
                        set: self.text.clone(),
                        problem: format!("`{parent}` is not a table in the recipe"),
                    });
                }
            };
        }
        table.insert(unplaced(key.into()), unplaced(self.value()));
        Ok(())
    }

    /// The value as TOML, or as a string if it is no TOML.
    fn value(&self) -> DeValue<'_> {
        let mut table = match DeTable::parse(&self.line) {
            Ok(table) => table.into_inner(),
            Err(_) => DeTable::new(),
        };
        match table.remove("value") {
            Some(value) if table.is_empty() => value.into_inner(),
            _ => DeValue::String(self.raw.as_str().into()),
        }
    }
}

/// With an empty span: it stands in no file.
fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
