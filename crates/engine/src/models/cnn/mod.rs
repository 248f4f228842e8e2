//! Convolutional networks, whose parameters have torchvision's or timm's names.
//!
//! In memory images are [n, height, width, channels], and a convolution's weight is [outputs, taps down, taps across, inputs];
//! files have it as [outputs, inputs, taps down, taps across] (`layout.rs`).

pub mod efficientnet;
mod layers;
pub(super) mod layout;
pub mod resnet;

pub use efficientnet::EfficientNet;
pub use resnet::ResNet;
