// out[batch, i, j] = chain( Σ_k A(i, k) · B(k, j) ), as matmul.wgsl, for drivers that run on the processor:
// there a subgroup of eight lanes is one vector. Bindings and dims are in common/product.wgsl.
//
// Such a driver loads word by word, with a branch for each lane, also where all lanes load the same word; a
// load costs as much as several multiplications. So no word is loaded twice: a workgroup is one subgroup,
// whose lanes share out the rows of A and hand them round in registers. Each lane keeps 16 × 4 sums, in
// ascending k, and steps through k by fours. No workgroup memory, no barriers.
//
//   quads    Four neighbours in memory are one load: k, and n or m where A's rows or B's columns are the
//            contiguous direction, are multiples of four.
//   scalars  Any shape.
// Grid: x = column blocks, y = row blocks, z = batch; the first row block is dims.first_block.

//#import common/product.wgsl

const LANES: u32 = 8u;
// Rows of a workgroup: a multiple of LANES.
const THREAD_M: u32 = 16u;
// Whether k runs along the contiguous direction of A, and j along that of B.
override A_K_CONTIGUOUS: bool = true;
override B_N_CONTIGUOUS: bool = true;

const SLICES: u32 = THREAD_M / LANES;

// sums += left · right for LANES rows from `first`, four columns and four steps of k. right[u] is B(k + u) in
// this lane's columns. A lane's quad is A(row, k..k+4) of row = lane; where `along_rows`, it is A(rows, k + u)
// of u = lane / 2 and the slice's lower (even lanes) or upper (odd lanes) four rows.
fn accumulate(
    sums: ptr<function, array<vec4<f32>, THREAD_M>>,
    first: u32,
    quad: vec4<f32>,
    right: mat4x4<f32>,
    along_rows: bool,
) {
    var left: array<vec4<f32>, LANES>;
    left[0] = subgroupBroadcast(quad, 0u);
    left[1] = subgroupBroadcast(quad, 1u);
    left[2] = subgroupBroadcast(quad, 2u);
    left[3] = subgroupBroadcast(quad, 3u);
    left[4] = subgroupBroadcast(quad, 4u);
    left[5] = subgroupBroadcast(quad, 5u);
    left[6] = subgroupBroadcast(quad, 6u);
    left[7] = subgroupBroadcast(quad, 7u);
    for (var i = 0u; i < LANES; i += 1u) {
        for (var u = 0u; u < 4u; u += 1u) {
            let value = select(left[i][u], left[2u * u + i / 4u][i % 4u], along_rows);
            (*sums)[first + i] += value * right[u];
        }
    }
}

fn store_sums(
    sums: ptr<function, array<vec4<f32>, THREAD_M>>,
    batch: u32,
    first_row: u32,
    first_col: u32,
) {
    // The copy is indexed at run time and so lies in memory; the sums themselves can stay in registers.
    var tile: array<vec4<f32>, THREAD_M>;
    for (var i = 0u; i < THREAD_M; i += 1u) {
        tile[i] = (*sums)[i];
    }
    // Bounds that no compiler knows: unrolled, the epilogue would be compiled once for each sum.
    let rows = min(THREAD_M, dims.m - first_row);
    let cols = min(4u, dims.n - min(first_col, dims.n));
    for (var i = 0u; i < rows; i += 1u) {
        for (var j = 0u; j < cols; j += 1u) {
            store(batch, first_row + i, first_col + j, tile[i][j]);
        }
    }
}

@compute @workgroup_size(LANES)
fn quads(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let first_row = (dims.first_block + group.y) * THREAD_M;
    let first_col = (group.x * LANES + lane) * 4u;
    // A quad outside the matrix is loaded from its edge; its sums are not stored.
    let left_matrix = left_of(group.z);
    let own_k = select(lane / 2u, 0u, A_K_CONTIGUOUS);
    var rows: array<u32, SLICES>;
    for (var slice = 0u; slice < SLICES; slice += 1u) {
        let row = first_row + slice * LANES;
        let along_rows = min(row + lane % 2u * 4u, dims.m - 4u);
        rows[slice] = select(along_rows, min(row + lane, dims.m - 1u), A_K_CONTIGUOUS);
    }
    var b_first: vec4<u32>;
    for (var u = 0u; u < 4u; u += 1u) {
        let along_k = min(first_col + u, dims.n - 1u) * dims.b_col;
        let along_columns = min(first_col, dims.n - 4u) + u * dims.b_row;
        b_first[u] = group.z * dims.b_batch + select(along_k, along_columns, B_N_CONTIGUOUS);
    }
    var sums: array<vec4<f32>, THREAD_M>;
    for (var k = 0u; k < dims.k; k += 4u) {
        var right: mat4x4<f32>;
        for (var u = 0u; u < 4u; u += 1u) {
            right[u] = b_quad_at(b_first[u] + k * dims.b_row);
        }
        if !B_N_CONTIGUOUS {
            right = transpose(right);
        }
        for (var slice = 0u; slice < SLICES; slice += 1u) {
            let quad = vec4<f32>(a_quad_at(left_matrix, rows[slice], k + own_k));
            accumulate(&sums, slice * LANES, quad, right, !A_K_CONTIGUOUS);
        }
    }
    store_sums(&sums, group.z, first_row, first_col);
}

@compute @workgroup_size(LANES)
fn scalars(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    const UP = vec4<u32>(0u, 1u, 2u, 3u);
    let first_row = (dims.first_block + group.y) * THREAD_M;
    let first_col = (group.x * LANES + lane) * 4u;
    // A value outside the matrix is loaded from its edge: it meets a zero or no store.
    let left_matrix = left_of(group.z);
    var rows: array<u32, SLICES>;
    for (var slice = 0u; slice < SLICES; slice += 1u) {
        rows[slice] = min(first_row + slice * LANES + lane, dims.m - 1u);
    }
    let cols = min(first_col + UP, vec4<u32>(dims.n - 1u));
    let b_first = group.z * dims.b_batch + cols * dims.b_col;
    var sums: array<vec4<f32>, THREAD_M>;
    for (var k = 0u; k < dims.k; k += 4u) {
        let steps = min(k + UP, vec4<u32>(dims.k - 1u));
        var right: mat4x4<f32>;
        for (var u = 0u; u < 4u; u += 1u) {
            let at = b_first + steps[u] * dims.b_row;
            let row = vec4<f32>(b_at(at.x), b_at(at.y), b_at(at.z), b_at(at.w));
            right[u] = select(vec4<f32>(), row, k + u < dims.k);
        }
        for (var slice = 0u; slice < SLICES; slice += 1u) {
            var quad = vec4<f32>();
            for (var u = 0u; u < 4u; u += 1u) {
                quad[u] = f32(a_at(left_matrix, rows[slice], steps[u]));
            }
            let inside = k + UP < vec4<u32>(dims.k);
            accumulate(&sums, slice * LANES, select(vec4<f32>(), quad, inside), right, false);
        }
    }
    store_sums(&sums, group.z, first_row, first_col);
}
