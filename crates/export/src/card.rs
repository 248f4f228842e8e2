//! The model card, README.md: what the model is, what it was distilled from and how well, and how it is used.

mod usage;

use std::fmt::Write;
use std::path::Path;

use distil_gpu_engine::models::{self, Architecture, Input, ModelConfig, Output, ProblemType};
use distil_gpu_engine::recipe::Recipe;
use distil_gpu_engine::results::{Arm, Report};
use distil_gpu_engine::results::{Exports, Record};
use distil_gpu_engine::words::{counted_thousands, thousands};

use crate::export::Export;

/// What a card is made of.
#[derive(Debug)]
pub(crate) struct Card<'a> {
    /// The folder's name.
    pub title: &'a str,
    pub export: &'a Export<'a>,
    /// What was measured of the folder.
    pub exports: Option<&'a Exports>,
}

/// The card's text.
pub(crate) fn card(of: &Card<'_>) -> String {
    let Export { config, licence, .. } = of.export;
    let run = Run::of(of.export.from);
    let licence = licence.as_deref().unwrap_or("unknown");
    let mut text = format!(
        "---\nlicense: {licence}\npipeline_tag: {}\nlibrary_name: {}\ntags:\n- distil-gpu\n- knowledge-distillation\n- onnx\n---\n\n# {}\n\n",
        pipeline(config),
        library(config),
        plain(of.title),
    );
    let parameters = thousands(config.parameter_count());
    let model = config.model().summary();
    _ = writeln!(text, "{}: {model}, {parameters} parameters.", what(config));
    if let Some(run) = &run {
        text.push_str(&run.story());
    }
    if !config.class_names.is_empty() {
        let names = config.class_names.iter().map(|name| format!("`{}`", name.replace('`', "'")));
        let names: Vec<String> = names.take(MOST_NAMES).collect();
        let more = config.class_names.len() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        _ = writeln!(text, "\nOutputs, in order: {}{more}.", names.join(", "));
    }
    if let Some(run) = &run {
        text.push_str(&run.table());
    }
    if let Some(exports) = of.exports {
        text.push_str(&ways_out(exports));
    }
    text.push_str(&usage::usage(of));
    let told = "distil-gpu does not know the licences of the data and of the teacher: whoever passes this model on says \
                so here.";
    let told = if licence == "unknown" {
        format!("Licence: unknown. {told}")
    } else {
        format!("Licence of the model: {}. {told}", plain(licence))
    };
    _ = writeln!(text, "\n## Licence\n\n{told}");
    text
}

/// What each runtime makes of the model.
fn ways_out(exports: &Exports) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| cell_of(cell)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let rows: String = exports.rows().iter().map(|row| line(row)).collect();
    let head = line(&exports.head());
    format!(
        "\n## The ways out\n\n{head}|---|---|---:|---:|---:|---:|---:|---:|\n{rows}\n{}\n",
        exports.note()
    )
}

/// Classes that a card names.
const MOST_NAMES: usize = 50;

/// Text from elsewhere as text of a line.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// What a model is, in a word or two.
fn what(config: &ModelConfig) -> &'static str {
    match (config.output(), &config.input, config.problem) {
        (Output::Classes(_), _, ProblemType::Regression) => "A model of numbers",
        (Output::Classes(_), _, ProblemType::MultiLabel) => "A classifier of several labels",
        (Output::Classes(_), Input::Tokens(_), _) => "A classifier of texts",
        (Output::Classes(_), ..) => "A classifier",
        (Output::Tokens(_), ..) => "A classifier of words",
        (Output::Span, ..) => "A model that finds answers in texts",
        (Output::Embedding(_), ..) => "A model that makes vectors of texts",
        (Output::Vocabulary(_), ..) => "A language model",
        _ => "A model",
    }
}

/// Hugging Face's name of what a model does.
fn pipeline(config: &ModelConfig) -> &'static str {
    match (config.output(), &config.input) {
        (Output::Classes(_), Input::Tokens(_)) => "text-classification",
        (Output::Classes(_), Input::Numbers { shape, .. }) if shape.len() == 3 => {
            "image-classification"
        }
        (Output::Classes(_), _) if config.problem == ProblemType::Regression => {
            "tabular-regression"
        }
        (Output::Classes(_), _) => "tabular-classification",
        (Output::Tokens(_), _) => "token-classification",
        (Output::Span, _) => "question-answering",
        (Output::Embedding(_), _) => "sentence-similarity",
        (Output::Vocabulary(_), _) => match config.architecture {
            Architecture::Decoder(_) => "text-generation",
            _ => "fill-mask",
        },
        _ => "other",
    }
}

