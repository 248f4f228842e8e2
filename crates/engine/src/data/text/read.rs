//! Files of texts: CSV, TSV, JSON lines and Parquet with named columns, labels perhaps among them, or a text a line.

use std::path::Path;

use super::{Text, Texts};
use crate::data::{DataError, Dataset};

/// One text of a file.
pub(super) struct Row {
    /// Its line, or its row where a file has no lines, from 1.
    line: u64,
    text: Text,
    /// Where labels are asked for.
    label: Option<String>,
}

/// A file being read.
pub(super) struct File<'a> {
    path: String,
    /// Columns of the text, one or two.
    columns: &'a [String],
    /// Column of the labels, if they are asked for.
    label: Option<&'a str>,
}

/// Reads the texts of a file alone; a text is one column or two. Of a `.txt` file every line is one, and blank ones
/// are passed over.
///
/// # Errors
/// [`DataError`], naming the file, the line and the column.
pub fn read_texts(path: &Path, columns: &[String]) -> Result<Texts, DataError> {
    let file = File { path: path.display().to_string(), columns, label: None };
    Texts::new(file.read(path)?.into_iter().map(|row| row.text).collect())
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
}

/// Reads pairs of texts in two columns, with their scores in a third.
///
/// # Errors
/// [`DataError`], naming the file, the line and the column.
pub fn read_pairs(path: &Path, columns: &[String], score: &str) -> Result<Pairs, DataError> {
    let file = File { path: path.display().to_string(), columns, label: Some(score) };
    if columns.len() != 2 {
        return Err(file.bad("pairs of texts are read from two columns, so name two"));
    }
    let (mut first, mut second, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    for Row { line, text, label } in file.read(path)? {
        let number = label.unwrap_or_default();
        let known = number.parse::<f64>().ok().filter(|number| number.is_finite());
        let known = known.ok_or_else(|| file.cell(line, score, format!("{number:?} is no number")));
        scores.push(known?);
        second.push(Text::from(text.second.unwrap_or_default().as_str()));
        first.push(Text { second: None, ..text });
    }
    Ok(Pairs { first: Texts::new(first)?, second: Texts::new(second)?, scores })
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
) -> Result<(Dataset, Dataset), DataError> {
    if [train, test].iter().all(|path| path.extension().is_some_and(|e| e == "txt")) {
        let texts = |path| read_texts(path, columns).map(Dataset::unlabelled);
        return Ok((texts(train)?, texts(test)?));
    }
    let file = |path: &Path| File { path: path.display().to_string(), columns, label: Some(label) };
    let (train, train_rows) = (file(train), file(train).read(train)?);
    let (test, test_rows) = (file(test), file(test).read(test)?);
    let mut classes: Vec<String> = train_rows.iter().filter_map(|row| row.label.clone()).collect();
    classes.sort_unstable();
    classes.dedup();
    if classes.iter().all(|class| class.parse::<i64>().is_ok()) {
        classes.sort_by_key(|class| class.parse::<i64>().unwrap_or_default());
    }
    Ok((train.dataset(train_rows, &classes)?, test.dataset(test_rows, &classes)?))
}

impl File<'_> {
    pub(super) fn bad(&self, problem: impl Into<String>) -> DataError {
        DataError::File { path: self.path.clone(), problem: problem.into() }
    }

    pub(super) fn cell(&self, line: u64, column: &str, problem: impl Into<String>) -> DataError {
        if self.path.ends_with(".parquet") {
            return self.bad(format!("row {line}, column `{column}`: {}", problem.into()));
        }
        let (path, column, problem) = (self.path.clone(), format!("`{column}`"), problem.into());
        DataError::Cell { path, line, column, problem }
    }

    fn read(&self, path: &Path) -> Result<Vec<Row>, DataError> {
        let bytes = || {
            std::fs::read(path)
                .map_err(|source| DataError::Read { path: self.path.clone(), source })
        };
        let extension = path.extension().and_then(|extension| extension.to_str());
        let rows = match extension {
            Some("csv") => self.table(&bytes()?, b','),
            Some("tsv") => self.table(&bytes()?, b'\t'),
            Some("jsonl") => self.json_lines(&bytes()?),
            Some("txt") => self.lines(&bytes()?),
            Some("parquet") => self.parquet(path),
            _ => Err(self.bad("texts are read from .csv, .tsv, .jsonl, .parquet and .txt files")),
        }?;
        if rows.is_empty() {
            return Err(self.bad("it holds no text"));
        }
        Ok(rows)
    }

    /// A row's texts and label, of its cells by column.
    pub(super) fn row(
        &self,
        line: u64,
        cell: &dyn Fn(&str) -> Result<String, DataError>,
    ) -> Result<Row, DataError> {
        let text = |column: &String| {
            let text = cell(column)?;
            match text.trim().is_empty() {
                true => Err(self.cell(line, column, "the text is empty")),
                false => Ok(text),
            }
        };
        let first = text(&self.columns[0])?;
        let second = self.columns.get(1).map(text).transpose()?;
        let label = self.label.map(|column| match cell(column)?.trim() {
            "" => Err(self.cell(line, column, "the label is empty")),
            label => Ok(label.to_owned()),
        });
        let label = label.transpose()?;
        Ok(Row { line, text: Text { first, second }, label })
    }

    fn table(&self, bytes: &[u8], delimiter: u8) -> Result<Vec<Row>, DataError> {
        let broken = |error: ::csv::Error| self.bad(format!("it cannot be read: {error}"));
        // Where cells are parted by tabs, quotes are text like any other.
        let quoting = delimiter != b'\t';
        let mut reader =
            ::csv::ReaderBuilder::new().delimiter(delimiter).quoting(quoting).from_reader(bytes);
        let names: Vec<String> =
            reader.headers().map_err(broken)?.iter().map(|name| name.trim().to_owned()).collect();
        let place = |column: &str| {
            let found = names.iter().position(|name| name == column);
            found.ok_or_else(|| self.no_column(column, &names))
        };
        self.wanted().try_for_each(|column| place(column).map(|_| ()))?;
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(broken)?;
            let line = record.position().map_or(0, ::csv::Position::line);
            let cell = |column: &str| Ok(record.get(place(column)?).unwrap_or_default().to_owned());
            rows.push(self.row(line, &cell)?);
        }
        Ok(rows)
    }

    fn json_lines(&self, bytes: &[u8]) -> Result<Vec<Row>, DataError> {
        let mut rows = Vec::new();
        for (line, json) in
            (1..).zip(self.utf8(bytes)?.lines()).filter(|(_, json)| !json.trim().is_empty())
        {
            let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json)
                .map_err(|error| self.bad(format!("line {line} is no JSON object: {error}")))?;
            let cell = |column: &str| match object.get(column) {
                Some(serde_json::Value::String(text)) => Ok(text.clone()),
                Some(value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)))
                    if Some(column) == self.label =>
                {
                    Ok(value.to_string())
                }
                Some(value) => Err(self.cell(line, column, format!("{value} is no text"))),
                None => Err(self.no_column(column, &object.keys().cloned().collect::<Vec<_>>())),
            };
            rows.push(self.row(line, &cell)?);
        }
        Ok(rows)
    }

    /// A text a line.
    fn lines(&self, bytes: &[u8]) -> Result<Vec<Row>, DataError> {
        if self.label.is_some() {
            return Err(self.bad(
                "a .txt file holds texts alone, and here each needs a label: give a file with named columns \
                 (.csv, .tsv, .jsonl or .parquet)",
            ));
        }
        if self.columns.len() > 1 {
            return Err(self.bad("a .txt file holds no pairs: give a file with named columns"));
        }
        let lines = (1..).zip(self.utf8(bytes)?.lines());
        let texts = lines.filter(|(_, text)| !text.trim().is_empty());
        Ok(texts
            .map(|(line, text)| Row { line, text: Text::from(text.trim()), label: None })
            .collect())
    }

    #[cfg(not(feature = "parquet"))]
    fn parquet(&self, _: &Path) -> Result<Vec<Row>, DataError> {
        Err(self.bad(
            "this program was built without its feature `parquet`: convert the file to .jsonl",
        ))
    }

    fn utf8<'b>(&self, bytes: &'b [u8]) -> Result<&'b str, DataError> {
        std::str::from_utf8(bytes).map_err(|error| {
            let line =
                1 + bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
            self.bad(format!("line {line}: this is no UTF-8 text"))
        })
    }

    /// The columns that are asked for.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(String::as_str).chain(self.label)
    }

    /// Whether a column is that of the labels.
    #[cfg(feature = "parquet")]
    pub(super) fn is_label(&self, column: &str) -> bool {
        self.label == Some(column)
    }

    pub(super) fn no_column(&self, column: &str, names: &[String]) -> DataError {
        let held: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        self.bad(format!("there is no column `{column}`; it has {}", held.join(", ")))
    }

    fn dataset(&self, rows: Vec<Row>, classes: &[String]) -> Result<Dataset, DataError> {
        let label = |row: &Row| {
            let label = row.label.as_deref().unwrap_or_default();
            let class = classes.iter().position(|class| *class == label);
            let stranger = || format!("the training data have no class {label:?}");
            let column = self.label.unwrap_or_default();
            class.map(|class| class as u32).ok_or_else(|| self.cell(row.line, column, stranger()))
        };
        let labels = rows.iter().map(label).collect::<Result<Vec<u32>, _>>()?;
        let texts = Texts::new(rows.into_iter().map(|row| row.text).collect())?;
        Dataset::new(texts, labels, classes.to_vec())
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
        load(&path, &path, &columns, "label")
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
            assert_eq!(train.need_labels().unwrap().ids(), [1, 0], "{name}");
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
            (train.class_names(), train.need_labels().unwrap().ids()),
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
            let texts = read_texts(&path, &columns)?;
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
            read_pairs(&path, &columns, "score")
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
            ("a.pdf", "", "texts are read from .csv, .tsv, .jsonl, .parquet and .txt files"),
            ("a.txt", "\n \n", "it holds no text"),
        ] {
            let error = loaded(name, content, &["text"]).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a.csv", "b.csv"].map(|name| folder.path().join(name));
        std::fs::write(&paths[0], "text,label\na,x\n").unwrap();
        std::fs::write(&paths[1], "text,label\na,x\nb,y\n").unwrap();
        let error = load(&paths[0], &paths[1], &["text".to_owned()], "label").unwrap_err();
        let wanted = "b.csv: line 3, column `label`: the training data have no class \"y\"";
        assert!(error.to_string().ends_with(wanted), "{error}");
    }
}
