//! Tests of data sets.

use super::*;
use crate::{Answer, NumberLabels, Question, Questions, SpanLabels, Spans, TagLabels, Text, Words};

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
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
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
    assert_eq!((ids(&split.test), split.test.class_names()), (&[0, 2][..], six().class_names()));
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

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Four examples with labels of every kind, the first of each unlike the others.
fn of_every_kind() -> Vec<Dataset> {
    let texts = || Texts::new(["a", "b", "c", "d"].map(Text::from).to_vec()).unwrap();
    let words: Vec<Vec<String>> = (1..5).map(|count| vec!["w".to_owned(); count]).collect();
    let tags = [vec![0], vec![1, 1], vec![0, 1, 0], vec![1, 0, 0, 1]];
    let question = |number: usize| Question {
        id: number.to_string(),
        question: format!("{number}?"),
        context: "one two".into(),
    };
    let spans = |number: usize| Spans {
        id: number.to_string(),
        answers: vec![Answer { start: 4, text: "two".to_owned() }; number],
    };
    let flags = vec![1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0];
    let values = vec![0.5, 1.5, -2.0, 8.0];
    vec![
        Dataset::new(texts(), vec![1, 0, 0, 1], names(&["x", "y"])).unwrap(),
        Dataset::labelled(texts(), NumberLabels::new(values, names(&["n"])).unwrap()).unwrap(),
        Dataset::labelled(texts(), NumberLabels::flags(flags, names(&["x", "y"])).unwrap())
            .unwrap(),
        Dataset::labelled(
            Words::new(words).unwrap(),
            TagLabels::new(tags, names(&["O", "B"])).unwrap(),
        )
        .unwrap(),
        Dataset::labelled(
            Questions::new((0..4).map(question).collect()).unwrap(),
            SpanLabels::new((0..4).map(spans).collect()),
        )
        .unwrap(),
    ]
}

#[test]
fn labels_of_every_kind_go_with_their_examples() {
    for data in of_every_kind() {
        let labels = data.labels().unwrap();
        assert_eq!((data.len(), data.labelled_len()), (4, 4), "{}", labels.kind());
        let chosen = data.select(&[3, 1, 3]).unwrap();
        assert_eq!(chosen.labels().unwrap(), &labels.select(&[3, 1, 3]));
        assert_eq!(chosen.select(&[1]).unwrap(), data.select(&[1]).unwrap());
        assert_eq!(data.clone().take(2), data.select(&[0, 1]).unwrap());
        assert_eq!(data.clone().take(9), data);
        assert_eq!(data.repeated(6).unwrap(), data.select(&[0, 1, 2, 3, 0, 1]).unwrap());
        let split = Split::new(data.clone(), data.clone()).unwrap().hold_out(0.25).unwrap();
        let rows = split.rows.clone().unwrap();
        assert_eq!((split.train, rows.len()), (data.select(&rows).unwrap(), 3));
        assert_eq!(split.validation.unwrap().labelled_len(), 1);
        // A checksum sees labels, and the examples' order.
        let others = Dataset { labels: Some(labels.select(&[1, 0, 2, 3])), ..data.clone() };
        assert_ne!(data.digest(), others.digest());
        assert_ne!(data.digest(), Dataset { labels: None, ..data.clone() }.digest());
        assert_ne!(data.digest(), data.select(&[1, 0, 2, 3]).unwrap().digest());
        assert_eq!(data.examples().row_digests().len(), 4);
        assert!(data.examples().bytes() > 0 && data.examples().select(&[4]).is_err());
    }
}

#[test]
fn labels_of_two_kinds_do_not_go_together() {
    let kinds = of_every_kind();
    for (a, one) in kinds.iter().enumerate() {
        for (b, other) in kinds.iter().enumerate() {
            assert_eq!(Split::new(one.clone(), other.clone()).is_ok(), a == b, "{a}, {b}");
        }
    }
    refused(
        Split::new(kinds[0].clone(), kinds[1].clone()),
        "training and test data differ: there are classes in training, numbers in test",
    );
    // Texts alone may be learnt from where labelled ones are tested on.
    let plain = Dataset::unlabelled(kinds[0].examples().clone());
    let split = Split::new(plain.clone(), kinds[0].clone()).unwrap();
    assert_eq!((split.train.labels(), split.test.classes()), (None, 2));
    assert!(Split::new(kinds[0].clone(), plain).is_err());
    let words = kinds[3].examples().clone();
    let short = TagLabels::new([[0], [0], [0], [0]], names(&["O"])).unwrap();
    refused(
        Dataset::labelled(words, short),
        "example 1 has 2 words and 1 tag: each word has one tag",
    );
}

#[test]
fn outputs_go_by_name() {
    let kinds = of_every_kind();
    let renamed = |data: &Dataset, to: &[&str]| data.clone().with_outputs(&names(to));
    let flags = renamed(&kinds[2], &["y", "z", "x"]).unwrap();
    let numbers = flags.labels().unwrap().numbers().unwrap();
    assert_eq!((numbers.row(0), numbers.row(3)), (&[0.0, 0.0, 1.0][..], &[1.0, 0.0, 0.0][..]));
    let tags = renamed(&kinds[3], &["B", "I", "O"]).unwrap();
    assert_eq!(tags.labels().unwrap().tags().unwrap().row(2), [2, 0, 2]);
    assert_eq!(tags.labels().unwrap().tags().unwrap().counts(), [5, 0, 5]);
    refused(renamed(&kinds[3], &["O"]), "there is no tag `B` among `O`");
    refused(renamed(&kinds[1], &["m"]), "there is no number `n` among `m`");
    // A number that is not known of an example is not 0.
    refused(renamed(&kinds[1], &["n", "m"]), "there is no number `m` among `n`");
    refused(
        kinds[1].clone().with_classes(&names(&["n"])),
        &kinds[1].need_classes().unwrap_err().to_string(),
    );
    refused(
        Split::new(
            renamed(&kinds[2], &["x", "y", "z"]).unwrap(),
            renamed(&kinds[2], &["y", "x", "w"]).unwrap(),
        ),
        "the test data have the label `w`, and the training data have only `x`, `y`, `z`: take its examples out, or \
         give training data that have it",
    );
}
