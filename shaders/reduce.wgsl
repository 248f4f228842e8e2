// out[o, i] = op over l of x[o, l, i], op being sum, mean or maximum; with ACCUMULATE, added onto out
// (or its maximum taken with out). A NaN among the elements gives NaN, for the maximum too.
//
// dims  uniform: outer · inner, length of the reduced axis, inner, the operation's neutral element
//       (0, or -inf for the maximum, which WGSL cannot spell), the factor of the result (1 / len for the mean)
// x     f32 [outer, len, inner]
// out   f32 [outer, inner]
//
// rows     inner = 1: LANES threads stride along a row, then a tree; ROWS rows a workgroup.
// columns  inner > 1: a workgroup takes 32 neighbouring columns of one outer index; 8 lanes stride down
//          them, so that loads stay coalesced, and their partials are combined in order.
// Both over a folded grid. The order of summation depends on the shape alone.

//#import common/step.wgsl
//#import common/nan.wgsl

struct Dims {
    outputs: u32,
    len: u32,
    inner: u32,
    neutral: f32,
    scale: f32,
}

override MAXIMUM: bool = false;
override ACCUMULATE: bool = false;
override LANES: u32 = 64u;
override ROWS: u32 = 1u;

const TILE_COLUMNS: u32 = 32u;
const TILE_LANES: u32 = 8u;

alias x_type = f32;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> x: array<x_type>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

var<workgroup> row_partials: array<f32, LANES * ROWS>;
var<workgroup> column_partials: array<f32, TILE_COLUMNS * TILE_LANES>;

fn combine(a: f32, b: f32) -> f32 {
    if MAXIMUM {
        return select(a, b, !is_nan(a) && (b > a || is_nan(b)));
    }
    return a + b;
}

fn store(index: u32, reduced: f32) {
    var v = reduced * dims.scale;
    if ACCUMULATE {
        v = combine(out[index], v);
    }
    out[index] = v;
}

@compute @workgroup_size(LANES, ROWS)
fn rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let row = flat_group(group, groups) * ROWS + local.y;
    let start = row * dims.len;
    // A surplus row is empty: its threads still take part in the barriers.
    let end = select(0u, dims.len, row < dims.outputs);
    var v = dims.neutral;
    for (var l = local.x; l < end; l += LANES) {
        v = combine(v, f32(x[start + l]));
    }
    let slot = local.y * LANES + local.x;
    row_partials[slot] = v;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if local.x < half {
            row_partials[slot] = combine(row_partials[slot], row_partials[slot + half]);
        }
    }
    if local.x == 0u && row < dims.outputs {
        store(row, row_partials[slot]);
    }
}

@compute @workgroup_size(TILE_COLUMNS, TILE_LANES)
fn columns(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let tiles = (dims.inner + TILE_COLUMNS - 1u) / TILE_COLUMNS;
    let index = flat_group(group, groups);
    let outer = index / tiles;
    let column = (index - outer * tiles) * TILE_COLUMNS + local.x;
    let output = outer * dims.inner + column;
    let in_range = column < dims.inner && output < dims.outputs;
    let start = outer * dims.len * dims.inner + column;
    let end = select(0u, dims.len, in_range);
    var v = dims.neutral;
    for (var l = local.y; l < end; l += TILE_LANES) {
        v = combine(v, f32(x[start + l * dims.inner]));
    }
    column_partials[local.y * TILE_COLUMNS + local.x] = v;
    workgroupBarrier();
    if local.y == 0u && in_range {
        for (var lane = 1u; lane < TILE_LANES; lane += 1u) {
            v = combine(v, column_partials[lane * TILE_COLUMNS + local.x]);
        }
        store(output, v);
    }
}
