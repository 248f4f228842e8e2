//! A file of a teacher's answers that knows what it answers.
//!
//! Beside each tensor of raw logits `x` [rows, classes] lies `x.rows` [rows], a checksum of each example; the file's
//! metadata hold, under one key and with a checksum of their own, those of both, of the teacher's weights and its
//! tokenizer, and the names of the classes. A file that was made elsewhere has none of this.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde::{Deserialize, Serialize};

use crate::data::{Dataset, Examples, Split};
use crate::error::Error;
use crate::files::{bad, io_error, write_atomically};
use crate::models::{Input, ModelConfig};
use crate::sealed::{self, hex};

/// The key in the file's metadata.
const KEY: &str = "distil-gpu";

/// Who answers.
#[derive(Clone, Copy, Debug)]
pub struct Answerer<'a> {
    /// The model.
    pub config: &'a ModelConfig,
    /// Its parameters.
    pub parameters: &'a [Vec<f32>],
    /// Names of the classes, in the order of the columns; none of a model that has none.
    pub classes: &'a [String],
}

/// Raw logits [rows, columns] of these examples.
#[derive(Clone, Copy, Debug)]
pub struct Answers<'a> {
    /// Name of the tensor.
    pub name: &'a str,
    /// What was asked.
    pub examples: &'a Examples,
    /// The logits, row by row.
    pub logits: &'a [f32],
}

/// What a file says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct Provenance {
    /// Of this program.
    version: String,
    /// Checksum of the teacher's weights.
    weights: String,
    /// Of its tokenizer.
    tokenizer: Option<String>,
    /// Most tokens of a text that it reads.
    max_length: Option<usize>,
    classes: Vec<String>,
    /// Checksums of the tensors' bytes.
    tensors: BTreeMap<String, String>,
}

/// Name of the tensor with the checksums of the examples.
fn rows_of(name: &str) -> String {
    format!("{name}.rows")
}

fn checksum(bytes: &[u8]) -> String {
    hex(crc32fast::hash(bytes))
}

/// Writes a file of answers, whole or not at all.
///
/// # Errors
/// [`Error::Io`] or [`Error::Model`] naming the file.
pub fn save_answers(
    path: &Path,
    answerer: Answerer<'_>,
    answers: &[Answers<'_>],
) -> Result<(), Error> {
    let mut tensors = BTreeMap::new();
    for Answers { name, examples, logits } in answers {
        let (rows, columns) = (examples.len(), logits.len() / examples.len());
        let values: &[u8] = bytemuck::cast_slice(logits);
        tensors.insert((*name).to_owned(), (Dtype::F32, vec![rows, columns], values.to_vec()));
        let digests = examples.row_digests();
        let bytes = digests.iter().flat_map(|digest| digest.to_le_bytes()).collect();
        tensors.insert(rows_of(name), (Dtype::U32, vec![rows], bytes));
    }
    let mut weights = crc32fast::Hasher::new();
    answerer.parameters.iter().for_each(|values| weights.update(bytemuck::cast_slice(values)));
    let tokens = match &answerer.config.input {
        Input::Tokens(tokens) => Some(tokens),
        Input::Numbers { .. } => None,
    };
    let tokenizer = tokens.and_then(|tokens| tokens.tokenizer.as_ref());
    let provenance = Provenance {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        weights: hex(weights.finalize()),
        tokenizer: tokenizer.map(|tokenizer| hex(tokenizer.digest())),
        max_length: tokens.map(|tokens| tokens.max_length),
        classes: answerer.classes.to_vec(),
        tensors: tensors.iter().map(|(name, t)| (name.clone(), checksum(&t.2))).collect(),
    };
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name, view))
    });
    let views = views.collect::<Result<Vec<_>, _>>();
    let metadata = HashMap::from([(KEY.to_owned(), sealed::to_text(&provenance))]);
    let bytes = views.and_then(|views| serialize(views, Some(metadata)));
    write_atomically(path, &bytes.map_err(|error| bad(path, error.to_string()))?)
}

