//! SentencePiece's scores and BPE's merges: either tells what is joined first.

use std::cmp::Ordering;
use std::collections::HashMap;

use crate::error::Error;

/// The score of a token that no merge makes; it is never asked for.
const NEVER: f32 = -1e6;

/// The merges of tokens that are joined by their scores, in their order: the highest score first, and of a token's own
/// merges that with the longer left part. `None` in place of a token is one that nothing is joined to.
pub(super) fn from_scores(tokens: &[Option<&str>], scores: &[f32]) -> Vec<(String, String)> {
    let ids: HashMap<&str, usize> =
        tokens.iter().enumerate().filter_map(|(id, token)| Some(((*token)?, id))).collect();
    let mut found: Vec<(f32, &str, &str)> = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        let Some(token) = token else { continue };
        let cuts = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        let parts = cuts.filter(|(left, right)| ids.contains_key(left) && ids.contains_key(right));
        found.extend(parts.map(|(left, right)| (scores[id], left, right)));
    }
    let length = |text: &str| text.chars().count();
    found.sort_by(|a, b| {
        let by_score = b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal);
        by_score
            .then_with(|| length(b.1).cmp(&length(a.1)))
            .then_with(|| length(b.2).cmp(&length(a.2)))
    });
    found.into_iter().map(|(_, left, right)| (left.to_owned(), right.to_owned())).collect()
}

/// Scores that join tokens in the order of these merges; 0 or less, by tokens.
///
/// # Errors
/// [`Error::Tokenizer`] naming a token whose merges do not follow one another: no score of its own orders them.
pub(super) fn to_scores(
    merges: &[(String, String)],
    ids: &HashMap<&str, usize>,
    tokens: usize,
) -> Result<Vec<f32>, Error> {
    let mut scores = vec![NEVER; tokens];
    let mut last = None;
    for (rank, (left, right)) in merges.iter().enumerate() {
        let whole = format!("{left}{right}");
        let id = ids.get(&*whole).copied().filter(|&id| id < tokens);
        let id = id.ok_or_else(|| {
            Error::tokenizer("merges", format!("{left:?} and {right:?} make no token"))
        })?;
        if last != Some(id) {
            if scores[id] != NEVER {
                let problem = format!(
                    "{whole:?} is made by merges of several ranks, which are no SentencePiece model's"
                );
                return Err(Error::tokenizer("merges", problem));
            }
            scores[id] = -(rank as f32);
            last = Some(id);
        }
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_and_merges_are_one_anothers() {
        let tokens = ["a", "b", "ab", "abab", "aba", "<s>"];
        let shown: Vec<Option<&str>> = tokens.iter().map(|t| (*t != "<s>").then_some(*t)).collect();
        let merges = from_scores(&shown, &[0.0, 0.0, -1.0, -3.0, -2.0, 0.0]);
        let pairs: Vec<(&str, &str)> = merges.iter().map(|(l, r)| (&**l, &**r)).collect();
        assert_eq!(pairs, [("a", "b"), ("ab", "a"), ("aba", "b"), ("ab", "ab")]);
        let ids = tokens.iter().enumerate().map(|(id, token)| (*token, id)).collect();
        let scores = to_scores(&merges, &ids, 6).unwrap();
        assert_eq!(scores[2..5], [0.0, -2.0, -1.0]);
        assert_eq!(from_scores(&shown, &scores), merges);
    }

    #[test]
    fn merges_that_scores_cannot_order_are_refused() {
        let ids: HashMap<&str, usize> = [("a", 0), ("aa", 1), ("aaa", 2), ("aaaa", 3)].into();
        let merge = |left: &str, right: &str| (left.to_owned(), right.to_owned());
        let merges = [merge("aa", "a"), merge("aa", "aa"), merge("a", "aa")];
        let problem = to_scores(&merges, &ids, 4).unwrap_err().to_string();
        assert!(problem.contains("several ranks"), "{problem}");
        assert!(
            to_scores(&[merge("b", "a")], &ids, 4)
                .unwrap_err()
                .to_string()
                .contains("make no token")
        );
    }
}
