//! Texts that are split into words already.

use super::rows::{Row, Rows, digest_parts};

/// Texts as lists of words, each of at least one.
pub type Words = Rows<Vec<String>>;

impl Row for Vec<String> {
    const NOUN: &'static str = "text";

    fn digest(&self, digest: &mut crc32fast::Hasher) {
        digest_parts(self.iter().map(|word| &**word), digest);
    }

    fn problem(rows: &[Self]) -> Option<String> {
        let row = rows.iter().position(Vec::is_empty)?;
        Some(format!("text {row} has no words"))
    }
}

impl Words {
    /// The words of one text.
    ///
    /// # Panics
    /// When there is no such text.
    pub fn row(&self, row: usize) -> &[String] {
        &self.rows[row]
    }
}
