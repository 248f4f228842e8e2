//! What a job's models read of its examples.

use std::collections::BTreeSet;

use crate::data::text::PackedRow;
use crate::data::{DataError, Examples};
use crate::models::{BatchEncoder, BatchShape, Draw, HostBatch, Input, ModelConfig};
use crate::objective::{TeacherInput, plans};

/// Examples as the model in training reads them, and as its teacher does.
#[derive(Debug)]
pub(crate) struct PairedInputs<'a> {
    own: BatchEncoder<'a>,
    /// Absent where the teacher reads the same, or nothing.
    teacher: Option<BatchEncoder<'a>>,
    texts: bool,
    /// Whether a batch has no more rows than examples, since rows of padding would enter its statistics.
    exact: bool,
    /// Whether losses of hidden states need lengths that the models do not read.
    lengths: bool,
}

impl<'a> PairedInputs<'a> {
    pub fn new(
        config: &'a ModelConfig,
        teacher: TeacherInput<'a>,
        examples: &'a Examples,
    ) -> Result<Self, DataError> {
        let other = match teacher {
            TeacherInput::Model { config: theirs, .. } => {
                Some(theirs).filter(|theirs| !plans::read_alike(config, theirs))
            }
            _ => None,
        };
        let hidden = teacher.hidden();
        let other_feed =
            other.map(|theirs| BatchEncoder::new(&theirs.input, examples)).transpose()?;
        let texts = matches!(config.input, Input::Tokens(_));
        let own = BatchEncoder::new(&config.input, examples)?;
        let lengths = !hidden.is_empty() && config.decoder().is_some();
        let exact = config.has_statistics();
        Ok(Self { own, teacher: other_feed, texts, exact, lengths })
    }

    /// The examples as the model in training reads them.
    pub fn own(&self) -> &BatchEncoder<'a> {
        &self.own
    }

    /// An epoch's batches of `rows` examples: those of its steps.
    pub fn epoch(&self, rows: usize, seed: u32, epoch: u32) -> Vec<Vec<u32>> {
        self.own.epoch(rows, seed, epoch)
    }

    /// The shape of a batch of `rows` that has room for these examples.
    pub fn shape(&self, indices: &[u32], rows: usize) -> BatchShape {
        let rows = if self.exact { indices.len() } else { rows };
        let feeds = [Some(&self.own), self.teacher.as_ref()];
        let shapes = feeds.into_iter().flatten().map(|feed| feed.shape(indices, rows));
        shapes.max().unwrap_or(BatchShape::of_numbers(rows))
    }

    /// Every shape that batches of `rows` have in so many epochs, whose steps are of `step_rows` examples.
    pub fn shapes(
        &self,
        (rows, step_rows): (usize, usize),
        seed: u32,
        epochs: u32,
    ) -> BTreeSet<BatchShape> {
        if !self.texts && !self.exact {
            return BTreeSet::from([BatchShape::of_numbers(rows)]);
        }
        // Of numbers, every epoch has the same.
        let epochs = if self.texts { epochs } else { epochs.min(1) };
        let steps = (0..epochs).flat_map(|epoch| self.epoch(step_rows, seed, epoch));
        let shapes = |step: Vec<u32>| -> Vec<BatchShape> {
            step.chunks(rows).map(|batch| self.shape(batch, rows)).collect()
        };
        steps.flat_map(shapes).collect()
    }

    /// Tokens of these examples, padding left out.
    pub fn tokens(&self, indices: &[u32]) -> usize {
        let tokens = self.own.tokens();
        let length = |&row: &u32| tokens.length(row as usize);
        if self.texts { indices.iter().map(length).sum() } else { 0 }
    }

    /// Writes a batch of these rows in the place of examples.
    pub fn fill_rows(
        &self,
        rows: &[PackedRow],
        shape: BatchShape,
        student: &mut HostBatch,
        teacher: &mut HostBatch,
    ) {
        self.own.fill_rows(rows, shape, student);
        if self.lengths {
            student.lengths(shape, rows.iter().map(|row| row.ids.len()));
        }
        if let Some(feed) = &self.teacher {
            feed.fill_rows(rows, shape, teacher);
        }
    }

    /// Writes a batch of these examples.
    pub fn fill(
        &self,
        indices: &[u32],
        shape: BatchShape,
        draw: Draw,
        student: &mut HostBatch,
        teacher: &mut HostBatch,
    ) {
        self.own.fill(indices, shape, draw, student);
        if self.lengths {
            self.own.fill_lengths(indices, shape, student);
        }
        if let Some(feed) = &self.teacher {
            feed.fill(indices, shape, draw, teacher);
        }
    }
}
