//! Evaluation: logits, metrics over a data set, latency and throughput.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use distil_gpu_kernels::StepState;
use distil_gpu_kernels::distill_loss::TERMS;

use crate::data::Dataset;
use crate::device::{Device, ProgramId};
use crate::error::Error;
use crate::measure::batches::{rows, shapes, speed_shapes};
use crate::models::{BatchEncoder, BatchShape, Draw, HostBatch, ModelConfig};
use crate::objective::plans::{self, LABELS, TEACHER_LOGITS};
use crate::objective::{
    ANSWERS_ALONE, LOGITS, Named, Objective, RawAnswers, TeacherAnswers, TeacherInput,
};
use crate::plan::Plan;
use crate::results::{Contexts, Metrics, Speed};
use crate::scratch::Scratch;
use crate::store::{Part, Store, StorePart};
use crate::task::{BatchRows, Measured, Measuring, TaskRef};

/// Runs a model forward over data. Plans are kept by batch shape and share the store; those of one pass share
/// their scratch memory too.
#[derive(Debug)]
pub struct Evaluator<'a> {
    config: &'a ModelConfig,
    store: &'a Store,
    scratch: Vec<Scratch>,
    programs: HashMap<Kind, ProgramId>,
    batch: HostBatch,
    /// What answers within the plans, where answers are too many to keep.
    teacher: Option<(&'a ModelConfig, &'a Store)>,
    /// What answers are compared by.
    objective: &'a Objective,
    /// Whether entropies and lengths of contexts are told apart.
    in_detail: bool,
}

/// The column of a loss's terms that holds the cross-entropy with the label.
const HARD: usize = 1;

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    /// Logits.
    Forward(BatchShape),
    /// Last hidden states, where next tokens count.
    Hidden(BatchShape),
    /// Loss terms.
    Loss(BatchShape, Beside),
}

/// What answers beside a model whose loss is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Beside {
    Nothing,
    Teacher,
    /// What finds all tokens equally likely, for the entropy of the model's guesses.
    Uniform,
}

impl<'a> Evaluator<'a> {
    /// Evaluates the model whose parameters are in `store`.
    pub fn new(config: &'a ModelConfig, store: &'a Store) -> Self {
        let (scratch, programs, batch) = (Vec::new(), HashMap::new(), HostBatch::default());
        let (teacher, objective) = (None, &ANSWERS_ALONE);
        Self { config, store, scratch, programs, batch, teacher, objective, in_detail: false }
    }

    /// Of language models, tells the entropy of their guesses too, or how far these are from the teacher's; of causal ones also
    /// by length of context.
    pub fn in_detail(self) -> Self {
        Self { in_detail: true, ..self }
    }

    /// Where answers are too many to keep, they are compared with those that this teacher makes beside them, if it is a
    /// model.
    pub fn against(self, teacher: Option<&'a dyn TeacherAnswers>) -> Self {
        let beside = self.task().measuring() == Measuring::Loss;
        let teacher = teacher.filter(|_| beside).and_then(TeacherAnswers::model);
        Self { teacher, ..self }
    }

    fn task(&self) -> TaskRef {
        TaskRef::of_model(self.config)
    }

    /// Takes over a loaded plan of a measurement, by shape and by whether the teacher's answers are given.
    pub(crate) fn lend(
        &mut self,
        (shape, given): (BatchShape, bool),
        program: ProgramId,
    ) -> Result<(), Error> {
        let kind = match self.task().measuring() {
            Measuring::Answers => Kind::Forward(shape),
            _ => Kind::Loss(shape, if given { Beside::Teacher } else { Beside::Nothing }),
        };
        self.programs.insert(kind, program);
        Ok(())
    }

