//! Files of questions, their contexts and answers: SQuAD's own JSON, and tables.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::questions::{Question, Questions};
use super::read::{Columns, Loaded, NoText, Room, skipped_note, text};
use crate::files::{Cell, File, Format, Place, Wanted};
use crate::{Answer, DataError, Dataset, SpanLabels, Spans};

/// Loads both files of questions.
///
/// * SQuAD's own files, 1.1 and 2.0 (Rajpurkar et al. 2016, 2018): JSON of articles, paragraphs and questions under
///   `data`. A question with `is_impossible` has no answer.
/// * Tables (`.json`, `.jsonl`, `.ndjson`, `.parquet`, `.csv`, `.tsv`) with a column of questions, one of contexts, and
///   one of answers: a record of the lists `text` and `answer_start`, or a list of records of such, empty where there is
///   no answer; in CSV as JSON. A column `id` names the questions, if there is one; else their numbers do, from 1.
///
/// `answer_start` counts characters (Unicode scalar values) from 0, and the answer has to stand there.
///
/// # Errors
/// [`DataError`], naming the file, the line or row and the column.
pub fn load_questions(
    train: &Path,
    test: &Path,
    columns: Columns<'_>,
) -> Result<Loaded, DataError> {
    let [train_read, test_read] = [train, test].map(|path| Reading::read(path, columns));
    let (train_read, test_read) = (train_read?, test_read?);
    let notes = [(train, &train_read), (test, &test_read)];
    let notes = notes.iter().filter_map(|(path, read)| skipped_note(path, read.skipped)).collect();
    Ok(Loaded { train: train_read.dataset()?, test: test_read.dataset()?, notes })
}

/// The questions of a file so far.
struct Reading<'a> {
    file: File<'a>,
    /// The column of the answers, for messages.
    column: &'a str,
    skip_empty: bool,
    questions: Vec<Question>,
    answers: Vec<Spans>,
    skipped: usize,
    room: Room,
}

/// SQuAD's file.
#[derive(Deserialize)]
struct Squad {
    data: Vec<Article>,
}

/// Whether a file is SQuAD's.
#[derive(Deserialize)]
struct Peek {
    data: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Article {
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    qas: Vec<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    id: Name,
    question: String,
    answers: Option<Vec<Given>>,
    #[serde(default)]
    is_impossible: bool,
}

/// A question's name, which some files have as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Number(i64),
}

#[derive(Deserialize)]
struct Given {
    text: String,
    answer_start: i64,
}

impl<'a> Reading<'a> {
    fn read(path: &'a Path, columns: Columns<'a>) -> Result<Self, DataError> {
        let file = File::new(path);
        let ([question, context], [answers]) = (columns.text, columns.label) else {
            return Err(file.bad(
                "questions, contexts and answers are read from a column each: set `data.text` to two, as in \
                 [\"question\", \"context\"], and `data.label` to one",
            ));
        };
        let mut reading = Self {
            file,
            column: answers,
            skip_empty: columns.skip_empty,
            questions: Vec::new(),
            answers: Vec::new(),
            skipped: 0,
            room: Room::new(),
        };
        let format = Format::of(path).filter(|format| format.is_table()).ok_or_else(|| {
            file.bad(
                "questions are read from SQuAD's .json, and from .json, .jsonl, .ndjson, .parquet, .csv and .tsv files \
                 with named columns",
            )
        })?;
        if format != Format::Json || !reading.squad()? {
            reading.table(format, [question, context, answers, "id"])?;
        }
        match (reading.questions.is_empty(), reading.skipped) {
            (false, _) => Ok(reading),
            (true, 0) => Err(file.bad("it holds no question")),
            (true, skipped) => Err(file.bad(format!("none of its {skipped} questions has a text"))),
        }
    }

