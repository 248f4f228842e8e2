//! A tag for each word.

use crate::DataError;

/// Tags of words: of each example as many as it has words, each below the number of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagLabels {
    ids: Vec<u32>,
    /// Where each example's end.
    ends: Vec<usize>,
    names: Vec<String>,
}

impl TagLabels {
    /// The tags of each example's words, as places among the names.
    ///
    /// # Errors
    /// [`DataError::Unfit`] where there is no name for a tag, naming the first example concerned.
    pub fn new<T: AsRef<[u32]>>(
        rows: impl IntoIterator<Item = T>,
        names: Vec<String>,
    ) -> Result<Self, DataError> {
        let (mut ids, mut ends) = (Vec::new(), Vec::new());
        for (row, tags) in rows.into_iter().enumerate() {
            let tags = tags.as_ref();
            if let Some(tag) = tags.iter().find(|&&tag| tag as usize >= names.len()) {
                let names = names.len();
                return Err(DataError::Unfit(format!(
                    "example {row} has the tag {tag}, which is not among the {names} tags, counted from 0"
                )));
            }
            ids.extend_from_slice(tags);
            ends.push(ids.len());
        }
        Ok(Self { ids, ends, names })
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The tags of one example's words.
    ///
    /// # Panics
    /// When there is no such example.
    pub fn row(&self, row: usize) -> &[u32] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.ids[start..self.ends[row]]
    }

    /// The tags of all words, one example behind the other.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Names of the tags, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many words have each tag.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.names.len()];
        self.ids.iter().for_each(|&tag| counts[tag as usize] += 1);
        counts
    }

    pub(super) fn take(mut self, count: usize) -> Self {
        self.ends.truncate(count);
        self.ids.truncate(self.ends.last().copied().unwrap_or(0));
        self
    }

    pub(super) fn select(&self, rows: &[u32]) -> Self {
        let (mut ids, mut ends) = (Vec::new(), Vec::with_capacity(rows.len()));
        for &row in rows {
            ids.extend_from_slice(self.row(row as usize));
            ends.push(ids.len());
        }
        Self { ids, ends, names: self.names.clone() }
    }

    /// With these names, where the tag at each place stands at `places` among them.
    pub(super) fn renamed(mut self, places: &[u32], names: &[String]) -> Self {
        self.ids.iter_mut().for_each(|tag| *tag = places[*tag as usize]);
        Self { names: names.to_vec(), ..self }
    }

    pub(super) fn digest(&self, digest: &mut crc32fast::Hasher) {
        for row in 0..self.len() {
            let tags = self.row(row);
            digest.update(&(tags.len() as u32).to_le_bytes());
            digest.update(bytemuck::cast_slice(tags));
        }
    }
}
