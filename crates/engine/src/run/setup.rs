//! What a recipe works with: its data, and its models before any training.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use distil_gpu_kernels::DType;

use super::asked::check_task;
use super::loaded::{Loaded, TeacherSource, trained_types};
use crate::data::classes;
use crate::data::{self, Dataset, Examples, LabelKind, Normalisation, Split};
use crate::error::Error;
use crate::measure::arm::Test;
use crate::models::decoder::Ranking;
use crate::models::{
    self, BatchEncoder, Head, InitialWeights, Initialization, Input, ModelConfig, Source,
};
use crate::objective::plans::read_alike;
use crate::objective::{Objective, Parameters, RawAnswers, TeacherAnswers, TeacherLogits};
use crate::recipe::{self, Normalise, Recipe, Train};
use crate::results::Arm;
use crate::store::{Layout, Storage, Stored};
use crate::task::{Measured, TaskRef};
use crate::teacher_cache::{Binding, CachedAnswers, Places, TeacherCache};
use crate::train::TrainingJob;
use crate::train::rates::rates;
use crate::words::{counted_thousands, thousands};

/// A recipe's data and models.
#[derive(Debug)]
pub struct Setup {
    /// Training and test data.
    pub split: Split,
    /// Numbers of the classes that the students do not see.
    pub omitted: Vec<usize>,
    /// What the teacher learns from, if it is trained: the training data as it reads them.
    pub teacher_data: Dataset,
    /// What both students learn from: the training data, less what the recipe keeps from them.
    pub students: Dataset,
    /// What the distilled student learns from: those, and behind them texts without labels, if there are any.
    pub transfer: Dataset,
    /// What the student alone learns from: as many examples, so that both take the same steps.
    pub alone: Dataset,
    /// The teacher, if it is a model.
    pub teacher: Option<ModelConfig>,
    /// Where the teacher's parameters lie, if it is there already.
    pub teacher_source: Option<Arc<Source>>,
    /// The types that a device has the teacher's parameters in while it teaches; empty where it is no model.
    pub teacher_types: Vec<DType>,
    /// The student.
    pub student: ModelConfig,
    /// What the distilled student minimises.
    pub objective: Objective,
    /// Where the teacher's parameters start, if it is trained.
    teacher_start: InitialWeights,
    /// Where the student's start.
    student_start: InitialWeights,
    /// The parameters of a control that has nothing to learn from: a student that embeds, at its start.
    control_parameters: Option<Vec<Vec<f32>>>,
    /// The teacher's answers on disk, and where those to what the distilled student learns from lie.
    cache: Option<(Arc<TeacherCache>, Places)>,
    /// What numbers go through before a model sees them.
    normalisation: Normalisation,
    /// What a loaded teacher's folder does not say and is assumed of it.
    assumed: Option<String>,
    /// Weights of the classes in the teacher's training, if it has such weights, and in the students'.
    class_weights: [Option<Vec<f32>>; 2],
}

