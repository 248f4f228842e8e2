//! The graphs of distillation, compiled.

use distil_gpu_kernels::{DType, Divergence};

use crate::error::Error;
use crate::graph::ops::{Decoder, LossTerms, Update, chunk_rows};
use crate::graph::{Graph, Recompute, TensorId, differentiate};
use crate::models::{Answer, BatchShape, Inputs, ModelConfig, Output, Outputs};

use crate::plan::{Options, Plan};
use crate::store::{Layout, Storage, Stored};
use crate::task::{LossInputs, TaskRef, TeacherOutputs};

pub use super::names::{
    HIDDEN, LOGITS, NORM, ROW_WEIGHTS, STUDENT, TARGETS, TEACHER, TEACHER_HIDDEN, TEACHER_LOGITS,
    TEACHER_PREFIX, TERMS,
};
use super::{ANSWERS_ALONE, HiddenLosses, Objective};
/// Name of the plans' input: labels, one for each example, or for each masked token.
pub(crate) use crate::models::LABELS;

/// Where a plan's teacher logits come from.
#[derive(Clone, Copy, Debug)]
pub enum TeacherInput<'a> {
    /// Nowhere: cross-entropy alone.
    None,
    /// A model in the same plan.
    Model {
        /// What it is.
        config: &'a ModelConfig,
        /// How its parameters lie in its store.
        stored: Stored<'a>,
        /// What the student minimises.
        objective: &'a Objective,
    },
    /// An input is what a cache keeps of its answers: logits or embeddings, or last hidden states, of which its head makes
    /// logits in the plan.
    Kept {
        /// What it is.
        config: &'a ModelConfig,
        /// How its parameters lie in its store.
        stored: Stored<'a>,
        /// What the student minimises.
        objective: &'a Objective,
    },
    /// An input.
    Given {
        /// What the student minimises.
        objective: &'a Objective,
    },
    /// All tokens are equally likely: reverse KL to that is ln of the vocabulary's size less the entropy of a model's guesses.
    Uniform,
}

/// Reverse KL alone, as [`TeacherInput::Uniform`] is compared with.
static ENTROPY_ALONE: Objective =
    Objective { divergence: Divergence::ReverseKl, hidden: HiddenLosses::NONE, ..ANSWERS_ALONE };

impl<'a> TeacherInput<'a> {
    /// A model of which the student learns the answers alone, its parameters in f32.
    pub fn model(config: &'a ModelConfig) -> Self {
        Self::answers(config, Storage::F32)
    }

    /// A model of which the student learns the answers alone.
    pub fn answers(config: &'a ModelConfig, stored: impl Into<Stored<'a>>) -> Self {
        Self::Model { config, stored: stored.into(), objective: &ANSWERS_ALONE }
    }

    /// Answers that are an input, of which all is learnt that there is.
    pub fn given() -> Self {
        Self::Given { objective: &ANSWERS_ALONE }
    }

    /// What the student minimises.
    pub fn objective(&self) -> &'a Objective {
        match self {
            Self::Model { objective, .. }
            | Self::Kept { objective, .. }
            | Self::Given { objective } => objective,
            Self::None => &ANSWERS_ALONE,
            Self::Uniform => &ENTROPY_ALONE,
        }
    }

    /// As it is measured: its answers alone are compared.
    pub fn measured(self) -> Self {
        match self {
            Self::Model { config, stored, .. } | Self::Kept { config, stored, .. } => {
                Self::answers(config, stored)
            }
            other => other,
        }
    }

    /// The model whose parameters are a store of the plan, and how they lie there.
    pub fn stored(&self) -> Option<(&'a ModelConfig, Stored<'a>)> {
        match *self {
            Self::Model { config, stored, .. } | Self::Kept { config, stored, .. } => {
                Some((config, stored))
            }
            Self::None | Self::Given { .. } | Self::Uniform => None,
        }
    }

    /// The losses of hidden states.
    pub fn hidden(&self) -> &'a HiddenLosses {
        match self {
            Self::Model { objective, .. } | Self::Kept { objective, .. } => &objective.hidden,
            _ => &ANSWERS_ALONE.hidden,
        }
    }
}

/// Whether teacher and student read the same of an example.
pub fn read_alike(student: &ModelConfig, teacher: &ModelConfig) -> bool {
    student.input == teacher.input
}

fn layout<'a>(config: &ModelConfig, stored: impl Into<Stored<'a>>) -> Result<Layout, Error> {
    Layout::stored(config.model().parameters(), stored)
}

/// A model, its teacher and the loss between them.
struct Loss {
    graph: Graph,
    /// Losses, all elements of which are to be summed.
    losses: Vec<TensorId>,
    /// The model's logits, or its embeddings; nothing of a language model, whose logits never exist whole.
    answer: Option<TensorId>,
    /// Its hidden states between layers, if it has any.
    states: Vec<TensorId>,
}

