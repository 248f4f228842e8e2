//! `answers.json`: what the three models answer on the test set, as far as the page of a run shows it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::picture;
use crate::data::{ClassLabels, Examples};
use crate::error::Error;
use crate::files::write_atomically;
use crate::scores::largest;

/// Its name in a run's folder.
pub const FILE: &str = "answers.json";
/// Classes of the similarity matrix, at most.
const MOST_CLASSES: usize = 64;
/// Chosen examples of a group, at most.
const PER_GROUP: usize = 6;
/// Classes shown of an example, beside its own and each model's first.
const SHOWN: usize = 5;

/// The content of `answers.json`. Probabilities are rounded to four decimals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Temperature T of the softened answers.
    pub temperature: f32,
    /// Names of all classes.
    pub class_names: Vec<String>,
    /// Test examples of each class.
    pub class_counts: Vec<usize>,
    /// How classes resemble each other for the teacher; absent without its answers for the test set.
    pub similarity: Option<Similarity>,
    /// Chosen test examples.
    pub groups: Vec<Group>,
}

/// The mean softened answer of the teacher to the test examples of a class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Similarity {
    /// The classes of rows and columns: those with most test examples, in the order of their numbers.
    pub classes: Vec<usize>,
    /// `rows[i][j]`: mean probability of class j over the examples of class i.
    pub rows: Vec<Vec<f64>>,
}

/// Why an example was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The distilled student is right where the student alone is wrong.
    Gained,
    /// The distilled student is wrong where the student alone is right.
    Lost,
    /// The teacher is right and the distilled student wrong.
    Missed,
    /// Both students are wrong.
    BothWrong,
    /// The entropy of the teacher's answer is highest.
    Unsure,
}

/// Examples chosen for one reason, the most telling first. None is in two groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The reason.
    pub reason: Reason,
    /// How many test examples there are of the kind; absent where the reason is a matter of degree.
    pub count: Option<usize>,
    /// The chosen ones.
    pub examples: Vec<Example>,
}

/// A test example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Its place in the test set, from 0.
    pub index: usize,
    /// Its true class.
    pub class: usize,
    /// Its picture as a data URI, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picture: Option<String>,
    /// Its text, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Probabilities of the likeliest classes, by the mean of all models; the true class and each model's
    /// first are among them.
    pub answers: Vec<Answer>,
}

/// What the models say of one class.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The class.
    pub class: usize,
    /// The teacher's probability.
    pub teacher: Option<f64>,
    /// The teacher's probability at temperature T.
    pub softened: Option<f64>,
    /// The student alone's probability.
    pub control: f64,
    /// The distilled student's probability.
    pub distilled: f64,
}

/// Raw logits [examples, classes] of the test set.
#[derive(Clone, Copy, Debug)]
pub struct TestLogits<'a> {
    /// The teacher's, if there are any.
    pub teacher: Option<&'a [f32]>,
    /// The student alone's.
    pub control: &'a [f32],
    /// The distilled student's.
    pub distilled: &'a [f32],
}

impl Answers {
    /// Chooses examples of the test set and sums the teacher's answers up.
    ///
    /// # Panics
    /// If logits are not [test examples, classes].
    pub fn collect(
        test: &Examples,
        labels: &ClassLabels,
        temperature: f32,
        logits: TestLogits<'_>,
    ) -> Self {
        let all = [Some(logits.control), Some(logits.distilled), logits.teacher];
        let len = test.len() * labels.classes();
        assert!(all.iter().flatten().all(|logits| logits.len() == len), "logits of the test set");
        Self {
            temperature,
            class_names: labels.class_names().to_vec(),
            class_counts: labels.per_class_counts(),
            similarity: logits.teacher.map(|teacher| Similarity::of(labels, teacher, temperature)),
            groups: groups(test, labels, temperature, logits),
        }
    }

