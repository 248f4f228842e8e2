//! `model = { … }` of pictures: convolutional networks.

use serde::{Deserialize, Serialize};

use super::document::Table;
use super::error::RecipeError;
use super::key::{key, keys, word};
use super::model::{Base, MODEL, Model};
use super::rules::{FLAG, Rule, SIZE, WIDTHS, text};
use crate::models::Origin;
use crate::models::cnn::efficientnet::VARIANTS;

keys! {
    /// A residual network for small pictures: a stem of 3 × 3, then stages of blocks of two convolutions with batch
    /// normalisation, of which each but the first halves the picture.
    RESNET in "student.model" where type is "resnet";

    /// Blocks of each stage: [3, 3, 3] is ResNet-20, [1, 1, 1] ResNet-8, [n, n, n] has 6 n + 2 layers.
    DEPTHS: Vec<usize> = key("depths", WIDTHS).needed().like("[3, 3, 3]").also(&["num_blocks"]);
    /// Channels of each stage.
    CHANNELS: Vec<usize> = key("hidden_sizes", WIDTHS).needed().like("[16, 32, 64]");
    /// Channels behind the stem; a Wide ResNet has 16, however wide its stages are.
    EMBEDDING_SIZE: usize = key("embedding_size", SIZE)
        .otherwise("as the first stage")
        .like("16")
        .also(&["stem_width"]);
    /// Whether blocks normalise in front of their convolutions, as Wide ResNets do.
    PRE_ACTIVATION: bool = key("pre_activation", FLAG).or("false").like("true").also(&["preact"]);
}

keys! {
    /// A MobileNetV2 or EfficientNet-lite, which timm knows by the same name: give its `architecture`, or one to start `from`.
    EFFICIENTNET in "student.model" where type is "efficientnet";

    /// Its name in timm; those with "tf_" compute as TensorFlow does, in which EfficientNet-lite was trained.
    ARCHITECTURE: &'static str = word("architecture", || VARIANTS.iter().map(|one| (one.name, one.name)).collect())
        .otherwise("as the one it starts from")
        .like("\"mobilenetv2_035\"")
        .also(&["variant", "arch"]);
    /// A trained one, as timm saves it, all of whose weights are taken over but the classifier, and what pictures go through before
    /// it: a folder or a model of the hub. Of grey pictures, its first convolution sees the sum of its channels.
    PRETRAINED: Base = key("from", PRETRAINED_BASE)
        .otherwise("random weights")
        .like("\"efficientnet-lite2\"")
        .also(&["pretrained", "init_from"]);
}

/// A residual network as a recipe describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNet {
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// Channels of each stage, as many.
    pub hidden_sizes: Vec<usize>,
    /// Channels behind the stem; those of the first stage unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_size: Option<usize>,
    /// Whether blocks normalise in front of their convolutions.
    pub pre_activation: bool,
}

/// A MobileNetV2 or EfficientNet-lite as a recipe describes it; one of both is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EfficientNet {
    /// Its name in timm; that of the one it starts from unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// The one it starts from; random weights unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Base>,
}

const PRETRAINED_BASE: Rule<Base> = Rule {
    allowed: "a folder's path, hf:OWNER/NAME or hf:OWNER/NAME@REVISION, in quotes",
    read: |value| Origin::of(text(value)?.as_ref()).ok().map(Base::Model),
};

pub(super) fn resnet(table: &Table<'_>) -> Result<Model, RecipeError> {
    const MOST_STAGES: usize = 8;
    const MOST_BLOCKS: usize = 1 << 10;
    table.known(&[&MODEL, &RESNET])?;
    let (depths, hidden_sizes) = (table.value(&DEPTHS)?, table.value(&CHANNELS)?);
    let stages = depths.len();
    if stages != hidden_sizes.len() || !(1..=MOST_STAGES).contains(&stages) {
        let problem = format!(
            "depths and hidden_sizes have a number for each stage, of 1 to {MOST_STAGES}: here are {stages} and {}",
            hidden_sizes.len()
        );
        return Err(table.conflict("depths", problem));
    }
    if depths.iter().sum::<usize>() > MOST_BLOCKS {
        let problem =
            format!("depths {depths:?} are more than the {MOST_BLOCKS} blocks that are possible");
        return Err(table.conflict("depths", problem));
    }
    let (embedding_size, pre_activation) =
        (table.get(&EMBEDDING_SIZE)?, table.value(&PRE_ACTIVATION)?);
    Ok(Model::ResNet(ResNet { depths, hidden_sizes, embedding_size, pre_activation }))
}

pub(super) fn efficientnet(table: &Table<'_>) -> Result<Model, RecipeError> {
    table.known(&[&MODEL, &EFFICIENTNET])?;
    let architecture = table.get(&ARCHITECTURE)?.map(str::to_owned);
    let from = match table.get(&PRETRAINED)? {
        Some(Base::Model(origin)) => Some(Base::Model(table.origin(&PRETRAINED, origin)?)),
        other => other,
    };
    if architecture.is_none() && from.is_none() {
        return Err(
            table.lacks("`architecture` or `from`", "as architecture = \"mobilenetv2_035\"")
        );
    }
    Ok(Model::EfficientNet(EfficientNet { architecture, from }))
}
