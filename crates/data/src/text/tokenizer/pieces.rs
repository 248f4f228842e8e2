//! Words and questions as tokens.

use std::sync::Arc;

use serde_json::Value;
use tokenizers::{
    EncodeInput, Encoding, InputSequence, PostProcessor, PostProcessorWrapper, TruncationDirection,
    TruncationParams, TruncationStrategy,
};

use super::{TOGETHER, Tokenizer};
use crate::guard;
use crate::text::{Question, Questions, TokenSpan, Tokens, Windows, Words};
use crate::words::counted;
use crate::{Answer, DataError, SpanLabels, TagLabels};

/// Words as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordTokens {
    tokens: Arc<Tokens>,
    /// Of all words, one text behind the other.
    firsts: Vec<Option<u32>>,
    ends: Vec<usize>,
}

impl WordTokens {
    /// The tokens of the texts, special ones included.
    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// The place of each word's first token among the text's; none of a word that is cut off or becomes no token.
    ///
    /// # Panics
    /// When there is no such text.
    pub fn firsts(&self, row: usize) -> &[Option<u32>] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.firsts[start..self.ends[row]]
    }

    /// The tokens of a text that stand for words, by place, with the tags of those words.
    ///
    /// # Panics
    /// When there is no such text, or it has no tags.
    pub fn tagged<'a>(
        &'a self,
        row: usize,
        tags: &'a TagLabels,
    ) -> impl Iterator<Item = (u32, u32)> + 'a {
        let words = self.firsts(row).iter().zip(tags.row(row));
        words.filter_map(|(first, &tag)| first.map(|first| (first, tag)))
    }

    /// How many words have no token.
    pub fn lost(&self) -> usize {
        self.firsts.iter().filter(|first| first.is_none()).count()
    }
}

impl Tokenizer {
    /// The tokens of texts that are split into words, special ones included, at most `max_length` of each text, and
    /// which token is each word's first: the one that stands for it, as transformers aligns tags.
    ///
    /// Each word is encoded by itself. A byte-level tokenizer sees a blank before each, as transformers' does with
    /// `add_prefix_space`, which such texts need.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when no text fits into so few tokens, a text cannot be encoded, or becomes no token.
    pub fn encode_words(&self, words: &Words, max_length: usize) -> Result<WordTokens, DataError> {
        self.check_room(false, max_length)?;
        self.words_by(&self.truncating(max_length)?, words)
    }

