//! Timestamps around every launch of a plan.

use std::time::Duration;

use super::context::Context;
use crate::error::Error;

/// Launches timed by one query set, with two queries each.
const LAUNCHES_A_SET: u32 = wgpu::QUERY_SET_MAX_QUERIES / 2;
const SET_BYTES: u64 = (wgpu::QUERY_SET_MAX_QUERIES * wgpu::QUERY_SIZE) as u64;

/// Where a device can write timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timing {
    /// Nowhere, or nobody asked.
    Off,
    /// At the edges of a pass, so that each launch needs a pass of its own.
    Edges,
    /// Between the launches of one pass.
    Inside,
}

impl Timing {
    /// The best that a device with these features can do, and the features to ask it for.
    pub fn of(features: wgpu::Features) -> (Self, wgpu::Features) {
        let edges = wgpu::Features::TIMESTAMP_QUERY;
        let inside = edges | wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES;
        if features.contains(inside) {
            (Self::Inside, inside)
        } else if features.contains(edges) {
            (Self::Edges, edges)
        } else {
            (Self::Off, wgpu::Features::empty())
        }
    }
}

/// The queries of one plan.
#[derive(Debug)]
pub(super) struct Timer {
    sets: Vec<wgpu::QuerySet>,
    /// The sets' values, one set after another.
    pub resolved: wgpu::Buffer,
    launches: u32,
    /// Whether each launch needs a pass of its own.
    pub edges: bool,
    /// Whether the queries were ever written: reading one that was not may hang.
    pub written: bool,
}

impl Timer {
    /// Queries for so many launches; none where timing is off.
    pub fn new(
        context: &mut Context,
        timing: Timing,
        launches: usize,
    ) -> Result<Option<Self>, Error> {
        if timing == Timing::Off || launches == 0 {
            return Ok(None);
        }
        let launches = launches as u32;
        let descriptor = wgpu::QuerySetDescriptor {
            label: Some("timestamps"),
            ty: wgpu::QueryType::Timestamp,
            count: wgpu::QUERY_SET_MAX_QUERIES,
        };
        let mut sets = Vec::new();
        for _ in 0..launches.div_ceil(LAUNCHES_A_SET) {
            let set = context.guarded(|| context.device.create_query_set(&descriptor));
            sets.push(set.map_err(|error| context.no_room(error, "timestamps", SET_BYTES))?);
        }
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = context.buffer("timestamps", sets.len() as u64 * SET_BYTES, usage)?;
        Ok(Some(Self { sets, resolved, launches, edges: timing == Timing::Edges, written: false }))
    }

    /// The query set of a launch, and the numbers of its first and last timestamp there.
    pub fn queries(&self, launch: usize) -> (&wgpu::QuerySet, [u32; 2]) {
        let launch = launch as u32;
        let first = launch % LAUNCHES_A_SET * 2;
        (&self.sets[(launch / LAUNCHES_A_SET) as usize], [first, first + 1])
    }

    /// Records the copy of all timestamps into [`Self::resolved`].
    pub fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut left = self.launches * 2;
        for (set, offset) in self.sets.iter().zip((0..).step_by(SET_BYTES as usize)) {
            let count = left.min(wgpu::QUERY_SET_MAX_QUERIES);
            encoder.resolve_query_set(set, 0..count, &self.resolved, offset);
            left -= count;
        }
    }

    /// Bytes of [`Self::resolved`] in use: two words of 64 bits a launch.
    pub fn resolved_words(&self) -> usize {
        self.launches as usize * 2
    }
}

/// Time between two ticks of a clock whose period is in nanoseconds.
pub(super) fn elapsed(ticks: [u64; 2], period: f32) -> Duration {
    // A clock may be reset between the two.
    let ticks = ticks[1].saturating_sub(ticks[0]);
    Duration::from_nanos((ticks as f64 * f64::from(period)) as u64)
}
