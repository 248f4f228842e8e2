//! One class for each example.

use crate::DataError;

/// The classes of examples; every label is below the number of classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassLabels {
    ids: Vec<u32>,
    class_names: Vec<String>,
}

impl ClassLabels {
    /// Labels, each the place of its class among the names.
    ///
    /// # Errors
    /// [`DataError::Unfit`] where there is no class for a label, naming the first example concerned.
    pub fn new(ids: Vec<u32>, class_names: Vec<String>) -> Result<Self, DataError> {
        let classes = class_names.len();
        if let Some(row) = ids.iter().position(|&label| label as usize >= classes) {
            let label = ids[row];
            return Err(DataError::Unfit(format!(
                "example {row} has the label {label}, which is not among the {classes} classes, \
                 counted from 0"
            )));
        }
        Ok(Self { ids, class_names })
    }

    /// The label of each example: the place of its class among the names.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// Names of the classes, in order.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// How many examples each class has.
    pub fn per_class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes()];
        for &label in &self.ids {
            counts[label as usize] += 1;
        }
        counts
    }

    pub(super) fn take(mut self, count: usize) -> Self {
        self.ids.truncate(count);
        self
    }

    pub(super) fn select(&self, rows: &[u32]) -> Self {
        let ids = rows.iter().map(|&row| self.ids[row as usize]).collect();
        Self { ids, class_names: self.class_names.clone() }
    }

    /// With these names, where the class at each place stands at `places` among them.
    pub(super) fn renamed(mut self, places: &[u32], names: &[String]) -> Self {
        self.ids.iter_mut().for_each(|label| *label = places[*label as usize]);
        Self { class_names: names.to_vec(), ..self }
    }
}