    /// Reads the file if it is SQuAD's; else says that it is not.
    fn squad(&mut self) -> Result<bool, DataError> {
        let file = self.file;
        let bytes = file.bytes()?;
        let content = file.text(&bytes)?;
        if !content.trim_start().starts_with('{') {
            return Ok(false);
        }
        let mut values = serde_json::Deserializer::from_str(content).into_iter::<Peek>();
        if !matches!(values.next(), Some(Ok(Peek { data: Some(_) }))) {
            return Ok(false);
        }
        let squad: Squad = serde_json::from_str(content)
            .map_err(|error| file.bad(format!("it has `data`, as SQuAD's files, but: {error}")))?;
        let mut number = 0;
        let paragraphs = squad.data.into_iter().flat_map(|article| article.paragraphs);
        for Paragraph { context, qas } in paragraphs {
            let context: Arc<str> = context.into();
            for Asked { id, question, answers, is_impossible } in qas {
                number += 1;
                let place = Place::Row(number);
                let id = match id {
                    Name::Text(text) => text,
                    Name::Number(number) => number.to_string(),
                };
                let answers = match (answers, is_impossible) {
                    (_, true) => Vec::new(),
                    (Some(answers), false) => answers,
                    (None, false) => {
                        let problem = format!(
                            "question {id:?} has neither `answers` nor `is_impossible`: what is measured needs answers"
                        );
                        return Err(file.cell(place, self.column, problem));
                    }
                };
                let given = answers.into_iter().map(|given| (given.text, given.answer_start));
                let given = given.collect();
                self.push(place, Question { id, question, context: context.clone() }, given)?;
            }
        }
        Ok(true)
    }

    fn table(&mut self, format: Format, columns: [&str; 4]) -> Result<(), DataError> {
        let file = self.file;
        let wanted = Wanted { columns: &columns, optional: 1, class_names: false, nested: true };
        let mut number = 0;
        file.rows(format, wanted, &mut |place, cells| {
            number += 1;
            let mut texts = Vec::with_capacity(2);
            for (cell, column) in cells.iter().zip(columns).take(2) {
                match text(cell) {
                    Ok(text) => texts.push(text),
                    // Told of, or passed over, where all questions are.
                    Err(NoText::Empty(_)) => texts.push(String::new()),
                    Err(NoText::Other(problem)) => return Err(file.cell(place, column, problem)),
                }
            }
            let id = match &cells[3] {
                Cell::Text(id) => id.clone().into_owned(),
                id @ Cell::Whole(_) => id.to_string(),
                _ => number.to_string(),
            };
            let answers = answers(&cells[2]);
            let answers = answers.map_err(|problem| file.cell(place, columns[2], problem))?;
            let [question, context] = [0, 1].map(|place| std::mem::take(&mut texts[place]));
            // Questions of one paragraph stand side by side, and share it.
            let before = self.questions.last().map(|question| &question.context);
            let context = match before.filter(|known| ***known == *context) {
                Some(known) => known.clone(),
                None => context.into(),
            };
            self.push(place, Question { id, question, context }, answers)
        })
    }

    /// Adds a question with its answers and where each begins.
    fn push(
        &mut self,
        place: Place,
        question: Question,
        given: Vec<(String, i64)>,
    ) -> Result<(), DataError> {
        let file = self.file;
        let empty = [("question", &*question.question), ("context", &*question.context)]
            .into_iter()
            .find(|(_, text)| text.trim().is_empty());
        if let Some((column, _)) = empty {
            if self.skip_empty {
                self.skipped += 1;
                return Ok(());
            }
            let problem = "the text is empty: fill it in, or set `data.skip_empty = true`";
            return Err(file.cell(place, column, problem));
        }
        let shared = self.questions.last();
        let shared = shared.is_some_and(|last| Arc::ptr_eq(&last.context, &question.context));
        let context = if shared { 0 } else { question.context.len() };
        let texts = given.iter().map(|(text, _)| text.len() + size_of::<Answer>());
        let bytes =
            context + 2 * question.id.len() + question.question.len() + texts.sum::<usize>();
        self.room.take(file, bytes + size_of::<Question>() + size_of::<Spans>())?;
        let answer = |(text, start): (String, i64)| {
            check_answer(&question.context, &text, start)
                .map_err(|problem| file.cell(place, self.column, problem))?;
            Ok(Answer { start: start as usize, text })
        };
        let answers = given.into_iter().map(answer).collect::<Result<_, DataError>>()?;
        self.answers.push(Spans { id: question.id.clone(), answers });
        self.questions.push(question);
        Ok(())
    }

    fn dataset(self) -> Result<Dataset, DataError> {
        Dataset::labelled(Questions::new(self.questions)?, SpanLabels::new(self.answers))
    }
}

