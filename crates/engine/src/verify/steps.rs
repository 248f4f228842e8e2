//! Whole training steps against the f64 oracle: that the plan's calls belong together, on shared memory, in
//! their order.

use distil_gpu_kernels::distill_loss::{IGNORED, PADDING, TERMS};
use distil_gpu_kernels::{Blocks, Caps, DType, StepState};

use super::cases::{rules, update_state};
use super::numbers::{narrow, nmse, random, random_labels};
use super::{Distance, oracle};
use crate::data::Normalisation;
use crate::data::text::PackedRow;
use crate::device::{Device, HostTensor};
use crate::error::Error;
use crate::graph::ops::{OptimizerConfig, Update};
use crate::models::encoder::{bert::Bert, distilbert::DistilBert, roberta::Roberta};
use crate::models::{
    Architecture, BatchShape, Encoder, FEATURES, Head, HostBatch, Input, Mlp, ModelConfig, Output,
    Pooling, SharedFamily,
};
use crate::nn::Activation;
use crate::objective::plans::{
    LABELS, STUDENT, TARGETS, TEACHER_HIDDEN, TEACHER_LOGITS, TEACHER_PREFIX, read_alike,
};
use crate::objective::{Objective, TeacherInput, student_layout, training_plan};
use crate::plan::{Plan, Precision};
use crate::recipe::{Distil, HiddenDistance, HiddenLoss, Recipe, Relation, RelationLoss};
use crate::run::Setup;
use crate::session::Session;
use crate::store::{Layout, Part, Storage, writer};
use crate::task::{Measuring, TaskRef};
use crate::train::optimizer_config;

/// Rounding alone, over a few steps. What the parameters change by is a small difference of rounded numbers.
pub const ROUNDING: f64 = 1e-9;
/// For models and batches of any size: a unit whose input is within rounding of zero may be on in one result
/// and off in the other, and Adam takes the sign of a gradient that is all rounding.
pub const KINKS: f64 = 1e-3;

/// Activations and their gradients rounded to f16, by 2⁻¹⁰ each at most, in every layer: of small models some 1e-6.
const HALVES: f64 = 1e-4;
/// The same for models and batches of any size, where kinks and signs are as above.
const HALVES_AND_KINKS: f64 = 1e-2;

/// The losses themselves, of those activations.
const HALVES_OF_LOSSES: f64 = 1e-5;

/// The scale of a loss whose activations' gradients are stored in f16: with examples as few as here no gradient is
/// beyond it, so that no step is left out.
const LOSS_SCALE: f32 = 256.0;

/// Training steps to hold to the oracle.
#[derive(Clone, Debug)]
pub struct StepCase<'a> {
    /// What it is called in reports.
    pub name: String,
    /// The model that learns.
    pub student: &'a ModelConfig,
    /// What it learns from besides labels.
    pub teacher: TeacherInput<'a>,
    /// Examples of a step.
    pub rows: usize,
    /// The update.
    pub optimizer: OptimizerConfig,
    /// How its numbers lie in memory; the oracle's are f64 either way.
    pub precision: Precision,
    /// Number of steps.
    pub steps: u32,
    /// The largest NMSE: [`ROUNDING`] or [`KINKS`].
    pub limit: f64,
}