    /// Loads the plans that are not there yet.
    fn prepare(
        &mut self,
        device: &mut dyn Device,
        kinds: impl IntoIterator<Item = Kind>,
    ) -> Result<(), Error> {
        let missing: BTreeSet<Kind> =
            kinds.into_iter().filter(|kind| !self.programs.contains_key(kind)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let stored = &*self.store.layout.types;
        let plan = |kind: &Kind| match *kind {
            Kind::Forward(shape) => plans::forward_plan_in(self.config, stored, shape),
            Kind::Hidden(shape) => plans::hidden_plan(self.config, stored, shape),
            Kind::Loss(shape, beside) => {
                let answers = match (beside, self.teacher) {
                    (Beside::Nothing, _) => TeacherInput::None,
                    (Beside::Uniform, _) => TeacherInput::Uniform,
                    (Beside::Teacher, Some((config, store))) => {
                        TeacherInput::answers(config, &*store.layout.types)
                    }
                    (Beside::Teacher, None) => TeacherInput::Given { objective: self.objective },
                };
                plans::loss_plan(self.config, stored, answers, shape)
            }
        };
        let plans: Vec<Plan> = missing.iter().map(plan).collect::<Result<_, _>>()?;
        let scratch = Scratch::new(device, &plans)?;
        let mut loaded = missing.into_iter().zip(plans).map(|(kind, plan)| {
            let place = |part: StorePart| {
                let store = match (part.store, self.teacher) {
                    (plans::TEACHER, Some((_, teacher))) => teacher,
                    _ => self.store,
                };
                scratch.buffer(part).or_else(|| store.buffer(part.part, part.segment))
            };
            Ok::<_, Error>((kind, device.load(&Scratch::shared(plan), &place)?))
        });
        let failed = loaded.try_for_each(|loaded| {
            let (kind, program) = loaded?;
            self.programs.insert(kind, program);
            Ok(())
        });
        self.scratch.push(scratch);
        failed
    }

    /// Raw logits [examples, classes], or embeddings [examples, hidden_size].
    ///
    /// # Errors
    /// When the device fails.
    pub fn logits(
        &mut self,
        device: &mut dyn Device,
        data: &BatchEncoder<'_>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<f32>, Error> {
        if self.task().measuring() == Measuring::Loss {
            return Err(Error::Unsupported {
                what: "a masked language model's logits of all masked tokens are too many to keep"
                    .to_owned(),
                instead: "`eval` measures its guesses, and `run` distils it as a model".to_owned(),
            });
        }
        let (rows, width) = (rows(self.config), self.config.answer_len());
        let offsets = data.offsets(width);
        let mut all = vec![0.0; offsets.last().copied().unwrap_or(0)];
        self.prepare(device, shapes(self.config, data).into_iter().map(Kind::Forward))?;
        for batch in data.all(rows) {
            let shape = data.shape(&batch, rows);
            let program = self.programs[&Kind::Forward(shape)];
            data.fill(&batch, shape, Draw::FIXED, &mut self.batch);
            let inputs: Vec<Named<'_>> = self.batch.inputs().collect();
            device.run(program, &StepState::default(), &inputs)?;
            let output = device.output(program, LOGITS)?;
            data.collect_answers((&batch, shape), width, &output, &offsets, &mut all);
            progress(batch.len());
        }
        Ok(all)
    }

    /// Gets ready for [`Self::kept`] of these batches.
    ///
    /// # Errors
    /// When the device has no room.
    pub(crate) fn prepare_kept(
        &mut self,
        device: &mut dyn Device,
        data: &BatchEncoder<'_>,
        batches: &mut dyn Iterator<Item = &Vec<u32>>,
    ) -> Result<(), Error> {
        let kinds = batches.map(|batch| self.kind_of_kept(data, batch));
        let kinds: Vec<Kind> = kinds.collect();
        self.prepare(device, kinds)
    }

    fn kind_of_kept(&self, data: &BatchEncoder<'_>, batch: &[u32]) -> Kind {
        let shape = data.shape(batch, rows(self.config));
        if data.guesses_next() { Kind::Hidden(shape) } else { Kind::Forward(shape) }
    }

    /// What a cache keeps of a batch, row by row: of a model that guesses each next token its last hidden states [tokens that
    /// count, hidden_size], else its answers [examples, numbers].
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn kept(
        &mut self,
        device: &mut dyn Device,
        data: &BatchEncoder<'_>,
        batch: &[u32],
    ) -> Result<Vec<f32>, Error> {
        let kind = self.kind_of_kept(data, batch);
        self.prepare(device, [kind])?;
        let shape = data.shape(batch, rows(self.config));
        data.fill(batch, shape, Draw::FIXED, &mut self.batch);
        let inputs: Vec<Named<'_>> =
            self.batch.inputs().filter(|(name, _)| *name != LABELS).collect();
        let program = self.programs[&kind];
        device.run(program, &StepState::default(), &inputs)?;
        let output = if data.guesses_next() { plans::HIDDEN } else { LOGITS };
        let mut values = device.output(program, output)?;
        let width = values.len() / data.labels(shape);
        let rows = batch.iter().map(|&row| match data.guesses_next() {
            true => data.next_tokens(row as usize),
            false => 1,
        });
        values.truncate(rows.sum::<usize>() * width);
        Ok(values)
    }

    /// Metrics over a data set, of which the labelled examples count in the hard term; with the teacher's raw answers to
    /// it, and how many numbers each has, agreement and the soft term too. Where answers are too many to keep, they are
    /// compared with those of the teacher that the evaluator was given.
    ///
    /// # Errors
    /// When the device fails.
    pub fn metrics(
        &mut self,
        device: &mut dyn Device,
        (feed, data): (&BatchEncoder<'_>, &Dataset),
        teacher: Option<RawAnswers<'_>>,
        objective: &'a Objective,
    ) -> Result<Metrics, Error> {
        self.objective = objective;
        let (task, config) = (self.task(), self.config);
        let of = |answers, loss| Measured { config, feed, data, answers, teacher, loss };
        match task.measuring() {
            Measuring::Answers => {
                let answers = self.logits(device, feed, &mut |_| ())?;
                let scores = task.training_scores(&of(&answers, None))?;
                Ok(Metrics { loss: task.loss_of(&scores), scores, ..Metrics::default() })
            }
            Measuring::Loss => {
                let beside = match (self.teacher, self.in_detail) {
                    (Some(_), _) => Beside::Teacher,
                    (None, true) => Beside::Uniform,
                    (None, false) => Beside::Nothing,
                };
                let all = &feed.all(rows(config));
                let (metrics, _) = self.loss(device, (feed, data), all, beside, None)?;
                Ok(metrics)
            }
            Measuring::LossAndAnswers => {
                let beside = if teacher.is_some() { Beside::Teacher } else { Beside::Nothing };
                let all = &feed.all(rows(config));
                let (metrics, answers) = self.loss(device, (feed, data), all, beside, teacher)?;
                let scores = task.training_scores(&of(&answers, Some(&metrics)))?;
                Ok(metrics.with_scores(scores))
            }
        }
    }

    /// How far the guesses of a language model about some examples are from those of the teacher that the evaluator was given:
    /// the mean KL, in nats, and of how many tokens.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn kl(
        &mut self,
        device: &mut dyn Device,
        (feed, data): (&BatchEncoder<'_>, &Dataset),
        examples: &[u32],
    ) -> Result<(f64, usize), Error> {
        let some: Vec<Vec<u32>> = examples.chunks(rows(self.config)).map(<[u32]>::to_vec).collect();
        let (metrics, _) = self.loss(device, (feed, data), &some, Beside::Teacher, None)?;
        let [.., tokens, _] = metric_sums(device, self.store)?;
        Ok((metrics.soft.unwrap_or(f64::NAN), tokens as usize))
    }

    /// The loss over batches of a data set, and the answers where they are kept, which takes all of it.
    fn loss(
        &mut self,
        device: &mut dyn Device,
        (feed, data): (&BatchEncoder<'_>, &Dataset),
        batches: &[Vec<u32>],
        beside: Beside,
        teacher: Option<RawAnswers<'_>>,
    ) -> Result<(Metrics, Vec<f32>), Error> {
        let (task, rows) = (self.task(), rows(self.config));
        let theirs = match self.teacher {
            Some((config, _)) if !plans::read_alike(self.config, config) => {
                Some(feed.of(&config.input)?)
            }
            _ => None,
        };
        set_metrics(device, self.store, &[0.0; TERMS])?;
        let kinds = shapes(self.config, feed).into_iter().map(|shape| Kind::Loss(shape, beside));
        self.prepare(device, kinds)?;
        let Objective { temperature, alpha, .. } = *self.objective;
        let state = StepState { temperature, alpha, ..StepState::default() };
        let (mut known, mut other) = (HostBatch::default(), HostBatch::new(plans::TEACHER_PREFIX));
        let kept = task.measuring() == Measuring::LossAndAnswers;
        let width = self.config.answer_len();
        let offsets = if kept { feed.offsets(width) } else { Vec::new() };
        let mut answers = vec![0.0; offsets.last().copied().unwrap_or(0)];
        let mut contexts = Contexts::default();
        for batch in batches {
            let shape = feed.shape(batch, rows);
            let program = self.programs[&Kind::Loss(shape, beside)];
            feed.fill(batch, shape, Draw::FIXED, &mut self.batch);
            if let Some(theirs) = &theirs {
                theirs.fill(batch, shape, Draw::FIXED, &mut other);
            }
            task.fill_labels(&BatchRows { feed, data, indices: batch, shape }, &mut known);
            if let Some((values, _)) = teacher {
                let out = known.floats(TEACHER_LOGITS, feed.output_len(shape, width));
                feed.spread_answers((batch, shape), width, (&offsets, values), out);
            }
            let inputs = self.batch.inputs().chain(known.inputs()).chain(other.inputs());
            device.run(program, &state, &inputs.collect::<Vec<Named<'_>>>())?;
            if kept {
                let output = device.output(program, LOGITS)?;
                feed.collect_answers((batch, shape), width, &output, &offsets, &mut answers);
            }
            if self.in_detail && feed.guesses_next() {
                let terms = device.output(program, plans::TERMS)?;
                contexts.add(&feed.contexts(batch), &terms, beside == Beside::Teacher);
            }
        }
        let sums = metric_sums(device, self.store)?;
        let mut metrics = Metrics::from_sums(&sums, alpha, task.right_rows());
        if beside == Beside::Uniform {
            metrics = metrics.beside_uniform(self.config.answers());
        }
        Ok((Metrics { contexts: contexts.means(), ..metrics }, answers))
    }

    /// Hands out, for each row of documents by its number, the negative log-likelihood of each of its tokens that count, in
    /// nats and in their order.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn token_losses(
        &mut self,
        device: &mut dyn Device,
        feed: &BatchEncoder<'_>,
        each: &mut dyn FnMut(u32, &[f32]),
    ) -> Result<(), Error> {
        let rows = rows(self.config);
        let kinds = shapes(self.config, feed).into_iter();
        self.prepare(device, kinds.map(|shape| Kind::Loss(shape, Beside::Nothing)))?;
        for batch in feed.all(rows) {
            let shape = feed.shape(&batch, rows);
            let program = self.programs[&Kind::Loss(shape, Beside::Nothing)];
            feed.fill(&batch, shape, Draw::FIXED, &mut self.batch);
            let inputs: Vec<Named<'_>> = self.batch.inputs().collect();
            device.run(program, &StepState::default(), &inputs)?;
            let terms = device.output(program, plans::TERMS)?;
            let mut losses = terms.chunks_exact(TERMS).map(|terms| terms[HARD]);
            for &row in &batch {
                let own: Vec<f32> = losses.by_ref().take(feed.next_tokens(row as usize)).collect();
                each(row, &own);
            }
        }
        Ok(())
    }

    /// Hands out the logits [tokens to be guessed, vocab_size] of each of these texts, one after another, with its place
    /// among them; behind the text's own tokens come those of padding.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn masked_logits(
        &mut self,
        device: &mut dyn Device,
        data: &BatchEncoder<'_>,
        texts: &[u32],
        each: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), Error> {
        let kinds = texts.iter().map(|&text| Kind::Forward(data.shape(&[text], 1)));
        self.prepare(device, kinds.collect::<Vec<_>>())?;
        for (at, &text) in texts.iter().enumerate() {
            let shape = data.shape(&[text], 1);
            let program = self.programs[&Kind::Forward(shape)];
            data.fill(&[text], shape, Draw::FIXED, &mut self.batch);
            let inputs: Vec<Named<'_>> =
                self.batch.inputs().filter(|(name, _)| *name != LABELS).collect();
            device.run(program, &StepState::default(), &inputs)?;
            each(at, &device.output(program, LOGITS)?);
        }
        Ok(())
    }

    /// Measures latency and throughput on examples of a data set.
    ///
    /// # Errors
    /// When the device fails.
    pub fn speed(
        &mut self,
        device: &mut dyn Device,
        data: &BatchEncoder<'_>,
    ) -> Result<Speed, Error> {
        self.speed_within(device, data, Duration::MAX)
    }

    /// As [`Evaluator::speed`], in at most so much time, as far as whole passes allow.
    ///
    /// # Errors
    /// When the device fails.
    pub fn speed_within(
        &mut self,
        device: &mut dyn Device,
        data: &BatchEncoder<'_>,
        most: Duration,
    ) -> Result<Speed, Error> {
        let rows = rows(self.config);
        let shapes = speed_shapes(self.config, data).into_iter();
        self.prepare(device, shapes.map(|shape| self.kind_of_speed(shape)).collect::<Vec<_>>())?;
        let begun = Instant::now();
        let wanted = |passes, milliseconds| (passes, Duration::from_millis(milliseconds));
        let one = self.time(device, data, 1, wanted(20, 200), most.mul_f64(0.4))?;
        let left = most.saturating_sub(begun.elapsed());
        let many = self.time(device, data, rows, wanted(3, 300), left)?.as_secs_f64();
        let length = |&row: &u32| data.tokens().length(row as usize);
        let tokens =
            data.guesses_next().then(|| data.sample(rows).iter().map(length).sum::<usize>());
        Ok(Speed {
            latency: one,
            examples_per_second: rows as f64 / many,
            tokens_per_second: tokens.map(|tokens| tokens as f64 / many),
        })
    }

    /// What a language model says of every token is too much to read: its masked tokens are scored instead.
    fn kind_of_speed(&self, shape: BatchShape) -> Kind {
        match self.task().measuring() {
            Measuring::Loss => Kind::Loss(shape, Beside::Nothing),
            _ => Kind::Forward(shape),
        }
    }

    /// Median time of a forward pass over `rows` examples: of as many passes, in as much time, as are wanted, or fewer
    /// where they would take more than `most`. One at least counts, after one that counts for nothing; where there is
    /// time, two count for nothing.
    fn time(
        &mut self,
        device: &mut dyn Device,
        data: &BatchEncoder<'_>,
        rows: usize,
        (passes, long): (usize, Duration),
        most: Duration,
    ) -> Result<Duration, Error> {
        let indices = data.sample(rows);
        let shape = data.shape(&indices, rows);
        let kind = self.kind_of_speed(shape);
        let program = self.programs[&kind];
        data.fill(&indices, shape, Draw::FIXED, &mut self.batch);
        let inputs: Vec<Named<'_>> = self.batch.inputs().collect();
        let mut times = Vec::new();
        let start = Instant::now();
        let enough = |times: &[Duration]| {
            let (taken, elapsed) = (times.len(), start.elapsed());
            (taken >= passes + 2 && elapsed >= long) || (taken >= 2 && elapsed >= most)
        };
        while !enough(&times) {
            let pass = Instant::now();
            device.run(program, &StepState::default(), &inputs)?;
            match kind {
                Kind::Forward(_) => device.output(program, LOGITS).map(|_| ())?,
                Kind::Hidden(_) => device.output(program, plans::HIDDEN).map(|_| ())?,
                Kind::Loss(..) => metric_sums(device, self.store).map(|_| ())?,
            }
            times.push(pass.elapsed());
        }
        let warm = if times.len() > 2 { 2 } else { 1 };
        let counted = &mut times[warm..];
        counted.sort_unstable();
        Ok(counted[counted.len() / 2])
    }

    /// Unloads the plans.
    pub fn close(self, device: &mut dyn Device) {
        self.programs.into_values().for_each(|program| device.unload(program));
        self.scratch.into_iter().for_each(|scratch| scratch.free(device));
    }
}

/// Sets a store's metric sums.
pub(crate) fn set_metrics(
    device: &mut dyn Device,
    store: &Store,
    sums: &[f32; TERMS],
) -> Result<(), Error> {
    let id = store.buffer(Part::Metrics, 0).expect("stores of models keep metrics");
    device.write(id, 0, sums)
}

/// Reads a store's metric sums.
pub(crate) fn metric_sums(device: &mut dyn Device, store: &Store) -> Result<[f32; TERMS], Error> {
    let id = store.buffer(Part::Metrics, 0).expect("stores of models keep metrics");
    let sums = device.read(id, 0, TERMS)?;
    Ok(sums.try_into().expect("as many sums as were asked for"))
}