fn library(config: &ModelConfig) -> &'static str {
    match (&config.architecture, config.output()) {
        (Architecture::Mlp(_), _) => "onnx",
        (_, Output::Embedding(_)) => "sentence-transformers",
        _ => "transformers",
    }
}

/// The run that a model is of.
struct Run {
    arm: Arm,
    report: Report,
    recipe: Option<Recipe>,
    /// The teacher in a line, where the run saved it.
    teacher: Option<String>,
}

impl Run {
    /// The run whose folder a model's folder lies in; none where it is of no run that is finished.
    fn of(model: &Path) -> Option<Self> {
        let (arm, folder) = Arm::of_model(model)?;
        let report = Record::read(&folder).ok()?.report;
        let recipe = Recipe::load(&folder.join("recipe.toml"), &[]).ok();
        let teacher = models::load_config(&folder.join(Arm::Teacher.folder())).ok();
        let teacher = teacher.map(|teacher| teacher.model().summary());
        Some(Self { arm, report, recipe, teacher })
    }

    /// How the model came to be.
    fn story(&self) -> String {
        let Self { arm, report, recipe, teacher } = self;
        let mut text = String::new();
        let teacher = teacher.as_deref().map_or_else(String::new, |known| format!(" ({known})"));
        _ = match arm {
            Arm::Teacher => writeln!(text, "The teacher of the run `{}`.", plain(&report.name)),
            Arm::Control => writeln!(
                text,
                "The student of the run `{}`, trained without its teacher.",
                plain(&report.name)
            ),
            Arm::Distilled => writeln!(
                text,
                "Distilled from a teacher{teacher} by the run `{}`.",
                plain(&report.name)
            ),
        };
        let examples = &report.examples;
        let students = counted_thousands(examples.students, "example");
        let unlabelled = examples.unlabelled.map_or_else(String::new, |count| {
            format!(" and {} without labels", counted_thousands(count, "example"))
        });
        let test = counted_thousands(examples.test, "example");
        let files = recipe.as_ref().map(|recipe| data_files(&recipe.data)).unwrap_or_default();
        let files =
            if files.is_empty() { String::new() } else { format!(" ({})", files.join(", ")) };
        _ = writeln!(
            text,
            "\nData{files}: learnt from {students}{unlabelled}, measured on {test}."
        );
        if let (Some(recipe), Arm::Distilled) = (recipe, arm) {
            let distil = &recipe.distil;
            _ = writeln!(
                text,
                "Distillation: temperature {}, {} % of the loss from the teacher's answers.",
                distil.temperature,
                (100.0 * distil.alpha).round()
            );
        }
        _ = writeln!(
            text,
            "Made by distil-gpu {} with the seed {} on {}.",
            plain(&report.version),
            report.seed,
            plain(&report.device)
        );
        text
    }

    /// The three arms side by side.
    fn table(&self) -> String {
        let titles: Vec<&str> = Arm::ALL.iter().map(|arm| arm.title()).collect();
        let mut text = format!(
            "\n## What was measured\n\n| | {} |\n|---|---:|---:|---:|\n",
            titles.join(" | ")
        );
        for row in self.report.rows() {
            let cells: Vec<String> = row.cells.iter().map(|cell| cell_of(cell)).collect();
            _ = writeln!(text, "| {} | {} |", cell_of(&row.name), cells.join(" | "));
        }
        _ = writeln!(text, "\n{}", plain(&self.report.sentence()));
        for warning in &self.report.warnings {
            _ = writeln!(text, "\n> {}", plain(warning));
        }
        text
    }
}

/// A text that stays within its cell.
fn cell_of(text: &str) -> String {
    plain(text).replace('|', "\\|")
}

/// Names of the files of a run's data, without their folders.
fn data_files(data: &distil_gpu_engine::recipe::Data) -> Vec<String> {
    const KEYS: [&str; 4] = ["train", "train_images", "test", "unlabelled"];
    let json = serde_json::to_value(data).unwrap_or_default();
    let name = |key: &&str| {
        let path = Path::new(json[*key].as_str()?);
        Some(format!("`{}`", plain(path.file_name()?.to_str()?)))
    };
    KEYS.iter().filter_map(name).collect()
}
