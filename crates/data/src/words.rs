//! Numbers in sentences, and words that were meant.

use std::fmt::Display;

/// A count with its noun: `1 example`, `2 examples`.
pub fn counted(count: usize, noun: &str) -> String {
    named(count, count, noun)
}

/// The same with commas: `1,234 examples`.
pub fn counted_thousands(count: usize, noun: &str) -> String {
    named(thousands(count), count, noun)
}

fn named(shown: impl Display, count: usize, noun: &str) -> String {
    let ending = match (count, noun.ends_with("ss")) {
        (1, _) => "",
        (_, false) => "s",
        (_, true) => "es",
    };
    format!("{shown} {noun}{ending}")
}

/// 1234567 as 1,234,567.
pub fn thousands(value: usize) -> String {
    let digits = value.to_string();
    let groups = digits.as_bytes().rchunks(3).rev();
    let groups: Vec<&str> =
        groups.map(|g| std::str::from_utf8(g).expect("digits are ASCII")).collect();
    groups.join(",")
}

/// A text that begins with a capital.
pub fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The known word nearest to `word`, if it is near enough to be what was meant.
pub fn nearest(word: &str, known: &[&str]) -> Option<String> {
    let word = word.to_lowercase();
    let distance = |known: &str| strsim::damerau_levenshtein(&word, known);
    let near = |known: &&&str| distance(known) <= 1 + word.chars().count() / 4;
    known.iter().filter(near).min_by_key(|known| distance(known)).map(|&known| known.to_owned())
}

/// Bytes as hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The last place at or before this one where a character begins or the text ends.
pub fn floor_char_boundary(text: &str, place: usize) -> usize {
    (0..=place.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_all_else_is_plural() {
        for (count, noun, wanted) in [
            (0, "error", "0 errors"),
            (1, "error", "1 error"),
            (2, "more mistake", "2 more mistakes"),
            (1, "class", "1 class"),
            (10, "class", "10 classes"),
        ] {
            assert_eq!(counted(count, noun), wanted);
        }
        assert_eq!(counted_thousands(1, "text"), "1 text");
        assert_eq!(counted_thousands(1_234_567, "text"), "1,234,567 texts");
    }
}
