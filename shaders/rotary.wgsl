// Rotary position embeddings (Su et al., "RoFormer", 2021), the two halves of a head's rotated columns being the pairs, as
// in GPT-NeoX, Llama and ModernBERT: for position p and d < half, of each head
//   out[d]        = x[d] · cos[p, d] - x[d + half] · sin[p, d]
//   out[d + half] = x[d + half] · cos[p, d] + x[d] · sin[p, d]
// Columns from 2 · half on are copied. INVERSE turns by the negative angle, which is the gradient: then x is dout, out dx.
//
// dims      uniform: units, length, units of a position, units of a head, half, head_dim
// x         f32 [batch, length, heads · head_dim]
// cos, sin  f32 [length or more, half], made by the host: WGSL promises little of its own
// out       f32, of x's shape
//
// A unit is a pair, or a column that is copied: head_dim - half a head. A thread takes ROUNDS units, 64 apart; 64 threads a
// workgroup, over a folded grid.

//#import common/rounds.wgsl

struct Dims {
    units: u32,
    length: u32,
    position_units: u32,
    head_units: u32,
    half: u32,
    head_dim: u32,
}

override INVERSE: bool = false;

alias x_type = f32;
alias out_type = f32;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> x: array<x_type>;
@group(0) @binding(3) var<storage, read> cos_table: array<f32>;
@group(0) @binding(4) var<storage, read> sin_table: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<out_type>;

@compute @workgroup_size(64)
fn rotary(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = first_of(group, groups, lane);
    for (var unit = first; unit < end_of(first, dims.units); unit += 64u) {
        let of_head = unit % dims.head_units;
        let start = unit / dims.head_units * dims.head_dim;
        if of_head < dims.half {
            let angle = unit / dims.position_units % dims.length * dims.half + of_head;
            let cosine = cos_table[angle];
            let sine = select(sin_table[angle], -sin_table[angle], INVERSE);
            let at = start + of_head;
            let a = f32(x[at]);
            let b = f32(x[at + dims.half]);
            out[at] = out_type(a * cosine - b * sine);
            out[at + dims.half] = out_type(b * cosine + a * sine);
        } else {
            let at = start + dims.half + of_head;
            out[at] = out_type(f32(x[at]));
        }
    }
}
