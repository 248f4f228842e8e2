//! What a student learns from inside its teacher: losses of hidden states and of self-attention, in its graph.

use distil_gpu_kernels::feature_loss::Measure;
use serde::Serialize;

use crate::data::Examples;
use crate::device::Device;
use crate::error::Error;
use crate::graph::ops::{FeatureLoss, RelationLoss};
use crate::graph::{Graph, TensorId};
use crate::models::{BatchEncoder, Input, Inputs, LayerShape, ModelConfig, Outputs};
use crate::objective::names::STUDENT;
use crate::recipe::{self, Distil, HiddenDistance, Relation};
use crate::store::{ALIGNMENT, Init, ParameterSpec, Part, Store};

/// Losses of features, their layers found in both models. Where hidden states differ in size, a projection without
/// bias that is learnt with the student makes the student's as wide as the teacher's (Jiao et al., TinyBERT, 2020).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HiddenLosses {
    terms: Vec<Term>,
}

/// One of the losses.
#[derive(Clone, Debug, PartialEq)]
struct Term {
    name: String,
    weight: f32,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    /// The models' answers, by cosine.
    Embedding { projection: Option<ParameterSpec> },
    Hidden {
        measure: Measure,
        /// Numbers of hidden states: 0 is before the first layer.
        student: usize,
        teacher: usize,
        projection: Option<ParameterSpec>,
    },
    Relation {
        of: Relation,
        /// Numbers of layers, from 0.
        student: usize,
        teacher: usize,
        heads: usize,
    },
}

/// What a term was over an epoch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TermMetrics {
    /// What it compares, as `hidden cosine 3 to 6`: layer 3 of the student, layer 6 of the teacher.
    pub term: String,
    /// Its weight in the loss.
    pub weight: f32,
    /// Its mean over the epoch's steps, as they were met, without its weight.
    pub value: f64,
}

/// Whether the n-th token of a text is the same for both models: where they have one tokenizer, and where each makes as
/// many tokens of every example, as one does whose vocabulary was trimmed to them.
fn tokens_match(
    student: &Input,
    teacher: &Input,
    examples: Option<&Examples>,
) -> Result<bool, Error> {
    let (Input::Tokens(ours), Input::Tokens(theirs)) = (student, teacher) else {
        return Ok(false);
    };
    if (&ours.tokenizer, ours.vocab_size, ours.max_length)
        == (&theirs.tokenizer, theirs.vocab_size, theirs.max_length)
    {
        return Ok(true);
    }
    let Some(examples) = examples else { return Ok(false) };
    let feeds = (BatchEncoder::new(student, examples)?, BatchEncoder::new(teacher, examples)?);
    let (ours, theirs) = (feeds.0.tokens(), feeds.1.tokens());
    Ok((0..examples.len()).all(|row| ours.length(row) == theirs.length(row)))
}

impl HiddenLosses {
    /// No such losses.
    pub const NONE: Self = Self { terms: Vec::new() };

    /// What a recipe asks for, of these models and the students' examples. Without examples, both models must have
    /// one tokenizer.
    ///
    /// # Errors
    /// [`Error::Model`] when a model has no such layer, or the models cannot be compared so.
    pub fn of(
        distil: &Distil,
        student: &ModelConfig,
        teacher: Option<&ModelConfig>,
        examples: Option<&Examples>,
    ) -> Result<Self, Error> {
        let refuse = |key: &str, problem: String| Error::Model { path: key.to_owned(), problem };
        let Distil { hidden, relations, .. } = distil;
        let answers = embedding_term(student, teacher);
        let key = if hidden.is_empty() { RELATIONS } else { HIDDEN };
        if hidden.is_empty() && relations.is_empty() {
            return Ok(Self { terms: answers.into_iter().collect() });
        }
        let layers = |model: &ModelConfig| model.model().layers();
        let (Some(ours), Some(theirs)) = (layers(student), teacher.and_then(layers)) else {
            let problem =
                "needs a student and a teacher that are transformers: others have no such layers";
            return Err(refuse(key, problem.to_owned()));
        };
        if !relations.is_empty() && student.decoder().is_some() {
            let problem = "compares all tokens of a row, which holds several documents here: give `hidden` instead";
            return Err(refuse(RELATIONS, problem.to_owned()));
        }
        if let Some(teacher) = teacher
            && !tokens_match(&student.input, &teacher.input, examples)?
        {
            let problem = "compares token by token, and the models make other numbers of tokens of a \
                           text: give both the same tokenizer and max_length";
            return Err(refuse(key, problem.to_owned()));
        }
        let hidden = hidden.iter().enumerate().map(|(number, term)| {
            hidden_term(number, term, [ours, theirs]).map_err(|problem| refuse(HIDDEN, problem))
        });
        let relations = relations.iter().map(|term| {
            relation_term(term, [ours, theirs]).map_err(|problem| refuse(RELATIONS, problem))
        });
        let terms = answers.into_iter().map(Ok).chain(hidden).chain(relations);
        Ok(Self { terms: terms.collect::<Result<_, _>>()? })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether some are of the teacher's inside, and not of its answers.
    pub fn look_inside(&self) -> bool {
        self.terms.iter().any(|term| !matches!(term.kind, Kind::Embedding { .. }))
    }

    /// Number of the terms.
    pub fn len(&self) -> usize {
        self.terms.len()
    }

    /// Parameters that are learnt beside the student's, and are no part of it. Weight decay does not apply, so that
    /// they lie behind all of the student's in a store of both.
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        let projection = |term: &Term| match &term.kind {
            Kind::Embedding { projection } | Kind::Hidden { projection, .. } => projection.clone(),
            Kind::Relation { .. } => None,
        };
        self.terms.iter().filter_map(projection).collect()
    }

