//! Which variant of each kernel a device runs.

use std::collections::BTreeMap;

use distil_gpu_kernels::{Caps, Kernel, Launch};
use serde::{Deserialize, Serialize};

/// Names of variants, by kernel and [bucket](Kernel::bucket). Kernels that are not named run as they choose
/// themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Choices(BTreeMap<String, BTreeMap<String, String>>);

impl Choices {
    /// Chooses a variant.
    pub fn insert(&mut self, kernel: &str, bucket: &str, variant: &str) {
        let buckets = self.0.entry(kernel.to_owned()).or_default();
        buckets.insert(bucket.to_owned(), variant.to_owned());
    }

    /// Whether nothing is chosen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How a device of these capabilities runs a kernel. A chosen variant that it lacks is passed over.
    pub fn launches(&self, kernel: &dyn Kernel, caps: &Caps) -> Vec<Launch> {
        let chosen =
            self.0.get(kernel.name()).and_then(|buckets| buckets.get(&kernel.bucket())).and_then(
                |name| kernel.variants(caps).into_iter().find(|variant| variant.name == *name),
            );
        chosen.map_or_else(|| kernel.launches(caps), |variant| variant.launches)
    }
}

#[cfg(test)]
mod tests {
    use distil_gpu_kernels::matmul::{Matmul, Tile};

    use super::*;

    #[test]
    fn a_choice_holds_for_its_bucket_alone() {
        let caps = Caps::default();
        let [chosen, other] = [60, 100].map(|m| Matmul::new(m, 64, 64, false, false));
        let mut choices = Choices::default();
        choices.insert("matmul", &chosen.bucket(), &Tile::VECTORS_WIDE.name());
        let wide = |kernel: &Matmul| kernel.launches_with(&Tile::VECTORS_WIDE, &caps);
        assert_eq!(choices.launches(&chosen, &caps), wide(&chosen));
        assert_ne!(wide(&chosen), chosen.launches(&caps));
        assert_eq!(choices.launches(&other, &caps), other.launches(&caps));
        choices.insert("matmul", &chosen.bucket(), "of another version");
        assert_eq!(choices.launches(&chosen, &caps), chosen.launches(&caps));
    }
}
