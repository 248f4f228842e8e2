// What the lanes of a row come to together: LANES threads a row, ROWS rows a workgroup. By a tree in workgroup memory, for
// every device; common/row_subgroup.wgsl does the same by subgroups. All threads of a workgroup call these together.

//#import common/row.wgsl

// Named, as naga 30 loses its count of overrides where an array's length is an expression of some.
override ROW_THREADS: u32 = LANES * ROWS;

var<workgroup> row_partials: array<vec4<f32>, ROW_THREADS>;
var<workgroup> row_peak_partials: array<Peaks, ROW_THREADS>;

fn row_sums(local: vec3<u32>, sums: vec4<f32>) -> vec4<f32> {
    let slot = local.y * LANES + local.x;
    // The last call's result may still be read.
    workgroupBarrier();
    row_partials[slot] = sums;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if local.x < half {
            row_partials[slot] += row_partials[slot + half];
        }
    }
    workgroupBarrier();
    return row_partials[local.y * LANES];
}

fn row_peaks(local: vec3<u32>, peaks: Peaks) -> Peaks {
    let slot = local.y * LANES + local.x;
    workgroupBarrier();
    row_peak_partials[slot] = peaks;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if local.x < half {
            row_peak_partials[slot] = higher(row_peak_partials[slot], row_peak_partials[slot + half]);
        }
    }
    workgroupBarrier();
    return row_peak_partials[local.y * LANES];
}
