//! Recipes: a TOML file that says what is distilled from what, on which data, and how.
//!
//! A recipe is checked whole before anything is trained. [`Recipe::to_toml`] gives the recipe with every
//! default filled in; parsed again, it is the same recipe.
//!
//! ```
//! use distil_gpu_engine::recipe::Recipe;
//!
//! let recipe = Recipe::embedded_default(&["distil.temperature=8".to_owned()])?;
//! assert_eq!(recipe.distil.temperature, 8.0);
//! assert_eq!(Recipe::parse(&recipe.to_toml()?, "again.toml")?, recipe);
//! let error = Recipe::embedded_default(&["distil.tau=8".to_owned()]).unwrap_err().to_string();
//! assert!(error.contains("did you mean `temperature`?"));
//! # Ok::<(), distil_gpu_engine::recipe::RecipeError>(())
//! ```

mod aliases;
mod build;
mod data;
mod distil;
mod divergence;
mod document;
mod error;
mod features;
mod groups;
mod key;
mod keys;
mod model;
mod on_policy;
mod optimizer;
mod pictures;
mod reference;
mod root;
mod rules;
mod schedule;
mod sets;
mod teacher;
mod train;
mod weights;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::Serialize;

use document::{Document, Table};
use root::{
    CHECKPOINT_SECONDS, DATA, DISTIL_TABLE, NAMED, OUT, PRECISION, RANDOM_SEED, ROOT, RUNS_ON,
    STUDENT, TARGET, TASK, TEACHER_TABLE, TENSORBOARD, TRAIN_TABLE,
};
use sets::Set;
use teacher::TEACHER_TRAIN;

use crate::data::LabelKind;
use crate::error::Error;
use crate::models::hub::Progress;
use crate::plan::Precision;
use crate::task::TaskRef;

pub use crate::data::Data;
pub use crate::data::{ClassRef, Column, Normalise, Source, Validation};
pub use aliases::path_of_key;
pub use distil::Distil;
pub use error::{Place, RecipeError};
pub use features::{HiddenDistance, HiddenLoss, Relation, RelationLoss};
pub use groups::Group;
pub use model::{Base, ChosenBy, Decoder, Layers, Model, Vocabulary};
pub use on_policy::OnPolicy;
pub use optimizer::{Adam, Optimizer, Sgd};
pub use pictures::{EfficientNet, ResNet};
pub use reference::{KeyReference, TableReference, reference};
pub use root::{Student, Target};
pub use schedule::Schedule;
pub use teacher::{Teacher, Weights};
pub use train::{Keep, LOSS, Length, Train};
pub use weights::{Balanced, ClassWeights};

/// The text of the default recipe, which runs on the embedded data.
pub const DEFAULT_RECIPE: &str = include_str!("../../../../recipes/default.toml");

/// A recipe to begin with, every key explained: what `distil-gpu init` writes.
pub const STARTER: &str = include_str!("../../../../recipes/starter.toml");

/// A whole recipe, checked, with every default filled in.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recipe {
    /// Its name; that of its file unless given.
    pub name: String,
    /// What the models learn to do; to classify unless given.
    pub task: TaskRef,
    /// Seed of initial weights, order, shifts and dropout; 0 unless given.
    pub seed: u32,
    /// The run's folder, against the current one; unless given, the first of `runs/<name>`,
    /// `runs/<name>-2`, … that is free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    /// `auto`, `cpu`, `gpu` or `gpu:N`; `auto` unless given.
    pub device: String,
    /// A checkpoint at most every so many seconds; 0 for none but where the run is told to stop; 30 unless
    /// given.
    pub checkpoint_seconds: f32,
    /// Whether TensorBoard event files are written beside `metrics.jsonl`; not unless given.
    pub tensorboard: bool,
    /// How the numbers of trainings lie in memory; in f32 unless given.
    pub precision: Precision,
    /// What is learnt from.
    pub data: Data,
    /// Where the teacher comes from.
    pub teacher: Teacher,
    /// The small model.
    pub student: Student,
    /// How the teacher's knowledge passes on.
    pub distil: Distil,
    /// How both students are trained.
    pub train: Train,
    /// What the student must reach for the run to count as a success.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

impl Recipe {
    /// Reads a recipe from a file, with `--set`s (`KEY=VALUE`) in the place of its values.
    ///
    /// Relative paths of the file are taken against its folder, those of `sets` and `out` against the
    /// current one.
    ///
    /// # Errors
    /// [`RecipeError`], at the first thing that is wrong.
    pub fn load(path: &Path, sets: &[String]) -> Result<Self, RecipeError> {
        let file = path.display().to_string();
        if path.is_dir() {
            let is_run = path.join("recipe.toml").is_file();
            return Err(RecipeError::Folder { path: file, is_run });
        }
        let text = std::fs::read_to_string(path)
            .map_err(|source| RecipeError::Read { path: file.clone(), source })?;
        Self::parse_with(&text, &file, sets)
    }

