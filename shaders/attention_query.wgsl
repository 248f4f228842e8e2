// dq of attention; the formulas, operands and dims are in common/attention_backward.wgsl and common/attention.wgsl.
//
// dq  f32 [batch, length, heads · head_dim]
//
//   tiled   For GPUs: OWN queries are LANES threads', which keep them, their dout and their dq in registers; DEPTH keys
//           and their values at a time lie in workgroup memory.
//   direct  For drivers that run on the processor: a thread takes OWN queries.
// A workgroup has ROWS queries of one head, over a folded grid.

//#import common/attention_backward.wgsl
//#import common/attention_lanes.wgsl

// A lane's part of q · k and dout · v.
alias part_type = vec2<f32>;
alias dq_type = f32;

@group(0) @binding(8) var<storage, read_write> dq: array<dq_type>;

var<workgroup> k_tile: array<vec4<f32>, DEPTH * TILE_QUADS>;
var<workgroup> v_tile: array<vec4<f32>, DEPTH * TILE_QUADS>;

fn store_quad(at: u32, quad: u32, values: vec4<f32>) {
    for (var i = 0u; i < 4u; i += 1u) {
        if 4u * quad + i < dims.head_dim {
            dq[at + 4u * quad + i] = dq_type(values[i]);
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
    let place = place_of(flat);
    let lane = thread % LANES;
    let own = place.first + thread / LANES * OWN;
    var q_rows: array<vec4<f32>, OWN * QUADS>;
    var dout_rows: array<vec4<f32>, OWN * QUADS>;
    var sums: array<vec4<f32>, OWN * QUADS>;
    var row_stats: array<vec2<f32>, OWN>;
    var seen_keys: array<vec2<u32>, OWN>;
    for (var r = 0u; r < OWN; r += 1u) {
        let at = row_at(place, own + r);
        row_stats[r] = stats_of(place, own + r);
        seen_keys[r] = keys_seen(place, own + r);
        for (var d = 0u; d < QUADS; d += 1u) {
            q_rows[r * QUADS + d] = q_quad(at, d * LANES + lane) * dims.scale;
            dout_rows[r * QUADS + d] = dout_quad(at, d * LANES + lane);
        }
    }
    let tiles_end = keys_seen(place, place.first + ROWS - 1u).y;
    for (var first = keys_seen(place, place.first).x; first < tiles_end; first += DEPTH) {
        workgroupBarrier();
        for (var i = thread; i < DEPTH * TILE_QUADS; i += ROWS / OWN * LANES) {
            let key = first + i / TILE_QUADS;
            let at = key_at(place, key);
            // Padding may hold anything, even NaN.
            let is_key = vec4<bool>(key < min(place.keys, tiles_end));
            k_tile[i] = select(vec4<f32>(), k_quad(at, i % TILE_QUADS), is_key);
            v_tile[i] = select(vec4<f32>(), v_quad(at, i % TILE_QUADS), is_key);
        }
        workgroupBarrier();
        var products = array<part_type, OWN * DEPTH>();
        for (var j = 0u; j < DEPTH; j += 1u) {
            var scores = array<vec4<f32>, OWN>();
            var dp = array<vec4<f32>, OWN>();
            for (var d = 0u; d < QUADS; d += 1u) {
                let at = j * TILE_QUADS + d * LANES + lane;
                let k_part = k_tile[at];
                let v_part = v_tile[at];
                for (var r = 0u; r < OWN; r += 1u) {
                    scores[r] = fma(q_rows[r * QUADS + d], k_part, scores[r]);
                    dp[r] = fma(dout_rows[r * QUADS + d], v_part, dp[r]);
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
            let key = first + j;
            var ds = array<f32, OWN>();
            for (var r = 0u; r < OWN; r += 1u) {
                let product = products[r * DEPTH + j];
                let kept = dropout(place, own + r, key);
                let seen = is_within(seen_keys[r], key);
                let pair = vec2<f32>(biased(product.x, place, own + r, key), product.y);
                ds[r] = weight_and_gradient(pair, row_stats[r], kept, seen).y;
            }
            for (var d = 0u; d < QUADS; d += 1u) {
                let k_part = k_tile[j * TILE_QUADS + d * LANES + lane];
                for (var r = 0u; r < OWN; r += 1u) {
                    sums[r * QUADS + d] = fma(vec4<f32>(ds[r]), k_part, sums[r * QUADS + d]);
                }
            }
        }
    }
    for (var r = 0u; r < OWN; r += 1u) {
        if own + r >= dims.length {
            continue;
        }
        for (var d = 0u; d < QUADS; d += 1u) {
            let quad = d * LANES + lane;
            store_quad(row_at(place, own + r), quad, sums[r * QUADS + d] * dims.scale);
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
    let place = place_of(flat);
    let first = place.first + thread * OWN;
    var q_rows: array<vec4<f32>, OWN * QUADS>;
    var dout_rows: array<vec4<f32>, OWN * QUADS>;
    var sums: array<vec4<f32>, OWN * QUADS>;
    var row_stats: array<vec2<f32>, OWN>;
    var seen_keys: array<vec2<u32>, OWN>;
    for (var r = 0u; r < OWN; r += 1u) {
        seen_keys[r] = keys_seen(place, first + r);
        let own = row_at(place, first + r);
        row_stats[r] = stats_of(place, first + r);
        for (var d = 0u; d < QUADS; d += 1u) {
            q_rows[r * QUADS + d] = q_quad(own, d) * dims.scale;
            dout_rows[r * QUADS + d] = dout_quad(own, d);
        }
    }
    for (var key = seen_keys[0].x; key < seen_keys[OWN - 1u].y; key += 1u) {
        let at = key_at(place, key);
        var scores = array<vec4<f32>, OWN>();
        var dp = array<vec4<f32>, OWN>();
        for (var d = 0u; d < QUADS; d += 1u) {
            let k_part = k_quad(at, d);
            let v_part = v_quad(at, d);
            for (var r = 0u; r < OWN; r += 1u) {
                scores[r] += q_rows[r * QUADS + d] * k_part;
                dp[r] += dout_rows[r * QUADS + d] * v_part;
            }
        }
        var ds = array<f32, OWN>();
        for (var r = 0u; r < OWN; r += 1u) {
            let score = (scores[r].x + scores[r].y) + (scores[r].z + scores[r].w);
            let products = vec2<f32>(
                biased(score, place, first + r, key),
                (dp[r].x + dp[r].y) + (dp[r].z + dp[r].w),
            );
            let kept = dropout(place, first + r, key);
            let seen = is_within(seen_keys[r], key);
            ds[r] = weight_and_gradient(products, row_stats[r], kept, seen).y;
        }
        for (var d = 0u; d < QUADS; d += 1u) {
            let k_part = k_quad(at, d);
            for (var r = 0u; r < OWN; r += 1u) {
                sums[r * QUADS + d] += k_part * ds[r];
            }
        }
    }
    for (var r = 0u; r < OWN; r += 1u) {
        if first + r >= dims.length {
            continue;
        }
        for (var d = 0u; d < QUADS; d += 1u) {
            store_quad(row_at(place, first + r), d, sums[r * QUADS + d] * dims.scale);
        }
    }
}
