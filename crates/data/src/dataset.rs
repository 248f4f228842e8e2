//! Labelled examples, and the two sets of a split.

use distil_gpu_kernels::random;

use super::{ClassLabels, DataError, Examples, Features, Labels, Numbers, Texts, classes};
use crate::words::counted;

/// Examples, at least one, with labels or without. Clones share the features.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    examples: Examples,
    /// Of the first examples; texts without labels stand behind those that have one.
    labels: Option<Labels>,
}

/// Data to train on and data to measure on, of the same shape and classes.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// Data to train on.
    pub train: Dataset,
    /// Data to measure on.
    pub test: Dataset,
    /// Data to choose on.
    pub validation: Option<Dataset>,
    /// The rows of what was given as training data that are in `train`, where some were kept for validation.
    pub rows: Option<Vec<u32>>,
    /// Texts without labels.
    pub unlabelled: Option<Texts>,
    /// What a person should know of how they were read.
    pub notes: Vec<String>,
}

impl Dataset {
    /// Examples with their labels, a label being the place of its class in `class_names`.
    ///
    /// # Errors
    /// [`DataError::Unfit`] where there is no label for each example or no class for a label, naming the first example
    /// concerned.
    pub fn new(
        examples: impl Into<Examples>,
        labels: Vec<u32>,
        class_names: Vec<String>,
    ) -> Result<Self, DataError> {
        let examples = examples.into();
        check_counts(&examples, labels.len())?;
        Self::labelled(examples, ClassLabels::new(labels, class_names)?)
    }

    /// Examples with labels of any kind.
    ///
    /// # Errors
    /// [`DataError::Unfit`] where there are no labels for each example, or not a tag for each word of one, naming the
    /// first concerned.
    pub fn labelled(
        examples: impl Into<Examples>,
        labels: impl Into<Labels>,
    ) -> Result<Self, DataError> {
        let (examples, labels) = (examples.into(), labels.into());
        check_counts(&examples, labels.len())?;
        if let (Some(words), Some(tags)) = (examples.words(), labels.tags()) {
            let counts = |row: usize| (words.row(row).len(), tags.row(row).len());
            let differ = |row: &usize| counts(*row).0 != counts(*row).1;
            if let Some(row) = (0..words.len()).find(differ) {
                let (words, tags) = counts(row);
                return Err(DataError::Unfit(format!(
                    "example {row} has {} and {}: each word has one tag",
                    counted(words, "word"),
                    counted(tags, "tag")
                )));
            }
        }
        Ok(Self { examples, labels: Some(labels) })
    }

    /// Examples whose labels are whole numbers: each that there is names a class, in order of number.
    ///
    /// # Errors
    /// [`DataError::Unfit`], as [`Dataset::new`], and when there are too many classes.
    pub fn numbered<T: Into<i64>>(
        examples: impl Into<Examples>,
        labels: impl IntoIterator<Item = T>,
    ) -> Result<Self, DataError> {
        let numbers: Vec<i64> = labels.into_iter().map(Into::into).collect();
        let (labels, names) = classes::of_numbers(&numbers).map_err(DataError::Unfit)?;
        Self::new(examples, labels, names)
    }

    /// Examples without labels.
    pub fn unlabelled(examples: impl Into<Examples>) -> Self {
        Self { examples: examples.into(), labels: None }
    }

    /// Of examples without labels, that there are these classes.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when there are too many, or two of a name.
    pub fn with_class_names(self, names: &[String]) -> Result<Self, DataError> {
        let labels = ClassLabels::new(Vec::new(), names.to_vec())?;
        Ok(Self { labels: Some(labels.into()), ..self })
    }

    /// With texts behind its own that have no labels.
    ///
    /// # Errors
    /// [`DataError::Unfit`] where its examples are no such texts.
    pub fn with_unlabelled(&self, texts: &Texts) -> Result<Self, DataError> {
        let (own, more) = (self.examples.kind(), Examples::from(texts.clone()).kind());
        let all = match &self.examples {
            Examples::Texts(known) if own == more => known.with(texts),
            _ => {
                return Err(DataError::Unfit(format!(
                    "an example of the training data is {own}, and one without a label is {more}"
                )));
            }
        };
        Ok(Self { examples: all.into(), labels: self.labels.clone() })
    }

    /// Its examples again and again, `count` in all.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when none is asked for.
    pub fn repeated(&self, count: usize) -> Result<Self, DataError> {
        let rows: Vec<u32> = (0..self.len() as u32).cycle().take(count).collect();
        self.select(&rows)
    }

    /// The examples without their labels.
    pub fn examples(&self) -> &Examples {
        &self.examples
    }

    /// The examples' numbers, if they are numbers.
    pub fn numbers(&self) -> Option<&Numbers> {
        self.examples.numbers()
    }

