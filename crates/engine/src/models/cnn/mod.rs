//! Convolutional networks, whose parameters have torchvision's names.
//!
//! In memory images are [n, height, width, channels], and a convolution's weight is [outputs, taps down, taps across, inputs];
//! files have it as [outputs, inputs, taps down, taps across] (`layout.rs`).

pub(super) mod layout;
pub mod resnet;

pub use resnet::ResNet;
