// As common/attention_lanes.wgsl, where a subgroup has LANES threads or a multiple of them: no memory, no barrier.

fn add_lanes(thread: u32, sums: ptr<function, array<part_type, DEPTH>>) {
    for (var j = 0u; j < DEPTH; j += 1u) {
        for (var step = 1u; step < LANES; step *= 2u) {
            (*sums)[j] += subgroupShuffleXor((*sums)[j], step);
        }
    }
}