/// Refuses a file of answers that is damaged, or whose rows or classes are not those of the data; what a person should
/// know, where not all of it can be told.
///
/// # Errors
/// [`Error::Model`] naming the file and the first row, or both lists of classes.
pub(crate) fn check_answers(path: &Path, split: &Split) -> Result<Vec<String>, Error> {
    let bytes = fs::read(path).map_err(io_error(path))?;
    let damaged = |problem: String| {
        bad(path, format!("the answers are damaged ({problem}): write them anew with `logits`"))
    };
    let unreadable = |error: safetensors::SafeTensorError| damaged(error.to_string());
    let file = SafeTensors::deserialize(&bytes).map_err(unreadable)?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(unreadable)?;
    let Some(text) = header.metadata().as_ref().and_then(|metadata| metadata.get(KEY)) else {
        return Ok(vec![format!(
            "{} does not say what it answers: whether its rows and columns are those of the data could not be checked",
            path.display()
        )]);
    };
    let provenance: Provenance = sealed::from_text(text).map_err(damaged)?;
    for (name, known) in &provenance.tensors {
        let found = file.tensor(name).map(|tensor| checksum(tensor.data()));
        if found.map_err(unreadable)? != *known {
            return Err(damaged(format!("the checksum of `{name}` is not {known}")));
        }
    }
    let sets = [("train", &split.train, split.rows.as_deref()), ("test", &split.test, None)];
    for (name, data, places) in sets {
        if let Ok(tensor) = file.tensor(&rows_of(name)) {
            let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
            let rows: Vec<u32> = tensor.data().chunks_exact(4).map(word).collect();
            check_rows(data, places, &rows)
                .map_err(|problem| bad(path, format!("`{name}`: {problem}")))?;
        }
    }
    check_classes(&provenance.classes, split.train.class_names())
        .map(|note| note.map(|note| format!("{}: {note}", path.display())).into_iter().collect())
        .map_err(|problem| bad(path, problem))
}

/// Refuses checksums `theirs` that are not those of the examples; `places` are the rows of what was given that are in
/// the data.
fn check_rows(data: &Dataset, places: Option<&[u32]>, theirs: &[u32]) -> Result<(), String> {
    let place = |row: usize| places.map_or(row, |places| places[row] as usize);
    let ours = data.examples().row_digests();
    let is_other = |(row, digest): &(usize, &u32)| theirs.get(place(*row)) != Some(*digest);
    let Some((row, digest)) = ours.iter().enumerate().find(is_other) else { return Ok(()) };
    let (row, found) = (place(row), theirs.iter().position(|known| known == digest));
    Err(match found {
        Some(other) => format!(
            "example {row} of the data, counted from 0, is example {other} of these answers: they are in another \
             order; write them anew with `logits`"
        ),
        None => format!(
            "example {row} of the data, counted from 0, is none that these answers are of: write them anew with \
             `logits`"
        ),
    })
}

