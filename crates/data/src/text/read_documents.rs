//! Files of documents for causal language models: tables whose columns tell of which kind a row is, and plain text.

use std::path::Path;

use super::documents::{Chat, Document, Documents, Message, Role};
use super::read::Room;
use crate::DataError;
use crate::files::{self, Cell, Format, Place, Wanted};

/// What parts documents of a plain text, if there is any; blank lines do otherwise.
const END_OF_TEXT: &str = "<|endoftext|>";

/// The columns that are looked for beside the one of plain texts.
const COLUMNS: [&str; 7] =
    ["messages", "conversations", "prompt", "completion", "instruction", "input", "output"];

/// Documents of a file, and how many of its rows were passed over.
#[derive(Clone, Debug)]
pub struct LoadedDocuments {
    /// The documents.
    pub documents: Documents,
    /// Rows without anything to learn from that were passed over.
    pub skipped: usize,
}

/// Reads the documents of a file. Of a table (JSON, JSON lines, Parquet, CSV, TSV) a row is a document, of the first
/// kind in this list whose columns have something in that row:
///
/// * `messages`: a list of records of `role` (`system`, `user`, `assistant` or `tool`) and `content`, a text;
/// * `conversations`: ShareGPT's, a list of records of `from` (`human`, `gpt`, or a role) and `value`;
/// * `prompt` and `completion`: both texts, or both lists of messages;
/// * `instruction`, perhaps `input`, and `output`: a chat of two messages, the input behind a blank line;
/// * the column `text`: a plain text.
///
/// Of a `.txt` file documents are what lies between `<|endoftext|>` where that occurs, and else between blank lines.
///
/// A chat has a message of the assistant, and each of them says something. With `skip_empty`, rows in which there is
/// nothing, no completion, or an empty text are passed over and counted.
///
/// # Errors
/// [`DataError`], naming the file, the line or row, and the column.
pub fn read_documents(
    path: &Path,
    text: &str,
    skip_empty: bool,
) -> Result<LoadedDocuments, DataError> {
    let file = files::File::new(path);
    let format = Format::of(path).ok_or_else(|| {
        file.bad(format!(
            "documents are read from {} files, all but .parquet also with .gz",
            Format::ENDINGS
        ))
    })?;
    let mut reader =
        Reader { file, text, skip_empty, rows: Vec::new(), skipped: 0, room: Room::new() };
    match format {
        Format::Text => reader.plain()?,
        _ => reader.table(format)?,
    }
    let Reader { rows, skipped, .. } = reader;
    match (rows.is_empty(), skipped) {
        (false, _) => Ok(LoadedDocuments { documents: Documents::new(rows)?, skipped }),
        (true, 0) => Err(file.bad("it holds no document")),
        (true, skipped) => Err(file.bad(format!("none of its {skipped} rows holds a document"))),
    }
}

/// Why a row is no document.
enum NoDocument {
    /// There is nothing in the column to learn from.
    Empty(String, String),
    /// The column has what it should not.
    Bad(String, String),
}

fn bad(column: &str, problem: impl Into<String>) -> NoDocument {
    NoDocument::Bad(column.to_owned(), problem.into())
}

fn empty(column: &str, problem: impl Into<String>) -> NoDocument {
    NoDocument::Empty(column.to_owned(), problem.into())
}

struct Reader<'a> {
    file: files::File<'a>,
    /// The column of plain texts.
    text: &'a str,
    skip_empty: bool,
    rows: Vec<Document>,
    skipped: usize,
    room: Room,
}

impl Reader<'_> {
    fn push(&mut self, document: Document) -> Result<(), DataError> {
        self.room.take(self.file, document.size())?;
        self.rows.push(document);
        Ok(())
    }

    fn plain(&mut self) -> Result<(), DataError> {
        let bytes = self.file.bytes()?;
        let content = self.file.text(&bytes)?;
        if content.contains(END_OF_TEXT) {
            for text in content.split(END_OF_TEXT).map(str::trim).filter(|text| !text.is_empty()) {
                self.push(Document::Text(text.to_owned()))?;
            }
            return Ok(());
        }
        let mut document = String::new();
        for line in self.file.lines(content).chain([Ok((Place::Line(0), ""))]) {
            let (_, line) = line?;
            if !line.trim().is_empty() {
                if !document.is_empty() {
                    document.push('\n');
                }
                document.push_str(line);
            } else if !document.is_empty() {
                self.push(Document::Text(std::mem::take(&mut document)))?;
            }
        }
        Ok(())
    }

    fn table(&mut self, format: Format) -> Result<(), DataError> {
        let columns: Vec<&str> = COLUMNS.into_iter().chain([self.text]).collect();
        let wanted =
            Wanted { columns: &columns, optional: columns.len(), class_names: false, nested: true };
        self.file.rows(format, wanted, &mut |place, cells| {
            let problem = match document(cells, self.text) {
                Ok(document) => return self.push(document),
                Err(NoDocument::Empty(..)) if self.skip_empty => {
                    self.skipped += 1;
                    return Ok(());
                }
                Err(NoDocument::Empty(column, problem)) => {
                    (column, format!("{problem}: fill it in, or set `data.skip_empty = true`"))
                }
                Err(NoDocument::Bad(column, problem)) => (column, problem),
            };
            match problem {
                (column, problem) if column.is_empty() => {
                    Err(self.file.bad(format!("{place}: {problem}")))
                }
                (column, problem) => Err(self.file.cell(place, &column, problem)),
            }
        })
    }
}

