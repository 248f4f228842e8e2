//! MobileNetV2 (Sandler et al. 2018) and EfficientNet-lite: inverted residuals, which widen by a convolution of one pixel, see their
//! neighbours channel by channel, and narrow again, with relu6 between. Parameters and architectures have timm's names.
//!
//! EfficientNet-lite was made in TensorFlow. The architectures whose names begin with `tf_` are as there: where a window moves by
//! two pixels, what the picture lacks is put behind it rather than around it, and variances have 1e-3 added.

use std::path::Path;

use distil_gpu_kernels::chain::Stage;
use distil_gpu_kernels::conv::Window;
use serde_json::Value;

use super::super::file_names::{CONFIG, bad};
use super::super::model_type::ModelType;
use super::super::timm_file::{TimmFile, TimmSizes};
use super::super::{Architecture, Inputs, Model, ModelConfig, Naming, Output, Outputs};
use super::layers::{Pass, Specs, UNCOUNTED};
use crate::error::Error;
use crate::graph::ops::BatchNormConfig;
use crate::graph::{Graph, TensorId};
use crate::store::ParameterSpec;

/// Networks by timm's names: their line in the registry.
pub const TYPE: ModelType = ModelType::new("timm", read);

/// A stage: blocks, taps of a side, stride of the first block, how much wider a block is inside, channels.
type Sizes = (usize, usize, usize, usize, usize);

const MOBILE_NET_V2: [Sizes; 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (3, 3, 2, 6, 32),
    (4, 3, 2, 6, 64),
    (3, 3, 1, 6, 96),
    (3, 3, 2, 6, 160),
    (1, 3, 1, 6, 320),
];

const EFFICIENT_NET: [Sizes; 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];

/// An architecture of timm.
#[derive(Debug, PartialEq)]
pub struct Variant {
    /// Its name there.
    pub name: &'static str,
    is_lite: bool,
    /// Whether it computes as TensorFlow does.
    is_tf: bool,
    /// What numbers of channels, and of blocks, are multiplied by.
    width: f64,
    depth: f64,
}

const fn mobile(name: &'static str, width: f64) -> Variant {
    Variant { name, is_lite: false, is_tf: false, width, depth: 1.0 }
}

const fn lite(name: &'static str, is_tf: bool, width: f64, depth: f64) -> Variant {
    Variant { name, is_lite: true, is_tf, width, depth }
}

/// The architectures that there are.
pub static VARIANTS: [Variant; 15] = [
    mobile("mobilenetv2_035", 0.35),
    mobile("mobilenetv2_050", 0.5),
    mobile("mobilenetv2_075", 0.75),
    mobile("mobilenetv2_100", 1.0),
    mobile("mobilenetv2_140", 1.4),
    lite("efficientnet_lite0", false, 1.0, 1.0),
    lite("efficientnet_lite1", false, 1.0, 1.1),
    lite("efficientnet_lite2", false, 1.1, 1.2),
    lite("efficientnet_lite3", false, 1.2, 1.4),
    lite("efficientnet_lite4", false, 1.4, 1.8),
    lite("tf_efficientnet_lite0", true, 1.0, 1.0),
    lite("tf_efficientnet_lite1", true, 1.0, 1.1),
    lite("tf_efficientnet_lite2", true, 1.1, 1.2),
    lite("tf_efficientnet_lite3", true, 1.2, 1.4),
    lite("tf_efficientnet_lite4", true, 1.4, 1.8),
];

impl Variant {
    /// The architecture of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        VARIANTS.iter().find(|variant| variant.name == name)
    }

    /// So many channels in this width: a multiple of eight, by no more than a tenth fewer than asked for.
    fn channels(&self, channels: usize) -> usize {
        let wanted = channels as f64 * self.width;
        let rounded = ((wanted + 4.0) as usize / 8 * 8).max(8);
        if (rounded as f64) < 0.9 * wanted { rounded + 8 } else { rounded }
    }

    fn stem(&self) -> usize {
        if self.is_lite { 32 } else { self.channels(32) }
    }

    /// Channels in front of the classifier.
    fn features(&self) -> usize {
        if self.is_lite { 1280 } else { self.channels(1280).max(1280) }
    }

    fn blocks(&self) -> Vec<Block> {
        let stages = if self.is_lite { &EFFICIENT_NET } else { &MOBILE_NET_V2 };
        let mut inputs = self.stem();
        let mut blocks = Vec::new();
        for (stage, &(depth, taps, stride, wider, channels)) in stages.iter().enumerate() {
            let is_end = stage == 0 || stage + 1 == stages.len();
            let deeper = (depth as f64 * self.depth).ceil() as usize;
            let outputs = self.channels(channels);
            for number in 0..if is_end { depth } else { deeper } {
                let stride = if number == 0 { stride } else { 1 };
                let name = format!("blocks.{stage}.{number}");
                blocks.push(Block { name, inputs, inside: inputs * wider, outputs, taps, stride });
                inputs = outputs;
            }
        }
        blocks
    }
}