    /// The labels, of whatever kind, if it has any.
    pub fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref()
    }

    /// The labels, of whatever kind, which a task needs.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when there are none.
    pub fn need_labels(&self) -> Result<&Labels, DataError> {
        self.labels.as_ref().ok_or_else(|| {
            let problem = "the data have no labels, and this task learns from labels: give files with labels, or set \
                           `task` to \"masked-lm\" or \"embedding\"";
            DataError::Unfit(problem.to_owned())
        })
    }

    /// The classes of the examples, if each has one.
    pub fn class_labels(&self) -> Option<&ClassLabels> {
        self.labels.as_ref()?.classes()
    }

    /// The classes of the examples, which a task needs.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when there are none.
    pub fn need_classes(&self) -> Result<&ClassLabels, DataError> {
        self.class_labels().ok_or_else(|| {
            let problem = "the data have no labels, and classes are learnt from labels: give files with a column \
                           of labels, or set `task` to \"masked-lm\" or \"embedding\"";
            DataError::Unfit(problem.to_owned())
        })
    }

    /// How many examples have labels: the first ones.
    pub fn labelled_len(&self) -> usize {
        self.labels.as_ref().map_or(0, Labels::len)
    }

    /// The class of one example, if it has one.
    pub fn label(&self, row: u32) -> Option<u32> {
        self.class_labels()?.ids().get(row as usize).copied()
    }

    /// Number of classes; 0 without labels that are classes.
    pub fn classes(&self) -> usize {
        self.class_names().len()
    }

    /// Names of the classes; none without labels that are classes.
    pub fn class_names(&self) -> &[String] {
        self.class_labels().map_or(&[], ClassLabels::class_names)
    }

    /// Names of what a model says of an example, by the labels, of whatever kind; see [`Labels::outputs`].
    pub fn outputs(&self) -> &[String] {
        self.labels.as_ref().map_or(&[], Labels::outputs)
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there are none; there always are some.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// A checksum (CRC-32) of all examples and labels.
    pub fn digest(&self) -> u32 {
        let mut digest = crc32fast::Hasher::new();
        self.examples.digest(&mut digest);
        if let Some(labels) = &self.labels {
            labels.digest(&mut digest);
        }
        digest.finalize()
    }

    /// The first `count` examples, or all if there are fewer; at least one.
    pub fn take(self, count: usize) -> Self {
        let examples = self.examples.take(count);
        let labels = self.labels.map(|labels| labels.take(examples.len()));
        Self { examples, labels }
    }

    /// The data with these classes instead of its own, by name.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when it has no labels that are classes, or a class of it is not among them.
    pub fn with_classes(self, class_names: &[String]) -> Result<Self, DataError> {
        self.need_classes()?;
        self.with_outputs(class_names)
    }

    /// The data with these outputs instead of its own, by name; see [`Labels::with_outputs`].
    ///
    /// # Errors
    /// [`DataError::Unfit`] when it has no labels, or one of its own outputs is not among them.
    pub fn with_outputs(mut self, names: &[String]) -> Result<Self, DataError> {
        self.need_labels()?;
        self.labels = self.labels.map(|labels| labels.with_outputs(names)).transpose()?;
        Ok(self)
    }

    /// The data with the outputs of a model instead of its own: by name, unless there is one, or the model's have no names of
    /// their own.
    ///
    /// # Errors
    /// As [`Self::with_outputs`].
    pub fn with_outputs_of_model(self, names: &[String]) -> Result<Self, DataError> {
        self.need_labels()?;
        let nameless = names.len() < 2 || names.iter().all(|name| name.starts_with("LABEL_"));
        let are_others = !nameless || names.len() != self.outputs().len() && !names.is_empty();
        if are_others { self.with_outputs(names) } else { Ok(self) }
    }

    /// The test or validation data with the outputs of the training data; `called` says which of them they are.
    pub(super) fn with_outputs_of(self, train: &Self, called: &str) -> Result<Self, DataError> {
        let (Some(known), Some(own)) = (&train.labels, &self.labels) else { return Ok(self) };
        if let Some(name) = own.outputs().iter().find(|name| !known.outputs().contains(name)) {
            return Err(DataError::Unfit(format!(
                "{called} the {} `{name}`, and the training data have only {}: take its examples out, or give \
                 training data that have it",
                own.noun(),
                classes::listed(known.outputs())
            )));
        }
        self.with_outputs(known.outputs())
    }

    /// The numbers of the examples that are of none of these classes.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when there are no labels, a class does not exist or no example is left.
    pub fn rows_without_classes(&self, omitted: &[usize]) -> Result<Vec<u32>, DataError> {
        let ids = self.need_classes()?.ids();
        let kept = |row: &u32| !omitted.contains(&(ids[*row as usize] as usize));
        let rows: Vec<u32> = (0..ids.len() as u32).filter(kept).collect();
        if rows.is_empty() {
            let problem = format!("no example is left without the classes {omitted:?}: omit fewer");
            return Err(DataError::Unfit(problem));
        }
        Ok(rows)
    }

    /// The data without the examples of these classes; the classes themselves stay.
    ///
    /// # Errors
    /// As [`Dataset::rows_without_classes`].
    pub fn without_classes(&self, omitted: &[usize]) -> Result<Self, DataError> {
        if omitted.is_empty() {
            return Ok(self.clone());
        }
        self.select(&self.rows_without_classes(omitted)?)
    }

    /// The examples of these numbers, in their order; those without a label last.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when a number is out of range, none is given, or an example with a label follows one without.
    pub fn select(&self, rows: &[u32]) -> Result<Self, DataError> {
        let examples = self.examples.select(rows)?;
        let Some(labels) = &self.labels else { return Ok(Self { examples, labels: None }) };
        let has_label = |row: &&u32| (**row as usize) < labels.len();
        let labelled = rows.iter().take_while(has_label).count();
        if rows[labelled..].iter().any(|row| has_label(&row)) {
            let problem = "examples without labels stand behind those with labels";
            return Err(DataError::Unfit(problem.to_owned()));
        }
        Ok(Self { examples, labels: Some(labels.select(&rows[..labelled])) })
    }
}

