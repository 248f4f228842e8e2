//! What a recipe asks for that no run can do.

use crate::error::Error;
use crate::recipe::{self, Keep, Recipe, Vocabulary};
use crate::task::{Asked, TeacherKind};

/// Refuses what no run can do.
pub(super) fn check_task(recipe: &Recipe, labelled: bool) -> Result<(), Error> {
    if let (recipe::Teacher::Trained { model, .. }, recipe::Model::Decoder(ours)) =
        (&recipe.teacher, &recipe.student.model)
        && let recipe::Model::Decoder(theirs) = &**model
        && ours.from == recipe::Base::Teacher
        && ![Vocabulary::Full, theirs.vocabulary].contains(&ours.vocabulary)
    {
        let what = "a student that starts from the teacher knows the teacher's tokens".to_owned();
        let instead = "give `teacher.model` the same `vocabulary`".to_owned();
        return Err(Error::Unsupported { what, instead });
    }
    let task = recipe.task;
    let asked = Asked {
        texts: matches!(recipe.data.source, recipe::Source::Text { .. }),
        teacher: match recipe.teacher {
            recipe::Teacher::Trained { .. } => TeacherKind::Trained,
            recipe::Teacher::Folder { .. } => TeacherKind::Folder,
            recipe::Teacher::Logits { .. } => TeacherKind::Answers,
        },
        keeps_best: recipe.train.keep == Keep::Best,
        validation: recipe.data.validation.is_some(),
        labelled,
    };
    let omits = !recipe.distil.omit_classes.is_empty();
    let why = match task.has_classes() {
        true if labelled => None,
        true => Some("leaves out examples by their labels, and the data have none"),
        false => Some("is for `task = \"classification\"`, and this task has no classes"),
    };
    let no_classes = why
        .filter(|_| omits)
        .map(|why| [format!("`distil.omit_classes` {why}"), "leave it out".to_owned()]);
    let of_its_own = recipe.distil.on_policy.and_then(|_| writes_nothing(recipe));
    match task.refuses(&asked).or(no_classes).or(of_its_own) {
        None => Ok(()),
        Some([what, instead]) => Err(Error::Unsupported { what, instead }),
    }
}

/// Why a student can learn from no text of its own, and what to do.
fn writes_nothing(recipe: &Recipe) -> Option<[String; 2]> {
    if !recipe.task.goes_on() {
        let what = "`distil.on_policy` is for students that write, and this task's only answer";
        return Some([what.to_owned(), "leave it out, or set `task = \"causal-lm\"`".to_owned()]);
    }
    if matches!(recipe.teacher, recipe::Teacher::Folder { cache: Some(_), .. }) {
        let what = "a cache holds the teacher's answers to given texts, and `distil.on_policy` has the student write others";
        return Some([
            what.to_owned(),
            "leave out `teacher.cache` or `distil.on_policy`".to_owned(),
        ]);
    }
    None
}
