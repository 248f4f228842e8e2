//! Which layers of a decoder matter least: one after another is left out, always the one without which the guesses stay
//! nearest to the whole model's (greedy pruning, as of Yang et al. 2024, "LaCo", and Kim et al. 2024, "Shortened LLaMA", by KL).

use distil_gpu_kernels::DType;
use distil_gpu_kernels::StepState;
use distil_gpu_kernels::distill_loss::TERMS;

use crate::device::{Device, HostTensor, ProgramId};
use crate::error::Error;
use crate::graph::Graph;
use crate::graph::ops::{Decoder as Vocabulary, LossTerms, chunk_rows};
use crate::layout::Layout;
use crate::measure::sample::{Sample, with_frozen, with_plan};
use crate::models::{
    Answer, BatchEncoder, BatchShape, Decoder, HostBatch, LABELS, Model, ModelConfig,
};
use crate::plan::{Options, Plan};
use crate::results::{Influence, Removed};

/// Name of the file in a run's folder that holds which layers the students take over, where that was found out.
pub(crate) const INFLUENCE: &str = "influence.json";
/// Names of the plan's inputs and outputs.
const WHOLE: &str = "hidden states of the whole model";
const HIDDEN: &str = "hidden states";
const GUESSES: &str = "terms";

fn gate(layer: usize) -> String {
    format!("layer {layer}")
}

/// The plan in which layers can be left out: hidden states in front of the head, and the terms of their KL to those that are
/// given.
fn plan(config: &ModelConfig, decoder: &Decoder, shape: BatchShape) -> Result<Plan, Error> {
    let mut graph = Graph::new(vec![Layout::new(decoder.parameters())?]);
    let inputs = config.input.of_graph(&mut graph, "", shape);
    let gates = (0..decoder.num_hidden_layers)
        .map(|layer| graph.input(&gate(layer), &[1], DType::F32))
        .collect();
    let outputs = decoder.forward_with_gates(&mut graph, 0, &inputs, gates)?;
    let Answer::Vocabulary(ours) = outputs.answer else { unreachable!("a decoder guesses tokens") };
    let states = graph.shape(ours.hidden).to_vec();
    let whole = graph.input(WHOLE, &states, DType::F32);
    let theirs = Vocabulary { hidden: whole, ..ours };
    let count = config.input.labels(shape);
    let labels = graph.input(LABELS, &[count], DType::I32);
    let chunk = chunk_rows(count, decoder.vocab_size);
    let (_, terms) =
        graph.vocabulary_loss_of(ours, labels, Some(theirs), chunk, LossTerms::default())?;
    graph.output(GUESSES, terms);
    graph.output(HIDDEN, ours.hidden);
    Plan::compile(&graph, Options::default())
}

/// The plan that a decoder's layers are judged by on these examples.
///
/// # Errors
/// [`Error::Unsupported`] when it is no decoder; when its parameters are too large for any device.
pub(crate) fn plan_for(config: &ModelConfig, feed: &BatchEncoder<'_>) -> Result<Plan, Error> {
    let Some(decoder) = config.decoder() else { return Err(no_choice(0, 0)) };
    plan(config, decoder, Sample::of(feed).shape)
}

/// Forward passes of a search among so many layers: one of the whole model, then one without each layer that is left.
pub(crate) fn passes(layers: usize, keep: usize) -> usize {
    1 + (keep + 1..=layers).sum::<usize>()
}

fn no_choice(keep: usize, layers: usize) -> Error {
    Error::Unsupported {
        what: format!("{keep} of {layers} layers cannot be chosen by influence"),
        instead: "set a smaller `keep`, or leave `layers` out".to_owned(),
    }
}

