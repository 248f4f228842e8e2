//! An observer that interrupts a run.

use distil_gpu_engine::results::Arm;
use distil_gpu_engine::run::{Event, Observer};

/// Stops after so many steps of the distilled arm.
#[derive(Debug)]
pub struct StopAfter {
    step: u32,
    is_reached: bool,
}

impl StopAfter {
    /// Stops after this step, counted from 1.
    pub fn new(step: u32) -> Self {
        Self { step, is_reached: false }
    }
}

impl Observer for StopAfter {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Step { arm: Arm::Distilled, done } = event {
            self.is_reached = *done == self.step;
        }
    }

    fn stop(&self) -> bool {
        self.is_reached
    }
}
