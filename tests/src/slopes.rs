//! Gradients against central differences in f64.

use distil_gpu_engine::Error;
use distil_gpu_engine::device::HostTensor;
use distil_gpu_engine::graph::{Graph, TensorId, differentiate};
use distil_gpu_engine::plan::Options;
use distil_gpu_engine::verify::oracle;
use distil_gpu_kernels::chain::Stage;

use crate::{Session, graph_of, layout_of, session, some_state, values_of};

/// What adds to a graph.
pub type Built = Result<TensorId, Error>;

/// p + 0.3 p²: uses p twice, and its slope is nowhere the same.
///
/// # Errors
/// [`Error::Shape`] for integers.
pub fn bend(graph: &mut Graph, p: TensorId) -> Built {
    let square = graph.map(Stage::Square, p)?;
    let square = graph.affine(square, 0.3, 0.0)?;
    graph.plus(p, square)
}

/// y² / 2 + y · w with w running from 0.2 to 1.2: uses y twice, and the gradient that flows into y is
/// nowhere 1.
///
/// # Errors
/// [`Error::Shape`] for integers.
pub fn weigh(graph: &mut Graph, y: TensorId) -> Built {
    let len = graph.tensor(y).len();
    let store = graph.stores.len();
    graph.stores.push(layout_of(&[&[len]]));
    let weights = graph.parameter(store, 0);
    let shape = graph.shape(y).to_vec();
    let weights = graph.reshape(weights, &shape)?;
    let square = graph.map(Stage::Square, y)?;
    let half = graph.affine(square, 0.5, 0.0)?;
    let product = graph.mul(y, weights)?;
    graph.plus(half, product)
}

/// Compares the gradients by all parameters, through `op` in mid-graph, with central differences of
/// the sum of what `op` makes, weighed.
///
/// # Panics
/// When `op` fails, or a gradient is wrong.
pub fn check(what: &str, shapes: &[&[usize]], op: impl Fn(&mut Graph, &[TensorId]) -> Built) {
    check_with(what, shapes, &[], op, weigh);
}

/// The same with inputs of the graph, and of the sum of what `finish` makes of what `op` made.
///
/// # Panics
/// When `op` fails, or a gradient is wrong.
pub fn check_with(
    what: &str,
    shapes: &[&[usize]],
    inputs: &[(&str, HostTensor<'_>)],
    op: impl Fn(&mut Graph, &[TensorId]) -> Built,
    finish: impl Fn(&mut Graph, TensorId) -> Built,
) {
    let (mut graph, parameters) = graph_of(shapes);
    let bent: Vec<TensorId> = parameters.iter().map(|&p| bend(&mut graph, p).unwrap()).collect();
    let made = op(&mut graph, &bent).unwrap_or_else(|error| panic!("{what}: {error}"));
    let loss = finish(&mut graph, made).unwrap();
    graph.output("loss", loss);
    let forward = graph.clone();
    let gradients = differentiate(&mut graph, &[loss], &parameters).unwrap();
    for (i, gradient) in gradients.iter().enumerate() {
        assert_eq!(graph.shape(*gradient), shapes[i], "{what}");
        graph.output(&format!("gradient {i}"), *gradient);
    }

    let starts = values_of(shapes);
    let mut device = oracle();
    let prepare = |session: &mut Session<'_>| {
        session.set_all(0, &starts).unwrap();
        for store in 1..session.stores.len() {
            let len = session.stores[store].layout.parameter_count();
            let ramp: Vec<f64> = (0..len).map(|i| 0.2 + i as f64 / len as f64).collect();
            session.set_all(store, &[ramp]).unwrap();
        }
    };
    let found: Vec<Vec<f64>> = {
        let mut session = session(&mut device, &graph, Options::default());
        prepare(&mut session);
        session.run(&some_state(), inputs).unwrap();
        (0..shapes.len()).map(|i| session.output(&format!("gradient {i}")).unwrap()).collect()
    };
    let mut session = session(&mut device, &forward, Options::default());
    prepare(&mut session);
    let mut loss_at = |index: usize, values: &[f64]| -> f64 {
        session.set(0, index, values).unwrap();
        session.run(&some_state(), inputs).unwrap();
        session.output("loss").unwrap().iter().sum()
    };
    const STEP: f64 = 1e-5;
    for (index, start) in starts.iter().enumerate() {
        let mut moved = start.clone();
        for at in 0..start.len() {
            moved[at] = start[at] + STEP;
            let above = loss_at(index, &moved);
            moved[at] = start[at] - STEP;
            let below = loss_at(index, &moved);
            moved[at] = start[at];
            let (slope, gradient) = ((above - below) / (2.0 * STEP), found[index][at]);
            let error = (gradient - slope).abs();
            assert!(
                error <= 1e-7 * slope.abs().max(1.0),
                "{what}: p{index}[{at}] {gradient}, not {slope}"
            );
        }
        loss_at(index, start);
    }
    assert!(found.concat().iter().any(|g| *g != 0.0), "{what}: no gradient at all");
}
