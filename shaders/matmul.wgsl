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

// Words of a slab that a thread loads, all before it stores the first, so that they are on their way together.
const A_LOADS: u32 = BLOCK_M * BLOCK_K / THREADS;
const B_LOADS: u32 = BLOCK_N * BLOCK_K / THREADS;
const_assert A_LOADS * THREADS == BLOCK_M * BLOCK_K;
const_assert B_LOADS * THREADS == BLOCK_N * BLOCK_K;

var<workgroup> a_slab: array<f32, BLOCK_K * A_STRIDE>;
var<workgroup> b_slab: array<f32, BLOCK_K * B_STRIDE>;

// Row and depth of A's slab of a load.
fn a_place(i: u32) -> vec2<u32> {
    if A_K_CONTIGUOUS {
        return vec2<u32>(i / BLOCK_K, i % BLOCK_K);
    }
    return vec2<u32>(i % BLOCK_M, i / BLOCK_M);
}

// Column and depth of B's slab of a load.
fn b_place(i: u32) -> vec2<u32> {
    if B_N_CONTIGUOUS {
        return vec2<u32>(i % BLOCK_N, i / BLOCK_N);
    }
    return vec2<u32>(i / BLOCK_K, i % BLOCK_K);
}

@compute @workgroup_size(GROUP_N, GROUP_M)
fn tiled(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) thread: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first_row = (dims.first_block + group.y) * BLOCK_M;
    let first_col = group.x * BLOCK_N;
    let sizes = vec3<u32>(dims.m, dims.n, dims.k);
    let b_strides = vec2<u32>(dims.b_row, dims.b_col);
    let left_matrix = left_of(group.z);
    let b_base = group.z * dims.b_batch;

    var sums: array<f32, THREAD_M * THREAD_N>;
    for (var k0 = 0u; k0 < sizes.z; k0 += BLOCK_K) {
        // A value outside the matrix is loaded from its edge and dropped: it meets a zero or no store.
        var from_a: array<f32, A_LOADS>;
        for (var load = 0u; load < A_LOADS; load += 1u) {
            let place = a_place(lane + load * THREADS);
            let row = min(first_row + place.x, sizes.x - 1u);
            let k = min(k0 + place.y, sizes.z - 1u);
            from_a[load] = f32(a_at(left_matrix, row, k));
        }
        var from_b: array<f32, B_LOADS>;
        for (var load = 0u; load < B_LOADS; load += 1u) {
            let place = b_place(lane + load * THREADS);
            let col = min(first_col + place.x, sizes.y - 1u);
            let k = min(k0 + place.y, sizes.z - 1u);
            from_b[load] = b_at(b_base + k * b_strides.x + col * b_strides.y);
        }
        for (var load = 0u; load < A_LOADS; load += 1u) {
            let place = a_place(lane + load * THREADS);
            a_slab[place.y * A_STRIDE + place.x] =
                select(0.0, from_a[load], k0 + place.y < sizes.z);
        }
        for (var load = 0u; load < B_LOADS; load += 1u) {
            let place = b_place(lane + load * THREADS);
            b_slab[place.y * B_STRIDE + place.x] =
                select(0.0, from_b[load], k0 + place.y < sizes.z);
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
    if STORED_FIRST {
        for (var i = 0u; i < THREAD_M * THREAD_N; i += 1u) {
            let row = first_row + thread.y + i / THREAD_N * GROUP_M;
            finish(group.z, row, first_col + thread.x + i % THREAD_N * GROUP_N);
        }
    }
}
