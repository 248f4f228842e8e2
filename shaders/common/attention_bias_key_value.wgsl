// As common/attention_unbiased.wgsl, with a bias: of the backward pass over keys. A kernel binds eight buffers at most, so
// the lengths are read behind the queries' numbers in stats. As those lie in memory that may be written, no bound of a
// loop with barriers may come from them.

//#import common/attention_bias.wgsl

alias bias_type = f32;

@group(0) @binding(5) var<storage, read> bias: array<bias_type>;

fn keys_of(batch: u32) -> u32 {
    return u32(stats[2u * dims.batch * dims.heads * dims.length + batch]);
}

fn loop_keys(place: Place) -> u32 {
    return dims.length;
}
