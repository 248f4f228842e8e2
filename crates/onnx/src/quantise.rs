//! Matrices in eight bits, as onnxruntime's dynamic quantisation has them: the numbers that meet a matrix become integers
//! as they come, by their own range, and the products are integers' (`MatMulInteger`).
//!
//! A matrix has a scale for each of its outputs, and a table one for each row; the largest of either becomes [`LARGEST`].

use std::collections::{HashMap, HashSet};

use crate::halve::{cast_to_f32, floats};
use crate::model::{ElementType, Model};
use crate::proto::{NodeProto, TensorProto};

/// The largest weight. Processors without instructions for sums of four products add two of them in 16 bits, which end at
/// 32767: 255 · 127 · 2 is more, and 255 · 64 · 2 is not.
const LARGEST: f32 = 64.0;

/// Matrices of fewer elements stay as they are: nothing would be saved.
const FEWEST: usize = 1024;

/// How the nodes of a graph read a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Its rows, by number; or turned round as the right side of a product. Each row has a scale.
    Rows,
    /// As the right side of products. Each column has a scale.
    Columns,
    /// In another way.
    Other,
}

fn one(name: &str) -> String {
    format!("{name}/i8")
}

fn scale(name: &str) -> String {
    format!("{name}/scale")
}

/// The zero of quantised matrices.
const ZERO: &str = "quantised/zero";

impl Model {
    /// The same with its large matrices in eight bits, and products with them of integers.
    #[must_use]
    pub fn quantised(mut self) -> Self {
        let uses = uses(&self);
        let graph = self.graph_mut();
        let mut scaled = Vec::new();
        for tensor in &mut graph.initializer {
            let Some(&how) = uses.get(&tensor.name).filter(|how| **how != Use::Other) else {
                continue;
            };
            if let Some(scales) = quantise(tensor, how) {
                tensor.name = one(&tensor.name);
                scaled.push(scales);
            }
        }
        if scaled.is_empty() {
            return self;
        }
        let quantised: HashSet<String> = scaled
            .iter()
            .filter_map(|scales| scales.name.strip_suffix("/scale").map(str::to_owned))
            .collect();
        graph.initializer.extend(scaled);
        graph.initializer.push(TensorProto {
            dims: Vec::new(),
            data_type: ElementType::I8 as i32,
            name: ZERO.to_owned(),
            raw_data: vec![0],
        });
        let mut rewriter = Rewriter {
            matrices: quantised,
            turned: HashMap::new(),
            ranged: HashSet::new(),
            nodes: Vec::new(),
        };
        for node in std::mem::take(&mut graph.node) {
            rewriter.add(node);
        }
        graph.node = rewriter.nodes;
        self
    }
}

/// How each matrix is read.
fn uses(model: &Model) -> HashMap<String, Use> {
    let graph = model.graph();
    let products: HashMap<&str, usize> = count(graph.node.iter().filter_map(|node| {
        (node.op_type == "MatMul").then(|| node.input.get(1).map(|name| &**name)).flatten()
    }));
    let reads: HashMap<&str, usize> =
        count(graph.node.iter().flat_map(|node| &node.input).map(|name| &**name));
    let mut uses: HashMap<String, Use> = HashMap::new();
    let candidates: HashSet<&str> = graph
        .initializer
        .iter()
        .filter(|t| t.dims.len() == 2 && t.raw_data.len() >= 4 * FEWEST)
        .map(|t| &*t.name)
        .collect();
    for node in &graph.node {
        for (at, input) in node.input.iter().enumerate() {
            if !candidates.contains(&**input) {
                continue;
            }
            let how = match (&*node.op_type, at) {
                ("MatMul", 1) => Use::Columns,
                ("Gather", 0) if node.attribute.iter().all(|a| a.i == Some(0)) => Use::Rows,
                ("Transpose", 0) => {
                    let turned = &*node.output[0];
                    let meets_alone = products.get(turned) == reads.get(turned);
                    if meets_alone { Use::Rows } else { Use::Other }
                }
                _ => Use::Other,
            };
            let known = uses.entry(input.clone()).or_insert(how);
            if *known != how {
                *known = Use::Other;
            }
        }
    }
    uses
}

