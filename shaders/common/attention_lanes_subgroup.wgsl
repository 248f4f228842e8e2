// As common/attention_lanes.wgsl, where a subgroup has LANES threads or a multiple of them: no memory. The barrier keeps
// compilers from mixing the loops in front of it and behind it, which takes more registers than there are.

fn add_lanes(thread: u32, sums: ptr<function, array<part_type, OWN * DEPTH>>) {
    for (var j = 0u; j < OWN * DEPTH; j += 1u) {
        for (var step = 1u; step < LANES; step *= 2u) {
            (*sums)[j] += subgroupShuffleXor((*sums)[j], step);
        }
    }
    workgroupBarrier();
}