impl Setup {
    /// Reads a recipe's data and, from `folder` if it is given, a teacher that is loaded.
    ///
    /// # Errors
    /// When data or teacher cannot be used, or do not go together.
    pub fn read(recipe: &Recipe, folder: Option<&Path>) -> Result<Self, Error> {
        let task = recipe.task;
        check_task(recipe, true)?;
        let is_finished = matches!(recipe.teacher, recipe::Teacher::Folder { .. });
        let kind = match task.labels() {
            // A teacher is trained on labels, and a file of answers was made of examples with labels.
            LabelKind::ClassIfAny if !is_finished => LabelKind::Class,
            kind => kind,
        };
        let mut split = data::load(&recipe.data, kind)?;
        check_task(recipe, split.train.labels().is_some())?;
        if split.train.labels().is_none() && task.has_classes() {
            split.train = split.train.clone().with_class_names(&known_classes(recipe, &split)?)?;
        }
        let Loaded { teacher: loaded, assumed } = Loaded::of(recipe, &split, folder)?;
        let (loaded, loaded_source) = loaded.unzip();
        let (teacher_source, loaded_types) =
            loaded_source.map(|TeacherSource { source, types }| (Arc::new(source), types)).unzip();
        let normalisation = normalisation(recipe, &split, loaded.as_ref())?;
        let read = training_texts(&split)?;
        let start_of = |model, teacher| {
            Initialization::of(model, head(recipe.task, &read), &read, &normalisation, teacher)
        };
        let (teacher, teacher_start, teacher_train) = match &recipe.teacher {
            recipe::Teacher::Trained { model, train, .. } => {
                let Initialization { config, first } = start_of(&**model, None)?;
                (Some(config), first, Some(train))
            }
            _ => (loaded, InitialWeights::Values(Vec::new()), None),
        };
        let Initialization { config: mut student, first: student_start } =
            start_of(&recipe.student.model, teacher.as_ref())?;
        student.problem = task.problem();
        let mut teacher = teacher.map(|config| ModelConfig { problem: task.problem(), ..config });
        if let Some(teacher) = &mut teacher {
            task.fit_teacher(teacher, &student);
        }
        let teacher_types = loaded_types.unwrap_or_else(|| trained_types(recipe, teacher.as_ref()));
        for train in teacher_train.into_iter().chain([&recipe.train]) {
            split.train.examples().check_shift(train.shift)?;
        }
        for config in teacher.iter().chain([&student]) {
            Layout::new(config.model().parameters())?;
        }
        if let (Some(config), Some(train)) = (&teacher, teacher_train) {
            rates(train, &config.model().parameters())?;
        }
        rates(&recipe.train, &student.model().parameters())?;
        if let Some(teacher) = &teacher {
            task.check_models(teacher, &student)?;
        }
        let teacher_data = match (&teacher, teacher_train) {
            (Some(teacher), Some(_)) => task.training_data(&split.train, teacher)?,
            _ => split.train.clone(),
        };
        let omitted = omitted(recipe, &split)?;
        let StudentData { students, transfer, alone } =
            student_data(recipe, &split, &omitted, &student)?;
        if let Some(teacher) = &teacher {
            answers_meet(teacher, &student, [transfer.examples(), split.test.examples()])?;
        }
        let class_weights = [
            class_weights(teacher_train, &split.train)?,
            class_weights(Some(&recipe.train), &students)?,
        ];
        let objective = objective(recipe, &student, teacher.as_ref(), &transfer)?;
        let of_teacher = teacher.as_ref().zip(teacher_source.as_deref());
        let cache = cache_of(recipe, of_teacher, &transfer, &objective)?;
        let taught_only = task.learns_from_teacher_only()
            || (split.train.labelled_len() == 0
                && !matches!(task.labels(), LabelKind::None | LabelKind::Documents));
        let first = || student_start.initial(&student, teacher_source.as_deref(), recipe.seed);
        let control_parameters = taught_only.then(first).transpose()?;
        Ok(Self {
            split,
            teacher_data,
            omitted,
            students,
            transfer,
            alone,
            teacher,
            teacher_source,
            teacher_types,
            student,
            objective,
            teacher_start,
            student_start,
            control_parameters,
            cache,
            normalisation,
            assumed,
            class_weights,
        })
    }

    /// The same data and teacher for a recipe that differs in the rest alone; `ranking` says which parts of a decoder's layers
    /// a narrower student takes over.
    ///
    /// # Errors
    /// When the recipe leaves its students nothing, or asks for what the data cannot give.
    pub fn for_students(&self, recipe: &Recipe, ranking: &Ranking) -> Result<Self, Error> {
        self.split.train.examples().check_shift(recipe.train.shift)?;
        let Self { split, teacher, normalisation, .. } = self;
        let read = training_texts(split)?;
        let Initialization { config: mut student, first: student_start } =
            Initialization::by_ranking(
                &recipe.student.model,
                head(recipe.task, &read),
                &read,
                normalisation,
                teacher.as_ref(),
                ranking,
            )?;
        student.problem = recipe.task.problem();
        if let Some(teacher) = teacher {
            recipe.task.check_models(teacher, &student)?;
        }
        Layout::new(student.model().parameters())?;
        rates(&recipe.train, &student.model().parameters())?;
        let omitted = omitted(recipe, split)?;
        let StudentData { students, transfer, alone } =
            student_data(recipe, split, &omitted, &student)?;
        let objective = objective(recipe, &student, teacher.as_ref(), &transfer)?;
        let cache = match (&self.cache, teacher) {
            (Some((cache, _)), Some(teacher)) => {
                Some(found(cache.clone(), teacher, &transfer, &objective)?)
            }
            _ => None,
        };
        let class_weights = [None, class_weights(Some(&recipe.train), &students)?];
        Ok(Self {
            split: split.clone(),
            teacher_data: self.teacher_data.clone(),
            omitted,
            students,
            transfer,
            alone,
            teacher: teacher.clone(),
            teacher_source: None,
            teacher_types: self.teacher_types.clone(),
            student,
            objective,
            teacher_start: InitialWeights::Values(Vec::new()),
            student_start,
            control_parameters: None,
            cache,
            normalisation: normalisation.clone(),
            assumed: None,
            class_weights,
        })
    }

