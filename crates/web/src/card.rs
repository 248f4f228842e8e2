//! What a page tells of its model, and the examples of the run that it comes from.

use std::path::Path;

use distil_gpu_engine::Error;
use distil_gpu_engine::models::ModelConfig;
use distil_gpu_engine::results::Arm;
use distil_gpu_engine::results::{Answers, REPORT, Record};
use distil_gpu_engine::task::TaskRef;
use serde::Serialize;

/// Examples of a run that a page shows, at most.
const MOST_EXAMPLES: usize = 12;
/// Characters of an example's text, at most.
const LONGEST: usize = 2000;

/// What a page tells of its model.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// What distillation gained, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentence: Option<String>,
    /// What a reader should know before trusting the numbers.
    pub warnings: Vec<String>,
    /// Names of the three models of the run.
    pub columns: Vec<&'static str>,
    /// What was measured of each.
    pub rows: Vec<CardRow>,
    /// Examples to begin with.
    pub examples: Vec<Example>,
}

/// One thing that was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CardRow {
    /// What.
    pub name: String,
    /// Of the teacher, the student alone and the student distilled.
    pub cells: [String; 3],
}

/// An example to begin with.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Example {
    /// Its text, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The data URI of its picture, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picture: Option<String>,
    /// Its true class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truth: Option<String>,
    /// The teacher's probabilities, by class, of the likeliest classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub teacher: Vec<(String, f64)>,
}

impl Card {
    /// Of a model that lies in `folder`, which may be that of a run.
    ///
    /// # Errors
    /// [`Error::Run`] naming a file of the run that is damaged.
    pub fn of(
        config: &ModelConfig,
        folder: Option<&Path>,
        examples: &[String],
    ) -> Result<Self, Error> {
        let folder = folder.map(|folder| folder.canonicalize().unwrap_or(folder.to_owned()));
        let own = |text: &String| Example { text: Some(text.clone()), ..Example::default() };
        let mut card = Self { examples: examples.iter().map(own).collect(), ..Self::default() };
        let name = folder.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy());
        card.name = name.as_ref().map_or_else(|| "A model".to_owned(), |name| name.to_string());
        let run = folder.as_deref().and_then(Arm::of_model).map(|(_, run)| run);
        let run = run.filter(|run| has_report(run));
        let Some(run) = run else { return Ok(card) };
        let Record { report, answers, .. } = Record::read(&run)?;
        if report.task != TaskRef::of_model(config) {
            return Ok(card);
        }
        card.name = report.name.clone();
        card.sentence = Some(report.sentence());
        card.warnings = report.warnings.clone();
        card.columns = Arm::ALL.iter().map(|arm| arm.title()).collect();
        let row =
            |row: distil_gpu_engine::results::Row| CardRow { name: row.name, cells: row.cells };
        card.rows = report.rows().into_iter().map(row).collect();
        if let Some(answers) = answers {
            let left = MOST_EXAMPLES.saturating_sub(card.examples.len());
            card.examples.extend(of_run(&answers).take(left));
        }
        Ok(card)
    }
}

fn has_report(run: &Path) -> bool {
    run.join(REPORT).is_file()
}

/// The examples that the run's report shows, one of each kind in turn.
fn of_run(answers: &Answers) -> impl Iterator<Item = Example> {
    let name = |class: usize| answers.class_names.get(class).cloned();
    let most = answers.groups.iter().map(|group| group.examples.len()).max().unwrap_or(0);
    let in_turn = (0..most)
        .flat_map(|at| answers.groups.iter().filter_map(move |group| group.examples.get(at)));
    in_turn.filter(|one| one.text.is_some() || one.picture.is_some()).filter(short).map(
        move |example| {
            let teacher = example.answers.iter();
            let teacher = teacher.filter_map(|answer| Some((name(answer.class)?, answer.teacher?)));
            Example {
                text: example.text.clone(),
                picture: example.picture.clone(),
                truth: name(example.class),
                teacher: teacher.collect(),
            }
        },
    )
}

fn short(example: &&distil_gpu_engine::results::answers::Example) -> bool {
    example.text.as_ref().is_none_or(|text| text.len() <= LONGEST)
}
