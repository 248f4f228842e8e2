// What both backward passes of attention share. With p_ij the softmax's weights, m_ij dropout's factors and
// dp_ij = m_ij · (dout_i · v_j), a score's gradient is ds_ij = p_ij · (dp_ij - delta_i), delta_i = dout_i · out_i; then
// dv_j = Σ_i m_ij · p_ij · dout_i,  dk_j = scale · Σ_i ds_ij · q_i,  dq_i = scale · Σ_j ds_ij · k_j
// (Dao, FlashAttention-2, 2023). The weights are made again from lse, the logarithm of their denominator.
//
// stats  f32 [batch, heads, length, 2]: lse and delta; with a bias, each example's keys behind them [batch]; only read

//#import common/attention.wgsl
//#import common/attention_words.wgsl

@group(0) @binding(7) var<storage, read_write> stats: array<f32>;

// lse and delta of a query; of the last, for one behind it.
fn stats_of(place: Place, query: u32) -> vec2<f32> {
    let at = 2u * (place.pair * dims.length + min(query, dims.length - 1u));
    return vec2<f32>(stats[at], stats[at + 1u]);
}

// Kept weight m · p and gradient ds, of a score and of dout · v; zeros where the query does not see the key.
fn weight_and_gradient(
    products: vec2<f32>,
    stats: vec2<f32>,
    kept: f32,
    is_seen: bool,
) -> vec2<f32> {
    let log_weight = products.x - stats.x;
    let weight = keep_nan(exp(log_weight), log_weight);
    let pair = vec2<f32>(kept * weight, weight * (kept * products.y - stats.y));
    return select(vec2<f32>(), pair, is_seen);
}