/// The layout of a student's store in training: its own parameters, then those that its teacher's features need.
///
/// # Errors
/// [`Error::TooLarge`] when a parameter is too large for any device.
pub fn student_layout(student: &ModelConfig, teacher: TeacherInput<'_>) -> Result<Layout, Error> {
    let mut parameters = student.model().parameters();
    parameters.extend(teacher.hidden().parameters());
    Layout::new(parameters)
}

/// Answers that find all tokens equally likely.
fn uniform(graph: &mut Graph, student: &ModelConfig, shape: BatchShape) -> Result<Outputs, Error> {
    let (rows, vocab) = (student.input.labels(shape), student.answers());
    let [hidden, weight, bias] =
        [&[rows, 1][..], &[vocab, 1], &[vocab]].map(|shape| graph.constant(0.0, shape));
    let answer = Answer::Vocabulary(Decoder { hidden: hidden?, weight: weight?, bias: bias? });
    Ok(Outputs { answer, states: Vec::new(), attention: Vec::new() })
}

/// The refusal of a model that has no head on hidden states alone.
fn headless() -> Error {
    Error::Unsupported {
        what: "last hidden states are kept of a model that guesses each next token".to_owned(),
        instead: "give the `folder` of a Llama, Mistral, Qwen or GPT-2".to_owned(),
    }
}

/// Adds an input of a model's last hidden states [tokens, hidden_size].
fn hidden_input(
    graph: &mut Graph,
    name: &str,
    config: &ModelConfig,
    tokens: usize,
) -> Result<TensorId, Error> {
    let layers = config.model().layers().ok_or_else(headless)?;
    Ok(graph.input(name, &[tokens, layers.hidden_size], DType::F32))
}

/// Adds a model's head on its last hidden states.
fn head(
    graph: &mut Graph,
    store: usize,
    config: &ModelConfig,
    hidden: TensorId,
) -> Result<Decoder, Error> {
    config.model().head_on(graph, store, hidden)?.ok_or_else(headless)
}

/// Answers to so many rows that are an input.
fn kept(graph: &mut Graph, config: &ModelConfig, rows: usize) -> Result<Outputs, Error> {
    let answer = match config.output() {
        Output::Vocabulary(_) => {
            let hidden = hidden_input(graph, TEACHER_HIDDEN, config, rows)?;
            Answer::Vocabulary(head(graph, TEACHER, config, hidden)?)
        }
        output => {
            let rows = graph.input(TEACHER_LOGITS, &[rows, config.answer_len()], DType::F32);
            match output {
                Output::Embedding(_) => Answer::Embedding(rows),
                _ => Answer::Logits(rows),
            }
        }
    };
    Ok(Outputs { answer, states: Vec::new(), attention: Vec::new() })
}

fn loss(
    student: &ModelConfig,
    student_layout: Layout,
    teacher: TeacherInput<'_>,
    shape: BatchShape,
    training: Option<&Update>,
) -> Result<Loss, Error> {
    let mut stores = vec![student_layout];
    if let Some((config, stored)) = teacher.stored() {
        stores.push(layout(config, stored)?);
    }
    let mut graph = Graph::new(stores);
    let inputs = student.input.of_graph(&mut graph, "", shape);
    let taught = match teacher {
        TeacherInput::Model { config, .. } => {
            let inputs = match read_alike(student, config) {
                true => inputs,
                false => config.input.of_graph(&mut graph, TEACHER_PREFIX, shape),
            };
            Some(config.model().forward(&mut graph, TEACHER, &inputs, false)?)
        }
        TeacherInput::Kept { config, .. } => {
            Some(kept(&mut graph, config, student.input.labels(shape))?)
        }
        TeacherInput::Uniform => Some(uniform(&mut graph, student, shape)?),
        TeacherInput::None | TeacherInput::Given { .. } => None,
    };
    let outputs = student.model().forward(&mut graph, STUDENT, &inputs, training.is_some())?;
    let mut losses = Vec::new();
    let of = LossInputs {
        shape,
        student,
        outputs: &outputs,
        teacher: match (&taught, teacher) {
            (Some(outputs), _) => TeacherOutputs::Made(outputs),
            (None, TeacherInput::Given { .. }) => TeacherOutputs::Given,
            (None, _) => TeacherOutputs::None,
        },
        weighted: training.is_some_and(|update| update.weighted),
        smoothing: training.map_or(0.0, |update| update.smoothing),
        objective: teacher.objective(),
    };
    if let Some([row_loss, terms]) = TaskRef::of_model(student).loss(&mut graph, &of)? {
        graph.accumulate(terms, STUDENT)?;
        if training.is_none() && matches!(outputs.answer, Answer::Vocabulary(_)) {
            graph.output(TERMS, terms);
        }
        losses.push(row_loss);
    }
    if let Some(theirs) = taught {
        losses.extend(teacher.hidden().losses(&mut graph, &inputs, &outputs, &theirs)?);
    }
    let answer = match outputs.answer {
        Answer::Vocabulary(_) => None,
        _ => Some(outputs.vectors()?),
    };
    Ok(Loss { graph, losses, answer, states: outputs.states })
}

