// dtable[t, c] = Σ dy[i, c] over the i with ids[i] = t, added onto what is there with ACCUMULATE: the gradient of gather.wgsl.
// `order` sorts the positions i by their ids, so those of one row t are a run in it, found by binary search
// and summed in an order that depends on the run alone. Every element of dtable is written once, zeros where
// the run is empty, so nothing has to be cleared before and no atomics are needed; with ACCUMULATE, rows of empty
// runs are left alone. Ids and order are the host's data: every index made of them is kept in range here. Dims are in
// common/gather.wgsl.
//
// dy     f32 [rows, cols]
// ids    i32 [rows]
// out    f32: dtable [table_rows, cols]
// order  i32 [rows]
//
// short_runs  LANES threads stride along the rows of a block of the table, for which one search finds where
//             its first run begins; ROWS blocks a workgroup.
// long_runs   A run that is longer than the longest short one holds a multiple of that length; for each
//             multiple and 16 neighbouring columns there is a workgroup, whose 16 lanes stride along the
//             run, partials combined in order.
// Both over a folded grid.

//#import common/gather.wgsl

const TILE_COLUMNS: u32 = 16u;
const TILE_LANES: u32 = 16u;

alias dy_type = f32;

@group(0) @binding(2) var<storage, read> dy: array<dy_type>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read> order: array<i32>;

var<workgroup> partials: array<f32, TILE_COLUMNS * TILE_LANES>;

// The row of dy at a place of the order.
fn row_at(place: u32) -> u32 {
    return min(u32(order[place]), dims.rows - 1u);
}

fn sorted_id(place: u32) -> i32 {
    return id_at(row_at(place));
}

// The first place in first..last whose id is at least this one, or last.
fn lower_bound(id: i32, first: u32, last: u32) -> u32 {
    var low = first;
    var high = last;
    while low < high {
        let middle = (low + high) / 2u;
        if sorted_id(middle) < id {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low;
}

@compute @workgroup_size(LANES, ROWS)
fn short_runs(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let first = (flat_group(group, groups) * ROWS + local.y) * dims.block;
    let last = min(first + dims.block, dims.table_rows);
    var start = lower_bound(i32(dims.first + first), 0u, dims.rows);
    for (var row = first; row < last; row += 1u) {
        var end = start;
        let id = i32(dims.first + row);
        if start < dims.rows && sorted_id(start) == id {
            end = lower_bound(id + 1, start, dims.rows);
        }
        if end - start <= dims.short && !(ACCUMULATE && end == start) {
            for (var c = local.x; c < dims.cols; c += LANES) {
                var sum = 0.0;
                if ACCUMULATE {
                    sum = out[row * dims.cols + c];
                }
                for (var place = start; place < end; place += 1u) {
                    sum += f32(dy[row_at(place) * dims.cols + c]);
                }
                out[row * dims.cols + c] = sum;
            }
        }
        start = end;
    }
}

@compute @workgroup_size(TILE_COLUMNS, TILE_LANES)
fn long_runs(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let tiles = (dims.cols + TILE_COLUMNS - 1u) / TILE_COLUMNS;
    let index = flat_group(group, groups);
    let multiple = index / tiles;
    let column = (index - multiple * tiles) * TILE_COLUMNS + local.x;
    let place = multiple * dims.short;
    var id = -1;
    if place < dims.rows {
        id = sorted_id(place);
    }
    var start = 0u;
    var end = 0u;
    if names_row(id) {
        start = lower_bound(id, 0u, place);
        end = lower_bound(id + 1, place, dims.rows);
    }
    // Of the multiples in a run, the first takes it.
    let takes = end - start > dims.short && place - start < dims.short && column < dims.cols;
    end = select(start, end, takes);
    var sum = 0.0;
    for (var p = start + local.y; p < end; p += TILE_LANES) {
        sum += f32(dy[row_at(p) * dims.cols + column]);
    }
    partials[local.y * TILE_COLUMNS + local.x] = sum;
    workgroupBarrier();
    if local.y == 0u && takes {
        for (var lane = 1u; lane < TILE_LANES; lane += 1u) {
            sum += partials[lane * TILE_COLUMNS + local.x];
        }
        let at = (u32(id) - dims.first) * dims.cols + column;
        if ACCUMULATE {
            sum += out[at];
        }
        out[at] = sum;
    }
}
