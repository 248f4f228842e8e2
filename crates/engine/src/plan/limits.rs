//! What a device binds and allocates at once.

use distil_gpu_kernels::DType;

use crate::error::Error;

/// Rows of a matrix that stay together where it is cut.
pub(super) const ROWS: usize = 64;

/// Sizes a device allows. Calls over larger tensors are run in parts, where they can be cut; see [`crate::plan::Tiled`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of one buffer.
    pub buffer_bytes: u64,
    /// Most bytes of one tensor bound to a kernel.
    pub binding_bytes: u64,
}

impl Limits {
    /// Elements of a piece of memory, where a buffer has to be several; a piece can be bound whole.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a buffer above the limit that cannot be cut, for it has no rows of one length.
    pub fn piece(
        self,
        label: &str,
        dtype: DType,
        len: usize,
        row: Option<usize>,
    ) -> Result<usize, Error> {
        let bytes = dtype.bytes_of(len) as u64;
        if bytes <= self.buffer_bytes {
            return Ok(len);
        }
        let most = dtype.held_in(self.buffer_bytes.min(self.binding_bytes) as usize);
        // Rows are whole words.
        let row = row.filter(|row| dtype.bytes_of(*row).is_multiple_of(4));
        let piece = row.map_or(0, |row| most / (ROWS * row) * (ROWS * row));
        if piece == 0 {
            let (tensor, limit, allowed) = (label.to_owned(), "buffer size", self.buffer_bytes);
            return Err(Error::TooLarge { tensor, bytes, limit, allowed });
        }
        Ok(piece)
    }
}