fn parameters(graph: &mut Graph, store: usize) -> Vec<TensorId> {
    (0..graph.stores[store].parameters.len()).map(|i| graph.parameter(store, i)).collect()
}

/// One training step over a batch: teacher forward, student forward and backward, update.
///
/// # Errors
/// When a shape does not fit.
pub fn training_plan(
    student: &ModelConfig,
    teacher: TeacherInput<'_>,
    shape: BatchShape,
    update: impl Into<Update>,
) -> Result<Plan, Error> {
    step_plan(student, teacher, shape, &update.into(), false)
}

/// As [`training_plan`], of those parameters that learn. Where a step is several batches, the gradients are added
/// onto those that the store has, for [`update_plan`].
///
/// # Errors
/// When a shape does not fit.
pub fn step_plan(
    student: &ModelConfig,
    teacher: TeacherInput<'_>,
    shape: BatchShape,
    update: &Update,
    accumulates: bool,
) -> Result<Plan, Error> {
    let layout = student_layout(student, teacher)?;
    let Loss { mut graph, losses, states, .. } =
        loss(student, layout, teacher, shape, Some(update))?;
    let forward = graph.nodes.len();
    let parameters = parameters(&mut graph, STUDENT);
    let trained = update.trained(&graph.stores[STUDENT].parameters);
    let learning: Vec<TensorId> = trained.iter().map(|&index| parameters[index]).collect();
    let gradients = differentiate(&mut graph, &losses, &learning)?;
    if accumulates {
        let mut all = trained.into_iter().zip(gradients);
        all.try_for_each(|(index, gradient)| graph.add_to(STUDENT, index, gradient))?;
    } else {
        graph.optimize(STUDENT, &gradients, update.clone())?;
    }
    if update.recompute == Recompute::Layers {
        if states.len() < 2 {
            return Err(Error::Unsupported {
                what: "this model has no layers whose insides could be made again".to_owned(),
                instead: "leave `recompute` out of its training".to_owned(),
            });
        }
        graph.recompute(forward, &states);
    }
    let precision = update.precision;
    Plan::compile(&graph, Options { precision, ..Options::default() })
}

/// The update from the gradients that the store has, which are 0 afterwards.
///
/// # Errors
/// When a parameter is too large for any device.
pub fn update_plan(
    student: &ModelConfig,
    teacher: TeacherInput<'_>,
    update: &Update,
) -> Result<Plan, Error> {
    let mut graph = Graph::new(vec![student_layout(student, teacher)?]);
    graph.optimize(STUDENT, &[], update.clone())?;
    let precision = update.precision;
    Plan::compile(&graph, Options { precision, ..Options::default() })
}

/// The norm of the gradients that the store has, which are 0 afterwards.
///
/// # Errors
/// When a parameter is too large for any device.
pub fn norm_plan(
    student: &ModelConfig,
    teacher: TeacherInput<'_>,
    update: &Update,
) -> Result<Plan, Error> {
    let mut graph = Graph::new(vec![student_layout(student, teacher)?]);
    let norm = graph.take_norm(STUDENT, update)?;
    graph.output(NORM, norm);
    Plan::compile(&graph, Options::default())
}

/// A training step without its update and without fusion, in which the host may read every tensor that is
/// made: the plan, and what each of its outputs is, in the order in which they are made.
///
/// # Errors
/// When a shape does not fit.
pub fn open_plan(
    student: &ModelConfig,
    teacher: TeacherInput<'_>,
    shape: BatchShape,
    update: &Update,
) -> Result<(Plan, Vec<String>), Error> {
    let layout = student_layout(student, teacher)?;
    let Loss { mut graph, losses, .. } = loss(student, layout, teacher, shape, Some(update))?;
    let parameters = parameters(&mut graph, STUDENT);
    let trained = update.trained(&graph.stores[STUDENT].parameters);
    let learning: Vec<TensorId> = trained.iter().map(|&index| parameters[index]).collect();
    let gradients = differentiate(&mut graph, &losses, &learning)?;
    let mut names = Vec::new();
    for id in graph.nodes.iter().flat_map(|node| node.outputs.clone()).collect::<Vec<_>>() {
        let shape = graph.shape(id);
        let name = match gradients.iter().position(|gradient| *gradient == id) {
            Some(index) => {
                format!(
                    "the gradient of `{}` {shape:?}",
                    graph.stores[STUDENT].parameters[trained[index]].name
                )
            }
            None => format!("the result {shape:?} of {}", graph.name(id)),
        };
        graph.output(&name, id);
        names.push(name);
    }
    Ok((Plan::compile(&graph, Options { fuse: false, ..Options::default() })?, names))
}

