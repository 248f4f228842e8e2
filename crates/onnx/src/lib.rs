//! ONNX models: built node by node, with fewer bits, and written.
//!
//! The messages are `onnx.proto3`'s, as structs with its tags. What is written has operator set 17 and IR version 8, which
//! runtimes have read since 2022.
//!
//! ```
//! use distil_gpu_onnx::{Attribute, Builder, Dim, ElementType};
//!
//! let mut graph = Builder::new("twice");
//! graph.input("x", ElementType::F32, &[Dim::named("rows"), Dim::Fixed(3)]);
//! let two = graph.floats("two", &[], &[2.0]);
//! let twice = graph.node("Mul", &["x", &two], &[]);
//! let out = graph.node("Softmax", &[&twice], &[("axis", Attribute::Int(-1))]);
//! graph.output(&out, "y", ElementType::F32, &[Dim::named("rows"), Dim::Fixed(3)]);
//! let model = graph.finish();
//! // The last gives the output its name.
//! let ops: Vec<&str> = model.graph().node.iter().map(|node| &*node.op_type).collect();
//! assert_eq!(ops, ["Mul", "Softmax", "Identity"]);
//! assert!(model.to_bytes()?.len() < 400);
//! # Ok::<(), distil_gpu_onnx::Error>(())
//! ```

mod builder;
mod error;
mod halve;
mod model;
pub mod proto;
mod quantise;

pub use builder::{Attribute, Builder, Dim};
pub use error::Error;
pub use model::{ElementType, IR_VERSION, MOST_BYTES, Model, OPSET};
