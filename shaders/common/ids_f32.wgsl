// The numbers of rows of a table, as a kernel has made them: whole, and below 2^24.

@group(0) @binding(3) var<storage, read> ids: array<f32>;

fn id_at(place: u32) -> i32 {
    return i32(ids[place]);
}
