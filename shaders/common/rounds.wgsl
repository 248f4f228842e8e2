// A pass over all elements of a tensor: a thread takes ROUNDS of them, 64 apart; 64 threads a workgroup, over a folded
// grid.

//#import common/step.wgsl

override ROUNDS: u32 = 1u;

// The thread's first element.
fn first_of(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 {
    return flat_group(group, groups) * ROUNDS * 64u + lane;
}

// What its elements are below. Compilers cannot know how many these are: unrolled, long chains take minutes to compile.
fn end_of(first: u32, len: u32) -> u32 {
    return min(first + ROUNDS * 64u, len);
}
