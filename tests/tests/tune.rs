//! Tuning: every variant is checked and timed once, and devices run what was chosen.

use std::sync::Arc;

use distil_gpu_engine::device::Device;
use distil_gpu_engine::kernels::matmul::{Matmul, Tile};
use distil_gpu_engine::kernels::{Args, Caps, Cost, Kernel, Launch, Operand, StepState, Variant};
use distil_gpu_engine::tune::{self, Cache};
use distil_gpu_engine::verify::Case;
use distil_gpu_tests::gpus;

/// A product with two more variants: one that leaves a block of rows out, and one that no driver can run.
#[derive(Clone, Debug)]
struct WithBadVariants(Matmul);

impl Kernel for WithBadVariants {
    fn name(&self) -> &'static str {
        "matmul"
    }
    fn operands(&self) -> Vec<Operand> {
        self.0.operands()
    }
    fn launches(&self, caps: &Caps) -> Vec<Launch> {
        self.0.launches(caps)
    }
    fn variants(&self, caps: &Caps) -> Vec<Variant> {
        let mut wrong = self.0.launches_with(&Tile::SMALL, caps);
        wrong[0].workgroups[1] -= 1;
        let mut refused = wrong.clone();
        refused[0].entry = "nowhere";
        let bad = [("wrong", wrong), ("refused", refused)];
        let bad = bad.map(|(name, launches)| Variant { name: name.to_owned(), launches });
        self.0.variants(caps).into_iter().take(2).chain(bad).collect()
    }
    fn bucket(&self) -> String {
        self.0.bucket()
    }
    fn cost(&self) -> Cost {
        self.0.cost()
    }
    fn run_f32(&self, args: Args<'_, f32>, state: &StepState) {
        self.0.run_f32(args, state);
    }
    fn run_f64(&self, args: Args<'_, f64>, state: &StepState) {
        self.0.run_f64(args, state);
    }
}

#[test]
fn variants_are_checked_timed_and_remembered() {
    for device in &mut gpus(false) {
        let folder = tempfile::tempdir().unwrap();
        let product = Matmul::new(70, 36, 52, false, true);
        let kernel: Arc<dyn Kernel> = Arc::new(WithBadVariants(product.clone()));
        let mut cache = Cache::in_folder(folder.path(), device.info());
        let kernels = [kernel.clone(), kernel.clone()];
        assert!(tune::is_needed(device, &kernels, &mut cache));
        let findings = tune::tune(device, &kernels, &mut cache, &mut |_, _| ()).unwrap();
        let [finding] = &findings[..] else { panic!("one bucket, not {findings:?}") };
        let found = &finding.found;
        let names: Vec<String> =
            product.variants(&device.caps()).into_iter().take(2).map(|v| v.name).collect();
        assert_eq!(finding.default, names[0]);
        assert!(found.microseconds.keys().all(|name| names.contains(name)), "{found:?}");
        assert!(found.microseconds.values().all(|&time| time > 0.0), "{found:?}");
        assert_eq!(found.microseconds.len(), 2, "{found:?}");
        assert!(found.refused["wrong"].contains("computes wrong"), "{found:?}");
        assert!(found.refused["refused"].contains("does not run"), "{found:?}");
        let chosen = found.chosen.clone().unwrap();
        assert!(names.contains(&chosen));
        assert!(finding.gain().unwrap() >= 1.0);

        // Known now, in another program too: nothing is run again.
        let pipelines = device.stats().pipelines;
        let mut again = Cache::in_folder(folder.path(), device.info());
        assert!(!tune::is_needed(device, &kernels, &mut again));
        let known = tune::tune(device, &kernels, &mut again, &mut |_, _| ()).unwrap();
        assert_eq!(known[0].found, *found);
        assert_eq!(device.stats().pipelines, pipelines);

        // The device runs whichever is chosen.
        let case = Case::random(product.clone(), -1.0, 1.0);
        let kernel: Arc<dyn Kernel> = Arc::new(product.clone());
        let mut results = Vec::new();
        for name in &names {
            let mut choices = again.choices();
            choices.insert("matmul", &product.bucket(), name);
            device.choose(choices);
            let launches = device.stats().launches;
            results.push(case.found(device, &kernel).unwrap());
            let variants = product.variants(&device.caps());
            let variant = variants.iter().find(|variant| variant.name == *name).unwrap();
            assert_eq!(device.stats().launches - launches, variant.launches.len() as u64);
        }
        let expected = case.expected().unwrap();
        for (name, found) in names.iter().zip(&results) {
            for distance in case.distances_of(name, found, &expected) {
                assert!(distance.error <= distance.limit, "{distance:?}");
            }
        }
    }
}