    /// As [`Self::encode_words`], by what [`Self::truncating`] made.
    pub(super) fn words_by(
        &self,
        tokenizer: &tokenizers::Tokenizer,
        words: &Words,
    ) -> Result<WordTokens, DataError> {
        let blanks = self.parts_words_by_blanks();
        let mut found = WordTokens { tokens: Arc::default(), firsts: Vec::new(), ends: Vec::new() };
        let mut tokens = Tokens::default();
        for rows in words.all().chunks(TOGETHER) {
            let input = |row: &Vec<String>| -> EncodeInput<'_> {
                let words = row.iter().map(|word| match blanks && !word.is_empty() {
                    true if !word.starts_with(char::is_whitespace) => format!(" {word}"),
                    _ => word.clone(),
                });
                InputSequence::from(words.collect::<Vec<String>>()).into()
            };
            let inputs: Vec<EncodeInput<'_>> = rows.iter().map(input).collect();
            // The faster call does not tell which word a token is of.
            let encoded = guard::catch(|| tokenizer.encode_batch(inputs, true));
            let encoded = self.understood(encoded)?;
            for (row, encoding) in rows.iter().zip(&encoded) {
                if encoding.get_ids().is_empty() {
                    let problem = format!("text {}, {row:?}, becomes no token", tokens.len());
                    return Err(DataError::Unfit(problem));
                }
                let cut = !encoding.get_overflowing().is_empty();
                tokens.push(encoding.get_ids(), encoding.get_type_ids(), cut);
                let mut firsts = vec![None; row.len()];
                for (place, word) in encoding.get_word_ids().iter().enumerate() {
                    if let Some(first) = word.and_then(|word| firsts.get_mut(word as usize)) {
                        first.get_or_insert(place as u32);
                    }
                }
                found.firsts.extend(firsts);
                found.ends.push(found.firsts.len());
            }
        }
        Ok(WordTokens { tokens: Arc::new(tokens), ..found })
    }

    /// Questions with their contexts as tokens, at most `max_length` at a time: where a context is longer than what its
    /// question leaves, there are several windows of it, each with the last `stride` tokens of the one before. The
    /// question comes first, without blanks at its beginning, and is never cut.
    ///
    /// With answers, each window has the place of the first one's tokens, or (0, 0) where it is not whole in the window
    /// or there is none. This is what transformers' `run_qa.py` makes of SQuAD.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when a question leaves no room for more of its context than `stride` tokens, there are not
    /// as many answers as questions, or a question cannot be encoded.
    pub fn windows(
        &self,
        questions: &Questions,
        answers: Option<&SpanLabels>,
        max_length: usize,
        stride: usize,
    ) -> Result<Windows, DataError> {
        if let Some(answers) = answers.filter(|answers| answers.len() != questions.len()) {
            let (questions, answers) = (questions.len(), answers.len());
            let problem =
                format!("there are answers to {answers} questions, and {questions} questions");
            return Err(DataError::Unfit(problem));
        }
        self.check_room(true, max_length)?;
        // The library's own truncation stops reading where the first window ends, and tells of no others.
        let mut plain = self.inner.clone();
        plain.with_post_processor(None::<PostProcessorWrapper>);
        let encode = |texts: Vec<&str>| {
            let inputs: Vec<EncodeInput<'_>> = texts.into_iter().map(EncodeInput::from).collect();
            self.understood(guard::catch(|| plain.encode_batch_char_offsets(inputs, false)))
        };
        let (mut tokens, mut of, mut places) = (Tokens::default(), Vec::new(), Vec::new());
        let mut spans = answers.map(|_| Vec::new());
        let mut number = 0;
        for rows in questions.all().chunks(TOGETHER) {
            let asked = encode(rows.iter().map(|row| row.question.trim_start()).collect())?;
            let contexts = encode(rows.iter().map(|row| &*row.context).collect())?;
            for ((row, question), context) in rows.iter().zip(&asked).zip(&contexts) {
                let room = self.room(number, row, question.get_ids().len(), max_length, stride)?;
                let mut context = by_itself(context, 1);
                context.truncate(room, stride, self.direction());
                let question = by_itself(question, 0);
                let put = guard::catch(|| self.inner.post_process(question, Some(context), true));
                let first = self.understood(put)?;
                let answer = answers.and_then(|answers| answers.row(number).answers.first());
                for window in std::iter::once(&first).chain(first.get_overflowing()) {
                    tokens.push(window.get_ids(), window.get_type_ids(), false);
                    of.push(number as u32);
                    let of_context = of_context(window);
                    if let Some(spans) = &mut spans {
                        let span = answer.map(|answer| span(&of_context, answer));
                        spans.push(span.unwrap_or_default());
                    }
                    places.extend(of_context);
                }
                number += 1;
            }
        }
        Windows::new(Arc::new(tokens), of, places, spans)
    }

    /// The tokenizer, cutting what is longer at the end that its files name.
    pub(super) fn truncating(&self, max_length: usize) -> Result<tokenizers::Tokenizer, DataError> {
        let mut tokenizer = self.inner.clone();
        let strategy = TruncationStrategy::LongestFirst;
        let direction = self.direction();
        let truncation = TruncationParams { max_length, strategy, stride: 0, direction };
        let truncated = tokenizer.with_truncation(Some(truncation)).map(|_| ());
        truncated.map_err(|error| self.unfit(&error.to_string()))?;
        Ok(tokenizer)
    }

    fn direction(&self) -> TruncationDirection {
        match self.files.truncates_left() {
            true => TruncationDirection::Left,
            false => TruncationDirection::Right,
        }
    }

    /// Checks that a text, or a pair of them, may have more tokens than are put around it.
    pub(super) fn check_room(&self, pair: bool, max_length: usize) -> Result<(), DataError> {
        let added = self.added_tokens(pair);
        if max_length <= added {
            return Err(DataError::Unfit(format!(
                "a text can have {} here, and the tokenizer adds {added} to each: set a larger `max_length`",
                counted(max_length, "token")
            )));
        }
        Ok(())
    }

    fn added_tokens(&self, pair: bool) -> usize {
        self.inner.get_post_processor().map_or(0, |one| one.added_tokens(pair))
    }

    pub(super) fn unfit(&self, problem: &str) -> DataError {
        let path = &self.path;
        DataError::Unfit(format!("texts cannot become tokens by {path}: {problem}"))
    }

    /// What a call of the library gave.
    pub(super) fn understood<T>(
        &self,
        result: Result<tokenizers::Result<T>, String>,
    ) -> Result<T, DataError> {
        let result = result.map_err(|panic| self.unfit(&panic))?;
        result.map_err(|error| self.unfit(&error.to_string()))
    }

    /// How many tokens of its context a question of so many tokens leaves room for.
    fn room(
        &self,
        number: usize,
        question: &Question,
        tokens: usize,
        max_length: usize,
        stride: usize,
    ) -> Result<usize, DataError> {
        let room = max_length.saturating_sub(self.added_tokens(true) + tokens);
        if room > stride {
            return Ok(room);
        }
        let shown: String = question.question.trim_start().chars().take(60).collect();
        Err(DataError::Unfit(format!(
            "question {number}, {shown:?}, leaves room for {} of its context, and windows share {stride}: set a larger \
             `max_length` or a smaller stride",
            counted(room, "token")
        )))
    }

    /// Whether words need a blank before them to be words: where bytes are read and no blank is added.
    fn parts_words_by_blanks(&self) -> bool {
        fn does(value: &Value) -> bool {
            match value["type"].as_str() {
                Some("ByteLevel") => value["add_prefix_space"] == Value::Bool(false),
                Some("Sequence") => {
                    value["pretokenizers"].as_array().is_some_and(|all| all.iter().any(does))
                }
                _ => false,
            }
        }
        serde_json::from_str::<Value>(&self.json)
            .is_ok_and(|document| does(&document["pre_tokenizer"]))
    }
}

