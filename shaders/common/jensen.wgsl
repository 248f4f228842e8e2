// What one outcome adds to a generalised Jensen-Shannon divergence, and a series of which none of the terms cancel.

//#import common/log1p.wgsl

// From here on e^-x is nothing beside 1.
const FAR: f32 = 100.0;

// e^-u - 1, and e^-u - 1 + u, of u >= 0.
struct Decay {
    below: Word,
    rest: Word,
}

fn decay(u: Word) -> Decay {
    let tail = 0.16666667 - u * (0.041666668 - u * (0.008333334 - u * 0.0013888889));
    let series = u * u * (0.5 - u * tail);
    let is_near = u < Word(0.25);
    let below = select(exp(-u) - 1.0, series - u, is_near);
    let rest = select(below + u, series, is_near);
    return Decay(below, rest);
}

// Σ_k (w - w^k) d^k c_k over k = 2 … 9, the c_k in two vectors, of w in (0, 1) and v = 1 - w.
fn rising_series(d: Word, w: Word, v: Word, low: vec4<f32>, high: vec4<f32>) -> Word {
    // (1 - w^n) / (1 - w)
    let s2 = 1.0 + w;
    let s3 = 1.0 + w * s2;
    let s4 = 1.0 + w * s3;
    let s5 = 1.0 + w * s4;
    let s6 = 1.0 + w * s5;
    let s7 = 1.0 + w * s6;
    let s8 = 1.0 + w * s7;
    let upper = high.x * s5 + d * (high.y * s6 + d * (high.z * s7 + d * (high.w * s8)));
    let sum = low.x + d * (low.y * s2 + d * (low.z * s3 + d * (low.w * s4 + d * upper)));
    return w * v * d * d * sum;
}

// Of the larger of two probabilities and the smaller, which is it times r = e^-u, with weights 1 - w and w:
//   (1 - w) ln(1 / m) + w r ln(r / m), m = 1 - w + w r
// in shares of the larger. With d = 1 - r it is Σ_k (w - w^k) d^k / (k (k - 1)).
fn jensen(below: Word, u: Word, w: Word) -> Word {
    let d = -below;
    let v = 1.0 - w;
    let low = vec4<f32>(0.5, 0.16666667, 0.083333336, 0.05);
    let high = vec4<f32>(0.033333335, 0.023809524, 0.017857144, 0.013888889);
    let near = rising_series(d, w, v, low, high);
    let far = -(1.0 - w * d) * log1p(-w * d) - w * (1.0 - d) * min(u, Word(FAR));
    return select(far, near, u < Word(0.25));
}
