//! Files of texts: tables with named columns, labels perhaps among them, or a text a line.

use std::path::Path;

use super::{Text, Texts};
use crate::data::classes::{Classes, NoClass};
use crate::data::files::{self, Cell, Format, Place, Wanted};
use crate::data::{DataError, Dataset};
use crate::memory;

/// One text of a file.
struct Row {
    place: Place,
    text: Text,
    /// Where labels are asked for.
    label: Option<String>,
}

/// What is asked of a file.
#[derive(Clone, Copy)]
struct Request<'a> {
    file: files::File<'a>,
    /// Columns of the text, one or two.
    columns: &'a [String],
    label: Label<'a>,
    /// Whether rows without a text are passed over rather than refused.
    skip_empty: bool,
}

/// The column of labels, if they are asked for, and what they are.
#[derive(Clone, Copy, PartialEq)]
enum Label<'a> {
    None,
    Class(&'a str),
    Number(&'a str),
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
    let (rows, skipped) = Request { file, columns, label: Label::None, skip_empty }.read()?;
    Ok((Texts::new(rows.into_iter().map(|row| row.text).collect())?, skipped))
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
    let (mut first, mut second, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    let (rows, skipped) =
        Request { file, columns, label: Label::Number(score), skip_empty }.read()?;
    for Row { place, text, label } in rows {
        let number = label.unwrap_or_default();
        let known = number.parse::<f64>().ok().filter(|number| number.is_finite());
        let known =
            known.ok_or_else(|| file.cell(place, score, format!("{number:?} is no number")));
        scores.push(known?);
        second.push(Text::from(text.second.unwrap_or_default().as_str()));
        first.push(Text { second: None, ..text });
    }
    Ok(Pairs { first: Texts::new(first)?, second: Texts::new(second)?, scores, skipped })
}

/// Labelled texts of two files, and a note of each that lost rows.
pub struct Loaded {
    /// The training data.
    pub train: Dataset,
    /// The test data.
    pub test: Dataset,
    /// For people: how many rows lack a text and were passed over.
    pub notes: Vec<String>,
}

/// Loads both files with their labels, or of two `.txt` files the texts, which have none; a text is one column or two.
/// The classes are the training data's labels: in order of number if all are whole numbers, else sorted.
///
/// # Errors
/// [`DataError`], naming the file, the line and the column.
pub fn load(
    train: &Path,
    test: &Path,
    columns: &[String],
    label: &str,
    skip_empty: bool,
) -> Result<Loaded, DataError> {
    if [train, test].iter().all(|path| Format::of(path) == Some(Format::Text)) {
        let texts = |path| {
            read_texts(path, columns, skip_empty).map(|(texts, _)| Dataset::unlabelled(texts))
        };
        return Ok(Loaded { train: texts(train)?, test: texts(test)?, notes: Vec::new() });
    }
    let label = Label::Class(label);
    let request = |path| Request { file: files::File::new(path), columns, label, skip_empty };
    let (train, test) = (request(train), request(test));
    let (train_rows, train_skipped) = train.read()?;
    let (test_rows, test_skipped) = test.read()?;
    let classes = train.classes(&train_rows)?;
    let notes =
        [skipped_note(train.file.path, train_skipped), skipped_note(test.file.path, test_skipped)];
    Ok(Loaded {
        train: train.dataset(train_rows, &classes)?,
        test: test.dataset(test_rows, &classes)?,
        notes: notes.into_iter().flatten().collect(),
    })
}

/// What is said of rows that were passed over, if there are any.
pub fn skipped_note(path: &Path, skipped: usize) -> Option<String> {
    let rows = if skipped == 1 { "row without a text was" } else { "rows without a text were" };
    (skipped > 0).then(|| format!("{}: {skipped} {rows} skipped", path.display()))
}

impl Request<'_> {
    /// The rows, at least one, and how many lack a text and were passed over.
    fn read(&self) -> Result<(Vec<Row>, usize), DataError> {
        let file = self.file;
        let format = Format::of(file.path).ok_or_else(|| {
            file.bad(format!(
                "texts are read from {} files, all but .parquet also with .gz",
                Format::ENDINGS
            ))
        })?;
        let (rows, skipped) = match format {
            Format::Text => (self.lines()?, 0),
            _ => self.table(format)?,
        };
        match (rows.is_empty(), skipped) {
            (false, _) => Ok((rows, skipped)),
            (true, 0) => Err(file.bad("it holds no text")),
            (true, _) => Err(file.bad(format!("none of its {skipped} rows has a text"))),
        }
    }

    fn table(&self, format: Format) -> Result<(Vec<Row>, usize), DataError> {
        let columns = self.columns.iter().map(String::as_str);
        let columns: Vec<&str> = match self.label {
            Label::None => columns.collect(),
            Label::Class(column) | Label::Number(column) => columns.chain([column]).collect(),
        };
        let wanted =
            Wanted { columns: &columns, class_names: matches!(self.label, Label::Class(_)) };
        let (mut rows, mut skipped) = (Vec::new(), 0);
        let mut room = Room::new();
        self.file.rows(format, wanted, &mut |place, cells| {
            let row = self.row(place, &columns, cells)?;
            match &row {
                Some(row) => room.take(self.file, row)?,
                None => skipped += 1,
            }
            rows.extend(row);
            Ok(())
        })?;
        Ok((rows, skipped))
    }

    /// A row's texts and label, of its cells by column; none where it lacks a text and may.
    fn row(
        &self,
        place: Place,
        columns: &[&str],
        cells: &[Cell<'_>],
    ) -> Result<Option<Row>, DataError> {
        let (texts, labels) = cells.split_at(self.columns.len());
        let mut found = Vec::with_capacity(2);
        for (column, cell) in columns.iter().zip(texts) {
            let empty = match cell {
                Cell::Text(text) if !text.trim().is_empty() => {
                    found.push(text.clone().into_owned());
                    continue;
                }
                Cell::Text(_) => "the text is empty",
                Cell::Missing => "there is nothing",
                other => return Err(self.file.cell(place, column, format!("{other} is no text"))),
            };
            if self.skip_empty {
                return Ok(None);
            }
            let remedy = "fill it in, or set `data.skip_empty = true` (`--skip-empty` of `eval` and `logits`)";
            return Err(self.file.cell(place, column, format!("{empty}: {remedy}")));
        }
        let label = labels.first().map(|cell| {
            let column = columns[self.columns.len()];
            match cell {
                Cell::Text(text) if text.trim().is_empty() => Err("the label is empty".to_owned()),
                Cell::Missing => Err("there is nothing".to_owned()),
                Cell::Text(text) => Ok(text.trim().to_owned()),
                Cell::Whole(_) | Cell::Flag(_) => Ok(cell.to_string()),
                // With its point, even where it is whole.
                Cell::Real(number) => Ok(format!("{number:?}")),
                Cell::Other(shown) => Err(format!("{shown} is no label")),
            }
            .map_err(|problem| self.file.cell(place, column, problem))
        });
        let mut found = found.into_iter();
        let text = Text { first: found.next().unwrap_or_default(), second: found.next() };
        Ok(Some(Row { place, text, label: label.transpose()? }))
    }

    /// A text a line.
    fn lines(&self) -> Result<Vec<Row>, DataError> {
        if self.label != Label::None {
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
                let row = Row { place, text: Text::from(text.trim()), label: None };
                room.take(self.file, &row)?;
                rows.push(row);
            }
        }
        Ok(rows)
    }

    /// The classes that these rows' labels make.
    fn classes(&self, rows: &[Row]) -> Result<Classes, DataError> {
        let labels = rows.iter().map(|row| row.label.as_deref().unwrap_or_default());
        Classes::of(labels).map_err(|NoClass { row, problem }| match self.label {
            Label::Class(column) | Label::Number(column) => {
                self.file.cell(rows[row].place, column, problem)
            }
            Label::None => self.file.bad(problem),
        })
    }

    fn dataset(&self, rows: Vec<Row>, classes: &Classes) -> Result<Dataset, DataError> {
        let label = |row: &Row| {
            let (Label::Class(column) | Label::Number(column)) = self.label else {
                return Err(self.file.bad("it has no labels"));
            };
            let id = classes.id(row.label.as_deref().unwrap_or_default());
            id.map_err(|problem| self.file.cell(row.place, column, problem))
        };
        let labels = rows.iter().map(label).collect::<Result<Vec<u32>, _>>()?;
        let texts = Texts::new(rows.into_iter().map(|row| row.text).collect())?;
        Dataset::new(texts, labels, classes.names().to_vec())
    }
}

/// The memory that the rows of a file may take. A small file can hold many rows, where they are compressed.
struct Room {
    left: u64,
    all: u64,
}

impl Room {
    /// Three quarters of what is left of the machine's.
    fn new() -> Self {
        let all = memory::available().map_or(u64::MAX, |available| available / 4 * 3);
        Self { left: all, all }
    }

    fn take(&mut self, file: files::File<'_>, row: &Row) -> Result<(), DataError> {
        let Row { text, label, .. } = row;
        let strings = [Some(&text.first), text.second.as_ref(), label.as_ref()];
        let bytes =
            strings.into_iter().flatten().map(String::len).sum::<usize>() + size_of::<Row>();
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
        let Loaded { train, test, .. } = load(&path, &path, &columns, "label", false)?;
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
        let error = load(&paths[0], &paths[1], &["text".to_owned()], "label", false).err().unwrap();
        let wanted =
            "b.csv: line 3, column `label`: the training data have no class \"y\"; they have `x`";
        assert!(error.to_string().ends_with(wanted), "{error}");
    }
}
