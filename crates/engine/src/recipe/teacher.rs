//! `[teacher]`: where the teacher comes from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use super::document::Table;
use super::error::RecipeError;
use super::key::{Nested, key, keys, nested, word};
use super::rules::{ORIGIN, PATH};
use super::{Model, Train};
use crate::models::Origin;
use crate::plan::Precision;
use crate::store::Storage;

keys! {
    /// Where the teacher comes from: exactly one of `model`, `folder` and `logits`.
    TEACHER in "teacher";

    /// A model that is trained first; it has the same keys as [student.model].
    TEACHER_MODEL: Nested = nested("model", "a table")
        .like("{ type = \"mlp\", hidden_sizes = [800, 800] }");
    /// How that is trained; it has the same keys as [train].
    TEACHER_TRAIN: Nested = nested("train", "a table").otherwise("as the students").like("{ epochs = 10 }");
    /// A folder with config.json and model.safetensors, a GGUF file, or a model of the hub. Its classes are found by their names, in
    /// whatever order they are.
    FOLDER: Origin = key("folder", ORIGIN)
        .like("\"my-teacher\"")
        .also(&["checkpoint", "path", "pretrained", "teacher_path", "teacher_checkpoint"]);
    /// A safetensors file of raw logits: `train` [rows, classes], and `test`; see `distil-gpu logits`.
    LOGITS: String = key("logits", PATH)
        .like("\"teacher.safetensors\"")
        .also(&["teacher_logits", "cached_logits"]);
    /// Of a `folder`: a folder of its answers, which `distil-gpu label` writes and students learn from, so that it is asked
    /// once. They are found by the texts' tokens, and refused where teacher, tokenizer or quantisation are others.
    CACHE: String = key("cache", PATH)
        .otherwise("none: it answers within each step")
        .like("\"answers\"");
    /// How its matrices lie in memory while it teaches: f16 and bf16 take half of it, q8_0 little more than a quarter, q4_k an
    /// eighth and a bit. Of a `folder`, "as-is" leaves each in what its file has it in: half floats, and the blocks of a GGUF of
    /// whatever kinds. What that costs is measured, as the teacher is as it teaches.
    WEIGHTS: Weights = word("weights", || {
        // Rows in bytes are for models that are kept, not for those that teach.
        Weights::all().filter(|(_, weights)| *weights != Weights::In(Storage::I8)).collect()
    })
        .otherwise("\"f32\", or \"f16\" where `precision` is \"mixed\"")
        .like("\"f16\"")
        .also(&["teacher_dtype"]);
    /// Of a `folder`: its names of classes and the data's, where they differ.
    CLASS_NAMES: Nested = nested("labels", "a table")
        .otherwise("none")
        .like("{ \"0\" = \"no\", \"1\" = \"yes\" }")
        .also(&["label_map", "id2label", "teacher_labels"]);
}

/// What a recipe calls a teacher whose matrices stay as their files have them.
const AS_IS: &str = "as-is";

/// How the parameters of a model that stays as it is lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// By one rule.
    In(Storage),
    /// Each as its file has it.
    AsIs,
}

impl Default for Weights {
    fn default() -> Self {
        Self::In(Storage::default())
    }
}

impl Weights {
    /// All there are, by what people call them.
    pub fn all() -> impl Iterator<Item = (&'static str, Self)> {
        let stored = Storage::NAMES.into_iter().map(|(name, storage)| (name, Self::In(storage)));
        stored.chain([(AS_IS, Self::AsIs)])
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|(own, _)| *own == name).map(|(_, weights)| weights)
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::In(storage) => storage.name(),
            Self::AsIs => AS_IS,
        }
    }

    /// The rule; none where each parameter is as its file has it.
    pub fn storage(self) -> Option<Storage> {
        match self {
            Self::In(storage) => Some(storage),
            Self::AsIs => None,
        }
    }
}

impl Serialize for Weights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Where the teacher comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Teacher {
    /// It is trained first.
    Trained {
        /// Its model.
        model: Box<Model>,
        /// How; as the students unless given.
        train: Train,
        /// How its parameters are stored once it is trained.
        weights: Storage,
    },
    /// It is loaded.
    Folder {
        /// A folder with `config.json` and `model.safetensors`, a GGUF file, or a model of the hub.
        folder: Origin,
        /// How its parameters are stored.
        weights: Weights,
        /// Its names of classes and the data's, where they differ.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        labels: BTreeMap<String, String>,
        /// Where its answers are kept.
        #[serde(skip_serializing_if = "Option::is_none")]
        cache: Option<PathBuf>,
    },
    /// Only its logits are there.
    Logits {
        /// A safetensors file with `train` [rows, classes] and, if its accuracy is to be told, `test`.
        logits: PathBuf,
    },
}

