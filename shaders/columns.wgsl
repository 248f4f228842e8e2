// result[r, to_first + c] = source[r, from_first + c]: some columns of a matrix become columns of another.
//
// dims    uniform: elements that are copied, columns that are copied; columns of the source, the first of them that is copied;
//         the same of the result
// source  f32 [rows, from_columns]
// result  f32 [rows, to_columns]; its other columns stay as they are
//
// A thread takes ROUNDS elements, 64 apart; 64 threads a workgroup, over a folded grid.

//#import common/rounds.wgsl

struct Dims {
    len: u32,
    columns: u32,
    from_columns: u32,
    from_first: u32,
    to_columns: u32,
    to_first: u32,
}

alias source_type = f32;
alias result_type = f32;

@group(0) @binding(0) var<uniform> dims: Dims;
@group(0) @binding(2) var<storage, read> source: array<source_type>;
@group(0) @binding(3) var<storage, read_write> result: array<result_type>;

@compute @workgroup_size(64)
fn columns(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = first_of(group, groups, lane);
    for (var i = first; i < end_of(first, dims.len); i += 64u) {
        let row = i / dims.columns;
        let column = i - row * dims.columns;
        let value = f32(source[row * dims.from_columns + dims.from_first + column]);
        result[row * dims.to_columns + dims.to_first + column] = result_type(value);
    }
}
