//! The server as clients see it, over real connections with tiny models: `routes` what it answers, `exact` that answers
//! have the bits that are computed offline, `limits` what it refuses, `failures` devices that fail and the end, `fuzzed`
//! bodies that nobody means.
#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

mod client;
mod device;
mod exact;
mod failures;
mod fuzzed;
mod home;
mod limits;
mod routes;
