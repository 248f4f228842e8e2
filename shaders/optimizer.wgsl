// One optimizer step over a contiguous range of the parameter store, in PyTorch's conventions
// (torch.optim.SGD, Adam, AdamW). g is the gradient times the clip factor, wd the weight decay,
// lr = learning_rate · lr_scale; bc1 = 1 - β1ᵗ and bc2 = 1 - β2ᵗ come with the step state.
//
// sgd       g += wd · p;  p -= lr · g
// momentum  g += wd · p;  m = momentum · m + g;  p -= lr · (g + momentum · m if NESTEROV else m)
// adam      g += wd · p, or if DECOUPLED p *= 1 - lr · wd;
//           m += (1 - β1) · (g - m);  v = β2 · v + (1 - β2) · g²;
//           p -= lr / bc1 · m / (√v / √bc2 + eps)
// Kingma and Ba 2015; Loshchilov and Hutter 2019 for the decoupled decay; Sutskever et al. 2013 for
// Nesterov's momentum.
//
// dims     uniform: words of the range and the constants above
// params   f32 [len], updated
// grads    f32 [len]
// norm     f32 [2], with CLIP: squared norm, clip factor; with UNSCALE (loss_scale.wgsl) f32 [4]: a factor of 0 leaves out
//          the step, and behind it lie bc1 and bc2
// moment1  f32 [len], updated: m (momentum, adam)
// moment2  f32 [len], updated: v (adam)

//#import common/rounds.wgsl
//#import common/word.wgsl

struct Dims {
    len: u32,
    lr_scale: f32,
    weight_decay: f32,
    eps: f32,
    momentum: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
}

override CLIP: bool = false;
override UNSCALE: bool = false;
override NESTEROV: bool = false;
override DECOUPLED: bool = false;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read_write> params: array<Word>;
@group(0) @binding(3) var<storage, read> grads: array<Word>;
@group(0) @binding(4) var<storage, read> norm: array<f32>;
@group(0) @binding(5) var<storage, read_write> moment1: array<Word>;
@group(0) @binding(6) var<storage, read_write> moment2: array<Word>;

fn learning_rate() -> f32 {
    return state.learning_rate * dims.lr_scale;
}

// What the thread's elements are below: none where the step is left out.
fn end_of_step(first: u32) -> u32 {
    if UNSCALE && norm[1] == 0.0 {
        return 0u;
    }
    return end_of(first, dims.len);
}

fn clipped(i: u32) -> Word {
    if CLIP {
        return grads[i] * norm[1];
    }
    return grads[i];
}

@compute @workgroup_size(64)
fn sgd(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = first_of(group, groups, lane);
    let end = end_of_step(first);
    for (var i = first; i < end; i += 64u) {
        let p = params[i];
        params[i] = p - learning_rate() * (clipped(i) + dims.weight_decay * p);
    }
}

@compute @workgroup_size(64)
fn momentum(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = first_of(group, groups, lane);
    let end = end_of_step(first);
    for (var i = first; i < end; i += 64u) {
        let p = params[i];
        let g = clipped(i) + dims.weight_decay * p;
        let m = dims.momentum * moment1[i] + g;
        moment1[i] = m;
        var direction = m;
        if NESTEROV {
            direction = g + dims.momentum * m;
        }
        params[i] = p - learning_rate() * direction;
    }
}

@compute @workgroup_size(64)
fn adam(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = first_of(group, groups, lane);
    let end = end_of_step(first);
    var corrections = vec2<f32>(state.bias_correction1, state.bias_correction2);
    if UNSCALE {
        corrections = vec2<f32>(norm[2], norm[3]);
    }
    for (var i = first; i < end; i += 64u) {
        let lr = learning_rate();
        var p = params[i];
        var g = clipped(i);
        if DECOUPLED {
            p *= 1.0 - lr * dims.weight_decay;
        } else {
            g += dims.weight_decay * p;
        }
        let m = moment1[i] + dims.one_minus_beta1 * (g - moment1[i]);
        let v = dims.beta2 * moment2[i] + dims.one_minus_beta2 * g * g;
        moment1[i] = m;
        moment2[i] = v;
        let denominator = sqrt(v) / sqrt(corrections.y) + dims.eps;
        params[i] = p - lr / corrections.x * m / denominator;
    }
}