    /// Adds the losses to a graph, their sums piling up in the student's metrics. The sum of all their elements is
    /// that of the terms times their weights.
    ///
    /// # Errors
    /// [`Error::Shape`] when the models' features do not meet.
    pub fn losses(
        &self,
        graph: &mut Graph,
        inputs: &Inputs,
        student: &Outputs,
        teacher: &Outputs,
    ) -> Result<Vec<TensorId>, Error> {
        let Inputs::Tokens(tokens) = inputs else { return Ok(Vec::new()) };
        let mut losses = Vec::new();
        for (number, Term { weight, kind, .. }) in self.terms.iter().enumerate() {
            let weight = *weight;
            let mut projected = |own: TensorId, projection: &Option<ParameterSpec>| match projection
            {
                Some(spec) => {
                    let w = graph.named(STUDENT, &spec.name);
                    graph.matmul(own, w, false, true)
                }
                None => Ok(own),
            };
            let loss = match kind {
                Kind::Embedding { projection } => {
                    let own = projected(student.vectors()?, projection)?;
                    let op = FeatureLoss { measure: Measure::Cosine, weight };
                    graph.feature_loss(own, teacher.vectors()?, tokens.lengths, op)?
                }
                Kind::Hidden { measure, student: ours, teacher: theirs, projection } => {
                    let own = projected(student.states[*ours], projection)?;
                    let theirs = teacher.states[*theirs];
                    let op = FeatureLoss { measure: *measure, weight };
                    graph.feature_loss(own, theirs, tokens.lengths, op)?
                }
                Kind::Relation { of, student: ours, teacher: theirs, heads } => {
                    let sides = |outputs: &Outputs, layer: usize| {
                        let layer = outputs.attention[layer];
                        match of {
                            Relation::Attention => [layer.queries, layer.keys],
                            Relation::Values => [layer.values; 2],
                        }
                    };
                    let op = RelationLoss { heads: *heads, weight };
                    let (own, theirs) = (sides(student, *ours), sides(teacher, *theirs));
                    graph.relation_loss(own, theirs, tokens.lengths, op)?
                }
            };
            let rows = graph.tensor(loss).len();
            let column = graph.reshape(loss, &[rows, 1])?;
            graph.accumulate_at(column, STUDENT, place(number))?;
            losses.push(loss);
        }
        Ok(losses)
    }

    /// Elements of the metrics of a store whose training has these terms, `metrics` of them for the rest.
    pub fn metrics_len(&self, metrics: usize) -> usize {
        if self.is_empty() { metrics } else { place(self.len() - 1) + 1 }
    }

