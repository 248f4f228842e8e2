// As common/row_tree.wgsl, by subgroups of SUBGROUP threads, of which a row has one or several whole ones: LANES is a
// multiple of SUBGROUP. Where it has one, its threads wait for no others.

//#import common/row.wgsl

const SUBGROUP: u32 = 32u;

override SUBGROUPS: u32 = LANES * ROWS / SUBGROUP;

var<workgroup> row_partials: array<vec4<f32>, SUBGROUPS>;
var<workgroup> row_peak_partials: array<Peaks, SUBGROUPS>;

fn row_sums(local: vec3<u32>, sums: vec4<f32>) -> vec4<f32> {
    var total = subgroupAdd(sums);
    if LANES > SUBGROUP {
        let first = local.y * (LANES / SUBGROUP);
        // The last call's result may still be read.
        workgroupBarrier();
        if local.x % SUBGROUP == 0u {
            row_partials[first + local.x / SUBGROUP] = total;
        }
        workgroupBarrier();
        total = row_partials[first];
        for (var i = 1u; i < LANES / SUBGROUP; i += 1u) {
            total += row_partials[first + i];
        }
    }
    return total;
}

fn row_peaks(local: vec3<u32>, peaks: Peaks) -> Peaks {
    let value = subgroupMax(peaks.value);
    let place = subgroupMin(select(vec2<u32>(0xffffffffu), peaks.place, peaks.value == value));
    var top = Peaks(value, place);
    if LANES > SUBGROUP {
        let first = local.y * (LANES / SUBGROUP);
        workgroupBarrier();
        if local.x % SUBGROUP == 0u {
            row_peak_partials[first + local.x / SUBGROUP] = top;
        }
        workgroupBarrier();
        top = row_peak_partials[first];
        for (var i = 1u; i < LANES / SUBGROUP; i += 1u) {
            top = higher(top, row_peak_partials[first + i]);
        }
    }
    return top;
}