/// An encoding that is yet of no pair, with this type.
fn by_itself(encoding: &Encoding, of: u32) -> Encoding {
    Encoding::new(
        encoding.get_ids().to_vec(),
        vec![of; encoding.get_ids().len()],
        encoding.get_tokens().to_vec(),
        encoding.get_word_ids().to_vec(),
        encoding.get_offsets().to_vec(),
        encoding.get_special_tokens_mask().to_vec(),
        encoding.get_attention_mask().to_vec(),
        Vec::new(),
        Default::default(),
    )
}

/// Where each token stands in the second text, in characters; none for tokens of the first and special ones.
fn of_context(window: &Encoding) -> Vec<Option<[u32; 2]>> {
    let place = |(sequence, offsets): (Option<usize>, &(usize, usize))| {
        (sequence == Some(1)).then_some([offsets.0 as u32, offsets.1 as u32])
    };
    window.get_sequence_ids().into_iter().zip(window.get_offsets()).map(place).collect()
}

/// Where an answer's tokens stand in a window whose tokens stand at these places of the context: the last token that
/// begins at or before its start, and the first that ends at or behind its end.
fn span(places: &[Option<[u32; 2]>], answer: &Answer) -> TokenSpan {
    let start = answer.start as u64;
    let end = start + answer.text.chars().count() as u64;
    let known = || {
        let known = places.iter().zip(0_u32..);
        known.filter_map(|(place, token)| {
            place.map(|[from, to]| (u64::from(from), u64::from(to), token))
        })
    };
    let (Some(first), Some(last)) = (known().next(), known().last()) else {
        return TokenSpan::default();
    };
    if first.0 > start || last.1 < end {
        return TokenSpan::default();
    }
    let begins = known().filter(|(from, ..)| *from <= start).last();
    let ends = known().find(|(_, to, _)| *to >= end);
    match (begins, ends) {
        (Some((.., start)), Some((.., end))) => TokenSpan { start, end },
        _ => TokenSpan::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Spans;

    fn fixtures() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
    }

    fn known() -> Value {
        let path = fixtures().join("word_tokens.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn load(name: &str) -> Tokenizer {
        Tokenizer::load(&fixtures().join("tokenizers").join(name)).unwrap()
    }

    fn of<T: serde::de::DeserializeOwned>(value: &Value) -> T {
        serde_json::from_value(value.clone()).unwrap()
    }

    /// transformers, see tools/make_token_fixtures.py.
    #[test]
    fn words_are_aligned_as_transformers_does() {
        let known = known();
        let words = Words::new(of(&known["words"])).unwrap();
        for (name, expected) in known["tokenizers"].as_object().unwrap() {
            let tokenizer = load(name);
            for (length, rows) in expected["words"].as_object().unwrap() {
                let found = tokenizer.encode_words(&words, length.parse().unwrap()).unwrap();
                for (row, wanted) in rows.as_array().unwrap().iter().enumerate() {
                    let at = format!("{name}, {length} tokens, text {row}");
                    assert_eq!(found.tokens().row(row).0, of::<Vec<i32>>(&wanted["ids"]), "{at}");
                    let firsts = of::<Vec<Option<u32>>>(&wanted["firsts"]);
                    assert_eq!(found.firsts(row), firsts, "{at}");
                }
                assert_eq!(found.tokens().len(), words.len());
                // The empty word has no token, and so no tag.
                let tags = words.all().iter().map(|row| (0..row.len() as u32).collect::<Vec<_>>());
                let names = (0..12).map(|name| name.to_string()).collect();
                let tags = TagLabels::new(tags, names).unwrap();
                let tagged: Vec<u32> = found.tagged(3, &tags).map(|(_, tag)| tag).collect();
                assert_eq!(tagged, [0, 2]);
                assert!(found.lost() > 0, "one word is empty");
            }
        }
    }

    #[test]
    fn windows_are_those_of_transformers() {
        let known = known();
        let (mut rows, mut answers) = (Vec::new(), Vec::new());
        for (number, row) in known["questions"].as_array().unwrap().iter().enumerate() {
            let id = number.to_string();
            let given: Vec<(usize, String)> = of(&row["answers"]);
            let given = given.into_iter().map(|(start, text)| Answer { start, text }).collect();
            answers.push(Spans { id: id.clone(), answers: given });
            let context: String = of(&row["context"]);
            rows.push(Question { id, question: of(&row["question"]), context: context.into() });
        }
        let (questions, answers) = (Questions::new(rows).unwrap(), SpanLabels::new(answers));
        let mut whole = 0;
        for (name, expected) in known["tokenizers"].as_object().unwrap() {
            for case in expected["windows"].as_array().unwrap() {
                let [length, stride] = ["max_length", "stride"].map(|key| of::<usize>(&case[key]));
                let found = load(name).windows(&questions, Some(&answers), length, stride).unwrap();
                let wanted = case["rows"].as_array().unwrap();
                let lengths: Vec<usize> =
                    (0..found.len()).map(|row| found.tokens().length(row)).collect();
                assert_eq!(
                    found.len(),
                    wanted.len(),
                    "{name}, {length} {stride} {lengths:?} {:?}",
                    found.questions()
                );
                for (window, wanted) in wanted.iter().enumerate() {
                    let at = format!("{name}, {length} tokens, window {window}");
                    let (ids, types) = found.tokens().row(window);
                    assert_eq!(ids, of::<Vec<i32>>(&wanted["ids"]), "{at}");
                    assert_eq!(types, of::<Vec<i32>>(&wanted["types"]), "{at}");
                    assert_eq!(found.questions()[window], of::<u32>(&wanted["question"]), "{at}");
                    let places: Vec<Option<[usize; 2]>> = of(&wanted["places"]);
                    for (token, place) in places.iter().enumerate() {
                        let place = place.map(|[start, end]| start..end);
                        assert_eq!(found.characters(window, token), place, "{at}, token {token}");
                    }
                    let span = found.span(window).unwrap();
                    assert_eq!([span.start, span.end], of::<[u32; 2]>(&wanted["span"]), "{at}");
                    whole += usize::from(span != TokenSpan::default());
                }
                let plain = load(name).windows(&questions, None, length, stride).unwrap();
                assert_eq!((plain.tokens(), plain.span(0)), (found.tokens(), None));
            }
        }
        assert!(whole > 20, "{whole} windows hold their answers");
    }

    #[test]
    fn windows_are_selected_with_what_is_known_of_them() {
        let questions = ["a b", "b"].map(|question| Question {
            id: question.to_owned(),
            question: question.to_owned(),
            context: "a b c d e f g h i j k l m n o p".into(),
        });
        let questions = Questions::new(questions.to_vec()).unwrap();
        let windows = load("uncased").windows(&questions, None, 12, 2).unwrap();
        assert!(windows.len() >= 4, "{}", windows.len());
        let last = windows.len() - 1;
        let chosen = windows.select(&[last as u32, 1]).unwrap();
        assert_eq!((chosen.len(), chosen.questions()), (2, &[1, 0][..]));
        assert_eq!(chosen.tokens().row(0), windows.tokens().row(last));
        for token in 0..chosen.tokens().length(0) {
            assert_eq!(chosen.characters(0, token), windows.characters(last, token));
        }
        assert_eq!(windows.clone().take(2), windows.select(&[0, 1]).unwrap());
        assert!(windows.select(&[]).is_err() && windows.select(&[99]).is_err());
    }

    #[test]
    fn a_question_has_to_leave_room() {
        let question = Question {
            id: "7".to_owned(),
            question: "a b c d e".to_owned(),
            context: "f g h i j k l m".into(),
        };
        let questions = Questions::new(vec![question]).unwrap();
        let tokenizer = load("uncased");
        // Three special tokens and five of the question leave four.
        assert!(tokenizer.windows(&questions, None, 12, 3).is_ok());
        let error = tokenizer.windows(&questions, None, 12, 4).unwrap_err().to_string();
        let wanted = "question 0, \"a b c d e\", leaves room for 4 tokens of its context, and windows share 4: set a \
                      larger `max_length` or a smaller stride";
        assert_eq!(error, wanted);
        assert!(tokenizer.windows(&questions, None, 3, 0).is_err());
        assert!(tokenizer.windows(&questions, Some(&SpanLabels::new(Vec::new())), 12, 3).is_err());
    }
}
