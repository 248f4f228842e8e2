//! What of plans a device binds in parts, or not at all.

use std::collections::BTreeMap;

use crate::device::Outlook;
use crate::plan::Plan;

/// What a device binds in parts, or not at all.
#[derive(Default)]
pub(super) struct Bounds {
    /// Tensors that are bound in parts, and the most parts of each.
    pub tiled: BTreeMap<String, usize>,
    /// What is beyond the device.
    pub exceeded: Vec<String>,
}

impl Bounds {
    /// Adds what of a plan is beyond the device.
    pub fn hold(&mut self, device: &Outlook, plan: &Plan) {
        let refused = plan.precision().check(&device.caps, &device.name).err();
        self.exceeded.extend(refused.map(|error| error.to_string()));
        match plan.tiled(device.limits) {
            Ok(plan) => plan.tensors.into_iter().for_each(|(name, parts)| {
                let known = self.tiled.entry(name).or_insert(0);
                *known = parts.max(*known);
            }),
            Err(errors) => self.exceeded.extend(errors.iter().map(ToString::to_string)),
        }
    }
}
