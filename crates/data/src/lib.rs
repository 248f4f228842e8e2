//! Data: where examples come from, and how they become batches.
//!
//! [`load`] gives the training and the test set that a recipe asks for; [`Numbers::gather`] writes the rows
//! of a batch. Every loader refuses what is not there, not whole or not finite, and says where.
//!
//! ```
//! use distil_gpu_data::{Data, LabelKind, load};
//!
//! let split = load(&Data::default().train_limit(100), LabelKind::Class)?;
//! assert_eq!((split.train.len(), split.train.class_names().len()), (100, 10));
//! # Ok::<(), distil_gpu_data::DataError>(())
//! ```

pub mod classes;
mod csv;
mod dataset;
pub mod disk;
mod embedded;
mod error;
mod examples;
pub mod files;
pub mod floats;
mod gather;
pub mod guard;
mod idx;
mod images;
mod labels;
mod memory;
mod normalisation;
mod numbers;
mod safetensors;
mod spec;
mod targets;
pub mod text;
pub mod words;

pub use dataset::{Dataset, Split};
pub use error::DataError;
pub use examples::Examples;
pub use gather::Shift;
pub use images::{Colour, is_image, load_image_classes, load_images};
pub use labels::{
    Answer, ClassLabels, LabelKind, Labels, NumberLabels, SpanLabels, Spans, TagLabels,
};
pub use normalisation::Normalisation;
pub use numbers::{Features, Numbers};
pub use safetensors::{load_features, read_logits};
pub use spec::{ClassRef, Column, Conversion, Data, Normalise, Source, Validation};
pub use text::{
    Corpus, LossOn, PackedDocuments, Question, Questions, Text, TextEncoder, Texts, TokenSpan,
    Tokenizer, Tokens, Windows, Words,
};

/// Loads the data of a recipe with labels of the kind that its task asks for, or without.
///
/// Both sets have the shape and the classes in common; the limits are applied last, so that they change
/// no class.
///
/// # Errors
/// [`DataError`], naming the file and the place in it, or how training and test data differ.
pub fn load(data: &Data, kind: LabelKind) -> Result<Split, DataError> {
    if matches!(kind, LabelKind::Tags | LabelKind::Spans) && data.unlabelled.is_some() {
        let problem = "`data.unlabelled` holds whole texts, and this task reads words or questions: leave it out";
        return Err(DataError::Unfit(problem.to_owned()));
    }
    let split = load_source(&data.source, kind)?;
    let limited = |set: Dataset, limit: Option<usize>| match limit {
        Some(limit) => set.take(limit),
        None => set,
    };
    let test = limited(split.test, data.test_limit);
    let train = limited(split.train, data.train_limit);
    let mut notes = split.notes;
    let unlabelled = match (&data.unlabelled, &data.source) {
        (Some(path), Source::Text { text, skip_empty, .. }) => {
            let (texts, skipped) = text::read_texts(path, text, *skip_empty)?;
            notes.extend(text::skipped_note(path, skipped));
            Some(texts)
        }
        _ => None,
    };
    let split = Split { train, test, unlabelled, notes, ..split };
    match &data.validation {
        None => Ok(split),
        Some(Validation::Share(share)) => split.hold_out(*share),
        Some(Validation::Path(path)) => {
            let Split { test: validation, notes, .. } =
                load_source(&data.source.tested_on(path), kind)?;
            let more =
                notes.into_iter().filter(|note| !split.notes.contains(note)).collect::<Vec<_>>();
            let notes = [split.notes.clone(), more].concat();
            let known = if split.train.labels().is_some() { &split.train } else { &split.test };
            let validation = validation.with_outputs_of(known, "the validation data have")?;
            let checked = Split::new(split.train.clone(), validation)?;
            Ok(Split { validation: Some(checked.test), notes, ..split })
        }
    }
}

