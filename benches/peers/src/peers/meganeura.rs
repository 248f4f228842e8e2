//! meganeura: graphs compiled to WGSL, on blade-graphics. It has SGD without momentum.

use anyhow::Result;
use meganeura::{Graph, NodeId, Session, SessionConfig};

use crate::compare::Side;
use crate::work::{
    CLASSES, INPUTS, PROOF_RATE, PROOF_STEPS, Product, ROWS, STUDENT, TEACHER, TIMED_RATE, change,
    features, labels, transposed, widths,
};

/// What the environment asks for (`MEGANEURA_…`), with or without its search for the best tile of each matmul.
fn config(inference: bool, tune: bool) -> SessionConfig<'static> {
    let config =
        if inference { SessionConfig::inference_from_env() } else { SessionConfig::from_env() };
    SessionConfig { tune, ..config }
}

/// The device that it takes.
pub fn device() -> String {
    let mut graph = Graph::new();
    let x = graph.input("x", &[4, 4]);
    let out = graph.relu(x);
    graph.set_outputs(vec![out]);
    meganeura::build(&graph, config(true, false)).0.device_information().device_name.clone()
}

/// out = a · b, all on the device.
pub struct Matmul {
    session: Session,
    product: Product,
}

impl Matmul {
    /// With or without tuning.
    pub fn new(product: Product, tune: bool) -> Self {
        let mut graph = Graph::new();
        let a = graph.input("a", &[product.m, product.k]);
        let b = graph.parameter("b", &[product.k, product.n]);
        let out = graph.matmul(a, b);
        graph.set_outputs(vec![out]);
        Self { session: meganeura::build(&graph, config(true, tune)).0, product }
    }
}

impl Side for Matmul {
    fn answer(&mut self) -> Result<Vec<f64>> {
        self.session.set_input("a", &self.product.a());
        self.session.set_parameter("b", &self.product.b());
        self.run()?;
        let out = output(&self.session, self.product.m * self.product.n);
        Ok(out.into_iter().map(f64::from).collect())
    }

    fn run(&mut self) -> Result<()> {
        self.session.step();
        self.session.wait();
        Ok(())
    }
}

fn output(session: &Session, len: usize) -> Vec<f32> {
    let mut values = vec![0.0; len];
    session.read_output_by_index(0, &mut values);
    values
}

/// Logits of an MLP with two hidden layers.
fn mlp(graph: &mut Graph, hidden: usize) -> NodeId {
    let mut x = graph.input("features", &[ROWS, INPUTS]);
    for (layer, pair) in widths(hidden).windows(2).enumerate() {
        if layer > 0 {
            x = graph.relu(x);
        }
        let weight = graph.parameter(&format!("{layer}.weight"), pair);
        let bias = graph.parameter(&format!("{layer}.bias"), &pair[1..]);
        let product = graph.matmul(x, weight);
        x = graph.bias_add(product, bias);
    }
    x
}

/// Names of an MLP's parameters.
fn names() -> Vec<String> {
    (0..3).flat_map(|layer| [format!("{layer}.weight"), format!("{layer}.bias")]).collect()
}

fn initialise(session: &mut Session, hidden: usize) {
    for (name, values) in names().iter().zip(transposed(hidden)) {
        session.set_parameter(name, &values);
    }
}

/// The teacher's logits, from host memory to host memory.
pub struct Forward {
    session: Session,
    features: Vec<f32>,
}

impl Forward {
    /// With or without tuning.
    pub fn new(tune: bool) -> Self {
        let mut graph = Graph::new();
        let logits = mlp(&mut graph, TEACHER);
        graph.set_outputs(vec![logits]);
        let mut session = meganeura::build(&graph, config(true, tune)).0;
        initialise(&mut session, TEACHER);
        Self { session, features: features() }
    }

    fn logits(&mut self) -> Vec<f32> {
        self.session.set_input("features", &self.features);
        self.session.step();
        self.session.wait();
        output(&self.session, ROWS * CLASSES)
    }
}

impl Side for Forward {
    fn answer(&mut self) -> Result<Vec<f64>> {
        Ok(self.logits().into_iter().map(f64::from).collect())
    }

    fn run(&mut self) -> Result<()> {
        self.logits();
        Ok(())
    }
}

/// Training steps of the student on cross-entropy, the batch handed over from the host at each.
pub struct Training {
    session: Session,
    features: Vec<f32>,
    /// 1 at each row's label, else 0: [rows, classes].
    labels: Vec<f32>,
}

impl Training {
    /// With or without tuning.
    pub fn new(tune: bool) -> Self {
        let mut graph = Graph::new();
        let logits = mlp(&mut graph, STUDENT);
        let targets = graph.input("labels", &[ROWS, CLASSES]);
        let loss = graph.cross_entropy_loss(logits, targets);
        graph.set_outputs(vec![loss]);
        let mut session = meganeura::build(&graph, config(false, tune)).0;
        initialise(&mut session, STUDENT);
        let one_hot =
            |label: i32| (0..CLASSES as i32).map(move |class| f32::from(u8::from(class == label)));
        let labels = labels().into_iter().flat_map(one_hot).collect();
        Self { session, features: features(), labels }
    }

    fn step(&mut self) {
        self.session.set_input("features", &self.features);
        self.session.set_input("labels", &self.labels);
        self.session.step();
        self.session.wait();
    }
}

impl Side for Training {
    fn answer(&mut self) -> Result<Vec<f64>> {
        self.session.set_learning_rate(PROOF_RATE);
        for _ in 0..PROOF_STEPS {
            self.step();
        }
        self.session.set_learning_rate(TIMED_RATE);
        let names = names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Ok(change(STUDENT, self.session.read_params(&names)))
    }

    fn run(&mut self) -> Result<()> {
        self.step();
        Ok(())
    }
}
