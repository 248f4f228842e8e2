//! A cache of a teacher's answers on disk, which students learn from without asking it again.
//!
//! A cache is a folder of safetensors files, each whole or not there at all, and each bound to the teacher that made it. What
//! is kept is found by the hash of a document's tokens, so the data may be shuffled, packed or cut another way. Of a language
//! model the last hidden states are kept, of which its head makes exact logits at any temperature; of others their answers.

mod answers;
mod binding;
mod difference;
mod part;
mod reader;
mod rows;
mod shelf;

pub use answers::CachedAnswers;
pub use binding::{Binding, Identity, Kind};
pub use difference::{Comparison, Difference};
pub use part::{Part, PartContent};
pub(crate) use reader::refuse_other;
pub use reader::{Places, TeacherCache};
pub use rows::RowFormat;
pub use shelf::Shelf;

/// The most that a cache's answers may be from its teacher's unless told otherwise: KL in nats, or a squared error as a share
/// of the answers' own squares.
pub const LIMIT: f64 = 1e-3;