fn load_source(source: &Source, kind: LabelKind) -> Result<Split, DataError> {
    if let Some(problem) = unfit_labels(source, kind) {
        return Err(DataError::Unfit(problem));
    }
    let (train, test) = match source {
        Source::Embedded => embedded::load(),
        Source::Idx { train_images, train_labels, test_images, test_labels } => {
            let train = idx::load(train_images, train_labels)?;
            let test = idx::load(test_images, test_labels)?;
            let test = test.with_outputs_of(&train, &format!("{} has", test_labels.display()))?;
            Ok((train, test))
        }
        Source::Csv { train, test, label, header } => csv::load(train, test, label, *header, kind),
        Source::Safetensors { train, test, features, labels } => {
            safetensors::load(train, test, features, labels, kind)
        }
        Source::Text { train, test, text, skip_empty, loss_on, pack, .. }
            if kind == LabelKind::Documents =>
        {
            let mut notes = Vec::new();
            let column = text.first().map_or("text", String::as_str);
            let mut documents = |path| {
                let text::LoadedDocuments { documents, skipped } =
                    text::read_documents(path, column, *skip_empty)?;
                notes.extend(text::skipped_note(path, skipped));
                Ok::<_, DataError>(Dataset::unlabelled(Corpus::new(documents, *loss_on, *pack)))
            };
            let (train, test) = (documents(train)?, documents(test)?);
            return Ok(Split { notes, ..Split::new(train, test)? });
        }
        Source::Text { train, test, text, skip_empty, .. } if kind == LabelKind::None => {
            let mut notes = Vec::new();
            let mut texts = |path| {
                let (texts, skipped) = text::read_texts(path, text, *skip_empty)?;
                notes.extend(text::skipped_note(path, skipped));
                Ok::<_, DataError>(Dataset::unlabelled(texts))
            };
            let (train, test) = (texts(train)?, texts(test)?);
            return Ok(Split { notes, ..Split::new(train, test)? });
        }
        Source::Text { train, test, text, label, skip_empty, .. } => {
            let columns = text::Columns { text, label, skip_empty: *skip_empty };
            let text::Loaded { train, test, notes } = match kind {
                LabelKind::Tags => text::load_words(train, test, columns)?,
                LabelKind::Spans => text::load_questions(train, test, columns)?,
                _ => text::load(train, test, columns, kind)?,
            };
            return Ok(Split { notes, ..Split::new(train, test)? });
        }
        Source::Images { train, test, conversion } => images::load(train, test, conversion),
    }?;
    Split::new(train, test)
}

/// Why a source has no labels of a kind, if it has none.
fn unfit_labels(source: &Source, kind: LabelKind) -> Option<String> {
    let (from, fits) = match source {
        Source::Text { .. } => return None,
        Source::Csv { .. } => ("csv", !matches!(kind, LabelKind::Tags | LabelKind::Spans)),
        Source::Safetensors { .. } => {
            ("safetensors", !matches!(kind, LabelKind::Tags | LabelKind::Spans))
        }
        Source::Embedded => ("embedded", is_class(kind)),
        Source::Idx { .. } => ("idx", is_class(kind)),
        Source::Images { .. } => ("images", is_class(kind)),
    };
    let (needed, remedy) = match kind {
        LabelKind::Tags => ("a tag for each word", "\"text\""),
        LabelKind::Spans => ("answers to questions", "\"text\""),
        LabelKind::Numbers => ("numbers to be met", "\"text\", \"csv\" or \"safetensors\""),
        _ => ("several labels for each example", "\"text\", \"csv\" or \"safetensors\""),
    };
    (!fits).then(|| {
        format!(
            "this task needs {needed}, and `data.source = \"{from}\"` has none: set it to {remedy}"
        )
    })
}

fn is_class(kind: LabelKind) -> bool {
    matches!(kind, LabelKind::None | LabelKind::Class | LabelKind::ClassIfAny)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_what_a_recipe_asks_for() {
        let mut data = Data {
            source: Source::Embedded,
            train_limit: Some(50),
            test_limit: Some(20),
            validation: None,
            unlabelled: None,
            normalise: Some(Normalise::Standardise),
        };
        let split = load(&data, LabelKind::Class).unwrap();
        assert_eq!((split.train.len(), split.test.len(), split.train.classes()), (50, 20, 10));
        let examples = split.train.examples();
        let measured = examples.normalisation_for(data.normalise.as_ref()).unwrap();
        let indices: Vec<u32> = (0..50).collect();
        let mut out = vec![0.0; 50 * 784];
        examples.numbers().unwrap().gather(&indices, &measured, None, &mut out);
        let mean = out.iter().map(|value| f64::from(*value)).sum::<f64>() / out.len() as f64;
        let square =
            out.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / out.len() as f64;
        assert!(mean.abs() < 1e-5 && (square - 1.0).abs() < 1e-5, "mean {mean}, square {square}");
        assert_eq!(
            examples.normalisation_for(Some(&Normalise::None)).unwrap(),
            Normalisation::identity()
        );
        let given = Normalisation { mean: vec![0.0; 3], std: vec![1.0; 3] };
        data.normalise = Some(Normalise::Given(given));
        assert!(examples.normalisation_for(data.normalise.as_ref()).is_err());
    }
}
