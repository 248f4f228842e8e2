//! What can be wrong with a recipe.

use std::fmt;

/// Where something stands: a place in a recipe file, or a `--set` of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, or the `--set` as it was written.
    pub source: String,
    /// Line and column in the file, from 1; a column counts characters.
    pub position: Option<(usize, usize)>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(f, "{}:{line}:{column}", self.source),
            None => f.write_str(&self.source),
        }
    }
}

/// Errors of recipes. Each says where it stands and what is allowed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("{path}: the recipe cannot be read")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder in the place of a recipe.
    #[error("{path}: this is a folder, and a recipe is a file, as `distil-gpu init` writes one{}", resumed(.path, .is_run))]
    Folder {
        /// The folder.
        path: String,
        /// Whether it is that of a run.
        is_run: bool,
    },
    /// The text is not TOML.
    #[error("{place}: this is not TOML: {problem}")]
    Syntax {
        /// Where.
        place: Box<Place>,
        /// What the parser said.
        problem: String,
    },
    /// A key that no recipe has.
    #[error("{place}: unknown key `{key}` in {table}{} Known keys: {known}", sentence(.meant))]
    UnknownKey {
        /// Where.
        place: Box<Place>,
        /// The key.
        key: String,
        /// The table it stands in, as `[train]`, or `the recipe`.
        table: String,
        /// The key that is likely meant, in a sentence of its own.
        meant: Option<String>,
        /// All keys of that table.
        known: String,
    },
    /// A value of a wrong type or out of range.
    #[error("{place}: `{key}` is {found}; it must be {allowed}{}", meant(.nearest))]
    Value {
        /// Where.
        place: Box<Place>,
        /// The key's whole path, as `distil.alpha`.
        key: String,
        /// What stands there.
        found: String,
        /// What may stand there.
        allowed: String,
        /// The allowed word nearest to what stands there, if one is near.
        nearest: Option<String>,
    },
    /// A key or table that must be there.
    #[error("{place}: {table} needs {key}: {what}")]
    Missing {
        /// Where.
        place: Box<Place>,
        /// The table that lacks it, as `[train]`, or `the recipe`.
        table: String,
        /// What is lacking, as `` `lr` `` or `[student]`.
        key: String,
        /// What it is.
        what: String,
    },
    /// Values that do not go together.
    #[error("{place}: {problem}")]
    Conflict {
        /// Where.
        place: Box<Place>,
        /// Which do not, and what to do.
        problem: String,
    },
    /// A `--set` that is not `KEY=VALUE` or does not fit the file.
    #[error("--set {set}: {problem}")]
    Set {
        /// As it was written.
        set: String,
        /// What is wrong.
        problem: String,
    },
    /// A resolved recipe cannot be written as TOML.
    #[error("the recipe cannot be written as TOML: {0}")]
    Write(String),
}

impl RecipeError {
    /// Whether it is about a `--set` of the command line, not about the file.
    pub fn is_of_set(&self) -> bool {
        match self {
            Self::Set { .. } => true,
            Self::Syntax { place, .. }
            | Self::UnknownKey { place, .. }
            | Self::Value { place, .. }
            | Self::Missing { place, .. }
            | Self::Conflict { place, .. } => place.source.starts_with("--set "),
            Self::Read { .. } | Self::Folder { .. } | Self::Write(_) => false,
        }
    }
}

/// The end of a sentence that may say what is meant, or else what to do.
fn sentence(meant: &Option<String>) -> String {
    meant.as_ref().map_or(".".to_owned(), |meant| format!("; {meant}"))
}

/// What to do with the folder of a run.
fn resumed(path: &str, is_run: &bool) -> String {
    match is_run {
        true => format!("; to go on with the run in it: distil-gpu run --resume {path}"),
        false => String::new(),
    }
}

fn meant(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or(String::new(), |word| format!("; did you mean `{word}`?"))
}
