//! CSV and TSV files of numbers with a column of labels.

use std::borrow::Cow;
use std::path::Path;

use ::csv::{ReaderBuilder, StringRecord, Trim};

use super::classes::NoClass;
use super::files::{Cell, File, Format};
use super::spec::Column;
use super::targets::{Learnt, Targets};
use super::{DataError, Dataset, Features, LabelKind, Numbers};
use crate::words::counted;

/// The most columns of a table.
const MAX_COLUMNS: usize = 1 << 20;

/// Loads both files, the columns of labels being of this kind; see [`super::text::load`].
pub(super) fn load(
    train: &Path,
    test: &Path,
    labels: &[Column],
    header: bool,
    kind: LabelKind,
) -> Result<(Dataset, Dataset), DataError> {
    let (train, test) = (File::new(train), File::new(test));
    let (train_bytes, test_bytes) = (train.bytes()?, test.bytes()?);
    let train = Sheet::read(train, &train_bytes, labels, header, kind)?;
    let test = Sheet::read(test, &test_bytes, labels, header, kind)?;
    if let Some((a, b)) = train.names.iter().zip(&test.names).find(|(a, b)| a != b) {
        let (train, test) = (format!("`{a}`"), format!("`{b}`"));
        return Err(DataError::Mismatch { what: "in the same place the columns are", train, test });
    }
    let learnt = train.labels.learn().map_err(|problem| train.bad_label(problem))?;
    Ok((train.dataset(&learnt)?, test.dataset(&learnt)?))
}

/// A file's content.
struct Sheet<'a> {
    path: String,
    bytes: &'a [u8],
    /// Names of the features, if there is a header.
    names: Vec<String>,
    features: Vec<f32>,
    width: usize,
    labels: Targets,
    /// The columns of the labels: their numbers, their names, and how an error shows them.
    label_columns: Vec<(usize, String, String)>,
    /// Where each row's line begins in the file, or blank lines before it.
    offsets: Vec<u64>,
}

impl<'a> Sheet<'a> {
    fn read(
        file: File<'_>,
        bytes: &'a [u8],
        labels: &[Column],
        header: bool,
        kind: LabelKind,
    ) -> Result<Self, DataError> {
        let name = file.path.display().to_string();
        let delimiter = match Format::of(file.path) {
            Some(Format::Tsv) => b'\t',
            Some(Format::Json | Format::JsonLines | Format::Parquet) => {
                return Err(file.bad(
                    "tables of numbers are read from .csv and .tsv files, zipped as .gz or not",
                ));
            }
            // Whatever the name.
            Some(Format::Csv | Format::Text) | None => b',',
        };
        let bytes = file.text(bytes)?.as_bytes();
        let broken = |error: ::csv::Error| DataError::File {
            path: name.clone(),
            problem: format!("it cannot be read as CSV: {error}"),
        };
        let mut reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .trim(Trim::All)
            .from_reader(bytes);
        let mut record = StringRecord::new();
        if !reader.read_record(&mut record).map_err(broken)? {
            return Err(DataError::File { path: name, problem: "it is empty".to_owned() });
        }
        let names: Vec<String> = match header {
            true => record.iter().map(str::to_owned).collect(),
            false => Vec::new(),
        };
        let columns = record.len();
        if columns > MAX_COLUMNS {
            let problem = format!("it has {columns} columns, and at most {MAX_COLUMNS} are read");
            return Err(DataError::File { path: name, problem });
        }
        let label_columns = label_columns(&name, labels, &names, columns)?;
        let mut sheet = Self {
            path: name.clone(),
            bytes,
            features: Vec::new(),
            width: columns - label_columns.len(),
            labels: Targets::new(kind, label_columns.len()).map_err(|problem| file.bad(problem))?,
            label_columns,
            offsets: Vec::new(),
            names,
        };
        let mut more = !header || reader.read_record(&mut record).map_err(broken)?;
        while more {
            sheet.add(&record)?;
            more = reader.read_record(&mut record).map_err(broken)?;
        }
        if sheet.offsets.is_empty() {
            let problem = "it holds no example, only a header".to_owned();
            return Err(DataError::File { path: name, problem });
        }
        let is_label = |index: usize| sheet.label_columns.iter().any(|(label, ..)| *label == index);
        let features = std::mem::take(&mut sheet.names).into_iter().enumerate();
        sheet.names =
            features.filter(|(index, _)| !is_label(*index)).map(|(_, name)| name).collect();
        Ok(sheet)
    }