    /// Reads a recipe from its text. `file_name` names it in errors, gives its default name, and its folder
    /// is the one that relative paths are taken against.
    ///
    /// # Errors
    /// [`RecipeError`], at the first thing that is wrong.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, RecipeError> {
        Self::parse_with(text, file_name, &[])
    }

    /// As [`Recipe::parse`], with `--set`s (`KEY=VALUE`) in the place of the text's values.
    ///
    /// # Errors
    /// [`RecipeError`], at the first thing that is wrong.
    pub fn parse_with(text: &str, file_name: &str, sets: &[String]) -> Result<Self, RecipeError> {
        let sets = sets.iter().map(|set| Set::parse(set)).collect::<Result<Vec<_>, _>>()?;
        let document = Document::parse(text, file_name, &sets, aliases::meant)?;
        Self::read(&document.root(), file_name)
    }

    /// The default recipe, on the embedded data.
    ///
    /// # Errors
    /// [`RecipeError`] when `sets` do not fit it.
    pub fn embedded_default(sets: &[String]) -> Result<Self, RecipeError> {
        Self::parse_with(DEFAULT_RECIPE, "default.toml", sets)
    }

    /// The recipe as TOML, with every default written out.
    ///
    /// # Errors
    /// [`RecipeError::Write`] when a path is not UTF-8.
    pub fn to_toml(&self) -> Result<String, RecipeError> {
        toml::to_string(self).map_err(|error| RecipeError::Write(error.to_string()))
    }

    /// Downloads what its models need of the hub, with word to `progress`, and pins their revisions to commits.
    /// A recipe of folders is left as it is.
    ///
    /// # Errors
    /// As [`crate::models::Origin::fetch`].
    pub fn fetch(&mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), Error> {
        if let Teacher::Folder { folder, .. } = &mut self.teacher {
            folder.fetch(progress)?;
        }
        let teacher = match &mut self.teacher {
            Teacher::Trained { model, .. } => Some(&mut **model),
            _ => None,
        };
        for model in teacher.into_iter().chain([&mut self.student.model]) {
            if let Some(Base::Model(origin)) = model.base_mut() {
                origin.fetch(progress)?;
            }
        }
        Ok(())
    }

    fn read(root: &Table<'_>, file_name: &str) -> Result<Self, RecipeError> {
        root.known(&[&ROOT])?;
        let stem = || {
            let stem = Path::new(file_name).file_stem();
            stem.map_or("recipe".to_owned(), |stem| stem.to_string_lossy().into_owned())
        };
        let name = root.get(&NAMED)?.unwrap_or_else(stem);
        let train_table = root.need_table(&TRAIN_TABLE)?;
        let precision = root.value(&PRECISION)?;
        let train = Train::read(&train_table, precision)?;
        let teacher_table = root.need_table(&TEACHER_TABLE)?;
        let student_table = root.need_table(&STUDENT)?;
        let task = root.value(&TASK)?;
        let mut recipe = Self {
            task,
            seed: root.value(&RANDOM_SEED)?,
            out: root.get(&OUT)?.map(PathBuf::from),
            device: root.value(&RUNS_ON)?,
            checkpoint_seconds: root.value(&CHECKPOINT_SECONDS)?,
            tensorboard: root.value(&TENSORBOARD)?,
            target: root.table(&TARGET)?.map(|table| Target::read(&table)).transpose()?,
            data: data::read(&root.need_table(&DATA)?, task.labels())?,
            teacher: Teacher::read(&teacher_table, &train)?,
            student: Student::read(&student_table)?,
            distil: Distil::read(root.table(&DISTIL_TABLE)?)?,
            train,
            precision,
            name,
        };
        recipe.choose_criteria();
        if let (Teacher::Logits { .. }, true) =
            (&recipe.teacher, recipe.student.model.follows_teacher())
        {
            let problem = "a student cannot start from the teacher's logits: give the path of a model's folder \
                           in `from`, or the teacher's `folder`";
            return Err(student_table.conflict("model", problem));
        }
        recipe.check_unlabelled(root)?;
        recipe.check_train(&train_table, &recipe.train)?;
        recipe.check_features(root)?;
        recipe.check_softmax(root)?;
        if let (Teacher::Trained { train, .. }, Some(table)) =
            (&recipe.teacher, teacher_table.table(&TEACHER_TRAIN)?)
        {
            recipe.check_train(&table, train)?;
        }
        Ok(recipe)
    }

    /// Where the best parameters are kept, they are the best in the task's first score unless the recipe says otherwise.
    fn choose_criteria(&mut self) {
        let default = self.task.criteria().first();
        let teacher = match &mut self.teacher {
            Teacher::Trained { train, .. } => Some(train),
            _ => None,
        };
        for train in teacher.into_iter().chain([&mut self.train]) {
            if train.keep == Keep::Best && train.best_by.is_none() {
                train.best_by = default.map(|&key| key.to_owned());
            }
        }
    }

    /// Texts without labels are for a teacher that can be asked about them, where others have labels.
    fn check_unlabelled(&self, root: &Table<'_>) -> Result<(), RecipeError> {
        let problem = match (&self.data.unlabelled, self.task.labels(), &self.teacher) {
            (None, ..) => return Ok(()),
            (_, LabelKind::None | LabelKind::Documents, _) => {
                "no text of this task has a label: put them all into `train`"
            }
            (_, _, Teacher::Logits { .. }) => {
                "the teacher is a file of logits, which has no answers to other texts: give its `folder`"
            }
            _ => return Ok(()),
        };
        let table = root.need_table(&DATA)?;
        Err(table.conflict("unlabelled", problem))
    }

    /// A file of logits has no inside.
    fn check_features(&self, root: &Table<'_>) -> Result<(), RecipeError> {
        let features = [
            ("hidden", self.distil.hidden.is_empty()),
            ("relations", self.distil.relations.is_empty()),
        ];
        let asked = features.into_iter().find(|(_, none)| !none);
        match (asked, &self.teacher, root.table(&DISTIL_TABLE)?) {
            (Some((key, _)), Teacher::Logits { .. }, Some(table)) => Err(table.conflict(
                key,
                format!(
                    "`{key}` needs a teacher that is a model, and this one is a file of logits"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Decoupled KL and standardised logits are of one softmax over the same classes.
    fn check_softmax(&self, root: &Table<'_>) -> Result<(), RecipeError> {
        let asked = [
            ("divergence", !self.distil.divergence.is_of_outcomes()),
            ("standardise", self.distil.standardise),
        ];
        let asked = asked.into_iter().find(|(_, is_asked)| *is_asked);
        match (asked, root.table(&DISTIL_TABLE)?) {
            (Some((key, _)), Some(table)) if !self.task.has_softmax() => {
                let what =
                    if key == "divergence" { "\"dkd\" compares" } else { "`standardise` takes" };
                let problem = format!(
                    "{what} the classes of an example, of which one is right, and `task = \"{}\"` has none: leave it out",
                    self.task.name()
                );
                Err(table.conflict(key, problem))
            }
            _ => Ok(()),
        }
    }

    /// Rows of a table cannot be moved as images can, and the test data must not choose what they measure.
    fn check_train(&self, table: &Table<'_>, train: &Train) -> Result<(), RecipeError> {
        if train.class_weights.is_some() && !self.task.has_classes() {
            let problem = format!(
                "`class_weights` is for the classes of labels, and `task = \"{}\"` has none: leave it out",
                self.task.name()
            );
            return Err(table.conflict("class_weights", problem));
        }
        if train.label_smoothing > 0.0 && !self.task.has_softmax() {
            let problem = format!(
                "`label_smoothing` spreads a label over the classes of an example, and `task = \"{}\"` has none: leave it out",
                self.task.name()
            );
            return Err(table.conflict("label_smoothing", problem));
        }
        if train.keep == Keep::Best && self.data.validation.is_none() {
            let problem = "the best is chosen on data that are neither learnt from nor tested on: set \
                           `data.validation`, as to 0.1 for a tenth of the training data";
            return Err(table.conflict("keep", problem));
        }
        let criteria: Vec<&str> = self.task.criteria().iter().copied().chain([LOSS]).collect();
        if let Some(key) = train.best_by.as_deref().filter(|key| !criteria.contains(key)) {
            let known: Vec<String> = criteria.iter().map(|key| format!("\"{key}\"")).collect();
            let problem = format!(
                "`task = \"{}\"` measures no `{key}`: set {}",
                self.task.name(),
                known.join(" or ")
            );
            return Err(table.conflict("best_by", problem));
        }
        if train.shift > 0 && matches!(self.data.source, Source::Csv { .. }) {
            let problem =
                "`shift` moves images, and a CSV file has none: leave it out, or set it to 0";
            return Err(table.conflict("shift", problem));
        }
        Ok(())
    }
}
