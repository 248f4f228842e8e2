//! Files of texts: tables with named columns, labels perhaps among them, or a text a line.

use std::path::Path;

use super::{Text, Texts};
use crate::classes::NoClass;
use crate::files::{self, Cell, Format, Place, Wanted};
use crate::memory;
use crate::targets::{Learnt, Targets};
use crate::{DataError, Dataset, LabelKind};

/// One text of a file.
struct Row {
    place: Place,
    text: Text,
}

/// The texts of a file, at least one.
struct Rows {
    rows: Vec<Row>,
    /// Where labels are asked for, and there are some.
    labels: Option<Targets>,
    /// How many rows lack a text and were passed over.
    skipped: usize,
}

/// What is asked of a file.
#[derive(Clone, Copy)]
struct Request<'a> {
    file: files::File<'a>,
    /// Columns of the text, one or two.
    columns: &'a [String],
    kind: LabelKind,
    /// Columns of the labels; none where no labels are asked for.
    labels: &'a [String],
    /// Whether rows without a text are passed over rather than refused.
    skip_empty: bool,
}

/// Reads the texts of a file alone; a text is one column or two. Of a `.txt` file every line is one, and blank ones
/// are passed over. With `skip_empty`, rows of a table that lack a text are passed over too, and counted.
///
/// # Errors
/// [`DataError`], naming the file, the line and the column.
pub fn read_texts(
    path: &Path,
    columns: &[String],
    skip_empty: bool,
) -> Result<(Texts, usize), DataError> {
    let file = files::File::new(path);
    let request = Request { file, columns, kind: LabelKind::None, labels: &[], skip_empty };
    let Rows { rows, skipped, .. } = request.read()?;
    Ok((texts(rows)?, skipped))
}

/// Pairs of texts, and how like each other the two are held to be.
#[derive(Clone, Debug)]
pub struct Pairs {
    /// The first text of each.
    pub first: Texts,
    /// The second.
    pub second: Texts,
    /// A number for each, larger where the texts are more alike.
    pub scores: Vec<f64>,
    /// Rows that were passed over, as they lack a text.
    pub skipped: usize,
}

/// Reads pairs of texts in two columns, with their scores in a third.
///
/// # Errors
/// [`DataError`], naming the file, the line and the column.
pub fn read_pairs(
    path: &Path,
    columns: &[String],
    score: &str,
    skip_empty: bool,
) -> Result<Pairs, DataError> {
    let file = files::File::new(path);
    if columns.len() != 2 {
        return Err(file.bad("pairs of texts are read from two columns, so name two"));
    }
    let labels = [score.to_owned()];
    let kind = LabelKind::Numbers;
    let Rows { rows, labels, skipped } =
        Request { file, columns, kind, labels: &labels, skip_empty }.read()?;
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for Row { text, .. } in rows {
        second.push(Text::from(text.second.unwrap_or_default().as_str()));
        first.push(Text { second: None, ..text });
    }
    let scores = labels.map(Targets::into_values).unwrap_or_default();
    Ok(Pairs { first: Texts::new(first)?, second: Texts::new(second)?, scores, skipped })
}

/// Labelled texts of two files, and a note of each that lost rows.
#[derive(Debug)]
pub struct Loaded {
    /// The training data.
    pub train: Dataset,
    /// The test data.
    pub test: Dataset,
    /// For people: how many rows lack a text and were passed over.
    pub notes: Vec<String>,
}

/// The columns of texts and of their labels.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// Of the text, one or two; of questions, the question's and the context's.
    pub text: &'a [String],
    /// Of the labels, one or several; see [`load`].
    pub label: &'a [String],
    /// Whether rows without a text are passed over rather than refused.
    pub skip_empty: bool,
}

