//! Classes: which labels make classes, in what order, and how a model's classes are found among the data's. Always by
//! name: the same place in two lists means nothing.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::DataError;
use super::spec::ClassRef;

/// The most classes that labels may make: what has more different values is no column of classes.
pub(super) const MOST: usize = 1 << 16;
/// Names that a message lists.
const SHOWN: usize = 20;

/// The classes that labels make: in order of number where all are whole numbers, else sorted.
#[derive(Debug)]
pub(super) struct Classes {
    names: Vec<String>,
    ids: HashMap<String, u32>,
    /// Whether all are whole numbers, of which 1 and 1.0 are the same.
    whole: bool,
}

/// A label that makes no class.
#[derive(Debug)]
pub(super) struct NoClass {
    /// Its place among the labels.
    pub row: usize,
    /// What is wrong, and what to do.
    pub problem: String,
}

impl Classes {
    /// The classes of the training data's labels.
    pub fn of<'a>(labels: impl Iterator<Item = &'a str> + Clone) -> Result<Self, NoClass> {
        let mut names: BTreeSet<Cow<'a, str>> = BTreeSet::new();
        let numeric = labels.clone().all(|label| label.parse::<f64>().is_ok());
        for (row, label) in labels.enumerate() {
            let name = match (numeric, whole(label)) {
                (false, _) => Cow::Borrowed(label),
                (true, Some((_, name))) => name,
                (true, None) => {
                    let problem = format!(
                        "{label} is a number and not a class, and classes are what is learnt here: round the labels to \
                         a few whole numbers, or name another column as the label's"
                    );
                    return Err(NoClass { row, problem });
                }
            };
            names.insert(name);
            if names.len() > MOST {
                let problem = format!(
                    "{label:?} is one more different label than the {MOST} classes that can be learnt: name a column \
                     of classes as the label's"
                );
                return Err(NoClass { row, problem });
            }
        }
        let mut names: Vec<String> = names.into_iter().map(Cow::into_owned).collect();
        if numeric {
            names.sort_by_key(|name| whole(name).map(|(number, _)| number));
        }
        let ids = names.iter().zip(0..).map(|(name, id)| (name.clone(), id)).collect();
        Ok(Self { names, ids, whole: numeric })
    }

    /// The classes' names, in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The class of a label, or what is wrong with it.
    pub fn id(&self, label: &str) -> Result<u32, String> {
        let name = match whole(label).filter(|_| self.whole) {
            Some((_, name)) => name,
            None => Cow::Borrowed(label),
        };
        self.ids.get(&*name).copied().ok_or_else(|| {
            format!("the training data have no class {label:?}; they have {}", listed(&self.names))
        })
    }
}

/// The classes of labels that are whole numbers, in order of number: the place of each label's class, and the names.
pub(super) fn of_numbers(labels: &[i64]) -> Result<(Vec<u32>, Vec<String>), String> {
    let mut numbers = BTreeSet::new();
    for &label in labels {
        numbers.insert(label);
        if numbers.len() > MOST {
            return Err(format!(
                "the labels have more different values than the {MOST} classes that can be learnt: give the numbers of \
                 classes"
            ));
        }
    }
    let places: HashMap<i64, u32> = numbers.iter().copied().zip(0..).collect();
    let names = numbers.iter().map(ToString::to_string).collect();
    Ok((labels.iter().map(|label| places[label]).collect(), names))
}

/// A whole number, and its name: as it is written, but for a float, which is named as an integer.
fn whole(label: &str) -> Option<(i128, Cow<'_, str>)> {
    if let Ok(number) = label.parse::<i128>() {
        return Some((number, Cow::Borrowed(label)));
    }
    // Beyond 2^53 not every whole number is an f64.
    let number = label.parse::<f64>().ok().filter(|n| n.fract() == 0.0 && n.abs() < 9e15)? as i128;
    Some((number, Cow::Owned(number.to_string())))
}

/// The first names, and how many there are besides.
pub(crate) fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(SHOWN);
    match more {
        0 => shown.join(", "),
        _ => format!("{} … and {more} more", shown.join(", ")),
    }
}

/// The place of a class that a recipe names, or counts from 0.
///
/// # Errors
/// [`DataError::Unfit`] when there is no such class, with those there are.
pub fn find(class: &ClassRef, names: &[String]) -> Result<usize, DataError> {
    let problem = match class {
        ClassRef::Number(class) if *class < names.len() => return Ok(*class),
        ClassRef::Number(class) => {
            let classes = names.len();
            format!(
                "class {class} cannot be left out: there are {classes} classes, counted from 0 ({})",
                listed(names)
            )
        }
        ClassRef::Name(name) => match names.iter().position(|known| known == name) {
            Some(class) => return Ok(class),
            None => {
                format!("class `{name}` cannot be left out: the classes are {}", listed(names))
            }
        },
    };
    Err(DataError::Unfit(problem))
}

/// What a recipe says of its teacher's classes (the model's name to the data's), where it is of a model of these classes.
pub fn meant(labels: &BTreeMap<String, String>, model: &[String]) -> BTreeMap<String, String> {
    let is_meant = labels.keys().all(|name| model.contains(name));
    if is_meant { labels.clone() } else { BTreeMap::new() }
}