/// Checks that an answer stands where it is said to.
fn check_answer(context: &str, text: &str, start: i64) -> Result<(), String> {
    if text.is_empty() {
        return Err(
            "an answer is empty: take it out; a question without answers has an empty list"
                .to_owned(),
        );
    }
    let from = usize::try_from(start).ok();
    let from = from.and_then(|start| context.char_indices().nth(start)).map(|(byte, _)| byte);
    let Some(from) = from else {
        let letters = context.chars().count();
        return Err(format!(
            "`answer_start` is {start}, and the context has {letters} characters, counted from 0"
        ));
    };
    if context[from..].starts_with(text) {
        return Ok(());
    }
    let found: String = context[from..].chars().take(text.chars().count().min(60)).collect();
    let text: String = text.chars().take(60).collect();
    Err(format!(
        "the answer {text:?} is not at character {start} of the context, where {found:?} stands: correct \
         `answer_start`, which counts characters (not bytes) from 0"
    ))
}

/// A cell as answers, each with the place where it begins.
fn answers(cell: &Cell<'_>) -> Result<Vec<(String, i64)>, String> {
    match cell {
        Cell::Record(_) => {
            let texts = field(cell, "text")?;
            let starts = field(cell, "answer_start")?;
            match (texts, starts) {
                (Cell::List(texts), Cell::List(starts)) if texts.len() == starts.len() => {
                    texts.iter().zip(starts).map(|(text, start)| answer(text, start)).collect()
                }
                (Cell::List(texts), Cell::List(starts)) => {
                    let (texts, starts) = (texts.len(), starts.len());
                    Err(format!("there are {texts} in `text` and {starts} in `answer_start`"))
                }
                (text, start) => Ok(vec![answer(text, start)?]),
            }
        }
        Cell::List(cells) => cells
            .iter()
            .map(|cell| answer(field(cell, "text")?, field(cell, "answer_start")?))
            .collect(),
        Cell::Text(json) if json.trim_start().starts_with(['{', '[']) => {
            let value: serde_json::Value = serde_json::from_str(json)
                .map_err(|error| format!("{cell} is no JSON: {error}"))?;
            answers(&Cell::of_json(&value))
        }
        other => Err(format!(
            "{other} is no list of answers: give a record of `text` and `answer_start`, lists of as many, empty where \
             there is no answer"
        )),
    }
}

/// A named cell of a record.
fn field<'a, 'b>(cell: &'b Cell<'a>, wanted: &str) -> Result<&'b Cell<'a>, String> {
    let found = match cell {
        Cell::Record(cells) => cells.iter().find(|(name, _)| name == wanted),
        _ => None,
    };
    found.map(|(_, cell)| cell).ok_or_else(|| format!("{cell} has no `{wanted}`"))
}

