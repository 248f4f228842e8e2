// Activations and their derivatives.

const SQRT_HALF: f32 = 0.70710678;
const INV_SQRT_TWO_PI: f32 = 0.39894228;
const SQRT_TWO_OVER_PI: f32 = 0.79788456;
const GELU_CUBIC: f32 = 0.044715;

// Keeps NaN, which max(x, 0) may drop.
fn relu(x: f32) -> f32 {
    return select(x, 0.0, x < 0.0);
}

// Keeps NaN too.
fn relu6(x: f32) -> f32 {
    return select(relu(x), 6.0, x > 6.0);
}

// min(max(x + 3, 0), 6) / 6, Howard et al. 2019.
fn hard_sigmoid(x: f32) -> f32 {
    return relu6(x + 3.0) / 6.0;
}

// That of x · hard_sigmoid(x); at the kinks, -3 and 3, it is 0 and 1.
fn hard_swish_derivative(x: f32) -> f32 {
    let between = select(x / 3.0 + 0.5, 0.0, x <= -3.0);
    return select(between, 1.0, x >= 3.0);
}

// A driver's tanh may overflow through exp; beyond 10 it is 1 in f32.
fn tanh_safe(x: f32) -> f32 {
    return tanh(clamp(x, -10.0, 10.0));
}

fn sigmoid(x: f32) -> f32 {
    let e = exp(-abs(x));
    return select(1.0, e, x < 0.0) / (1.0 + e);
}

// erfc(z) = t · exp(P(t) - z²) with t = 1 / (1 + z / 2), z ≥ 0. P: a Chebyshev fit of degree 9,
// off by less than 1e-7 before rounding.
fn erfc_positive(z: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.5 * z);
    var p = 0.172266307;
    p = p * t - 0.827048856;
    p = p * t + 1.493737;
    p = p * t - 1.13402329;
    p = p * t + 0.271623533;
    p = p * t - 0.179522043;
    p = p * t + 0.0937031309;
    p = p * t + 0.374838725;
    p = p * t + 0.999933679;
    p = p * t - 1.26550811;
    return t * exp(p - z * z);
}

// The standard normal distribution function Φ(x) = erfc(-x / √2) / 2, accurate in both tails.
fn normal_cdf(x: f32) -> f32 {
    let tail = 0.5 * erfc_positive(abs(x) * SQRT_HALF);
    return select(1.0 - tail, tail, x < 0.0);
}

// gelu(x) = x · Φ(x), Hendrycks and Gimpel 2016.
fn gelu_erf(x: f32) -> f32 {
    return x * normal_cdf(x);
}

fn gelu_erf_derivative(x: f32) -> f32 {
    return normal_cdf(x) + x * INV_SQRT_TWO_PI * exp(-0.5 * x * x);
}

// Their tanh approximation.
fn gelu_tanh(x: f32) -> f32 {
    return 0.5 * x * (1.0 + tanh_safe(SQRT_TWO_OVER_PI * (x + GELU_CUBIC * x * x * x)));
}

fn gelu_tanh_derivative(x: f32) -> f32 {
    let t = tanh_safe(SQRT_TWO_OVER_PI * (x + GELU_CUBIC * x * x * x));
    let inner = SQRT_TWO_OVER_PI * (1.0 + 3.0 * GELU_CUBIC * x * x);
    return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner;
}