impl Teacher {
    /// `students` is how the students are trained.
    pub(super) fn read(table: &Table<'_>, students: &Train) -> Result<Self, RecipeError> {
        table.known(&[&TEACHER])?;
        let given: Vec<&str> =
            ["model", "folder", "logits"].into_iter().filter(|key| table.has(key)).collect();
        match given.as_slice() {
            [other @ ("model" | "logits")] if table.has("labels") => {
                let problem = format!(
                    "`labels` names the classes of a model's `folder`, and a teacher of `{other}` has the data's: leave \
                     it out"
                );
                Err(table.conflict("labels", problem))
            }
            [other @ ("model" | "logits")] if table.has("cache") => {
                let problem = format!(
                    "`cache` keeps the answers of a model's `folder`, and `{other}` is none: leave one out"
                );
                Err(table.conflict("cache", problem))
            }
            ["model"] => Self::read_trained(table, students),
            [other] if table.has("train") => Err(table.conflict(
                "train",
                format!("[teacher.train] goes with `model`, not with `{other}`: leave one out"),
            )),
            ["folder"] => {
                let weights = Self::storage(table, students.precision)?;
                let folder = table.origin(&FOLDER, table.value(&FOLDER)?)?;
                let cache = table.has("cache").then(|| table.path(&CACHE)).transpose()?;
                if cache.is_some() && students.shift > 0 {
                    return Err(table.conflict("cache", UNMOVED.to_owned()));
                }
                Ok(Self::Folder { folder, weights, labels: table.words(&CLASS_NAMES)?, cache })
            }
            ["logits"] if table.has("weights") => {
                Err(table.conflict("weights", "a file of logits has no weights: leave the key out"))
            }
            ["logits"] => Self::cached(table, students),
            [] => Err(table.lacks("`model`, `folder` or `logits`", WHAT)),
            [.., last] => Err(table.conflict(
                last,
                format!("[teacher] has {}: give one of them", given.join(" and ")),
            )),
        }
    }

    fn read_trained(table: &Table<'_>, students: &Train) -> Result<Self, RecipeError> {
        let model = Box::new(Model::read(&table.need_table(&TEACHER_MODEL)?)?);
        if model.follows_teacher() {
            let problem =
                "the teacher cannot start from itself: give the path of a model's folder in `from`";
            return Err(table.conflict("model", problem));
        }
        let train = match table.table(&TEACHER_TRAIN)? {
            Some(table) => Train::read(&table, students.precision)?,
            None => students.clone(),
        };
        let Weights::In(weights) = Self::storage(table, students.precision)? else {
            let problem =
                "a teacher that is trained has no file to be as: give `weights` another value";
            return Err(table.conflict("weights", problem));
        };
        Ok(Self::Trained { model, train, weights })
    }

    /// In f16 where the trainings are mixed, unless given.
    fn storage(table: &Table<'_>, precision: Precision) -> Result<Weights, RecipeError> {
        Ok(table.get(&WEIGHTS)?.unwrap_or(Weights::In(match precision {
            Precision::F32 => Storage::F32,
            Precision::Mixed => Storage::F16,
        })))
    }

    /// How its parameters are stored while it teaches.
    pub fn weights(&self) -> Weights {
        match self {
            Self::Trained { weights, .. } => Weights::In(*weights),
            Self::Folder { weights, .. } => *weights,
            Self::Logits { .. } => Weights::In(Storage::F32),
        }
    }

    /// Where its answers are kept, if they are.
    pub fn cache(&self) -> Option<&Path> {
        match self {
            Self::Folder { cache, .. } => cache.as_deref(),
            Self::Trained { .. } | Self::Logits { .. } => None,
        }
    }

    /// The same, answering within each step.
    pub(crate) fn without_cache(mut self) -> Self {
        if let Self::Folder { cache, .. } = &mut self {
            *cache = None;
        }
        self
    }

    /// What a person said of a loaded teacher's classes: its names to the data's.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        match self {
            Self::Folder { labels, .. } => labels,
            Self::Trained { .. } | Self::Logits { .. } => &NONE,
        }
    }

    fn cached(table: &Table<'_>, students: &Train) -> Result<Self, RecipeError> {
        if students.shift > 0 {
            return Err(table.conflict("logits", UNMOVED));
        }
        Ok(Self::Logits { logits: table.path(&LOGITS)? })
    }
}

/// Why answers that are kept are not those to images that are moved.
const UNMOVED: &str = "cached answers are those of unmoved images: set `train.shift` to 0, or give the teacher's `folder` \
                       alone";

/// What a teacher can be.
pub(super) const WHAT: &str = "a model to train with [teacher.train], the folder of a trained one, or a \
                               safetensors file of its logits";
