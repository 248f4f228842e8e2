//! Labels of rows as they stand in a file's cells, and what they become.

use std::collections::HashSet;

use super::classes::{Classes, NoClass};
use super::files::Cell;
use super::{ClassLabels, LabelKind, Labels, NumberLabels};
use crate::memory;

/// What may part several labels in one cell.
const SEPARATORS: [char; 3] = [',', ';', '|'];

/// How the labels of a row stand in its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A class, in one column.
    Class,
    /// Numbers, a column each.
    Numbers,
    /// Flags, a column for each label.
    Flags,
    /// The names or numbers of labels, in one column: as a list (of JSON or Parquet), or parted by one character.
    Several,
}

/// Several labels in one cell.
#[derive(Clone, Debug)]
enum Said {
    /// Parted by a character, if there are several.
    Text(String),
    List(Vec<String>),
}

/// The labels of a file's rows, as they stand there.
#[derive(Clone, Debug)]
pub(super) struct Targets {
    form: Form,
    classes: Vec<String>,
    /// [rows, columns]
    values: Vec<f64>,
    several: Vec<Said>,
    /// Rows whose file or record lacks the column.
    absent: usize,
    rows: usize,
}

/// What labels are called, as the training data have it.
#[derive(Debug)]
pub(super) struct Learnt {
    /// Of classes and several labels.
    classes: Option<Classes>,
    separator: Option<char>,
}

impl Targets {
    /// Of no rows yet, for labels of this kind in so many columns.
    ///
    /// # Errors
    /// What is wrong with so many columns.
    pub fn new(kind: LabelKind, columns: usize) -> Result<Self, String> {
        let form = match (kind, columns) {
            (LabelKind::Numbers, 1..) => Form::Numbers,
            (LabelKind::MultiLabel, 1) => Form::Several,
            (LabelKind::MultiLabel, 2..) => Form::Flags,
            (LabelKind::Class | LabelKind::ClassIfAny | LabelKind::None, 1) => Form::Class,
            (_, count) => {
                return Err(format!(
                    "labels are one class for each example here, and `data.label` names {count} columns: name one, or \
                     set `task` to \"multi-label\" or \"regression\""
                ));
            }
        };
        let (classes, values, several) = Default::default();
        Ok(Self { form, classes, values, several, absent: 0, rows: 0 })
    }

