// dk and dv of attention; the formulas, operands and dims are in common/attention_backward.wgsl and
// common/attention.wgsl.
//
// dk, dv  f32 [batch, keys, kv_heads · head_dim]; 0 for keys that are padding
//
//   tiled   For GPUs: OWN keys are LANES threads', which keep them, their values and both gradients in registers; DEPTH
//           queries and their dout at a time lie in workgroup memory.
//   direct  For drivers that run on the processor: a thread takes OWN keys.
// A workgroup has ROWS keys of one head of them, and takes the heads that they serve in turn, over a folded grid.

//#import common/attention_backward.wgsl
//#import common/attention_lanes.wgsl

// A lane's part of q · k and dout · v.
alias part_type = vec2<f32>;
alias dk_type = f32;
alias dv_type = f32;

@group(0) @binding(8) var<storage, read_write> dk: array<dk_type>;
@group(0) @binding(9) var<storage, read_write> dv: array<dv_type>;

var<workgroup> q_tile: array<vec4<f32>, DEPTH * TILE_QUADS>;
var<workgroup> dout_tile: array<vec4<f32>, DEPTH * TILE_QUADS>;

// A head that has its keys and values from the workgroup's: number `member` of those.
fn place_of_keys(flat: u32, member: u32) -> Place {
    let group = dims.first_group + flat;
    let pair = group / dims.row_blocks;
    let head = pair % dims.kv_heads * (dims.heads / dims.kv_heads) + member;
    return place_at(pair / dims.kv_heads, head, group % dims.row_blocks * ROWS);
}

fn store_quads(at: u32, quad: u32, dk_quad: vec4<f32>, dv_quad: vec4<f32>) {
    for (var i = 0u; i < 4u; i += 1u) {
        if 4u * quad + i < dims.head_dim {
            dk[at + 4u * quad + i] = dk_type(dk_quad[i]);
            dv[at + 4u * quad + i] = dv_type(dv_quad[i]);
        }
    }
}

