//! Recipes: a TOML file that says what is distilled from what, on which data, and how.
//!
//! A recipe is checked whole before anything is trained. [`Recipe::to_toml`] gives the recipe with every
//! default filled in; parsed again, it is the same recipe.

mod aliases;
mod data;
mod divergence;
mod document;
mod error;
mod features;
mod groups;
mod model;
mod optimizer;
mod rules;
mod schedule;
mod sets;
mod teacher;
mod train;
mod weights;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use document::{Document, Table};
use rules::{
    CLASSES, DEVICE, FLAG, FRACTION, NAME, NOT_NEGATIVE, PATH, SEED, SHARE, SIZE, TEMPERATURE,
};
use sets::Set;

use crate::data::LabelKind;
use crate::error::Error;
use crate::kernels::Divergence;
use crate::models::hub::Progress;
use crate::plan::Precision;
use crate::task::{self, TaskRef};

pub use aliases::path_of_key;
pub use data::{ClassRef, Column, Data, Normalise, Source, Validation};
pub use error::{Place, RecipeError};
pub use features::{HiddenDistance, HiddenLoss, Relation, RelationLoss};
pub use groups::Group;
pub use model::{Base, Layers, Model, Vocabulary};
pub use optimizer::{Adam, Optimizer, Sgd};
pub use schedule::Schedule;
pub use teacher::Teacher;
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

/// `[target]`: what the student must reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The least share of the teacher's accuracy that the distilled student must keep, in [0, 1].
    pub retain: f64,
}

/// `[student]`: the small model, trained once with the teacher and once without.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Student {
    /// The model.
    pub model: Model,
}

/// `[distil]`: how the teacher's knowledge passes on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Distil {
    /// Temperature T of the soft targets, from 0.01 to 10,000; 4 unless given.
    pub temperature: f32,
    /// Weight of the soft term, in [0, 1]; the hard term has the rest; 0.9 unless given. Its share of both, where
    /// both have weights of their own.
    pub alpha: f32,
    /// Weight of the soft term, of any size; `hard_weight` goes with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_weight: Option<f32>,
    /// Weight of the hard term.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hard_weight: Option<f32>,
    /// How far the student's answers are from the teacher's; forward KL unless given.
    #[serde(flatten, serialize_with = "divergence::write")]
    pub divergence: Divergence,
    /// Classes left out of the students' training data; none unless given.
    pub omit_classes: Vec<ClassRef>,
    /// Whether each measurement tells how much of the gradient is each term's; not unless given.
    pub gradient_shares: bool,
    /// Only so many of the remaining training examples for the students, the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_limit: Option<usize>,
    /// Hidden states drawn to the teacher's; none unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<HiddenLoss>,
    /// Self-attention relations drawn to the teacher's; none unless given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relations: Vec<RelationLoss>,
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
        let document = Document::parse(text, file_name, &sets)?;
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
    /// As [`Origin::fetch`].
    pub fn fetch(&mut self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), Error> {
        if let Teacher::Folder { folder, .. } = &mut self.teacher {
            folder.fetch(progress)?;
        }
        let teacher = match &mut self.teacher {
            Teacher::Trained { model, .. } => Some(&mut **model),
            _ => None,
        };
        for model in teacher.into_iter().chain([&mut self.student.model]) {
            if let Model::Encoder { from: Base::Model(origin), .. } = model {
                origin.fetch(progress)?;
            }
        }
        Ok(())
    }

    fn read(root: &Table<'_>, file_name: &str) -> Result<Self, RecipeError> {
        root.known(&[
            "name",
            "task",
            "seed",
            "out",
            "device",
            "checkpoint_seconds",
            "tensorboard",
            "precision",
            "data",
            "teacher",
            "student",
            "distil",
            "train",
            "target",
        ])?;
        let stem = || {
            let stem = Path::new(file_name).file_stem();
            stem.map_or("recipe".to_owned(), |stem| stem.to_string_lossy().into_owned())
        };
        let name = root.get("name", &NAME)?.unwrap_or_else(stem);
        let train_table = root.need_table("train", "how the students are trained")?;
        let precisions = [("f32", Precision::F32), ("mixed", Precision::Mixed)];
        let precision = root.choice("precision", &precisions)?.unwrap_or_default();
        let train = Train::read(&train_table, precision)?;
        let teacher_table = root.need_table("teacher", teacher::WHAT)?;
        let student_table = root.need_table("student", "the small model to train")?;
        let tasks = task::ALL.map(|task| (task.name(), task));
        let task = root.choice("task", &tasks)?.unwrap_or_default();
        let mut recipe = Self {
            task,
            seed: root.get("seed", &SEED)?.unwrap_or(0),
            out: root.get("out", &PATH)?.map(PathBuf::from),
            device: root.get("device", &DEVICE)?.unwrap_or_else(|| "auto".to_owned()),
            checkpoint_seconds: root.get("checkpoint_seconds", &NOT_NEGATIVE)?.unwrap_or(30.0),
            tensorboard: root.get("tensorboard", &FLAG)?.unwrap_or(false),
            target: root.table("target")?.map(|table| Target::read(&table)).transpose()?,
            data: Data::read(&root.need_table("data", "what is learnt from")?, task.labels())?,
            teacher: Teacher::read(&teacher_table, &train)?,
            student: Student::read(&student_table)?,
            distil: Distil::read(root.table("distil")?)?,
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
        if let (Teacher::Trained { train, .. }, Some(table)) =
            (&recipe.teacher, teacher_table.table("train")?)
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
            (_, LabelKind::None, _) => {
                "no text of this task has a label: put them all into `train`"
            }
            (_, _, Teacher::Logits { .. }) => {
                "the teacher is a file of logits, which has no answers to other texts: give its `folder`"
            }
            _ => return Ok(()),
        };
        let table = root.need_table("data", "what is learnt from")?;
        Err(table.conflict("unlabelled", problem))
    }

    /// A file of logits has no inside.
    fn check_features(&self, root: &Table<'_>) -> Result<(), RecipeError> {
        let features = [
            ("hidden", self.distil.hidden.is_empty()),
            ("relations", self.distil.relations.is_empty()),
        ];
        let asked = features.into_iter().find(|(_, none)| !none);
        match (asked, &self.teacher, root.table("distil")?) {
            (Some((key, _)), Teacher::Logits { .. }, Some(table)) => Err(table.conflict(
                key,
                format!(
                    "`{key}` needs a teacher that is a model, and this one is a file of logits"
                ),
            )),
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

impl Student {
    fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        table.known(&["model"])?;
        let model =
            table.need_table("model", "a table, as { type = \"mlp\", hidden_sizes = [32] }")?;
        Ok(Self { model: Model::read(&model)? })
    }
}

impl Target {
    fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        table.known(&["retain"])?;
        Ok(Self { retain: table.need("retain", &SHARE)? })
    }
}

