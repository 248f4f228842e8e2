//! Products that subgroups multiply in hardware, on drivers that have it: tests/run.sh finds one that runs on the
//! processor.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use distil_gpu_engine::device::Device;
use distil_gpu_engine::verify::cases;
use distil_gpu_tests::{gpus, variants};

#[test]
#[ignore = "needs a driver with cooperative matrices"]
fn products_have_every_layout_size_and_epilogue() {
    let mut held = 0;
    for device in &mut gpus(false) {
        for case in cases::cooperative(&device.caps()) {
            let expected = case.expected().unwrap();
            let cooperative = |(variant, _): &(String, _)| variant.starts_with("own cooperative");
            for (variant, kernel) in variants(&case.kernel, device).into_iter().filter(cooperative)
            {
                let found = case.found(device, &kernel).unwrap();
                for distance in case.distances_of(&variant, &found, &expected) {
                    assert!(distance.error <= distance.limit, "{distance:?}");
                }
                held += 1;
            }
        }
    }
    println!("{held} results");
    assert!(held > 0, "no driver here has cooperative matrices");
}
