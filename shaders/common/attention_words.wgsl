// q, dout  f32 [batch, length, heads · head_dim]; dout is the backward passes' alone
// k, v     f32 [batch, keys, kv_heads · head_dim]
//
// Loaded word by word, for a head of any number of columns; what is behind its last is 0. common/attention_fours.wgsl loads
// four at once.

alias q_type = f32;
alias k_type = f32;
alias v_type = f32;
alias dout_type = f32;

@group(0) @binding(2) var<storage, read> q: array<q_type>;
@group(0) @binding(3) var<storage, read> k: array<k_type>;
@group(0) @binding(4) var<storage, read> v: array<v_type>;
@group(0) @binding(6) var<storage, read> dout: array<dout_type>;

// Columns of a quad; columns behind the last become it, and are dropped by `inside`.
fn columns(quad: u32) -> vec4<u32> {
    return min(4u * quad + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(dims.head_dim - 1u));
}

fn inside(quad: u32, values: vec4<f32>) -> vec4<f32> {
    let is_inside = 4u * quad + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(dims.head_dim);
    return select(vec4<f32>(), values, is_inside);
}

fn q_quad(at: u32, quad: u32) -> vec4<f32> {
    let c = at + columns(quad);
    return inside(quad, vec4<f32>(vec4<q_type>(q[c.x], q[c.y], q[c.z], q[c.w])));
}

fn k_quad(at: u32, quad: u32) -> vec4<f32> {
    let c = at + columns(quad);
    return inside(quad, vec4<f32>(vec4<k_type>(k[c.x], k[c.y], k[c.z], k[c.w])));
}

fn v_quad(at: u32, quad: u32) -> vec4<f32> {
    let c = at + columns(quad);
    return inside(quad, vec4<f32>(vec4<v_type>(v[c.x], v[c.y], v[c.z], v[c.w])));
}

fn dout_quad(at: u32, quad: u32) -> vec4<f32> {
    let c = at + columns(quad);
    return inside(quad, vec4<f32>(vec4<dout_type>(dout[c.x], dout[c.y], dout[c.z], dout[c.w])));
}
