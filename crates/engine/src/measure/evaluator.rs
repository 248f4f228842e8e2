//! Evaluation: logits, metrics over a data set, latency and throughput.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use distil_gpu_kernels::StepState;
use distil_gpu_kernels::distill_loss::{IGNORED, PADDING, TERMS};

use crate::data::ClassLabels;
use crate::device::{Device, ProgramId};
use crate::error::Error;
use crate::measure::neighbours::mean_cosine;
use crate::models::{BatchShape, Draw, Feed, HostBatch, Input, ModelConfig};
use crate::objective::plans::{self, LABELS, TEACHER_LOGITS};
use crate::objective::{LOGITS, Named, Teacher, TeacherInput};
use crate::plan::Plan;
use crate::results::{Metrics, Scores};
use crate::scratch::Scratch;
use crate::store::{Part, Store, StorePart};
use crate::train::plans::shapes;

/// Rows of one evaluation batch: a text has many tokens.
pub fn rows(config: &ModelConfig) -> usize {
    match config.input {
        Input::Numbers { .. } => 256,
        Input::Tokens(_) => 32,
    }
}

/// The shapes of the batches whose speed is measured.
pub(crate) fn speed_shapes(config: &ModelConfig, data: &Feed<'_>) -> BTreeSet<BatchShape> {
    [1, rows(config)].map(|rows| data.shape(&data.sample(rows), rows)).into()
}

/// Speed of a model's forward pass on a device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// Median time of one example, from host memory to host memory.
    pub latency: Duration,
    /// Examples a second in batches of [`rows`], answers read back.
    pub examples_per_second: f64,
}

/// Runs a model forward over data. Plans are kept by batch shape and share the store; those of one pass share
/// their scratch memory too.
#[derive(Debug)]
pub struct Evaluator<'a> {
    config: &'a ModelConfig,
    store: &'a Store,
    scratch: Vec<Scratch>,
    programs: HashMap<Kind, ProgramId>,
    batch: HostBatch,
    /// What answers within the plans: a language model's answers are too many to keep.
    teacher: Option<(&'a ModelConfig, &'a Store)>,
}

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    /// Logits.
    Forward(BatchShape),
    /// Loss terms, with the teacher's answers or without.
    Loss(BatchShape, bool),
}

impl<'a> Evaluator<'a> {
    /// Evaluates the model whose parameters are in `store`.
    pub fn new(config: &'a ModelConfig, store: &'a Store) -> Self {
        let (scratch, programs, batch) = (Vec::new(), HashMap::new(), HostBatch::default());
        Self { config, store, scratch, programs, batch, teacher: None }
    }

    /// A language model's guesses are compared with those of this teacher, if it is a model.
    pub fn against(self, teacher: Option<&'a Teacher>) -> Self {
        let teacher = match teacher {
            Some(Teacher::Model { config, store }) if self.config.input.masks() => {
                Some((&**config, &**store))
            }
            _ => None,
        };
        Self { teacher, ..self }
    }

