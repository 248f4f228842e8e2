//! Residual networks for small pictures: a stem of 3 × 3, then stages of basic blocks, of which each but the first halves the
//! picture (He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2: ResNet-20 has depths [3, 3, 3] and 16,
//! 32 and 64 channels); wide ones have more channels. With `pre_activation` a block normalises in front of its convolutions
//! (He et al., "Identity Mappings in Deep Residual Networks", 2016), as Wide ResNets do (Zagoruyko and Komodakis 2016: WRN-40-2
//! has depths [6, 6, 6] and 32, 64 and 128 channels behind a stem of 16).

use std::path::Path;

use distil_gpu_kernels::chain::Stage;
use distil_gpu_kernels::conv::Window;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::file_names::{CONFIG, bad};
use super::super::model_type::ModelType;
use super::super::numbers_file::NumbersFile;
use super::super::{Architecture, Inputs, Model, ModelConfig, Naming, Output, Outputs};
use super::layers::{Pass, Specs, UNCOUNTED};
use crate::error::Error;
use crate::graph::ops::BatchNormConfig;
use crate::graph::{Graph, TensorId};
use crate::store::ParameterSpec;

/// `model_type` of residual networks.
const NAME: &str = "resnet";
/// The stem that this file has; transformers' networks of this `model_type` have another, and say nothing of it.
const STEM: &str = "3x3";

/// Residual networks' line in the registry.
pub const TYPE: ModelType = ModelType::new(NAME, read);

/// `config.json` of a residual network.
#[derive(Debug, Serialize, Deserialize)]
struct File {
    model_type: String,
    #[serde(default)]
    stem: String,
    #[serde(flatten)]
    resnet: ResNet,
    #[serde(flatten)]
    rest: NumbersFile,
}

/// A residual network. Parameters `conv1.weight`, `bn1.*`, `layer<stage>.<block>.{conv1,bn1,conv2,bn2}.*`,
/// `layer<stage>.<block>.downsample.{0,1}.*` and `fc.*`, as torchvision has them; running statistics are the last of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResNet {
    /// Channels of a picture.
    pub num_channels: usize,
    /// Its height and width.
    pub image_size: [usize; 2],
    /// Channels behind the stem.
    pub embedding_size: usize,
    /// Channels of each stage.
    pub hidden_sizes: Vec<usize>,
    /// Blocks of each stage, of two convolutions each.
    pub depths: Vec<usize>,
    /// Whether blocks normalise in front of their convolutions.
    #[serde(default)]
    pub pre_activation: bool,
    /// Number of classes.
    pub num_classes: usize,
}

/// A block: where it stands and what it changes.
struct Block {
    name: String,
    inputs: usize,
    outputs: usize,
    stride: usize,
}

impl Block {
    /// Whether what goes by must become of another shape.
    fn projects(&self) -> bool {
        self.inputs != self.outputs || self.stride != 1
    }
}

impl Pass<'_> {
    fn relu(&mut self, x: TensorId) -> Result<TensorId, Error> {
        self.graph.map(Stage::Relu, x)
    }

    fn block(&mut self, block: &Block, x: TensorId) -> Result<TensorId, Error> {
        let part = |part: &str| format!("{}.{part}", block.name);
        let (strided, plain) = (Window::square(3, block.stride, 1), Window::square(3, 1, 1));
        let y = self.conv(&part("conv1"), x, strided)?;
        let y = self.norm(&part("bn1"), y)?;
        let y = self.relu(y)?;
        let y = self.conv(&part("conv2"), y, plain)?;
        let y = self.norm(&part("bn2"), y)?;
        let by = match block.projects() {
            true => {
                let by = self.conv(&part("downsample.0"), x, Window::square(1, block.stride, 0))?;
                self.norm(&part("downsample.1"), by)?
            }
            false => x,
        };
        let sum = self.graph.plus(y, by)?;
        self.relu(sum)
    }

    fn pre_activated(&mut self, block: &Block, x: TensorId) -> Result<TensorId, Error> {
        let part = |part: &str| format!("{}.{part}", block.name);
        let (strided, plain) = (Window::square(3, block.stride, 1), Window::square(3, 1, 1));
        let y = self.norm(&part("bn1"), x)?;
        let active = self.relu(y)?;
        let y = self.conv(&part("conv1"), active, strided)?;
        let y = self.norm(&part("bn2"), y)?;
        let y = self.relu(y)?;
        let y = self.conv(&part("conv2"), y, plain)?;
        let by = match block.projects() {
            true => {
                let point = Window::square(1, block.stride, 0);
                self.conv(&part("downsample.0"), active, point)?
            }
            false => x,
        };
        self.graph.plus(y, by)
    }
}

impl ResNet {
    fn blocks(&self) -> Vec<Block> {
        let mut inputs = self.embedding_size;
        let mut blocks = Vec::new();
        for (stage, (&outputs, &depth)) in self.hidden_sizes.iter().zip(&self.depths).enumerate() {
            for block in 0..depth {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let name = format!("layer{}.{block}", stage + 1);
                blocks.push(Block { name, inputs, outputs, stride });
                inputs = outputs;
            }
        }
        blocks
    }

    /// Channels, height and width of a picture.
    pub(in crate::models) fn input_shape(&self) -> [usize; 3] {
        [self.num_channels, self.image_size[0], self.image_size[1]]
    }

    /// Channels behind the last stage.
    fn width(&self) -> usize {
        self.hidden_sizes.last().copied().unwrap_or(self.embedding_size)
    }