/// Checks that there are labels for each example.
fn check_counts(examples: &Examples, labels: usize) -> Result<(), DataError> {
    let count = examples.len();
    match count == labels {
        true => Ok(()),
        false => Err(DataError::Unfit(format!("there are {count} examples and {labels} labels"))),
    }
}

impl Split {
    /// Two sets that go together; both have the outputs of the training data. Test data alone may have labels.
    ///
    /// # Errors
    /// [`DataError::Mismatch`] when they differ in the shape of an example, in the kind of numbers or of labels, or the
    /// training data alone have labels; [`DataError::Unfit`] when the test data have a class, a tag or a label that the
    /// training data lack.
    pub fn new(train: Dataset, test: Dataset) -> Result<Self, DataError> {
        let (kind, other) = (train.examples.kind(), test.examples.kind());
        if kind != other {
            let what = "an example is";
            return Err(DataError::Mismatch { what, train: kind, test: other });
        }
        let numbers = |set: &Dataset| match set.examples.numbers()?.features() {
            Features::U8(_) => Some("u8 pixels".to_owned()),
            Features::F32(_) => Some("numbers".to_owned()),
        };
        if let (Some(train), Some(test)) = (numbers(&train), numbers(&test))
            && train != test
        {
            return Err(DataError::Mismatch { what: "features are", train, test });
        }
        let kind = |set: &Dataset| set.labels.as_ref().map(Labels::kind);
        let mismatch = match (kind(&train), kind(&test)) {
            (Some(train), Some(test)) if train != test => Some((train, test)),
            (Some(_), None) => Some(("labels", "no labels")),
            _ => None,
        };
        if let Some((train, test)) = mismatch {
            let (train, test) = (train.to_owned(), test.to_owned());
            return Err(DataError::Mismatch { what: "there are", train, test });
        }
        let test = test.with_outputs_of(&train, "the test data have")?;
        Ok(Self { train, test, validation: None, rows: None, unlabelled: None, notes: Vec::new() })
    }

    /// Keeps a share of the training data for validation: at least one example, and never all. The same share of
    /// as many examples is the same.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when there is but one example.
    pub fn hold_out(self, share: f64) -> Result<Self, DataError> {
        let Self { train, test, unlabelled, notes, .. } = self;
        if train.len() < 2 {
            let problem = "one training example cannot be divided: leave `data.validation` out";
            return Err(DataError::Unfit(problem.to_owned()));
        }
        let count = ((train.len() as f64 * share).round() as usize).clamp(1, train.len() - 1);
        let mut held = random::permutation(train.len(), 0, 0);
        let mut rows = held.split_off(count);
        held.sort_unstable();
        rows.sort_unstable();
        let (validation, train) = (train.select(&held)?, train.select(&rows)?);
        Ok(Self { train, test, validation: Some(validation), rows: Some(rows), unlabelled, notes })
    }

    /// Of values [rows, width] for all that was given as training data, those for what is learnt from.
    pub fn of_train(&self, values: Vec<f32>, width: usize) -> Vec<f32> {
        match &self.rows {
            None => values,
            Some(rows) => {
                let row = |&row: &u32| &values[row as usize * width..][..width];
                rows.iter().flat_map(row).copied().collect()
            }
        }
    }

    /// Number of examples that were given as training data.
    pub fn given(&self) -> usize {
        let held = self.rows.as_ref().and(self.validation.as_ref());
        self.train.len() + held.map_or(0, Dataset::len)
    }
}

#[cfg(test)]
mod tests;
