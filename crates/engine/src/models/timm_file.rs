//! `config.json` as timm has it: a network by the name of its architecture, and what pictures go through before it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::file_names::{CONFIG, bad};
use super::{Architecture, Input, ModelConfig, ProblemType};
use crate::data::{Colour, Normalisation};
use crate::error::Error;

/// What a network is, beside its architecture's name.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimmSizes {
    /// Channels, height and width of a picture.
    pub input_size: [usize; 3],
    /// Classes.
    pub num_classes: usize,
    /// Channels in front of the classifier.
    pub num_features: usize,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct TimmFile {
    /// Its name in timm.
    pub architecture: String,
    num_classes: usize,
    #[serde(default)]
    num_features: usize,
    #[serde(default = "average")]
    global_pool: String,
    #[serde(default)]
    model_args: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label_names: Option<Vec<String>>,
    pretrained_cfg: PretrainedCfg,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    background: Option<Colour>,
    #[serde(default, skip_serializing_if = "ProblemType::is_single_label")]
    problem_type: ProblemType,
}

#[derive(Debug, Serialize, Deserialize)]
struct PretrainedCfg {
    input_size: [usize; 3],
    mean: Vec<f32>,
    std: Vec<f32>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

fn average() -> String {
    "avg".to_owned()
}

impl TimmFile {
    /// Of a model. `parts` names its first convolution and its classifier.
    ///
    /// # Panics
    /// When it reads no numbers.
    pub fn of(
        config: &ModelConfig,
        architecture: &str,
        sizes: TimmSizes,
        parts: [&str; 2],
    ) -> Self {
        let Input::Numbers { normalisation, background, .. } = &config.input else {
            unreachable!("a network of pictures reads numbers")
        };
        let TimmSizes { input_size, num_classes, num_features } = sizes;
        let channels = input_size[0];
        let each = |list: &[f32]| match list {
            [one] => vec![*one; channels],
            _ => list.to_vec(),
        };
        let map = |value: Value| value.as_object().cloned().unwrap_or_default();
        let rest = json!({
            "tag": "distilled",
            "custom_load": false,
            "fixed_input_size": false,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "num_classes": num_classes,
            "pool_size": [input_size[1].div_ceil(32), input_size[2].div_ceil(32)],
            "first_conv": parts[0],
            "classifier": parts[1],
        });
        Self {
            architecture: architecture.to_owned(),
            num_classes,
            num_features,
            global_pool: average(),
            model_args: map(json!({ "num_classes": num_classes, "in_chans": channels })),
            label_names: Some(config.class_names.clone()),
            pretrained_cfg: PretrainedCfg {
                input_size,
                mean: each(&normalisation.mean),
                std: each(&normalisation.std),
                rest: map(rest),
            },
            background: *background,
            problem_type: config.problem,
        }
    }

    /// Of what a folder's file says.
    ///
    /// # Errors
    /// [`Error::Model`] when it is no such file, or asks for what no network here has.
    pub fn read(folder: &Path, json: &Value) -> Result<Self, Error> {
        let path = folder.join(CONFIG);
        let file = Self::deserialize(json)
            .map_err(|error| bad(&path, format!("not a configuration of timm: {error}")))?;
        file.check().map_err(|problem| bad(&path, problem))?;
        Ok(file)
    }

    fn check(&self) -> Result<(), String> {
        const MOST: usize = 1 << 16;
        let known = ["num_classes", "in_chans", "global_pool"];
        if let Some(other) = self.model_args.keys().find(|key| !known.contains(&&***key)) {
            return Err(format!(
                "its model_args set `{other}`, which changes a network in ways not known here"
            ));
        }
        let given =
            |key: &str, wanted: &Value| self.model_args.get(key).is_none_or(|v| v == wanted);
        let [channels, height, width] = self.pretrained_cfg.input_size;
        if self.global_pool != "avg" || !given("global_pool", &json!("avg")) {
            return Err("it pools otherwise than by the average".to_owned());
        }
        if !given("in_chans", &json!(channels)) || !given("num_classes", &json!(self.num_classes)) {
            return Err(format!(
                "its model_args and its {channels} channels and {} classes contradict each other",
                self.num_classes
            ));
        }
        let sizes = [channels, height, width, self.num_classes];
        if let Some(size) = sizes.iter().find(|&&size| size == 0 || size > MOST) {
            return Err(format!("a size of {size} is not possible (1 to {MOST} are)"));
        }
        let names = self.label_names.as_ref().map_or(self.num_classes, Vec::len);
        if names != self.num_classes {
            return Err(format!("{names} label_names for num_classes {}", self.num_classes));
        }
        let normalisation = self.normalisation();
        normalisation.check(&self.pretrained_cfg.input_size).map_err(|error| error.to_string())
    }

    fn normalisation(&self) -> Normalisation {
        let PretrainedCfg { mean, std, .. } = &self.pretrained_cfg;
        Normalisation { mean: mean.clone(), std: std.clone() }
    }

    /// Sizes of the network.
    pub fn sizes(&self) -> TimmSizes {
        TimmSizes {
            input_size: self.pretrained_cfg.input_size,
            num_classes: self.num_classes,
            num_features: self.num_features,
        }
    }

    /// The model. Classes without names have their numbers.
    pub fn into_config(self, architecture: Architecture) -> ModelConfig {
        let normalisation = self.normalisation();
        let shape = self.pretrained_cfg.input_size.to_vec();
        let numbers = || (0..self.num_classes).map(|class| class.to_string()).collect();
        let class_names = self.label_names.clone().unwrap_or_else(numbers);
        let input = Input::Numbers { shape, normalisation, background: self.background };
        ModelConfig {
            problem: self.problem_type,
            ..ModelConfig::new(architecture, input, class_names)
        }
    }
}
