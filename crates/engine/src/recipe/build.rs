//! Recipes made in Rust: what each part is unless said otherwise, and a method for each thing that is said.

use std::path::PathBuf;

use super::{
    Adam, Base, ClassRef, ClassWeights, Data, Distil, Group, HiddenLoss, Keep, Layers, Length,
    Model, Optimizer, Recipe, RecipeError, RelationLoss, Schedule, Sgd, Student, Target, Teacher,
    Train, Vocabulary, Weights,
};
use crate::graph::Recompute;
use crate::kernels::Divergence;
use crate::models::Origin;
use crate::nn::Activation;
use crate::plan::Precision;
use crate::store::Storage;
use crate::task::TaskRef;

/// A method for each field, which gives the same with another value in it; behind `=>` what the field becomes.
macro_rules! setters {
    ($($(#[$doc:meta])+ $name:ident: $type:ty $(=> $value:expr)?,)+) => {
        $(
            $(#[$doc])+
            #[must_use]
            pub fn $name(mut self, $name: $type) -> Self {
                self.$name = setters!(@value $name $($value)?);
                self
            }
        )+
    };
    (@value $name:ident) => { $name };
    (@value $name:ident $value:expr) => { $value };
}

/// What `distil-gpu run` does without a recipe: it distils a perceptron on the embedded pictures.
///
/// ```
/// use distil_gpu_engine::recipe::{Distil, Model, Optimizer, Recipe, Teacher, Train};
///
/// let recipe = Recipe::default()
///     .name("small")
///     .seed(3)
///     .teacher(Teacher::trained(Model::mlp([512, 512]), Train::epochs(10)))
///     .student(Model::mlp([64]))
///     .distil(Distil::default().temperature(2.0).alpha(0.7))
///     .train(Train::epochs(30).batch(64).optimizer(Optimizer::adamw(1e-3)))
///     .checked()?;
/// assert_eq!(recipe.train.optimizer.lr(), 1e-3);
/// # Ok::<(), distil_gpu_engine::recipe::RecipeError>(())
/// ```
impl Default for Recipe {
    fn default() -> Self {
        let teacher = Model::Mlp {
            hidden_sizes: vec![800, 800],
            activation: Activation::Relu,
            dropout: 0.3,
            input_dropout: 0.0,
        };
        Self {
            name: "default".to_owned(),
            task: TaskRef::default(),
            seed: 0,
            out: None,
            device: "auto".to_owned(),
            checkpoint_seconds: 30.0,
            tensorboard: false,
            precision: Precision::F32,
            data: Data::default(),
            teacher: Teacher::trained(teacher, Train::epochs(25).shift(1)),
            student: Student { model: Model::mlp([300]) },
            distil: Distil { train_limit: Some(1000), ..Distil::default() },
            train: Train::epochs(60).batch(64),
            target: None,
        }
    }
}

impl Recipe {
    setters! {
        /// The same under another name.
        name: impl Into<String> => name.into(),
        /// The same for another task.
        task: TaskRef,
        /// The same with another seed.
        seed: u32,
        /// The same in this folder.
        out: impl Into<PathBuf> => Some(out.into()),
        /// The same on another device: `auto`, `cpu`, `gpu` or `gpu:N`.
        device: impl Into<String> => device.into(),
        /// The same with a checkpoint every so many seconds.
        checkpoint_seconds: f32,
        /// The same with TensorBoard's event files, or without.
        tensorboard: bool,
        /// The same with numbers in another precision.
        precision: Precision,
        /// The same on other data.
        data: Data,
        /// The same with another teacher.
        teacher: Teacher,
        /// The same with another student.
        student: impl Into<Student> => student.into(),
        /// The same, distilled otherwise.
        distil: Distil,
        /// The same with students that are trained otherwise.
        train: Train,
        /// The same with another target.
        target: Target => Some(target),
    }

    /// The same recipe, once it is checked as one that is read from a file, with relative paths made absolute against the
    /// current folder.
    ///
    /// # Errors
    /// [`RecipeError`], at the first thing that is wrong: its key, and what is allowed there.
    pub fn checked(&self) -> Result<Self, RecipeError> {
        Self::parse(&self.to_toml()?, &self.name)
    }
}

impl From<Model> for Student {
    fn from(model: Model) -> Self {
        Self { model }
    }
}

/// Ten epochs, otherwise as a recipe that says nothing of training.
///
/// ```
/// use distil_gpu_engine::recipe::{Keep, Optimizer, Schedule, Train};
///
/// let train = Train::steps(1000)
///     .batch(32)
///     .clip(1.0)
///     .optimizer(Optimizer::adamw(3e-5))
///     .schedule(Schedule::Linear { warmup_steps: 100, final_lr: 0.0 });
/// assert_eq!((train.accumulate, train.keep), (1, Keep::Last));
/// ```
impl Default for Train {
    fn default() -> Self {
        Self {
            length: Length::Epochs(10),
            batch: 128,
            accumulate: 1,
            recompute: Recompute::None,
            shift: 0,
            clip: None,
            max_norm: None,
            optimizer: Optimizer::default(),
            schedule: Schedule::default(),
            evaluate_every: None,
            keep: Keep::Last,
            best_by: None,
            patience: None,
            precision: Precision::F32,
            layer_decay: 1.0,
            label_smoothing: 0.0,
            class_weights: None,
            groups: Vec::new(),
        }
    }
}

impl Train {
    /// A training of so many passes over the data.
    pub fn epochs(epochs: u32) -> Self {
        Self { length: Length::Epochs(epochs), ..Self::default() }
    }

    /// A training of so many steps.
    pub fn steps(steps: u32) -> Self {
        Self { length: Length::Steps(steps), ..Self::default() }
    }

    setters! {
        /// The same with so many examples in memory at once.
        batch: usize,
        /// The same with so many batches a step.
        accumulate: usize,
        /// The same with what its backward pass makes again.
        recompute: Recompute,
        /// The same with pictures moved by up to so many pixels.
        shift: u32,
        /// The same with this bound on the norm of all gradients together.
        clip: f32 => Some(clip),
        /// The same with this bound on the norm of each unit's incoming weights.
        max_norm: f32 => Some(max_norm),
        /// The same with another optimizer.
        optimizer: Optimizer,
        /// The same with another schedule of the learning rate.
        schedule: Schedule,
        /// The same, measured after every so many steps.
        evaluate_every: u32 => Some(evaluate_every),
        /// The same with other parameters kept.
        keep: Keep,
        /// The same with the best in this score kept.
        best_by: impl Into<String> => Some(best_by.into()),
        /// The same, ended after so many measurements without a better one.
        patience: u32 => Some(patience),
        /// The same with learning rates that fall by this factor from layer to layer.
        layer_decay: f32,
        /// The same with such a share of each label spread over all classes.
        label_smoothing: f32,
        /// The same with classes that count by weight.
        class_weights: ClassWeights => Some(class_weights),
        /// The same with parameters that are trained otherwise.
        groups: Vec<Group>,
    }
}

/// How a teacher's knowledge passes on.
///
/// ```
/// use distil_gpu_engine::kernels::Divergence;
/// use distil_gpu_engine::recipe::Distil;
///
/// let distil = Distil::default().temperature(2.0).divergence(Divergence::ReverseKl);
/// assert_eq!((distil.alpha, distil.weight()), (0.9, 1.0));
/// ```
impl Distil {
    setters! {
        /// The same at another temperature.
        temperature: f32,
        /// The same with another weight of the soft term, in [0, 1].
        alpha: f32,
        /// The same with another divergence.
        divergence: Divergence,
        /// The same with logits standardised in the soft term, or not.
        standardise: bool,
        /// The same without these classes.
        omit_classes: Vec<ClassRef>,
        /// The same with only so many examples for the students.
        train_limit: usize => Some(train_limit),
        /// The same with each term's share of the gradient told, or not.
        gradient_shares: bool,
        /// The same with these losses of hidden states.
        hidden: Vec<HiddenLoss>,
        /// The same with these losses of self-attention relations.
        relations: Vec<RelationLoss>,
    }

    /// The same with a weight of any size for the soft and for the hard term.
    #[must_use]
    pub fn weights(self, soft: f32, hard: f32) -> Self {
        let alpha = soft / (soft + hard);
        Self { alpha, soft_weight: Some(soft), hard_weight: Some(hard), ..self }
    }
}

/// The pictures that come with the program.
impl Model {
    /// A perceptron with hidden layers of so many units, without dropout.
    pub fn mlp(hidden_sizes: impl Into<Vec<usize>>) -> Self {
        Self::Mlp {
            hidden_sizes: hidden_sizes.into(),
            activation: Activation::default(),
            dropout: 0.0,
            input_dropout: 0.0,
        }
    }

    /// An encoder that starts from another one, whole.
    pub fn encoder(from: Base) -> Self {
        Self::Encoder {
            from,
            layers: None::<Layers>,
            random: false,
            hidden_size: None,
            num_attention_heads: None,
            intermediate_size: None,
            vocabulary: Vocabulary::Full,
            max_length: None,
            dropout: None,
        }
    }
}

impl Teacher {
    /// A model that is trained first.
    pub fn trained(model: Model, train: Train) -> Self {
        Self::Trained { model: Box::new(model), train, weights: Storage::F32 }
    }

    /// A model that is there already.
    pub fn folder(folder: Origin) -> Self {
        Self::Folder {
            folder,
            weights: Weights::In(Storage::F32),
            labels: Default::default(),
            cache: None,
        }
    }
}

impl Optimizer {
    /// Gradient descent at this rate with a momentum of 0.9.
    pub fn sgd(lr: f32) -> Self {
        Self::Sgd(Sgd { lr, momentum: 0.9, nesterov: false, weight_decay: 0.0 })
    }

    /// Adam at this rate.
    pub fn adam(lr: f32) -> Self {
        Self::Adam(Adam { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 })
    }

    /// AdamW at this rate, without weight decay.
    pub fn adamw(lr: f32) -> Self {
        Self::AdamW(Adam { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 })
    }
}