    /// Writes `answers.json` into the run's folder.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&self, folder: &Path) -> Result<(), Error> {
        let json = serde_json::to_string(self).expect("answers are plain data");
        write_atomically(&folder.join(FILE), format!("{json}\n").as_bytes())
    }

    /// What contradicts itself in a file that was changed or damaged.
    pub(super) fn problem(&self) -> Option<&'static str> {
        let classes = self.class_names.len();
        let square = |similarity: &Similarity| {
            let size = similarity.classes.len();
            similarity.rows.len() == size && similarity.rows.iter().all(|row| row.len() == size)
        };
        let mut used = self.similarity.iter().flat_map(|similarity| similarity.classes.clone());
        let examples = || self.groups.iter().flat_map(|group| &group.examples);
        let shown = |example: &Example| {
            example.class < classes && example.answers.iter().all(|answer| answer.class < classes)
        };
        if self.class_counts.len() != classes {
            return Some("class_counts and class_names differ in length");
        }
        if !self.similarity.iter().all(square) {
            return Some("similarity is not square");
        }
        if used.any(|class| class >= classes) || !examples().all(shown) {
            return Some("it names a class that does not exist");
        }
        None
    }
}

impl Similarity {
    fn of(labels: &ClassLabels, teacher: &[f32], temperature: f32) -> Self {
        let counts = labels.per_class_counts();
        let mut classes: Vec<usize> =
            (0..counts.len()).filter(|&class| counts[class] > 0).collect();
        classes.sort_by_key(|&class| (usize::MAX - counts[class], class));
        classes.truncate(MOST_CLASSES);
        classes.sort_unstable();
        let mut rows = vec![vec![0.0; classes.len()]; classes.len()];
        for (logits, &label) in teacher.chunks_exact(labels.classes()).zip(labels.ids()) {
            let Ok(place) = classes.binary_search(&(label as usize)) else { continue };
            let answer = softmax(logits, temperature);
            for (sum, &class) in rows[place].iter_mut().zip(&classes) {
                *sum += answer[class];
            }
        }
        for (row, &class) in rows.iter_mut().zip(&classes) {
            row.iter_mut().for_each(|sum| *sum = rounded(*sum / counts[class] as f64));
        }
        Self { classes, rows }
    }
}

/// The models' answers to one example.
struct Row<'a> {
    class: usize,
    teacher: Option<&'a [f32]>,
    control: &'a [f32],
    distilled: &'a [f32],
}

impl Row<'_> {
    /// How telling the row is for a reason; `None` if it is none of its kind.
    fn telling(&self, reason: Reason) -> Option<f64> {
        let right = |logits: &[f32]| largest(logits) == self.class;
        let sure = |logits: &[f32], class: usize| softmax(logits, 1.0)[class];
        let gain = sure(self.distilled, self.class) - sure(self.control, self.class);
        match (reason, right(self.control), right(self.distilled)) {
            (Reason::Gained, false, true) => Some(gain),
            (Reason::Lost, true, false) => Some(-gain),
            (Reason::Missed, _, false) => {
                let teacher = self.teacher.filter(|teacher| right(teacher))?;
                Some(sure(teacher, self.class))
            }
            (Reason::BothWrong, false, false) => {
                Some(sure(self.distilled, largest(self.distilled)))
            }
            (Reason::Unsure, ..) => {
                let plogp = |p: f64| if p > 0.0 { p * p.ln() } else { 0.0 };
                Some(-softmax(self.teacher?, 1.0).into_iter().map(plogp).sum::<f64>())
            }
            _ => None,
        }
    }

    fn answers(&self, temperature: f32) -> Vec<Answer> {
        let teacher = self.teacher.map(|logits| softmax(logits, 1.0));
        let softened = self.teacher.map(|logits| softmax(logits, temperature));
        let [control, distilled] = [self.control, self.distilled].map(|row| softmax(row, 1.0));
        let all = [teacher.as_ref(), softened.as_ref(), Some(&control), Some(&distilled)];
        let weight = |class: usize| all.iter().flatten().map(|row| row[class]).sum::<f64>();
        let mut order: Vec<usize> = (0..control.len()).collect();
        order.sort_by(|&a, &b| weight(b).total_cmp(&weight(a)).then(a.cmp(&b)));
        let firsts = [self.teacher, Some(self.control), Some(self.distilled)];
        let firsts: Vec<usize> = firsts.into_iter().flatten().map(largest).collect();
        let wanted = |(place, class): &(usize, usize)| {
            *place < SHOWN || *class == self.class || firsts.contains(class)
        };
        let shown = order.into_iter().enumerate().filter(wanted);
        let answer = |(_, class): (usize, usize)| Answer {
            class,
            teacher: teacher.as_ref().map(|row| rounded(row[class])),
            softened: softened.as_ref().map(|row| rounded(row[class])),
            control: rounded(control[class]),
            distilled: rounded(distilled[class]),
        };
        shown.map(answer).collect()
    }
}

