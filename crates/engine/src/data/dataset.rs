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
        data.need_classes().unwrap().ids()
    }

    fn renamed(names: &[String]) -> Dataset {
        Dataset::new(six().examples().clone(), ids(&six()).to_vec(), names.to_vec()).unwrap()
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
        assert_eq!(data.need_classes().unwrap().per_class_counts(), [2, 1, 3]);
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