    /// Takes over a loaded plan of a measurement, by shape and by whether the teacher's answers are given.
    pub(crate) fn lend(
        &mut self,
        (shape, given): (BatchShape, bool),
        program: ProgramId,
    ) -> Result<(), Error> {
        let kind = match self.config.embeds() {
            true => Kind::Forward(shape),
            false => Kind::Loss(shape, given),
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
        let storage = self.store.layout.storage;
        let plan = |kind: &Kind| match *kind {
            Kind::Forward(shape) => plans::forward_plan_in(self.config, storage, shape),
            Kind::Loss(shape, given) => {
                let answers = match (given, self.teacher) {
                    (false, _) => TeacherInput::None,
                    (true, Some((config, store))) => {
                        TeacherInput::answers(config, store.layout.storage)
                    }
                    (true, None) => TeacherInput::Given,
                };
                plans::loss_plan(self.config, storage, answers, shape)
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
        data: &Feed<'_>,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<f32>, Error> {
        if self.config.input.masks() {
            return Err(Error::Unsupported {
                what: "a masked language model's logits of all masked tokens are too many to keep"
                    .to_owned(),
                instead: "`eval` measures its guesses, and `run` distils it as a model".to_owned(),
            });
        }
        let (rows, classes) = (rows(self.config), self.config.answer_len());
        let mut logits = vec![0.0; data.len() * classes];
        self.prepare(device, shapes(self.config, data).into_iter().map(Kind::Forward))?;
        for batch in data.all(rows) {
            let shape = data.shape(&batch, rows);
            let program = self.programs[&Kind::Forward(shape)];
            data.fill(&batch, shape, Draw::FIXED, &mut self.batch);
            let inputs: Vec<Named<'_>> = self.batch.inputs().collect();
            device.run(program, &StepState::default(), &inputs)?;
            let answers = device.output(program, LOGITS)?;
            for (answer, &index) in answers.chunks_exact(classes).zip(&batch) {
                logits[index as usize * classes..][..classes].copy_from_slice(answer);
            }
            progress(batch.len());
        }
        Ok(logits)
    }

    /// Metrics over a data set with these labels, or of teacher's answers alone without; with the teacher's raw logits for it, agreement and the soft
    /// term too. Of a model that embeds, how near it is to the teacher's embeddings; of a language model, of the masked
    /// tokens, compared with the teacher that it was given.
    ///
    /// # Errors
    /// When the device fails.
    pub fn metrics(
        &mut self,
        device: &mut dyn Device,
        data: &Feed<'_>,
        labels: Option<&ClassLabels>,
        teacher: Option<&[f32]>,
        temperature: f32,
        alpha: f32,
    ) -> Result<Metrics, Error> {
        if self.config.embeds() {
            let (ours, width) = (self.logits(device, data, &mut |_| ())?, self.config.answer_len());
            let theirs = teacher.filter(|theirs| theirs.len() == ours.len());
            return Ok(Metrics::of_embeddings(
                theirs.map(|theirs| mean_cosine(&ours, theirs, width)),
            ));
        }
        let (rows, classes) = (rows(self.config), self.config.classes());
        let masks = self.config.input.masks();
        let given = if masks { self.teacher.is_some() } else { teacher.is_some() };
        let theirs = match self.teacher {
            Some((config, _)) if !plans::read_alike(self.config, config) => {
                Some(data.of(&config.input)?)
            }
            _ => None,
        };
        set_metrics(device, self.store, &[0.0; TERMS])?;
        let kinds = shapes(self.config, data).into_iter().map(|shape| Kind::Loss(shape, given));
        self.prepare(device, kinds)?;
        let state = StepState { temperature, alpha, ..StepState::default() };
        let (mut known, mut other) = (HostBatch::default(), HostBatch::new(plans::TEACHER_PREFIX));
        let mut scores = Scores::new(classes);
        for batch in data.all(rows) {
            let shape = data.shape(&batch, rows);
            let program = self.programs[&Kind::Loss(shape, given)];
            data.fill(&batch, shape, Draw::FIXED, &mut self.batch);
            if let Some(theirs) = &theirs {
                theirs.fill(&batch, shape, Draw::FIXED, &mut other);
            }
            if masks {
                let inputs = self.batch.inputs().chain(other.inputs());
                device.run(program, &state, &inputs.collect::<Vec<Named<'_>>>())?;
                continue;
            }
            let label = |row: u32| labels.map(|labels| labels.ids()[row as usize]);
            fill_labels(&mut known, &batch, label, rows);
            if let Some(values) = teacher {
                let answers = known.floats(TEACHER_LOGITS, rows * classes);
                Teacher::gather(values, classes, &batch, answers);
            }
            let inputs: Vec<Named<'_>> = self.batch.inputs().chain(known.inputs()).collect();
            device.run(program, &state, &inputs)?;
            let labels: Vec<u32> = batch.iter().filter_map(|&row| label(row)).collect();
            scores.add(&device.output(program, LOGITS)?, &labels);
        }
        let sums = metric_sums(device, self.store)?;
        let metrics = Metrics::from_sums(&sums, alpha);
        Ok(if masks { metrics } else { metrics.with_scores(&scores) })
    }

    /// Hands out the logits [tokens to be guessed, vocab_size] of each of these texts, one after another, with its place
    /// among them; behind the text's own tokens come those of padding.
    ///
    /// # Errors
    /// When the device fails.
    pub(crate) fn masked_logits(
        &mut self,
        device: &mut dyn Device,
        data: &Feed<'_>,
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
    pub fn speed(&mut self, device: &mut dyn Device, data: &Feed<'_>) -> Result<Speed, Error> {
        self.speed_within(device, data, Duration::MAX)
    }

    /// As [`Evaluator::speed`], in at most so much time, as far as whole passes allow.
    ///
    /// # Errors
    /// When the device fails.
    pub fn speed_within(
        &mut self,
        device: &mut dyn Device,
        data: &Feed<'_>,
        most: Duration,
    ) -> Result<Speed, Error> {
        let rows = rows(self.config);
        let kinds = speed_shapes(self.config, data).into_iter();
        self.prepare(device, kinds.map(|shape| self.kind_of_speed(shape)).collect::<Vec<_>>())?;
        let begun = Instant::now();
        let wanted = |passes, milliseconds| (passes, Duration::from_millis(milliseconds));
        let one = self.time(device, data, 1, wanted(20, 200), most.mul_f64(0.4))?;
        let left = most.saturating_sub(begun.elapsed());
        let many = self.time(device, data, rows, wanted(3, 300), left)?;
        Ok(Speed { latency: one, examples_per_second: rows as f64 / many.as_secs_f64() })
    }

    /// What a language model says of every token is too much to read: its masked tokens are scored instead.
    fn kind_of_speed(&self, shape: BatchShape) -> Kind {
        match self.config.input.masks() {
            true => Kind::Loss(shape, false),
            false => Kind::Forward(shape),
        }
    }

    /// Median time of a forward pass over `rows` examples: of as many passes, in as much time, as are wanted, or fewer
    /// where they would take more than `most`. One at least counts, after one that counts for nothing; where there is
    /// time, two count for nothing.
    fn time(
        &mut self,
        device: &mut dyn Device,
        data: &Feed<'_>,
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

/// Writes the labels of these examples, as the loss's kernel takes them: those of examples without a label are
/// ignored, and rows behind the examples are padding.
pub(crate) fn fill_labels(
    batch: &mut HostBatch,
    indices: &[u32],
    label: impl Fn(u32) -> Option<u32>,
    rows: usize,
) {
    let out = batch.integers(LABELS, rows);
    out.fill(PADDING);
    for (out, &index) in out.iter_mut().zip(indices) {
        *out = label(index).map_or(IGNORED, |label| label as i32);
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

/// Wrong answers of logits [examples, classes] for each true class.
pub fn errors_per_class(
    logits: &[f32],
    labels: &[u32],
    classes: usize,
    bias: Option<(usize, f32)>,
) -> Vec<usize> {
    let mut errors = vec![0; classes];
    for (row, &label) in logits.chunks_exact(classes).zip(labels) {
        let shifted = |class: usize| {
            row[class] + bias.filter(|(only, _)| *only == class).map_or(0.0, |(_, shift)| shift)
        };
        let best = (1..classes)
            .fold(0, |best, class| if shifted(class) > shifted(best) { class } else { best });
        errors[label as usize] += usize::from(best != label as usize);
    }
    errors
}
