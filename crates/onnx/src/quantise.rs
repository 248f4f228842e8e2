//! Matrices in eight bits: the numbers that meet a matrix become integers as they come, row by row, and the products are
//! integers' (`MatMulInteger`).
//!
//! A matrix has a scale for each of its outputs, and a table one for each row. A row of activations, which of a text is a
//! token, has a step and an offset of its own: x ≈ least + step · bytes, its bytes from 0 to 255. So no token is rounded
//! by what another one holds, and a text's answer does not hang on what shares its batch. With W ≈ scale · integers,
//!
//! x · W ≈ step · scale · (bytes · integers) + least · Σ scale · integers, the sums over each column.

use std::collections::{HashMap, HashSet};

use crate::halve::{cast_to, floats};
use crate::model::{ElementType, Model};
use crate::proto::{AttributeProto, AttributeType, NodeProto, TensorProto};

/// The largest weight of a product. Processors without instructions for sums of four products add two of them in 16 bits,
/// which end at 32767: 255 · 127 · 2 is more, and 255 · 64 · 2 is not.
const LARGEST: f32 = 64.0;
/// The largest number of a table that is only looked up.
const LARGEST_ROW: f32 = 127.0;
/// Activations are from 0 to this.
const LARGEST_BYTE: f32 = 255.0;
/// The smallest step, for rows that hold one number only.
const LEAST_STEP: f32 = 1e-30;

/// Matrices of fewer elements stay as they are: nothing would be saved.
const FEWEST: usize = 1024;

/// How the nodes of a graph read a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Its rows, by number. Each has a scale.
    Lookup,
    /// Turned round as the right side of products, and perhaps its rows by number. Each row has a scale.
    Rows,
    /// As the right side of products. Each column has a scale.
    Columns,
    /// In another way.
    Other,
}

impl Use {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Lookup | Self::Rows, Self::Lookup | Self::Rows) if self != other => Self::Rows,
            _ if self == other => self,
            _ => Self::Other,
        }
    }
}

fn one(name: &str) -> String {
    format!("{name}/i8")
}

fn scale(name: &str) -> String {
    format!("{name}/scale")
}

fn sums(name: &str) -> String {
    format!("{name}/sums")
}

/// Names of the constants of activations.
const STEPS: &str = "quantised/steps";
const LEAST: &str = "quantised/least step";

fn constant(name: &str, value: f32) -> TensorProto {
    vector(name, Vec::new(), &[value])
}

fn vector(name: &str, dims: Vec<i64>, values: &[f32]) -> TensorProto {
    TensorProto {
        dims,
        data_type: ElementType::F32 as i32,
        name: name.to_owned(),
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

impl Model {
    /// The same with its large matrices in eight bits, and products with them of integers.
    #[must_use]
    pub fn quantised(mut self) -> Self {
        let uses = uses(&self);
        let graph = self.graph_mut();
        let (mut matrices, mut more) = (HashSet::new(), Vec::new());
        for tensor in &mut graph.initializer {
            let Some(&how) = uses.get(&tensor.name).filter(|how| **how != Use::Other) else {
                continue;
            };
            if let Some(beside) = quantise(tensor, how) {
                matrices.insert(tensor.name.clone());
                tensor.name = one(&tensor.name);
                more.extend(beside);
            }
        }
        if matrices.is_empty() {
            return self;
        }
        let (turned, ranged, nodes) = (HashMap::new(), HashSet::new(), Vec::new());
        let mut rewriter = Rewriter { matrices, turned, ranged, nodes };
        for node in std::mem::take(&mut graph.node) {
            rewriter.add(node);
        }
        graph.node = rewriter.nodes;
        if !rewriter.ranged.is_empty() {
            more.extend([constant(STEPS, LARGEST_BYTE), constant(LEAST, LEAST_STEP)]);
        }
        graph.initializer.extend(more);
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
                ("Gather", 0) if node.attribute.iter().all(|a| a.i == Some(0)) => Use::Lookup,
                ("Transpose", 0) => {
                    let turned = &*node.output[0];
                    let meets_alone = products.get(turned) == reads.get(turned);
                    if meets_alone { Use::Rows } else { Use::Other }
                }
                _ => Use::Other,
            };
            let known = uses.entry(input.clone()).or_insert(how);
            *known = known.and(how);
        }
    }
    uses
}

