//! What a run tells whoever watches.

use std::path::Path;

use crate::models::hub::Progress;
use crate::objective::TermMetrics;
use crate::results::{Arm, Measure, Metrics, Scale, Shares};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// The run has its folder.
    Opened {
        /// Where its results will lie.
        folder: &'a Path,
    },
    /// A model of the hub is being downloaded.
    Download(Progress<'a>),
    /// An arm begins to train.
    Started {
        /// Which.
        arm: Arm,
        /// Steps of the whole training.
        steps: u32,
        /// Steps already taken, before an interruption.
        done: u32,
        /// Examples a step.
        batch: usize,
        /// Tokens of a step's examples in the mean, of a model that guesses each next one.
        tokens: Option<f64>,
        /// What is shown of its measurements.
        shown: Measure,
    },
    /// A step was handed to the device.
    Step {
        /// Which arm.
        arm: Arm,
        /// Steps so far.
        done: u32,
    },
    /// A step learnt from texts that the student wrote itself.
    Wrote {
        /// Which arm.
        arm: Arm,
        /// Steps so far.
        step: u32,
        /// What was given of the first of them.
        given: &'a str,
        /// What the student went on with.
        own: &'a str,
    },
    /// An epoch is over.
    Epoch {
        /// Which arm.
        arm: Arm,
        /// Number of the epoch, from 1.
        epoch: u32,
        /// Steps so far.
        step: u32,
        /// Learning rate of the last step.
        learning_rate: f32,
        /// Over the epoch's training batches, as they were met.
        train: &'a Metrics,
        /// Over the test set, after the epoch.
        test: &'a Metrics,
        /// Losses of features, over the epoch's training batches.
        terms: &'a [TermMetrics],
        /// Over the validation data, if they were looked at now.
        validation: Option<&'a Metrics>,
        /// How the gradient is made up, if that was asked for.
        shares: Option<Shares>,
        /// The scale of the loss, where it is scaled.
        scale: Option<Scale>,
    },
    /// The model was measured within an epoch.
    Measured {
        /// Which arm.
        arm: Arm,
        /// Steps so far.
        step: u32,
        /// Learning rate of the last step.
        learning_rate: f32,
        /// Over the epoch's training batches so far, as they were met.
        train: &'a Metrics,
        /// Over the validation data, or over the test set where there are none.
        metrics: &'a Metrics,
        /// Losses of features, over the epoch's training batches so far.
        terms: &'a [TermMetrics],
        /// Whether those are the validation data.
        validation: bool,
        /// How the gradient is made up, if that was asked for.
        shares: Option<Shares>,
        /// The scale of the loss, where it is scaled.
        scale: Option<Scale>,
    },
    /// An arm is done.
    Finished {
        /// Which.
        arm: Arm,
    },
    /// Something worth a line.
    Note(&'a str),
}

/// Watches a run.
pub trait Observer {
    /// Called for each event, in order.
    fn event(&mut self, event: &Event<'_>);

    /// Whether the run is to stop: asked after each step, which is then saved.
    fn stop(&self) -> bool {
        false
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: &Event<'_>) {}
}
