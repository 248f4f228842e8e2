#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| distil_gpu_fuzz::read("documents", bytes));
