// As common/attention_unbiased.wgsl, with a bias: of the backward passes over queries and over the bias.

//#import common/attention_bias.wgsl

alias bias_type = f32;

@group(0) @binding(5) var<storage, read> lengths: array<i32>;
@group(0) @binding(9) var<storage, read> bias: array<bias_type>;

fn keys_of(batch: u32) -> u32 {
    return u32(clamp(lengths[batch], 0, i32(dims.length)));
}

fn loop_keys(place: Place) -> u32 {
    return place.keys;
}