    /// What a person should know of the data: which model reads less than the whole of some texts.
    ///
    /// # Errors
    /// When a text cannot become tokens.
    pub fn notes(&self) -> Result<Vec<String>, Error> {
        let mut notes: Vec<String> =
            self.split.notes.iter().chain(&self.assumed).cloned().collect();
        notes.extend(
            self.teacher.iter().flat_map(|teacher| TaskRef::of_model(teacher).notes(teacher)),
        );
        let has_none = self.split.train.labels().is_some() && self.split.train.labelled_len() == 0;
        if has_none {
            notes.push(
                "The training data have no labels: the student distilled learns the teacher's answers alone, and the \
                 student alone, which has nothing to learn from, stays at its start"
                    .to_owned(),
            );
        }
        if let Some(texts) = &self.split.unlabelled {
            notes.push(format!(
                "The student distilled learns from {} without labels too; the student alone takes as many steps on \
                 those with labels",
                counted_thousands(texts.len(), "text")
            ));
        }
        let is_trained = self.teacher_source.is_none();
        let taught = if is_trained { &self.teacher_data } else { &self.transfer };
        let models = self.teacher.iter().map(|config| ("teacher", config, taught));
        for (name, config, data) in models.chain([("student", &self.student, &self.transfer)]) {
            let Input::Tokens(tokens) = &config.input else { continue };
            let train = data.examples();
            let cut = BatchEncoder::new(&config.input, train)?.tokens().cut();
            if cut > 0 {
                let most = counted_thousands(tokens.max_length, "token");
                let (cut, all) = (thousands(cut), thousands(train.len()));
                notes.push(format!(
                    "The {name} reads {most} of a text at most: of {all} training texts, it cuts {cut}"
                ));
            }
        }
        Ok(notes)
    }

    /// A teacher of which only the raw answers to all training examples are there, for the students' examples.
    ///
    /// # Errors
    /// When the recipe leaves its students nothing.
    pub fn answers(&self, answers: &[f32]) -> Result<TeacherLogits, Error> {
        let width = self.student.answer_len();
        let mut rows = if self.omitted.is_empty() {
            (0..self.split.train.len() as u32).collect()
        } else {
            self.split.train.rows_without_classes(&self.omitted)?
        };
        rows.truncate(self.students.len());
        let row = |&row: &u32| &answers[row as usize * width..][..width];
        Ok(TeacherLogits { values: rows.iter().flat_map(row).copied().collect(), width })
    }