/// A row's document.
fn document(cells: &[Cell<'_>], text_column: &str) -> Result<Document, NoDocument> {
    let there = |cell: &&Cell<'_>| match cell {
        Cell::Missing | Cell::Absent => false,
        // What a table of cells parted by commas has for nothing.
        Cell::Text(text) => !text.is_empty(),
        _ => true,
    };
    let named = |name: &str| {
        let columns = COLUMNS.iter().copied().chain([text_column]);
        columns.zip(cells).find(|(column, _)| *column == name).map(|(_, cell)| cell)
    };
    let given = |name: &str| named(name).filter(there);
    if let Some(cell) = given("messages") {
        return chat("messages", messages("messages", cell, ["role", "content"])?, 0);
    }
    if let Some(cell) = given("conversations") {
        let messages = messages("conversations", cell, ["from", "value"])?;
        return chat("conversations", messages, 0);
    }
    if let Some(completion) = given("completion") {
        return prompted(given("prompt"), completion);
    }
    if let Some(instruction) = given("instruction") {
        return instructed(instruction, given("input"), given("output"));
    }
    let has_completions = named("completion").is_some_and(|cell| *cell != Cell::Absent);
    if given("prompt").is_some() && has_completions && given(text_column).is_none() {
        return Err(empty("completion", "the completion is empty"));
    }
    match named(text_column) {
        Some(Cell::Text(text)) if text.trim().is_empty() => {
            Err(empty(text_column, "the text is empty"))
        }
        Some(Cell::Text(text)) => Ok(Document::Text(text.clone().into_owned())),
        Some(Cell::Missing) => Err(empty(text_column, "there is nothing")),
        Some(Cell::Absent) | None => {
            let kinds = "`messages`, `conversations`, `prompt` with `completion`, `instruction` with `output`";
            Err(bad("", format!("it is no document: it has none of {kinds} or `{text_column}`")))
        }
        Some(other) => Err(bad(text_column, format!("{other} is no text"))),
    }
}

/// A text, which may be empty.
fn text(column: &str, cell: Option<&Cell<'_>>) -> Result<String, NoDocument> {
    match cell {
        None => Ok(String::new()),
        Some(Cell::Text(text)) => Ok(text.clone().into_owned()),
        Some(other) => Err(bad(column, format!("{other} is no text"))),
    }
}

fn prompted(prompt: Option<&Cell<'_>>, completion: &Cell<'_>) -> Result<Document, NoDocument> {
    if let (Some(Cell::List(_)) | None, Cell::List(_)) = (prompt, completion) {
        let keys = ["role", "content"];
        let mut all = prompt.map_or(Ok(Vec::new()), |cell| messages("prompt", cell, keys))?;
        let count = all.len();
        all.extend(messages("completion", completion, keys)?);
        return chat("completion", all, count);
    }
    let prompt = text("prompt", prompt)?;
    let completion = text("completion", Some(completion))?;
    if completion.trim().is_empty() {
        return Err(empty("completion", "the completion is empty"));
    }
    Ok(Document::Prompted { prompt, completion })
}

fn instructed(
    instruction: &Cell<'_>,
    input: Option<&Cell<'_>>,
    output: Option<&Cell<'_>>,
) -> Result<Document, NoDocument> {
    let mut asked = text("instruction", Some(instruction))?;
    let input = text("input", input)?;
    if !input.trim().is_empty() {
        asked.push_str("\n\n");
        asked.push_str(&input);
    }
    let user = Message { role: Role::User, content: asked };
    let assistant = Message { role: Role::Assistant, content: text("output", output)? };
    chat("output", vec![user, assistant], 0)
}

