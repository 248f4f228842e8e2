//! Which units and heads of a decoder's layers matter most, for students that are narrower. What one is worth is how much it
//! adds to hidden states: Σ over tokens of |x| · ‖w‖, where x is what it says and w is the column of the next weight that it
//! goes through; of a head the sum over its columns. (By activation, as Muralidharan et al. 2024, "Minitron"; times the weight,
//! as Sun et al. 2023, "Wanda".)

use std::ops::Range;

use distil_gpu_kernels::StepState;

use crate::device::Device;
use crate::error::Error;
use crate::graph::Graph;
use crate::layout::Layout;
use crate::measure::sample::{Sample, with_frozen, with_plan};
use crate::models::decoder::Ranking;
use crate::models::{BatchEncoder, BatchShape, Decoder, Model, ModelConfig};
use crate::plan::{Options, Plan};

/// Name of the file in a run's folder that holds which parts of layers matter most to the students.
pub(crate) const RANKING: &str = "ranking.json";
/// Bytes of what layers say that are kept at once: as many layers are looked at in a forward pass.
const BYTES: usize = 256 << 20;

fn part(number: usize) -> String {
    format!("part {number}")
}

/// The plan whose outputs are the parts of these layers.
fn plan(
    config: &ModelConfig,
    decoder: &Decoder,
    shape: BatchShape,
    layers: Range<usize>,
) -> Result<Plan, Error> {
    let mut graph = Graph::new(vec![Layout::new(decoder.parameters())?]);
    let inputs = config.input.of_graph(&mut graph, "", shape);
    let parts = decoder.forward_to_parts(&mut graph, 0, &inputs)?;
    let numbered = parts.iter().enumerate().take(2 * layers.end).skip(2 * layers.start);
    numbered.for_each(|(number, &own)| graph.output(&part(number), own));
    Plan::compile(&graph, Options::default())
}

/// The plans that a decoder's layers are looked at by on these examples, each with the layers whose parts it tells.
fn plans(
    config: &ModelConfig,
    decoder: &Decoder,
    shape: BatchShape,
) -> Result<Vec<(Range<usize>, Plan)>, Error> {
    let of_a_token = 4 * (decoder.query_width() + decoder.intermediate_size);
    let step = (BYTES / (of_a_token * shape.rows * shape.length)).max(1);
    let count = decoder.num_hidden_layers;
    let ranges = (0..count).step_by(step).map(|first| first..(first + step).min(count));
    ranges.map(|layers| Ok((layers.clone(), plan(config, decoder, shape, layers)?))).collect()
}

/// The same without their layers.
///
/// # Errors
/// [`Error::Unsupported`] when it is no decoder; when its parameters are too large for any device.
pub(crate) fn plans_for(config: &ModelConfig, feed: &BatchEncoder<'_>) -> Result<Vec<Plan>, Error> {
    let decoder = config.decoder().ok_or_else(no_decoder)?;
    let plans = plans(config, decoder, Sample::of(feed).shape)?;
    Ok(plans.into_iter().map(|(_, plan)| plan).collect())
}

fn no_decoder() -> Error {
    Error::Unsupported {
        what: "units of a model that is no decoder are not ranked".to_owned(),
        instead: "leave its sizes as they are".to_owned(),
    }
}

/// The parts of a decoder's layers, from the one that matters most; of equal ones the first.
///
/// # Errors
/// [`Error::Unsupported`] when it is no decoder; when the device fails.
pub fn rank(
    device: &mut dyn Device,
    model: (&ModelConfig, &[Vec<f32>]),
    feed: &BatchEncoder<'_>,
) -> Result<Ranking, Error> {
    let (config, values) = model;
    let decoder = config.decoder().ok_or_else(no_decoder)?;
    let Sample { rows, shape, batch } = Sample::of(feed);
    let length = |&row: &u32| feed.tokens().length(row as usize);
    let read: Vec<bool> =
        rows.iter().flat_map(|row| (0..shape.length).map(move |at| at < length(row))).collect();
    let weights = decoder.narrowing_weights();
    let mut ranking = Ranking::default();
    with_frozen(device, model, |device, store| {
        for (layers, plan) in plans(config, decoder, shape)? {
            // Nothing is guessed.
            let inputs: Vec<_> =
                batch.inputs().filter(|(name, _)| plan.input(name).is_some()).collect();
            with_plan(device, store, &plan, |device, program| {
                device.run(program, &StepState::default(), &inputs)?;
                let mut worth_of = |number: usize, weight: usize| {
                    let said = device.output(program, &part(number))?;
                    Ok::<_, Error>(worth(&said, &read, &values[weight], decoder.is_transposed()))
                };
                for layer in layers {
                    let [attended, narrow] = weights[layer];
                    let heads = worth_of(2 * layer, attended)?;
                    let of_a_head = heads.len() / decoder.num_key_value_heads;
                    let heads: Vec<f64> =
                        heads.chunks(of_a_head).map(|columns| columns.iter().sum()).collect();
                    ranking.heads.push(from_best(&heads));
                    ranking.units.push(from_best(&worth_of(2 * layer + 1, narrow)?));
                }
                Ok(())
            })?;
        }
        Ok(ranking)
    })
}

/// What each column of `said` [tokens, columns] is worth to a weight that it goes through, over the tokens that are `read`.
fn worth(said: &[f32], read: &[bool], weight: &[f32], transposed: bool) -> Vec<f64> {
    let columns = said.len() / read.len();
    let mut sums = vec![0.0; columns];
    for (row, _) in said.chunks_exact(columns).zip(read).filter(|(_, read)| **read) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += f64::from(value.abs());
        }
    }
    let outputs = weight.len() / columns;
    let square = |column: usize| {
        let at = |row: usize| match transposed {
            true => column * outputs + row,
            false => row * columns + column,
        };
        (0..outputs).map(|row| f64::from(weight[at(row)]).powi(2)).sum::<f64>()
    };
    sums.iter().enumerate().map(|(column, sum)| sum * square(column).sqrt()).collect()
}

/// Numbers from the largest value on; of equal ones the first.
fn from_best(worth: &[f64]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..worth.len() as u32).collect();
    order.sort_by(|&a, &b| worth[b as usize].total_cmp(&worth[a as usize]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first() {
        assert_eq!(from_best(&[1.0, 3.0, 2.0, 3.0]), [1, 3, 2, 0]);
    }

    #[test]
    fn what_a_column_adds_is_worth_what_goes_through() {
        // Three tokens, the last of them padding; two columns, three outputs.
        let (said, read) = ([1.0, -2.0, -3.0, 0.0, 9.0, 9.0], [true, true, false]);
        let wanted = [4.0 * 5.0, 2.0 * 13.0];
        let by_output = [3.0, 5.0, 4.0, 12.0, 0.0, 0.0];
        let by_input = [3.0, 4.0, 0.0, 5.0, 12.0, 0.0];
        assert_eq!(worth(&said, &read, &by_output, false), wanted);
        assert_eq!(worth(&said, &read, &by_input, true), wanted);
    }
}
