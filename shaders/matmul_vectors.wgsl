// out[batch, i, j] = chain( Σ_k A(i, k) · B(k, j) ), as matmul.wgsl, for GPUs, where four neighbours in memory are one
// load: k, and n or m where A's rows or B's columns are the contiguous direction, are multiples of four. Bindings and
// dims are in common/product.wgsl.
//
// Workgroup memory holds a BLOCK_K-deep slab of A and B, k by k, its rows or columns in fours; so a thread reads four
// of its rows or columns at once. It is filled in squares of four by four, turned round in registers where the
// operand's contiguous direction is k. Each thread keeps a THREAD_M × THREAD_N tile in registers, summed in ascending
// k; its fours of rows and columns are strided by the thread grid.
// Grid: x = column blocks, y = row blocks, z = batch; the first row block is dims.first_block.

//#import common/product.wgsl

// Register tile of a thread: multiples of four.
const THREAD_M: u32 = 8u;
const THREAD_N: u32 = 8u;
// Depth of a slab in workgroup memory: a multiple of four.
const BLOCK_K: u32 = 16u;
// Threads along the rows and columns of the block.
const GROUP_M: u32 = 16u;
const GROUP_N: u32 = 16u;
// Whether k runs along the contiguous direction of A, and j along that of B.
override A_K_CONTIGUOUS: bool = true;
override B_N_CONTIGUOUS: bool = true;

const BLOCK_M: u32 = GROUP_M * THREAD_M;
const BLOCK_N: u32 = GROUP_N * THREAD_N;
const THREADS: u32 = GROUP_M * GROUP_N;
const QUADS_M: u32 = BLOCK_M / 4u;
const QUADS_N: u32 = BLOCK_N / 4u;
const QUADS_K: u32 = BLOCK_K / 4u;

var<workgroup> a_slab: array<vec4<f32>, BLOCK_K * QUADS_M>;
var<workgroup> b_slab: array<vec4<f32>, BLOCK_K * QUADS_N>;

@compute @workgroup_size(GROUP_N, GROUP_M)
fn vectors(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first_row = (dims.first_block + group.y) * BLOCK_M;
    let first_col = group.x * BLOCK_N;
    let a_base = group.z * dims.a_batch;
    let b_base = group.z * dims.b_batch;

    var sums: array<vec4<f32>, THREAD_M * THREAD_N / 4u>;
    for (var k0 = 0u; k0 < dims.k; k0 += BLOCK_K) {
        // What lies outside the matrix is loaded from its edge and dropped: beyond k it is made zero, beyond m and n it
        // meets no store.
        for (var i = lane; i < QUADS_M * QUADS_K; i += THREADS) {
            let row_quad = select(i % QUADS_M, i / QUADS_K, A_K_CONTIGUOUS);
            let depth = 4u * select(i / QUADS_M, i % QUADS_K, A_K_CONTIGUOUS);
            let row = first_row + 4u * row_quad;
            let k = min(k0 + depth, dims.k - 4u);
            var square: mat4x4<f32>;
            for (var u = 0u; u < 4u; u += 1u) {
                let along_k = min(row + u, dims.m - 1u) * dims.a_row + k;
                let along_rows = min(row, dims.m - 4u) + (k + u) * dims.a_col;
                let at = a_base + select(along_rows, along_k, A_K_CONTIGUOUS);
                square[u] = vec4<f32>(a_quads[at / 4u]);
            }
            if A_K_CONTIGUOUS {
                square = transpose(square);
            }
            let inside = vec4<bool>(k0 + depth < dims.k);
            for (var u = 0u; u < 4u; u += 1u) {
                a_slab[(depth + u) * QUADS_M + row_quad] = select(vec4<f32>(), square[u], inside);
            }
        }
        for (var i = lane; i < QUADS_N * QUADS_K; i += THREADS) {
            let col_quad = select(i / QUADS_K, i % QUADS_N, B_N_CONTIGUOUS);
            let depth = 4u * select(i % QUADS_K, i / QUADS_N, B_N_CONTIGUOUS);
            let col = first_col + 4u * col_quad;
            let k = min(k0 + depth, dims.k - 4u);
            var square: mat4x4<f32>;
            for (var u = 0u; u < 4u; u += 1u) {
                let along_k = min(col + u, dims.n - 1u) * dims.b_col + k;
                let along_columns = min(col, dims.n - 4u) + (k + u) * dims.b_row;
                square[u] = b_quad_at(b_base + select(along_k, along_columns, B_N_CONTIGUOUS));
            }
            if !B_N_CONTIGUOUS {
                square = transpose(square);
            }
            let inside = vec4<bool>(k0 + depth < dims.k);
            for (var u = 0u; u < 4u; u += 1u) {
                b_slab[(depth + u) * QUADS_N + col_quad] = select(vec4<f32>(), square[u], inside);
            }
        }
        workgroupBarrier();
        for (var depth = 0u; depth < BLOCK_K; depth += 1u) {
            var left: array<vec4<f32>, THREAD_M / 4u>;
            for (var i = 0u; i < THREAD_M / 4u; i += 1u) {
                left[i] = a_slab[depth * QUADS_M + thread.y + i * GROUP_M];
            }
            for (var j = 0u; j < THREAD_N / 4u; j += 1u) {
                let right = b_slab[depth * QUADS_N + thread.x + j * GROUP_N];
                for (var i = 0u; i < THREAD_M; i += 1u) {
                    let at = i * THREAD_N / 4u + j;
                    sums[at] = fma(vec4<f32>(left[i / 4u][i % 4u]), right, sums[at]);
                }
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < THREAD_M; i += 1u) {
        let row = first_row + 4u * (thread.y + i / 4u * GROUP_M) + i % 4u;
        for (var j = 0u; j < THREAD_N; j += 1u) {
            let col = first_col + 4u * (thread.x + j / 4u * GROUP_N) + j % 4u;
            store(group.z, row, col, sums[i * THREAD_N / 4u + j / 4u][j % 4u]);
        }
    }
}
