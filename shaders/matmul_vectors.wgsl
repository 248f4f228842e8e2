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

// Squares of four by four of both slabs, A's in front, and how many a thread loads, all before it stores the first, so that
// they are on their way together.
const A_SQUARES: u32 = QUADS_M * QUADS_K;
const SQUARES: u32 = (QUADS_M + QUADS_N) * QUADS_K;
const LOADS: u32 = (SQUARES + THREADS - 1u) / THREADS;

var<workgroup> a_slab: array<vec4<f32>, BLOCK_K * QUADS_M>;
var<workgroup> b_slab: array<vec4<f32>, BLOCK_K * QUADS_N>;

// Four rows and the first of four depths of A's slab of a square.
fn a_place(i: u32) -> vec2<u32> {
    if A_K_CONTIGUOUS {
        return vec2<u32>(i / QUADS_K, 4u * (i % QUADS_K));
    }
    return vec2<u32>(i % QUADS_M, 4u * (i / QUADS_M));
}

// Four columns and the first of four depths of B's slab of a square.
fn b_place(i: u32) -> vec2<u32> {
    if B_N_CONTIGUOUS {
        return vec2<u32>(i % QUADS_N, 4u * (i / QUADS_N));
    }
    return vec2<u32>(i / QUADS_K, 4u * (i % QUADS_K));
}

@compute @workgroup_size(GROUP_N, GROUP_M)
fn vectors(
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

    var sums: array<vec4<f32>, THREAD_M * THREAD_N / 4u>;
    for (var k0 = 0u; k0 < sizes.z; k0 += BLOCK_K) {
        // What lies outside the matrix is loaded from its edge and dropped: beyond k it is made zero, beyond m and n it
        // meets no store.
        var squares: array<mat4x4<f32>, LOADS>;
        for (var load = 0u; load < LOADS; load += 1u) {
            let i = lane + load * THREADS;
            if i < A_SQUARES {
                let place = a_place(i);
                let row = first_row + 4u * place.x;
                let k = min(k0 + place.y, sizes.z - 4u);
                for (var u = 0u; u < 4u; u += 1u) {
                    let i = select(min(row, sizes.x - 4u), min(row + u, sizes.x - 1u), A_K_CONTIGUOUS);
                    let d = select(k + u, k, A_K_CONTIGUOUS);
                    squares[load][u] = vec4<f32>(a_quad_at(left_matrix, i, d));
                }
            } else if i < SQUARES {
                let place = b_place(i - A_SQUARES);
                let col = first_col + 4u * place.x;
                let k = min(k0 + place.y, sizes.z - 4u);
                for (var u = 0u; u < 4u; u += 1u) {
                    let along_k = min(col + u, sizes.y - 1u) * b_strides.y + k;
                    let along_columns = min(col, sizes.y - 4u) + (k + u) * b_strides.x;
                    let at = b_base + select(along_k, along_columns, B_N_CONTIGUOUS);
                    squares[load][u] = b_quad_at(at);
                }
            }
        }
        for (var load = 0u; load < LOADS; load += 1u) {
            let i = lane + load * THREADS;
            if i < A_SQUARES {
                let place = a_place(i);
                var square = squares[load];
                if A_K_CONTIGUOUS {
                    square = transpose(square);
                }
                let inside = vec4<bool>(k0 + place.y < sizes.z);
                for (var u = 0u; u < 4u; u += 1u) {
                    let at = (place.y + u) * QUADS_M + place.x;
                    a_slab[at] = select(vec4<f32>(), square[u], inside);
                }
            } else if i < SQUARES {
                let place = b_place(i - A_SQUARES);
                var square = squares[load];
                if !B_N_CONTIGUOUS {
                    square = transpose(square);
                }
                let inside = vec4<bool>(k0 + place.y < sizes.z);
                for (var u = 0u; u < 4u; u += 1u) {
                    let at = (place.y + u) * QUADS_N + place.x;
                    b_slab[at] = select(vec4<f32>(), square[u], inside);
                }
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
    if STORED_FIRST {
        for (var i = 0u; i < THREAD_M * THREAD_N; i += 1u) {
            let row = i / THREAD_N;
            let col = i % THREAD_N;
            finish(
                group.z,
                first_row + 4u * (thread.y + row / 4u * GROUP_M) + row % 4u,
                first_col + 4u * (thread.x + col / 4u * GROUP_N) + col % 4u,
            );
        }
    }
}