    /// The teacher's answers on disk as the students' teacher, if there are any; `teacher` is the model itself.
    pub(crate) fn cached<'a>(
        &'a self,
        teacher: &'a dyn TeacherAnswers,
    ) -> Option<CachedAnswers<'a>> {
        let (cache, places) = self.cache.as_ref()?;
        Some(CachedAnswers { teacher: teacher.model()?, cache, places })
    }

    /// Whether the students' teacher answers out of a cache.
    pub fn is_cached(&self) -> bool {
        self.cache.is_some()
    }

    /// What models are measured on; students not before the teacher, whose raw answers to it are compared with theirs.
    pub(crate) fn test<'a>(
        &'a self,
        omitted: &'a [usize],
        answers: Option<RawAnswers<'a>>,
    ) -> Test<'a> {
        Test { split: &self.split, omitted, teacher: None, answers }
    }

    /// Share of the test examples on which the student's answers are the teacher's, where that is known by these.
    ///
    /// # Errors
    /// When the student cannot read the test data.
    pub(crate) fn agreement(
        &self,
        answers: &[f32],
        teacher: Option<RawAnswers<'_>>,
    ) -> Result<Option<f64>, Error> {
        let (config, data) = (&self.student, &self.split.test);
        let feed = BatchEncoder::new(&config.input, data.examples())?;
        let measured = Measured { config, feed: &feed, data, answers, teacher, loss: None };
        Ok(TaskRef::of_model(config).agreement(&measured))
    }

    /// First values of an arm's parameters, `teacher` being the folder of the finished teacher; see
    /// [`InitialWeights::values`].
    pub(crate) fn start(
        &self,
        arm: Arm,
        teacher: &Path,
    ) -> Result<Cow<'_, [Option<Vec<f32>>]>, Error> {
        let first = if arm == Arm::Teacher { &self.teacher_start } else { &self.student_start };
        first.values(teacher)
    }

    /// What an arm is trained with, from these first values. A student's `teacher` comes with its raw logits of the test set.
    pub(crate) fn job<'a>(
        &'a self,
        recipe: &'a Recipe,
        arm: Arm,
        start: &'a [Option<Vec<f32>>],
        teacher: Option<(&'a dyn TeacherAnswers, Option<RawAnswers<'a>>)>,
    ) -> TrainingJob<'a> {
        let (config, data) = match (arm, &self.teacher) {
            (Arm::Teacher, Some(config)) => (config, &self.teacher_data),
            (Arm::Distilled, _) => (&self.student, &self.transfer),
            _ => (&self.student, &self.alone),
        };
        let train = match (arm, &recipe.teacher) {
            (Arm::Teacher, recipe::Teacher::Trained { train, .. }) => train,
            _ => &recipe.train,
        };
        TrainingJob {
            arm,
            config,
            start,
            train,
            seed: recipe.seed,
            data,
            test: &self.split.test,
            validation: self.split.validation.as_ref(),
            teacher: teacher.map(|(teacher, _)| teacher),
            test_answers: teacher.and_then(|(_, answers)| answers),
            objective: &self.objective,
            gradient_shares: recipe.distil.gradient_shares,
            class_weights: self.class_weights[usize::from(arm != Arm::Teacher)].as_deref(),
            on_policy: recipe.distil.on_policy.as_ref().filter(|_| arm == Arm::Distilled),
        }
    }

    /// The parameters of an arm that is loaded instead of trained.
    pub(crate) fn loaded(&self, arm: Arm) -> Option<Parameters<'_>> {
        match arm {
            Arm::Teacher => self.teacher_source.clone().map(Parameters::Files),
            Arm::Control => self.control_parameters.as_deref().map(Parameters::from),
            Arm::Distilled => None,
        }
    }

    /// How an arm's parameters lie on a device that measures it.
    pub(crate) fn stored(&self, arm: Arm) -> Stored<'_> {
        match arm {
            Arm::Teacher => (&*self.teacher_types).into(),
            Arm::Control | Arm::Distilled => Storage::F32.into(),
        }
    }

    /// Number of the values that models start from, as far as they are known before any training.
    pub(crate) fn first_values(&self) -> usize {
        let known = |first: &InitialWeights| match first {
            InitialWeights::Values(values) => values.iter().flatten().map(Vec::len).sum(),
            InitialWeights::OfTeacher(_) => 0,
        };
        let alone = self.control_parameters.iter().flatten().map(Vec::len).sum::<usize>();
        known(&self.teacher_start) + known(&self.student_start) + alone
    }

    /// The teacher's model and how it is trained, if it is trained in the run.
    pub fn taught<'a>(&'a self, recipe: &'a Recipe) -> Option<(&'a ModelConfig, &'a Train)> {
        match (&self.teacher, &recipe.teacher) {
            (Some(config), recipe::Teacher::Trained { train, .. }) => Some((config, train)),
            _ => None,
        }
    }
}

/// The cache that a recipe names of a loaded teacher's answers, if it names one.
fn cache_of(
    recipe: &Recipe,
    of_teacher: Option<(&ModelConfig, &Source)>,
    transfer: &Dataset,
    objective: &Objective,
) -> Result<Option<(Arc<TeacherCache>, Places)>, Error> {
    let Some(((teacher, source), folder)) = of_teacher.zip(recipe.teacher.cache()) else {
        return Ok(None);
    };
    let binding = Binding::of(teacher, source, recipe.teacher.weights())?;
    let cache = Arc::new(TeacherCache::open(folder, teacher, binding)?);
    found(cache, teacher, transfer, objective).map(Some)
}

/// A cache with the places of the answers to what a student learns from.
fn found(
    cache: Arc<TeacherCache>,
    teacher: &ModelConfig,
    transfer: &Dataset,
    objective: &Objective,
) -> Result<(Arc<TeacherCache>, Places), Error> {
    if objective.hidden.look_inside() {
        return Err(Error::Unsupported {
            what: "`distil.hidden` and `distil.relations` look inside the teacher, of which a cache has the answers alone"
                .to_owned(),
            instead: "leave `teacher.cache` out, or these keys".to_owned(),
        });
    }
    let places = cache.find(&BatchEncoder::new(&teacher.input, transfer.examples())?)?;
    Ok((cache, places))
}

