//! Numbers for each example: values to be met, or flags of several classes.

use crate::DataError;

/// Numbers for each example, one for each name: values that a model is to meet, or flags, 1 where an example has the
/// label of that name and 0 where it has not.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberLabels {
    /// [rows, names]
    values: Vec<f32>,
    names: Vec<String>,
    flags: bool,
}

impl NumberLabels {
    /// Values [rows, names], to be met.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when there is no name, the values are not a whole number of rows, or one is not finite,
    /// naming the first example concerned.
    pub fn new(values: Vec<f32>, names: Vec<String>) -> Result<Self, DataError> {
        Self::checked(values, names, false)
    }

    /// Values [rows, names], each 0 or 1: whether the example has the label of that name.
    ///
    /// # Errors
    /// As [`Self::new`], and where a value is neither 0 nor 1.
    pub fn flags(values: Vec<f32>, names: Vec<String>) -> Result<Self, DataError> {
        Self::checked(values, names, true)
    }

    fn checked(values: Vec<f32>, names: Vec<String>, flags: bool) -> Result<Self, DataError> {
        let width = names.len();
        if width == 0 || !values.len().is_multiple_of(width) {
            let (found, names) = (values.len(), names.len());
            return Err(DataError::Unfit(format!("{found} numbers are no rows of {names} labels")));
        }
        let wrong = |value: &f32| match flags {
            true => *value != 0.0 && *value != 1.0,
            false => !value.is_finite(),
        };
        if let Some(place) = values.iter().position(wrong) {
            let (row, name, value) = (place / width, &names[place % width], values[place]);
            let wanted = if flags { "0 or 1" } else { "a finite number" };
            return Err(DataError::Unfit(format!(
                "example {row} has {value} for `{name}`, which is not {wanted}"
            )));
        }
        Ok(Self { values, names, flags })
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.values.len() / self.width()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Numbers of each example.
    pub fn width(&self) -> usize {
        self.names.len()
    }

    /// All of them, [rows, names].
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// One example's, \[names].
    ///
    /// # Panics
    /// When there is no such example.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.width()..][..self.width()]
    }

    /// What each number of an example is called.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether each is 0 or 1: whether the example has that label.
    pub fn are_flags(&self) -> bool {
        self.flags
    }

    /// How many examples have each label, of flags; their sums, of values.
    pub fn sums(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.width()];
        for row in self.values.chunks_exact(self.width()) {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        sums
    }

    pub(super) fn take(mut self, count: usize) -> Self {
        self.values.truncate(count.saturating_mul(self.width()));
        self
    }

    pub(super) fn select(&self, rows: &[u32]) -> Self {
        let values = rows.iter().flat_map(|&row| self.row(row as usize)).copied().collect();
        Self { values, names: self.names.clone(), flags: self.flags }
    }

    /// With these names, where the number at each place stands at `places` among them; what is new is 0.
    pub(super) fn renamed(self, places: &[u32], names: &[String]) -> Self {
        let mut values = vec![0.0; self.len() * names.len()];
        let rows = values.chunks_exact_mut(names.len()).zip(self.values.chunks_exact(self.width()));
        for (out, row) in rows {
            places.iter().zip(row).for_each(|(&place, value)| out[place as usize] = *value);
        }
        Self { values, names: names.to_vec(), flags: self.flags }
    }
}
