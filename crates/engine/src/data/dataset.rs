//! Labelled examples, and the two sets of a split.

use std::collections::HashMap;

use distil_gpu_kernels::random;

use super::{DataError, Examples, Features, Numbers, Texts, classes};

/// Examples, at least one, with labels or without. Clones share the features.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    examples: Examples,
    /// Of the first examples; texts without labels stand behind those that have one.
    labels: Option<Labels>,
}

/// The classes of examples; every label is below the number of classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    ids: Vec<u32>,
    class_names: Vec<String>,
}

impl Labels {
    /// The label of each example: the place of its class among the names.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.class_names.len()
    }

    /// Names of the classes, in order.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// How many examples each class has.
    pub fn per_class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes()];
        for &label in &self.ids {
            counts[label as usize] += 1;
        }
        counts
    }
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
        let (examples, classes) = (examples.into(), class_names.len());
        if examples.len() != labels.len() {
            let problem =
                format!("there are {} examples and {} labels", examples.len(), labels.len());
            return Err(DataError::Unfit(problem));
        }
        if let Some(row) = labels.iter().position(|&label| label as usize >= classes) {
            let label = labels[row];
            return Err(DataError::Unfit(format!(
                "example {row} has the label {label}, which is not among the {classes} classes, \
                 counted from 0"
            )));
        }
        Ok(Self { examples, labels: Some(Labels { ids: labels, class_names }) })
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

    /// The labels, if it has any.
    pub fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref()
    }

    /// The labels, which a task needs.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when there are none.
    pub fn need_labels(&self) -> Result<&Labels, DataError> {
        self.labels.as_ref().ok_or_else(|| {
            let problem = "the data have no labels, and classes are learnt from labels: give files with a column \
                           of labels, or set `task` to \"masked-lm\" or \"embedding\"";
            DataError::Unfit(problem.to_owned())
        })
    }

    /// The label of one example, if it has one.
    pub fn label(&self, row: u32) -> Option<u32> {
        self.labels.as_ref()?.ids.get(row as usize).copied()
    }

    /// Number of classes; 0 without labels.
    pub fn classes(&self) -> usize {
        self.class_names().len()
    }

    /// Names of the classes; none without labels.
    pub fn class_names(&self) -> &[String] {
        self.labels.as_ref().map_or(&[], Labels::class_names)
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
            digest.update(bytemuck::cast_slice(&labels.ids));
        }
        digest.finalize()
    }

    /// The first `count` examples, or all if there are fewer; at least one.
    pub fn take(self, count: usize) -> Self {
        let examples = self.examples.take(count);
        let mut labels = self.labels;
        if let Some(labels) = &mut labels {
            labels.ids.truncate(examples.len());
        }
        Self { examples, labels }
    }

    /// The data with these classes instead of its own, by name.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when it has no labels, or a class of it is not among them.
    pub fn with_classes(mut self, class_names: &[String]) -> Result<Self, DataError> {
        let own = self.need_labels()?.class_names();
        if own == class_names {
            return Ok(self);
        }
        let known: HashMap<&String, u32> = class_names.iter().zip(0..).collect();
        let place = |name: &String| {
            known.get(name).copied().ok_or_else(|| {
                let all = classes::listed(class_names);
                DataError::Unfit(format!("there is no class `{name}` among {all}"))
            })
        };
        let places: Vec<u32> = own.iter().map(place).collect::<Result<_, _>>()?;
        if let Some(labels) = &mut self.labels {
            labels.ids.iter_mut().for_each(|label| *label = places[*label as usize]);
            labels.class_names = class_names.to_vec();
        }
        Ok(self)
    }

    /// The test or validation data with the classes of the training data; `called` says which of them they are.
    pub(super) fn with_classes_of(self, train: &Self, called: &str) -> Result<Self, DataError> {
        let (Some(known), Some(own)) = (&train.labels, &self.labels) else { return Ok(self) };
        if let Some(name) = own.class_names.iter().find(|name| !known.class_names.contains(name)) {
            return Err(DataError::Unfit(format!(
                "{called} the class `{name}`, and the training data have only {}: take its examples out, or give \
                 training data that have it",
                classes::listed(&known.class_names)
            )));
        }
        self.with_classes(&known.class_names)
    }

    /// The numbers of the examples that are of none of these classes.
    ///
    /// # Errors
    /// [`DataError::Unfit`] when there are no labels, a class does not exist or no example is left.
    pub fn rows_without_classes(&self, omitted: &[usize]) -> Result<Vec<u32>, DataError> {
        let labels = self.need_labels()?;
        let kept = |row: &u32| !omitted.contains(&(labels.ids[*row as usize] as usize));
        let rows: Vec<u32> = (0..labels.ids.len() as u32).filter(kept).collect();
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
        let ids: Vec<u32> = rows.iter().map_while(|&row| self.label(row)).collect();
        if rows[ids.len()..].iter().any(|&row| self.label(row).is_some()) {
            let problem = "examples without labels stand behind those with labels";
            return Err(DataError::Unfit(problem.to_owned()));
        }
        Ok(Self { examples, labels: Some(Labels { ids, class_names: labels.class_names.clone() }) })
    }
}