/// The loss terms of a batch, added onto the metrics of a model whose parameters are stored so, and its logits, but of a
/// language model.
///
/// # Errors
/// When a shape does not fit.
pub fn loss_plan<'a>(
    model: &ModelConfig,
    stored: impl Into<Stored<'a>>,
    teacher: TeacherInput<'_>,
    shape: BatchShape,
) -> Result<Plan, Error> {
    let layout = layout(model, stored)?;
    let Loss { mut graph, answer, .. } = loss(model, layout, teacher, shape, None)?;
    answer.into_iter().for_each(|answer| graph.output(LOGITS, answer));
    Plan::compile(&graph, Options::default())
}

/// The last hidden states of a batch, where its next tokens count: [`HIDDEN`].
///
/// # Errors
/// When a shape does not fit, or the model guesses no next tokens.
pub fn hidden_plan<'a>(
    config: &ModelConfig,
    stored: impl Into<Stored<'a>>,
    shape: BatchShape,
) -> Result<Plan, Error> {
    let mut graph = Graph::new(vec![layout(config, stored)?]);
    let inputs = config.input.of_graph(&mut graph, "", shape);
    let outputs = config.model().forward(&mut graph, STUDENT, &inputs, false)?;
    let Answer::Vocabulary(decoder) = outputs.answer else { return Err(headless()) };
    graph.output(HIDDEN, decoder.hidden);
    Plan::compile(&graph, Options::default())
}

/// How far what a model makes of some hidden states ([`HIDDEN`]) is from what it makes of others ([`TEACHER_HIDDEN`]), so
/// many of each: [`TERMS`], of which the first is T² · KL(teacher ‖ these).
///
/// # Errors
/// When the model guesses no next tokens.
pub fn head_plan<'a>(
    config: &ModelConfig,
    stored: impl Into<Stored<'a>>,
    tokens: usize,
) -> Result<Plan, Error> {
    let mut graph = Graph::new(vec![layout(config, stored)?]);
    let [ours, theirs] =
        [HIDDEN, TEACHER_HIDDEN].map(|name| hidden_input(&mut graph, name, config, tokens));
    let [ours, theirs] = [ours?, theirs?].map(|hidden| head(&mut graph, STUDENT, config, hidden));
    let labels = graph.input(LABELS, &[tokens], DType::I32);
    let chunk = chunk_rows(tokens, config.answers());
    let terms = LossTerms::default();
    let (_, terms) = graph.vocabulary_loss_of(ours?, labels, Some(theirs?), chunk, terms)?;
    graph.output(TERMS, terms);
    Plan::compile(&graph, Options::default())
}

/// The logits of a batch, or its embeddings; of masked tokens [tokens, vocab_size], whole.
///
/// # Errors
/// When a shape does not fit.
pub fn forward_plan(config: &ModelConfig, shape: BatchShape) -> Result<Plan, Error> {
    forward_plan_in(config, Storage::F32, shape)
}

/// As [`forward_plan`], of a model whose parameters are stored so.
///
/// # Errors
/// When a shape does not fit.
pub fn forward_plan_in<'a>(
    config: &ModelConfig,
    stored: impl Into<Stored<'a>>,
    shape: BatchShape,
) -> Result<Plan, Error> {
    forward_plan_with_head(config, stored, shape, shape.rows)
}

/// As [`forward_plan_in`], whose head on whole texts works on so many rows [head_rows, classes], those of the batch first:
/// on the processor small products are summed another way than large ones, and so the head's are those of a large batch.
/// Fewer than the batch's rows are as many; other heads and models of numbers know of none.
///
/// # Errors
/// When a shape does not fit.
pub fn forward_plan_with_head<'a>(
    config: &ModelConfig,
    stored: impl Into<Stored<'a>>,
    shape: BatchShape,
    head_rows: usize,
) -> Result<Plan, Error> {
    let mut graph = Graph::new(vec![layout(config, stored)?]);
    let mut inputs = config.input.of_graph(&mut graph, "", shape);
    if let Inputs::Tokens(tokens) = &mut inputs {
        tokens.head_rows = head_rows;
    }
    let outputs = config.model().forward(&mut graph, STUDENT, &inputs, false)?;
    let answer = match outputs.answer {
        Answer::Vocabulary(decoder) => {
            let product = graph.matmul(decoder.hidden, decoder.weight, false, true)?;
            graph.plus(product, decoder.bias)?
        }
        _ => outputs.vectors()?,
    };
    graph.output(LOGITS, answer);
    Plan::compile(&graph, Options::default())
}