impl StepCase<'_> {
    /// Its plan.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn plan(&self) -> Result<Plan, Error> {
        let update = Update { precision: self.precision, ..self.optimizer.into() };
        training_plan(self.student, self.teacher, self.shape(), update)
    }

    /// Whether a device can take the steps.
    pub fn fits(&self, caps: &Caps) -> bool {
        let reads_f16 = self.teacher.stored().is_some_and(|(config, stored)| {
            stored.types(&config.model().parameters()).contains(&DType::F16)
        });
        (caps.reads_f16 || !reads_f16) && (caps.f16 || self.precision == Precision::F32)
    }

    /// The shape of its batches.
    fn shape(&self) -> BatchShape {
        BatchShape { rows: self.rows, length: made_up_length(&self.student.input), guessed: 0 }
    }

    /// How far losses, parameters and moments are from the oracle's after all steps.
    ///
    /// # Errors
    /// When the device refuses or fails.
    pub fn distances(&self, device: &mut dyn Device) -> Result<Vec<Distance>, Error> {
        let exact = Self { precision: Precision::F32, ..self.clone() };
        let expected = exact.results(&mut oracle())?;
        let found = self.results(device)?;
        let teacher = match self.teacher {
            TeacherInput::None => "alone",
            TeacherInput::Model { .. } => "with a teacher",
            TeacherInput::Kept { .. } => "with answers kept",
            TeacherInput::Given { .. } => "with given logits",
            TeacherInput::Uniform => "beside equal chances",
        };
        let distance =
            |((name, found), (_, expected)): (&(_, Vec<f64>), &(_, Vec<f64>))| Distance {
                what: format!("{name} of {}, {:?}, {teacher}", self.name, self.optimizer),
                error: nmse(found, expected),
                limit: match (*name, self.precision) {
                    ("losses", Precision::Mixed) => HALVES_OF_LOSSES,
                    _ => self.limit,
                },
            };
        Ok(found.iter().zip(&expected).map(distance).collect())
    }

    /// Trains on the device; what there is to compare.
    fn results(&self, device: &mut dyn Device) -> Result<Vec<(&'static str, Vec<f64>)>, Error> {
        self.results_from(device, 1.0)
    }

    /// As [`Self::results`], with the first weights scaled.
    fn results_from(
        &self,
        device: &mut dyn Device,
        scale: f64,
    ) -> Result<Vec<(&'static str, Vec<f64>)>, Error> {
        let mut session = self.session(device)?;
        for index in 0..session.stores[STUDENT].layout.parameters.len() {
            let values = session.part(STUDENT, Part::Parameters, index)?;
            let scaled: Vec<f64> = values.into_iter().map(|value| value * scale).collect();
            session.set(STUDENT, index, &scaled)?;
        }
        let start = session.all(STUDENT, Part::Parameters)?;
        (0..self.steps).try_for_each(|step| self.batch(step).run(&mut session))?;

        let end = session.all(STUDENT, Part::Parameters)?;
        let change = end.iter().zip(&start).map(|(end, start)| end - start).collect();
        let metrics = session.metrics(STUDENT)?;
        // Right answers and agreement hang on which of two logits is larger.
        let mut losses = [0, 1, 4, 5].map(|term| metrics[term]).to_vec();
        losses.extend(&metrics[TERMS..]);
        let mut results = vec![("losses", losses), ("change of parameters", change)];
        let moments = [("first moments", Part::Moment1), ("second moments", Part::Moment2)];
        for (name, part) in moments.into_iter().take(self.optimizer.rule.moments()) {
            results.push((name, session.all(STUDENT, part)?));
        }
        Ok(results)
    }

    /// Its plan on a device, with the weights of new models.
    ///
    /// # Errors
    /// When a shape does not fit, or the device refuses.
    pub fn session<'d>(&self, device: &'d mut dyn Device) -> Result<Session<'d>, Error> {
        let mut layouts = vec![student_layout(self.student, self.teacher)?];
        if let Some((config, stored)) = self.teacher.stored() {
            layouts.push(Layout::stored(config.model().parameters(), stored)?);
        }
        let mut session = Session::new(device, self.plan()?, layouts)?;
        session.initialise(1)?;
        session.scale_loss(LOSS_SCALE)?;
        Ok(session)
    }

    /// Random examples for a step, of which one is without a label and one is padding.
    pub fn batch(&self, step: u32) -> Batch {
        let (rows, classes) = (self.rows, self.student.classes());
        let answers = self.student.input.labels(self.shape());
        // Of answers in texts, the first token, which every text has.
        let choices = self.student.answers().max(1);
        let mut labels = random_labels(answers, choices, 200 + step);
        if answers > 2 {
            (labels[0], labels[1]) = (IGNORED, PADDING);
        }
        let count = |counts: &dyn Fn(i32) -> bool| {
            labels.iter().filter(|&&label| counts(label)).count() as f32
        };
        let state = StepState {
            seed: 17,
            temperature: 4.0,
            alpha: 0.7,
            soft_scale: 1.0 / count(&|label| label != PADDING),
            hard_scale: 1.0 / count(&|label| label >= 0),
            token_scale: 0.01,
            ..update_state(self.optimizer.rule, step)
        };
        let mut student = HostBatch::default();
        made_up(&self.student.input, self.shape(), 100 + step, &mut student);
        let task = TaskRef::of_model(self.student);
        if task.measuring() != Measuring::Answers {
            *student.integers(LABELS, answers) = labels;
        }
        if task.has_targets() {
            let targets = narrow(&random(rows * classes, 400 + step));
            student.floats(TARGETS, rows * classes).copy_from_slice(&targets);
        }
        let mut teacher = HostBatch::new(TEACHER_PREFIX);
        match self.teacher {
            TeacherInput::Model { config, .. } if !read_alike(self.student, config) => {
                made_up(&config.input, self.shape(), 100 + step, &mut teacher);
            }
            TeacherInput::Kept { config, .. } => {
                let (name, width) = match config.output() {
                    Output::Vocabulary(_) => {
                        let layers = config.model().layers();
                        (TEACHER_HIDDEN, layers.map_or(0, |layers| layers.hidden_size))
                    }
                    _ => (TEACHER_LOGITS, config.answer_len()),
                };
                let kept = narrow(&random(answers * width, 300 + step));
                student.floats(name, answers * width).copy_from_slice(&kept);
            }
            TeacherInput::Given { .. } => {
                let answers = narrow(&random(rows * classes, 300 + step));
                student.floats(TEACHER_LOGITS, rows * classes).copy_from_slice(&answers);
            }
            _ => {}
        }
        Batch { student, teacher, state }
    }
}

