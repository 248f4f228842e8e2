//! Texts as tokens.

/// Tokens of texts of different lengths, one text behind the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    ids: Vec<i32>,
    types: Vec<i32>,
    ends: Vec<usize>,
    cut: usize,
}

impl Tokens {
    /// Adds a text: its token numbers, which of two texts each is of, and whether more was cut off.
    ///
    /// # Panics
    /// When there are not as many types as numbers.
    pub fn push(&mut self, ids: &[u32], types: &[u32], cut: bool) {
        assert_eq!(ids.len(), types.len());
        self.ids.extend(ids.iter().map(|&id| id as i32));
        self.types.extend(types.iter().map(|&of| of as i32));
        self.ends.push(self.ids.len());
        self.cut += usize::from(cut);
    }

    /// Adds once more the text of this number, and whether more of it was cut off.
    ///
    /// # Panics
    /// When there is no such text.
    pub fn push_again(&mut self, row: usize, cut: bool) {
        let range = self.range(row);
        self.ids.extend_from_within(range.clone());
        self.types.extend_from_within(range);
        self.ends.push(self.ids.len());
        self.cut += usize::from(cut);
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Where a text stands among [`Self::ids`].
    pub(super) fn range(&self, row: usize) -> std::ops::Range<usize> {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        start..self.ends[row]
    }

    /// The token numbers of all texts.
    pub fn ids(&self) -> &[i32] {
        &self.ids
    }

    /// A text's token numbers, and which of two texts each is of.
    ///
    /// # Panics
    /// When there is no such text.
    pub fn row(&self, row: usize) -> (&[i32], &[i32]) {
        (&self.ids[self.range(row)], &self.types[self.range(row)])
    }

    /// A text's number of tokens.
    ///
    /// # Panics
    /// When there is no such text.
    pub fn length(&self, row: usize) -> usize {
        self.range(row).len()
    }

    /// The first `count` texts, or all if there are fewer.
    pub fn take(&self, count: usize) -> Self {
        let count = count.min(self.len());
        self.select(&(0..count as u32).collect::<Vec<u32>>())
    }

    /// The texts of these numbers, in their order; as many count as cut as before, at most all.
    ///
    /// # Panics
    /// When there is no such text.
    pub fn select(&self, rows: &[u32]) -> Self {
        let mut chosen = Self::default();
        for &row in rows {
            let (ids, types) = self.row(row as usize);
            chosen.ids.extend_from_slice(ids);
            chosen.types.extend_from_slice(types);
            chosen.ends.push(chosen.ids.len());
        }
        Self { cut: self.cut.min(rows.len()), ..chosen }
    }

    /// How many texts were too long and lost their end.
    pub fn cut(&self) -> usize {
        self.cut
    }
}
