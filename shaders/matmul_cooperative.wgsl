// out[batch, i, j] = chain( Σ_k A(i, k) · B(k, j) ), as matmul.wgsl, for GPUs whose subgroups multiply small matrices in
// hardware (tensor cores, simdgroup matrices, WMMA). Four neighbours in memory are one load: k, and n or m where A's rows
// or B's columns are the contiguous direction, are multiples of four. Bindings and dims are in common/product.wgsl.
//
// A workgroup is GROUP_M × GROUP_N subgroups. It fills slabs of A and B in workgroup memory, BLOCK_K deep, each laid out
// as in memory, rounded to the tiles' type; a subgroup multiplies its THREAD_M rows by its THREAD_N columns, tile by tile
// (common/tiles_*.wgsl tells their side and type), and sums in f32. The sums go through workgroup memory, a tile at a
// time, for what a lane holds of a tile is the driver's to choose.
// Grid: x = column blocks, y = row blocks, z = batch; the first row block is dims.first_block.

enable wgpu_cooperative_matrix;

//#import common/product.wgsl
//#import common/tiles_8_f32.wgsl

// Outputs of a subgroup: multiples of TILE.
const THREAD_M: u32 = 32u;
const THREAD_N: u32 = 32u;
// Depth of a slab: a multiple of TILE.
const BLOCK_K: u32 = 16u;
// Subgroups along the rows and columns of the block, and lanes of each.
const GROUP_M: u32 = 2u;
const GROUP_N: u32 = 2u;
const LANES: u32 = 32u;
// Whether k runs along the contiguous direction of A, and j along that of B.
override A_K_CONTIGUOUS: bool = true;
override B_N_CONTIGUOUS: bool = true;

const BLOCK_M: u32 = GROUP_M * THREAD_M;
const BLOCK_N: u32 = GROUP_N * THREAD_N;
const THREADS: u32 = GROUP_M * GROUP_N * LANES;
const TILES_M: u32 = THREAD_M / TILE;
const TILES_N: u32 = THREAD_N / TILE;
// Rows of a slab are this much longer than what they hold, so that tiles do not meet in one bank; a multiple of 16 bytes.
const PADDING: u32 = 8u;
const A_ALONG_K: u32 = BLOCK_K + PADDING;
const A_ALONG_M: u32 = BLOCK_M + PADDING;
const B_ALONG_N: u32 = BLOCK_N + PADDING;
const B_ALONG_K: u32 = BLOCK_K + PADDING;

// Each as long as the longer of its two layouts.
var<workgroup> a_slab: array<tile_type, max(BLOCK_M * A_ALONG_K, BLOCK_K * A_ALONG_M)>;
var<workgroup> b_slab: array<tile_type, max(BLOCK_K * B_ALONG_N, BLOCK_N * B_ALONG_K)>;
var<workgroup> sums_slab: array<f32, GROUP_M * GROUP_N * TILE * TILE>;

