// A scaled score with its bias. What is bound as `bias` is the importing file's affair:
//
// bias  f32 [1 or batch, heads, length, length]

// First element of a query's row of the bias; of the last row, for one behind it.
fn bias_row(pair: u32, query: u32) -> u32 {
    return (pair % dims.bias_pairs * dims.length + min(query, dims.length - 1u)) * dims.length;
}

fn biased(score: f32, place: Place, query: u32, key: u32) -> f32 {
    return score + f32(bias[bias_row(place.pair, query) + min(key, dims.length - 1u)]);
}
