//! Texts that a language model writes, each with how likely it finds what it wrote: what students are taught as given texts
//! (sequence-level distillation, Kim and Rush 2016).

use crate::data::{Examples, PackedDocuments};
use crate::device::Device;
use crate::error::Error;
use crate::generate::{Continuation, Prompt, TextGenerator};
use crate::measure::Evaluator;
use crate::models::{BatchEncoder, Input, ModelConfig};
use crate::store::Storage;

/// A text that a model wrote.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The text.
    pub continuation: Continuation,
    /// The logarithm of the probability of its tokens at a temperature of 1, in nats; 0 where it has none.
    pub log_probability: f64,
}

/// Takes texts, of which the first has this number.
pub type Take<'t> = dyn FnMut(usize, &[Scored]) -> Result<(), Error> + 't;

/// Goes on with prompts, of which the first has this number, and hands out what becomes of them, some at a time. A prompt's
/// number tells how its tokens are drawn.
///
/// # Errors
/// As [`TextGenerator::run`], and what `take` refuses.
pub fn write(
    device: &mut dyn Device,
    generator: &TextGenerator<'_>,
    storage: Storage,
    (prompts, first): (&[Prompt], usize),
    take: &mut Take<'_>,
) -> Result<(), Error> {
    let encoded: Vec<Vec<i32>> =
        prompts.iter().map(|prompt| generator.encode(prompt)).collect::<Result<_, _>>()?;
    let (config, parameters) = generator.model();
    let mut config = config.clone();
    if let (Some(most), Input::Tokens(tokens)) =
        (config.decoder().map(|decoder| decoder.max_position_embeddings), &mut config.input)
    {
        tokens.max_length = most;
    }
    let model = parameters.store(device, &config, storage)?;
    let mut scorer = Scorer { config: &config, evaluator: Evaluator::new(&config, &model) };
    let made = generator.run_on(
        device,
        &model,
        &encoded,
        first,
        &mut |_, _| (),
        &mut |device, number, made| {
            let prompts = &encoded[number - first..][..made.len()];
            take(number, &scorer.of(device, prompts, made)?)
        },
    );
    scorer.evaluator.close(device);
    model.free(device);
    made
}

/// Finds how likely texts are.
struct Scorer<'a> {
    config: &'a ModelConfig,
    evaluator: Evaluator<'a>,
}

impl Scorer<'_> {
    /// Of what a model made of prompts.
    fn of(
        &mut self,
        device: &mut dyn Device,
        prompts: &[Vec<i32>],
        made: Vec<Continuation>,
    ) -> Result<Vec<Scored>, Error> {
        let whole =
            prompts.iter().zip(&made).map(|(prompt, made)| [&**prompt, &made.tokens].concat());
        let texts: Vec<(Vec<i32>, usize)> = whole.zip(prompts.iter().map(Vec::len)).collect();
        let some = texts.iter().filter(|(ids, prompt)| ids.len() > *prompt);
        let length = texts.iter().map(|(ids, _)| ids.len()).max().unwrap_or(0);
        let mut likelihoods = Vec::new();
        if some.clone().next().is_some() {
            let some = some.map(|(ids, prompt)| (&**ids, *prompt));
            let examples = Examples::from(PackedDocuments::of_texts(some, length, false)?);
            let feed = BatchEncoder::new(&self.config.input, &examples)?;
            likelihoods.resize(feed.len(), 0.0);
            self.evaluator.token_losses(device, &feed, &mut |row, losses| {
                likelihoods[row as usize] = -losses.iter().copied().map(f64::from).sum::<f64>();
            })?;
        }
        let mut likelihoods = likelihoods.into_iter();
        let scored = made.into_iter().map(|continuation| Scored {
            log_probability: match continuation.tokens.is_empty() {
                true => 0.0,
                false => likelihoods.next().expect("each text has a row"),
            },
            continuation,
        });
        Ok(scored.collect())
    }
}
