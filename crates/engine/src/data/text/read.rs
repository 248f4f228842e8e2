//! Files of labelled texts: CSV, TSV and JSON lines with named columns; plain files of texts alone, one a line.

use std::path::Path;

use super::{Text, Texts};
use crate::data::{DataError, Dataset};

/// One labelled text of a file.
struct Row {
    line: u64,
    text: Text,
    label: String,
}

/// A file being read.
struct File<'a> {
    path: String,
    /// Columns of the text, one or two.
    columns: &'a [String],
    label: &'a str,
}

/// Loads both files; a text is one column or two, or a line of a .txt file, which has no label. The classes are the training data's labels: in order of
/// number if all are whole numbers, else sorted.
///
/// # Errors
/// [`DataError`], naming the file, the line and the column.
pub fn load(
    train: &Path,
    test: &Path,
    columns: &[String],
    label: &str,
) -> Result<(Dataset, Dataset), DataError> {
    let file = |path: &Path| File { path: path.display().to_string(), columns, label };
    if [train, test].iter().all(|path| path.extension().is_some_and(|e| e == "txt")) {
        return Ok((file(train).plain(train)?, file(test).plain(test)?));
    }
    let (train, train_rows) = (file(train), file(train).read(train)?);
    let (test, test_rows) = (file(test), file(test).read(test)?);
    let mut classes: Vec<String> = train_rows.iter().map(|row| row.label.clone()).collect();
    classes.sort_unstable();
    classes.dedup();
    if classes.iter().all(|class| class.parse::<i64>().is_ok()) {
        classes.sort_by_key(|class| class.parse::<i64>().unwrap_or_default());
    }
    Ok((train.dataset(train_rows, &classes)?, test.dataset(test_rows, &classes)?))
}

impl File<'_> {
    fn bad(&self, problem: impl Into<String>) -> DataError {
        DataError::File { path: self.path.clone(), problem: problem.into() }
    }

    fn cell(&self, line: u64, column: &str, problem: impl Into<String>) -> DataError {
        let (path, column, problem) = (self.path.clone(), format!("`{column}`"), problem.into());
        DataError::Cell { path, line, column, problem }
    }

    fn bytes(&self, path: &Path) -> Result<Vec<u8>, DataError> {
        std::fs::read(path).map_err(|source| DataError::Read { path: self.path.clone(), source })
    }

    /// The lines that are not empty, each a text.
    fn plain(&self, path: &Path) -> Result<Dataset, DataError> {
        let text = String::from_utf8(self.bytes(path)?)
            .map_err(|error| self.bad(format!("it is no UTF-8 text: {error}")))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let texts = lines.map(|line| Text { first: line.to_owned(), second: None }).collect();
        let texts = Texts::new(texts).map_err(|_| self.bad("it holds no text"))?;
        Ok(Dataset::unlabelled(texts))
    }

    fn read(&self, path: &Path) -> Result<Vec<Row>, DataError> {
        let bytes = self.bytes(path)?;
        let extension = path.extension().and_then(|extension| extension.to_str());
        let rows = match extension {
            Some("csv") => self.table(&bytes, b','),
            Some("tsv") => self.table(&bytes, b'\t'),
            Some("jsonl") => self.json_lines(&bytes),
            _ => Err(self.bad("texts are read from .csv, .tsv and .jsonl files, and without labels from two .txt files")),
        }?;
        if rows.is_empty() {
            return Err(self.bad("it holds no text"));
        }
        Ok(rows)
    }

    /// A row's texts and label, of its cells by column.
    fn row(
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
        let label = cell(self.label)?.trim().to_owned();
        if label.is_empty() {
            return Err(self.cell(line, self.label, "the label is empty"));
        }
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
        let place = |column: &String| {
            let found = names.iter().position(|name| name == column);
            found.ok_or_else(|| self.no_column(column, &names))
        };
        for column in self.columns {
            place(column)?;
        }
        place(&self.label.to_owned())?;
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(broken)?;
            let line = record.position().map_or(0, ::csv::Position::line);
            let cell = |column: &str| {
                let index = place(&column.to_owned())?;
                Ok(record.get(index).unwrap_or_default().to_owned())
            };
            rows.push(self.row(line, &cell)?);
        }
        Ok(rows)
    }

    fn json_lines(&self, bytes: &[u8]) -> Result<Vec<Row>, DataError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|error| self.bad(format!("it is no UTF-8 text: {error}")))?;
        let mut rows = Vec::new();
        for (line, json) in (1..).zip(text.lines()).filter(|(_, json)| !json.trim().is_empty()) {
            let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json)
                .map_err(|error| self.bad(format!("line {line} is no JSON object: {error}")))?;
            let cell = |column: &str| match object.get(column) {
                Some(serde_json::Value::String(text)) => Ok(text.clone()),
                Some(value @ (serde_json::Value::Number(_) | serde_json::Value::Bool(_)))
                    if column == self.label =>
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

    fn no_column(&self, column: &str, names: &[String]) -> DataError {
        let held: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        self.bad(format!("there is no column `{column}`; it has {}", held.join(", ")))
    }

    fn dataset(&self, rows: Vec<Row>, classes: &[String]) -> Result<Dataset, DataError> {
        let label = |row: &Row| {
            let class = classes.iter().position(|class| *class == row.label);
            let stranger = || format!("the training data have no class {:?}", row.label);
            class
                .map(|class| class as i32)
                .ok_or_else(|| self.cell(row.line, self.label, stranger()))
        };
        let labels = rows.iter().map(label).collect::<Result<Vec<i32>, _>>()?;
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
            assert_eq!(train.labels(), [1, 0], "{name}");
            let texts = train.examples().texts().unwrap();
            assert_eq!(texts.all()[0].first, "good, \"really\"", "{name}");
            assert!(!texts.are_pairs());
        }
    }

    #[test]
    fn plain_texts_have_no_labels() {
        let (train, _) = loaded("a.txt", "one\r\n\n  two, 3 \n", &["text"]).unwrap();
        assert_eq!((train.labels(), train.classes()), (&[-100, -100][..], 0));
        let texts = train.examples().texts().unwrap().all();
        assert_eq!([&*texts[0].first, &*texts[1].first], ["one", "two, 3"]);
    }

    #[test]
    fn reads_pairs_and_numbered_classes() {
        let content = "a,b,label\nx,y,10\nx,z,9\n";
        let (train, _) = loaded("a.csv", content, &["a", "b"]).unwrap();
        assert_eq!(
            (train.class_names(), train.labels()),
            (&["9".to_owned(), "10".to_owned()][..], &[1, 0][..])
        );
        assert_eq!(train.examples().texts().unwrap().all()[1].to_string(), "x | z");
        let (train, _) = loaded("a.jsonl", "{\"a\": \"x\", \"label\": true}", &["a"]).unwrap();
        assert_eq!(train.class_names(), ["true"]);
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
            ("a.pdf", "", "texts are read from .csv, .tsv and .jsonl files"),
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
