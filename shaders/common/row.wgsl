// A row's threads, LANES of them, and rows of a workgroup: what common/row_tree.wgsl and common/row_subgroup.wgsl share.

override LANES: u32 = 64u;
override ROWS: u32 = 1u;

// Maxima of two numbers, and where they lie, the lowest index winning a tie.
struct Peaks {
    value: vec2<f32>,
    place: vec2<u32>,
}

fn higher(mine: Peaks, other: Peaks) -> Peaks {
    let tie = (other.value == mine.value) & (other.place < mine.place);
    let take = (other.value > mine.value) | tie;
    return Peaks(select(mine.value, other.value, take), select(mine.place, other.place, take));
}
