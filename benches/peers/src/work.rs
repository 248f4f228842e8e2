//! The work that both sides do: the models of `recipes/hinton-mnist.toml`, their first weights, a batch.

use distil_gpu_engine::data::Normalisation;
use distil_gpu_engine::models::{Architecture, Input, Mlp, ModelConfig, ProblemType};
use distil_gpu_engine::nn::Activation;
use distil_gpu_engine::verify::numbers::{narrow, random, random_labels};

/// Matrix products: two square ones, and a layer of the teacher.
pub const PRODUCTS: [Product; 3] = [
    Product { m: 512, n: 512, k: 512 },
    Product { m: 1024, n: 1024, k: 1024 },
    Product { m: ROWS, n: TEACHER, k: TEACHER },
];
/// Examples of a batch.
pub const ROWS: usize = 128;
/// Elements of an example.
pub const INPUTS: usize = 784;
/// Classes.
pub const CLASSES: usize = 10;
/// Units of the teacher's two hidden layers.
pub const TEACHER: usize = 1200;
/// Units of the student's two hidden layers.
pub const STUDENT: usize = 800;

/// Temperature of the distillation loss.
pub const TEMPERATURE: f32 = 20.0;
#[cfg(feature = "burn")]
/// Weight of its soft term; the hard term has the rest.
pub const ALPHA: f32 = 0.9;
#[cfg(feature = "burn")]
/// SGD's momentum, where there is one.
pub const MOMENTUM: f32 = 0.9;
/// Steps after which the parameters are compared: the second shows the momentum.
pub const PROOF_STEPS: usize = 2;
/// Learning rate of those: high, so that the change stands out from the parameters' rounding.
pub const PROOF_RATE: f32 = 0.1;
/// Learning rate of the timed steps: low, so that they can be many on one batch.
pub const TIMED_RATE: f32 = 0.001;

/// Width of an MLP's input, of its two hidden layers, of its output.
pub fn widths(hidden: usize) -> [usize; 4] {
    [INPUTS, hidden, hidden, CLASSES]
}

/// An MLP with two hidden layers of `hidden` units.
pub fn mlp(hidden: usize) -> ModelConfig {
    ModelConfig {
        architecture: Architecture::Mlp(Mlp {
            input_size: INPUTS,
            hidden_sizes: vec![hidden, hidden],
            num_classes: CLASSES,
            activation: Activation::Relu,
            dropout: 0.0,
            input_dropout: 0.0,
        }),
        input: Input::Numbers {
            shape: vec![1, 28, 28],
            normalisation: Normalisation::identity(),
            background: None,
        },
        class_names: (0..CLASSES).map(|class| class.to_string()).collect(),
        problem: ProblemType::default(),
    }
}

/// First parameters of an MLP, layer by layer: weight [out, in], bias [out]. Student and teacher differ.
pub fn parameters(hidden: usize) -> Vec<Vec<f32>> {
    let specs = mlp(hidden).model().parameters();
    specs.iter().enumerate().map(|(index, spec)| spec.initial(hidden as u32, index)).collect()
}

/// A product of a [m, k] and b [k, n].
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
}

impl Product {
    /// What it is called.
    pub fn name(&self) -> String {
        let Self { m, n, k } = self;
        format!("matmul {m} x {n} x {k}")
    }

    /// The left matrix.
    pub fn a(&self) -> Vec<f32> {
        narrow(&random(self.m * self.k, 1))
    }

    /// The right matrix.
    pub fn b(&self) -> Vec<f32> {
        narrow(&random(self.k * self.n, 2))
    }
}

/// A batch's features [`ROWS`, `INPUTS`], in 0 to 1.
pub fn features() -> Vec<f32> {
    random(ROWS * INPUTS, 3).into_iter().map(|value| value.abs() as f32).collect()
}

/// A batch's labels [`ROWS`].
pub fn labels() -> Vec<i32> {
    random_labels(ROWS, CLASSES, 4)
}

/// The transpose of a matrix [rows, columns]: the peers keep weights as [in, out].
pub fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    assert_eq!(values.len(), rows * columns);
    (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
}

/// Parameters of an MLP as the peers keep them: weight [in, out], bias [out].
pub fn transposed(hidden: usize) -> Vec<Vec<f32>> {
    let widths = widths(hidden);
    let mut parameters = parameters(hidden);
    for (layer, pair) in widths.windows(2).enumerate() {
        parameters[2 * layer] = transpose(&parameters[2 * layer], pair[1], pair[0]);
    }
    parameters
}

/// What training changed, as one row of numbers in the engine's order, of an MLP with weights [in, out].
pub fn change(hidden: usize, mut after: Vec<Vec<f32>>) -> Vec<f64> {
    for (layer, pair) in widths(hidden).windows(2).enumerate() {
        after[2 * layer] = transpose(&after[2 * layer], pair[0], pair[1]);
    }
    let (before, after) = (parameters(hidden).concat(), after.concat());
    after
        .iter()
        .zip(&before)
        .map(|(&after, &before)| f64::from(after) - f64::from(before))
        .collect()
}
