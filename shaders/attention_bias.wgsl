// dbias[e, h, i, j] = Σ_b ds_bij: the gradient of attention's bias, summed in order over the examples b that share it,
// which are all of them, or the example e alone. The scores' gradients ds are in common/attention_backward.wgsl, dims in
// common/attention.wgsl; here row_blocks workgroups share a head of the bias, in the order of its blocks.
//
// dbias  f32 [1 or batch, heads, length, length]; 0 where a query sees no key
//
//   tiled   For GPUs: a workgroup makes ROWS × ROWS elements, one a thread; 16 columns of its queries, their dout, its
//           keys and their values at a time lie in workgroup memory.
//   direct  For drivers that run on the processor: a thread takes OWN queries and all keys, one after another; ROWS
//           queries a workgroup.
// Over a folded grid.

//#import common/attention_backward.wgsl

alias dbias_type = f32;

@group(0) @binding(8) var<storage, read_write> dbias: array<dbias_type>;

// Fours of columns in workgroup memory at a time, and how far apart rows of them are.
const PART_QUADS: u32 = 4u;
const STRIDE: u32 = PART_QUADS + 1u;

var<workgroup> q_part: array<vec4<f32>, ROWS * STRIDE>;
var<workgroup> k_part: array<vec4<f32>, ROWS * STRIDE>;
var<workgroup> v_part: array<vec4<f32>, ROWS * STRIDE>;
var<workgroup> dout_part: array<vec4<f32>, ROWS * STRIDE>;

// The examples that share element e of the bias: the first, and how many there are.
fn examples(pair: u32) -> vec2<u32> {
    let biases = dims.bias_pairs / dims.heads;
    let count = dims.batch / biases;
    return vec2<u32>(pair / dims.heads * count, count);
}

@compute @workgroup_size(ROWS, ROWS)
fn tiled(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let flat = flat_group(group, groups);
    if flat >= dims.groups {
        return;
    }
    let index = dims.first_group + flat;
    let pair = index / dims.row_blocks;
    let block = index % dims.row_blocks;
    let blocks = (dims.length + ROWS - 1u) / ROWS;
    let first_query = block / blocks * ROWS;
    let first_key = block % blocks * ROWS;
    let query = first_query + local.y;
    let key = first_key + local.x;
    let shared_by = examples(pair);
    var sum = 0.0;
    for (var b = shared_by.x; b < shared_by.x + shared_by.y; b += 1u) {
        let place = place_at(b, pair % dims.heads, 0u);
        var score = vec4<f32>();
        var dp = vec4<f32>();
        for (var quad = 0u; quad < QUADS; quad += PART_QUADS) {
            workgroupBarrier();
            for (var i = thread; i < ROWS * PART_QUADS; i += ROWS * ROWS) {
                let row = i / PART_QUADS;
                let at = quad + i % PART_QUADS;
                let to = row * STRIDE + i % PART_QUADS;
                let query_at = row_at(place, first_query + row);
                let from_key = key_at(place, first_key + row);
                // Padding may hold anything, even NaN; columns behind the last are 0.
                let is_column = vec4<bool>(at < QUADS);
                let is_key = vec4<bool>(at < QUADS && first_key + row < place.keys);
                let column = min(at, QUADS - 1u);
                q_part[to] = select(vec4<f32>(), q_quad(query_at, column) * dims.scale, is_column);
                dout_part[to] = select(vec4<f32>(), dout_quad(query_at, column), is_column);
                k_part[to] = select(vec4<f32>(), k_quad(from_key, column), is_key);
                v_part[to] = select(vec4<f32>(), v_quad(from_key, column), is_key);
            }
            workgroupBarrier();
            for (var d = 0u; d < PART_QUADS; d += 1u) {
                let own = local.y * STRIDE + d;
                let other = local.x * STRIDE + d;
                score = fma(q_part[own], k_part[other], score);
                dp = fma(dout_part[own], v_part[other], dp);
            }
        }
        let products = vec2<f32>(
            biased((score.x + score.y) + (score.z + score.w), place, query, key),
            (dp.x + dp.y) + (dp.z + dp.w),
        );
        let kept = dropout(place, query, key);
        let seen = is_within(keys_seen(place, query), key);
        sum += weight_and_gradient(products, stats_of(place, query), kept, seen).y;
    }
    if query < dims.length && key < dims.length {
        dbias[(pair * dims.length + query) * dims.length + key] = dbias_type(sum);
    }
}

@compute @workgroup_size(ROWS / OWN)
fn direct(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let flat = flat_group(group, groups);
    if flat >= dims.groups {
        return;
    }
    let index = dims.first_group + flat;
    let pair = index / dims.row_blocks;
    let first = index % dims.row_blocks * ROWS + thread * OWN;
    let shared_by = examples(pair);
    for (var key = 0u; key < dims.length; key += 1u) {
        var sums = array<f32, OWN>();
        for (var b = shared_by.x; b < shared_by.x + shared_by.y; b += 1u) {
            let place = place_at(b, pair % dims.heads, 0u);
            let from_key = key_at(place, key);
            var scores = array<vec4<f32>, OWN>();
            var dp = array<vec4<f32>, OWN>();
            for (var d = 0u; d < QUADS; d += 1u) {
                let k_value = k_quad(from_key, d) * dims.scale;
                let v_value = v_quad(from_key, d);
                for (var r = 0u; r < OWN; r += 1u) {
                    let at = row_at(place, first + r);
                    scores[r] += q_quad(at, d) * k_value;
                    dp[r] += dout_quad(at, d) * v_value;
                }
            }
            for (var r = 0u; r < OWN; r += 1u) {
                let query = first + r;
                let score = (scores[r].x + scores[r].y) + (scores[r].z + scores[r].w);
                let products = vec2<f32>(
                    biased(score, place, query, key),
                    (dp[r].x + dp[r].y) + (dp[r].z + dp[r].w),
                );
                let kept = dropout(place, query, key);
                let seen = is_within(keys_seen(place, query), key);
                sums[r] += weight_and_gradient(products, stats_of(place, query), kept, seen).y;
            }
        }
        for (var r = 0u; r < OWN; r += 1u) {
            if first + r < dims.length {
                let row = pair * dims.length + first + r;
                dbias[row * dims.length + key] = dbias_type(sums[r]);
            }
        }
    }
}