fn groups(
    test: &Examples,
    labels: &ClassLabels,
    temperature: f32,
    logits: TestLogits<'_>,
) -> Vec<Group> {
    let classes = labels.classes();
    let row = |index: usize| {
        let range = index * classes..(index + 1) * classes;
        Row {
            class: labels.ids()[index] as usize,
            teacher: logits.teacher.map(|teacher| &teacher[range.clone()]),
            control: &logits.control[range.clone()],
            distilled: &logits.distilled[range],
        }
    };
    let mut taken = Vec::new();
    let mut group = |reason| {
        let telling = |index| row(index).telling(reason).map(|telling| (telling, index));
        let mut found: Vec<(f64, usize)> = (0..test.len()).filter_map(telling).collect();
        let count = (reason != Reason::Unsure).then_some(found.len());
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let chosen = found.into_iter().map(|(_, index)| index);
        let chosen = chosen.filter(|index| !taken.contains(index)).take(PER_GROUP);
        let chosen: Vec<usize> = chosen.collect();
        taken.extend_from_slice(&chosen);
        let example = |&index: &usize| Example {
            index,
            class: row(index).class,
            picture: test.numbers().and_then(|all| picture::data_uri(all, index)),
            text: test.texts().map(|texts| texts.all()[index].to_string()),
            answers: row(index).answers(temperature),
        };
        Group { reason, count, examples: chosen.iter().map(example).collect() }
    };
    let mut groups = vec![group(Reason::Gained), group(Reason::Lost)];
    groups.extend(logits.teacher.map(|_| group(Reason::Missed)));
    groups.push(group(Reason::BothWrong));
    groups.extend(logits.teacher.map(|_| group(Reason::Unsure)));
    groups
}

/// softmax(logits / temperature), in f64.
fn softmax(logits: &[f32], temperature: f32) -> Vec<f64> {
    let most = f64::from(logits[largest(logits)]);
    let exp = |&logit: &f32| ((f64::from(logit) - most) / f64::from(temperature)).exp();
    let mut row: Vec<f64> = logits.iter().map(exp).collect();
    let sum: f64 = row.iter().sum();
    row.iter_mut().for_each(|value| *value /= sum);
    row
}

