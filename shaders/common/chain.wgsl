// A chain of at most six elementwise stages, applied to a value before it is stored. Stage codes are
// overrides, so the driver keeps only the stages in use. Twin of kernels/src/chain.rs.
// The importing shader declares `dims.chain: Chain` and the operands x0, x1, x2.

//#import common/step.wgsl
//#import common/random.wgsl
//#import common/activation.wgsl

alias x0_type = f32;
alias x1_type = f32;
alias x2_type = f32;

struct Chain {
    // Extents of the output; coordinates run over them, the last fastest.
    extent: vec4<u32>,
    // Strides of each operand over the output's coordinates: 0 where it is broadcast.
    strides: array<vec4<u32>, 3>,
    // Two numbers a stage.
    params: array<vec4<f32>, 6>,
}

override STAGE0: u32 = 0u;
override STAGE1: u32 = 0u;
override STAGE2: u32 = 0u;
override STAGE3: u32 = 0u;
override STAGE4: u32 = 0u;
override STAGE5: u32 = 0u;
override OPERAND0: u32 = 0u;
override OPERAND1: u32 = 0u;
override OPERAND2: u32 = 0u;
override OPERAND3: u32 = 0u;
override OPERAND4: u32 = 0u;
override OPERAND5: u32 = 0u;

fn chain_operand(which: u32, coord: vec4<u32>) -> f32 {
    let index = dot(coord, dims.chain.strides[which]);
    switch which {
        case 0u: { return f32(x0[index]); }
        case 1u: { return f32(x1[index]); }
        default: { return f32(x2[index]); }
    }
}

fn chain_stage(stage: u32, which: u32, params: vec4<f32>, v: f32, coord: vec4<u32>) -> f32 {
    switch stage {
        case 1u: { return relu(v); }
        case 2u: { return gelu_erf(v); }
        case 3u: { return gelu_tanh(v); }
        case 4u: { return tanh_safe(v); }
        case 5u: { return sigmoid(v); }
        case 6u: { return exp(v); }
        case 7u: { return log(v); }
        case 8u: { return sqrt(v); }
        case 9u: { return v * v; }
        case 10u: { return 1.0 / v; }
        case 11u: { return v * params.x + params.y; }
        case 12u: { return params.x; }
        case 13u: {
            let e = dims.chain.extent;
            let index = ((coord.x * e.y + coord.y) * e.z + coord.z) * e.w + coord.w;
            let unit = random_unit(state.seed, bitcast<u32>(params.y), state.step, index);
            return select(0.0, v / (1.0 - params.x), unit >= params.x);
        }
        case 14u: { return relu6(v); }
        case 15u: { return v * hard_sigmoid(v); }
        case 16u: { return v * sigmoid(v); }
        case 20u: { return v + chain_operand(which, coord); }
        case 21u: { return v - chain_operand(which, coord); }
        case 22u: { return v * chain_operand(which, coord); }
        case 23u: { return v / chain_operand(which, coord); }
        case 24u: { return max(v, chain_operand(which, coord)); }
        case 25u: { return min(v, chain_operand(which, coord)); }
        case 26u: { return select(0.0, v, chain_operand(which, coord) > 0.0); }
        case 27u: { return v * gelu_erf_derivative(chain_operand(which, coord)); }
        case 28u: { return v * gelu_tanh_derivative(chain_operand(which, coord)); }
        case 29u: { let y = chain_operand(which, coord); return v * (1.0 - y * y); }
        case 30u: { let y = chain_operand(which, coord); return v * (y * (1.0 - y)); }
        case 31u: { return chain_operand(which, coord) - v; }
        case 32u: { return chain_operand(which, coord) / v; }
        case 33u: {
            let x = chain_operand(which, coord);
            return select(0.0, v, x > 0.0 && x < 6.0);
        }
        case 34u: { return v * hard_swish_derivative(chain_operand(which, coord)); }
        case 35u: {
            let x = chain_operand(which, coord);
            return v * sigmoid(x) * (1.0 + x * sigmoid(-x));
        }
        default: { return v; }
    }
}

fn chain_apply(value: f32, coord: vec4<u32>) -> f32 {
    var v = value;
    v = chain_stage(STAGE0, OPERAND0, dims.chain.params[0], v, coord);
    v = chain_stage(STAGE1, OPERAND1, dims.chain.params[1], v, coord);
    v = chain_stage(STAGE2, OPERAND2, dims.chain.params[2], v, coord);
    v = chain_stage(STAGE3, OPERAND3, dims.chain.params[3], v, coord);
    v = chain_stage(STAGE4, OPERAND4, dims.chain.params[4], v, coord);
    v = chain_stage(STAGE5, OPERAND5, dims.chain.params[5], v, coord);
    return v;
}
