//! The graphs of distillation, compiled.

use distil_gpu_kernels::DType;

use crate::error::Error;
use crate::graph::ops::OptimizerConfig;
use crate::graph::{Graph, TensorId, differentiate};
use crate::models::ModelConfig;
use crate::plan::{Options, Plan};
use crate::store::Layout;

/// Store of the model that is trained or evaluated.
pub const STUDENT: usize = 0;
/// Store of the teacher.
pub const TEACHER: usize = 1;

/// Name of the plans' input: features [rows, elements].
pub const FEATURES: &str = "features";
/// Name of the plans' input: labels [rows].
pub const LABELS: &str = "labels";
/// Name of the plans' input, where the teacher's answers are given: [rows, classes].
pub const TEACHER_LOGITS: &str = "teacher_logits";
/// Name of the forward plan's output: [rows, classes].
pub const LOGITS: &str = "logits";

/// Where a plan's teacher logits come from.
#[derive(Clone, Copy, Debug)]
pub enum TeacherInput<'a> {
    /// Nowhere: cross-entropy alone.
    None,
    /// A model in the same plan.
    Model(&'a ModelConfig),
    /// An input.
    Given,
}

fn layout(config: &ModelConfig) -> Result<Layout, Error> {
    Layout::new(config.model().parameters())
}

fn loss(
    student: &ModelConfig,
    teacher: TeacherInput<'_>,
    rows: usize,
    training: bool,
) -> Result<(Graph, TensorId), Error> {
    let mut stores = vec![layout(student)?];
    if let TeacherInput::Model(config) = teacher {
        stores.push(layout(config)?);
    }
    let mut graph = Graph::new(stores);
    let features = graph.input(FEATURES, &[rows, student.input_len()], DType::F32);
    let labels = graph.input(LABELS, &[rows], DType::I32);
    let classes = student.classes();
    let answers = match teacher {
        TeacherInput::None => None,
        TeacherInput::Model(config) => {
            Some(config.model().forward(&mut graph, TEACHER, features, false)?)
        }
        TeacherInput::Given => Some(graph.input(TEACHER_LOGITS, &[rows, classes], DType::F32)),
    };
    let logits = student.model().forward(&mut graph, STUDENT, features, training)?;
    let (row_loss, terms) = graph.distill_loss(logits, labels, answers, classes)?;
    graph.accumulate(terms, STUDENT)?;
    Ok((graph, row_loss))
}

fn parameters(graph: &mut Graph, store: usize) -> Vec<TensorId> {
    (0..graph.stores[store].parameters.len()).map(|i| graph.parameter(store, i)).collect()
}

/// One training step over `rows` examples: teacher forward, student forward and backward, update.
///
/// # Errors
/// When a shape does not fit.
pub fn training_plan(
    student: &ModelConfig,
    teacher: TeacherInput<'_>,
    rows: usize,
    optimizer: OptimizerConfig,
) -> Result<Plan, Error> {
    let (mut graph, row_loss) = loss(student, teacher, rows, true)?;
    let parameters = parameters(&mut graph, STUDENT);
    let gradients = differentiate(&mut graph, &[row_loss], &parameters)?;
    graph.optimize(STUDENT, &gradients, optimizer)?;
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
    rows: usize,
) -> Result<(Plan, Vec<String>), Error> {
    let (mut graph, row_loss) = loss(student, teacher, rows, true)?;
    let parameters = parameters(&mut graph, STUDENT);
    let gradients = differentiate(&mut graph, &[row_loss], &parameters)?;
    let mut names = Vec::new();
    for id in graph.nodes.iter().flat_map(|node| node.outputs.clone()).collect::<Vec<_>>() {
        let shape = graph.shape(id);
        let name = match gradients.iter().position(|gradient| *gradient == id) {
            Some(index) => {
                format!(
                    "the gradient of `{}` {shape:?}",
                    graph.stores[STUDENT].parameters[index].name
                )
            }
            None => format!("the result {shape:?} of {}", graph.name(id)),
        };
        graph.output(&name, id);
        names.push(name);
    }
    Ok((Plan::compile(&graph, Options { fuse: false })?, names))
}

/// The loss terms of `rows` examples, added onto the store's metrics.
///
/// # Errors
/// When a shape does not fit.
pub fn loss_plan(
    student: &ModelConfig,
    teacher: TeacherInput<'_>,
    rows: usize,
) -> Result<Plan, Error> {
    let (graph, _) = loss(student, teacher, rows, false)?;
    Plan::compile(&graph, Options::default())
}

/// The logits of `rows` examples.
///
/// # Errors
/// When a shape does not fit.
pub fn forward_plan(config: &ModelConfig, rows: usize) -> Result<Plan, Error> {
    let mut graph = Graph::new(vec![layout(config)?]);
    let features = graph.input(FEATURES, &[rows, config.input_len()], DType::F32);
    let logits = config.model().forward(&mut graph, STUDENT, features, false)?;
    graph.output(LOGITS, logits);
    Plan::compile(&graph, Options::default())
}
