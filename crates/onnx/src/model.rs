//! A model and its bytes.

use std::fs;
use std::path::Path;

use prost::Message;

use crate::error::Error;
use crate::proto::{GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto};

/// Version of the format.
pub const IR_VERSION: i64 = 8;
/// Version of ONNX's own operators.
pub const OPSET: i64 = 17;
/// The longest message that readers of protocol buffers take.
pub const MOST_BYTES: usize = i32::MAX as usize;

/// Types of elements, with their numbers in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum ElementType {
    /// Floats of 32 bits.
    F32 = 1,
    /// Integers of 8 bits that are not negative.
    U8 = 2,
    /// Integers of 8 bits.
    I8 = 3,
    /// Integers of 64 bits.
    I64 = 7,
    /// Floats of 16 bits.
    F16 = 10,
}

/// An ONNX model.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub(crate) proto: ModelProto,
}

impl Model {
    /// The graph as a model of this program.
    pub(crate) fn new(graph: GraphProto) -> Self {
        let opset = OperatorSetIdProto { domain: String::new(), version: OPSET };
        Self {
            proto: ModelProto {
                ir_version: IR_VERSION,
                producer_name: "distil-gpu".to_owned(),
                producer_version: env!("CARGO_PKG_VERSION").to_owned(),
                doc_string: String::new(),
                graph: Some(graph),
                opset_import: vec![opset],
                metadata_props: Vec::new(),
            },
        }
    }

    /// Adds a fact about the model.
    pub fn fact(&mut self, key: &str, value: impl Into<String>) {
        let fact = StringStringEntryProto { key: key.to_owned(), value: value.into() };
        self.proto.metadata_props.push(fact);
    }

    /// The messages.
    pub fn proto(&self) -> &ModelProto {
        &self.proto
    }

    /// The graph; an empty one of a model that has none.
    pub fn graph(&self) -> &GraphProto {
        static EMPTY: GraphProto = GraphProto {
            node: Vec::new(),
            name: String::new(),
            initializer: Vec::new(),
            input: Vec::new(),
            output: Vec::new(),
        };
        self.proto.graph.as_ref().unwrap_or(&EMPTY)
    }

    pub(crate) fn graph_mut(&mut self) -> &mut GraphProto {
        self.proto.graph.get_or_insert_with(GraphProto::default)
    }

    /// Tells the elements of a tensor that was promised; whether there is one of this name and size.
    pub fn fill(&mut self, name: &str, values: &[f32]) -> bool {
        let tensors = &mut self.graph_mut().initializer;
        let Some(tensor) = tensors.iter_mut().find(|tensor| tensor.name == name) else {
            return false;
        };
        let len = tensor.dims.iter().try_fold(1_i64, |len, dim| len.checked_mul(*dim));
        let fits = len == i64::try_from(values.len()).ok();
        if fits {
            tensor.raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        }
        fits
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when there would be more than [`MOST_BYTES`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let bytes = self.proto.encoded_len();
        if bytes > MOST_BYTES {
            return Err(Error::TooLarge { bytes });
        }
        Ok(self.proto.encode_to_vec())
    }

    /// Reads a file back.
    ///
    /// # Errors
    /// [`Error::Io`], and [`Error::NotOne`] when it is no model of this format.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let not_one = |problem| Error::NotOne { path: path.to_owned(), problem };
        let bytes = fs::metadata(path).map_err(io)?.len();
        if bytes > MOST_BYTES as u64 {
            return Err(not_one(format!("it has {bytes} bytes")));
        }
        let contents = fs::read(path).map_err(io)?;
        let proto = ModelProto::decode(&*contents).map_err(|error| not_one(error.to_string()))?;
        match proto.graph {
            Some(_) => Ok(Self { proto }),
            None => Err(not_one("it has no graph".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::TensorProto;

    #[test]
    fn a_file_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        let mut model = Model::new(GraphProto { name: "a graph".to_owned(), ..Default::default() });
        model.fact("task", "none");
        fs::write(&path, model.to_bytes().unwrap()).unwrap();
        assert_eq!(Model::read(&path).unwrap(), model);
        fs::write(&path, b"\x3a\xff\xff").unwrap();
        assert!(matches!(Model::read(&path), Err(Error::NotOne { .. })));
        fs::write(&path, b"").unwrap();
        assert!(matches!(Model::read(&path), Err(Error::NotOne { .. })));
    }

    #[test]
    fn a_message_has_an_end() {
        let part = TensorProto { raw_data: vec![0; 1 << 20], ..Default::default() };
        let initializer = vec![part; 2048];
        let model = Model::new(GraphProto { initializer, ..Default::default() });
        assert!(matches!(model.to_bytes(), Err(Error::TooLarge { bytes }) if bytes > MOST_BYTES));
    }
}