impl Distil {
    fn read(table: Option<Table<'_>>) -> Result<Self, RecipeError> {
        let Some(table) = table else { return Ok(Self::default()) };
        table.known(&[
            "temperature",
            "alpha",
            "soft_weight",
            "hard_weight",
            "divergence",
            "beta",
            "omit_classes",
            "train_limit",
            "gradient_shares",
            "hidden",
            "relations",
        ])?;
        let default = Self::default();
        let soft_weight = table.get("soft_weight", &NOT_NEGATIVE)?;
        let hard_weight = table.get("hard_weight", &NOT_NEGATIVE)?;
        let given = table.get("alpha", &FRACTION)?;
        let share = match (soft_weight, hard_weight) {
            (Some(soft), Some(hard)) if soft + hard > 0.0 => Some(soft / (soft + hard)),
            (None, None) => None,
            (soft, _) => {
                let key = if soft.is_some() { "soft_weight" } else { "hard_weight" };
                let problem =
                    "`soft_weight` and `hard_weight` go together, and one of them is above 0";
                return Err(table.conflict(key, problem));
            }
        };
        if let (Some(share), Some(alpha)) = (share, given)
            && share != alpha
        {
            let problem = "`alpha` is the share of `soft_weight`: give it or both weights";
            return Err(table.conflict("alpha", problem));
        }
        Ok(Self {
            temperature: table.get("temperature", &TEMPERATURE)?.unwrap_or(default.temperature),
            alpha: share.or(given).unwrap_or(default.alpha),
            soft_weight,
            hard_weight,
            divergence: divergence::read(&table)?,
            omit_classes: table.get("omit_classes", &CLASSES)?.unwrap_or_default(),
            train_limit: table.get("train_limit", &SIZE)?,
            gradient_shares: table.get("gradient_shares", &FLAG)?.unwrap_or(false),
            hidden: table
                .tables("hidden")?
                .iter()
                .map(HiddenLoss::read)
                .collect::<Result<_, _>>()?,
            relations: table
                .tables("relations")?
                .iter()
                .map(RelationLoss::read)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Distil {
    /// Sum of the weights of the soft and the hard term.
    pub fn weight(&self) -> f32 {
        match (self.soft_weight, self.hard_weight) {
            (Some(soft), Some(hard)) => soft + hard,
            _ => 1.0,
        }
    }
}

/// T = 4, alpha = 0.9, nothing left out.
impl Default for Distil {
    fn default() -> Self {
        Self {
            temperature: 4.0,
            alpha: 0.9,
            soft_weight: None,
            hard_weight: None,
            divergence: Divergence::default(),
            omit_classes: Vec::new(),
            train_limit: None,
            gradient_shares: false,
            hidden: Vec::new(),
            relations: Vec::new(),
        }
    }
}