fn count<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<&'a str, usize> {
    let mut counts = HashMap::new();
    names.for_each(|name| *counts.entry(name).or_insert(0) += 1);
    counts
}

/// Makes a matrix one of eight bits; returns its scales, [rows, 1] or [columns].
fn quantise(tensor: &mut TensorProto, how: Use) -> Option<TensorProto> {
    let values = floats(tensor)?;
    let &[rows, columns] = &tensor.dims[..] else { return None };
    let (rows, columns) = (usize::try_from(rows).ok()?, usize::try_from(columns).ok()?);
    if values.len() != rows * columns || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let by_rows = how == Use::Rows;
    let group = |at: usize| if by_rows { at / columns } else { at % columns };
    let mut scales = vec![0.0_f32; if by_rows { rows } else { columns }];
    for (at, value) in values.iter().enumerate() {
        let largest = &mut scales[group(at)];
        *largest = largest.max(value.abs() / LARGEST);
    }
    // A row of zeros has any scale.
    scales.iter_mut().filter(|scale| **scale == 0.0).for_each(|scale| *scale = 1.0);
    let byte = |(at, value): (usize, &f32)| (value / scales[group(at)]).round() as i8 as u8;
    tensor.raw_data = values.iter().enumerate().map(byte).collect();
    tensor.data_type = ElementType::I8 as i32;
    let dims = if by_rows { vec![rows as i64, 1] } else { vec![columns as i64] };
    Some(TensorProto {
        dims,
        data_type: ElementType::F32 as i32,
        name: scale(&tensor.name),
        raw_data: scales.iter().flat_map(|scale| scale.to_le_bytes()).collect(),
    })
}

fn node(op: &str, name: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    NodeProto {
        input: owned(inputs),
        output: owned(outputs),
        name: name.to_owned(),
        op_type: op.to_owned(),
        ..NodeProto::default()
    }
}

/// Puts nodes that read quantised matrices in the place of those that read floats.
struct Rewriter {
    /// Names that the matrices had.
    matrices: HashSet<String>,
    /// Of a matrix turned round, the name of its scales.
    turned: HashMap<String, String>,
    /// What is quantised as it comes.
    ranged: HashSet<String>,
    nodes: Vec<NodeProto>,
}

impl Rewriter {
    fn add(&mut self, node: NodeProto) {
        let read = |at: usize| node.input.get(at).map_or("", |name| &**name);
        match &*node.op_type {
            "Gather" if self.matrices.contains(read(0)) => self.gather(&node),
            "Transpose" if self.matrices.contains(read(0)) => self.turn(node),
            "MatMul" if self.matrices.contains(read(1)) => {
                self.product(&node, &one(read(1)), &scale(read(1)));
            }
            "MatMul" => match self.turned.get(read(1)).cloned() {
                Some(scales) => self.product(&node, read(1), &scales),
                None => self.nodes.push(node),
            },
            _ => self.nodes.push(node),
        }
    }

    /// Rows · their scales.
    fn gather(&mut self, of: &NodeProto) {
        let (name, table, ids, out) = (&of.name, &of.input[0], &of.input[1], &of.output[0]);
        let [rows, floats, scales] =
            ["rows", "floats", "scales"].map(|part| format!("{out}/{part}"));
        self.nodes.extend([
            node("Gather", &format!("{name}/rows"), &[&one(table), ids], &[&rows]),
            cast_to_f32(&rows, &floats),
            node("Gather", &format!("{name}/scales"), &[&scale(table), ids], &[&scales]),
            node("Mul", name, &[&floats, &scales], &[out]),
        ]);
    }

    /// The scales of rows [rows, 1] are those of columns [1, rows].
    fn turn(&mut self, mut matrix: NodeProto) {
        let (table, out) = (matrix.input[0].clone(), matrix.output[0].clone());
        let turned = format!("{out}/scales");
        let scales = NodeProto {
            input: vec![scale(&table)],
            output: vec![turned.clone()],
            name: format!("{}/scales", matrix.name),
            ..matrix.clone()
        };
        matrix.input[0] = one(&table);
        self.nodes.extend([matrix, scales]);
        self.turned.insert(out, turned);
    }

