// forward   out[i, c] = table[ids[i], c], or 0 where ids[i] names no row of the table; with ACCUMULATE such rows stay
//           as they are
// backward  dtable[t, c] = Σ dy[i, c] over the i with ids[i] = t, added onto what is there with ACCUMULATE
// Ids count from dims.first: a table may be bound in parts, one after another.
// `order` sorts the positions i by their ids, so those of one row t are a run in it, found by binary search
// and summed in an order that depends on the run alone. Every element of dtable is written once, zeros where
// the run is empty, so nothing has to be cleared before and no atomics are needed; with ACCUMULATE, rows of empty
// runs are left alone. Ids and order are the
// host's data: every index made of them is kept in range here.
//
// dims   uniform: rows of out, rows of the table, cols, table rows of a block, length of the longest short
//        run, id of the table's first row
// input  f32: table [table_rows, cols] forward, dy [rows, cols] backward
// ids    i32 [rows]
// out    f32: out [rows, cols] forward, dtable [table_rows, cols] backward
// order  i32 [rows], backward only
//
// forward     LANES threads stride along a row; ROWS rows a workgroup.
// short_runs  LANES threads stride along the rows of a block of the table, for which one search finds where
//             its first run begins; ROWS blocks a workgroup.
// long_runs   A run that is longer than the longest short one holds a multiple of that length; for each
//             multiple and 16 neighbouring columns there is a workgroup, whose 16 lanes stride along the
//             run, partials combined in order.
// All over a folded grid.

//#import common/step.wgsl

struct Dims {
    rows: u32,
    table_rows: u32,
    cols: u32,
    block: u32,
    short: u32,
    first: u32,
}

override LANES: u32 = 64u;
override ROWS: u32 = 1u;
override ACCUMULATE: bool = false;

const TILE_COLUMNS: u32 = 16u;
const TILE_LANES: u32 = 16u;

alias input_type = f32;
alias out_type = f32;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> input: array<input_type>;
@group(0) @binding(3) var<storage, read> ids: array<i32>;
@group(0) @binding(4) var<storage, read_write> out: array<out_type>;
@group(0) @binding(5) var<storage, read> order: array<i32>;

var<workgroup> partials: array<f32, TILE_COLUMNS * TILE_LANES>;

fn names_row(id: i32) -> bool {
    return id >= i32(dims.first) && u32(id) - dims.first < dims.table_rows;
}

@compute @workgroup_size(LANES, ROWS)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_id) local: vec3<u32>,
) {
    let row = flat_group(group, groups) * ROWS + local.y;
    if row >= dims.rows {
        return;
    }
    let id = ids[row];
    let known = names_row(id);
    if ACCUMULATE && !known {
        return;
    }
    let start = select(0u, u32(id) - dims.first, known) * dims.cols;
    for (var c = local.x; c < dims.cols; c += LANES) {
        out[row * dims.cols + c] = out_type(select(0.0, f32(input[start + c]), known));
    }
}

// The row of dy at a place of the order.
fn row_at(place: u32) -> u32 {
    return min(u32(order[place]), dims.rows - 1u);
}

fn id_at(place: u32) -> i32 {
    return ids[row_at(place)];
}

// The first place in first..last whose id is at least this one, or last.
fn lower_bound(id: i32, first: u32, last: u32) -> u32 {
    var low = first;
    var high = last;
    while low < high {
        let middle = (low + high) / 2u;
        if id_at(middle) < id {
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
        if start < dims.rows && id_at(start) == id {
            end = lower_bound(id + 1, start, dims.rows);
        }
        if end - start <= dims.short && !(ACCUMULATE && end == start) {
            for (var c = local.x; c < dims.cols; c += LANES) {
                var sum = 0.0;
                if ACCUMULATE {
                    sum = f32(out[row * dims.cols + c]);
                }
                for (var place = start; place < end; place += 1u) {
                    sum += f32(input[row_at(place) * dims.cols + c]);
                }
                out[row * dims.cols + c] = out_type(sum);
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
        id = id_at(place);
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
        sum += f32(input[row_at(p) * dims.cols + column]);
    }
    partials[local.y * TILE_COLUMNS + local.x] = sum;
    workgroupBarrier();
    if local.y == 0u && takes {
        for (var lane = 1u; lane < TILE_LANES; lane += 1u) {
            sum += partials[lane * TILE_COLUMNS + local.x];
        }
        let at = (u32(id) - dims.first) * dims.cols + column;
        if ACCUMULATE {
            sum += f32(out[at]);
        }
        out[at] = out_type(sum);
    }
}