/// The data's names of a model's classes, in the model's order: the model's own, but where `labels` (the model's name to
/// the data's) says otherwise. LABEL_0, LABEL_1, … are the ids 0, 1, … where those, all of them, are the data's classes.
/// Every class of the data is among them.
///
/// # Errors
/// [`DataError::Unfit`] with the classes of both, when a class of the data is not among the model's, `labels` names one
/// that the model lacks, or two would have one name; `key` is where `labels` are given.
pub fn named(
    model: &[String],
    labels: &BTreeMap<String, String>,
    data: &[String],
    key: LabelsKey,
) -> Result<Vec<String>, DataError> {
    let unfit = |problem: String| DataError::Unfit(problem);
    let (theirs, ours) = (listed(model), listed(data));
    if let Some(stranger) = labels.keys().find(|name| !model.contains(name)) {
        let key = key.name();
        return Err(unfit(format!(
            "{key} names the class `{stranger}`, which the model lacks; its classes are {theirs}"
        )));
    }
    let numbers = || (0..model.len()).map(|class| class.to_string());
    let are_ids = labels.is_empty()
        && model.len() == data.len()
        && model.iter().zip(numbers()).all(|(name, n)| *name == format!("LABEL_{n}"))
        && numbers().all(|number| data.contains(&number));
    let names: Vec<String> = match are_ids {
        true => numbers().collect(),
        false => model.iter().map(|name| labels.get(name).unwrap_or(name).clone()).collect(),
    };
    let mut seen = BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(unfit(format!(
            "two of the model's classes would be `{twice}`; its classes are {theirs}: change {}",
            key.name()
        )));
    }
    if let Some(stranger) = data.iter().find(|name| !seen.contains(name.as_str())) {
        return Err(unfit(format!(
            "the data's class `{stranger}` is none of the model's: those are {theirs}, the data's {ours}; if they are the \
             same classes by other names, give {}",
            key.example(model)
        )));
    }
    Ok(names)
}

/// For each class of the data its place among the model's, which are the same ones, whatever their order; see [`named`].
///
/// # Errors
/// As [`named`], and when the model has classes that the data lack.
pub fn places(
    model: &[String],
    labels: &BTreeMap<String, String>,
    data: &[String],
    key: LabelsKey,
) -> Result<Vec<usize>, DataError> {
    let names = named(model, labels, data, key)?;
    if let Some(class) = names.iter().position(|name| !data.contains(name)) {
        let (theirs, ours) = (listed(model), listed(data));
        return Err(DataError::Unfit(format!(
            "the model's class `{}` is none of the data's: the model's are {theirs}, the data's {ours}; give a model of \
             the data's classes alone, or data that have all of the model's",
            model[class]
        )));
    }
    let places: HashMap<&str, usize> =
        names.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
    Ok(data.iter().map(|name| places[name.as_str()]).collect())
}

/// Where a person says which class of a model is which of the data's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelsKey {
    /// `teacher.labels` of a recipe.
    Recipe,
    /// `--labels` of a command.
    Flag,
}

