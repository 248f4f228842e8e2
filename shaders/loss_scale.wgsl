// Dynamic loss scaling (Micikevicius et al., "Mixed Precision Training", 2018), as torch.amp.GradScaler: gradients come
// multiplied by the scale. Where their norm is finite, the optimizer's factor divides by it; where it is not, the factor
// is 0, which tells the optimizer to leave out the step, and the scale is halved, down to 2⁻²⁴. It is doubled, up to
// 2²⁴, after `interval` steps in a row that were taken.
//
// dims   uniform: the bound of the true norm, steps to a doubling, 1 - β1, 1 - β2
// norm   f32 [4], updated: squared norm, of gradients that are multiplied by the scale before and true after; the
//        optimizer's factor, min(1, max_norm / (true norm + 1e-6)) / scale; Adam's corrections 1 - β1ᵗ and 1 - β2ᵗ, of
//        the t steps that were taken
// scale  f32 [5], updated: the scale; steps since it last changed; steps left out; the corrections, which go from step to
//        step by 1 - βᵗ = c + (1 - c) · (1 - β) of c = 1 - βᵗ⁻¹
// One thread.

struct Dims {
    max_norm: f32,
    interval: f32,
    one_minus_beta1: f32,
    one_minus_beta2: f32,
}

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read_write> norm: array<f32>;
@group(0) @binding(3) var<storage, read_write> scale: array<f32>;

const LARGEST: f32 = 16777216.0;
const LEAST: f32 = 1.0 / LARGEST;

@compute @workgroup_size(1)
fn loss_scale() {
    // Neither an infinity nor NaN, by its bits.
    if (bitcast<u32>(norm[0]) & 0x7f800000u) == 0x7f800000u {
        norm[1] = 0.0;
        scale[0] = max(0.5 * scale[0], LEAST);
        scale[1] = 0.0;
        scale[2] += 1.0;
        return;
    }
    let inverse = 1.0 / scale[0];
    let length = sqrt(norm[0]) * inverse;
    norm[0] = length * length;
    norm[1] = inverse * min(1.0, dims.max_norm / (length + 1e-6));
    scale[1] += 1.0;
    if scale[1] >= dims.interval {
        scale[0] = min(2.0 * scale[0], LARGEST);
        scale[1] = 0.0;
    }
    scale[3] += (1.0 - scale[3]) * dims.one_minus_beta1;
    scale[4] += (1.0 - scale[4]) * dims.one_minus_beta2;
    norm[2] = scale[3];
    norm[3] = scale[4];
}
