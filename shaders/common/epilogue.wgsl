// How a matrix product ends: out[batch, row, col] = chain(sum); with ACCUMULATE the sum is added onto what out holds,
// before the chain.
//
// A thread with many sums stores them first and applies the chain to what it stored (`finish`), where STORED_FIRST
// says so: a loop over sums that holds a chain of many instructions is not unrolled by all compilers, and then
// the sums have no registers from the start of the product on.

//#import common/chain.wgsl

override ACCUMULATE: bool = false;
// Whether the chain follows behind the stores; never where out is f16, as that would round twice.
override STORED_FIRST: bool = false;
// The chain sees the rows under several extents; where it does not, none is divided.
override FOLDED: bool = false;

fn is_inside(row: u32, col: u32) -> bool {
    return all(vec2<u32>(row, col) < vec2<u32>(dims.m, dims.n));
}

// Element of out.
fn out_at(batch: u32, row: u32, col: u32) -> u32 {
    return (batch * dims.m + row) * dims.out_row + col;
}

fn chained(batch: u32, row: u32, col: u32, value: f32) -> f32 {
    let e = dims.chain.extent;
    let outer = batch * dims.m + row;
    var coord = vec4<u32>(0u, 0u, outer, col);
    if FOLDED {
        coord = vec4<u32>(outer / e.z / e.y, outer / e.z % e.y, outer % e.z, col);
    }
    return chain_apply(value, coord);
}

fn store(batch: u32, row: u32, col: u32, sum: f32) {
    if is_inside(row, col) {
        let at = out_at(batch, row, col);
        var value = sum;
        if ACCUMULATE {
            value += f32(out[at]);
        }
        if !STORED_FIRST {
            value = chained(batch, row, col, value);
        }
        out[at] = out_type(value);
    }
}

// Applies the chain to what the thread stored there.
fn finish(batch: u32, row: u32, col: u32) {
    if is_inside(row, col) {
        let at = out_at(batch, row, col);
        out[at] = out_type(chained(batch, row, col, f32(out[at])));
    }
}
