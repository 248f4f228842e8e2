//! CSV and TSV files of numbers with a column of labels.

use std::path::Path;

use ::csv::{ReaderBuilder, StringRecord, Trim};

use super::classes::{Classes, NoClass};
use super::files::{File, Format};
use super::{DataError, Dataset, Features, Numbers};
use crate::recipe::Column;
use crate::words::counted;

/// The most columns of a table.
const MAX_COLUMNS: usize = 1 << 20;

/// Loads both files. The classes are the training data's labels: in order of number if all are whole numbers, else
/// sorted.
pub(super) fn load(
    train: &Path,
    test: &Path,
    label: &Column,
    header: bool,
) -> Result<(Dataset, Dataset), DataError> {
    let (train, test) = (File::new(train), File::new(test));
    let (train_bytes, test_bytes) = (train.bytes()?, test.bytes()?);
    let train = Sheet::read(train, &train_bytes, label, header)?;
    let test = Sheet::read(test, &test_bytes, label, header)?;
    if let Some((a, b)) = train.names.iter().zip(&test.names).find(|(a, b)| a != b) {
        let (train, test) = (format!("`{a}`"), format!("`{b}`"));
        return Err(DataError::Mismatch { what: "in the same place the columns are", train, test });
    }
    let classes = train.classes()?;
    Ok((train.dataset(&classes)?, test.dataset(&classes)?))
}

/// A file's content.
struct Sheet<'a> {
    path: String,
    bytes: &'a [u8],
    /// Names of the features, if there is a header.
    names: Vec<String>,
    features: Vec<f32>,
    width: usize,
    labels: Vec<Label>,
    label_column: String,
}

struct Label {
    text: String,
    /// Where its line begins in the file, or blank lines before it.
    offset: u64,
}

impl<'a> Sheet<'a> {
    fn read(
        file: File<'_>,
        bytes: &'a [u8],
        label: &Column,
        header: bool,
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
        let label = label_index(&name, label, &names, columns)?;
        let mut sheet = Self {
            path: name.clone(),
            bytes,
            label_column: column(label, &names),
            features: Vec::new(),
            width: columns - 1,
            labels: Vec::new(),
            names,
        };
        let mut more = !header || reader.read_record(&mut record).map_err(broken)?;
        while more {
            sheet.add(&record, label)?;
            more = reader.read_record(&mut record).map_err(broken)?;
        }
        if sheet.labels.is_empty() {
            let problem = "it holds no example, only a header".to_owned();
            return Err(DataError::File { path: name, problem });
        }
        if header {
            sheet.names.remove(label);
        }
        Ok(sheet)
    }

    fn add(&mut self, record: &StringRecord, label: usize) -> Result<(), DataError> {
        let offset = record.position().map_or(0, |position| position.byte());
        let columns = self.width + 1;
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
            if index == label && !cell.is_empty() {
                self.labels.push(Label { text: cell.to_owned(), offset });
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

    /// The classes that the labels make, these being the training data's.
    fn classes(&self) -> Result<Classes, DataError> {
        let labels = self.labels.iter().map(|label| &*label.text);
        Classes::of(labels)
            .map_err(|NoClass { row, problem }| self.bad_label(&self.labels[row], problem))
    }

    fn bad_label(&self, label: &Label, problem: String) -> DataError {
        DataError::Cell {
            path: self.path.clone(),
            line: self.line(label.offset),
            column: self.label_column.clone(),
            problem,
        }
    }

    fn dataset(self, classes: &Classes) -> Result<Dataset, DataError> {
        let label = |label: &Label| {
            classes.id(&label.text).map_err(|problem| self.bad_label(label, problem))
        };
        let labels = self.labels.iter().map(label).collect::<Result<Vec<u32>, _>>()?;
        let examples = Numbers::new(Features::F32(self.features), vec![self.width])?;
        Dataset::new(examples, labels, classes.names().to_vec())
    }
}

/// The number of the label's column.
fn label_index(
    path: &str,
    label: &Column,
    names: &[String],
    columns: usize,
) -> Result<usize, DataError> {
    let bad = |problem| Err(DataError::File { path: path.to_owned(), problem });
    let index = match label {
        Column::Index(index) if *index < columns => *index,
        Column::Index(index) => {
            return bad(format!("there is no column {index}: it has {columns}, counted from 0"));
        }
        Column::Name(label) => match names.iter().position(|name| name == label) {
            Some(index) => index,
            None => {
                let shown = names.iter().take(8).map(|name| format!("`{name}`"));
                let more = if names.len() > 8 { ", …" } else { "" };
                return bad(format!(
                    "no column is named `{label}`; its first line is {}{more}. Set `label` to a \
                     column's name or number, and `header = false` if that line is an example",
                    shown.collect::<Vec<_>>().join(", ")
                ));
            }
        },
    };
    if columns < 2 {
        return bad("it has one column, the labels: there are no features".to_owned());
    }
    Ok(index)
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
        load(&a, &b, &label, header)
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
        refused(named("a,label\n1,\n", good), "line 2, column 1 (`label`): it is empty");
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
        let nowhere = load(Path::new("/none.csv"), Path::new("/none.csv"), &Column::Index(0), true);
        assert!(nowhere.unwrap_err().to_string().starts_with("/none.csv: cannot be read"));
    }
}
