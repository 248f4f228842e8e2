//! The HTTP server of distil-gpu: models that answer texts, batched by tokens.
//!
//! `connection → route → tokens → queue → batch → device thread → answers`
//!
//! Routes speak the JSON of text-embeddings-inference and OpenAI (`docs/serving.md`). The engine blocks: one thread owns the
//! device with plans of a ladder of shapes, and takes batches from a queue that counts tokens. An asynchronous runtime
//! is here and nowhere else in the program.
//!
//! ```no_run
//! use distil_gpu_engine::device::{Choice, GpuOptions, select};
//! use distil_gpu_serve::{Named, Options, Server};
//!
//! let model = Named { name: "reviews".to_owned(), folder: "runs/movie-sentiment/student".into() };
//! let server = Server::bind(Options::new(vec![model]))?;
//! println!("http://{}", server.address());
//! server.run(
//!     || Ok(select(Choice::Auto, GpuOptions::default())?.device),
//!     || false,
//!     |ready| println!("{}", ready.device),
//! )?;
//! # Ok::<(), distil_gpu_serve::ServeError>(())
//! ```

mod app;
mod error;
mod guard;
mod metrics;
mod model;
mod options;
mod queue;
mod refusal;
mod routes;
mod runner;
mod server;
mod shapes;

pub use error::ServeError;
pub use options::{Named, Options};
pub use server::{Ready, Server};