impl Split {
    /// Two sets that go together; both have the classes of the training data.
    ///
    /// # Errors
    /// [`DataError::Mismatch`] when they differ in the shape of an example, in the kind of numbers, or in whether they
    /// have labels; [`DataError::Unfit`] when the test data have a class that the training data lack.
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
        let labelled = |set: &Dataset| match set.labels {
            Some(_) => "labels".to_owned(),
            None => "no labels".to_owned(),
        };
        if train.labels.is_some() != test.labels.is_some() {
            let (train, test) = (labelled(&train), labelled(&test));
            return Err(DataError::Mismatch { what: "there are", train, test });
        }
        let test = test.with_classes_of(&train, "the test data have")?;
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
mod tests {
    use super::*;
    use crate::data::Text;

    fn rows(features: Vec<f32>, labels: &[u32]) -> Result<Dataset, DataError> {
        Dataset::numbered(Numbers::new(Features::F32(features), vec![2])?, labels.to_vec())
    }

    fn six() -> Dataset {
        rows((0..12).map(|i| i as f32).collect(), &[0, 2, 1, 2, 0, 2]).unwrap()
    }

    fn ids(data: &Dataset) -> &[u32] {
        data.need_labels().unwrap().ids()
    }

    fn renamed(names: &[String]) -> Dataset {
        let labels = Labels { ids: ids(&six()).to_vec(), class_names: names.to_vec() };
        Dataset { labels: Some(labels), ..six() }
    }

    #[track_caller]
    fn refused<T: std::fmt::Debug>(result: Result<T, DataError>, message: &str) {
        assert_eq!(result.unwrap_err().to_string(), message);
    }

    #[test]
    fn counts_and_takes() {
        let data = six();
        assert_eq!((data.len(), data.numbers().unwrap().example_len(), data.classes()), (6, 2, 3));
        assert_eq!(data.class_names(), ["0", "1", "2"]);
        assert_eq!(data.labels().unwrap().per_class_counts(), [2, 1, 3]);
        let first = data.clone().take(2);
        assert_eq!((first.len(), ids(&first), first.classes()), (2, &[0, 2][..], 3));
        assert_eq!(first.numbers().unwrap().features(), &Features::F32(vec![0.0, 1.0, 2.0, 3.0]));
        assert_eq!(data.clone().take(100), data);
    }

    #[test]
    fn leaves_classes_out() {
        let data = six().without_classes(&[2]).unwrap();
        assert_eq!((ids(&data), data.classes()), (&[0, 1, 0][..], 3));
        assert_eq!(
            data.numbers().unwrap().features(),
            &Features::F32(vec![0.0, 1.0, 4.0, 5.0, 8.0, 9.0])
        );
        assert_eq!(six().rows_without_classes(&[0, 1]).unwrap(), [1, 3, 5]);
        let all = six();
        assert!(std::ptr::eq(
            all.without_classes(&[]).unwrap().numbers().unwrap().features(),
            all.numbers().unwrap().features()
        ));
        refused(
            six().without_classes(&[0, 1, 2]),
            "no example is left without the classes [0, 1, 2]: omit fewer",
        );
    }

    #[test]
    fn labels_may_end_before_the_examples_or_be_absent() {
        let text = |text: &str| Text::from(text);
        let texts = |rows: &[&str]| Texts::new(rows.iter().map(|row| text(row)).collect()).unwrap();
        let names = ["no", "yes"].map(str::to_owned).to_vec();
        let labelled = Dataset::new(texts(&["a", "b"]), vec![1, 0], names).unwrap();
        let all = labelled.with_unlabelled(&texts(&["c"])).unwrap();
        assert_eq!([0, 1, 2, 3].map(|row| all.label(row)), [Some(1), Some(0), None, None]);
        assert_eq!(ids(&all.select(&[1, 2]).unwrap()), [0]);
        refused(all.select(&[2, 1]), "examples without labels stand behind those with labels");
        assert_eq!(ids(&labelled.repeated(3).unwrap()), [1, 0, 1]);
        let plain = Dataset::unlabelled(texts(&["a", "b", "c", "d"]));
        assert_eq!((plain.classes(), plain.label(0)), (0, None));
        let split = Split::new(plain.clone(), plain.clone()).unwrap().hold_out(0.25).unwrap();
        let validation = split.validation.unwrap();
        assert_eq!((split.train.len(), validation.len(), validation.labels()), (3, 1, None));
        let none = "the data have no labels, and classes are learnt from labels: give files with a column of labels, \
                    or set `task` to \"masked-lm\" or \"embedding\"";
        refused(plain.clone().with_classes(&[]), none);
        refused(plain.without_classes(&[0]), none);
        refused(
            Split::new(labelled, plain),
            "training and test data differ: there are labels in training, no labels in test",
        );
    }

