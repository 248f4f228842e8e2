//! Parameters and what goes with them, on the device: training plans, evaluation plans and the plans of every batch shape
//! bind the same store.

use std::borrow::Cow;

use distil_gpu_gguf::Precision;
use distil_gpu_kernels::{Blocks, DType, loss_scale};

use crate::bytes;
use crate::device::{BufferId, Device};
use crate::error::Error;
pub use crate::layout::*;

/// A store's buffers on a device.
#[derive(Debug)]
pub struct Store {
    /// What lies where.
    pub layout: Layout,
    buffers: Vec<(Part, usize, BufferId)>,
}

/// The numbers of a parameter on their way to a device.
#[derive(Clone, Debug)]
pub enum Numbers<'a> {
    /// One by one.
    Floats(Cow<'a, [f32]>),
    /// Words of the blocks that the parameter lies in.
    Words(Vec<u32>),
}

/// What writes blocks of a kind; some are read alone.
pub(crate) fn writer(blocks: Blocks) -> Option<Precision> {
    match blocks {
        Blocks::BF16 => Some(Precision::BF16),
        Blocks::Q8_0 => Some(Precision::Q8_0),
        Blocks::Q4_K => Some(Precision::Q4_K),
        _ => None,
    }
}

/// The words of these numbers in blocks.
///
/// # Errors
/// [`Error::Unsupported`] when nothing writes blocks of this kind.
pub(crate) fn quantised(blocks: Blocks, values: &[f32]) -> Result<Vec<u32>, Error> {
    let precision = writer(blocks).ok_or_else(|| Error::Unsupported {
        what: format!(
            "{} is read as it lies in files, and no numbers are written so",
            blocks.name()
        ),
        instead: "store them as bf16, q8_0 or q4_k".to_owned(),
    })?;
    let (mut bytes, mut words) = (Vec::new(), Vec::new());
    distil_gpu_gguf::quantise(precision, values, &mut bytes);
    blocks.pack(&bytes, &mut words);
    Ok(words)
}

impl Store {
    /// Allocates `parts` for every segment, zeroed but for the loss scale, of which there is one. `metrics` is the number of metric sums (0: none).
    ///
    /// # Errors
    /// When the device has no room or a limit forbids it.
    pub fn new(
        device: &mut dyn Device,
        name: &str,
        layout: Layout,
        parts: &[Part],
        metrics: usize,
    ) -> Result<Self, Error> {
        let mut buffers = Vec::new();
        for &part in parts.iter().filter(|part| **part != Part::LossScale) {
            for (segment, &Segment { len, dtype }) in layout.segments.iter().enumerate() {
                let label = format!("{name} {part:?} {segment}");
                let row = layout.matrix(segment).map(ParameterSpec::row_len);
                let len = len.max(dtype.filling(ALIGNMENT_BYTES));
                let id = device.create_rows(&label, dtype, len, row)?;
                buffers.push((part, segment, id));
            }
        }
        if parts.contains(&Part::LossScale) {
            let len = loss_scale::LEN;
            let id = device.create_buffer(&format!("{name} loss scale"), DType::F32, len)?;
            device.write(id, 0, &loss_scale::INITIAL)?;
            buffers.push((Part::LossScale, 0, id));
        }
        if metrics > 0 {
            let id = device.create_buffer(&format!("{name} metrics"), DType::F32, metrics)?;
            buffers.push((Part::Metrics, 0, id));
        }
        Ok(Self { layout, buffers })
    }

    /// The device's buffer for a part of a segment.
    pub fn buffer(&self, part: Part, segment: usize) -> Option<BufferId> {
        let found = self.buffers.iter().find(|(p, s, _)| *p == part && *s == segment);
        found.map(|(_, _, id)| *id)
    }

    /// Writes parameter `index`; of one in bytes, its scales too.
    ///
    /// # Errors
    /// [`Error::BeyondF16`]; when the device refuses.
    ///
    /// # Panics
    /// When words are given of a parameter that does not lie in blocks.
    pub fn put(
        &self,
        device: &mut dyn Device,
        part: Part,
        index: usize,
        numbers: Numbers<'_>,
    ) -> Result<(), Error> {
        match numbers {
            Numbers::Floats(values) => self.write(device, part, index, &values),
            Numbers::Words(words) => {
                let place = self.layout.places[index];
                let id =
                    self.buffer(part, place.segment).expect("the store was made with this part");
                device.write_blocks(id, place.offset, &words)
            }
        }
    }

    /// Writes parameter `index` from host values; of one in bytes, its scales too.
    ///
    /// # Errors
    /// [`Error::BeyondF16`]; when the device refuses.
    pub fn write(
        &self,
        device: &mut dyn Device,
        part: Part,
        index: usize,
        values: &[f32],
    ) -> Result<(), Error> {
        check_range(self.layout.dtype(index), &self.layout.parameters[index], values)?;
        for (index, values) in self.layout.written(index, values) {
            let place = self.layout.places[index];
            let id = self.buffer(part, place.segment).expect("the store was made with this part");
            match self.layout.segments[place.segment].dtype {
                DType::Blocks(blocks) => {
                    device.write_blocks(id, place.offset, &quantised(blocks, &values)?)?;
                }
                _ => device.write(id, place.offset, &values)?,
            }
        }
        Ok(())
    }

    /// Reads parameter `index`.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn read(
        &self,
        device: &mut dyn Device,
        part: Part,
        index: usize,
    ) -> Result<Vec<f32>, Error> {
        let place = self.layout.places[index];
        let id = self.buffer(part, place.segment).expect("the store was made with this part");
        let spec = &self.layout.parameters[index];
        let values = device.read(id, place.offset, spec.len())?;
        let Some(Some(scale)) = self.layout.scales.get(index) else { return Ok(values) };
        let bytes: Vec<i8> = values.into_iter().map(|value| value as i8).collect();
        Ok(bytes::dequantise(&bytes, &self.read(device, part, *scale)?, spec.row_len()))
    }

    /// Reads all parameters, in declared order.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn read_all(&self, device: &mut dyn Device) -> Result<Vec<Vec<f32>>, Error> {
        (0..self.layout.scales.len()).map(|i| self.read(device, Part::Parameters, i)).collect()
    }

    /// Frees the buffers.
    pub fn free(mut self, device: &mut dyn Device) {
        self.release(device);
    }

    /// Frees the buffers of a store that is not used again.
    pub(crate) fn release(&mut self, device: &mut dyn Device) {
        for (_, _, id) in std::mem::take(&mut self.buffers) {
            device.free_buffer(id);
        }
    }
}