/// The messages of a list of records with a name and a text.
fn messages(
    column: &str,
    cell: &Cell<'_>,
    [of_role, of_content]: [&str; 2],
) -> Result<Vec<Message>, NoDocument> {
    let parsed;
    let list = match cell {
        Cell::List(list) => list,
        // Tables without lists have them as text.
        Cell::Text(json) if json.trim_start().starts_with('[') => {
            let read: Result<serde_json::Value, _> = serde_json::from_str(json);
            parsed =
                read.map_err(|error| bad(column, format!("it is no list of JSON: {error}")))?;
            return messages(column, &Cell::of_json(&parsed), [of_role, of_content]);
        }
        other => return Err(bad(column, format!("{other} is no list of messages"))),
    };
    let message = |(number, cell): (usize, &Cell<'_>)| {
        let wrong = |problem: String| bad(column, format!("message {}: {problem}", number + 1));
        let Cell::Record(fields) = cell else {
            return Err(wrong(format!("{cell} is no record of `{of_role}` and `{of_content}`")));
        };
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, cell)| cell);
        if let Some(Cell::List(calls)) = field("tool_calls")
            && !calls.is_empty()
        {
            return Err(wrong("it calls tools, which is not read: leave the row out".to_owned()));
        }
        let name = match field(of_role) {
            Some(Cell::Text(name)) => name,
            Some(other) => return Err(wrong(format!("its `{of_role}` is {other} and no name"))),
            None => return Err(wrong(format!("it has no `{of_role}`"))),
        };
        let role = Role::of(name).ok_or_else(|| {
            let name: String = name.chars().take(40).collect();
            wrong(format!("its `{of_role}` is {name:?}, and known are {}", Role::names()))
        })?;
        match field(of_content) {
            Some(Cell::Text(content)) => {
                Ok(Message { role, content: content.clone().into_owned() })
            }
            Some(other) => Err(wrong(format!("its `{of_content}` is {other} and no text"))),
            None => Err(wrong(format!("it has no `{of_content}`"))),
        }
    };
    list.iter().enumerate().map(message).collect()
}