/// Refuses columns that are of other classes, or of the same in another order; a note where they have no names.
fn check_classes(theirs: &[String], ours: &[String]) -> Result<Option<String>, String> {
    if theirs == ours || theirs.is_empty() || ours.is_empty() {
        return Ok(None);
    }
    let is_number = |(class, name): (usize, &String)| {
        name.strip_prefix("LABEL_").unwrap_or(name) == class.to_string()
    };
    let are_numbers = |names: &[String]| names.iter().enumerate().all(is_number);
    if theirs.len() == ours.len() && (are_numbers(theirs) || are_numbers(ours)) {
        return Ok(Some(format!(
            "its columns are {}, and the classes {}: they are taken in this order, which no name confirms",
            theirs.join(", "),
            ours.join(", ")
        )));
    }
    Err(format!(
        "its columns are {}, and the classes of the data {}: they must be the same, in the same order",
        theirs.join(", "),
        ours.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Features, Normalisation, Numbers, Text, Texts};
    use crate::models::{Architecture, Mlp};

    fn texts(rows: &[&str]) -> Examples {
        Texts::new(rows.iter().map(|row| Text::from(*row)).collect()).unwrap().into()
    }

    fn numbers(values: &[f32]) -> Examples {
        Numbers::new(Features::F32(values.to_vec()), vec![2]).unwrap().into()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn split(train: Examples, test: Examples, classes: &[&str]) -> Split {
        let set = |examples: Examples| {
            let labels = (0..examples.len() as u32).map(|row| row % 2).collect();
            Dataset::new(examples, labels, names(classes)).unwrap()
        };
        Split::new(set(train), set(test)).unwrap()
    }

    fn config() -> ModelConfig {
        let mlp: Mlp = serde_json::from_str(
            r#"{"input_size": 2, "hidden_sizes": [], "num_classes": 2, "activation": "relu",
                "dropout": 0.0, "input_dropout": 0.0}"#,
        )
        .unwrap();
        let input = Input::Numbers {
            shape: vec![2],
            normalisation: Normalisation::identity(),
            background: None,
        };
        let class_names = names(&["ant", "bee"]);
        ModelConfig::new(Architecture::Mlp(mlp), input, class_names)
    }

    fn saved(path: &Path, split: &Split, classes: &[&str]) {
        let classes = names(classes);
        let answerer = Answerer { config: &config(), parameters: &[vec![1.0]], classes: &classes };
        let logits = |data: &Dataset| (0..2 * data.len()).map(|i| i as f32).collect::<Vec<f32>>();
        let (train, test) = (logits(&split.train), logits(&split.test));
        let sets = [("train", &split.train, &train), ("test", &split.test, &test)];
        let answers = sets.map(|(name, data, logits)| {
            let examples = data.examples();
            Answers { name, examples, logits }
        });
        save_answers(path, answerer, &answers).unwrap();
    }

    #[test]
    fn answers_are_those_of_the_rows_in_their_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.safetensors");
        let of = |train: &[&str], test: &[&str]| split(texts(train), texts(test), &["ant", "bee"]);
        saved(&path, &of(&["a", "b", "c", "d"], &["e", "f"]), &["ant", "bee"]);
        let told = |split: &Split| {
            let message = check_answers(&path, split).unwrap_err().to_string();
            message.split_once("answers.safetensors: ").unwrap().1.to_owned()
        };
        let same = of(&["a", "b", "c", "d"], &["e", "f"]);
        assert_eq!(check_answers(&path, &same).unwrap(), [""; 0]);
        // What is held out for validation is not learnt from, and the rest keeps its rows.
        let held = same.clone().hold_out(0.5).unwrap();
        assert_eq!((held.train.len(), check_answers(&path, &held).unwrap().len()), (2, 0));
        let order = told(&of(&["a", "c", "b", "d"], &["e", "f"]));
        let wanted =
            "`train`: example 1 of the data, counted from 0, is example 2 of these answers";
        assert!(order.starts_with(wanted), "{order}");
        let held = of(&["d", "c", "b", "a"], &["e", "f"]).hold_out(0.5).unwrap();
        assert!(told(&held).contains("another order"), "{}", told(&held));
        let changed = told(&of(&["a", "b", "c", "d"], &["e", "F"]));
        let wanted =
            "`test`: example 1 of the data, counted from 0, is none that these answers are of";
        assert!(changed.starts_with(wanted), "{changed}");

        let of = |last: f32| {
            split(numbers(&[0.0, 1.0, 2.0, 3.0]), numbers(&[4.0, last]), &["ant", "bee"])
        };
        saved(&path, &of(5.0), &["ant", "bee"]);
        assert!(check_answers(&path, &of(5.0)).is_ok());
        assert!(told(&of(5.5)).starts_with("`test`: example 0"));
    }

    #[test]
    fn columns_go_by_the_names_of_classes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.safetensors");
        let split = split(texts(&["a", "b"]), texts(&["c", "d"]), &["ant", "bee"]);
        for (classes, wanted) in [
            (["bee", "ant"], "its columns are bee, ant, and the classes of the data ant, bee"),
            (["ant", "cat"], "its columns are ant, cat, and the classes of the data ant, bee"),
        ] {
            saved(&path, &split, &classes);
            let message = check_answers(&path, &split).unwrap_err().to_string();
            assert!(message.contains(wanted), "{message}");
        }
        for numbered in [["0", "1"], ["LABEL_0", "LABEL_1"]] {
            saved(&path, &split, &numbered);
            let notes = check_answers(&path, &split).unwrap();
            assert!(notes[0].contains("which no name confirms"), "{notes:?}");
        }
    }

    #[test]
    fn damage_is_told_and_what_was_made_elsewhere_is_taken_with_a_note() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.safetensors");
        let split = split(texts(&["a", "b"]), texts(&["c", "d"]), &["ant", "bee"]);
        saved(&path, &split, &["ant", "bee"]);
        let bytes = fs::read(&path).unwrap();
        let (mut refused, mut foreign) = (0, 0);
        for bit in (0..8 * bytes.len()).step_by(3) {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, flipped).unwrap();
            match check_answers(&path, &split) {
                Err(_) => refused += 1,
                // The key of the metadata, or white space in them, has changed.
                Ok(notes) => foreign += notes.len(),
            }
        }
        println!("{refused} flipped bits refused, {foreign} make it a file from elsewhere");
        assert!(refused > bytes.len() && foreign <= 8 * KEY.len());
        for len in 0..bytes.len() {
            fs::write(&path, &bytes[..len]).unwrap();
            assert!(check_answers(&path, &split).is_err(), "{len}");
        }
        let logits = [("train", vec![2, 2], vec![0.0; 4])];
        crate::files::save_tensors(&path, &logits, HashMap::new()).unwrap();
        let notes = check_answers(&path, &split).unwrap();
        assert!(notes[0].contains("could not be checked"), "{notes:?}");
    }
}