    /// The sums of the terms times their weights that a store's metrics have reached.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn sums(&self, device: &mut dyn Device, store: &Store) -> Result<Vec<f32>, Error> {
        let Some(id) = store.buffer(Part::Metrics, 0) else { return Ok(Vec::new()) };
        let read = |number| Ok(device.read(id, place(number), 1)?[0]);
        (0..self.len()).map(read).collect()
    }

    /// Sets those sums.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn set_sums(
        &self,
        device: &mut dyn Device,
        store: &Store,
        sums: &[f32],
    ) -> Result<(), Error> {
        let Some(id) = store.buffer(Part::Metrics, 0) else { return Ok(()) };
        let mut sums = sums.iter().enumerate().take(self.len());
        sums.try_for_each(|(number, &sum)| device.write(id, place(number), &[sum]))
    }

    /// What the terms were over so many steps that came to these sums.
    pub fn metrics(&self, sums: &[f32], steps: u32) -> Vec<TermMetrics> {
        let mean = |(term, sum): (&Term, &f32)| TermMetrics {
            term: term.name.clone(),
            weight: term.weight,
            value: f64::from(*sum) / f64::from(term.weight) / f64::from(steps.max(1)),
        };
        self.terms.iter().zip(sums).map(mean).collect()
    }
}

const HIDDEN: &str = "distil.hidden";
const RELATIONS: &str = "distil.relations";

/// Where a term's sum lies in the metrics: kernels bind a store at multiples of the alignment alone.
fn place(term: usize) -> usize {
    (term + 1) * ALIGNMENT
}

/// A matrix [outputs, inputs] that is learnt to compare vectors of so many numbers.
fn projection(name: &str, inputs: usize, outputs: usize) -> Option<ParameterSpec> {
    (inputs != outputs).then(|| ParameterSpec {
        name: format!("projection.{name}.weight"),
        shape: vec![outputs, inputs],
        decay: false,
        init: Init::Uniform(1.0 / (inputs as f32).sqrt()),
    })
}

/// What a student that embeds learns of its teacher's answers. By cosine: of unit vectors, the mean square is the same
/// but for a factor.
fn embedding_term(student: &ModelConfig, teacher: Option<&ModelConfig>) -> Option<Term> {
    let teacher = teacher.filter(|teacher| teacher.embeds() && student.embeds())?;
    let projection = projection("embedding", student.answer_len(), teacher.answer_len());
    let kind = Kind::Embedding { projection };
    Some(Term { name: "embedding cosine".to_owned(), weight: 1.0, kind })
}

fn hidden_term(
    number: usize,
    term: &recipe::HiddenLoss,
    [ours, theirs]: [LayerShape; 2],
) -> Result<Term, String> {
    let recipe::HiddenLoss { loss, student_layer, teacher_layer, weight } = *term;
    let student = counted("student", student_layer, ours.count, true)?;
    let teacher = counted("teacher", teacher_layer, theirs.count, true)?;
    let (inputs, outputs) = (ours.hidden_size, theirs.hidden_size);
    let projection = projection(&number.to_string(), inputs, outputs);
    let (measure, word) = match loss {
        HiddenDistance::Cosine => (Measure::Cosine, "cosine"),
        HiddenDistance::Mse => (Measure::Square, "mse"),
    };
    let kind = Kind::Hidden { measure, student, teacher, projection };
    Ok(Term { name: format!("hidden {word} {student} to {teacher}"), weight, kind })
}

fn relation_term(
    term: &recipe::RelationLoss,
    [ours, theirs]: [LayerShape; 2],
) -> Result<Term, String> {
    let recipe::RelationLoss { of, student_layer, teacher_layer, weight } = *term;
    let student = counted("student", student_layer, ours.count, false)?;
    let teacher = counted("teacher", teacher_layer, theirs.count, false)?;
    let heads = ours.heads;
    if theirs.heads != heads {
        return Err(format!(
            "compares head by head, and the student has {heads} of them, the teacher {}",
            theirs.heads
        ));
    }
    let word = match of {
        Relation::Attention => "attention",
        Relation::Values => "values",
    };
    let name = format!("relations {word} {student} to {teacher}");
    let kind = Kind::Relation { of, student: student - 1, teacher: teacher - 1, heads };
    Ok(Term { name, weight, kind })
}

/// The number of a layer, from 1, that may be given from the last one backwards; 0 is before the first.
fn counted(model: &str, layer: i32, layers: usize, zero: bool) -> Result<usize, String> {
    let found = if layer < 0 { layers as i64 + 1 + i64::from(layer) } else { i64::from(layer) };
    let least = i64::from(!zero);
    usize::try_from(found).ok().filter(|&n| (least..=layers as i64).contains(&(n as i64))).ok_or_else(
        || format!("{model}_layer = {layer}: the {model} has layers {least} to {layers}, -1 being the last"),
    )
}
