//! Every key of a recipe, in the order in which they are told.

use super::key::{Described, KeyGroup};
use super::{
    data, distil, features, groups, model, on_policy, optimizer, pictures, root, schedule, teacher,
    train, weights,
};

/// Every group of keys; of two keys of one name, the more usual first.
pub(super) static GROUPS: &[&KeyGroup] = &[
    &root::ROOT,
    &root::TARGET_KEYS,
    &data::SOURCES,
    &data::FILES,
    &data::IMAGES,
    &data::CSV,
    &data::SAFETENSORS,
    &data::IDX,
    &data::TEXTS,
    &data::DOCUMENTS,
    &data::ANY_DATA,
    &data::NORMALISATION,
    &root::STUDENT_KEYS,
    &teacher::TEACHER,
    &model::MODEL,
    &model::MLP,
    &pictures::RESNET,
    &pictures::EFFICIENTNET,
    &model::TRANSFORMER,
    &model::DECODER,
    &model::VOCABULARY_KEYS,
    &distil::DISTIL,
    &on_policy::ON_POLICY,
    &features::HIDDEN_KEYS,
    &features::RELATION_KEYS,
    &train::TRAIN,
    &weights::WEIGHING,
    &train::GROUPED,
    &optimizer::OPTIMIZER,
    &optimizer::SGD,
    &optimizer::ADAM,
    &optimizer::DECAY,
    &schedule::SCHEDULE,
    &schedule::DECAY_TO,
    &schedule::STEPWISE,
    &groups::GROUP_KEYS,
];

/// Every key, with the group that it is in.
pub(super) fn all() -> impl Iterator<Item = (&'static KeyGroup, &'static dyn Described)> {
    GROUPS.iter().flat_map(|&group| group.keys.iter().map(move |&key| (group, key)))
}
