//! What a run finds out of its students before their training: the layers that they take over, and what they are worth then.

use std::fs;
use std::path::Path;

use super::setup::training_texts;
use super::{Setup, Taken, Test, Work};
use crate::device::Device;
use crate::error::Error;
use crate::files::write_atomically;
use crate::measure::influence::{INFLUENCE, influence};
use crate::measure::ranking::{RANKING, rank};
use crate::measure::sample::TOKENS;
use crate::models::decoder::Ranking;
use crate::models::{self, BatchEncoder, ModelConfig};
use crate::objective::{TeacherAnswers, frozen_store};
use crate::recipe::{self, Recipe};
use crate::results::{Arm, ArmReport, Influence};
use crate::store::Storage;
use crate::task::{Measuring, TaskRef};
use crate::words::thousands;

impl Work<'_> {
    /// Which layers the students take over, where that is to be found out. What an interrupted run has of it is taken as it is.
    pub(super) fn influence(
        &mut self,
        device: &mut dyn Device,
    ) -> Result<Option<Influence>, Error> {
        let Self { recipe, setup, folder, log, .. } = self;
        let Some(keep) = recipe.student.model.by_influence() else { return Ok(None) };
        let file = folder.join(INFLUENCE);
        if let Ok(known) = fs::read(&file)
            && let Ok(known) = serde_json::from_slice::<Influence>(&known)
            && known.kept.len() == keep
        {
            return Ok(Some(known));
        }
        let Some((config, values)) =
            base_of_decoder(recipe, setup, &folder.join(Arm::Teacher.folder()))?
        else {
            unreachable!("decoders alone are cut by influence");
        };
        let feed = BatchEncoder::new(&config.input, setup.transfer.examples())?;
        let found = influence(device, (&config, &values), &feed, keep, &mut |removed| {
            log.note(&format!(
                "Layer {} is left out: KL to the whole model is then {:.4} nats a token",
                removed.layer, removed.kl
            ));
        })?;
        let json = serde_json::to_string(&found).expect("numbers are plain data");
        write_atomically(&file, format!("{json}\n").as_bytes())?;
        Ok(Some(found))
    }

    /// Which parts of a decoder's layers a narrower one takes over, if the students are such. What an interrupted run has of it
    /// is taken as it is.
    pub(super) fn ranking(&mut self, device: &mut dyn Device) -> Result<Option<Ranking>, Error> {
        let Self { recipe, setup, folder, log, .. } = self;
        let file = folder.join(RANKING);
        let known = fs::read(&file).ok();
        let known: Option<Ranking> = known.and_then(|known| serde_json::from_slice(&known).ok());
        let teacher = folder.join(Arm::Teacher.folder());
        let told = &mut |note: &str| log.note(note);
        let found = ranking(device, (recipe, setup), &teacher, known.as_ref(), told)?;
        if let Some(found) = found.as_ref().filter(|found| known.as_ref() != Some(found)) {
            let json = serde_json::to_string(found).expect("numbers are plain data");
            write_atomically(&file, format!("{json}\n").as_bytes())?;
        }
        Ok(found)
    }

    /// What a student that is a language model is worth before its training, if it starts from another model's parameters.
    pub(super) fn before(
        &self,
        device: &mut dyn Device,
        teacher: &dyn TeacherAnswers,
    ) -> Result<Option<Box<ArmReport>>, Error> {
        let Self { setup, folder, .. } = self;
        let config = &setup.student;
        if TaskRef::of_model(config).measuring() != Measuring::Loss {
            return Ok(None);
        }
        let start = setup.start(Arm::Distilled, &folder.join(Arm::Teacher.folder()))?;
        let values: Option<Vec<Vec<f32>>> = start.iter().cloned().collect();
        let Some(values) = values.filter(|values| !values.is_empty()) else { return Ok(None) };
        let store = frozen_store(device, config, &values, Storage::F32)?;
        let test = Test { teacher: Some(teacher), ..setup.test(&[], None) };
        let folder = folder.join(Arm::Distilled.folder());
        let measured = test.measure(device, (config, &store), &folder, Taken::default())?;
        store.free(device);
        Ok(Some(Box::new(ArmReport { bytes: None, ..measured.report })))
    }
}

/// A model and its parameters.
type Whole = (ModelConfig, Vec<Vec<f32>>);

/// The model that decoders of a recipe start from, with the students' input; nothing where they start from none.
fn base_of_decoder(recipe: &Recipe, setup: &Setup, teacher: &Path) -> Result<Option<Whole>, Error> {
    let recipe::Model::Decoder(recipe::Decoder { from, random: false, .. }) = &recipe.student.model
    else {
        return Ok(None);
    };
    let (base, values) = match from {
        recipe::Base::Teacher => models::load(teacher)?,
        recipe::Base::Model(origin) => {
            let base = models::load(&origin.folder()?)?;
            let data = training_texts(&setup.split)?;
            models::with_tokens_of_student(base, &recipe.student.model, &data)?
        }
    };
    Ok(Some((ModelConfig { input: setup.student.input.clone(), ..base }, values)))
}

/// Which parts of a decoder's layers a narrower one takes over, if the students are such; `teacher` is the folder of the
/// finished teacher. What is `known` is taken as it is, if it ranks that model's parts.
pub(super) fn ranking(
    device: &mut dyn Device,
    (recipe, setup): (&Recipe, &Setup),
    teacher: &Path,
    known: Option<&Ranking>,
    told: &mut dyn FnMut(&str),
) -> Result<Option<Ranking>, Error> {
    let Some(base) = wider_base(recipe, setup)? else { return Ok(None) };
    let of_base = |known: &&Ranking| base.decoder().is_some_and(|base| known.is_of(base));
    if let Some(known) = known.filter(of_base) {
        return Ok(Some(known.clone()));
    }
    let Some((config, values)) = base_of_decoder(recipe, setup, teacher)? else { return Ok(None) };
    let (Some(ours), Some(theirs)) = (setup.student.decoder(), config.decoder()) else {
        return Ok(None);
    };
    let feed = BatchEncoder::new(&config.input, setup.transfer.examples())?;
    let found = rank(device, (&config, &values), &feed)?;
    told(&format!(
        "Of each layer, {} of {} units and {} of {} heads of keys are taken over, those that add most to the hidden states of \
         some {TOKENS} tokens",
        thousands(ours.intermediate_size),
        thousands(theirs.intermediate_size),
        ours.num_key_value_heads,
        theirs.num_key_value_heads,
    ));
    Ok(Some(found))
}

/// The model that decoders of a recipe start from, if its layers are wider than theirs.
fn wider_base(recipe: &Recipe, setup: &Setup) -> Result<Option<ModelConfig>, Error> {
    let recipe::Model::Decoder(recipe::Decoder { from, random: false, .. }) = &recipe.student.model
    else {
        return Ok(None);
    };
    let base = match from {
        recipe::Base::Teacher => setup.teacher.clone(),
        recipe::Base::Model(origin) => Some(models::load_config(&origin.folder()?)?),
    };
    let ours = setup.student.decoder();
    let wider = |base: &ModelConfig| {
        base.decoder().zip(ours).is_some_and(|(base, ours)| base.is_wider_than(ours))
    };
    Ok(base.filter(wider))
}
