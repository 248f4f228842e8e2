//! Entities: runs of words of one type, told by tags such as `B-PER`, `I-PER` and `O`.

use std::collections::BTreeSet;

use super::{Counts, share};

/// Whether all tags tell entities: `O`, or a letter of B, I, E, S and a type, as in `B-PER`. Other tags, as of parts
/// of speech, are measured word by word.
pub fn are_entities(names: &[String]) -> bool {
    let tells = |name: &String| match name.split_once('-') {
        Some((letter, kind)) => ["B", "I", "E", "S"].contains(&letter) && !kind.is_empty(),
        None => ["O", "B", "I", "E", "S"].contains(&name.as_str()),
    };
    names.iter().all(tells) && names.iter().any(|name| name != "O")
}

/// An entity: its first and last word, and the number of its type.
type Entity = (usize, usize, usize);

/// Counts of entities that are there, are predicted, and both: an entity is predicted if its words, all and no other,
/// and its type are. As seqeval counts in its default mode, for which it does not matter by which scheme the tags are
/// made (IOB1, IOB2, IOE1, IOE2, BIOES).
#[derive(Clone, Debug, PartialEq)]
pub struct EntityCounts {
    /// Of each tag the letter, and the number of its type.
    tags: Vec<(char, usize)>,
    types: Vec<String>,
    counts: Vec<Counts>,
    words: u64,
    right_words: u64,
    right_sentences: u64,
    sentences: u64,
}

impl EntityCounts {
    /// Of no sentences yet, whose words have tags of these names.
    pub fn new(names: &[String]) -> Self {
        let split: Vec<(char, &str)> = names.iter().map(|name| parts(name)).collect();
        let types: BTreeSet<&str> =
            split.iter().filter(|tag| tag.0 != 'O').map(|tag| tag.1).collect();
        let types: Vec<String> = types.into_iter().map(str::to_owned).collect();
        // What is outside has a type of its own.
        let number = |kind: &str| types.iter().position(|known| known == kind);
        let tags =
            split.iter().map(|(letter, kind)| (*letter, number(kind).unwrap_or(types.len())));
        let (tags, counts) = (tags.collect(), vec![Counts::default(); types.len()]);
        Self { tags, types, counts, words: 0, right_words: 0, right_sentences: 0, sentences: 0 }
    }

    /// Adds a sentence: the tags predicted for its words, and the true ones, by number.
    ///
    /// # Panics
    /// When there is a tag without a name, or not one for each word.
    pub fn add(&mut self, predicted: &[u32], truth: &[u32]) {
        assert_eq!(predicted.len(), truth.len(), "a prediction for every word");
        let right = predicted.iter().zip(truth).filter(|(a, b)| a == b).count();
        self.words += truth.len() as u64;
        self.right_words += right as u64;
        self.sentences += 1;
        self.right_sentences += u64::from(right == truth.len());
        let (predicted, truth) = (self.entities(predicted), self.entities(truth));
        for &(.., kind) in &truth {
            self.counts[kind].truth += 1;
        }
        for entity in &predicted {
            let counts = &mut self.counts[entity.2];
            counts.predicted += 1;
            counts.correct += u64::from(truth.contains(entity));
        }
    }

    /// The entities of a sentence.
    fn entities(&self, tags: &[u32]) -> BTreeSet<Entity> {
        let outside = ('O', self.types.len());
        let (mut before, mut first) = (outside, 0);
        let mut entities = BTreeSet::new();
        let known = tags.iter().map(|&tag| self.tags[tag as usize]);
        for (word, tag) in known.chain([outside]).enumerate() {
            if ends(before, tag) {
                entities.insert((first, word - 1, before.1));
            }
            if starts(before, tag) {
                first = word;
            }
            before = tag;
        }
        // What is outside is no entity, whatever its type.
        entities.retain(|&(.., kind)| kind < self.types.len());
        entities
    }

    /// Of entities of all types together.
    pub fn total(&self) -> Counts {
        self.counts.iter().copied().sum()
    }

    /// Of entities of each type that is there or predicted, by name.
    pub fn per_type(&self) -> Vec<(&str, Counts)> {
        let all = self.types.iter().map(String::as_str).zip(self.counts.iter().copied());
        all.filter(|(_, counts)| counts.truth + counts.predicted > 0).collect()
    }

    /// The mean F1 of the types that are there or predicted; 0 where there are none.
    pub fn macro_f1(&self) -> f64 {
        let types = self.per_type();
        let sum: f64 = types.iter().map(|(_, counts)| counts.f1()).sum();
        if types.is_empty() { 0.0 } else { sum / types.len() as f64 }
    }

    /// The share of words whose tag is predicted; 0 without words.
    pub fn accuracy(&self) -> f64 {
        share(self.right_words, self.words)
    }

    /// Words, and how many of them have another tag than is predicted.
    pub fn words(&self) -> (u64, u64) {
        (self.words, self.words - self.right_words)
    }

    /// The share of sentences all of whose tags are predicted; 0 without sentences.
    pub fn sentence_accuracy(&self) -> f64 {
        share(self.right_sentences, self.sentences)
    }
}

/// A tag's letter, and the type behind it, `_` where there is none.
fn parts(name: &str) -> (char, &str) {
    let mut letters = name.chars();
    let letter = letters.next().unwrap_or('O');
    let rest = letters.as_str();
    let kind = rest.split_once('-').map_or(rest, |(_, kind)| kind);
    (letter, if kind.is_empty() { "_" } else { kind })
}

/// Whether an entity ends between two words with these tags.
fn ends(before: (char, usize), tag: (char, usize)) -> bool {
    match before.0 {
        'E' | 'S' => true,
        'B' | 'I' if matches!(tag.0, 'B' | 'S' | 'O') => true,
        'O' | '.' => false,
        _ => before.1 != tag.1,
    }
}

/// Whether an entity begins between two words with these tags.
fn starts(before: (char, usize), tag: (char, usize)) -> bool {
    match tag.0 {
        'B' | 'S' => true,
        'E' | 'I' if matches!(before.0, 'E' | 'S' | 'O') => true,
        'O' | '.' => false,
        _ => before.1 != tag.1,
    }
}
