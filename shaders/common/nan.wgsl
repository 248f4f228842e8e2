// NaN, tested by its bits: a driver may assume that there is none, and its exp, log and max may lose it.

fn is_nan(v: f32) -> bool {
    return (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u;
}

// f(v), or NaN where v is.
fn keep_nan(result: f32, v: f32) -> f32 {
    return select(result, v, is_nan(v));
}
