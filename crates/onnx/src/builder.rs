//! A graph in the making.

use std::collections::{HashMap, HashSet};

use prost::Message;

use crate::model::{ElementType, Model};
use crate::proto::{
    AttributeProto, AttributeType, DimensionProto, GraphProto, NodeProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, dimension,
};

/// An extent of what goes in or comes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Always the same.
    Fixed(usize),
    /// Open, under a name.
    Named(String),
}

impl Dim {
    /// An open extent.
    pub fn named(name: &str) -> Self {
        Self::Named(name.to_owned())
    }
}

/// What an operator is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// A float.
    Float(f32),
    /// An integer.
    Int(i64),
    /// Integers.
    Ints(Vec<i64>),
}

impl Attribute {
    fn message(&self, name: &str) -> AttributeProto {
        let named = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
        let told = |kind: AttributeType| AttributeProto { r#type: kind.into(), ..named };
        match self {
            Self::Float(value) => AttributeProto { f: Some(*value), ..told(AttributeType::Float) },
            Self::Int(value) => AttributeProto { i: Some(*value), ..told(AttributeType::Int) },
            Self::Ints(values) => {
                AttributeProto { ints: values.clone(), ..told(AttributeType::Ints) }
            }
        }
    }
}

/// Tensors of at most so many bytes are one if they are alike.
const SHARED_BYTES: usize = 4096;

/// A graph in the making. Values are known by their names; nodes that are alike are one.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    graph: GraphProto,
    /// Outputs of the nodes, by their messages without names.
    known_nodes: HashMap<Vec<u8>, Vec<String>>,
    /// Names of small tensors, by their messages without names.
    known_tensors: HashMap<Vec<u8>, String>,
    taken: HashSet<String>,
}

impl Builder {
    /// An empty graph of this name.
    pub fn new(name: &str) -> Self {
        let graph = GraphProto { name: name.to_owned(), ..GraphProto::default() };
        Self { graph, ..Self::default() }
    }

    /// A name for a value that no other has.
    fn name(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut count = 1;
        while !self.taken.insert(name.clone()) {
            count += 1;
            name = format!("{wanted}_{count}");
        }
        name
    }

    /// What is given.
    pub fn input(&mut self, name: &str, element: ElementType, dims: &[Dim]) {
        self.taken.insert(name.to_owned());
        self.graph.input.push(value_info(name, element, dims));
    }

    /// Gives a value this name as something that is made.
    pub fn output(&mut self, value: &str, name: &str, element: ElementType, dims: &[Dim]) {
        self.taken.insert(name.to_owned());
        self.graph.node.push(NodeProto {
            input: vec![value.to_owned()],
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: "Identity".to_owned(),
            ..NodeProto::default()
        });
        self.graph.output.push(value_info(name, element, dims));
    }

    /// A node with one output; returns its name.
    pub fn node(&mut self, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        self.node_of(op, inputs, attributes, 1).swap_remove(0)
    }

