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

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn range(&self, row: usize) -> std::ops::Range<usize> {
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

    /// How many texts were too long and lost their end.
    pub fn cut(&self) -> usize {
        self.cut
    }
}
