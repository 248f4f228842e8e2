//! A cache as the teacher of a student in training.

use super::binding::Kind;
use super::reader::{Places, TeacherCache};
use crate::error::Error;
use crate::models::{HostBatch, ModelConfig};
use crate::objective::names::{TEACHER_HIDDEN, TEACHER_LOGITS};
use crate::objective::{Objective, TeacherAnswers, TeacherInput};
use crate::store::Store;

/// Answers out of a cache to what a student learns from. The model is there to measure with, and for its head.
#[derive(Debug)]
pub struct CachedAnswers<'a> {
    /// Who would answer.
    pub teacher: (&'a ModelConfig, &'a Store),
    /// The answers.
    pub cache: &'a TeacherCache,
    /// Where those to the student's examples lie.
    pub places: &'a Places,
}

impl CachedAnswers<'_> {
    /// Reads the answers to these examples [rows, width] into the beginning of `out`, and hands out the rest of it.
    fn read<'o>(&self, examples: &[u32], mut out: &'o mut [f32]) -> Result<&'o mut [f32], Error> {
        let width = self.cache.identity().width;
        for &example in examples {
            for &(file, number, rows) in self.places.of(example as usize) {
                let (own, rest) = out.split_at_mut(rows as usize * width);
                self.cache.read((file, number), own)?;
                out = rest;
            }
        }
        Ok(out)
    }

    /// The answers to these examples, so many rows [rows, width].
    ///
    /// # Errors
    /// When they cannot be read.
    ///
    /// # Panics
    /// When there are more rows.
    pub fn rows(&self, examples: &[u32], rows: usize) -> Result<Vec<f32>, Error> {
        let mut out = vec![0.0; rows * self.cache.identity().width];
        self.read(examples, &mut out)?;
        Ok(out)
    }
}

impl TeacherAnswers for CachedAnswers<'_> {
    fn input<'a>(&'a self, objective: &'a Objective) -> TeacherInput<'a> {
        let (config, store) = self.teacher;
        TeacherInput::Kept { config, stored: (&*store.layout.types).into(), objective }
    }

    fn model(&self) -> Option<(&ModelConfig, &Store)> {
        Some(self.teacher)
    }

    fn fill(&self, examples: &[u32], rows: usize, batch: &mut HostBatch) -> Result<(), Error> {
        let name = match self.cache.kind() {
            Kind::Hidden => TEACHER_HIDDEN,
            Kind::Logits => TEACHER_LOGITS,
        };
        let width = self.cache.identity().width;
        let out = batch.floats(name, rows * width);
        self.read(examples, out)?.fill(0.0);
        Ok(())
    }
}
