// A of a matrix product as it lies in memory; also in fours.

// Where the A of one product of a batch lies.
struct Left {
    first: u32,
    row: u32,
    col: u32,
}

fn left_of(batch: u32) -> Left {
    return Left(batch * dims.a_batch, dims.a_row, dims.a_col);
}

fn a_at(left: Left, row: u32, k: u32) -> a_type {
    return a[left.first + row * left.row + k * left.col];
}

// Four neighbours from there on, at a multiple of four.
fn a_quad_at(left: Left, row: u32, k: u32) -> vec4<a_type> {
    return a_quads[(left.first + row * left.row + k * left.col) / 4u];
}