    fn add(&mut self, record: &StringRecord) -> Result<(), DataError> {
        let offset = record.position().map_or(0, |position| position.byte());
        let columns = self.width + self.label_columns.len();
        if record.len() != columns {
            return Err(DataError::File {
                path: self.path.clone(),
                problem: format!(
                    "line {} has {}, and the first line has {columns}",
                    self.line(offset),
                    counted(record.len(), "column")
                ),
            });
        }
        for (index, cell) in record.iter().enumerate() {
            if self.label_columns.iter().any(|(label, ..)| *label == index) {
                continue;
            }
            let problem = match cell.parse::<f32>() {
                Ok(value) if value.is_finite() => {
                    self.features.push(value);
                    continue;
                }
                Ok(_) => format!("{cell:?} is not a finite f32"),
                Err(_) if cell.is_empty() => "it is empty".to_owned(),
                Err(_) => format!("{cell:?} is not a number"),
            };
            let (line, column) = (self.line(offset), column(index, &self.names));
            return Err(DataError::Cell { path: self.path.clone(), line, column, problem });
        }
        let cell =
            |(column, ..): &(usize, String, String)| Cell::Text(Cow::Borrowed(&record[*column]));
        let cells: Vec<Cell<'_>> = self.label_columns.iter().map(cell).collect();
        let taken = self.labels.push(&cells);
        taken.map_err(|(label, problem)| self.bad_cell(label, offset, problem))?;
        self.offsets.push(offset);
        Ok(())
    }

    /// The number of the line, from 1, of a record that begins at or after `offset`: blank lines before it
    /// are passed over.
    fn line(&self, offset: u64) -> u64 {
        let (before, after) = self.bytes.split_at((offset as usize).min(self.bytes.len()));
        let blank = after.iter().take_while(|byte| byte.is_ascii_whitespace());
        let ends = before.iter().chain(blank).filter(|byte| **byte == b'\n');
        ends.count() as u64 + 1
    }

    fn bad_cell(&self, label: usize, offset: u64, problem: String) -> DataError {
        let (path, line) = (self.path.clone(), self.line(offset));
        DataError::Cell { path, line, column: self.label_columns[label].2.clone(), problem }
    }

    fn bad_label(&self, NoClass { row, problem }: NoClass) -> DataError {
        self.bad_cell(0, self.offsets[row], problem)
    }

    fn dataset(self, learnt: &Learnt) -> Result<Dataset, DataError> {
        let names: Vec<String> = self.label_columns.iter().map(|column| column.1.clone()).collect();
        let labels = self.labels.labels(learnt, &names);
        let labels = labels.map_err(|problem| self.bad_label(problem))?;
        let examples = Numbers::new(Features::F32(self.features), vec![self.width])?;
        Dataset::labelled(examples, labels)
    }
}

/// The labels' columns: the number of each, its name, and how an error shows it.
fn label_columns(
    path: &str,
    labels: &[Column],
    names: &[String],
    columns: usize,
) -> Result<Vec<(usize, String, String)>, DataError> {
    let mut found: Vec<(usize, String, String)> = Vec::new();
    for label in labels {
        let index = label_index(path, label, names, columns)?;
        let shown = column(index, names);
        if found.iter().any(|(known, ..)| *known == index) {
            let problem = format!("`data.label` names column {shown} twice: name each once");
            return Err(DataError::File { path: path.to_owned(), problem });
        }
        let name = names.get(index).cloned().unwrap_or_else(|| index.to_string());
        found.push((index, name, shown));
    }
    if columns <= found.len() {
        let problem = match found.len() {
            1 => "it has one column, the labels: there are no features".to_owned(),
            count => format!("it has {count} columns, all of labels: there are no features"),
        };
        return Err(DataError::File { path: path.to_owned(), problem });
    }
    Ok(found)
}