impl LabelsKey {
    fn name(self) -> &'static str {
        match self {
            Self::Recipe => "`teacher.labels`",
            Self::Flag => "`--labels`",
        }
    }

    /// How it is written, for a model of these classes.
    fn example(self, model: &[String]) -> String {
        let first = model.iter().take(2);
        match self {
            Self::Recipe => {
                let pairs: Vec<String> =
                    first.map(|name| format!("{name:?} = \"the data's name\"")).collect();
                format!("`teacher.labels = {{ {}, … }}`", pairs.join(", "))
            }
            Self::Flag => {
                let pairs: Vec<String> =
                    first.map(|name| format!("{name}=THE_DATA'S_NAME")).collect();
                format!("`--labels {},…`", pairs.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
    }

    #[test]
    fn whole_numbers_are_classes_in_their_order_and_other_numbers_are_none() {
        let of = |labels: &[&'static str]| {
            let labels = labels.to_vec();
            Classes::of(labels.clone().into_iter()).map(|classes| {
                let ids: Vec<u32> = labels.iter().map(|label| classes.id(label).unwrap()).collect();
                (classes.names().to_vec(), ids)
            })
        };
        assert_eq!(of(&["10", "9", "10"]).unwrap(), (strings(&["9", "10"]), vec![1, 0, 1]));
        assert_eq!(
            of(&["90002", "90000", "-1"]).unwrap(),
            (strings(&["-1", "90000", "90002"]), vec![2, 1, 0])
        );
        // A table of floats: 1.0 is the class 1.
        assert_eq!(of(&["1.0", "0.00", "1"]).unwrap(), (strings(&["0", "1"]), vec![1, 0, 1]));
        assert_eq!(of(&["b", "3.80", "a"]).unwrap(), (strings(&["3.80", "a", "b"]), vec![2, 0, 1]));
        for labels in [&["5.00", "3.80", "1"][..], &["1", "nan"], &["1e300", "2"]] {
            let NoClass { row, problem } = of(labels).unwrap_err();
            let wanted = format!("{} is a number and not a class", labels[row]);
            assert!(problem.starts_with(&wanted), "{problem}");
            assert!(problem.contains("round the labels") && row < 2, "{problem}");
        }
        let many: Vec<String> = (0..=MOST).map(|label| format!("x{label}")).collect();
        let NoClass { row, problem } = Classes::of(many.iter().map(|s| &**s)).unwrap_err();
        assert_eq!(row, MOST);
        assert!(problem.contains("one more different label than the 65536 classes"), "{problem}");
        assert!(of_numbers(&(0..=MOST as i64).collect::<Vec<_>>()).is_err());
        assert_eq!(of_numbers(&[7, 3, 7]).unwrap(), (vec![1, 0, 1], strings(&["3", "7"])));
    }

    #[test]
    fn an_unknown_class_is_told_with_those_there_are() {
        let names: Vec<String> = (0..50).map(|class| format!("class {class:02}")).collect();
        let classes = Classes::of(names.iter().map(|name| &**name)).unwrap();
        let problem = classes.id("class 99").unwrap_err();
        let start =
            "the training data have no class \"class 99\"; they have `class 00`, `class 01`, ";
        assert!(problem.starts_with(start), "{problem}");
        assert!(problem.ends_with("`class 19` … and 30 more"), "{problem}");
    }

    #[test]
    fn a_models_classes_are_found_by_name_whatever_their_order() {
        let places = |model: &[&str], labels, data: &[&str]| {
            places(&strings(model), &map(labels), &strings(data), LabelsKey::Recipe)
                .map_err(|error| error.to_string())
        };
        assert_eq!(places(&["b", "c", "a"], &[], &["a", "b", "c"]).unwrap(), [2, 0, 1]);
        assert_eq!(places(&["2", "0", "1"], &[], &["0", "1", "2"]).unwrap(), [1, 2, 0]);
        assert_eq!(places(&["LABEL_0", "LABEL_1"], &[], &["0", "1"]).unwrap(), [0, 1]);
        let labels = &[("0", "yes"), ("1", "no")];
        assert_eq!(places(&["0", "1"], labels, &["no", "yes"]).unwrap(), [1, 0]);
        // A map may name the classes that differ alone.
        assert_eq!(places(&["a", "1"], &[("1", "b")], &["a", "b"]).unwrap(), [0, 1]);
        for (model, labels, data, wanted) in [
            (
                &["0", "1", "2"][..],
                &[][..],
                &["contradiction", "entailment", "neutral"][..],
                "the data's class `contradiction` is none of the model's: those are `0`, `1`, `2`, the data's \
                 `contradiction`, `entailment`, `neutral`; if they are the same classes by other names, give \
                 `teacher.labels = { \"0\" = \"the data's name\", \"1\" = \"the data's name\", … }`",
            ),
            (&["0", "1"], &[], &["1", "2"], "the data's class `2` is none of the model's"),
            (&["LABEL_0", "LABEL_1"], &[], &["1", "2"], "the data's class `1` is none"),
            (&["LABEL_0", "LABEL_1", "LABEL_2"], &[], &["0", "1"], "the data's class `0` is none"),
            (&["LABEL_0", "LABEL_1"], &[], &["no", "yes"], "give `teacher.labels = { \"LABEL_0\""),
            (&["a", "b", "c"], &[], &["a", "b"], "the model's class `c` is none of the data's"),
            (&["a", "b"], &[("x", "a")], &["a", "b"], "names the class `x`, which the model lacks"),
            (&["a", "b"], &[("a", "b")], &["a", "b"], "two of the model's classes would be `b`"),
        ] {
            let error = places(model, labels, data).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn data_may_have_some_of_a_models_classes() {
        let named = |model: &[&str], labels, data: &[&str]| {
            named(&strings(model), &map(labels), &strings(data), LabelsKey::Flag)
        };
        assert_eq!(named(&["a", "b", "c"], &[], &["c"]).unwrap(), ["a", "b", "c"]);
        assert_eq!(named(&["0", "1", "2"], &[("2", "c")], &["c"]).unwrap(), ["0", "1", "c"]);
        let error = named(&["0", "1"], &[], &["no"]).unwrap_err().to_string();
        assert!(
            error.ends_with("give `--labels 0=THE_DATA'S_NAME,1=THE_DATA'S_NAME,…`"),
            "{error}"
        );
    }

    #[test]
    fn a_recipe_names_classes_or_counts_them() {
        let names = strings(&["ant", "bee"]);
        assert_eq!(find(&ClassRef::Number(1), &names).unwrap(), 1);
        assert_eq!(find(&ClassRef::Name("ant".to_owned()), &names).unwrap(), 0);
        let error = |class| find(&class, &names).unwrap_err().to_string();
        assert_eq!(
            error(ClassRef::Number(2)),
            "class 2 cannot be left out: there are 2 classes, counted from 0 (`ant`, `bee`)"
        );
        assert_eq!(
            error(ClassRef::Name("cat".to_owned())),
            "class `cat` cannot be left out: the classes are `ant`, `bee`"
        );
    }
}
