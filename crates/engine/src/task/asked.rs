//! What a recipe asks for, as far as a task may have to refuse it.

/// Facts of a recipe.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Whether examples are texts.
    pub texts: bool,
    /// Where the teacher comes from.
    pub teacher: TeacherKind,
    /// Whether the best parameters are to be kept.
    pub keeps_best: bool,
    /// Whether there are data to choose them on.
    pub validation: bool,
    /// Whether the training data have labels.
    pub labelled: bool,
}

/// Where a teacher comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TeacherKind {
    /// It is trained in the run.
    Trained,
    /// It is the folder of a model.
    Folder,
    /// It is a file of answers.
    Answers,
}

/// Refusals of a task that learns from texts alone.
pub(super) fn texts_alone(asked: &Asked) -> Option<[String; 2]> {
    (!asked.texts).then(|| {
        [
            "this task learns from texts, and the data are numbers".to_owned(),
            "set `data.source` to \"text\", or `task` to \"classification\"".to_owned(),
        ]
    })
}

/// A refusal: what cannot be done, and what to do instead.
pub(super) fn refusal(what: &str, instead: &str) -> Option<[String; 2]> {
    Some([what.to_owned(), instead.to_owned()])
}
