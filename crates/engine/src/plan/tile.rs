//! Calls whose operands exceed what a device binds at once, in parts that do not.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::limits::Limits;
use super::{BufferSpec, Call, Plan, View};
use crate::error::Error;

/// A plan as a device of some limits can run it.
#[derive(Clone, Debug)]
pub struct Tiled<'p> {
    /// The plan.
    pub plan: Cow<'p, Plan>,
    /// What is bound in parts: each buffer's label, and the most parts that one of its tensors is cut into.
    pub tensors: BTreeMap<String, usize>,
}

impl Plan {
    /// The plan that a device of these limits runs.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a tensor that exceeds a limit and cannot be cut.
    pub fn within(&self, limits: Limits) -> Result<Cow<'_, Self>, Error> {
        let first = |mut errors: Vec<Error>| errors.swap_remove(0);
        self.tiled(limits).map(|tiled| tiled.plan).map_err(first)
    }

    /// The plan with calls over too much memory in parts, for a device of these limits.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for every tensor that exceeds a limit and cannot be cut.
    pub fn tiled(&self, limits: Limits) -> Result<Tiled<'_>, Vec<Error>> {
        let mut errors = Vec::new();
        let mut most = |spec: &BufferSpec| {
            let piece = limits.piece(&spec.label, spec.dtype, spec.len, spec.row);
            let piece = piece.unwrap_or_else(|error| {
                errors.push(error);
                u32::MAX as usize
            });
            (spec.dtype.bytes_of(piece) as u64).min(limits.binding_bytes)
        };
        let most: Vec<u64> = self.buffers.iter().map(&mut most).collect();
        let fits = |view: &View| view.bytes() <= most[view.buffer];
        if errors.is_empty() && self.calls.iter().all(|call| call.views.iter().all(fits)) {
            return Ok(Tiled { plan: Cow::Borrowed(self), tensors: BTreeMap::new() });
        }
        let (mut calls, mut tensors) = (Vec::new(), BTreeMap::new());
        for call in &self.calls {
            let mut pending = vec![call.clone()];
            while let Some(call) = pending.pop() {
                let Some(operand) = call.views.iter().position(|view| !fits(view)) else {
                    calls.push(call);
                    continue;
                };
                let view = call.views[operand];
                let spec = &self.buffers[view.buffer];
                match parts(&call, operand, view.dtype.held_in(most[view.buffer] as usize)) {
                    Some(parts) => {
                        for view in call.views.iter().filter(|view| !fits(view)) {
                            let label = self.buffers[view.buffer].label.clone();
                            let known = tensors.entry(label).or_insert(0);
                            *known = parts.len().max(*known);
                        }
                        pending.extend(parts.into_iter().rev());
                    }
                    None => errors.push(Error::TooLarge {
                        tensor: spec.label.clone(),
                        bytes: view.bytes(),
                        limit: "binding size",
                        allowed: limits.binding_bytes,
                    }),
                }
            }
        }
        if errors.is_empty() {
            let plan = Plan { buffers: self.buffers.clone(), calls, ..*self };
            return Ok(Tiled { plan: Cow::Owned(plan), tensors });
        }
        Err(errors)
    }
}

/// A call in parts of which none has more elements of an operand, if its kernel can be cut there.
fn parts(call: &Call, operand: usize, most: usize) -> Option<Vec<Call>> {
    let parts = call.kernel.parts(operand, most)?;
    let part = |part: distil_gpu_kernels::Part| {
        let view = |(operand, range): (usize, std::ops::Range<usize>)| {
            let whole = call.views[operand];
            View { offset: whole.offset + range.start, len: range.len(), ..whole }
        };
        Call {
            kernel: part.kernel,
            views: part.operands.into_iter().map(view).collect(),
            label: call.label.clone(),
        }
    };
    (parts.len() > 1).then(|| parts.into_iter().map(part).collect())
}
