//! `[data]`: what is learnt from.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use toml::de::DeValue;

use super::document::Table;
use super::error::RecipeError;
use super::rules::{
    CHANNELS, COLOUR, FLAG, IMAGE_SIZE, NUMBERS, Rule, SIZE, SPREADS, TEXT, TEXT_COLUMNS, double,
    list, text, whole,
};
use crate::data::{Conversion, LabelKind, Normalisation};

/// The data of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Data {
    /// Where they come from.
    #[serde(flatten)]
    pub source: Source,
    /// Only so many training examples, the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_limit: Option<usize>,
    /// Only so many test examples, the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_limit: Option<usize>,
    /// What the best parameters are chosen on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
    /// A file of texts without labels, of which the distilled student learns the teacher's answers too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<PathBuf>,
    /// What features go through before a model sees them; absent where examples are texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalise: Option<Normalise>,
}

/// Where data come from. Paths are absolute once read.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "source", rename_all = "lowercase")]
#[non_exhaustive]
pub enum Source {
    /// The Fashion-MNIST subset that is part of the program.
    Embedded,
    /// Four IDX files, raw or gzipped, as MNIST's.
    Idx {
        /// Training images, u8 [rows, height, width].
        train_images: PathBuf,
        /// Training labels, u8 [rows].
        train_labels: PathBuf,
        /// Test images.
        test_images: PathBuf,
        /// Test labels.
        test_labels: PathBuf,
    },
    /// Two CSV or TSV files of numbers with a column of labels.
    Csv {
        /// Training examples.
        train: PathBuf,
        /// Test examples.
        test: PathBuf,
        /// The columns of the labels, one or several; the one named `label` unless given.
        #[serde(serialize_with = "one_or_all")]
        label: Vec<Column>,
        /// Whether the first line names the columns; it does unless given.
        header: bool,
    },
    /// Two safetensors files.
    Safetensors {
        /// Training examples.
        train: PathBuf,
        /// Test examples.
        test: PathBuf,
        /// The tensor of the features; `features` unless given.
        features: String,
        /// The tensor of the labels; `labels` unless given.
        labels: String,
    },
    /// Two files of labelled texts with named columns, see [`crate::data::files::Format`].
    Text {
        /// Training examples.
        train: PathBuf,
        /// Test examples.
        test: PathBuf,
        /// The column of the text, or both columns of a pair of texts; `text` unless given. Of words, that of their
        /// lists, `tokens`; of questions, theirs and that of their contexts, `question` and `context`.
        text: Vec<String>,
        /// The columns of the labels, one or several; `label` unless given, of words `ner_tags`, of questions `answers`.
        #[serde(serialize_with = "one_or_all")]
        label: Vec<String>,
        /// Whether rows without a text are passed over, rather than refused.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        skip_empty: bool,
    },
    /// Two folders that hold a folder of images for each class.
    Images {
        /// Training examples.
        train: PathBuf,
        /// Test examples.
        test: PathBuf,
        /// What they are brought to.
        #[serde(flatten)]
        conversion: Conversion,
    },
}

/// One column by itself, several as a list.
fn one_or_all<T: Serialize, S: Serializer>(columns: &[T], to: S) -> Result<S::Ok, S::Error> {
    match columns {
        [one] => one.serialize(to),
        all => all.serialize(to),
    }
}

impl Source {
    /// The same with this in the place of the test data, where those are one file or folder.
    pub(crate) fn tested_on(&self, path: &Path) -> Self {
        let mut other = self.clone();
        match &mut other {
            Self::Csv { test, .. }
            | Self::Safetensors { test, .. }
            | Self::Text { test, .. }
            | Self::Images { test, .. } => path.clone_into(test),
            Self::Embedded | Self::Idx { .. } => {}
        }
        other
    }
}

/// Data to choose on: neither learnt from nor tested on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Validation {
    /// This share of the training data, drawn by chance, the same examples whatever the seed.
    Share(f64),
    /// A file or folder like that of the training data.
    Path(PathBuf),
}

/// A column of a CSV file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Column {
    /// Its number, from 0.
    Index(usize),
    /// Its name in the header.
    Name(String),
}

/// A class of the data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ClassRef {
    /// Its place among the classes, from 0.
    Number(usize),
    /// Its name.
    Name(String),
}

/// What features go through before a model sees them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalise {
    /// Less the mean, over the standard deviation, both measured on the training data.
    #[default]
    Standardise,
    /// Nothing, but that pixels become numbers from 0 to 1.
    None,
    /// Less a mean, over a standard deviation, as given.
    #[serde(untagged)]
    Given(Normalisation),
}

/// Columns by name or by number.
const COLUMNS: Rule<Vec<Column>> = Rule {
    allowed: "a column's name in quotes, or its number, counted from 0, or a list of these",
    read: |value| one_or_several(value, column),
};
/// Columns by name.
const NAMED_COLUMNS: Rule<Vec<String>> = Rule {
    allowed: "a column's name in quotes, or a list of names",
    read: |value| one_or_several(value, text),
};

