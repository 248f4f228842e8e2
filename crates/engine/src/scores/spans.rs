//! Which part of a context is a model's answer to a question.

use std::ops::Range;

use crate::data::{Questions, Windows};

/// What a model says of one window of a question.
#[derive(Clone, Copy, Debug)]
pub struct SpanLogits<'a> {
    /// For each token, that the answer begins there; the first token stands for no answer.
    pub start: &'a [f32],
    /// For each token, that the answer ends there.
    pub end: &'a [f32],
    /// Where each token stands in the context, in characters; none for those that are not of the context.
    pub places: &'a [Option<Range<usize>>],
}

/// How answers are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpanChoice {
    /// How many first tokens, and how many last ones, of each window are looked at, the likeliest.
    pub best: usize,
    /// The most tokens of an answer.
    pub max_tokens: usize,
    /// Whether there may be no answer, and how much larger its score must be than that of the best answer.
    pub null_threshold: Option<f32>,
}

impl Default for SpanChoice {
    /// As transformers' example of question answering: 20, 30, and always an answer.
    fn default() -> Self {
        Self { best: 20, max_tokens: 30, null_threshold: None }
    }
}

/// An answer, or that there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct ChosenSpan {
    /// Where it stands in the context, in characters; none where there is said to be no answer, or none can be.
    pub place: Option<Range<usize>>,
    /// The sum of the logits of the best answer's first and last token; negative infinity where there is none.
    pub score: f32,
    /// How much larger the score of no answer is, the least of all windows'; compared with the threshold.
    pub null_difference: f32,
}

/// The answer to a question by its windows: the part of the context of at most so many tokens, within one window,
/// whose first and last token have the largest sum of logits.
///
/// There is said to be no answer where that may be, and the sum of the first token's logits, in the window where that is
/// least, is larger than the best answer's by more than the threshold. This is transformers' `run_qa.py`, whose null
/// answer is the least of all windows' too.
///
/// # Panics
/// When there are not as many logits as places.
pub fn choose(windows: &[SpanLogits<'_>], how: SpanChoice) -> ChosenSpan {
    let mut best: Option<(f32, Range<usize>)> = None;
    let mut null = f32::INFINITY;
    for SpanLogits { start, end, places } in windows {
        assert!(start.len() == places.len() && end.len() == places.len(), "logits of every token");
        if let (Some(start), Some(end)) = (start.first(), end.first()) {
            null = null.min(start + end);
        }
        let ends = largest(end, how.best);
        for first in largest(start, how.best) {
            for &last in &ends {
                let (Some(from), Some(to)) = (&places[first], &places[last]) else { continue };
                if last < first || last - first >= how.max_tokens {
                    continue;
                }
                let score = start[first] + end[last];
                // A token of no characters, as some tokenizers have, is no answer.
                let place = from.start..to.end;
                let better = best.as_ref().is_none_or(|(known, _)| score > *known);
                if better && !place.is_empty() {
                    best = Some((score, place));
                }
            }
        }
    }
    let (score, place) = match best {
        Some((score, place)) => (score, Some(place)),
        None => (f32::NEG_INFINITY, None),
    };
    let null_difference = null - score;
    let none = how.null_threshold.is_some_and(|threshold| null_difference > threshold);
    ChosenSpan { place: place.filter(|_| !none), score, null_difference }
}

/// The answer to each question that has windows, by the question's number: see [`choose`]. `logits` gives those of a
/// window's tokens, to be the first of the answer and to be the last.
///
/// # Panics
/// When there are not as many logits as tokens, or no question of a window.
pub fn predict<'a>(
    questions: &'a Questions,
    windows: &Windows,
    logits: impl Fn(usize) -> [Vec<f32>; 2],
    how: SpanChoice,
) -> Vec<(u32, &'a str, ChosenSpan)> {
    let predicted = |(question, own): (u32, Vec<usize>)| {
        let own: Vec<_> =
            own.into_iter().map(|window| (logits(window), windows.places(window))).collect();
        let said = own.iter().map(|([start, end], places)| SpanLogits { start, end, places });
        let chosen = choose(&said.collect::<Vec<_>>(), how);
        let asked = &questions.all()[question as usize];
        (question, chosen.place.clone().map_or("", |place| asked.part(place)), chosen)
    };
    windows.by_question().into_iter().map(predicted).collect()
}

/// The places of the largest values, falling; of equal ones the last first.
fn largest(values: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(b.cmp(&a)));
    order.truncate(count);
    order
}