/// Tokens of made-up texts.
pub fn made_up_length(input: &Input) -> usize {
    const LENGTH: usize = 24;
    match input {
        Input::Numbers { .. } => 0,
        Input::Tokens(tokens) => LENGTH.min(tokens.max_length),
    }
}

/// Writes made-up examples: random numbers, or texts of random length.
pub fn made_up(input: &Input, shape: BatchShape, salt: u32, batch: &mut HostBatch) {
    match input {
        Input::Numbers { .. } => {
            let len = shape.rows * input.len();
            batch.floats(FEATURES, len).copy_from_slice(&narrow(&random(len, salt)));
        }
        Input::Tokens(tokens) => {
            let length = |row: usize| 1 + (row * 7 + salt as usize) % shape.length;
            let ids = random_labels(shape.rows * shape.length, tokens.vocab_size, salt);
            let types = random_labels(shape.rows * shape.length, 2, salt + 1);
            let text = |row: usize| {
                let range = row * shape.length..row * shape.length + length(row);
                (&ids[range.clone()], &types[range])
            };
            let rows: Vec<_> = (0..shape.rows).map(text).collect();
            if tokens.pooling == Pooling::Next {
                let rows: Vec<_> = rows.iter().map(|row| PackedRow::of_texts(&[row.0])).collect();
                return batch.packed(tokens, shape, &rows);
            }
            batch.texts(tokens, shape, &rows);
            let first = |row: usize| row * shape.length;
            match tokens.pooling {
                Pooling::Masked => {
                    let places: Vec<_> = (0..shape.rows).map(|row| (first(row), 0)).collect();
                    batch.masked(input.labels(shape), &places);
                }
                Pooling::Words => {
                    let places: Vec<_> = (0..shape.rows).map(first).collect();
                    batch.places(input.labels(shape), &places);
                }
                _ => {}
            }
        }
    }
}

/// What a step is given.
#[derive(Debug)]
pub struct Batch {
    student: HostBatch,
    teacher: HostBatch,
    /// Settings of the step.
    pub state: StepState,
}

impl Batch {
    /// By name, for [`Device::run`].
    pub fn inputs(&self) -> Vec<(&str, HostTensor<'_>)> {
        self.student.inputs().chain(self.teacher.inputs()).collect()
    }

    /// Takes the step.
    ///
    /// # Errors
    /// As [`Device::run`].
    pub fn run(&self, session: &mut Session<'_>) -> Result<(), Error> {
        session.run(&self.state, &self.inputs())
    }
}