    /// A node with so many outputs; returns their names. One that is there already is not made again.
    pub fn node_of(
        &mut self,
        op: &str,
        inputs: &[&str],
        attributes: &[(&str, Attribute)],
        outputs: usize,
    ) -> Vec<String> {
        let mut node = NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            op_type: op.to_owned(),
            attribute: attributes.iter().map(|(name, told)| told.message(name)).collect(),
            ..NodeProto::default()
        };
        let key = node.encode_to_vec();
        if let Some(known) = self.known_nodes.get(&key).filter(|known| known.len() == outputs) {
            return known.clone();
        }
        node.name = self.name(&format!("/{op}"));
        let value = |output: usize| match outputs {
            1 => format!("{}/out", node.name),
            _ => format!("{}/out_{output}", node.name),
        };
        node.output = (0..outputs).map(value).collect();
        self.known_nodes.insert(key, node.output.clone());
        let made = node.output.clone();
        self.graph.node.push(node);
        made
    }

    /// A tensor of floats \[dims]; returns its name, which is another where that is taken.
    pub fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, ElementType::F32, dims, raw)
    }

    /// A tensor of integers \[dims]; returns its name, which is another where that is taken.
    pub fn integers(&mut self, name: &str, dims: &[usize], values: &[i64]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(name, ElementType::I64, dims, raw)
    }

    /// A tensor of these bytes, little-endian; returns its name, which is another where that is taken. A small one that is
    /// there already is not made again.
    pub fn tensor(
        &mut self,
        name: &str,
        element: ElementType,
        dims: &[usize],
        raw_data: Vec<u8>,
    ) -> String {
        let mut tensor = TensorProto {
            dims: dims.iter().map(|&extent| extent as i64).collect(),
            data_type: element as i32,
            name: String::new(),
            raw_data,
        };
        let is_small = !tensor.raw_data.is_empty() && tensor.raw_data.len() <= SHARED_BYTES;
        let key = if is_small { tensor.encode_to_vec() } else { Vec::new() };
        if let Some(known) = self.known_tensors.get(&key).filter(|_| is_small) {
            return known.clone();
        }
        tensor.name = self.name(name);
        if is_small {
            self.known_tensors.insert(key, tensor.name.clone());
        }
        let made = tensor.name.clone();
        self.graph.initializer.push(tensor);
        made
    }

    /// A tensor whose elements are told later, by [`Model::fill`]; returns its name, which is another where that is taken.
    pub fn promised(&mut self, name: &str, dims: &[usize]) -> String {
        self.tensor(name, ElementType::F32, dims, Vec::new())
    }

    /// Makes of a tensor that is promised another one with its two axes in each other's place.
    pub fn transpose_of(&mut self, name: &str, of: &str) {
        self.graph.initializer.retain(|tensor| tensor.name != name);
        let turned = NodeProto {
            input: vec![of.to_owned()],
            output: vec![name.to_owned()],
            name: format!("{name}/turned"),
            op_type: "Transpose".to_owned(),
            attribute: vec![Attribute::Ints(vec![1, 0]).message("perm")],
            ..NodeProto::default()
        };
        self.graph.node.insert(0, turned);
    }

    /// The model, with what its outputs need and nothing else.
    pub fn finish(self) -> Model {
        let mut graph = self.graph;
        let mut needed: HashSet<String> =
            graph.output.iter().map(|value| value.name.clone()).collect();
        let mut kept = Vec::new();
        for node in graph.node.into_iter().rev() {
            if node.output.iter().any(|name| needed.contains(name)) {
                needed.extend(node.input.iter().cloned());
                kept.push(node);
            }
        }
        kept.reverse();
        graph.node = kept;
        graph.initializer.retain(|tensor| needed.contains(&tensor.name));
        Model::new(graph)
    }
}

fn value_info(name: &str, element: ElementType, dims: &[Dim]) -> ValueInfoProto {
    let dimension = |dim: &Dim| DimensionProto {
        value: Some(match dim {
            Dim::Fixed(extent) => dimension::Value::DimValue(*extent as i64),
            Dim::Named(name) => dimension::Value::DimParam(name.clone()),
        }),
    };
    let shape = TensorShapeProto { dim: dims.iter().map(dimension).collect() };
    let tensor = TensorTypeProto { elem_type: element as i32, shape: Some(shape) };
    let tensor_type = Some(tensor);
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_is_one_and_what_nothing_needs_is_left_out() {
        let mut graph = Builder::new("graph");
        graph.input("x", ElementType::F32, &[Dim::named("rows"), Dim::Fixed(2)]);
        let one = graph.floats("one", &[1], &[1.0]);
        assert_eq!(graph.floats("another", &[1], &[1.0]), one);
        assert_ne!(graph.floats("one", &[], &[1.0]), one);
        let sum = graph.node("Add", &["x", &one], &[]);
        assert_eq!(graph.node("Add", &["x", &one], &[]), sum);
        let soft = graph.node("Softmax", &[&sum], &[("axis", Attribute::Int(-1))]);
        let other = graph.node("Softmax", &[&sum], &[("axis", Attribute::Int(0))]);
        assert_ne!(soft, other);
        graph.output(&soft, "y", ElementType::F32, &[Dim::named("rows"), Dim::Fixed(2)]);
        let model = graph.finish();
        let ops: Vec<&str> = model.graph().node.iter().map(|node| &*node.op_type).collect();
        assert_eq!(ops, ["Add", "Softmax", "Identity"]);
        let [tensor] = &model.graph().initializer[..] else { panic!("one tensor is needed") };
        assert_eq!((&*tensor.name, &tensor.dims[..]), ("one", &[1][..]));
    }

    #[test]
    fn attributes_say_what_they_are() {
        let kinds = [
            (Attribute::Float(0.0), AttributeType::Float),
            (Attribute::Int(0), AttributeType::Int),
            (Attribute::Ints(Vec::new()), AttributeType::Ints),
        ];
        for (attribute, kind) in kinds {
            let message = attribute.message("a");
            assert_eq!(message.r#type(), kind);
            let read = AttributeProto::decode(&*message.encode_to_vec()).unwrap();
            assert_eq!(read, message);
        }
        assert_eq!(Attribute::Int(0).message("a").i, Some(0));
    }
}
