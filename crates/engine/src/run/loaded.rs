//! A teacher that is loaded: its classes brought to the data's, its tokens to its student's.

use std::collections::BTreeMap;
use std::path::Path;

use distil_gpu_kernels::DType;

use super::setup::training_texts;
use crate::data::classes::{self, LabelsKey};
use crate::data::{DataError, Split};
use crate::error::Error;
use crate::models::{self, ModelConfig, Output, Source};
use crate::recipe::{self, Recipe};
use crate::store::Stored;
use crate::task::TaskRef;
use crate::words::counted;

/// A teacher that is there already; nothing where it is trained first, or a file of logits.
pub(super) struct Loaded {
    /// With its parameters where they lie, and the types that they are stored in, which they can be.
    pub teacher: Option<(ModelConfig, TeacherSource)>,
    /// What a person should know of how it makes vectors.
    pub assumed: Option<String>,
}

impl Loaded {
    /// Loads it from `folder` if that is given, else from where the recipe says.
    ///
    /// # Errors
    /// When it cannot be read, or is for another task or other data.
    pub fn of(recipe: &Recipe, split: &Split, folder: Option<&Path>) -> Result<Self, Error> {
        let recipe::Teacher::Folder { folder: original, .. } = &recipe.teacher else {
            return Ok(Self { teacher: None, assumed: None });
        };
        let (config, source) = match folder {
            // It was copied with the student's tokens.
            Some(copy) => load_teacher(recipe, split, copy, true)?,
            None => {
                let teacher = load_teacher(recipe, split, &original.folder()?, false)?;
                let data = training_texts(split)?;
                models::with_tokens_of_student(teacher, &recipe.student.model, &data)?
            }
        };
        let types = source.types(recipe.teacher.weights().storage())?;
        source.check(&types)?;
        let assumed = models::assumed_pooling(&original.folder()?, &config);
        Ok(Self { teacher: Some((config, TeacherSource { source, types })), assumed })
    }
}

/// A loaded teacher's parameters.
#[derive(Debug)]
pub struct TeacherSource {
    /// Where they lie.
    pub source: Source,
    /// What a device has them in.
    pub types: Vec<DType>,
}

/// The types that a device has the parameters in of a teacher that is trained.
pub(super) fn trained_types(recipe: &Recipe, teacher: Option<&ModelConfig>) -> Vec<DType> {
    let storage = recipe.teacher.weights().storage().unwrap_or_default();
    let types = |config: &ModelConfig| Stored::By(storage).types(&config.model().parameters());
    teacher.map_or(Vec::new(), types)
}

/// A teacher that is loaded, its classes in the data's order and by the data's names, which those of a run's own copy
/// have already.
fn load_teacher(
    recipe: &Recipe,
    split: &Split,
    folder: &Path,
    is_copy: bool,
) -> Result<(ModelConfig, Source), Error> {
    let (mut config, mut source) = models::open(folder)?;
    fits(&config, recipe.task, split)?;
    if recipe.task.has_classes() {
        let unfit = |error: DataError| Error::Model {
            path: "teacher.folder".to_owned(),
            problem: error.to_string(),
        };
        let none = BTreeMap::new();
        let labels = if is_copy { &none } else { recipe.teacher.labels() };
        let ours = split.train.class_names();
        let places = classes::places(&config.class_names, labels, ours, LabelsKey::Recipe);
        config.order_classes(&mut source, &places.map_err(unfit)?, ours);
    } else if let Some(labels) = split.train.labels().filter(|_| config.output() != Output::Span) {
        let outputs = labels.outputs();
        if config.classes() != outputs.len() {
            return Err(Error::Model {
                path: "teacher.folder".to_owned(),
                problem: format!(
                    "the teacher has {} ({}), and the data have {} ({})",
                    counted(config.classes(), "output"),
                    config.class_names.join(", "),
                    counted(outputs.len(), "output"),
                    outputs.join(", "),
                ),
            });
        }
        let places = output_places(recipe, &config, outputs, is_copy)?;
        config.order_classes(&mut source, &places, outputs);
    }
    Ok((config, source))
}

/// The places of the data's outputs among the teacher's: by name where names tell, as they are where there is one or the
/// teacher's have no names of their own.
fn output_places(
    recipe: &Recipe,
    config: &ModelConfig,
    outputs: &[String],
    is_copy: bool,
) -> Result<Vec<usize>, Error> {
    let none = BTreeMap::new();
    let labels = if is_copy { &none } else { recipe.teacher.labels() };
    let nameless = config.class_names.iter().all(|name| name.starts_with("LABEL_"));
    if labels.is_empty() && (outputs.len() == 1 || nameless) {
        return Ok((0..outputs.len()).collect());
    }
    let places = classes::places(&config.class_names, labels, outputs, LabelsKey::Recipe);
    places.map_err(|error| Error::Model {
        path: "teacher.folder".to_owned(),
        problem: error.to_string(),
    })
}

/// Refuses a loaded teacher that is for another task or other data.
fn fits(config: &ModelConfig, task: TaskRef, split: &Split) -> Result<(), Error> {
    config.input.check(split.train.examples())?;
    if !task.is_done_by(config) {
        let problem = format!(
            "the teacher is not made for `task = \"{}\"`, but for `{}`",
            task.name(),
            TaskRef::of_model(config).name()
        );
        return Err(Error::Model { path: "teacher.folder".to_owned(), problem });
    }
    Ok(())
}