    /// Adds a row's cells, one of each column, and says about how many bytes they take.
    ///
    /// # Errors
    /// The number of the column whose cell is wrong, and what is wrong with it.
    pub fn push(&mut self, cells: &[Cell<'_>]) -> Result<usize, (usize, String)> {
        let first = |problem| (0, problem);
        if cells.first() == Some(&Cell::Absent) {
            if self.absent < self.rows {
                return Err((
                    0,
                    "there is no such column here, and rows before have one".to_owned(),
                ));
            }
            (self.absent, self.rows) = (self.absent + 1, self.rows + 1);
            return Ok(0);
        }
        if self.absent > 0 {
            return Err((0, "there is such a column here, and rows before have none".to_owned()));
        }
        self.rows += 1;
        match self.form {
            Form::Class => {
                let class = class(&cells[0]).map_err(first)?;
                let bytes = class.len() + size_of::<String>();
                self.classes.push(class);
                return Ok(bytes);
            }
            Form::Several => {
                let said = several(&cells[0]).map_err(first)?;
                let bytes = match &said {
                    Said::Text(text) => text.len(),
                    Said::List(names) => {
                        names.iter().map(|name| name.len() + size_of::<String>()).sum()
                    }
                };
                self.several.push(said);
                return Ok(bytes + size_of::<Said>());
            }
            Form::Numbers | Form::Flags => {}
        }
        for (column, cell) in cells.iter().enumerate() {
            let value = if self.form == Form::Flags { flag(cell) } else { number(cell) };
            self.values.push(value.map_err(|problem| (column, problem))?);
        }
        Ok(size_of_val(cells))
    }

    /// Whether the file has no labels.
    pub fn are_absent(&self) -> bool {
        self.absent > 0
    }

    /// The numbers as they stand there, [rows, columns].
    pub fn into_values(self) -> Vec<f64> {
        self.values
    }

    /// What the labels are called, these being the training data's.
    ///
    /// # Errors
    /// The first row whose labels cannot be learnt.
    pub fn learn(&self) -> Result<Learnt, NoClass> {
        match self.form {
            Form::Class => {
                let classes = Classes::of(self.classes.iter().map(String::as_str))?;
                Ok(Learnt { classes: Some(classes), separator: None })
            }
            Form::Several => self.learn_several(),
            Form::Numbers | Form::Flags => Ok(Learnt { classes: None, separator: None }),
        }
    }

    fn learn_several(&self) -> Result<Learnt, NoClass> {
        let mut separator = None;
        for (row, said) in self.several.iter().enumerate() {
            let Said::Text(text) = said else { continue };
            for found in SEPARATORS.into_iter().filter(|&separator| text.contains(separator)) {
                let known = *separator.get_or_insert(found);
                if known != found {
                    let problem = format!(
                        "{text:?} has `{found}`, and `{known}` parts labels too: part all by the same one, or give \
                         JSON arrays of names"
                    );
                    return Err(NoClass { row, problem });
                }
            }
        }
        let names: Vec<Vec<&str>> = self.several.iter().map(|said| said.names(separator)).collect();
        let is_list = |said: &Said| matches!(said, Said::List(_));
        let lists = separator.is_some() || self.several.iter().any(is_list);
        if !lists && names.iter().flatten().all(|name| ["0", "1"].contains(name)) {
            let problem = "one column of 0 and 1 could be flags of one label or numbers of labels: set `task` to \
                           \"classification\", name a column for each label in `data.label`, or give JSON arrays of names"
                .to_owned();
            return Err(NoClass { row: 0, problem });
        }
        // Rows of names in one list, and which row each is of.
        let rows = names.iter().enumerate().flat_map(|(row, names)| vec![row; names.len()]);
        let rows: Vec<usize> = rows.collect();
        let classes = Classes::of(names.iter().flatten().copied())
            .map_err(|NoClass { row, problem }| NoClass { row: rows[row], problem })?;
        Ok(Learnt { classes: Some(classes), separator })
    }

    /// The labels, the columns having these names.
    ///
    /// # Errors
    /// The first row whose labels are none that were learnt, or that cannot be used.
    pub fn labels(&self, learnt: &Learnt, columns: &[String]) -> Result<Labels, NoClass> {
        let at = |row| move |problem: String| NoClass { row, problem };
        let of_all = |error: super::DataError| NoClass { row: 0, problem: error.to_string() };
        match (self.form, &learnt.classes) {
            (Form::Class, Some(classes)) => {
                let id = |(row, label): (usize, &String)| classes.id(label).map_err(at(row));
                let ids = self.classes.iter().enumerate().map(id).collect::<Result<_, _>>()?;
                let labels = ClassLabels::new(ids, classes.names().to_vec()).map_err(of_all)?;
                Ok(labels.into())
            }
            (Form::Several, Some(classes)) => {
                let (names, rows) = (classes.names().to_vec(), self.several.len());
                let values = check_room(rows, names.len()).map_err(at(0))?;
                let mut flags = vec![0.0; values];
                for (row, said) in self.several.iter().enumerate() {
                    for name in said.names(learnt.separator) {
                        let id = classes.id(name).map_err(at(row))? as usize;
                        flags[row * names.len() + id] = 1.0;
                    }
                }
                Ok(NumberLabels::flags(flags, names).map_err(of_all)?.into())
            }
            (Form::Flags, _) => {
                let flags = self.values.iter().map(|&flag| flag as f32).collect();
                Ok(NumberLabels::flags(flags, columns.to_vec()).map_err(of_all)?.into())
            }
            _ => {
                let values = self.values.iter().map(|&value| value as f32).collect();
                Ok(NumberLabels::new(values, columns.to_vec()).map_err(of_all)?.into())
            }
        }
    }
}

impl Said {
    fn names(&self, separator: Option<char>) -> Vec<&str> {
        match (self, separator) {
            (Self::List(names), _) => names.iter().map(String::as_str).collect(),
            (Self::Text(text), Some(separator)) => {
                text.split(separator).map(str::trim).filter(|name| !name.is_empty()).collect()
            }
            (Self::Text(text), None) => [&**text].into_iter().filter(|t| !t.is_empty()).collect(),
        }
    }
}

/// How many flags so many rows have, if there is room for them.
fn check_room(rows: usize, labels: usize) -> Result<usize, String> {
    if labels == 0 {
        return Err("no row of the training data has a label: name another column as the label's"
            .to_owned());
    }
    let values = rows.saturating_mul(labels);
    let room = memory::available().map_or(u64::MAX, |available| available / 2);
    // Twice: while training and test data are put together.
    if (values as u64).saturating_mul(8) > room {
        return Err(format!(
            "{rows} rows with {labels} labels each are more than half of the memory that is left: name a column of \
             fewer labels"
        ));
    }
    Ok(values)
}

/// A cell as a class's name.
fn class(cell: &Cell<'_>) -> Result<String, String> {
    match cell {
        Cell::Text(text) if text.trim().is_empty() => Err("the label is empty".to_owned()),
        Cell::Missing | Cell::Absent => Err("there is nothing".to_owned()),
        Cell::Text(text) => Ok(text.trim().to_owned()),
        Cell::Whole(_) | Cell::Flag(_) => Ok(cell.to_string()),
        // With its point, even where it is whole.
        Cell::Real(number) => Ok(format!("{number:?}")),
        Cell::List(_) => Err(format!(
            "{cell} is a list, and one class is learnt here: set `task` to \"multi-label\" if several labels may apply"
        )),
        Cell::Record(_) | Cell::Other(_) => Err(format!("{cell} is no label")),
    }
}

/// A cell as a number that is finite, in f32 too.
pub(super) fn number(cell: &Cell<'_>) -> Result<f64, String> {
    let number = match cell {
        Cell::Text(text) if text.trim().is_empty() => return Err("it is empty".to_owned()),
        Cell::Missing | Cell::Absent => return Err("there is nothing".to_owned()),
        Cell::Text(text) => text.trim().parse().ok(),
        Cell::Whole(number) => Some(*number as f64),
        Cell::Real(number) => Some(*number),
        _ => None,
    };
    let number = number.ok_or_else(|| format!("{cell} is no number"))?;
    match (number as f32).is_finite() {
        true => Ok(number),
        false => Err(format!("{cell} is no number that is finite in f32")),
    }
}

/// A cell as a flag, 1 or 0.
fn flag(cell: &Cell<'_>) -> Result<f64, String> {
    let flag = match cell {
        Cell::Flag(flag) => Some(*flag),
        Cell::Whole(number) => {
            [(0, false), (1, true)].iter().find(|(n, _)| n == number).map(|f| f.1)
        }
        Cell::Real(number) if *number == 0.0 => Some(false),
        Cell::Real(number) if *number == 1.0 => Some(true),
        Cell::Text(text) => match &*text.trim().to_ascii_lowercase() {
            "0" | "0.0" | "false" => Some(false),
            "1" | "1.0" | "true" => Some(true),
            _ => None,
        },
        _ => None,
    };
    let flag = flag.ok_or_else(|| {
        format!("{cell} does not say whether the label applies: 0, 1, true or false was expected")
    })?;
    Ok(f64::from(u8::from(flag)))
}

/// A cell as several labels.
fn several(cell: &Cell<'_>) -> Result<Said, String> {
    match cell {
        Cell::Missing | Cell::Absent => {
            Err("there is nothing: write an empty list, [], where no label applies".to_owned())
        }
        Cell::Whole(number) => Ok(Said::Text(number.to_string())),
        Cell::Text(_) | Cell::List(_) => match list(cell)? {
            Some(names) => {
                let mut seen = HashSet::new();
                match names.iter().find(|name| !seen.insert(name.as_str())) {
                    Some(twice) => Err(format!(
                        "the label {twice:?} stands there twice: give the names or numbers of those that apply, or a \
                         column of flags for each"
                    )),
                    None => Ok(Said::List(names)),
                }
            }
            None => Ok(Said::Text(cell_text(cell).trim().to_owned())),
        },
        other => Err(format!(
            "{other} is no list of labels: give names in a JSON array, or parted by `,`, `;` or `|`"
        )),
    }
}

fn cell_text<'a>(cell: &'a Cell<'_>) -> &'a str {
    match cell {
        Cell::Text(text) => text,
        _ => "",
    }
}

/// A cell as a list of names or numbers, if it is one: a list, or the text of a JSON array.
///
/// # Errors
/// What is wrong with it.
pub(super) fn list(cell: &Cell<'_>) -> Result<Option<Vec<String>>, String> {
    let item = |cell: &Cell<'_>| match cell {
        Cell::Text(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Cell::Whole(_) => Ok(cell.to_string()),
        other => Err(format!("{other} is neither a name nor a whole number")),
    };
    match cell {
        Cell::List(cells) => cells.iter().map(item).collect::<Result<_, _>>().map(Some),
        Cell::Text(text) if text.trim_start().starts_with('[') => {
            let array: serde_json::Value = serde_json::from_str(text)
                .map_err(|error| format!("{cell} is no JSON array: {error}"))?;
            let cells = Cell::of_json(&array);
            match cells {
                Cell::List(_) => list(&cells),
                _ => Err(format!("{cell} is no JSON array")),
            }
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::text::{Columns, Loaded, load};
    use crate::{DataError, Dataset};

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// The training and the test data of two files of this name.
    fn loaded(
        name: &str,
        [train, test]: [&str; 2],
        kind: LabelKind,
        labels: &[&str],
    ) -> Result<(Dataset, Dataset), DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = |part: &str, content: &str| {
            let path = folder.path().join(format!("{part}-{name}"));
            std::fs::write(&path, content).unwrap();
            path
        };
        let (train, test) = (path("train", train), path("test", test));
        let (text, label) = (strings(&["text"]), strings(labels));
        let columns = Columns { text: &text, label: &label, skip_empty: false };
        let Loaded { train, test, .. } = load(&train, &test, columns, kind)?;
        Ok((train, test))
    }

    fn several(name: &str, content: &str, labels: &[&str]) -> Result<NumberLabels, DataError> {
        let (train, _) = loaded(name, [content; 2], LabelKind::MultiLabel, labels)?;
        Ok(train.labels().unwrap().numbers().unwrap().clone())
    }

    #[track_caller]
    fn refused<T: std::fmt::Debug>(result: Result<T, DataError>, part: &str) {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn numbers_are_read_of_one_column_or_several() {
        let read = |name: &str, content: &str, labels: &[&str]| {
            let (train, test) = loaded(name, [content; 2], LabelKind::Numbers, labels)?;
            assert_eq!(train, test);
            Ok::<_, DataError>(train.labels().unwrap().numbers().unwrap().clone())
        };
        let one = read("a.csv", "text,label\na,1.5\nb,-2\n", &["label"]).unwrap();
        assert_eq!((one.values(), one.names()), (&[1.5, -2.0][..], &strings(&["label"])[..]));
        assert!(!one.are_flags());
        let json =
            "{\"text\": \"a\", \"x\": 1, \"y\": 2.5}\n{\"text\": \"b\", \"x\": \"3\", \"y\": 0}";
        let two = read("a.jsonl", json, &["y", "x"]).unwrap();
        assert_eq!(
            (two.values(), two.names()),
            (&[2.5, 1.0, 0.0, 3.0][..], &strings(&["y", "x"])[..])
        );
        for (cell, problem) in [
            ("good", "line 3, column `label`: \"good\" is no number"),
            ("", "line 3, column `label`: it is empty"),
            ("inf", "is no number that is finite in f32"),
            ("1e39", "is no number that is finite in f32"),
        ] {
            let content = format!("text,label\na,1\nb,{cell}\n");
            refused(read("a.csv", &content, &["label"]), problem);
        }
        refused(
            read("a.jsonl", "{\"text\": \"a\", \"label\": true}", &["label"]),
            "true is no number",
        );
        refused(
            read("a.jsonl", "{\"text\": \"a\", \"label\": null}", &["label"]),
            "there is nothing",
        );
    }

    #[test]
    fn flags_are_a_column_for_each_label() {
        let content = "text,good,bad\na,1,False\nb,0,true\nc,1.0,1\n";
        let flags = several("a.csv", content, &["good", "bad"]).unwrap();
        assert_eq!(flags.values(), [1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        assert_eq!((flags.names(), flags.sums()), (&strings(&["good", "bad"])[..], vec![2.0, 2.0]));
        refused(
            several("a.csv", "text,good,bad\na,1,2\n", &["good", "bad"]),
            "line 2, column `bad`: \"2\" does not say whether the label applies",
        );
        refused(
            several("a.csv", "text,good,bad\na,1,\n", &["good", "bad"]),
            "column `bad`: \"\" does",
        );
    }

    #[test]
    fn several_labels_stand_in_one_column() {
        let wanted = [0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0];
        for (name, content) in [
            ("a.csv", "text,label\na,b; c\nb,\nc,a\n"),
            ("a.csv", "text,label\na,\"c,b\"\nb,\nc,a\n"),
            ("a.tsv", "text\tlabel\na\tb|c\nb\t\nc\ta\n"),
            ("a.tsv", "text\tlabel\na\t[\"b\", \"c\"]\nb\t[]\nc\t[\"a\"]\n"),
            (
                "a.jsonl",
                "{\"text\": \"a\", \"label\": [\"b\", \"c\"]}\n{\"text\": \"b\", \"label\": []}\n\
                 {\"text\": \"c\", \"label\": \"a\"}",
            ),
        ] {
            let found = several(name, content, &["label"]).unwrap();
            assert_eq!(found.names(), strings(&["a", "b", "c"]), "{content}");
            assert_eq!(found.values(), wanted, "{content}");
            assert!(found.are_flags());
        }
        // Numbers are in their order.
        let json = "{\"text\": \"a\", \"label\": [10, 9]}\n{\"text\": \"b\", \"label\": [9]}";
        let found = several("a.jsonl", json, &["label"]).unwrap();
        assert_eq!(
            (found.names(), found.values()),
            (&strings(&["9", "10"])[..], &[1.0, 1.0, 1.0, 0.0][..])
        );
        // The test data's labels are the training data's.
        let files = ["text,label\na,x|y\nb,z\n", "text,label\na,z\nb,y\n"];
        let (_, test) = loaded("a.csv", files, LabelKind::MultiLabel, &["label"]).unwrap();
        let test = test.labels().unwrap().numbers().unwrap();
        assert_eq!(test.values(), [0.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
        let files = ["text,label\na,x|y\n", "text,label\na,y|w\n"];
        refused(
            loaded("a.csv", files, LabelKind::MultiLabel, &["label"]),
            "test-a.csv: line 2, column `label`: the training data have no class \"w\"; they have `x`, `y`",
        );
    }

    #[test]
    fn doubtful_labels_are_refused() {
        for (content, problem) in [
            (
                "text,label\na,b;c\nb,x|y\n",
                "line 3, column `label`: \"x|y\" has `|`, and `;` parts labels too",
            ),
            (
                "text,label\na,1\nb,0\n",
                "line 2, column `label`: one column of 0 and 1 could be flags",
            ),
            ("text,label\na,\nb,\n", "one column of 0 and 1 could be"),
            ("text,label\na,\"[1, 0, 1]\"\n", "the label \"1\" stands there twice"),
            ("text,label\na,\"[1.0, 0.0]\"\n", "1 is neither a name nor a whole number"),
            ("text,label\na,\"[1, \"\n", "is no JSON array"),
            ("text,label\na,\"[[1]]\"\n", "[1] is neither a name nor a whole number"),
        ] {
            refused(several("a.csv", content, &["label"]), problem);
        }
        let none = "{\"text\": \"a\", \"label\": []}";
        refused(several("a.jsonl", none, &["label"]), "no row of the training data has a label");
        let null = "{\"text\": \"a\", \"label\": null}";
        refused(several("a.jsonl", null, &["label"]), "there is nothing: write an empty list, []");
        let list = "{\"text\": \"a\", \"label\": [\"x\", \"y\"]}";
        refused(
            loaded("a.jsonl", [list; 2], LabelKind::Class, &["label"]),
            "[\"x\",\"y\"] is a list, and one class is learnt here: set `task` to \"multi-label\"",
        );
        refused(
            loaded("a.csv", ["text,a,b\nx,1,2\n"; 2], LabelKind::Class, &["a", "b"]),
            "`data.label` names 2 columns: name one",
        );
    }

    #[test]
    fn texts_to_be_classified_may_lack_labels() {
        let kind = LabelKind::ClassIfAny;
        let (plain, labelled) = ("text\na\nb\n", "text,label\na,y\nb,x\n");
        let (train, test) = loaded("a.csv", [plain, labelled], kind, &["label"]).unwrap();
        assert_eq!((train.labels(), test.class_names()), (None, &strings(&["x", "y"])[..]));
        assert_eq!(test.need_classes().unwrap().ids(), [1, 0]);
        let (train, test) = loaded("a.csv", [plain; 2], kind, &["label"]).unwrap();
        assert_eq!((train.labels(), test.labels()), (None, None));
        let (train, _) = loaded("a.csv", [labelled; 2], kind, &["label"]).unwrap();
        assert_eq!(train.classes(), 2);
        let (train, _) = loaded("a.txt", ["a\nb\n"; 2], kind, &["label"]).unwrap();
        assert_eq!((train.labels(), train.len()), (None, 2));
        refused(
            loaded("a.csv", [plain; 2], LabelKind::Class, &["label"]),
            "there is no column `label`",
        );
        let mixed = "{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": \"b\"}";
        refused(
            loaded("a.jsonl", [mixed; 2], kind, &["label"]),
            "line 2, column `label`: there is no such column here, and rows before have one",
        );
        let mixed = "{\"text\": \"b\"}\n{\"text\": \"a\", \"label\": \"x\"}";
        refused(loaded("a.jsonl", [mixed; 2], kind, &["label"]), "rows before have none");
    }

    #[test]
    fn lists_of_parquet_have_the_names_that_the_file_tells() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/files");
        let path = folder.join("several.parquet");
        let (text, label) = (strings(&["text"]), strings(&["labels"]));
        let columns = Columns { text: &text, label: &label, skip_empty: false };
        let Loaded { train, .. } = load(&path, &path, columns, LabelKind::MultiLabel).unwrap();
        let labels = train.labels().unwrap().numbers().unwrap();
        assert_eq!(labels.names(), strings(&["anger", "joy", "love"]));
        assert_eq!(labels.len(), 60);
        for row in 0..60 {
            let wanted = [0, 1, 2].map(|bit| f32::from(((row as u8 % 8) >> bit) & 1));
            assert_eq!(labels.row(row), wanted, "row {row}");
        }
        refused(
            load(&path, &path, columns, LabelKind::Class),
            "column `labels` holds lists or records, and no texts",
        );
    }
}
