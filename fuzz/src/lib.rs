//! What every fuzz target does: it lays the fuzzer's bytes in the place of a reader's file, and reads them.

/// Reads `bytes` by the reader of this name. An error is as good as a value; a panic is a finding.
pub fn read(name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a folder to read in");
    _ = distil_gpu_tests::readers::Reader::named(name).read(folder.path(), bytes);
}