/// An inverted residual: where it stands and what it changes.
struct Block {
    name: String,
    inputs: usize,
    inside: usize,
    outputs: usize,
    taps: usize,
    stride: usize,
}

impl Block {
    /// Whether it is as wide inside as what comes in, and so begins with the depthwise convolution.
    fn is_plain(&self) -> bool {
        self.inside == self.inputs
    }

    /// Whether what comes in is added to what goes out.
    fn is_residual(&self) -> bool {
        self.inputs == self.outputs && self.stride == 1
    }

    /// Its convolutions and the norms behind them: widening, if it does; depthwise; narrowing.
    fn names(&self) -> [Option<[String; 2]>; 3] {
        let parts = match self.is_plain() {
            true => [None, Some(["conv_dw", "bn1"]), Some(["conv_pw", "bn2"])],
            false => [["conv_pw", "bn1"], ["conv_dw", "bn2"], ["conv_pwl", "bn3"]].map(Some),
        };
        parts.map(|pair| pair.map(|pair| pair.map(|part| format!("{}.{part}", self.name))))
    }
}

/// A MobileNetV2 or EfficientNet-lite. Parameters `conv_stem.weight`, `bn1.*`, `blocks.<stage>.<block>.{conv_pw,bn1,conv_dw,bn2,
/// conv_pwl,bn3}.*`, `conv_head.weight`, `bn2.*` and `classifier.*`, as timm has them; running statistics are the last of them.
#[derive(Clone, Debug, PartialEq)]
pub struct EfficientNet {
    /// Which one.
    pub variant: &'static Variant,
    /// Channels of a picture.
    pub num_channels: usize,
    /// Its height and width.
    pub image_size: [usize; 2],
    /// Number of classes.
    pub num_classes: usize,
}

const POINT: Window = Window { taps: [1; 2], stride: [1; 2], dilation: [1; 2], padding: [0; 4] };

impl EfficientNet {
    /// Channels, height and width of a picture.
    fn input_shape(&self) -> [usize; 3] {
        [self.num_channels, self.image_size[0], self.image_size[1]]
    }

    /// A window over pictures of this size.
    fn window(&self, taps: usize, stride: usize, size: [usize; 2]) -> Window {
        let around = Window::square(taps, stride, taps / 2);
        if !self.variant.is_tf {
            return around;
        }
        let lacking = size.map(|pixels| {
            let places = pixels.div_ceil(stride);
            ((places - 1) * stride + taps).saturating_sub(pixels)
        });
        let [down, across] = lacking;
        let padding = [down / 2, across / 2, down.div_ceil(2), across.div_ceil(2)];
        Window { padding, ..around }
    }

    /// A convolution, its norm, and relu6 if it is not the last of a block.
    fn active(
        pass: &mut Pass<'_>,
        [conv, norm]: &[String; 2],
        x: TensorId,
        (window, groups): (Window, usize),
    ) -> Result<TensorId, Error> {
        let y = pass.grouped_conv(conv, x, window, groups)?;
        let y = pass.norm(norm, y)?;
        pass.graph.map(Stage::Relu6, y)
    }

    fn block(&self, pass: &mut Pass<'_>, block: &Block, x: TensorId) -> Result<TensorId, Error> {
        let [widening, depthwise, narrowing] = block.names();
        let mut y = x;
        if let Some(names) = widening {
            y = Self::active(pass, &names, y, (POINT, 1))?;
        }
        if let Some(names) = depthwise {
            let shape = pass.graph.shape(y);
            let window = self.window(block.taps, block.stride, [shape[1], shape[2]]);
            y = Self::active(pass, &names, y, (window, block.inside))?;
        }
        if let Some([conv, norm]) = narrowing {
            y = pass.conv(&conv, y, POINT)?;
            y = pass.norm(&norm, y)?;
        }
        if block.is_residual() { pass.graph.plus(y, x) } else { Ok(y) }
    }
}

impl Model for EfficientNet {
    fn parameters(&self) -> Vec<ParameterSpec> {
        let (stem, features) = (self.variant.stem(), self.variant.features());
        let mut specs = Specs::default();
        specs.conv("conv_stem", self.num_channels, stem, 3);
        specs.norm("bn1", stem);
        let mut width = stem;
        for block in self.variant.blocks() {
            let [widening, depthwise, narrowing] = block.names();
            if let Some([conv, norm]) = widening {
                specs.conv(&conv, block.inputs, block.inside, 1);
                specs.norm(&norm, block.inside);
            }
            if let Some([conv, norm]) = depthwise {
                specs.depthwise(&conv, block.inside, block.taps);
                specs.norm(&norm, block.inside);
            }
            if let Some([conv, norm]) = narrowing {
                specs.conv(&conv, block.inside, block.outputs, 1);
                specs.norm(&norm, block.outputs);
            }
            width = block.outputs;
        }
        specs.conv("conv_head", width, features, 1);
        specs.norm("bn2", features);
        specs.linear("classifier", features, self.num_classes);
        specs.all()
    }