/// A chat whose completion begins with this message.
fn chat(column: &str, messages: Vec<Message>, completion: usize) -> Result<Document, NoDocument> {
    let mut learnt = messages.iter().skip(completion).filter(|one| one.role == Role::Assistant);
    let Some(first) = learnt.next() else {
        return Err(empty(column, "the assistant says nothing in it"));
    };
    if std::iter::once(first).chain(learnt).any(|one| one.content.trim().is_empty()) {
        return Err(empty(column, "a message of the assistant is empty"));
    }
    Ok(Document::Chat(Chat { messages, completion }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, content: &str, skip_empty: bool) -> Result<LoadedDocuments, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        read_documents(&path, "text", skip_empty)
    }

    fn shown(document: &Document) -> String {
        match document {
            Document::Text(text) => text.clone(),
            Document::Prompted { prompt, completion } => format!("{prompt} -> {completion}"),
            Document::Chat(chat) => {
                let say = |message: &Message| format!("{}: {}", message.role, message.content);
                let said: Vec<String> = chat.messages.iter().map(say).collect();
                format!("{} from {}", said.join(" | "), chat.completion)
            }
        }
    }

    fn all(name: &str, content: &str) -> Vec<String> {
        read(name, content, false).unwrap().documents.all().iter().map(shown).collect()
    }

    const KINDS: [(&str, &str); 7] = [
        (r#"{"text": "a\nb"}"#, "a\nb"),
        (r#"{"prompt": "2+2=", "completion": "4"}"#, "2+2= -> 4"),
        (
            r#"{"prompt": [{"role": "user", "content": "q"}],
                "completion": [{"role": "assistant", "content": "a"}]}"#,
            "user: q | assistant: a from 1",
        ),
        (
            r#"{"prompt": "q", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": ""},
                {"role": "assistant", "content": "a", "tool_calls": null}]}"#,
            "system: s | user:  | assistant: a from 0",
        ),
        (r#"{"instruction": "i", "input": "", "output": "o"}"#, "user: i | assistant: o from 0"),
        (
            r#"{"text": null, "instruction": "i", "input": "x", "output": "o"}"#,
            "user: i\n\nx | assistant: o from 0",
        ),
        (
            r#"{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}"#,
            "user: q | assistant: a from 0",
        ),
    ];

    #[test]
    fn the_columns_tell_the_kind() {
        let lines: String = KINDS.map(|(row, _)| row.replace('\n', " ") + "\n").concat();
        let wanted = KINDS.map(|(_, wanted)| wanted);
        assert_eq!(all("a.jsonl", &lines), wanted);
        assert_eq!(all("a.json", &format!("[{}]", KINDS.map(|(row, _)| row).join(","))), wanted);
        assert_eq!(all("a.csv", "prompt,completion\nx,y\n"), ["x -> y"]);
        let messages = r#"[{""role"": ""user"", ""content"": ""q""}, {""role"": ""assistant"", ""content"": ""a""}]"#;
        let table = format!("messages,text\n\"{messages}\",\n,plain\n");
        assert_eq!(all("a.csv", &table), ["user: q | assistant: a from 0", "plain"]);
    }

    #[test]
    #[cfg(feature = "parquet")]
    fn parquet_has_lists_of_records() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/chat");
        let read = read_documents(&folder.join("documents.parquet"), "text", false).unwrap();
        let rows = read.documents.all();
        assert_eq!(rows.len(), 40);
        for (number, row) in rows.iter().enumerate() {
            let turn = format!("user: q{number} | assistant: ä{number}");
            let chat = format!("{} from 0", vec![turn; 1 + number % 3].join(" | "));
            let wanted = match number % 4 {
                0 | 1 => chat,
                2 => format!("q{number} -> c{number}"),
                _ => format!("t{number}"),
            };
            assert_eq!(shown(row), wanted);
        }
        // A file that has none of the columns.
        let error = read_documents(&folder.join("../files/squad.parquet"), "txt", false);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("row 1: it is no document"), "{error}");
    }

    #[test]
    fn plain_text_is_parted() {
        let lines = "\n\none\r\ntwo \r\n \t\nthree\n\n\n\nfour";
        assert_eq!(all("a.txt", lines), ["one\ntwo ", "three", "four"]);
        let marked = "one\n\ntwo<|endoftext|>\n<|endoftext|> three\n";
        assert_eq!(all("a.txt", marked), ["one\n\ntwo", "three"]);
    }

    #[test]
    fn empty_rows_are_skipped_where_they_may() {
        let rows = "{\"text\": \" \"}\n{\"text\": \"a\"}\n{\"prompt\": \"p\", \"completion\": \"\"}\n\
                    {\"messages\": []}\n{\"instruction\": \"i\", \"output\": null}\n{\"text\": null}\n";
        let read = read("a.jsonl", rows, true).unwrap();
        assert_eq!((read.documents.len(), read.skipped), (1, 5));
    }

    #[test]
    fn says_what_is_wrong() {
        let of = |role: &str, content: &str| {
            format!("{{\"messages\": [{{\"role\": {role}, \"content\": {content}}}]}}")
        };
        for (row, problem) in [
            (
                r#"{"title": "a"}"#.to_owned(),
                "line 2: it is no document: it has none of `messages`, `conversations`",
            ),
            (
                r#"{"prompt": "p", "completion": " "}"#.to_owned(),
                "line 2, column `completion`: the completion is empty",
            ),
            (
                r#"{"prompt": "p", "completion": ""}"#.to_owned(),
                "line 2, column `completion`: the completion is empty",
            ),
            (r#"{"prompt": "p"}"#.to_owned(), "line 2: it is no document"),
            (
                r#"{"prompt": [], "completion": "c"}"#.to_owned(),
                "line 2, column `prompt`: [] is no text",
            ),
            (
                of("\"robot\"", "\"a\""),
                "message 1: its `role` is \"robot\", and known are `system`",
            ),
            (of("3", "\"a\""), "message 1: its `role` is 3 and no name"),
            (
                of("\"user\"", r#"[{"type": "text"}]"#),
                "line 2, column `messages`: message 1: its `content` is [{\"type\":\"text\"}] and no text",
            ),
            (of("\"assistant\"", "null"), "its `content` is nothing and no text"),
            (
                of("\"user\"", "\"a\""),
                "column `messages`: the assistant says nothing in it: fill it",
            ),
            (of("\"assistant\"", "\"\""), "a message of the assistant is empty"),
            (r#"{"messages": "hello"}"#.to_owned(), "\"hello\" is no list of messages"),
            (r#"{"messages": ["a"]}"#.to_owned(), "\"a\" is no record of `role` and `content`"),
            (
                r#"{"conversations": [{"role": "user", "content": "a"}]}"#.to_owned(),
                "column `conversations`: message 1: it has no `from`",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": "a", "tool_calls": [1]}]}"#
                    .to_owned(),
                "it calls tools",
            ),
            (r#"{"text": 3}"#.to_owned(), "line 2, column `text`: 3 is no text"),
            (r#"{"text": ""}"#.to_owned(), "line 2, column `text`: the text is empty: fill it in"),
        ] {
            let content = format!("{{\"text\": \"good\"}}\n{row}\n");
            let error = read("a.jsonl", &content, false).unwrap_err().to_string();
            assert!(error.contains("a.jsonl: ") && error.contains(problem), "{row}: {error}");
        }
        let error =
            read("a.json", "[{\"text\": \"a\"}, {\"x\": 1}]", false).unwrap_err().to_string();
        assert!(error.contains("a.json: row 2: it is no document"), "{error}");
        for (name, content, problem) in [
            ("a.txt", " \n", "it holds no document"),
            ("a.jsonl", "", "it holds no document"),
            ("a.pdf", "", "documents are read from .csv"),
        ] {
            let error = read(name, content, false).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
