//! Matrices in f16.

use half::f16;

use crate::model::{ElementType, Model};
use crate::proto::{AttributeProto, AttributeType, NodeProto, TensorProto};

/// The floats of a tensor, if that is what it has.
pub(crate) fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    let is_f32 = tensor.data_type == ElementType::F32 as i32;
    let float = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    is_f32.then(|| tensor.raw_data.chunks_exact(4).map(float).collect())
}

/// A node that makes numbers of another type.
pub(crate) fn cast_to(kind: ElementType, input: &str, output: &str) -> NodeProto {
    NodeProto {
        input: vec![input.to_owned()],
        output: vec![output.to_owned()],
        name: format!("{output}/cast"),
        op_type: "Cast".to_owned(),
        attribute: vec![AttributeProto {
            name: "to".to_owned(),
            i: Some(kind as i64),
            r#type: AttributeType::Int.into(),
            ..AttributeProto::default()
        }],
        ..NodeProto::default()
    }
}

impl Model {
    /// The same with its matrices in f16, which are made f32 where they are read; all arithmetic stays f32's. A matrix that
    /// holds a number beyond f16 stays as it is.
    #[must_use]
    pub fn halved(mut self) -> Self {
        let graph = self.graph_mut();
        let mut casts = Vec::new();
        for tensor in &mut graph.initializer {
            let Some(values) = floats(tensor).filter(|_| tensor.dims.len() > 1) else { continue };
            if values.iter().any(|value| f16::from_f32(*value).is_infinite()) {
                continue;
            }
            let halves = values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes());
            tensor.raw_data = halves.collect();
            tensor.data_type = ElementType::F16 as i32;
            let name = std::mem::take(&mut tensor.name);
            tensor.name = format!("{name}/f16");
            casts.push(cast_to(ElementType::F32, &tensor.name, &name));
        }
        graph.node.splice(0..0, casts);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Builder, Dim};

    #[test]
    fn matrices_take_half_the_bytes() {
        let mut graph = Builder::new("graph");
        let dims = [Dim::named("rows"), Dim::Fixed(2)];
        graph.input("x", ElementType::F32, &dims);
        let matrix = graph.floats("matrix", &[2, 2], &[1.0, 0.1, -2.0, 3.0]);
        let far = graph.floats("far", &[2, 2], &[1.0, 0.1, -2.0, 1e6]);
        let bias = graph.floats("bias", &[2], &[0.1, 0.2]);
        let x = graph.node("MatMul", &["x", &matrix], &[]);
        let x = graph.node("MatMul", &[&x, &far], &[]);
        let x = graph.node("Add", &[&x, &bias], &[]);
        graph.output(&x, "y", ElementType::F32, &dims);
        let model = graph.finish().halved();
        let found: Vec<_> = model
            .graph()
            .initializer
            .iter()
            .map(|t| (&*t.name, t.data_type, t.raw_data.len()))
            .collect();
        let (f32, f16) = (ElementType::F32 as i32, ElementType::F16 as i32);
        assert_eq!(found, [("matrix/f16", f16, 8), ("far", f32, 16), ("bias", f32, 8)]);
        let cast = &model.graph().node[0];
        assert_eq!(
            (&*cast.op_type, &*cast.input[0], &*cast.output[0]),
            ("Cast", "matrix/f16", "matrix")
        );
    }
}
