//! What a sweep varies.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files::io_error;
use crate::results::Setting;

/// Name of the file that says what is swept.
pub(crate) const GRID: &str = "grid.json";

/// What is swept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    /// Keys of the recipe with their values, as they stand in a recipe.
    pub axes: Vec<Axis>,
    /// Each combination is run with so many seeds, from the recipe's on.
    pub seeds: u32,
}

/// A key of the recipe and the values that it takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// As `distil.temperature`.
    pub key: String,
    /// As `4.0`.
    pub values: Vec<String>,
}

impl Grid {
    /// The grid of a sweep's folder.
    ///
    /// # Errors
    /// [`Error::Run`] when the folder is not that of a sweep.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(GRID);
        let bad = |problem: String| Error::Run { path: path.display().to_string(), problem };
        if !path.is_file() {
            let problem = match folder.join(crate::results::JOURNAL).is_file() {
                true => {
                    "the sweep was stopped before it began to train: give its command again, with --force"
                }
                false => "no such file: give the folder of a sweep",
            };
            return Err(bad(problem.to_owned()));
        }
        let text = fs::read_to_string(&path).map_err(io_error(&path))?;
        serde_json::from_str(&text)
            .map_err(|error| bad(format!("not the grid of a sweep: {error}")))
    }

    /// Every combination, the last axis fastest.
    pub(super) fn combinations(&self) -> Vec<Vec<Setting>> {
        self.axes.iter().fold(vec![Vec::new()], |combinations, axis| {
            let extended = combinations.iter().flat_map(|combination| {
                axis.values.iter().map(|value| {
                    let setting = Setting { key: axis.key.clone(), value: value.clone() };
                    combination.iter().cloned().chain([setting]).collect()
                })
            });
            extended.collect()
        })
    }
}

/// For a message.
impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Axis { key, values } in &self.axes {
            write!(f, "{key}={} ", values.join(","))?;
        }
        write!(f, "seeds={}", self.seeds)
    }
}
