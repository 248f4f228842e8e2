use distil_gpu_kernels::DType;
use distil_gpu_onnx::{Builder, Dim, ElementType};

use super::*;

#[test]
fn an_extent_has_one_reading() {
    let marks = Marks::new(&[384, 12, 7 * 11, 30_522], 512, 0);
    assert_eq!(marks, Marks { rows: 13, length: 1543 });
    let extent = |rows, length, times| Extent { rows, length, times };
    assert_eq!(marks.extent(384), extent(0, 0, 384));
    assert_eq!(marks.extent(13), extent(1, 0, 1));
    assert_eq!(marks.extent(2 * 13 * 1543 * 1543), extent(1, 2, 2));
    assert!(marks.extent(1543).is_length() && marks.extent(12).is_fixed());
    let second = Marks::new(&[384, 12, 7 * 11, 30_522], 512, 1);
    assert!(second.rows > marks.rows && second.length > marks.length);
}

/// What a graph of x [rows, length, 4] becomes.
fn exported(
    build: impl Fn(&mut Graph, Marks, TensorId) -> Result<TensorId, Error>,
) -> Result<distil_gpu_onnx::Model, Error> {
    let marks = Marks { rows: 7, length: 31 };
    let mut graph = Graph::default();
    let x = graph.input("x", &[marks.rows, marks.length, 4], DType::F32);
    let out = build(&mut graph, marks, x)?;
    let mut to = Builder::new("graph");
    to.input("x", ElementType::F32, &[Dim::named("rows"), Dim::named("length"), Dim::Fixed(4)]);
    let shape = to.node("Shape", &["x"], &[]);
    let sizes = [0, 1].map(|axis| {
        let axis = to.integers("axis", &[1], &[axis]);
        to.node("Gather", &[&shape, &axis], &[])
    });
    let mut exporter = Exporter::new(&graph, marks, 8, to, sizes);
    exporter.bind(x, Bound::Value("x".to_owned()));
    let names = exporter.run(&[out])?;
    let (mut to, _) = exporter.finish();
    to.output(&names[0], "y", ElementType::F32, &[]);
    Ok(to.finish())
}

fn ops(model: &distil_gpu_onnx::Model) -> Vec<&str> {
    model.graph().node.iter().map(|node| &*node.op_type).collect()
}

#[test]
fn a_shape_is_told_by_what_stays() {
    let model = exported(|graph, marks, x| graph.reshape(x, &[marks.rows * marks.length, 4]));
    let model = model.unwrap();
    assert_eq!(ops(&model), ["Reshape", "Identity"]);
    let shape: Vec<i64> = (model.graph().initializer[0].raw_data.chunks_exact(8))
        .map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    assert_eq!(shape, [-1, 4]);
    // Two extents that are not where they were are told by the shape of the input.
    let model = exported(|graph, marks, x| {
        let rows = graph.rows(x)?;
        let rows = graph.map(distil_gpu_kernels::chain::Stage::Relu, rows)?;
        graph.reshape(rows, &[2, marks.rows, 2, marks.length])
    });
    assert!(ops(&model.unwrap()).contains(&"Concat"));
}

#[test]
fn a_constant_goes_with_the_places() {
    let table: Vec<f32> = (0..31 * 4).map(|value| value as f32).collect();
    let model = exported(|graph, marks, x| {
        let table = graph.constant_f32("table", &[marks.length, 4], &table)?;
        graph.plus(x, table)
    });
    let model = model.unwrap();
    assert!(ops(&model).contains(&"Slice"));
    let stored = model.graph().initializer.iter().find(|tensor| tensor.name == "table").unwrap();
    assert_eq!(stored.dims, [8, 4]);
    // One that has another extent of the length has no form.
    let error = exported(|graph, marks, x| {
        let table = graph.constant_f32("table", &[4, marks.length], &table)?;
        let table = graph.permute(table, &[1, 0])?;
        graph.plus(x, table)
    });
    assert!(
        matches!(error, Err(Error::Unsupported { what, .. }) if what.contains("table [4, 31]"))
    );
}

#[test]
fn an_op_without_a_form_is_named() {
    let error = exported(|graph, _, x| {
        let stage = distil_gpu_kernels::chain::Stage::Dropout { rate: 0.5, stream: 1 };
        graph.map(stage, x)
    });
    assert!(matches!(error, Err(Error::Unsupported { what, .. }) if what.contains("dropout")));
}
