//! What is found out of a decoder before students are cut out of it: which layers they take over, and which units and heads of
//! these.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Setup;
use super::setup::training_texts;
use crate::device::Device;
use crate::error::Error;
use crate::measure::influence::influence;
use crate::measure::ranking::rank;
use crate::measure::sample::TOKENS;
use crate::models::decoder::Ranking;
use crate::models::{self, Architecture, BatchEncoder, Decoder, Input, ModelConfig, TokenInput};
use crate::recipe::{self, Recipe};
use crate::results::Influence;
use crate::words::thousands;

/// Name of the file in a sweep's folder that holds all that was found out for its students.
pub(crate) const CUTS: &str = "cuts.json";

/// What is to be found out.
#[derive(Debug)]
pub(crate) struct Sought {
    /// The decoder that students are cut out of, which reads what they read.
    pub base: ModelConfig,
    /// How many of its layers they take over, where these are chosen by influence.
    pub keep: Option<usize>,
    /// Whether their layers are narrower than its.
    pub narrower: bool,
}

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// Of layers.
    pub influence: Option<Influence>,
    /// Of their units and heads.
    pub ranking: Option<Ranking>,
}

/// The decoder that a recipe's students take over parameters of.
fn cut_decoder(recipe: &Recipe) -> Option<&recipe::Decoder> {
    match &recipe.student.model {
        recipe::Model::Decoder(decoder) if !decoder.random => Some(decoder),
        _ => None,
    }
}

impl Sought {
    /// Nothing where students take over whole layers that the recipe lists, or no decoder's.
    ///
    /// # Errors
    /// When the configuration of what they are cut out of cannot be read.
    pub fn of(recipe: &Recipe, setup: &Setup) -> Result<Option<Self>, Error> {
        let (Some(asked), Some(student)) = (cut_decoder(recipe), setup.student.decoder()) else {
            return Ok(None);
        };
        let base = match &asked.from {
            recipe::Base::Teacher => setup.teacher.clone(),
            recipe::Base::Model(origin) => Some(models::load_config(&origin.folder()?)?),
        };
        let Some(mut base) = base else { return Ok(None) };
        let Architecture::Decoder(decoder) = &mut base.architecture else { return Ok(None) };
        // Where they know few of its tokens, it guesses those alone.
        decoder.vocab_size = student.vocab_size;
        let keep = recipe.student.model.by_influence();
        let narrower = decoder.is_wider_than(student);
        let base = reading_as(base, setup);
        Ok((keep.is_some() || narrower).then_some(Self { base, keep, narrower }))
    }

    /// What is to be found out hangs on this part of a recipe, beside the teacher and the data.
    pub fn key(recipe: &Recipe) -> String {
        let (model, distil) = (cut_decoder(recipe), &recipe.distil);
        let read = model.map(|model| (&model.from, model.vocabulary, model.max_length));
        let parts = (read, &distil.omit_classes, distil.train_limit);
        serde_json::to_string(&parts).expect("a recipe is plain data")
    }

    /// The decoder with its parameters; `teacher` is the folder of the finished teacher.
    fn load(
        &self,
        (recipe, setup): (&Recipe, &Setup),
        teacher: &Path,
    ) -> Result<(ModelConfig, Vec<Vec<f32>>), Error> {
        let from = cut_decoder(recipe).map(|decoder| &decoder.from);
        let (base, source) = match from {
            Some(recipe::Base::Model(origin)) => {
                let base = models::open(&origin.folder()?)?;
                let data = training_texts(&setup.split)?;
                models::with_tokens_of_student(base, &recipe.student.model, &data)?
            }
            _ => models::open(teacher)?,
        };
        Ok((reading_as(base, setup), source.all()?))
    }
}

/// How much of each layer a narrower decoder takes over, in words.
fn taken_over(ours: &Decoder, theirs: &Decoder) -> String {
    format!(
        "Of each layer, {} of {} units and {} of {} heads of keys are taken over, those that add most to the hidden states of \
         some {TOKENS} tokens",
        thousands(ours.intermediate_size),
        thousands(theirs.intermediate_size),
        ours.num_key_value_heads,
        theirs.num_key_value_heads,
    )
}