/// The number of a label's column.
fn label_index(
    path: &str,
    label: &Column,
    names: &[String],
    columns: usize,
) -> Result<usize, DataError> {
    let bad = |problem| Err(DataError::File { path: path.to_owned(), problem });
    match label {
        Column::Index(index) if *index < columns => Ok(*index),
        Column::Index(index) => {
            bad(format!("there is no column {index}: it has {columns}, counted from 0"))
        }
        Column::Name(label) => match names.iter().position(|name| name == label) {
            Some(index) => Ok(index),
            None => {
                let shown = names.iter().take(8).map(|name| format!("`{name}`"));
                let more = if names.len() > 8 { ", …" } else { "" };
                bad(format!(
                    "no column is named `{label}`; its first line is {}{more}. Set `label` to a \
                     column's name or number, and `header = false` if that line is an example",
                    shown.collect::<Vec<_>>().join(", ")
                ))
            }
        },
    }
}

/// A column as an error shows it.
fn column(index: usize, names: &[String]) -> String {
    match names.get(index) {
        Some(name) => format!("{index} (`{name}`)"),
        None => index.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        train: &str,
        test: &str,
        label: Column,
        header: bool,
    ) -> Result<(Dataset, Dataset), DataError> {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("train.csv"), folder.path().join("test.csv"));
        std::fs::write(&a, train).unwrap();
        std::fs::write(&b, test).unwrap();
        load(&a, &b, &[label], header, LabelKind::Class)
    }

    fn named(train: &str, test: &str) -> Result<(Dataset, Dataset), DataError> {
        read(train, test, Column::Name("label".to_owned()), true)
    }

    fn ids(data: &Dataset) -> &[u32] {
        data.need_classes().unwrap().ids()
    }

    #[track_caller]
    fn refused(result: Result<(Dataset, Dataset), DataError>, end: &str) {
        let message = result.unwrap_err().to_string();
        assert!(message.ends_with(end), "{message:?} does not end with {end:?}");
    }

    #[test]
    fn reads_numbered_classes() {
        let (train, test) =
            named("\u{feff}a,label,b\r\n1,0,2.5\n-3e1, 2 ,4\n", "a,label,b\n5,2,6\n").unwrap();
        assert_eq!(train.numbers().unwrap().features(), &Features::F32(vec![1.0, 2.5, -30.0, 4.0]));
        assert_eq!(
            (ids(&train), train.classes(), train.numbers().unwrap().shape()),
            (&[0, 1][..], 2, &[2][..])
        );
        assert_eq!(
            (train.class_names(), ids(&test)),
            (&["0", "2"].map(String::from)[..], &[1][..])
        );
    }

    #[test]
    fn reads_named_classes_with_the_training_datas_numbers() {
        let (train, test) =
            read("cat,1\nant,2\ncat,3\n", "cat,4\n", Column::Index(0), false).unwrap();
        assert_eq!(train.class_names(), ["ant", "cat"]);
        assert_eq!((ids(&train), ids(&test)), (&[1, 0, 1][..], &[1][..]));
        assert_eq!(test.class_names(), train.class_names());
        let (signs, _) = read("1,-1\n2,1\n", "4,-1\n", Column::Index(1), false).unwrap();
        assert_eq!(
            (signs.class_names(), ids(&signs)),
            (&["-1", "1"].map(String::from)[..], &[0, 1][..])
        );
    }

    #[test]
    fn reads_numbers_and_flags_of_several_columns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let read = |content: &str, labels: &[&str], kind| {
            std::fs::write(&path, content).unwrap();
            let labels: Vec<Column> =
                labels.iter().map(|&label| Column::Name(label.to_owned())).collect();
            load(&path, &path, &labels, true, kind).map(|(train, _)| train)
        };
        let content = "y,a,z,b\n0.5,1,1,2\n-2,3,0,4\n";
        let data = read(content, &["z", "y"], LabelKind::Numbers).unwrap();
        let numbers = data.labels().unwrap().numbers().unwrap();
        assert_eq!(numbers.values(), [1.0, 0.5, 0.0, -2.0]);
        assert_eq!(data.outputs(), ["z", "y"]);
        assert_eq!(data.numbers().unwrap().features(), &Features::F32(vec![1.0, 2.0, 3.0, 4.0]));
        let data = read("a,x,y\n7,1,0\n8,true,1\n", &["x", "y"], LabelKind::MultiLabel).unwrap();
        let flags = data.labels().unwrap().numbers().unwrap();
        assert_eq!((flags.values(), flags.are_flags()), (&[1.0, 0.0, 1.0, 1.0][..], true));
        let data = read("a,x\n7,p;q\n8,\n", &["x"], LabelKind::MultiLabel).unwrap();
        let flags = data.labels().unwrap().numbers().unwrap();
        assert_eq!((flags.values(), data.outputs().len()), (&[1.0, 1.0, 0.0, 0.0][..], 2));
        for (labels, kind, problem) in [
            (
                &["y", "a"][..],
                LabelKind::MultiLabel,
                "line 2, column 0 (`y`): \"0.5\" does not say",
            ),
            (&["y", "y"], LabelKind::Numbers, "`data.label` names column 0 (`y`) twice"),
            (&["y", "a", "z", "b"], LabelKind::Numbers, "it has 4 columns, all of labels"),
            (&["y", "z"], LabelKind::Class, "`data.label` names 2 columns: name one"),
            (&["w"], LabelKind::Numbers, "no column is named `w`"),
        ] {
            let error = read(content, labels, kind).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn names_the_cell() {
        let good = "a,label\n1,0\n";
        refused(
            named("a,label\n1,0\n\nx,1\n", good),
            "train.csv: line 4, column 0 (`a`): \"x\" is not a number",
        );
        refused(
            named("\n\na,label\r\n\r\n1,0\r\n\r\n\r\n1,0.25", good),
            "train.csv: line 8, column 1 (`label`): 0.25 is a number and not a class, and classes are what is learnt \
             here: round the labels to a few whole numbers, or name another column as the label's",
        );
        refused(
            named(good, "a,label\nNaN,0\n"),
            "test.csv: line 2, column 0 (`a`): \"NaN\" is not a finite f32",
        );
        refused(named("a,label\n1e99,0\n", good), "\"1e99\" is not a finite f32");
        refused(named("a,label\n-inf,0\n", good), "\"-inf\" is not a finite f32");
        refused(named("a,label\n,0\n", good), "line 2, column 0 (`a`): it is empty");
        refused(named("a,label\n1,\n", good), "line 2, column 1 (`label`): the label is empty");
        refused(
            read("0,1\n1,x\n", "0,1\n", Column::Index(0), false),
            "train.csv: line 2, column 1: \"x\" is not a number",
        );
        refused(
            named("a,label\n1,0\n1,2,3\n", good),
            "train.csv: line 3 has 3 columns, and the first line has 2",
        );
        refused(named("a,label\n1\n", good), "line 2 has 1 column, and the first line has 2");
    }

    #[test]
    fn names_the_label() {
        let numbers = "a,label\n1,0\n";
        refused(
            named(numbers, "a,label\n1,cat\n"),
            "line 2, column 1 (`label`): the training data have no class \"cat\"; they have `0`",
        );
        refused(
            named("a,label\n1,cat\n", "a,label\n1,dog\n"),
            "test.csv: line 2, column 1 (`label`): the training data have no class \"dog\"; they have `cat`",
        );
        let far = named("a,label\n1,4000000000\n", "a,label\n1,4000000000\n").unwrap().0;
        assert_eq!((far.class_names(), ids(&far)), (&["4000000000".to_owned()][..], &[0][..]));
    }

    #[test]
    fn names_the_column() {
        refused(
            named("5.1,3\n4.9,1\n", "5.1,3\n"),
            "no column is named `label`; its first line is `5.1`, `3`. Set `label` to a column's name or \
             number, and `header = false` if that line is an example",
        );
        refused(
            read("1,2\n", "1,2\n", Column::Index(2), false),
            "there is no column 2: it has 2, counted from 0",
        );
        refused(
            named("a,b,label\n1,2,0\n", "b,a,label\n1,2,0\n"),
            "in the same place the columns are `a` in training, `b` in test",
        );
    }

    #[test]
    fn refuses_files_without_examples() {
        refused(named("", "label,a\n"), "train.csv: it is empty");
        refused(named("label,a\n", ""), "train.csv: it holds no example, only a header");
        refused(
            named("label\n1\n", ""),
            "train.csv: it has one column, the labels: there are no features",
        );
        let nowhere = load(
            Path::new("/none.csv"),
            Path::new("/none.csv"),
            &[Column::Index(0)],
            true,
            LabelKind::Class,
        );
        assert!(nowhere.unwrap_err().to_string().starts_with("/none.csv: cannot be read"));
    }
}