/// The models and trainings of a recipe.
#[derive(Debug)]
pub struct Trainings {
    /// The teacher and how it is trained, if it is a model and if it is.
    pub teacher: Option<(ModelConfig, Option<(OptimizerConfig, usize)>)>,
    /// Element types of the teacher's parameters.
    pub types: Vec<DType>,
    /// The student.
    pub student: ModelConfig,
    objective: Objective,
    optimizer: OptimizerConfig,
    /// How the numbers of the trainings lie in memory.
    pub precision: Precision,
    rows: usize,
}

impl Trainings {
    /// Those of a recipe with the data and models that it was read to.
    pub fn of(recipe: &Recipe, setup: &Setup) -> Self {
        let teacher = setup.teacher.clone().map(|config| {
            let trained = setup
                .taught(recipe)
                .map(|(_, how)| (optimizer_config(how).0, how.batch.min(setup.teacher_data.len())));
            (config, trained)
        });
        Self {
            teacher,
            types: setup.teacher_types.iter().copied().map(made_up_type).collect(),
            student: setup.student.clone(),
            objective: setup.objective.clone(),
            optimizer: optimizer_config(&recipe.train).0,
            precision: recipe.precision,
            rows: recipe.train.batch.min(setup.transfer.len()),
        }
    }

    /// The student's trainings: alone, unless it then has nothing to learn, and with the recipe's teacher.
    pub fn students(&self) -> Vec<StepCase<'_>> {
        let answers = self.teacher.as_ref();
        let objective = &self.objective;
        let given = TeacherInput::Given { objective };
        let answers = answers.map_or(given, |(config, _)| TeacherInput::Model {
            config,
            stored: (&*self.types).into(),
            objective,
        });
        let task = TaskRef::of_model(&self.student);
        let alone =
            (!task.learns_from_teacher_only()).then_some(("student alone", TeacherInput::None));
        let trainings = alone.into_iter().chain([("student distilled", answers)]);
        let how = (self.optimizer, self.precision, self.rows);
        trainings.map(|(name, teacher)| lesson(name, &self.student, teacher, how)).collect()
    }

    /// All trainings of the recipe.
    pub fn all(&self) -> Vec<StepCase<'_>> {
        let mut lessons = self.students();
        if let Some((config, Some((optimizer, rows)))) = &self.teacher {
            let how = (*optimizer, self.precision, *rows);
            lessons.insert(0, lesson("teacher", config, TeacherInput::None, how));
        }
        lessons
    }
}

/// What made-up numbers are stored in for a parameter of this type: blocks that nothing writes are Q8_0, whose rows are whole
/// blocks where theirs are.
fn made_up_type(dtype: DType) -> DType {
    match dtype {
        DType::Blocks(blocks) if writer(blocks).is_none() => DType::Blocks(Blocks::Q8_0),
        _ => dtype,
    }
}

/// The first steps of a training.
fn lesson<'a>(
    name: &str,
    student: &'a ModelConfig,
    teacher: TeacherInput<'a>,
    (optimizer, precision, rows): (OptimizerConfig, Precision, usize),
) -> StepCase<'a> {
    let (mixed, limit) = match precision {
        Precision::F32 => ("", KINKS),
        Precision::Mixed => (", mixed", HALVES_AND_KINKS),
    };
    let name = format!("training: {name}{mixed}");
    StepCase { name, student, teacher, rows, optimizer, precision, steps: 2, limit }
}

/// A small perceptron for ten classes.
fn mlp(hidden: &[usize], activation: Activation, dropout: f32) -> ModelConfig {
    let mlp = Mlp {
        input_size: 30,
        hidden_sizes: hidden.to_vec(),
        num_classes: 10,
        activation,
        dropout,
        input_dropout: dropout / 2.0,
    };
    let normalisation = Normalisation::identity();
    let input = Input::Numbers { shape: vec![30], normalisation, background: None };
    let class_names = (0..10).map(|class| class.to_string()).collect();
    ModelConfig::new(Architecture::Mlp(mlp), input, class_names)
}

