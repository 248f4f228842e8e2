//! Convolutions over images [n, height, width, channels], as matrix products one factor of which never lies in memory: its
//! rows are what each place of the output sees. [`Matmul`] multiplies; what differs is how it reads A ([`Patches`],
//! `shaders/common/a_patches.wgsl`).
//!
//! With weights [out, taps, in], a convolution is out = patches(x) · weightsᵀ, its gradient by x is patches(dy) · weights with
//! the taps turned round, and that by the weights patches(x)ᵀ · dy, a sum over all places, which is made in ordered parts.
//! Groups of channels are a batch of products.

#[cfg(test)]
mod tests;

use crate::matmul::Matmul;
use crate::patches::Patches;

pub use crate::patches::Window;

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv {
    /// What a place sees.
    pub window: Window,
    /// Images.
    pub images: usize,
    /// Their height and width.
    pub size: [usize; 2],
    /// Their channels.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Parts of the channels that see each other alone; both numbers of channels are multiples of it.
    pub groups: usize,
}

impl Conv {
    /// Places of the output.
    ///
    /// # Panics
    /// When the window does not fit; ops check it.
    pub fn places(&self) -> [usize; 2] {
        self.window.places(self.size).expect("the window fits the images")
    }

    fn rows(&self) -> usize {
        let [down, across] = self.places();
        self.images * down * across
    }

    fn taps(&self) -> usize {
        self.window.taps[0] * self.window.taps[1]
    }

    /// out [groups, n · places, outputs / groups] of `a` = x [n, height, width, inputs] and
    /// `b` = weights [groups, outputs / groups, taps · inputs / groups].
    pub fn forward(&self) -> Matmul {
        let Self { groups, inputs, outputs, .. } = *self;
        let depth = self.taps() * inputs / groups;
        let product = Matmul::new(self.rows(), outputs / groups, depth, false, true);
        self.with(product, self.seen_forward())
    }

    /// The gradient by x [groups, n · height · width, inputs / groups] of `a` = dy [n, places, outputs] and
    /// `b` = weights [groups, taps · outputs / groups, inputs / groups].
    pub fn input_gradient(&self) -> Matmul {
        let Self { groups, inputs, outputs, window, .. } = *self;
        let rows = self.images * self.size[0] * self.size[1];
        let product =
            Matmul::new(rows, inputs / groups, self.taps() * outputs / groups, false, false);
        let patches =
            Patches::looking_back(&window, self.images, self.size, outputs).of_groups(groups);
        self.with(product, patches)
    }

    /// The gradient by the weights [groups, taps · inputs / groups, outputs / groups] of `a` = x [n, height, width, inputs] and
    /// `b` = dy [groups, n · places, outputs / groups].
    pub fn weight_gradient(&self) -> Matmul {
        let Self { groups, inputs, outputs, .. } = *self;
        let depth = self.taps() * inputs / groups;
        let product = Matmul::new(depth, outputs / groups, self.rows(), true, false);
        self.with(product, self.seen_forward())
    }

    fn seen_forward(&self) -> Patches {
        Patches::looking(&self.window, self.images, self.size, self.inputs).of_groups(self.groups)
    }

    fn with(&self, product: Matmul, patches: Patches) -> Matmul {
        let (m, n, batch) = (product.m, product.n, self.groups);
        let extent = [1, batch as u32, m as u32, n as u32];
        Matmul { batch, extent, patches: Some(patches), ..product }
    }
}