/// The `keep` layers of a decoder that are left when the others are left out one by one. `told` hears of each. A search that
/// was made `so_far` is gone on with.
///
/// # Errors
/// [`Error::Unsupported`] when there are no more layers than that; when the device fails.
pub fn influence(
    device: &mut dyn Device,
    model: (&ModelConfig, &[Vec<f32>]),
    feed: &BatchEncoder<'_>,
    (keep, so_far): (usize, Option<&Influence>),
    told: &mut dyn FnMut(&Removed),
) -> Result<Influence, Error> {
    let config = model.0;
    let layers = config.decoder().map_or(0, |decoder| decoder.num_hidden_layers);
    let Some(decoder) = config.decoder().filter(|_| keep < layers) else {
        return Err(no_choice(keep, layers));
    };
    let found = so_far.filter(|known| known.alone.len() == layers).cloned().unwrap_or_default();
    let is_kept = |layer| found.removed.iter().all(|removed| removed.layer != layer);
    let kept = (0..layers).map(is_kept).collect();
    let Sample { shape, batch, .. } = Sample::of(feed);
    let plan = plan(config, decoder, shape)?;
    let whole = vec![0.0; plan_len(&plan)];
    with_frozen(device, model, |device, store| {
        with_plan(device, store, &plan, |device, program| {
            let search = Search { device, program, batch, kept, whole };
            search.run(found, keep, told)
        })
    })
}

/// Elements of the hidden states in front of the head.
fn plan_len(plan: &Plan) -> usize {
    plan.input(WHOLE).map_or(0, |index| plan.buffers[index].len)
}

struct Search<'a> {
    device: &'a mut dyn Device,
    program: ProgramId,
    batch: HostBatch,
    kept: Vec<bool>,
    /// Hidden states of the whole model.
    whole: Vec<f32>,
}

impl Search<'_> {
    fn run(
        mut self,
        mut found: Influence,
        keep: usize,
        told: &mut dyn FnMut(&Removed),
    ) -> Result<Influence, Error> {
        let all = vec![true; self.kept.len()];
        let so_far = std::mem::replace(&mut self.kept, all);
        (_, found.tokens) = self.kl()?;
        self.whole = self.device.output(self.program, HIDDEN)?;
        self.kept = so_far;
        while self.kept.iter().filter(|kept| **kept).count() > keep {
            let mut least: Option<Removed> = None;
            for layer in 0..self.kept.len() {
                if !std::mem::replace(&mut self.kept[layer], false) {
                    continue;
                }
                let (kl, _) = self.kl()?;
                self.kept[layer] = true;
                if found.removed.is_empty() {
                    found.alone.push(kl);
                }
                if least.is_none_or(|least| kl < least.kl) {
                    least = Some(Removed { layer, kl });
                }
            }
            // Where no KL is a number, the first layers go.
            let first = self.kept.iter().position(|kept| *kept).unwrap_or(0);
            let least = least.unwrap_or(Removed { layer: first, kl: f64::NAN });
            self.kept[least.layer] = false;
            told(&least);
            found.removed.push(least);
        }
        let kept = self.kept.iter().enumerate().filter(|(_, kept)| **kept);
        found.kept = kept.map(|(layer, _)| layer).collect();
        Ok(found)
    }

    /// KL of the guesses with the layers that are kept, in nats a token, and how many tokens.
    fn kl(&mut self) -> Result<(f64, usize), Error> {
        let gates: Vec<(String, [f32; 1])> = self
            .kept
            .iter()
            .enumerate()
            .map(|(layer, &kept)| (gate(layer), [if kept { 1.0 } else { 0.0 }]))
            .collect();
        let mut inputs: Vec<(&str, HostTensor<'_>)> = self.batch.inputs().collect();
        inputs.extend(gates.iter().map(|(name, one)| (&**name, HostTensor::F32(one))));
        inputs.push((WHOLE, HostTensor::F32(&self.whole)));
        let state = StepState { alpha: 1.0, ..StepState::default() };
        self.device.run(self.program, &state, &inputs)?;
        let terms = self.device.output(self.program, GUESSES)?;
        let counted = || terms.chunks_exact(TERMS).filter(|terms| terms[4] > 0.0);
        let tokens = counted().count();
        let sum: f64 = counted().map(|terms| f64::from(terms[0])).sum();
        Ok((sum / tokens.max(1) as f64, tokens))
    }
}
