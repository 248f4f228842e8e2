//! The outermost keys, `[student]` and `[target]`.

use serde::{Deserialize, Serialize};

use super::Model;
use super::document::Table;
use super::error::RecipeError;
use super::key::{Nested, key, keys, nested, word};
use super::rules::{DEVICE, FLAG, NAME, NOT_NEGATIVE, PATH, SEED, SHARE};
use crate::plan::Precision;
use crate::task::{self, TaskRef};

keys! {
    /// Keys at the top, before any table.
    ROOT in "";

    /// What the run is called in its report and its folder.
    NAMED: String = key("name", NAME)
        .otherwise("the recipe's file name")
        .like("\"mine\"")
        .also(&["run_name", "experiment"]);
    /// What the models learn to do. An embedding is a vector for each text, from texts without labels; masked-lm guesses
    /// masked words of texts, causal-lm each next token.
    TASK: TaskRef = word("task", || task::ALL.map(|task| (task.name(), task)).to_vec())
        .or("\"classification\"")
        .like("\"classification\"")
        .also(&["task_type", "objective"]);
    /// Decides the initial weights, the order of the data, shifts and dropout.
    RANDOM_SEED: u32 = key("seed", SEED)
        .or("0")
        .like("0")
        .also(&["random_seed", "random_state", "rng_seed", "manual_seed"]);
    /// The run's folder, against the current one.
    OUT: String = key("out", PATH)
        .otherwise("runs/NAME, numbered where that exists")
        .like("\"runs/mine\"")
        .also(&["output_dir", "output", "out_dir", "save_dir", "output_path"]);
    /// What computes; `distil-gpu devices` lists the GPUs. `auto` takes a real GPU, else the CPU.
    RUNS_ON: String = key("device", DEVICE)
        .or("\"auto\"")
        .like("\"auto\"")
        .hint("\"auto\", \"cpu\" or \"gpu\"")
        .also(&["use_cuda", "use_gpu", "no_cuda", "use_cpu", "cuda", "gpu", "accelerator"]);
    /// Seconds between checkpoints, from the last of which `distil-gpu run --resume RUN` goes on; 0 writes one only where
    /// the run is told to stop.
    CHECKPOINT_SECONDS: f32 = key("checkpoint_seconds", NOT_NEGATIVE)
        .or("30.0")
        .like("30.0")
        .hint("in seconds")
        .also(&["save_steps", "checkpoint_every", "checkpoint_interval", "save_interval"]);
    /// Whether event files for TensorBoard are written beside `metrics.jsonl`.
    TENSORBOARD: bool = key("tensorboard", FLAG)
        .or("false")
        .like("true")
        .hint("true or false")
        .also(&["report_to", "log_dir", "logging_dir", "logger"]);
    /// "mixed" keeps activations and the teacher's matrices in f16, on GPUs that have it; what learns, and losses, stay in
    /// f32.
    PRECISION: Precision = word("precision", || vec![("f32", Precision::F32), ("mixed", Precision::Mixed)])
        .or("\"f32\"")
        .like("\"mixed\"")
        .hint("\"f32\" or \"mixed\"")
        .also(&["fp16", "bf16", "amp", "mixed_precision", "use_amp", "half"]);
    /// What is learnt from.
    DATA: Nested = nested("data", "what is learnt from")
        .needed()
        .like("{ source = \"csv\", train = \"train.csv\", test = \"test.csv\" }")
        .also(&["dataset", "datasets", "dataset_name"]);
    /// Where the teacher comes from.
    TEACHER_TABLE: Nested = nested("teacher", super::teacher::WHAT)
        .needed()
        .like("{ folder = \"my-teacher\" }")
        .also(&["teacher_model", "teacher_model_name", "teacher_name"]);
    /// The small model, which is trained once with the teacher and once without.
    STUDENT: Nested = nested("student", "the small model to train")
        .needed()
        .like("{ model = { type = \"mlp\", hidden_sizes = [32] } }")
        .also(&["student_model", "student_model_name", "student_name"]);
    /// How the teacher's knowledge passes on.
    DISTIL_TABLE: Nested = nested("distil", "how the teacher's knowledge passes on")
        .like("{ temperature = 4.0 }")
        .also(&["distill", "distillation", "kd"]);
    /// How both students are trained: alone, and with the teacher.
    TRAIN_TABLE: Nested = nested("train", "how the students are trained")
        .needed()
        .like("{ epochs = 10 }")
        .also(&["training", "trainer", "training_args"]);
    /// What the student must reach for the run to count as a success.
    TARGET: Nested = nested("target", "what the student must reach").like("{ retain = 0.97 }");
}

keys! {
    /// What the student must reach; a run that does not ends with exit code 3.
    TARGET_KEYS in "target";

    /// The least share of the teacher's accuracy that the distilled student must keep.
    RETAIN: f64 = key("retain", SHARE)
        .needed()
        .like("0.97")
        .also(&["min_accuracy", "target_accuracy"]);
}

keys! {
    /// The small model, which is trained once with the teacher and once without.
    STUDENT_KEYS in "student";

    /// The model; its keys follow.
    STUDENT_MODEL: Nested = nested("model", "a table, as { type = \"mlp\", hidden_sizes = [32] }")
        .needed()
        .like("{ type = \"mlp\", hidden_sizes = [32] }")
        .also(&["architecture", "arch", "network"]);
}

/// `[target]`: what the student must reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// The least share of the teacher's accuracy that the distilled student must keep, in [0, 1].
    pub retain: f64,
}

/// `[student]`: the small model, trained once with the teacher and once without.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Student {
    /// The model.
    pub model: Model,
}

impl Student {
    pub(super) fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        table.known(&[&STUDENT_KEYS])?;
        Ok(Self { model: Model::read(&table.need_table(&STUDENT_MODEL)?)? })
    }
}

impl Target {
    pub(super) fn read(table: &Table<'_>) -> Result<Self, RecipeError> {
        table.known(&[&TARGET_KEYS])?;
        Ok(Self { retain: table.value(&RETAIN)? })
    }
}
