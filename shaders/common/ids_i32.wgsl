// The numbers of rows of a table.

@group(0) @binding(3) var<storage, read> ids: array<i32>;

fn id_at(place: u32) -> i32 {
    return ids[place];
}