/// What the distilled student minimises. Decoupled KL needs the label of every example.
fn objective(
    recipe: &Recipe,
    student: &ModelConfig,
    teacher: Option<&ModelConfig>,
    transfer: &Dataset,
) -> Result<Objective, Error> {
    let needs = recipe.task.has_classes() && !recipe.distil.divergence.is_of_outcomes();
    if !needs || transfer.labelled_len() == transfer.len() {
        return Objective::of(&recipe.distil, student, teacher, Some(transfer.examples()));
    }
    Err(Error::Unsupported {
        what: "`distil.divergence = \"dkd\"` compares each example's label with the other classes, and some have no label"
            .to_owned(),
        instead: "leave `divergence` out, or learn from examples with labels alone".to_owned(),
    })
}

/// The weights that a training asks for, of the classes of what it learns from.
fn class_weights(train: Option<&Train>, data: &Dataset) -> Result<Option<Vec<f32>>, Error> {
    let weights = train.and_then(|train| train.class_weights.as_ref());
    Ok(weights.map(|weights| weights.of(data)).transpose()?)
}

/// All that models are trained on, for what is made of it before: a vocabulary.
pub(super) fn training_texts(split: &Split) -> Result<Cow<'_, Dataset>, Error> {
    Ok(match &split.unlabelled {
        Some(unlabelled) => Cow::Owned(split.train.with_unlabelled(unlabelled)?),
        None => Cow::Borrowed(&split.train),
    })
}

/// What the students learn from; see [`Setup`].
struct StudentData {
    students: Dataset,
    transfer: Dataset,
    alone: Dataset,
}

/// The numbers of the classes that a recipe keeps from its students.
fn omitted(recipe: &Recipe, split: &Split) -> Result<Vec<usize>, Error> {
    let names = split.train.class_names();
    let classes = recipe.distil.omit_classes.iter();
    Ok(classes.map(|class| classes::find(class, names)).collect::<Result<_, _>>()?)
}

fn student_data(
    recipe: &Recipe,
    split: &Split,
    omitted: &[usize],
    student: &ModelConfig,
) -> Result<StudentData, Error> {
    let mut students = split.train.without_classes(omitted)?;
    if let Some(limit) = recipe.distil.train_limit {
        students = students.take(limit);
    }
    let Some(unlabelled) = &split.unlabelled else {
        let transfer = recipe.task.training_data(&students, student)?;
        let alone = transfer.clone();
        return Ok(StudentData { students, transfer, alone });
    };
    let transfer = students.with_unlabelled(unlabelled)?;
    let alone = students.repeated(transfer.len())?;
    Ok(StudentData { students, transfer, alone })
}

/// The classes where the training data have no labels: those of the test data, else the teacher's.
fn known_classes(recipe: &Recipe, split: &Split) -> Result<Vec<String>, Error> {
    match (split.test.class_labels(), &recipe.teacher) {
        (Some(labels), _) => Ok(labels.class_names().to_vec()),
        (None, recipe::Teacher::Folder { folder, .. }) => {
            Ok(models::load_config(&folder.folder()?)?.class_names)
        }
        (None, _) => Ok(Vec::new()),
    }
}

/// Refuses models that make other answers of an example, where it has more than one: to other words, or other tokens.
fn answers_meet(
    teacher: &ModelConfig,
    student: &ModelConfig,
    examples: [&Examples; 2],
) -> Result<(), Error> {
    if read_alike(student, teacher) {
        return Ok(());
    }
    for examples in examples {
        let [ours, theirs] =
            [student, teacher].map(|config| BatchEncoder::new(&config.input, examples));
        if ours?.offsets(1) != theirs?.offsets(1) {
            return Err(Error::Model {
                path: "student.model".to_owned(),
                problem: "teacher and student read other tokens of an example, and their answers to each are compared: \
                          give both the same tokenizer, `vocabulary` and `max_length`"
                    .to_owned(),
            });
        }
    }
    Ok(())
}

/// The normalisation of a teacher that is loaded, since its answers hold for that alone; else the recipe's.
fn normalisation(
    recipe: &Recipe,
    split: &Split,
    teacher: Option<&ModelConfig>,
) -> Result<Normalisation, Error> {
    let asked = split.train.examples().normalisation_for(recipe.data.normalise.as_ref())?;
    match teacher.and_then(ModelConfig::normalisation) {
        None => Ok(asked),
        Some(theirs)
            if recipe.data.normalise == Some(Normalise::Standardise) || *theirs == asked =>
        {
            Ok(theirs.clone())
        }
        Some(theirs) => Err(Error::Model {
            path: "data.normalise".to_owned(),
            problem: format!(
                "the teacher was trained with {theirs:?}: leave the key out, and that is used"
            ),
        }),
    }
}

/// The head of a task's models for these data.
fn head(task: TaskRef, data: &Dataset) -> Head {
    task.head(data.outputs().len())
}