    /// The product of integers, times both scales.
    fn product(&mut self, of: &NodeProto, matrix: &str, scales: &str) {
        let (name, x, out) = (&of.name, &of.input[0], &of.output[0]);
        let [bytes, range, zero] = ["bytes", "range", "zero"].map(|part| format!("{x}/{part}"));
        if self.ranged.insert(x.clone()) {
            let made = [&*bytes, &*range, &*zero];
            let quantise = node("DynamicQuantizeLinear", &format!("{x}/quantise"), &[x], &made);
            self.nodes.push(quantise);
        }
        let [sums, floats, both] = ["sums", "floats", "scales"].map(|part| format!("{out}/{part}"));
        let read = [&*bytes, matrix, &*zero, ZERO];
        self.nodes.extend([
            node("MatMulInteger", &format!("{name}/integers"), &read, &[&sums]),
            cast_to_f32(&sums, &floats),
            node("Mul", &format!("{name}/scales"), &[&range, scales], &[&both]),
            node("Mul", name, &[&floats, &both], &[out]),
        ]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attribute, Builder, Dim};

    /// A table whose rows are looked up, and meet what was looked up; and a matrix of a product.
    fn model() -> Model {
        let mut graph = Builder::new("graph");
        let dims = [Dim::named("rows")];
        graph.input("ids", ElementType::I64, &dims);
        let values: Vec<f32> =
            (0..64 * 32).map(|at| ((at * 37 % 101) as f32 - 50.0) / 25.0).collect();
        let table = graph.floats("table", &[64, 32], &values);
        let matrix = graph.floats("matrix", &[32, 32], &values[..1024]);
        let few = graph.floats("few", &[32, 2], &values[..64]);
        let rows = graph.node("Gather", &[&table, "ids"], &[("axis", Attribute::Int(0))]);
        let x = graph.node("MatMul", &[&rows, &matrix], &[]);
        let back = graph.node("Transpose", &[&table], &[("perm", Attribute::Ints(vec![1, 0]))]);
        let scores = graph.node("MatMul", &[&x, &back], &[]);
        let few = graph.node("MatMul", &[&x, &few], &[]);
        graph.output(&scores, "scores", ElementType::F32, &[dims[0].clone(), Dim::Fixed(64)]);
        graph.output(&few, "few scores", ElementType::F32, &[dims[0].clone(), Dim::Fixed(2)]);
        graph.finish()
    }

    #[test]
    fn products_are_of_integers() {
        let model = model().quantised();
        let graph = model.graph();
        let count = |op: &str| graph.node.iter().filter(|node| node.op_type == op).count();
        assert_eq!(
            [count("MatMulInteger"), count("DynamicQuantizeLinear"), count("MatMul")],
            [2, 2, 1]
        );
        assert_eq!([count("Gather"), count("Transpose")], [2, 2]);
        let dims = |name: &str| {
            graph.initializer.iter().find(|t| t.name == name).map(|t| (t.data_type, &*t.dims))
        };
        assert_eq!(dims("table/i8"), Some((3, &[64, 32][..])));
        assert_eq!(dims("table/scale"), Some((1, &[64, 1][..])));
        assert_eq!(dims("matrix/scale"), Some((1, &[32][..])));
        assert_eq!(dims("few"), Some((1, &[32, 2][..])));
        assert_eq!(dims("table"), None);
        // What a node reads is made before it.
        let mut made: HashSet<&str> = graph.initializer.iter().map(|t| &*t.name).collect();
        made.insert("ids");
        for node in &graph.node {
            assert!(node.input.iter().all(|name| made.contains(&**name)), "{node:?}");
            made.extend(node.output.iter().map(|name| &**name));
        }
    }

    #[test]
    fn a_weight_is_off_by_half_a_step() {
        let before = model();
        let after = before.clone().quantised();
        let find = |model: &Model, name: &str| {
            model.graph().initializer.iter().find(|t| t.name == name).cloned().unwrap()
        };
        let values = floats(&find(&before, "matrix")).unwrap();
        let scales = floats(&find(&after, "matrix/scale")).unwrap();
        let bytes = find(&after, "matrix/i8").raw_data;
        for (at, (value, byte)) in values.iter().zip(bytes).enumerate() {
            let step = scales[at % 32];
            let byte = f32::from(byte as i8);
            assert!(byte.abs() <= LARGEST && (byte * step - value).abs() <= step * 0.501, "{at}");
        }
    }
}