    fn forward(
        &self,
        graph: &mut Graph,
        store: usize,
        inputs: &Inputs,
        training: bool,
    ) -> Result<Outputs, Error> {
        let eps = if self.variant.is_tf { 1e-3 } else { 1e-5 };
        let norms = BatchNormConfig { eps, ..BatchNormConfig::default() };
        let mut pass = Pass { graph, store, training, norms };
        let pair = |conv: &str, norm: &str| [conv, norm].map(str::to_owned);
        let mut x = pass.pictures(inputs, self.input_shape())?;
        let window = self.window(3, 2, self.image_size);
        x = Self::active(&mut pass, &pair("conv_stem", "bn1"), x, (window, 1))?;
        for block in self.variant.blocks() {
            x = self.block(&mut pass, &block, x)?;
        }
        x = Self::active(&mut pass, &pair("conv_head", "bn2"), x, (POINT, 1))?;
        pass.head("classifier", x)
    }

    fn summary(&self) -> String {
        let [height, width] = self.image_size;
        format!("{} for pictures of {height} × {width}", self.variant.name)
    }

    fn output(&self) -> Output {
        Output::Classes(self.num_classes)
    }

    fn is_output(&self, parameter: &str) -> bool {
        parameter.starts_with("classifier.")
    }

    fn naming(&self, _: bool) -> Naming {
        UNCOUNTED
    }

    fn to_json(&self, config: &ModelConfig) -> Value {
        let sizes = TimmSizes {
            input_size: self.input_shape(),
            num_classes: self.num_classes,
            num_features: self.variant.features(),
        };
        let parts = ["conv_stem", "classifier"];
        let file = TimmFile::of(config, self.variant.name, sizes, parts);
        serde_json::to_value(file).expect("a configuration is plain data")
    }
}

fn read(folder: &Path, json: &Value) -> Result<ModelConfig, Error> {
    let file = TimmFile::read(folder, json)?;
    let variant = Variant::named(&file.architecture).ok_or_else(|| {
        let names: Vec<&str> = VARIANTS.iter().map(|variant| variant.name).collect();
        let problem =
            format!("its architecture `{}` is none of {}", file.architecture, names.join(", "));
        bad(&folder.join(CONFIG), problem)
    })?;
    let TimmSizes { input_size: [num_channels, height, width], num_classes, .. } = file.sizes();
    let image_size = [height, width];
    let network = EfficientNet { variant, num_channels, image_size, num_classes };
    Ok(file.into_config(Architecture::EfficientNet(network)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, num_classes: usize) -> EfficientNet {
        let variant = Variant::named(name).unwrap();
        EfficientNet { variant, num_channels: 3, image_size: [64, 64], num_classes }
    }

    /// As many as timm's networks have, of which EfficientNet-lite's are those of its authors.
    #[test]
    fn parameters_are_as_many_as_timm_has() {
        for (name, classes, count) in [
            ("mobilenetv2_035", 2, 398_690),
            ("mobilenetv2_050", 1000, 1_968_680),
            ("mobilenetv2_100", 1000, 3_504_872),
            ("mobilenetv2_140", 1000, 6_108_776),
            ("tf_efficientnet_lite0", 1000, 4_652_008),
            ("efficientnet_lite2", 1000, 6_092_072),
            ("efficientnet_lite4", 1000, 13_006_568),
        ] {
            let specs = network(name, classes).parameters();
            let learnt = specs.iter().filter(|spec| spec.learns());
            assert_eq!(learnt.map(ParameterSpec::len).sum::<usize>(), count, "{name}");
        }
    }

    /// What TensorFlow's "SAME" puts around pictures of even and odd sizes.
    #[test]
    fn windows_of_tensorflow_lean_to_the_top_left() {
        let padding = |name: &str, taps, stride, size| {
            network(name, 2).window(taps, stride, [size, size]).padding
        };
        assert_eq!(padding("tf_efficientnet_lite0", 3, 2, 224), [0, 0, 1, 1]);
        assert_eq!(padding("tf_efficientnet_lite0", 3, 2, 65), [1; 4]);
        assert_eq!(padding("tf_efficientnet_lite0", 5, 2, 56), [1, 1, 2, 2]);
        assert_eq!(padding("tf_efficientnet_lite0", 5, 1, 7), [2; 4]);
        assert_eq!(padding("efficientnet_lite0", 3, 2, 224), [1; 4]);
    }
}