fn answer(text: &Cell<'_>, start: &Cell<'_>) -> Result<(String, i64), String> {
    let start = match start {
        Cell::Whole(start) => i64::try_from(*start).ok(),
        _ => None,
    }
    .ok_or_else(|| format!("`answer_start` is {start}, and a whole number was expected"))?;
    match text {
        Cell::Text(text) => Ok((text.clone().into_owned(), start)),
        other => Err(format!("`text` is {other}, and a text was expected")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(name: &str, content: &str) -> Result<Dataset, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        at(&path)
    }

    fn at(path: &Path) -> Result<Dataset, DataError> {
        let text = ["question", "context"].map(str::to_owned);
        let label = ["answers".to_owned()];
        let columns = Columns { text: &text, label: &label, skip_empty: false };
        Ok(load_questions(path, path, columns)?.test)
    }

    fn shown(data: &Dataset) -> Vec<String> {
        let questions = data.examples().questions().unwrap().all();
        let spans = data.labels().unwrap().spans().unwrap().all();
        let row = |(row, known): (&Question, &Spans)| {
            assert_eq!(row.id, known.id);
            let answers = known.answers.iter().map(|a| format!("{}@{}", a.text, a.start));
            let answers = answers.collect::<Vec<_>>().join(", ");
            format!("{}: {} | {} | {answers}", row.id, row.question, row.context)
        };
        questions.iter().zip(spans).map(row).collect()
    }

    const SQUAD: &str = r#"{"version": "v2.0", "data": [{"title": "t", "paragraphs": [{
        "context": "Zwölf Äpfel, one pear.", "qas": [
            {"question": "How many apples?", "id": "q1",
             "answers": [{"text": "Zwölf", "answer_start": 0}, {"text": "Äpfel", "answer_start": 6}],
             "is_impossible": false},
            {"question": "How many plums?", "id": 2, "answers": [], "is_impossible": true,
             "plausible_answers": [{"text": "one", "answer_start": 13}]}]}]}]}"#;

    const WANTED: [&str; 2] = [
        "q1: How many apples? | Zwölf Äpfel, one pear. | Zwölf@0, Äpfel@6",
        "2: How many plums? | Zwölf Äpfel, one pear. | ",
    ];

    #[test]
    fn squads_own_files_are_read() {
        for content in [SQUAD.to_owned(), SQUAD.replace('\n', "")] {
            let data = loaded("a.json", &content).unwrap();
            assert_eq!(shown(&data), WANTED);
            let questions = data.examples().questions().unwrap().all();
            assert!(Arc::ptr_eq(&questions[0].context, &questions[1].context));
            assert!(data.labels().unwrap().spans().unwrap().some_unanswerable());
            assert_eq!(data.outputs(), ["start", "end"]);
        }
    }

    #[test]
    fn tables_are_read() {
        let rows = [
            "{\"id\": \"q1\", \"question\": \"How many apples?\", \"context\": \"Zwölf Äpfel, one pear.\", \
             \"answers\": {\"text\": [\"Zwölf\", \"Äpfel\"], \"answer_start\": [0, 6]}}",
            "{\"id\": 2, \"question\": \"How many plums?\", \"context\": \"Zwölf Äpfel, one pear.\", \"answers\": []}",
        ];
        for (name, content) in [
            ("a.jsonl", rows.join("\n")),
            ("a.json", rows.join("\n")),
            ("b.json", format!("[{}]", rows.join(", "))),
        ] {
            let data = loaded(name, &content).unwrap();
            assert_eq!(shown(&data), WANTED, "{name}");
            let questions = data.examples().questions().unwrap().all();
            assert!(Arc::ptr_eq(&questions[0].context, &questions[1].context));
        }
        // Numbered where there is no name.
        let csv = "question,context,answers\nWho?,A bee.,\"[{\"\"text\"\": \"\"bee\"\", \"\"answer_start\"\": 2}]\"\n";
        assert_eq!(shown(&loaded("a.csv", csv).unwrap()), ["1: Who? | A bee. | bee@2"]);
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/files");
        let data = at(&folder.join("squad.parquet")).unwrap();
        assert_eq!(data.len(), 30);
        for (row, shown) in shown(&data).iter().enumerate() {
            let answers = ["", "Zahl@5", "Zahl@5, ist@13"][row % 3];
            let context = row / 3;
            assert_eq!(
                *shown,
                format!("id-{row}: Was? | Eine Zahl {context:02} ist da. | {answers}")
            );
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let row = |answers: &str| {
            format!("{{\"question\": \"Who?\", \"context\": \"Ä bee.\", \"answers\": {answers}}}")
        };
        for (answers, problem) in [
            (
                "{\"text\": [\"bee\"], \"answer_start\": [3]}",
                "line 1, column `answers`: the answer \"bee\" is not at character 3 of the context, where \"ee.\" stands",
            ),
            (
                "{\"text\": [\"bee\"], \"answer_start\": [6]}",
                "`answer_start` is 6, and the context has 6 characters",
            ),
            ("{\"text\": [\"bee\"], \"answer_start\": [-1]}", "`answer_start` is -1"),
            (
                "{\"text\": [\"bee\"], \"answer_start\": []}",
                "there are 1 in `text` and 0 in `answer_start`",
            ),
            ("{\"text\": [\"bee\"]}", "has no `answer_start`"),
            (
                "[{\"text\": \"bee\", \"answer_start\": 2.5}]",
                "2.5, and a whole number was expected",
            ),
            ("[{\"text\": \"\", \"answer_start\": 2}]", "an answer is empty: take it out"),
            ("[\"bee\"]", "\"bee\" has no `text`"),
            ("null", "nothing is no list of answers"),
        ] {
            let error = loaded("a.jsonl", &row(answers)).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        for (name, content, problem) in [
            (
                "a.json",
                "{\"data\": [{\"title\": 3}]}",
                "it has `data`, as SQuAD's files, but: missing field `paragraphs`",
            ),
            ("a.json", "{\"data\": []}", "it holds no question"),
            (
                "a.json",
                "{\"data\": [{\"paragraphs\": [{\"context\": \"c\", \"qas\": [{\"id\": \"x\", \"question\": \"q\"}]}]}]}",
                "row 1, column `answers`: question \"x\" has neither `answers` nor `is_impossible`",
            ),
            (
                "a.jsonl",
                "{\"question\": \" \", \"context\": \"c\", \"answers\": []}",
                "line 1, column `question`: the text is empty",
            ),
            ("a.txt", "Who?", "questions are read from SQuAD's .json"),
        ] {
            let error = loaded(name, content).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