    #[test]
    fn refuses_what_contradicts_itself() {
        refused(rows(vec![0.0; 4], &[0]), "there are 2 examples and 1 labels");
        refused(rows(vec![0.0; 3], &[0]), "3 numbers are not one or more examples of [2]");
        refused(rows(Vec::new(), &[]), "0 numbers are not one or more examples of [2]");
        refused(
            Dataset::new(six().examples().clone(), vec![0, 0, 0, 2, 0, 0], vec!["a".to_owned()]),
            "example 3 has the label 2, which is not among the 1 classes, counted from 0",
        );
        refused(
            Numbers::new(Features::U8(vec![0]), vec![1, 1]),
            "an example of shape [1, 1] is neither an image [C, H, W] nor a row [n]",
        );
        refused(
            six().examples().check_shift(2),
            "`shift` moves images [C, H, W], and an example here is [2]: leave `shift` out",
        );
        refused(six().examples().select(&[6]), "there is no example 6 among 6");
    }

    #[test]
    fn classes_go_by_name() {
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let known = names(&["ant", "cat", "dog"]);
        let data = renamed(&names(&["cat", "ant", "dog"]));
        let named = data.clone().with_classes(&known).unwrap();
        assert_eq!((ids(&named), named.class_names()), (&[1, 2, 0, 2, 1, 2][..], &known[..]));
        let strange = "there is no class `0` among `ant`, `cat`, `dog`";
        refused(six().with_classes(&known), strange);
        refused(
            data.with_classes(&names(&["0", "1", "2"])),
            "there is no class `cat` among `0`, `1`, `2`",
        );
        let last = renamed(&names(&["1", "2", "3"]));
        let numbers = names(&["0", "1", "2", "3"]);
        assert_eq!(ids(&last.with_classes(&numbers).unwrap()), [1, 3, 2, 3, 1, 3]);
        // Numbers with gaps are names too.
        let gaps = Dataset::numbered(six().examples().clone(), [90002, 1, -7, 1, 1, -7]).unwrap();
        assert_eq!(
            (ids(&gaps), gaps.class_names()),
            (&[2, 1, 0, 1, 1, 0][..], &names(&["-7", "1", "90002"])[..])
        );
    }

    #[test]
    fn a_share_is_held_out() {
        let all = Split::new(six(), six()).unwrap();
        let split = all.clone().hold_out(0.3).unwrap();
        let (validation, rows) = (split.validation.clone().unwrap(), split.rows.clone().unwrap());
        assert_eq!((validation.len(), split.train.len(), split.given()), (2, 4, 6));
        assert_eq!(split.train, six().select(&rows).unwrap());
        let held: Vec<u32> = (0..6).filter(|row| !rows.contains(row)).collect();
        assert_eq!(validation, six().select(&held).unwrap());
        let kept = split.of_train((0..12).map(|i| i as f32).collect(), 2);
        assert_eq!(&Features::F32(kept), split.train.numbers().unwrap().features());
        assert_eq!(all.clone().hold_out(0.3).unwrap(), split);
        for (share, count) in [(1e-9, 1), (1.0 - 1e-9, 5)] {
            assert_eq!(all.clone().hold_out(share).unwrap().validation.unwrap().len(), count);
        }
        refused(
            Split::new(six().take(1), six()).unwrap().hold_out(0.5),
            "one training example cannot be divided: leave `data.validation` out",
        );
    }

    #[test]
    fn splits_agree() {
        let two = rows(vec![0.0; 4], &[0, 2]).unwrap();
        let split = Split::new(six(), two.clone()).unwrap();
        assert_eq!(
            (ids(&split.test), split.test.class_names()),
            (&[0, 2][..], six().class_names())
        );
        refused(
            Split::new(two.clone(), six()),
            "the test data have the class `1`, and the training data have only `0`, `2`: take its examples out, or give \
             training data that have it",
        );
        let wide = Numbers::new(Features::F32(vec![0.0; 3]), vec![3]).unwrap();
        refused(
            Split::new(two.clone(), Dataset::numbered(wide, [0]).unwrap()),
            "training and test data differ: an example is [2] in training, [3] in test",
        );
        let bytes = Numbers::new(Features::U8(vec![0; 2]), vec![2]).unwrap();
        refused(
            Split::new(two, Dataset::numbered(bytes, [0]).unwrap()),
            "training and test data differ: features are numbers in training, u8 pixels in test",
        );
    }
}