    /// Layers with weights between picture and answer, as such networks are named by.
    fn layers(&self) -> usize {
        2 + 2 * self.depths.iter().sum::<usize>()
    }

    fn specs(&self) -> Vec<ParameterSpec> {
        let mut specs = Specs::default();
        specs.conv("conv1", self.num_channels, self.embedding_size, 3);
        if !self.pre_activation {
            specs.norm("bn1", self.embedding_size);
        }
        for block in self.blocks() {
            let Block { name, inputs, outputs, .. } = &block;
            let part = |part: &str| format!("{name}.{part}");
            if self.pre_activation {
                specs.norm(&part("bn1"), *inputs);
                specs.conv(&part("conv1"), *inputs, *outputs, 3);
                specs.norm(&part("bn2"), *outputs);
                specs.conv(&part("conv2"), *outputs, *outputs, 3);
            } else {
                specs.conv(&part("conv1"), *inputs, *outputs, 3);
                specs.norm(&part("bn1"), *outputs);
                specs.conv(&part("conv2"), *outputs, *outputs, 3);
                specs.norm(&part("bn2"), *outputs);
            }
            if block.projects() {
                specs.conv(&part("downsample.0"), *inputs, *outputs, 1);
                if !self.pre_activation {
                    specs.norm(&part("downsample.1"), *outputs);
                }
            }
        }
        if self.pre_activation {
            specs.norm("bn1", self.width());
        }
        specs.linear("fc", self.width(), self.num_classes);
        specs.all()
    }
}

impl Model for ResNet {
    fn parameters(&self) -> Vec<ParameterSpec> {
        self.specs()
    }

    fn forward(
        &self,
        graph: &mut Graph,
        store: usize,
        inputs: &Inputs,
        training: bool,
    ) -> Result<Outputs, Error> {
        let mut pass = Pass { graph, store, training, norms: BatchNormConfig::default() };
        let mut x = pass.pictures(inputs, self.input_shape())?;
        x = pass.conv("conv1", x, Window::square(3, 1, 1))?;
        if !self.pre_activation {
            x = pass.norm("bn1", x)?;
            x = pass.relu(x)?;
        }
        for block in self.blocks() {
            x = match self.pre_activation {
                true => pass.pre_activated(&block, x)?,
                false => pass.block(&block, x)?,
            };
        }
        if self.pre_activation {
            x = pass.norm("bn1", x)?;
            x = pass.relu(x)?;
        }
        pass.head("fc", x)
    }

    fn summary(&self) -> String {
        let widths: Vec<String> = self.hidden_sizes.iter().map(ToString::to_string).collect();
        let kind = if self.pre_activation { "pre-activation resnet" } else { "resnet" };
        format!("{kind} of {} layers, {} channels", self.layers(), widths.join(", "))
    }

    fn output(&self) -> Output {
        Output::Classes(self.num_classes)
    }

    fn is_output(&self, parameter: &str) -> bool {
        parameter.starts_with("fc.")
    }

    fn naming(&self, _: bool) -> Naming {
        UNCOUNTED
    }

    fn to_json(&self, config: &ModelConfig) -> Value {
        let (rest, _) = NumbersFile::of(config);
        let (model_type, stem) = (NAME.to_owned(), STEM.to_owned());
        let file = File { model_type, stem, resnet: self.clone(), rest };
        serde_json::to_value(file).expect("a configuration is plain data")
    }
}

fn read(folder: &Path, json: &Value) -> Result<ModelConfig, Error> {
    let path = folder.join(CONFIG);
    let stem = json["stem"].as_str().unwrap_or("7x7");
    if stem != STEM {
        let problem = format!(
            "a resnet with a stem of {stem} is not supported: those of small pictures are, which have \"stem\": \"{STEM}\""
        );
        return Err(bad(&path, problem));
    }
    let file = File::deserialize(json)
        .map_err(|error| bad(&path, format!("not a model configuration: {error}")))?;
    check(&file).map_err(|problem| bad(&path, problem))?;
    let File { resnet, rest, .. } = file;
    let shape = resnet.input_shape().to_vec();
    Ok(rest.into_config(Architecture::ResNet(resnet), shape))
}

/// Sizes that no file may make us believe.
fn check(file: &File) -> Result<(), String> {
    const MOST: usize = 1 << 16;
    const MOST_BLOCKS: usize = 1 << 10;
    let ResNet {
        num_channels, image_size, embedding_size, hidden_sizes, depths, num_classes, ..
    } = &file.resnet;
    if hidden_sizes.is_empty() || hidden_sizes.len() != depths.len() || depths.len() > 8 {
        return Err(format!(
            "{} hidden_sizes and {} depths: a network has 1 to 8 stages, each with both",
            hidden_sizes.len(),
            depths.len()
        ));
    }
    let single = [*num_channels, image_size[0], image_size[1], *embedding_size, *num_classes];
    let sizes = [&single[..], hidden_sizes, depths].concat();
    if let Some(size) = sizes.iter().find(|&&size| size == 0 || size > MOST) {
        return Err(format!("a size of {size} is not possible (1 to {MOST} are)"));
    }
    if depths.iter().sum::<usize>() > MOST_BLOCKS {
        return Err(format!(
            "depths {depths:?} are more than the {MOST_BLOCKS} blocks that are possible"
        ));
    }
    file.rest.check(*num_classes, &file.resnet.input_shape())
}
