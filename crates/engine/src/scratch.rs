//! Memory for plans that run one after another: what a plan makes between its kernels, no other needs.

use distil_gpu_kernels::DType;

use crate::device::{BufferId, Device};
use crate::error::Error;
use crate::plan::{BufferKind, Plan};
use crate::store::{Part, StorePart};

/// The store that a plan's slots seem to be of, once they are shared.
const SHARED: usize = usize::MAX;

/// Buffers that the slots of several plans lie in: the largest slot of each in the first, and so on.
#[derive(Debug)]
pub struct Scratch {
    buffers: Vec<BufferId>,
}

impl Scratch {
    /// Elements of the buffers that all of these plans can share.
    pub fn lens<'p>(plans: impl IntoIterator<Item = &'p Plan>) -> Vec<usize> {
        let mut lens: Vec<usize> = Vec::new();
        for plan in plans {
            for (number, slot) in slots(plan).into_iter().enumerate() {
                let len = plan.buffers[slot].len;
                match lens.get_mut(number) {
                    Some(known) => *known = len.max(*known),
                    None => lens.push(len),
                }
            }
        }
        lens
    }

    /// Buffers that all of these plans can share.
    ///
    /// # Errors
    /// When the device has no room or a limit forbids it; then nothing is left of them.
    pub fn new<'p>(
        device: &mut dyn Device,
        plans: impl IntoIterator<Item = &'p Plan>,
    ) -> Result<Self, Error> {
        let mut scratch = Self { buffers: Vec::new() };
        for (number, len) in Self::lens(plans).into_iter().enumerate() {
            match device.create_buffer(&format!("scratch {number}"), DType::F32, len) {
                Ok(buffer) => scratch.buffers.push(buffer),
                Err(error) => {
                    scratch.free(device);
                    return Err(error);
                }
            }
        }
        Ok(scratch)
    }

    /// The same plan with its slots in buffers of this kind, for [`Scratch::buffer`] to find.
    pub fn shared(mut plan: Plan) -> Plan {
        for (segment, slot) in slots(&plan).into_iter().enumerate() {
            let part = StorePart { store: SHARED, part: Part::Scratch, segment };
            plan.buffers[slot].kind = BufferKind::Persistent(part);
        }
        plan
    }

    /// The buffer of a slot; none for parts of real stores.
    pub fn buffer(&self, part: StorePart) -> Option<BufferId> {
        self.buffers.get(part.segment).copied().filter(|_| part.store == SHARED)
    }

    /// Frees the buffers.
    pub fn free(self, device: &mut dyn Device) {
        self.buffers.into_iter().for_each(|buffer| device.free_buffer(buffer));
    }
}

/// A plan's slots, the largest first.
fn slots(plan: &Plan) -> Vec<usize> {
    let is_slot = |&index: &usize| plan.buffers[index].kind == BufferKind::Slot;
    let mut slots: Vec<usize> = (0..plan.buffers.len()).filter(is_slot).collect();
    slots.sort_by_key(|&index| std::cmp::Reverse(plan.buffers[index].len));
    slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::BufferSpec;

    fn plan(lens: &[usize]) -> Plan {
        let buffer = |len: &usize| BufferSpec {
            kind: BufferKind::Slot,
            dtype: DType::F32,
            len: *len,
            row: None,
            label: String::new(),
        };
        let mut buffers: Vec<BufferSpec> = lens.iter().map(buffer).collect();
        let kind = BufferKind::Output("out".to_owned());
        buffers.insert(
            1,
            BufferSpec { kind, dtype: DType::F32, len: 99, row: None, label: String::new() },
        );
        Plan { buffers, calls: Vec::new(), loss_scale: None }
    }

    #[test]
    fn slots_of_like_rank_share() {
        let plans = [plan(&[3, 7]), plan(&[5, 1, 6])];
        assert_eq!(Scratch::lens(&plans), [7, 5, 1]);
        let ranks = |plan: &Plan| -> Vec<Option<usize>> {
            let rank = |buffer: &BufferSpec| match buffer.kind {
                BufferKind::Persistent(part) => Some(part.segment),
                _ => None,
            };
            Scratch::shared(plan.clone()).buffers.iter().map(rank).collect()
        };
        assert_eq!(ranks(&plans[0]), [Some(1), None, Some(0)]);
        assert_eq!(ranks(&plans[1]), [Some(1), None, Some(2), Some(0)]);
    }
}