@compute @workgroup_size(ROWS / OWN * LANES)
fn tiled(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let flat = flat_group(group, groups);
    if flat >= dims.groups {
        return;
    }
    let own_place = place_of_keys(flat, 0u);
    let lane = thread % LANES;
    let own = own_place.first + thread / LANES * OWN;
    var k_rows: array<vec4<f32>, OWN * QUADS>;
    var v_rows: array<vec4<f32>, OWN * QUADS>;
    var dk_sums: array<vec4<f32>, OWN * QUADS>;
    var dv_sums: array<vec4<f32>, OWN * QUADS>;
    var seeing: array<vec2<u32>, OWN>;
    for (var r = 0u; r < OWN; r += 1u) {
        let at = key_at(own_place, own + r);
        seeing[r] = queries_seeing(own_place, own + r);
        for (var d = 0u; d < QUADS; d += 1u) {
            k_rows[r * QUADS + d] = k_quad(at, d * LANES + lane) * dims.scale;
            v_rows[r * QUADS + d] = v_quad(at, d * LANES + lane);
        }
    }
    let range = queries_seeing_any(own_place, own_place.first, ROWS);
    for (var member = 0u; member < dims.heads / dims.kv_heads; member += 1u) {
        let place = place_of_keys(flat, member);
        for (var first = range.x; first < range.y; first += DEPTH) {
            workgroupBarrier();
            for (var i = thread; i < DEPTH * TILE_QUADS; i += ROWS / OWN * LANES) {
                let at = row_at(place, first + i / TILE_QUADS);
                q_tile[i] = q_quad(at, i % TILE_QUADS);
                dout_tile[i] = dout_quad(at, i % TILE_QUADS);
            }
            workgroupBarrier();
            var products = array<part_type, OWN * DEPTH>();
            for (var j = 0u; j < DEPTH; j += 1u) {
                var scores = array<vec4<f32>, OWN>();
                var dp = array<vec4<f32>, OWN>();
                for (var d = 0u; d < QUADS; d += 1u) {
                    let at = j * TILE_QUADS + d * LANES + lane;
                    let q_part = q_tile[at];
                    let dout_part = dout_tile[at];
                    for (var r = 0u; r < OWN; r += 1u) {
                        scores[r] = fma(k_rows[r * QUADS + d], q_part, scores[r]);
                        dp[r] = fma(v_rows[r * QUADS + d], dout_part, dp[r]);
                    }
                }
                for (var r = 0u; r < OWN; r += 1u) {
                    products[r * DEPTH + j] = vec2<f32>(
                        (scores[r].x + scores[r].y) + (scores[r].z + scores[r].w),
                        (dp[r].x + dp[r].y) + (dp[r].z + dp[r].w),
                    );
                }
            }
            add_lanes(thread, &products);
            for (var j = 0u; j < DEPTH; j += 1u) {
                let query = first + j;
                let row_stats = stats_of(place, query);
                var made = array<vec2<f32>, OWN>();
                for (var r = 0u; r < OWN; r += 1u) {
                    let product = products[r * DEPTH + j];
                    let kept = dropout(place, query, own + r);
                    let seen = is_within(seeing[r], query);
                    let pair = vec2<f32>(biased(product.x, place, query, own + r), product.y);
                    made[r] = weight_and_gradient(pair, row_stats, kept, seen);
                }
                for (var d = 0u; d < QUADS; d += 1u) {
                    let at = j * TILE_QUADS + d * LANES + lane;
                    let q_part = q_tile[at];
                    let dout_part = dout_tile[at];
                    for (var r = 0u; r < OWN; r += 1u) {
                        let sum = r * QUADS + d;
                        dv_sums[sum] = fma(vec4<f32>(made[r].x), dout_part, dv_sums[sum]);
                        dk_sums[sum] = fma(vec4<f32>(made[r].y), q_part, dk_sums[sum]);
                    }
                }
            }
        }
    }
    for (var r = 0u; r < OWN; r += 1u) {
        if own + r >= dims.keys {
            continue;
        }
        for (var d = 0u; d < QUADS; d += 1u) {
            let sum = r * QUADS + d;
            let at = key_at(own_place, own + r);
            store_quads(at, d * LANES + lane, dk_sums[sum] * dims.scale, dv_sums[sum]);
        }
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
    let own_place = place_of_keys(flat, 0u);
    let first = own_place.first + thread * OWN;
    var k_rows: array<vec4<f32>, OWN * QUADS>;
    var v_rows: array<vec4<f32>, OWN * QUADS>;
    var dk_sums: array<vec4<f32>, OWN * QUADS>;
    var dv_sums: array<vec4<f32>, OWN * QUADS>;
    var seeing: array<vec2<u32>, OWN>;
    for (var r = 0u; r < OWN; r += 1u) {
        let own = key_at(own_place, first + r);
        seeing[r] = queries_seeing(own_place, first + r);
        for (var d = 0u; d < QUADS; d += 1u) {
            k_rows[r * QUADS + d] = k_quad(own, d) * dims.scale;
            v_rows[r * QUADS + d] = v_quad(own, d);
        }
    }
    let range = queries_seeing_any(own_place, first, OWN);
    for (var member = 0u; member < dims.heads / dims.kv_heads; member += 1u) {
        let place = place_of_keys(flat, member);
        for (var query = range.x; query < range.y; query += 1u) {
            let at = row_at(place, query);
            var scores = array<vec4<f32>, OWN>();
            var dp = array<vec4<f32>, OWN>();
            for (var d = 0u; d < QUADS; d += 1u) {
                let q_part = q_quad(at, d);
                let dout_part = dout_quad(at, d);
                for (var r = 0u; r < OWN; r += 1u) {
                    scores[r] += k_rows[r * QUADS + d] * q_part;
                    dp[r] += v_rows[r * QUADS + d] * dout_part;
                }
            }
            let row_stats = stats_of(place, query);
            var made = array<vec2<f32>, OWN>();
            for (var r = 0u; r < OWN; r += 1u) {
                let score = (scores[r].x + scores[r].y) + (scores[r].z + scores[r].w);
                let products = vec2<f32>(
                    biased(score, place, query, first + r),
                    (dp[r].x + dp[r].y) + (dp[r].z + dp[r].w),
                );
                let kept = dropout(place, query, first + r);
                let seen = is_within(seeing[r], query);
                made[r] = weight_and_gradient(products, row_stats, kept, seen);
            }
            for (var d = 0u; d < QUADS; d += 1u) {
                let q_part = q_quad(at, d);
                let dout_part = dout_quad(at, d);
                for (var r = 0u; r < OWN; r += 1u) {
                    dv_sums[r * QUADS + d] += dout_part * made[r].x;
                    dk_sums[r * QUADS + d] += q_part * made[r].y;
                }
            }
        }
    }
    for (var r = 0u; r < OWN; r += 1u) {
        if first + r >= dims.keys {
            continue;
        }
        for (var d = 0u; d < QUADS; d += 1u) {
            let at = r * QUADS + d;
            store_quads(key_at(own_place, first + r), d, dk_sums[at] * dims.scale, dv_sums[at]);
        }
    }
}
