#![allow(missing_docs)]
pub mod data { #[derive(Debug, thiserror::Error)] #[error("x")] pub struct DataError; }
pub mod recipe { #[derive(Debug, thiserror::Error)] #[error("x")] pub struct RecipeError; }
pub mod device; pub mod error; pub mod graph; pub mod nn; pub mod plan; pub mod store;
pub use distil_gpu_kernels as kernels; pub use error::Error;