/// A small encoder for ten classes.
fn encoder(family: impl Into<SharedFamily>, layers: usize, dropout: f32) -> ModelConfig {
    let family: SharedFamily = family.into();
    let has_types = !family.names().types.is_empty();
    let encoder = Encoder {
        family,
        vocab_size: 50,
        hidden_size: 24,
        num_hidden_layers: layers,
        num_attention_heads: 3,
        intermediate_size: 40,
        max_position_embeddings: 32,
        type_vocab_size: if has_types { 2 } else { 0 },
        pad_token_id: 1,
        activation: Activation::Gelu,
        layer_norm_eps: 1e-5,
        hidden_dropout: dropout,
        attention_dropout: dropout,
        classifier_dropout: dropout,
        head: Head::Classes(10),
        ..Encoder::default()
    };
    ModelConfig::of_encoder(encoder, (0..10).map(|class| class.to_string()).collect())
}

fn with_hidden_size(mut config: ModelConfig, size: usize) -> ModelConfig {
    if let Architecture::Encoder(encoder) = &mut config.architecture {
        encoder.hidden_size = size;
    }
    config
}

/// The encoder with a head for embeddings.
fn embedding(config: ModelConfig) -> ModelConfig {
    with_head(config, Head::Embedding)
}

/// The encoder with another head, which has no classes.
fn with_head(mut config: ModelConfig, head: Head) -> ModelConfig {
    if let (Architecture::Encoder(encoder), Input::Tokens(tokens)) =
        (&mut config.architecture, &mut config.input)
    {
        encoder.head = head;
        *tokens = encoder.input();
    }
    config.class_names.clear();
    config
}

