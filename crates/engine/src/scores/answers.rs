//! Answers to questions beside those that are held to be right, as SQuAD measures them.

use std::collections::HashMap;

/// Sums over questions: of exact matches and of F1.
///
/// Rajpurkar et al. 2016 ("SQuAD: 100,000+ Questions for Machine Comprehension of Text") and 2018 ("Know What You
/// Don't Know"): what counts is the best of a question's answers; a question without answers is answered rightly by
/// the empty text alone.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AnswerScores {
    exact: [f64; 2],
    f1: [f64; 2],
    questions: [u64; 2],
}

impl AnswerScores {
    /// Adds a question: the answer that is predicted, empty if there is said to be none, and those that are right.
    pub fn add<T: AsRef<str>>(&mut self, predicted: &str, answers: &[T]) {
        let kind = usize::from(answers.is_empty());
        let (exact, f1) = score(predicted, answers);
        self.exact[kind] += f64::from(u8::from(exact));
        self.f1[kind] += f1;
        self.questions[kind] += 1;
    }

    /// The share of questions that are answered word for word, from 0 to 1; 0 without questions.
    pub fn exact(&self) -> f64 {
        mean(self.exact.iter().sum(), self.questions.iter().sum())
    }

    /// The mean F1 of the words of answers, from 0 to 1; 0 without questions.
    pub fn f1(&self) -> f64 {
        mean(self.f1.iter().sum(), self.questions.iter().sum())
    }

    /// Number of questions.
    pub fn questions(&self) -> u64 {
        self.questions.iter().sum()
    }

    /// Exact matches and F1 of the questions that have answers alone, and their number; none without any.
    pub fn answerable(&self) -> Option<(f64, f64, u64)> {
        self.part(0)
    }

    /// Exact matches and F1 of the questions without an answer alone, and their number; none without any.
    pub fn unanswerable(&self) -> Option<(f64, f64, u64)> {
        self.part(1)
    }

    fn part(&self, kind: usize) -> Option<(f64, f64, u64)> {
        let count = self.questions[kind];
        (count > 0).then(|| (mean(self.exact[kind], count), mean(self.f1[kind], count), count))
    }
}

fn mean(sum: f64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { sum / count as f64 }
}

/// Whether a predicted answer matches one of these, and its best F1 among them. Answers of which nothing is left when
/// they are [`normalised`] are none.
pub fn score<T: AsRef<str>>(predicted: &str, answers: &[T]) -> (bool, f64) {
    let predicted = normalised(predicted);
    let known = answers.iter().map(|answer| normalised(answer.as_ref()));
    let mut known: Vec<String> = known.filter(|answer| !answer.is_empty()).collect();
    if known.is_empty() {
        known.push(String::new());
    }
    let exact = known.contains(&predicted);
    (exact, known.iter().map(|answer| f1_of_words(&predicted, answer)).fold(0.0, f64::max))
}

/// F1 of two normalised texts as bags of words; where one has no words, 1 if both have none, else 0.
fn f1_of_words(predicted: &str, truth: &str) -> f64 {
    let (predicted, truth) = (predicted.split(' '), truth.split(' '));
    let words = |word: &&str| !word.is_empty();
    let (predicted, truth): (Vec<&str>, Vec<&str>) =
        (predicted.filter(words).collect(), truth.filter(words).collect());
    if predicted.is_empty() || truth.is_empty() {
        return f64::from(u8::from(predicted.is_empty() && truth.is_empty()));
    }
    let mut left: HashMap<&str, usize> = HashMap::new();
    truth.iter().for_each(|word| *left.entry(word).or_default() += 1);
    let mut common = 0;
    for word in &predicted {
        if let Some(count) = left.get_mut(word).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    2.0 * f64::from(common) / (predicted.len() + truth.len()) as f64
}

/// A text in small letters, without ASCII punctuation and the articles `a`, `an` and `the`, its words parted by single
/// blanks.
pub fn normalised(text: &str) -> String {
    let small = text.to_lowercase();
    let plain: String = small.chars().filter(|letter| !letter.is_ascii_punctuation()).collect();
    // An article is one between any letters that are of no word, as ’ is of none.
    let of_word = |letter: char| letter.is_alphanumeric();
    let mut kept = String::with_capacity(plain.len());
    let mut rest = &*plain;
    while let Some(first) = rest.chars().next() {
        let same = |letter: char| of_word(letter) != of_word(first);
        let (run, behind) = rest.split_at(rest.find(same).unwrap_or(rest.len()));
        kept.push_str(if ["a", "an", "the"].contains(&run) { " " } else { run });
        rest = behind;
    }
    // Python's blanks, which are Unicode's and four separators of ASCII.
    let blank = |letter: char| letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter);
    kept.split(blank).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}