fn column(value: &DeValue<'_>) -> Option<Column> {
    match whole(value) {
        Some(index) => index.try_into().ok().map(Column::Index),
        None => text(value).map(Column::Name),
    }
}

fn one_or_several<T>(
    value: &DeValue<'_>,
    item: impl Fn(&DeValue<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    match value.as_array() {
        Some(_) => list(value, item).filter(|columns| !columns.is_empty()),
        None => item(value).map(|column| vec![column]),
    }
}

/// A share of the training data, or a path.
const PART: Rule<Validation> = Rule {
    allowed: "a number between 0 and 1, or a path in quotes",
    read: |value| share(value).or_else(|| text(value).map(|path| Validation::Path(path.into()))),
};
const SHARE_ONLY: Rule<Validation> = Rule { allowed: "a number between 0 and 1", read: share };

fn share(value: &DeValue<'_>) -> Option<Validation> {
    double(value).filter(|share| *share > 0.0 && *share < 1.0).map(Validation::Share)
}

type Reader = fn(&Table<'_>, LabelKind) -> Result<Source, RecipeError>;

impl Data {
    pub(super) fn read(table: &Table<'_>, kind: LabelKind) -> Result<Self, RecipeError> {
        let sources: [(&str, Reader); 6] = [
            ("embedded", embedded),
            ("idx", idx),
            ("csv", csv),
            ("safetensors", safetensors),
            ("text", texts),
            ("images", images),
        ];
        let source = table.need_choice("source", &sources)?(table, kind)?;
        let numbers = !matches!(source, Source::Text { .. });
        let files = !matches!(source, Source::Embedded | Source::Idx { .. });
        let validation = match table.get("validation", if files { &PART } else { &SHARE_ONLY })? {
            Some(Validation::Path(_)) => Some(Validation::Path(table.path("validation")?)),
            share => share,
        };
        Ok(Self {
            source,
            train_limit: table.get("train_limit", &SIZE)?,
            test_limit: table.get("test_limit", &SIZE)?,
            validation,
            unlabelled: match table.has("unlabelled") {
                true => Some(table.path("unlabelled")?),
                false => None,
            },
            normalise: numbers.then(|| Normalise::read(table)).transpose()?,
        })
    }
}

/// Refuses keys that are neither of all sources nor among `own`.
fn known(table: &Table<'_>, own: &[&str]) -> Result<(), RecipeError> {
    table.known(
        &[&["source"], own, &["train_limit", "test_limit", "validation", "normalise"]].concat(),
    )
}

fn embedded(table: &Table<'_>, _: LabelKind) -> Result<Source, RecipeError> {
    known(table, &[])?;
    Ok(Source::Embedded)
}

fn idx(table: &Table<'_>, _: LabelKind) -> Result<Source, RecipeError> {
    known(table, &["train_images", "train_labels", "test_images", "test_labels"])?;
    Ok(Source::Idx {
        train_images: table.path("train_images")?,
        train_labels: table.path("train_labels")?,
        test_images: table.path("test_images")?,
        test_labels: table.path("test_labels")?,
    })
}

fn csv(table: &Table<'_>, _: LabelKind) -> Result<Source, RecipeError> {
    known(table, &["train", "test", "label", "header"])?;
    let label = table.get("label", &COLUMNS)?;
    let label = label.unwrap_or_else(|| vec![Column::Name("label".to_owned())]);
    let header = table.get("header", &FLAG)?.unwrap_or(true);
    let named = label.iter().find_map(|label| match label {
        Column::Name(name) => Some(name),
        Column::Index(_) => None,
    });
    if let (false, Some(name)) = (header, named) {
        let problem = format!(
            "without a header no column is named `{name}`: set `label` to the number of its column, \
             counted from 0"
        );
        return Err(table.conflict("header", problem));
    }
    Ok(Source::Csv { train: table.path("train")?, test: table.path("test")?, label, header })
}

fn safetensors(table: &Table<'_>, _: LabelKind) -> Result<Source, RecipeError> {
    known(table, &["train", "test", "features", "labels"])?;
    let tensor = |key| Ok(table.get(key, &TEXT)?.unwrap_or_else(|| String::from(key)));
    Ok(Source::Safetensors {
        train: table.path("train")?,
        test: table.path("test")?,
        features: tensor("features")?,
        labels: tensor("labels")?,
    })
}

fn texts(table: &Table<'_>, kind: LabelKind) -> Result<Source, RecipeError> {
    known(table, &["train", "test", "text", "label", "unlabelled", "skip_empty"])?;
    if table.has("normalise") {
        let problem = "`normalise` is for numbers, and texts have none: leave it out";
        return Err(table.conflict("normalise", problem));
    }
    let [of_text, of_label] = usual_columns(kind);
    let given = |columns: &[&str]| columns.iter().map(|&column| column.to_owned()).collect();
    Ok(Source::Text {
        train: table.path("train")?,
        test: table.path("test")?,
        text: table.get("text", &TEXT_COLUMNS)?.unwrap_or_else(|| given(of_text)),
        label: table.get("label", &NAMED_COLUMNS)?.unwrap_or_else(|| given(of_label)),
        skip_empty: table.get("skip_empty", &FLAG)?.unwrap_or(false),
    })
}

/// The columns of texts and of labels, as data of a task usually have them.
fn usual_columns(kind: LabelKind) -> [&'static [&'static str]; 2] {
    match kind {
        LabelKind::Tags => [&["tokens"], &["ner_tags"]],
        LabelKind::Spans => [&["question", "context"], &["answers"]],
        _ => [&["text"], &["label"]],
    }
}

fn images(table: &Table<'_>, _: LabelKind) -> Result<Source, RecipeError> {
    known(table, &["train", "test", "size", "channels", "background"])?;
    Ok(Source::Images {
        train: table.path("train")?,
        test: table.path("test")?,
        conversion: Conversion {
            size: table.get("size", &IMAGE_SIZE)?,
            channels: table.get("channels", &CHANNELS)?,
            background: table.get("background", &COLOUR)?,
        },
    })
}

impl Normalise {
    fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        if !table.has_table("normalise") {
            let words = [("standardise", false), ("none", true)];
            return Ok(match table.choice("normalise", &words)? {
                Some(true) => Self::None,
                _ => Self::Standardise,
            });
        }
        let given = table.need_table("normalise", "a table")?;
        given.known(&["mean", "std"])?;
        let normalisation = Normalisation {
            mean: given.need("mean", &NUMBERS)?,
            std: given.need("std", &SPREADS)?,
        };
        let (means, spreads) = (normalisation.mean.len(), normalisation.std.len());
        if means != spreads {
            let problem = format!(
                "`mean` has {means} numbers and `std` {spreads}: give one of each, or one of each for \
                 every channel or feature"
            );
            return Err(given.conflict("std", problem));
        }
        Ok(Self::Given(normalisation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    fn read(data: &str) -> Result<Recipe, String> {
        let model = "model = { type = \"mlp\", hidden_sizes = [4] }";
        let text = format!(
            "[data]\ntrain = \"a\"\ntest = \"b\"\n{data}\n[teacher]\n{model}\n[student]\n{model}\n[train]\nepochs = 1\n\
             batch = 4\noptimizer = {{ name = \"sgd\", lr = 0.1 }}\n"
        );
        Recipe::parse(&text, "a.toml").map_err(|error| error.to_string())
    }

    #[test]
    fn labels_are_one_column_or_several() {
        let name = |name: &str| Column::Name(name.to_owned());
        for (label, wanted, written) in [
            ("", vec![name("label")], "label = \"label\""),
            ("label = 2", vec![Column::Index(2)], "label = 2"),
            ("label = [\"y\", 0]", vec![name("y"), Column::Index(0)], "label = [\"y\", 0]"),
            ("label = [\"y\"]", vec![name("y")], "label = \"y\""),
        ] {
            let recipe = read(&format!("source = \"csv\"\n{label}")).unwrap();
            let Source::Csv { label, .. } = &recipe.data.source else { panic!("{label}") };
            assert_eq!(*label, wanted);
            let text = recipe.to_toml().unwrap();
            assert!(text.replace(['\n', ' '], "").contains(&written.replace(' ', "")), "{text}");
            assert_eq!(Recipe::parse(&text, "a.toml").unwrap(), recipe);
        }
        let recipe = read("source = \"text\"\nlabel = [\"a\", \"b\"]").unwrap();
        let Source::Text { label, text, .. } = &recipe.data.source else { panic!("texts") };
        assert_eq!((label.len(), &text[..]), (2, &["text".to_owned()][..]));
        for (data, problem) in [
            ("source = \"csv\"\nlabel = []", "or its number, counted from 0, or a list of these"),
            (
                "source = \"csv\"\nlabel = [1.5]",
                "or its number, counted from 0, or a list of these",
            ),
            ("source = \"text\"\nlabel = 1", "a column's name in quotes, or a list of names"),
            ("source = \"csv\"\nheader = false\nlabel = [0, \"y\"]", "no column is named `y`"),
        ] {
            let error = read(data).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn columns_have_the_usual_names_of_a_task() {
        for (kind, wanted) in [
            (LabelKind::Class, "text: label"),
            (LabelKind::Tags, "tokens: ner_tags"),
            (LabelKind::Spans, "question, context: answers"),
        ] {
            let [text, label] = usual_columns(kind).map(|columns| columns.join(", "));
            assert_eq!(format!("{text}: {label}"), wanted);
        }
    }
}