/// Small models of every family.
#[derive(Debug)]
pub struct Models {
    teacher: ModelConfig,
    students: [(&'static str, ModelConfig); 3],
    encoder_teacher: ModelConfig,
    objective: Objective,
    embedding_teacher: ModelConfig,
    embedding_objective: Objective,
    encoders: [(&'static str, ModelConfig); 3],
    guesser_teacher: ModelConfig,
    guesser_objective: Objective,
    guessers: [(&'static str, ModelConfig); 2],
}

/// Every kind of loss of features, between models of any size.
fn every_feature(student: &ModelConfig, teacher: &ModelConfig) -> Objective {
    let hidden = |loss, student_layer, teacher_layer| HiddenLoss {
        loss,
        student_layer,
        teacher_layer,
        weight: 0.5,
    };
    let relation = |of| RelationLoss { of, student_layer: -1, teacher_layer: -1, weight: 2.0 };
    let distil = Distil {
        hidden: vec![hidden(HiddenDistance::Cosine, -1, -1), hidden(HiddenDistance::Mse, 0, 1)],
        relations: vec![relation(Relation::Attention), relation(Relation::Values)],
        ..Distil::default()
    };
    Objective::of(&distil, student, Some(teacher), None).expect("the models have such layers")
}

impl Default for Models {
    fn default() -> Self {
        let student = encoder(Bert, 2, 0.2);
        let encoder_teacher = with_hidden_size(encoder(Bert, 2, 0.0), 30);
        let embedding = embedding(encoder(Bert, 1, 0.0));
        let embedding_teacher = self::embedding(encoder_teacher.clone());
        let guesser = |encoder| with_head(encoder, Head::MaskedLanguage);
        let guesser_teacher = guesser(encoder(Bert, 2, 0.0));
        let guessing = guesser(encoder(DistilBert, 1, 0.0));
        Self {
            guesser_objective: every_feature(&guessing, &guesser_teacher),
            guesser_teacher,
            guessers: [
                ("masked tokens, DistilBERT", guessing),
                ("masked tokens, RoBERTa", guesser(encoder(Roberta::default(), 1, 0.1))),
            ],
            teacher: mlp(&[40, 40], Activation::Relu, 0.0),
            students: [
                ("relu and dropout", mlp(&[20, 17], Activation::Relu, 0.4)),
                ("gelu", mlp(&[20, 20], Activation::Gelu, 0.0)),
                ("tanh", mlp(&[33], Activation::Tanh, 0.0)),
            ],
            objective: every_feature(&student, &encoder_teacher),
            encoder_teacher,
            embedding_objective: every_feature(&embedding, &embedding_teacher),
            embedding_teacher,
            encoders: [
                ("BERT, dropout and features", student),
                ("RoBERTa", encoder(Roberta::default(), 1, 0.0)),
                ("embeddings", embedding),
            ],
        }
    }
}

impl Models {
    /// Every model with every kind of teacher and every update rule between them.
    pub fn lessons<'a>(&'a self) -> Vec<StepCase<'a>> {
        let mut lessons = Vec::new();
        for (i, (family, student)) in self.students.iter().enumerate() {
            for (j, rule) in rules().into_iter().enumerate() {
                let teacher = match (i + j) % 3 {
                    0 => TeacherInput::model(&self.teacher),
                    1 => TeacherInput::None,
                    _ => TeacherInput::given(),
                };
                let bounded = (i + j) % 2 == 0;
                let optimizer = OptimizerConfig {
                    rule,
                    weight_decay: if bounded { 1e-2 } else { 0.0 },
                    clip: bounded.then_some(0.5),
                    max_norm: bounded.then_some(0.5),
                };
                lessons.push(StepCase {
                    name: format!("training: MLP, {family}"),
                    student,
                    teacher,
                    rows: 13,
                    optimizer,
                    precision: Precision::F32,
                    steps: 4,
                    limit: ROUNDING,
                });
            }
        }
        let [.., adamw] = rules();
        let optimizer =
            OptimizerConfig { rule: adamw, weight_decay: 1e-2, clip: Some(0.5), max_norm: None };
        let (config, objective) = (&self.encoder_teacher, &self.objective);
        let answers = TeacherInput::Model { config, stored: Storage::F32.into(), objective };
        let (config, objective) = (&self.embedding_teacher, &self.embedding_objective);
        let embeddings = TeacherInput::Model { config, stored: Storage::F32.into(), objective };
        let (config, objective) = (&self.guesser_teacher, &self.guesser_objective);
        let guesses = TeacherInput::Model { config, stored: Storage::F32.into(), objective };
        let teachers = [answers, TeacherInput::None, embeddings, guesses, TeacherInput::None];
        let students = self.encoders.iter().chain(&self.guessers);
        let mut encoder = |name: String, student, teacher| {
            let (rows, steps, limit, precision) = (5, 2, ROUNDING, Precision::F32);
            lessons.push(StepCase {
                name,
                student,
                teacher,
                rows,
                optimizer,
                precision,
                steps,
                limit,
            });
        };
        for ((family, student), teacher) in students.zip(teachers) {
            encoder(format!("training: encoder, {family}"), student, teacher);
        }
        let half = TeacherInput::answers(&self.guesser_teacher, Storage::F16);
        encoder("training: a teacher in f16".to_owned(), &self.guessers[0].1, half);
        // Encoders have every kernel; drivers compile each anew for f16, some for seconds.
        let mut mixed = lessons.clone();
        mixed.retain(|lesson| lesson.name.contains("encoder"));
        mixed.extend(lessons.iter().find(|lesson| lesson.name.contains("gelu")).cloned());
        for lesson in &mut mixed {
            lesson.name += ", mixed";
            (lesson.precision, lesson.limit) = (Precision::Mixed, HALVES);
        }
        lessons.extend(mixed);
        lessons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What rounding does on some driver is no more than this perturbation: no unit of these models is so
    /// near a kink, and no gradient so near zero, that it could cross.
    #[test]
    fn no_lesson_lies_on_a_kink() {
        let models = Models::default();
        let lessons = models.lessons().into_iter();
        for lesson in lessons.filter(|lesson| lesson.precision == Precision::F32) {
            let plain = lesson.results(&mut oracle()).unwrap();
            let moved = lesson.results_from(&mut oracle(), 1.0 + 1e-6).unwrap();
            for ((name, plain), (_, moved)) in plain.iter().zip(&moved) {
                let error = nmse(moved, plain);
                assert!(error < 0.1 * ROUNDING, "{name} of {lesson:?}: {error:e}");
            }
        }
    }
}
