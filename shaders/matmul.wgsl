// out[batch, i, j] = chain( Σ_k A(i, k) · B(k, j) ), any of NN, NT, TN, TT through strides. For GPUs; drivers that run
// on the processor take matmul_subgroup.wgsl. Bindings and dims are in common/product.wgsl.
//
// Workgroup memory holds a BLOCK_K-deep slab of A and B; each thread keeps a THREAD_M × THREAD_N tile in
// registers, summed in ascending k. Rows and columns of a thread are strided by the thread grid, so that
// neighbours read neighbouring words.
// Grid: x = column blocks, y = row blocks, z = batch. The first row block is dims.first_block, since long
// products are split into several launches.

//#import common/product.wgsl

// Register tile of a thread.
const THREAD_M: u32 = 4u;
const THREAD_N: u32 = 4u;
// Depth of a slab in workgroup memory.
const BLOCK_K: u32 = 16u;
// Threads along the rows and columns of the block.
const GROUP_M: u32 = 16u;
const GROUP_N: u32 = 16u;
// Whether k runs along the contiguous direction of A, and j along that of B: decides who loads what.
override A_K_CONTIGUOUS: bool = true;
override B_N_CONTIGUOUS: bool = true;

const BLOCK_M: u32 = GROUP_M * THREAD_M;
const BLOCK_N: u32 = GROUP_N * THREAD_N;
const THREADS: u32 = GROUP_M * GROUP_N;
// One word of padding a row keeps the banks of a transposed store apart.
const A_STRIDE: u32 = BLOCK_M + 1u;
const B_STRIDE: u32 = BLOCK_N + 1u;

var<workgroup> a_slab: array<f32, BLOCK_K * A_STRIDE>;
var<workgroup> b_slab: array<f32, BLOCK_K * B_STRIDE>;

@compute @workgroup_size(GROUP_N, GROUP_M)
fn tiled(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first_row = (dims.first_block + group.y) * BLOCK_M;
    let first_col = group.x * BLOCK_N;
    let a_base = group.z * dims.a_batch;
    let b_base = group.z * dims.b_batch;

    var sums: array<f32, THREAD_M * THREAD_N>;
    for (var k0 = 0u; k0 < dims.k; k0 += BLOCK_K) {
        for (var i = lane; i < BLOCK_M * BLOCK_K; i += THREADS) {
            let row = select(i % BLOCK_M, i / BLOCK_K, A_K_CONTIGUOUS);
            let depth = select(i / BLOCK_M, i % BLOCK_K, A_K_CONTIGUOUS);
            // A value outside the matrix is loaded from its edge and dropped: it meets a zero or no store.
            let at_row = min(first_row + row, dims.m - 1u);
            let at_k = min(k0 + depth, dims.k - 1u);
            let value = f32(a[a_base + at_row * dims.a_row + at_k * dims.a_col]);
            a_slab[depth * A_STRIDE + row] = select(0.0, value, k0 + depth < dims.k);
        }
        for (var i = lane; i < BLOCK_N * BLOCK_K; i += THREADS) {
            let col = select(i / BLOCK_K, i % BLOCK_N, B_N_CONTIGUOUS);
            let depth = select(i % BLOCK_K, i / BLOCK_N, B_N_CONTIGUOUS);
            let at_col = min(first_col + col, dims.n - 1u);
            let at_k = min(k0 + depth, dims.k - 1u);
            let value = b_at(b_base + at_k * dims.b_row + at_col * dims.b_col);
            b_slab[depth * B_STRIDE + col] = select(0.0, value, k0 + depth < dims.k);
        }
        workgroupBarrier();
        for (var depth = 0u; depth < BLOCK_K; depth += 1u) {
            var left: array<f32, THREAD_M>;
            for (var i = 0u; i < THREAD_M; i += 1u) {
                left[i] = a_slab[depth * A_STRIDE + thread.y + i * GROUP_M];
            }
            for (var j = 0u; j < THREAD_N; j += 1u) {
                let right = b_slab[depth * B_STRIDE + thread.x + j * GROUP_N];
                for (var i = 0u; i < THREAD_M; i += 1u) {
                    sums[i * THREAD_N + j] = fma(left[i], right, sums[i * THREAD_N + j]);
                }
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < THREAD_M; i += 1u) {
        for (var j = 0u; j < THREAD_N; j += 1u) {
            let row = first_row + thread.y + i * GROUP_M;
            let col = first_col + thread.x + j * GROUP_N;
            store(group.z, row, col, sums[i * THREAD_N + j]);
        }
    }
}
