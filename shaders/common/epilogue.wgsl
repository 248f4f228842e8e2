// How a matrix product ends: out[batch, row, col] = chain(sum); with ACCUMULATE the sum is added onto what out holds,
// before the chain.

//#import common/chain.wgsl

override ACCUMULATE: bool = false;
// The chain sees the rows under several extents; where it does not, none is divided.
override FOLDED: bool = false;

fn store(batch: u32, row: u32, col: u32, sum: f32) {
    if row < dims.m && col < dims.n {
        let e = dims.chain.extent;
        let outer = batch * dims.m + row;
        var coord = vec4<u32>(0u, 0u, outer, col);
        if FOLDED {
            coord = vec4<u32>(outer / e.z / e.y, outer / e.z % e.y, outer % e.z, col);
        }
        let at = outer * dims.out_row + col;
        var value = sum;
        if ACCUMULATE {
            value += f32(out[at]);
        }
        out[at] = out_type(chain_apply(value, coord));
    }
}