/// Loads both files with their labels, or of two `.txt` files the texts, which have none; a text is one column or two.
///
/// * Classes are the training data's labels: in order of number if all are whole numbers, else sorted. With
///   [`LabelKind::ClassIfAny`], a file without the column of labels, or a `.txt` file, is of texts alone.
/// * Numbers stand in one column or several, each a finite number.
/// * Several labels for each text are a column of flags for each label (0, 1, true or false), or one column of a JSON
///   array or a Parquet list of names or whole numbers, or of names parted by `,`, `;` or `|`, one of these in all rows,
///   so that no name contains one of them. An empty cell has no label; one of nothing is refused.
///
/// # Errors
/// [`DataError`], naming the file, the line and the column.
pub fn load(
    train: &Path,
    test: &Path,
    columns: Columns<'_>,
    kind: LabelKind,
) -> Result<Loaded, DataError> {
    let is_text = |path: &&Path| Format::of(path) == Some(Format::Text);
    let alone = kind == LabelKind::Class && [train, test].iter().all(is_text);
    let kind = if alone { LabelKind::None } else { kind };
    let request = |path| Request {
        file: files::File::new(path),
        columns: columns.text,
        kind,
        labels: if kind == LabelKind::None { &[] } else { columns.label },
        skip_empty: columns.skip_empty,
    };
    let (train, test) = (request(train), request(test));
    let (train_rows, test_rows) = (train.read()?, test.read()?);
    let learnt = match (train.learn(&train_rows)?, kind) {
        (None, LabelKind::ClassIfAny) => test.learn(&test_rows)?,
        (learnt, _) => learnt,
    };
    let notes = [
        skipped_note(train.file.path, train_rows.skipped),
        skipped_note(test.file.path, test_rows.skipped),
    ];
    Ok(Loaded {
        train: train.dataset(train_rows, learnt.as_ref())?,
        test: test.dataset(test_rows, learnt.as_ref())?,
        notes: notes.into_iter().flatten().collect(),
    })
}

/// What is said of rows that were passed over, if there are any.
pub fn skipped_note(path: &Path, skipped: usize) -> Option<String> {
    let rows = if skipped == 1 { "row without a text was" } else { "rows without a text were" };
    (skipped > 0).then(|| format!("{}: {skipped} {rows} skipped", path.display()))
}

fn texts(rows: Vec<Row>) -> Result<Texts, DataError> {
    Texts::new(rows.into_iter().map(|row| row.text).collect())
}

