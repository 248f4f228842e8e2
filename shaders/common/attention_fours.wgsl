// As common/attention_words.wgsl, where a head has 4 · LANES · QUADS columns.

alias q_type = f32;
alias k_type = f32;
alias v_type = f32;
alias dout_type = f32;

@group(0) @binding(2) var<storage, read> q: array<vec4<q_type>>;
@group(0) @binding(3) var<storage, read> k: array<vec4<k_type>>;
@group(0) @binding(4) var<storage, read> v: array<vec4<v_type>>;
@group(0) @binding(6) var<storage, read> dout: array<vec4<dout_type>>;

fn q_quad(at: u32, quad: u32) -> vec4<f32> {
    return vec4<f32>(q[at / 4u + quad]);
}

fn k_quad(at: u32, quad: u32) -> vec4<f32> {
    return vec4<f32>(k[at / 4u + quad]);
}

fn v_quad(at: u32, quad: u32) -> vec4<f32> {
    return vec4<f32>(v[at / 4u + quad]);
}

fn dout_quad(at: u32, quad: u32) -> vec4<f32> {
    return vec4<f32>(dout[at / 4u + quad]);
}
