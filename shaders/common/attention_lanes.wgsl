// What the LANES threads of a row come to together, for each of its OWN rows and the DEPTH rows of the other side, by
// workgroup memory. All threads of a workgroup call it together. common/attention_lanes_subgroup.wgsl does the same by
// subgroups.

const HANDED: u32 = select(1u, ROWS * LANES * DEPTH, LANES > 1u);

var<workgroup> parts: array<part_type, HANDED>;

fn add_lanes(thread: u32, sums: ptr<function, array<part_type, OWN * DEPTH>>) {
    if LANES > 1u {
        for (var j = 0u; j < OWN * DEPTH; j += 1u) {
            parts[j * (ROWS / OWN * LANES) + thread] = (*sums)[j];
        }
        workgroupBarrier();
        let first = thread - thread % LANES;
        for (var j = 0u; j < OWN * DEPTH; j += 1u) {
            var sum = part_type();
            for (var lane = 0u; lane < LANES; lane += 1u) {
                sum += parts[j * (ROWS / OWN * LANES) + first + lane];
            }
            (*sums)[j] = sum;
        }
    }
}