impl Request<'_> {
    fn read(&self) -> Result<Rows, DataError> {
        let file = self.file;
        let format = Format::of(file.path).ok_or_else(|| {
            file.bad(format!(
                "texts are read from {} files, all but .parquet also with .gz",
                Format::ENDINGS
            ))
        })?;
        let rows = match format {
            Format::Text => Rows { rows: self.lines()?, labels: None, skipped: 0 },
            _ => self.table(format)?,
        };
        match (rows.rows.is_empty(), rows.skipped) {
            (false, _) => Ok(rows),
            (true, 0) => Err(file.bad("it holds no text")),
            (true, skipped) => Err(file.bad(format!("none of its {skipped} rows has a text"))),
        }
    }

    fn table(&self, format: Format) -> Result<Rows, DataError> {
        let columns = self.columns.iter().chain(self.labels).map(String::as_str);
        let columns: Vec<&str> = columns.collect();
        let optional = if self.kind == LabelKind::ClassIfAny { self.labels.len() } else { 0 };
        let class_names = !matches!(self.kind, LabelKind::None | LabelKind::Numbers);
        let nested = self.kind == LabelKind::MultiLabel;
        let wanted = Wanted { columns: &columns, optional, class_names, nested };
        let mut labels = match self.labels.is_empty() {
            true => None,
            false => {
                let targets = Targets::new(self.kind, self.labels.len());
                Some(targets.map_err(|problem| self.file.bad(problem))?)
            }
        };
        let (mut rows, mut skipped) = (Vec::new(), 0);
        let mut room = Room::new();
        self.file.rows(format, wanted, &mut |place, cells| {
            let (of_text, of_labels) = cells.split_at(self.columns.len());
            let Some(text) = self.text(place, of_text)? else {
                skipped += 1;
                return Ok(());
            };
            let letters = text.first.len() + text.second.as_ref().map_or(0, String::len);
            room.take(self.file, letters + size_of::<Row>())?;
            if let Some(labels) = &mut labels {
                let taken = labels.push(of_labels).map_err(|(column, problem)| {
                    self.file.cell(place, &self.labels[column], problem)
                })?;
                room.take(self.file, taken)?;
            }
            rows.push(Row { place, text });
            Ok(())
        })?;
        let labels = labels.filter(|labels| !labels.are_absent());
        Ok(Rows { rows, labels, skipped })
    }

    /// A row's text, of its cells by column; none where it lacks one and may.
    fn text(&self, place: Place, cells: &[Cell<'_>]) -> Result<Option<Text>, DataError> {
        let mut found = Vec::with_capacity(2);
        for (column, cell) in self.columns.iter().zip(cells) {
            match text(cell) {
                Ok(text) => found.push(text),
                Err(NoText::Empty(_)) if self.skip_empty => return Ok(None),
                Err(NoText::Empty(problem)) => {
                    let remedy = "fill it in, or set `data.skip_empty = true` (`--skip-empty` of `eval` and `logits`)";
                    return Err(self.file.cell(place, column, format!("{problem}: {remedy}")));
                }
                Err(NoText::Other(problem)) => return Err(self.file.cell(place, column, problem)),
            }
        }
        let mut found = found.into_iter();
        Ok(Some(Text { first: found.next().unwrap_or_default(), second: found.next() }))
    }

    /// A text a line.
    fn lines(&self) -> Result<Vec<Row>, DataError> {
        if !matches!(self.kind, LabelKind::None | LabelKind::ClassIfAny) {
            return Err(self.file.bad(
                "a .txt file holds texts alone, and here each needs a label: give a file with named columns \
                 (.csv, .tsv, .json, .jsonl, .ndjson or .parquet)",
            ));
        }
        if self.columns.len() > 1 {
            return Err(self
                .file
                .bad("a .txt file holds no pairs: give a file with named columns"));
        }
        let bytes = self.file.bytes()?;
        let (mut rows, mut room) = (Vec::new(), Room::new());
        for line in self.file.lines(self.file.text(&bytes)?) {
            let (place, text) = line?;
            if !text.trim().is_empty() {
                let text = Text::from(text.trim());
                room.take(self.file, text.first.len() + size_of::<Row>())?;
                rows.push(Row { place, text });
            }
        }
        Ok(rows)
    }

    /// What the labels of these rows are called, if they have any.
    fn learn(&self, rows: &Rows) -> Result<Option<Learnt>, DataError> {
        let learnt = rows.labels.as_ref().map(Targets::learn).transpose();
        learnt.map_err(|problem| self.bad_label(&rows.rows, problem))
    }

    fn bad_label(&self, rows: &[Row], NoClass { row, problem }: NoClass) -> DataError {
        self.file.cell(rows[row].place, &self.labels[0], problem)
    }

    fn dataset(&self, rows: Rows, learnt: Option<&Learnt>) -> Result<Dataset, DataError> {
        let Rows { rows, labels, .. } = rows;
        let (Some(labels), Some(learnt)) = (labels, learnt) else {
            return Ok(Dataset::unlabelled(texts(rows)?));
        };
        let labels = labels.labels(learnt, self.labels);
        let labels = labels.map_err(|problem| self.bad_label(&rows, problem))?;
        Dataset::labelled(texts(rows)?, labels)
    }
}

