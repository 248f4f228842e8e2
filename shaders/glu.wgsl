// Gated linear units (Shazeer, "GLU Variants Improve Transformer", 2020) of rows that hold gate and value side by side:
//   out[r, c] = act(gate[r, c]) · value[r, c]
// and their gradient:
//   dgate = dout · value · act'(gate),  dvalue = dout · act(gate)
//
// dims     uniform: elements of out, half (columns of out), first column of the gates, of the values
// x        f32 [rows, 2 · half]; where they lie apart the gates [rows, half], and the values are operands of their own
// values   f32 [rows, half], of the `_apart` entries
// out      f32 [rows, half]
// dout     f32 [rows, half]
// dx       f32 [rows, 2 · half]
// dgates, dvalues  f32 [rows, half], of the `_apart` entries
//
// A thread takes ROUNDS elements of out, 64 apart; 64 threads a workgroup, over a folded grid.

//#import common/rounds.wgsl
//#import common/activation.wgsl

struct Dims {
    len: u32,
    half: u32,
    gate: u32,
    value: u32,
}

// 0 sigmoid, 1 relu, 2 gelu, 3 gelu by tanh, 4 silu.
override ACTIVATION: u32 = 0u;

alias x_type = f32;
alias dout_type = f32;
alias out_type = f32;
alias dx_type = f32;
alias values_type = f32;
alias dgates_type = f32;
alias dvalues_type = f32;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> x: array<x_type>;
@group(0) @binding(3) var<storage, read_write> out: array<out_type>;
@group(0) @binding(3) var<storage, read> dout: array<dout_type>;
@group(0) @binding(4) var<storage, read_write> dx: array<dx_type>;
@group(0) @binding(4) var<storage, read> values: array<values_type>;
@group(0) @binding(5) var<storage, read_write> dgates: array<dgates_type>;
@group(0) @binding(6) var<storage, read_write> dvalues: array<dvalues_type>;

fn activated(gate: f32) -> f32 {
    switch ACTIVATION {
        case 1u: {
            return relu(gate);
        }
        case 2u: {
            return gelu_erf(gate);
        }
        case 3u: {
            return gelu_tanh(gate);
        }
        case 4u: {
            return gate * sigmoid(gate);
        }
        default: {
            return sigmoid(gate);
        }
    }
}

fn slope(gate: f32) -> f32 {
    switch ACTIVATION {
        case 1u: {
            return select(0.0, 1.0, gate > 0.0);
        }
        case 2u: {
            return gelu_erf_derivative(gate);
        }
        case 3u: {
            return gelu_tanh_derivative(gate);
        }
        case 4u: {
            let s = sigmoid(gate);
            return s + gate * s * (1.0 - s);
        }
        default: {
            let s = sigmoid(gate);
            return s * (1.0 - s);
        }
    }
}

@compute @workgroup_size(64)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = first_of(group, groups, lane);
    for (var i = first; i < end_of(first, dims.len); i += 64u) {
        // Element c of row r of out is i = r · half + c, and r · 2 · half + c of x.
        let at = i + i / dims.half * dims.half;
        out[i] = out_type(activated(f32(x[at + dims.gate])) * f32(x[at + dims.value]));
    }
}

@compute @workgroup_size(64)
fn backward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = first_of(group, groups, lane);
    for (var i = first; i < end_of(first, dims.len); i += 64u) {
        let at = i + i / dims.half * dims.half;
        let gate = f32(x[at + dims.gate]);
        let value = f32(x[at + dims.value]);
        let upstream = f32(dout[i]);
        dx[at + dims.gate] = dx_type(upstream * value * slope(gate));
        dx[at + dims.value] = dx_type(upstream * activated(gate));
    }
}

@compute @workgroup_size(64)
fn forward_apart(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = first_of(group, groups, lane);
    for (var i = first; i < end_of(first, dims.len); i += 64u) {
        out[i] = out_type(activated(f32(x[i])) * f32(values[i]));
    }
}

@compute @workgroup_size(64)
fn backward_apart(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = first_of(group, groups, lane);
    for (var i = first; i < end_of(first, dims.len); i += 64u) {
        let gate = f32(x[i]);
        let upstream = f32(dout[i]);
        dgates[i] = dgates_type(upstream * f32(values[i]) * slope(gate));
        dvalues[i] = dvalues_type(upstream * activated(gate));
    }
}
