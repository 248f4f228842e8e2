// As common/row_weight.wgsl, where each row has a weight of its own.

@group(0) @binding(7) var<storage, read> row_weights: array<f32>;

fn row_weight(row: u32) -> f32 {
    return row_weights[row];
}
