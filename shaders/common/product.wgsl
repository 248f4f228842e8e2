// What the matrix products share: operands and dims.
//
// dims    uniform: the chain (the product of its extents is batch · m · n, extent.w is n), m, n, k, strides of A and B
//         in elements (row and column of the untransposed operand's view, and batch; a batch stride of 0 broadcasts),
//         and from one row of out to the next
// a       f32, A(i, k) at batch · a_batch + i · a_row + k · a_col (common/a_rows.wgsl), or an image of which A's rows are
//         patches (common/a_patches.wgsl); also in fours
// b       B(k, j) at batch · b_batch + k · b_row + j · b_col; also in fours; in f32 (common/b_f32.wgsl) or f16
// x0..x2  f32, the epilogue's operands (bias, residual, activations of the forward pass)
// out     f32 [batch, m, n], row by row

//#import common/a_rows.wgsl
//#import common/b_f32.wgsl
//#import common/epilogue.wgsl

struct Dims {
    chain: Chain,
    m: u32,
    n: u32,
    k: u32,
    first_block: u32,
    a_row: u32,
    a_col: u32,
    a_batch: u32,
    b_row: u32,
    b_col: u32,
    b_batch: u32,
    out_row: u32,
}

alias a_type = f32;
alias out_type = f32;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> a: array<a_type>;
@group(0) @binding(2) var<storage, read> a_quads: array<vec4<a_type>>;
@group(0) @binding(4) var<storage, read> x0: array<x0_type>;
@group(0) @binding(5) var<storage, read> x1: array<x1_type>;
@group(0) @binding(6) var<storage, read> x2: array<x2_type>;
@group(0) @binding(7) var<storage, read_write> out: array<out_type>;
