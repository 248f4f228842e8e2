// out[batch, i, j] = chain( Σ_k A(i, k) · B(k, j) ), any of NN, NT, TN, TT through strides.
//
// dims    uniform: the chain (the product of its extents is batch · m · n, extent.w is n), m, n, k, strides of A and B in elements
//         (row and column of the untransposed operand's view, and batch; a batch stride of 0 broadcasts)
// a       f32, A(i, k) at batch · a_batch + i · a_row + k · a_col
// b       f32, B(k, j) at batch · b_batch + k · b_row + j · b_col
// x0..x2  f32, the epilogue's operands (bias, residual, activations of the forward pass)
// out     f32 [batch, m, n], contiguous
//
// Two ways to the same sums, each in ascending k:
//   tiled   Workgroup memory holds a BLOCK_K-deep slab of A and B; each thread keeps a
//           THREAD_M × THREAD_N tile in registers. Rows and columns of a thread are strided by the thread
//           grid, so that neighbours read neighbouring words. For GPUs.
//   direct  No workgroup memory, no barriers: each thread keeps THREAD_M × THREAD_N sums and loads A and B
//           itself, B in fours; the rows are the same for a whole workgroup. For drivers that run on the
//           processor.
// Grid: x = column blocks, y = row blocks, z = batch. The first row block is dims.first_block, since long
// products are split into several launches.

//#import common/chain.wgsl

struct Dims {
    chain: Chain,
    m: u32,
    n: u32,
    k: u32,
    first_block: u32,
    a_row: u32,
    a_col: u32,
    a_batch: u32,
    b_row: u32,
    b_col: u32,
    b_batch: u32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> a: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> b_quads: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> x0: array<f32>;
@group(0) @binding(5) var<storage, read> x1: array<f32>;
@group(0) @binding(6) var<storage, read> x2: array<f32>;
@group(0) @binding(7) var<storage, read_write> out: array<f32>;

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
const QUADS: u32 = (THREAD_N + 3u) / 4u;
// One word of padding a row keeps the banks of a transposed store apart.
const A_STRIDE: u32 = BLOCK_M + 1u;
const B_STRIDE: u32 = BLOCK_N + 1u;

var<workgroup> a_slab: array<f32, BLOCK_K * A_STRIDE>;
var<workgroup> b_slab: array<f32, BLOCK_K * B_STRIDE>;

fn store(batch: u32, row: u32, col: u32, sum: f32) {
    if row < dims.m && col < dims.n {
        // The epilogue may see the rows under more extents than [batch, m, n].
        let e = dims.chain.extent;
        let outer = batch * dims.m + row;
        let coord = vec4<u32>(outer / e.z / e.y, outer / e.z % e.y, outer % e.z, col);
        out[outer * dims.n + col] = chain_apply(sum, coord);
    }
}

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
            let value = a[a_base + at_row * dims.a_row + at_k * dims.a_col];
            a_slab[depth * A_STRIDE + row] = select(0.0, value, k0 + depth < dims.k);
        }
        for (var i = lane; i < BLOCK_N * BLOCK_K; i += THREADS) {
            let col = select(i / BLOCK_K, i % BLOCK_N, B_N_CONTIGUOUS);
            let depth = select(i % BLOCK_K, i / BLOCK_N, B_N_CONTIGUOUS);
            let at_col = min(first_col + col, dims.n - 1u);
            let at_k = min(k0 + depth, dims.k - 1u);
            let value = b[b_base + at_k * dims.b_row + at_col * dims.b_col];
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

// GROUP_M is 1 here: a workgroup is GROUP_N threads over the same THREAD_M rows. The columns of B are
// contiguous, and n and every stride of B are multiples of four.
@compute @workgroup_size(GROUP_N)
fn direct(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first_row = (dims.first_block + group.y) * THREAD_M;
    let first_col = group.x * BLOCK_N + lane * THREAD_N;

    var a_at: array<u32, THREAD_M>;
    for (var i = 0u; i < THREAD_M; i += 1u) {
        a_at[i] = group.z * dims.a_batch + min(first_row + i, dims.m - 1u) * dims.a_row;
    }
    var b_at: array<u32, QUADS>;
    for (var j = 0u; j < QUADS; j += 1u) {
        b_at[j] = (group.z * dims.b_batch + min(first_col + 4u * j, dims.n - 4u)) / 4u;
    }
    let b_step = dims.b_row / 4u;
    var sums: array<vec4<f32>, THREAD_M * QUADS>;
    for (var k = 0u; k < dims.k; k += 1u) {
        var right: array<vec4<f32>, QUADS>;
        for (var j = 0u; j < QUADS; j += 1u) {
            right[j] = b_quads[b_at[j] + k * b_step];
        }
        for (var i = 0u; i < THREAD_M; i += 1u) {
            let left = a[a_at[i] + k * dims.a_col];
            for (var j = 0u; j < QUADS; j += 1u) {
                sums[i * QUADS + j] += left * right[j];
            }
        }
    }
    for (var i = 0u; i < THREAD_M; i += 1u) {
        for (var j = 0u; j < QUADS; j += 1u) {
            let quad = sums[i * QUADS + j];
            let col = first_col + 4u * j;
            store(group.z, first_row + i, col, quad.x);
            store(group.z, first_row + i, col + 1u, quad.y);
            store(group.z, first_row + i, col + 2u, quad.z);
            store(group.z, first_row + i, col + 3u, quad.w);
        }
    }
}