/// To four decimals: a file of f64 digits would say no more.
fn rounded(probability: f64) -> f64 {
    (probability * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Features, Numbers};

    const LABELS: [u32; 6] = [0, 0, 1, 1, 2, 2];

    /// Six examples of three classes, two each.
    fn test_set(pixels: bool) -> Dataset {
        let (features, shape) = match pixels {
            true => (Features::U8((0..24).collect()), vec![1, 2, 2]),
            false => (Features::F32(vec![0.5; 12]), vec![2]),
        };
        Dataset::numbered(Numbers::new(features, shape).unwrap(), LABELS.to_vec()).unwrap()
    }

    fn collect(test: &Dataset, logits: TestLogits<'_>) -> Answers {
        Answers::collect(test.examples(), test.need_classes().unwrap(), 4.0, logits)
    }

    /// Logits that give each example the class named, more surely the higher `sure` is.
    fn saying(classes: [usize; 6], sure: f32) -> Vec<f32> {
        let row = |class: usize| (0..3).map(move |c| if c == class { sure } else { 0.0 });
        classes.into_iter().flat_map(row).collect()
    }

    fn chosen(answers: &Answers) -> Vec<(Reason, Option<usize>, Vec<usize>)> {
        let of = |g: &Group| (g.reason, g.count, g.examples.iter().map(|e| e.index).collect());
        answers.groups.iter().map(of).collect()
    }

    #[test]
    fn each_example_is_chosen_for_one_reason() {
        let mut teacher = saying([0, 0, 1, 1, 2, 0], 3.0);
        // Less sure of the fifth.
        teacher[14] = 1.0;
        let control = saying([1, 0, 2, 1, 2, 0], 2.0);
        let distilled = saying([0, 1, 0, 1, 2, 1], 4.0);
        let logits =
            TestLogits { teacher: Some(&teacher), control: &control, distilled: &distilled };
        let answers = collect(&test_set(true), logits);
        assert_eq!(
            chosen(&answers),
            [
                (Reason::Gained, Some(1), vec![0]),
                (Reason::Lost, Some(1), vec![1]),
                (Reason::Missed, Some(2), vec![2]),
                (Reason::BothWrong, Some(2), vec![5]),
                (Reason::Unsure, None, vec![4, 3]),
            ]
        );
        let first = &answers.groups[0].examples[0];
        assert!(first.picture.as_ref().unwrap().starts_with("data:image/png;base64,"));
        assert_eq!(first.answers.len(), 3);
        let wanted = |sure: f64| rounded(sure.exp() / (sure.exp() + 2.0));
        let own = first.answers[0];
        assert_eq!(
            (own.class, own.teacher, own.softened),
            (0, Some(wanted(3.0)), Some(wanted(0.75)))
        );
        assert_eq!(own.distilled, wanted(4.0));
        assert_eq!(answers.problem(), None);
    }

    #[test]
    fn the_most_telling_come_first() {
        let control = saying([1; 6], 1.0);
        let mut distilled = saying([0, 0, 1, 1, 2, 2], 1.0);
        distilled[3] = 5.0;
        let logits = TestLogits { teacher: None, control: &control, distilled: &distilled };
        let answers = collect(&test_set(false), logits);
        // Equal ones in the order of the data.
        assert_eq!(chosen(&answers)[0], (Reason::Gained, Some(4), vec![1, 0, 4, 5]));
    }

    #[test]
    fn without_a_teacher_its_parts_are_left_out() {
        let [control, distilled] = [saying([0; 6], 1.0), saying([1; 6], 1.0)];
        let logits = TestLogits { teacher: None, control: &control, distilled: &distilled };
        let answers = collect(&test_set(false), logits);
        assert_eq!(answers.similarity, None);
        let reasons: Vec<Reason> = answers.groups.iter().map(|group| group.reason).collect();
        assert_eq!(reasons, [Reason::Gained, Reason::Lost, Reason::BothWrong]);
        let example = &answers.groups[0].examples[0];
        assert_eq!((example.picture.as_ref(), example.answers[0].teacher), (None, None));
    }

    #[test]
    fn similarity_is_the_mean_softened_answer() {
        let mut teacher = saying([0, 1, 1, 1, 2, 2], 2.0);
        // The second example of class 2 is all but certain.
        teacher[17] = 200.0;
        let test = test_set(false);
        let Similarity { classes, rows } =
            Similarity::of(test.need_classes().unwrap(), &teacher, 2.0);
        assert_eq!(classes, [0, 1, 2]);
        let (high, low) = (1f64.exp() / (1f64.exp() + 2.0), 1.0 / (1f64.exp() + 2.0));
        let mean = rounded((high + low) / 2.0);
        assert_eq!(rows[0], [mean, mean, rounded(low)]);
        assert_eq!(rows[1], [rounded(low), rounded(high), rounded(low)]);
        assert_eq!(rows[2], [rounded(low / 2.0), rounded(low / 2.0), rounded((high + 1.0) / 2.0)]);
    }

    #[test]
    fn the_matrix_keeps_the_most_frequent_classes() {
        // Class c has one example, the last two have two.
        let mut labels: Vec<u32> = (0..70).collect();
        labels.extend([68, 69]);
        let features = Features::F32(vec![0.0; labels.len()]);
        let test =
            Dataset::numbered(Numbers::new(features, vec![1]).unwrap(), labels.clone()).unwrap();
        let teacher = vec![0.0; labels.len() * 70];
        let similarity = Similarity::of(test.need_classes().unwrap(), &teacher, 1.0);
        assert_eq!(similarity.classes.len(), MOST_CLASSES);
        assert_eq!(similarity.classes[MOST_CLASSES - 3..], [61, 68, 69]);
        assert_eq!(similarity.rows[5][7], rounded(1.0 / 70.0));
    }

    #[test]
    fn a_file_that_contradicts_itself_is_found_out() {
        let logits = saying([0; 6], 1.0);
        let all = TestLogits { teacher: Some(&logits), control: &logits, distilled: &logits };
        let answers = collect(&test_set(false), all);
        let mut few = answers.clone();
        few.class_names.pop();
        assert_eq!(few.problem(), Some("class_counts and class_names differ in length"));
        few.class_counts.pop();
        assert_eq!(few.problem(), Some("it names a class that does not exist"));
        let mut ragged = answers;
        ragged.similarity.as_mut().unwrap().rows[1].pop();
        assert_eq!(ragged.problem(), Some("similarity is not square"));
    }
}