/// A model that reads what the students do, its layers seeing as much of that as its own input says.
fn reading_as(base: ModelConfig, setup: &Setup) -> ModelConfig {
    let input = match (&base.input, &setup.student.input) {
        (Input::Tokens(own), Input::Tokens(read)) => {
            Input::Tokens(TokenInput { attends: own.attends, ..read.clone() })
        }
        (_, read) => read.clone(),
    };
    ModelConfig { input, ..base }
}

impl Found {
    /// As much of this as answers what is sought; that the rest is to be measured.
    fn answers(&self, sought: &Sought) -> Self {
        let base = sought.base.decoder();
        let of_base = |ranking: &&Ranking| base.is_some_and(|base| ranking.is_of(base));
        let ranking = self.ranking.as_ref().filter(|_| sought.narrower).filter(of_base);
        let layers = base.map_or(0, |base| base.num_hidden_layers);
        let influence = self.influence.as_ref().filter(|known| known.alone.len() == layers);
        let keeping = |keep: usize| influence?.keeping(keep);
        Self { influence: sought.keep.and_then(keeping), ranking: ranking.cloned() }
    }

    /// What a recipe's students need to be known; what is `known` is not measured again. `teacher` is the folder of the
    /// finished teacher.
    ///
    /// # Errors
    /// When the device fails, or the model cannot be read.
    pub fn of(
        device: &mut dyn Device,
        (recipe, setup): (&Recipe, &Setup),
        teacher: &Path,
        known: &Self,
        told: &mut dyn FnMut(&str),
    ) -> Result<Self, Error> {
        let Some(sought) = Sought::of(recipe, setup)? else { return Ok(Self::default()) };
        let mut found = known.answers(&sought);
        let keep = sought.keep.filter(|_| found.influence.is_none());
        let ranks = sought.narrower && found.ranking.is_none();
        if keep.is_none() && !ranks {
            return Ok(found);
        }
        let (config, values) = sought.load((recipe, setup), teacher)?;
        let (model, examples) = ((&config, &values[..]), setup.transfer.examples());
        let feed = BatchEncoder::new(&config.input, examples)?;
        if let Some(keep) = keep {
            let so_far = known.influence.as_ref();
            found.influence =
                Some(influence(device, model, &feed, (keep, so_far), &mut |removed| {
                    told(&format!(
                        "Layer {} is left out: KL to the whole model is then {:.4} nats a token",
                        removed.layer, removed.kl
                    ));
                })?);
        }
        if ranks {
            found.ranking = Some(rank(device, model, &feed)?);
            if let (Some(ours), Some(theirs)) = (setup.student.decoder(), config.decoder()) {
                told(&taken_over(ours, theirs));
            }
        }
        Ok(found)
    }

    /// What is known when this is known too.
    pub fn with(self, other: Self) -> Self {
        // Of two searches the one that went further.
        let further = |influence: &Option<Influence>| {
            influence.as_ref().map_or(0, |influence| influence.removed.len())
        };
        let first = further(&self.influence) >= further(&other.influence);
        Self {
            influence: if first { self.influence } else { other.influence },
            ranking: self.ranking.or(other.ranking),
        }
    }

    /// A recipe's student with the layers that were chosen.
    pub fn model(&self, recipe: &Recipe) -> recipe::Model {
        let model = &recipe.student.model;
        match &self.influence {
            Some(Influence { kept, .. }) => model.with_layers(kept.clone()),
            None => model.clone(),
        }
    }

    /// The students that are cut so; nothing where nothing was to be found out.
    ///
    /// # Errors
    /// As [`Setup::for_students`].
    pub fn students(&self, recipe: &Recipe, setup: &Setup) -> Result<Option<Setup>, Error> {
        if *self == Self::default() {
            return Ok(None);
        }
        let recipe = recipe.clone().student(self.model(recipe));
        let none = Ranking::default();
        setup.for_students(&recipe, self.ranking.as_ref().unwrap_or(&none)).map(Some)
    }
}