/// Why a cell is no text.
pub(super) enum NoText {
    /// There is none.
    Empty(&'static str),
    /// There is something else.
    Other(String),
}

/// A cell as a text that is not empty.
pub(super) fn text(cell: &Cell<'_>) -> Result<String, NoText> {
    match cell {
        Cell::Text(text) if text.trim().is_empty() => Err(NoText::Empty("the text is empty")),
        Cell::Text(text) => Ok(text.clone().into_owned()),
        Cell::Missing | Cell::Absent => Err(NoText::Empty("there is nothing")),
        other => Err(NoText::Other(format!("{other} is no text"))),
    }
}

/// The memory that the rows of a file may take. A small file can hold many rows, where they are compressed.
pub(super) struct Room {
    left: u64,
    all: u64,
}

impl Room {
    /// Three quarters of what is left of the machine's.
    pub fn new() -> Self {
        let all = memory::available().map_or(u64::MAX, |available| available / 4 * 3);
        Self { left: all, all }
    }

    /// Takes so many bytes.
    pub fn take(&mut self, file: files::File<'_>, bytes: usize) -> Result<(), DataError> {
        self.left = self.left.checked_sub(bytes as u64).ok_or_else(|| {
            file.bad(format!(
                "its texts take more than {} bytes, three quarters of the memory that is left: give a smaller part",
                self.all
            ))
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(name: &str, train: &str, columns: &[&str]) -> Result<(Dataset, Dataset), DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, train).unwrap();
        let columns: Vec<String> = columns.iter().map(|&column| column.to_owned()).collect();
        let label = ["label".to_owned()];
        let columns = Columns { text: &columns, label: &label, skip_empty: false };
        let Loaded { train, test, .. } = load(&path, &path, columns, LabelKind::Class)?;
        Ok((train, test))
    }

    #[test]
    fn reads_every_format() {
        for (name, content) in [
            ("a.csv", "id,text,label\n1,\"good, \"\"really\"\"\",pos\n2,bad,neg\n"),
            ("a.tsv", "label\ttext\npos\tgood, \"really\"\nneg\tbad\n"),
            (
                "a.jsonl",
                "{\"text\": \"good, \\\"really\\\"\", \"label\": \"pos\"}\n\n{\"label\": \"neg\", \"text\": \"bad\"}",
            ),
        ] {
            let (train, _) = loaded(name, content, &["text"]).unwrap();
            assert_eq!(train.class_names(), ["neg", "pos"], "{name}");
            assert_eq!(train.need_classes().unwrap().ids(), [1, 0], "{name}");
            let texts = train.examples().texts().unwrap();
            assert_eq!(texts.all()[0].first, "good, \"really\"", "{name}");
            assert!(!texts.are_pairs());
        }
    }

    #[test]
    fn plain_texts_have_no_labels() {
        let (train, _) = loaded("a.txt", "one\r\n\n  two, 3 \n", &["text"]).unwrap();
        assert_eq!((train.labels(), train.classes()), (None, 0));
        let texts = train.examples().texts().unwrap().all();
        assert_eq!([&*texts[0].first, &*texts[1].first], ["one", "two, 3"]);
    }

    #[test]
    fn reads_pairs_and_numbered_classes() {
        let content = "a,b,label\nx,y,10\nx,z,9\n";
        let (train, _) = loaded("a.csv", content, &["a", "b"]).unwrap();
        assert_eq!(
            (train.class_names(), train.need_classes().unwrap().ids()),
            (&["9".to_owned(), "10".to_owned()][..], &[1, 0][..])
        );
        assert_eq!(train.examples().texts().unwrap().all()[1].to_string(), "x | z");
        let (train, _) = loaded("a.jsonl", "{\"a\": \"x\", \"label\": true}", &["a"]).unwrap();
        assert_eq!(train.class_names(), ["true"]);
    }

    #[test]
    fn reads_texts_without_labels() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, content: &[u8], columns: &[&str]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let columns: Vec<String> = columns.iter().map(|&column| column.to_owned()).collect();
            let (texts, _) = read_texts(&path, &columns, false)?;
            Ok::<_, DataError>(texts.all().iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let wanted = ["one, two", "three"];
        assert_eq!(read("a.txt", b"one, two\r\n\n \nthree", &["text"]).unwrap(), wanted);
        assert_eq!(read("a.tsv", b"text\none, two\nthree\n", &["text"]).unwrap(), wanted);
        assert_eq!(read("a.csv", b"a,b\nx,y\n", &["b", "a"]).unwrap(), ["y | x"]);
        for (name, content, columns, problem) in [
            ("a.txt", &b" \n"[..], &["text"][..], "it holds no text"),
            ("a.txt", b"one\ntw\xf6", &["text"], "a.txt: line 2: this is no UTF-8 text"),
            ("a.jsonl", b"\n\n\xff", &["text"], "a.jsonl: line 3: this is no UTF-8 text"),
            ("a.txt", b"one", &["a", "b"], "a .txt file holds no pairs"),
        ] {
            let error = read(name, content, columns).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn reads_pairs_with_scores() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, content: &str, columns: &[&str]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            let columns: Vec<String> = columns.iter().map(|&column| column.to_owned()).collect();
            read_pairs(&path, &columns, "score", false)
        };
        for (name, content) in [
            ("a.tsv", "score\ta\tb\n4.5\tone\ttwo\n-1\tx\ty\n"),
            (
                "a.jsonl",
                "{\"a\": \"one\", \"b\": \"two\", \"score\": 4.5}\n{\"a\": \"x\", \"b\": \"y\", \"score\": -1}",
            ),
        ] {
            let pairs = read(name, content, &["a", "b"]).unwrap();
            assert_eq!(pairs.scores, [4.5, -1.0]);
            assert_eq!(pairs.first.all(), ["one", "x"].map(Text::from));
            assert_eq!(pairs.second.all(), ["two", "y"].map(Text::from));
        }
        for (columns, content, problem) in [
            (&["a"][..], "a,b,score\n", "pairs of texts are read from two columns"),
            (&["a", "b"], "a,b,score\nx,y,good\n", "line 2, column `score`: \"good\" is no number"),
            (&["a", "b"], "a,b,score\nx,y,inf\n", "\"inf\" is no number"),
            (&["a", "b"], "a,b\nx,y\n", "there is no column `score`"),
        ] {
            let error = read("a.csv", content, columns).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (name, content, problem) in [
            ("a.csv", "text,label\n", "it holds no text"),
            ("a.csv", "txt,label\na,b\n", "there is no column `text`; it has `txt`, `label`"),
            ("a.csv", "text,label\na,b\n ,b\n", "line 3, column `text`: the text is empty"),
            ("a.csv", "text,label\na,\n", "line 2, column `label`: the label is empty"),
            ("a.csv", "text,label\na,b,c\n", "it cannot be read"),
            ("a.csv", "text,label\n\u{fffd}\n", "it cannot be read"),
            ("a.jsonl", "{\"text\": 3, \"label\": 1}", "line 1, column `text`: 3 is no text"),
            ("a.jsonl", "[1]", "line 1 is no JSON object"),
            ("a.jsonl", "\n{\"text\": \"b\"}", "there is no column `label`; it has `text`"),
            (
                "a.pdf",
                "",
                "texts are read from .csv, .tsv, .json, .jsonl, .ndjson, .parquet and .txt files",
            ),
            ("a.txt", "\n \n", "it holds no text"),
        ] {
            let error = loaded(name, content, &["text"]).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a.csv", "b.csv"].map(|name| folder.path().join(name));
        std::fs::write(&paths[0], "text,label\na,x\n").unwrap();
        std::fs::write(&paths[1], "text,label\na,x\nb,y\n").unwrap();
        let [text, label] = ["text", "label"].map(|column| [column.to_owned()]);
        let columns = Columns { text: &text, label: &label, skip_empty: false };
        let error = load(&paths[0], &paths[1], columns, LabelKind::Class).err().unwrap();
        let wanted =
            "b.csv: line 3, column `label`: the training data have no class \"y\"; they have `x`";
        assert!(error.to_string().ends_with(wanted), "{error}");
    }
}
