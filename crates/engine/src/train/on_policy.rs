//! Steps that learn from what the student writes itself, as its teacher sees it; nothing is learnt of how tokens are drawn.

use distil_gpu_kernels::random::{stream, unit, word};

use crate::data::text::PackedRow;
use crate::device::Device;
use crate::error::Error;
use crate::generate::{Text, Writer};
use crate::models::BatchEncoder;
use crate::store::Store;

/// Whether the texts of a step are the student's own, where this share of them is.
fn is_due(fraction: f32, seed: u32, step: u32) -> bool {
    unit(word(seed, stream::ON_POLICY, step, 0)) < fraction
}

/// The texts of a step.
#[derive(Debug)]
struct Written {
    step: u32,
    rows: Vec<PackedRow>,
    /// The first of them.
    first: Text,
}

/// Writes the texts of steps with the parameters that are in training.
#[derive(Debug)]
pub(crate) struct OwnTexts<'a> {
    writer: Writer<'a>,
    seed: u32,
    written: Option<Written>,
}

impl<'a> OwnTexts<'a> {
    pub fn new(writer: Writer<'a>, seed: u32) -> Self {
        Self { writer, seed, written: None }
    }

    /// Writes the texts of a step, if they are the student's own, in the place of these examples.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub fn write(
        &mut self,
        device: &mut dyn Device,
        store: &Store,
        given: (&BatchEncoder<'_>, &[u32]),
        step: u32,
    ) -> Result<(), Error> {
        self.written = None;
        if !is_due(self.writer.how().fraction, self.seed, step) {
            return Ok(());
        }
        let seed = word(self.seed, stream::ON_POLICY, step, 1);
        let texts = self.writer.write(device, store, given, seed)?;
        let row = |texts: &Vec<Text>| {
            PackedRow::of_pieces(texts.iter().map(|text| (&*text.tokens, text.prompt)))
        };
        let rows = texts.iter().map(row).collect();
        let first = texts.into_iter().flatten().next();
        self.written = first.map(|first| Written { step, rows, first });
        Ok(())
    }

    fn of(&self, step: u32) -> Option<&Written> {
        self.written.as_ref().filter(|written| written.step == step)
    }

    /// The rows of a step, in the place of its examples, where they are the student's own.
    pub fn rows(&self, step: u32) -> Option<&[PackedRow]> {
        self.of(step).map(|written| &*written.rows)
    }

    /// The first text of a step, where it is the student's own, as [`Writer::in_words`] has it.
    ///
    /// # Errors
    /// As that.
    pub fn shown(&self, step: u32) -> Result<Option<[String; 2]>, Error> {
        self.of(step).map(|written| self.writer.in_words(&written.first)).transpose()
    }

    /// Gives back what it has on the device.
    pub fn close(self, device: &mut dyn Device) {
        self.writer.close(device);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_drawn_by_the_seed() {
        let due = |fraction, seed| (0..4000).filter(|&step| is_due(fraction, seed, step)).count();
        assert!((900..1100).contains(&due(0.25, 1)), "{}", due(0.25, 1));
        assert_eq!(due(0.0, 1), 0);
        assert_eq!(due(1.0, 1), 4000);
        assert!((0..100).any(|step| is_due(0.25, 1, step) != is_due(0.25, 2, step)));
    }
}