@compute @workgroup_size(THREADS)
fn cooperative(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let first_row = (dims.first_block + group.y) * BLOCK_M;
    let first_col = group.x * BLOCK_N;
    let left_matrix = left_of(group.z);
    let b_base = group.z * dims.b_batch;
    let own_row = subgroup / GROUP_N * THREAD_M;
    let own_col = subgroup % GROUP_N * THREAD_N;
    let own_sums = subgroup * TILE * TILE;

    for (var i = lane; i < TILE * TILE; i += LANES) {
        sums_slab[own_sums + i] = 0.0;
    }
    workgroupBarrier();
    var sums: array<tile_c, TILES_M * TILES_N>;
    for (var i = 0u; i < TILES_M * TILES_N; i += 1u) {
        sums[i] = coopLoadT<tile_c>(&sums_slab[own_sums], TILE);
    }

    for (var k0 = 0u; k0 < dims.k; k0 += BLOCK_K) {
        // What lies outside the matrix is loaded from its edge and dropped: beyond k it is made zero, beyond m and n it
        // meets no store.
        for (var i = thread; i < BLOCK_M * BLOCK_K / 4u; i += THREADS) {
            let row = select(i % (BLOCK_M / 4u) * 4u, i / (BLOCK_K / 4u), A_K_CONTIGUOUS);
            let depth = select(i / (BLOCK_M / 4u), i % (BLOCK_K / 4u) * 4u, A_K_CONTIGUOUS);
            let k = min(k0 + depth, dims.k - select(1u, 4u, A_K_CONTIGUOUS));
            let last_row = dims.m - select(4u, 1u, A_K_CONTIGUOUS);
            let loaded = vec4<tile_type>(a_quad_at(left_matrix, min(first_row + row, last_row), k));
            let quad = select(vec4<tile_type>(), loaded, k0 + depth < dims.k);
            let to = select(depth * A_ALONG_M + row, row * A_ALONG_K + depth, A_K_CONTIGUOUS);
            for (var u = 0u; u < 4u; u += 1u) {
                a_slab[to + u] = quad[u];
            }
        }
        for (var i = thread; i < BLOCK_N * BLOCK_K / 4u; i += THREADS) {
            let col = select(i / (BLOCK_K / 4u), i % (BLOCK_N / 4u) * 4u, B_N_CONTIGUOUS);
            let depth = select(i % (BLOCK_K / 4u) * 4u, i / (BLOCK_N / 4u), B_N_CONTIGUOUS);
            let k = min(k0 + depth, dims.k - select(4u, 1u, B_N_CONTIGUOUS));
            let last_col = dims.n - select(1u, 4u, B_N_CONTIGUOUS);
            let at = b_base + k * dims.b_row + min(first_col + col, last_col) * dims.b_col;
            let loaded = vec4<tile_type>(b_quad_at(at));
            let quad = select(vec4<tile_type>(), loaded, k0 + depth < dims.k);
            let to = select(col * B_ALONG_K + depth, depth * B_ALONG_N + col, B_N_CONTIGUOUS);
            for (var u = 0u; u < 4u; u += 1u) {
                b_slab[to + u] = quad[u];
            }
        }
        workgroupBarrier();
        for (var depth = 0u; depth < BLOCK_K; depth += TILE) {
            var left: array<tile_a, TILES_M>;
            for (var i = 0u; i < TILES_M; i += 1u) {
                let row = own_row + i * TILE;
                if A_K_CONTIGUOUS {
                    left[i] = coopLoadT<tile_a>(&a_slab[row * A_ALONG_K + depth], A_ALONG_K);
                } else {
                    left[i] = coopLoad<tile_a>(&a_slab[depth * A_ALONG_M + row], A_ALONG_M);
                }
            }
            for (var j = 0u; j < TILES_N; j += 1u) {
                let col = own_col + j * TILE;
                var right: tile_b;
                if B_N_CONTIGUOUS {
                    right = coopLoadT<tile_b>(&b_slab[depth * B_ALONG_N + col], B_ALONG_N);
                } else {
                    right = coopLoad<tile_b>(&b_slab[col * B_ALONG_K + depth], B_ALONG_K);
                }
                for (var i = 0u; i < TILES_M; i += 1u) {
                    let at = i * TILES_N + j;
                    sums[at] = coopMultiplyAdd(left[i], right, sums[at]);
                }
            }
        }
        workgroupBarrier();
    }

    for (var i = 0u; i < TILES_M; i += 1u) {
        for (var j = 0u; j < TILES_N; j += 1u) {
            coopStoreT(sums[i * TILES_N + j], &sums_slab[own_sums], TILE);
            workgroupBarrier();
            let row = first_row + own_row + i * TILE;
            let col = first_col + own_col + j * TILE;
            for (var at = lane; at < TILE * TILE; at += LANES) {
                store(group.z, row + at / TILE, col + at % TILE, sums_slab[own_sums + at]);
            }
            workgroupBarrier();
        }
    }
}
