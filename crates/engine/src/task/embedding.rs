//! Each text becomes a vector, as near to others as the teacher's is.

use super::asked::{Asked, TeacherKind, refusal, texts_alone};
use super::contract::{BatchRows, Counted, LossInputs, Measured, Measuring, Task};
use crate::data::LabelKind;
use crate::error::Error;
use crate::graph::{Graph, TensorId};
use crate::measure::neighbours::{Nearness, mean_cosine};
use crate::models::{Head, HostBatch, Input, ModelConfig, Output, Pooling};
use crate::results::{ACCURACY, ArmReport, Arms, ERRORS, Format, Measure, Report, Scores};

/// To give each text a vector, near to those of texts that mean the same; needs no labels.
#[derive(Debug)]
pub(super) struct Embedding;

/// Key of the mean cosine with the teacher's vectors.
const COSINE: &str = "cosine";

impl Task for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn labels(&self) -> LabelKind {
        LabelKind::None
    }

    fn refuses(&self, asked: &Asked) -> Option<[String; 2]> {
        // The measures of embeddings compare with the teacher's of the test texts.
        texts_alone(asked).or_else(|| match asked {
            _ if asked.teacher != TeacherKind::Folder => refusal(
                "the teacher of embeddings is a finished model, neither trained here nor a file of logits",
                "set `teacher.folder` to the folder of one, or to hf:OWNER/NAME",
            ),
            Asked { keeps_best: true, .. } => refusal(
                "embeddings have no labels by which `train.keep = \"best\"` could choose",
                "leave `keep` out, and the last parameters are kept",
            ),
            Asked { validation: true, .. } => refusal(
                "embeddings are measured on the test texts alone",
                "leave `data.validation` out",
            ),
            _ => None,
        })
    }

    fn head(&self, _: usize) -> Head {
        Head::Embedding
    }

    fn is_done_by(&self, model: &ModelConfig) -> bool {
        matches!(model.output(), Output::Embedding(_))
    }

    fn learns_from_teacher_only(&self) -> bool {
        true
    }

    fn notes(&self, teacher: &ModelConfig) -> Vec<String> {
        let mut notes = Vec::new();
        if teacher.encoder().is_some_and(|encoder| !encoder.sentence.are_unit()) {
            notes.push(
                "The teacher's vectors have lengths of their own: a student learns their directions, by cosine"
                    .to_owned(),
            );
        }
        if matches!(&teacher.input, Input::Tokens(tokens) if tokens.pooling == Pooling::Max) {
            notes.push(
                "The student takes the mean of a text's hidden states where the teacher takes their maximum, through \
                 which nothing is trained"
                    .to_owned(),
            );
        }
        notes
    }

    /// The cosine is one of the losses of hidden states.
    fn loss(&self, _: &mut Graph, _: &LossInputs<'_>) -> Result<Option<[TensorId; 2]>, Error> {
        Ok(None)
    }

    fn fill_labels(&self, _: &BatchRows<'_>, _: &mut HostBatch) {}

    fn counted(&self, of: &BatchRows<'_>) -> Counted {
        Counted { rows: of.indices.len(), labelled: 0 }
    }

    fn measuring(&self) -> Measuring {
        Measuring::Answers
    }

    fn measures(&self) -> &'static [Measure] {
        const ALL: [Measure; 3] = [
            Measure::higher(ACCURACY, "ten nearest neighbours kept", Format::Percent),
            Measure::lower(ERRORS, "texts with another nearest neighbour, of {}", Format::Count),
            Measure::higher(COSINE, "mean cosine with the teacher's", Format::Ratio),
        ];
        &ALL
    }

    fn criteria(&self) -> &'static [&'static str] {
        &[]
    }

    /// Between steps the cosine alone, as neighbours take long to find.
    fn training_scores(&self, of: &Measured<'_>) -> Result<Scores, Error> {
        let (ours, width) = (of.answers, of.config.answer_len());
        let teacher = of.teacher.filter(|(theirs, _)| theirs.len() == ours.len());
        let cosine = teacher.map(|(theirs, _)| mean_cosine(ours, theirs, width));
        Ok(Scores::default().with(COSINE, cosine))
    }

    fn scores(&self, of: &Measured<'_>) -> Result<Scores, Error> {
        let ours = (of.answers, of.config.answer_len());
        let near = Nearness::of(ours, of.teacher.unwrap_or(ours));
        Ok(Scores::default()
            .with(ACCURACY, near.neighbours)
            .with(ERRORS, near.other_nearest as f64)
            .with(COSINE, near.cosine))
    }

    fn loss_of(&self, scores: &Scores) -> f64 {
        scores.get(COSINE).map_or(0.0, |cosine| 1.0 - cosine)
    }

    fn ranks_students(&self) -> bool {
        false
    }

    fn curve(&self) -> Measure {
        self.measures()[2]
    }

    fn kept(&self) -> String {
        "the teacher's ten nearest neighbours of a text".to_owned()
    }

    fn keeps_score(&self) -> bool {
        false
    }

    fn verdict(&self, report: &Report) -> String {
        let Arms { control, distilled, .. } = &report.arms;
        let texts = report.examples.test;
        let found = |arm: &ArmReport| texts - arm.scores.get(ERRORS).unwrap_or(0.0) as usize;
        format!(
            "finds the teacher's nearest neighbour for {} of {texts} texts, for {} before it was distilled",
            found(distilled),
            found(control),
        )
    }
}
