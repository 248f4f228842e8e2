// out[b, i, h, ·] = Σ_j p_ij · v[b, j, h, ·] with p = dropout(softmax(scale · q · kᵀ + bias)), over the keys that query i
// sees; the bias is there only where common/attention_bias_forward.wgsl is imported. The softmax is made online: the sums are rescaled where the maximum grows, so that no row of scores is ever
// whole (Dao et al., FlashAttention, 2022). A query that sees no key gives 0. Dims: common/attention.wgsl; operands:
// common/attention_words.wgsl.
//
// out  f32 [batch, length, heads · head_dim]
// lse  f32 [batch, heads, length]: m + ln Σ_j exp(score_j - m), for the backward pass; 0 without keys
//
//   tiled   For GPUs: OWN queries are LANES threads', which keep them and their sums in registers; DEPTH keys and their
//           values at a time lie in workgroup memory.
//   direct  For drivers that run on the processor: no workgroup memory, no barriers; a thread takes OWN queries, so
//           that a word that is loaded serves several.
// A workgroup has ROWS queries of one head, over a folded grid.

//#import common/attention.wgsl
//#import common/attention_lanes.wgsl
//#import common/attention_words.wgsl

// A lane's part of q · k.
alias part_type = f32;
alias out_type = f32;

@group(0) @binding(6) var<storage, read_write> out: array<out_type>;
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;

var<workgroup> k_tile: array<vec4<f32>, DEPTH * TILE_QUADS>;
var<workgroup> v_tile: array<vec4<f32>, DEPTH * TILE_QUADS>;

fn store_quad(at: u32, quad: u32, values: vec4<f32>) {
    for (var i = 0u; i < 4u; i += 1u) {
        if 4u * quad + i < dims.head_dim {
            out[at + 4u * quad + i] = out_type(values[i]);
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
    var sums: array<vec4<f32>, OWN * QUADS>;
    var m: array<f32, OWN>;
    var total: array<f32, OWN>;
    var seen_keys: array<vec2<u32>, OWN>;
    for (var r = 0u; r < OWN; r += 1u) {
        m[r] = LOWEST;
        seen_keys[r] = keys_seen(place, own + r);
        for (var d = 0u; d < QUADS; d += 1u) {
            q_rows[r * QUADS + d] = q_quad(row_at(place, own + r), d * LANES + lane) * dims.scale;
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
        var scores = array<part_type, OWN * DEPTH>();
        for (var j = 0u; j < DEPTH; j += 1u) {
            var parts = array<vec4<f32>, OWN>();
            for (var d = 0u; d < QUADS; d += 1u) {
                let k_part = k_tile[j * TILE_QUADS + d * LANES + lane];
                for (var r = 0u; r < OWN; r += 1u) {
                    parts[r] = fma(q_rows[r * QUADS + d], k_part, parts[r]);
                }
            }
            for (var r = 0u; r < OWN; r += 1u) {
                scores[r * DEPTH + j] = (parts[r].x + parts[r].y) + (parts[r].z + parts[r].w);
            }
        }
        add_lanes(thread, &scores);
        for (var r = 0u; r < OWN; r += 1u) {
            var top = m[r];
            for (var j = 0u; j < DEPTH; j += 1u) {
                let score = biased(scores[r * DEPTH + j], place, own + r, first + j);
                top = max(top, select(LOWEST, score, is_within(seen_keys[r], first + j)));
                scores[r * DEPTH + j] = score;
            }
            let shrink = exp(m[r] - top);
            total[r] *= shrink;
            for (var d = 0u; d < QUADS; d += 1u) {
                sums[r * QUADS + d] *= shrink;
            }
            m[r] = top;
        }
        for (var j = 0u; j < DEPTH; j += 1u) {
            let key = first + j;
            var kept = array<f32, OWN>();
            for (var r = 0u; r < OWN; r += 1u) {
                let score = scores[r * DEPTH + j];
                let seen = is_within(seen_keys[r], key);
                let weight = select(0.0, keep_nan(exp(score - m[r]), score), seen);
                total[r] += weight;
                kept[r] = weight * dropout(place, own + r, key);
            }
            for (var d = 0u; d < QUADS; d += 1u) {
                let v_part = v_tile[j * TILE_QUADS + d * LANES + lane];
                for (var r = 0u; r < OWN; r += 1u) {
                    sums[r * QUADS + d] = fma(vec4<f32>(kept[r]), v_part, sums[r * QUADS + d]);
                }
            }
        }
    }
    for (var r = 0u; r < OWN; r += 1u) {
        if own + r >= dims.length {
            continue;
        }
        let is_seeing = seen_keys[r].y > seen_keys[r].x;
        let share = select(0.0, 1.0 / total[r], is_seeing);
        for (var d = 0u; d < QUADS; d += 1u) {
            store_quad(row_at(place, own + r), d * LANES + lane, sums[r * QUADS + d] * share);
        }
        if lane == 0u {
            let log_total = m[r] + keep_nan(log(total[r]), total[r]);
            lse[place.pair * dims.length + own + r] = select(0.0, log_total, is_seeing);
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
    var sums: array<vec4<f32>, OWN * QUADS>;
    var m: array<f32, OWN>;
    var total: array<f32, OWN>;
    var seen_keys: array<vec2<u32>, OWN>;
    for (var r = 0u; r < OWN; r += 1u) {
        m[r] = LOWEST;
        seen_keys[r] = keys_seen(place, first + r);
        for (var d = 0u; d < QUADS; d += 1u) {
            q_rows[r * QUADS + d] = q_quad(row_at(place, first + r), d) * dims.scale;
        }
    }
    for (var key = seen_keys[0].x; key < seen_keys[OWN - 1u].y; key += 1u) {
        let at = key_at(place, key);
        var scores = array<vec4<f32>, OWN>();
        for (var d = 0u; d < QUADS; d += 1u) {
            let quad = k_quad(at, d);
            for (var r = 0u; r < OWN; r += 1u) {
                scores[r] += q_rows[r * QUADS + d] * quad;
            }
        }
        var shrink = array<f32, OWN>();
        var kept = array<f32, OWN>();
        for (var r = 0u; r < OWN; r += 1u) {
            let seen = is_within(seen_keys[r], key);
            let product = (scores[r].x + scores[r].y) + (scores[r].z + scores[r].w);
            let score = biased(product, place, first + r, key);
            let top = max(m[r], select(LOWEST, score, seen));
            shrink[r] = exp(m[r] - top);
            let weight = select(0.0, keep_nan(exp(score - top), score), seen);
            m[r] = top;
            total[r] = total[r] * shrink[r] + weight;
            kept[r] = weight * dropout(place, first + r, key);
        }
        for (var d = 0u; d < QUADS; d += 1u) {
            let quad = v_quad(at, d);
            for (var r = 0u; r < OWN; r += 1u) {
                sums[r * QUADS + d] = sums[r * QUADS + d] * shrink[r] + quad * kept[r];
            }
        }
    }
    for (var r = 0u; r < OWN; r += 1u) {
        let query = first + r;
        if query >= dims.length {
            continue;
        }
        let is_seeing = seen_keys[r].y > seen_keys[r].x;
        let share = select(0.0, 1.0 / total[r], is_seeing);
        for (var d = 0u; d < QUADS; d += 1u) {
            store_quad(row_at(place, query), d, sums[r * QUADS + d] * share);
        }
        let log_total = m[r] + keep_nan(log(total[r]), total[r]);
        lse[place.pair * dims.length + query] = select(0.0, log_total, is_seeing);
    }
}
