//! Questions of several choices, of which a language model finds one likeliest, as lm-evaluation-harness asks them.

use std::path::Path;

use super::loss_mask::DocumentTokens;
use super::{PackedDocuments, Packing, Tokenizer};
use crate::DataError;
use crate::files::{self, Cell, Format, Wanted};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChoiceQuestion {
    /// What comes before each choice; a blank goes between.
    pub context: String,
    /// At least two.
    pub choices: Vec<String>,
    /// The number of the right one, from 0.
    pub gold: usize,
}

/// What is wrong with a cell, and its column.
type Wrong = (&'static str, String);

/// Reads questions from a table: a text `context`, a list `choices` of texts, and `gold`, the right one's number from 0.
///
/// # Errors
/// [`DataError`], naming the file, the line or row, and the column.
pub fn read_choices(path: &Path) -> Result<Vec<ChoiceQuestion>, DataError> {
    let file = files::File::new(path);
    let nested = [Format::Json, Format::JsonLines, Format::Parquet];
    let format = Format::of(path).filter(|format| nested.contains(format)).ok_or_else(|| {
        file.bad(
            "questions of several choices are read from .jsonl, .ndjson, .json and .parquet files",
        )
    })?;
    let columns = ["context", "choices", "gold"];
    let wanted = Wanted { columns: &columns, optional: 0, class_names: false, nested: true };
    let mut questions = Vec::new();
    file.rows(format, wanted, &mut |place, cells| {
        let made = question(cells);
        questions.push(made.map_err(|(column, problem)| file.cell(place, column, problem))?);
        Ok(())
    })?;
    match questions.is_empty() {
        true => Err(file.bad("there is no question in it")),
        false => Ok(questions),
    }
}

fn question(cells: &[Cell<'_>]) -> Result<ChoiceQuestion, Wrong> {
    let [context, choices, gold] = cells else { unreachable!("three columns are wanted") };
    let Cell::Text(context) = context else {
        return Err(("context", format!("{context} is no text")));
    };
    let Cell::List(list) = choices else {
        return Err(("choices", format!("{choices} is no list of texts")));
    };
    let text = |cell: &Cell<'_>| match cell {
        Cell::Text(text) if !text.is_empty() => Ok(text.clone().into_owned()),
        other => Err(("choices", format!("{other} is no text that could be chosen"))),
    };
    let choices: Vec<String> = list.iter().map(text).collect::<Result<_, _>>()?;
    if choices.len() < 2 {
        return Err(("choices", "there are fewer than 2 to choose from".to_owned()));
    }
    let gold = match gold {
        Cell::Whole(number) => usize::try_from(*number).ok().filter(|gold| *gold < choices.len()),
        _ => None,
    };
    let gold = gold.ok_or_else(|| {
        let problem =
            format!("it must be the right choice's number, from 0 to {}", choices.len() - 1);
        ("gold", problem)
    })?;
    Ok(ChoiceQuestion { context: context.clone().into_owned(), choices, gold })
}

impl PackedDocuments {
    /// Each choice of each question behind its context, a row of its own, in which the choice alone counts.
    ///
    /// As lm-evaluation-harness has it, context, blank and choice are tokenised as one text, and what is beyond as many tokens
    /// as the context alone becomes is the choice; of what is longer than a row the beginning is left out. Nothing is put in
    /// front, but of an empty context the token that begins texts, or ends them.
    ///
    /// # Errors
    /// When the tokenizer cannot encode a text, or a row has no room for a choice.
    pub fn of_choices(
        questions: &[ChoiceQuestion],
        tokenizer: &Tokenizer,
        length: usize,
    ) -> Result<Self, DataError> {
        let placing = tokenizer.placing();
        let front = ["bos_token", "eos_token"].iter().find_map(|name| tokenizer.special(name));
        let mut tokens = DocumentTokens::default();
        for ChoiceQuestion { context, choices, .. } in questions {
            let blanks = context.len() - context.trim_end().len();
            let (context, blanks) = context.split_at(context.len() - blanks);
            let whole: Vec<String> =
                choices.iter().map(|choice| format!("{context}{blanks} {choice}")).collect();
            let texts: Vec<&str> =
                [context].into_iter().chain(whole.iter().map(|one| &**one)).collect();
            let mut encoded = placing.encode(&texts)?.into_iter();
            let context_len = encoded.next().map_or(0, |placed| placed.ids.len());
            for (text, placed) in whole.iter().zip(encoded) {
                let bytes = placed.bytes(text.len());
                let (mut ids, mut bytes, mut first) = (placed.ids, bytes, context_len);
                if first == 0 {
                    ids.splice(0..0, front);
                    bytes.splice(0..0, front.map(|_| 0));
                    first = 1;
                }
                let cut = ids.len().saturating_sub(length);
                if first <= cut || first >= ids.len() {
                    return Err(DataError::Unfit(format!(
                        "the choice {:?} has no room behind a context in rows of {length} tokens",
                        text.chars()
                            .rev()
                            .take(40)
                            .collect::<Vec<_>>()
                            .into_iter()
                            .rev()
                            .collect::<String>()
                    )));
                }
                let counts: Vec<bool> = (0..ids.len()).map(|place| place >= first).collect();
                tokens.push(&ids[cut..], &counts[cut..], &bytes[cut..]);
            }
        }
        let packing = Packing::new(&tokens, length, false)?;
        Ok(Self::new(tokens, packing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_and_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_choices(&path)
        };
        let good =
            read("{\"context\": \"Fire is\", \"choices\": [\"hot\", \"cold\"], \"gold\": 0}\n")
                .unwrap();
        assert_eq!(good[0].choices, ["hot", "cold"]);
        for (line, wanted) in [
            (r#"{"context": 1, "choices": ["a", "b"], "gold": 0}"#, "no text"),
            (r#"{"context": "a", "choices": "b", "gold": 0}"#, "no list"),
            (r#"{"context": "a", "choices": ["b"], "gold": 0}"#, "fewer than 2"),
            (r#"{"context": "a", "choices": ["b", ""], "gold": 0}"#, "could be chosen"),
            (r#"{"context": "a", "choices": ["b", "c"], "gold": 2}"#, "from 0 to 1"),
            (r#"{"choices": ["b", "c"], "gold": 2}"#, "context"),
        ] {
            let error = read(line).unwrap_err().to_string();
            assert!(error.contains(wanted) && error.contains("a.jsonl"), "{error}");
        }
        assert!(read_choices(Path::new("a.csv")).is_err());
    }
}