fn count<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<&'a str, usize> {
    let mut counts = HashMap::new();
    names.for_each(|name| *counts.entry(name).or_insert(0) += 1);
    counts
}

/// Makes a matrix one of eight bits; returns its scales, [rows, 1] or [columns], and of products the sums [outputs] of what
/// each output's weights have become.
fn quantise(tensor: &mut TensorProto, how: Use) -> Option<Vec<TensorProto>> {
    let values = floats(tensor)?;
    let &[rows, columns] = &tensor.dims[..] else { return None };
    let (rows, columns) = (usize::try_from(rows).ok()?, usize::try_from(columns).ok()?);
    if values.len() != rows * columns || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let largest = if how == Use::Lookup { LARGEST_ROW } else { LARGEST };
    let by_rows = how != Use::Columns;
    let group = |at: usize| if by_rows { at / columns } else { at % columns };
    let mut scales = vec![0.0_f32; if by_rows { rows } else { columns }];
    for (at, value) in values.iter().enumerate() {
        let scale = &mut scales[group(at)];
        *scale = scale.max(value.abs() / largest);
    }
    // A row of zeros has any scale.
    scales.iter_mut().filter(|scale| **scale == 0.0).for_each(|scale| *scale = 1.0);
    let byte = |(at, value): (usize, &f32)| (value / scales[group(at)]).round() as i8;
    let bytes: Vec<i8> = values.iter().enumerate().map(byte).collect();
    let dims = if by_rows { vec![rows as i64, 1] } else { vec![columns as i64] };
    let mut beside = vec![vector(&scale(&tensor.name), dims, &scales)];
    if how != Use::Lookup {
        let mut totals = vec![0_i64; scales.len()];
        bytes.iter().enumerate().for_each(|(at, &byte)| totals[group(at)] += i64::from(byte));
        let weighed = totals.iter().zip(&scales).map(|(&total, scale)| total as f32 * scale);
        let weighed: Vec<f32> = weighed.collect();
        beside.push(vector(&sums(&tensor.name), vec![weighed.len() as i64], &weighed));
    }
    tensor.raw_data = bytes.into_iter().map(|byte| byte as u8).collect();
    tensor.data_type = ElementType::I8 as i32;
    Some(beside)
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

/// A node that reduces each row to one number.
fn reduce(op: &str, input: &str, output: &str) -> NodeProto {
    let axes = AttributeProto {
        name: "axes".to_owned(),
        ints: vec![-1],
        r#type: AttributeType::Ints.into(),
        ..AttributeProto::default()
    };
    NodeProto { attribute: vec![axes], ..node(op, output, &[input], &[output]) }
}

/// A matrix of eight bits that a product reads.
struct Matrix {
    /// The integers.
    name: String,
    /// Their scales, [outputs] or [1, outputs].
    scales: String,
    /// The sums [outputs] of what its weights have become.
    sums: String,
}

/// Puts nodes that read quantised matrices in the place of those that read floats.
struct Rewriter {
    /// Names that the matrices had.
    matrices: HashSet<String>,
    /// Matrices that are turned round, by the name that they then have.
    turned: HashMap<String, Matrix>,
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
                let name = read(1);
                let matrix = Matrix { name: one(name), scales: scale(name), sums: sums(name) };
                self.product(&node, &matrix);
            }
            "MatMul" => match self.turned.remove(read(1)) {
                Some(matrix) => {
                    self.product(&node, &matrix);
                    self.turned.insert(node.input[1].clone(), matrix);
                }
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
            cast_to(ElementType::F32, &rows, &floats),
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
        self.turned.insert(out.clone(), Matrix { name: out, scales: turned, sums: sums(&table) });
    }

    /// The bytes of activations, and each row's least number and step.
    fn range(&mut self, x: &str) -> [String; 3] {
        let part = |part: &str| format!("{x}/{part}");
        let [bytes, least, step] = ["bytes", "least", "step"].map(part);
        if self.ranged.insert(x.to_owned()) {
            let [most, spread, raw, above, steps, whole] =
                ["most", "spread", "raw step", "above", "steps", "whole"].map(part);
            let make = |op, inputs: &[&str], out: &str| node(op, out, inputs, &[out]);
            self.nodes.extend([
                reduce("ReduceMax", x, &most),
                reduce("ReduceMin", x, &least),
                make("Sub", &[&most, &least], &spread),
                make("Div", &[&spread, STEPS], &raw),
                make("Max", &[&raw, LEAST], &step),
                make("Sub", &[x, &least], &above),
                make("Div", &[&above, &step], &steps),
                make("Round", &[&steps], &whole),
                cast_to(ElementType::U8, &whole, &bytes),
            ]);
        }
        [bytes, least, step]
    }

    /// The product of integers, times both scales, and what the offsets of the rows add to it.
    fn product(&mut self, of: &NodeProto, matrix: &Matrix) {
        let (name, out) = (&of.name, &of.output[0]);
        let [bytes, least, step] = self.range(&of.input[0]);
        let part = |part: &str| format!("{out}/{part}");
        let [sums, floats, scaled, stepped, offset] =
            ["sums", "floats", "scaled", "stepped", "offset"].map(part);
        self.nodes.extend([
            node("MatMulInteger", &format!("{name}/integers"), &[&bytes, &matrix.name], &[&sums]),
            cast_to(ElementType::F32, &sums, &floats),
            node("Mul", &format!("{name}/scaled"), &[&floats, &matrix.scales], &[&scaled]),
            node("Mul", &format!("{name}/stepped"), &[&scaled, &step], &[&stepped]),
            node("Mul", &format!("{name}/offset"), &[&least, &matrix.sums], &[&offset]),
            node("Add", name, &[&stepped, &offset], &[out]),
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
            [count("MatMulInteger"), count("ReduceMin"), count("Round"), count("MatMul")],
            [2, 2, 2, 1]
        );
        assert_eq!([count("Gather"), count("Transpose")], [2, 2]);
        let dims = |name: &str| {
            graph.initializer.iter().find(|t| t.name == name).map(|t| (t.data_type, &*t.dims))
        };
        assert_eq!(dims("table/i8"), Some((3, &[64, 32][..])));
        assert_eq!(dims("table/scale"), Some((1, &[64, 1][..])));
        assert_eq!(dims("table/sums"), Some((1, &[64][..])));
        assert_eq!(dims("matrix/scale"), Some((1, &[32][..])));
        assert_eq!(dims("matrix/sums"), Some((1, &[32][..])));
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

    fn find(model: &Model, name: &str) -> TensorProto {
        model.graph().initializer.iter().find(|t| t.name == name).cloned().unwrap()
    }

    #[test]
    fn a_weight_is_off_by_half_a_step() {
        let before = model();
        let after = before.clone().quantised();
        let values = floats(&find(&before, "matrix")).unwrap();
        let scales = floats(&find(&after, "matrix/scale")).unwrap();
        let bytes = find(&after, "matrix/i8").raw_data;
        let mut sums = [0.0; 32];
        for (at, (value, byte)) in values.iter().zip(bytes).enumerate() {
            let step = scales[at % 32];
            let byte = f32::from(byte as i8);
            assert!(byte.abs() <= LARGEST && (byte * step - value).abs() <= step * 0.501, "{at}");
            sums[at % 32] += byte * step;
        }
        for (sum, told) in sums.iter().zip(floats(&find(&after, "matrix/sums")).unwrap()) {
            assert!((sum - told).abs() < 1e-4, "{sum} {told}");
        }
    }

    #[test]
    fn a_table_that_meets_nothing_has_all_steps() {
        let mut graph = Builder::new("graph");
        let dims = [Dim::named("rows")];
        graph.input("ids", ElementType::I64, &dims);
        let values: Vec<f32> = (0..64 * 32).map(|at| (at % 97) as f32 - 48.0).collect();
        let table = graph.floats("table", &[64, 32], &values);
        let rows = graph.node("Gather", &[&table, "ids"], &[("axis", Attribute::Int(0))]);
        graph.output(&rows, "rows", ElementType::F32, &[dims[0].clone(), Dim::Fixed(32)]);
        let model = graph.finish().quantised();
        let bytes = find(&model, "table/i8").raw_data;
        assert_eq!(bytes.iter().map(|byte| (*byte as i8).unsigned_abs()).max(), Some(127));
        let names: Vec<&str> = model.graph().initializer.iter().map(|t| &*t.name).collect();
        assert_eq!(names, ["table/i8", "table/scale"]);
    }
}
