//! Bundles of small models: what they hold, how large they are, and that it fits together.

#![allow(clippy::unwrap_used, reason = "a test says so by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use distil_gpu_engine::models::{self, ModelConfig};
use distil_gpu_engine::store::Storage;
use distil_gpu_web::{
    Binding, Buffer, InputRecipe, Model, Options, Parts, Row, runtime_files, write_folder,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

fn load(name: &str) -> (ModelConfig, Vec<Vec<f32>>) {
    models::load(&fixture(name)).unwrap()
}

fn parts(name: &str, weights: Storage) -> Parts {
    let (config, values) = load(name);
    let model = Model { config: &config, values: &values, folder: None };
    Parts::of(&model, &Options { weights, ..Options::default() }).unwrap()
}

#[test]
fn a_bundle_fits_together() {
    // RoBERTa's positions count from 2.
    for (name, length) in [("bert", 16), ("distilbert", 16), ("roberta", 14)] {
        let Parts { bundle, weights, tokenizer } = parts(name, Storage::F16);
        assert!(tokenizer.unwrap().contains("\"model\""));
        let recorded = &bundle.recorded;
        let texts: BTreeSet<&String> = recorded.wgsl.iter().collect();
        assert_eq!(texts.len(), recorded.wgsl.len(), "{name}: a shader is there twice");
        for wgsl in &recorded.wgsl {
            assert!(wgsl.contains("@compute") && !wgsl.contains("//"), "{name}");
            // What a browser may lack.
            assert!(!wgsl.contains("enable ") && !wgsl.contains("subgroup"), "{name}");
        }
        let shapes: Vec<_> = bundle.plans.iter().map(|plan| (plan.length, plan.rows)).collect();
        assert_eq!(shapes, [(length, 1), (length, 8)], "{name}");
        for plan in &bundle.plans {
            for launch in &plan.launches {
                let pipeline = &recorded.pipelines[launch.pipeline];
                assert_eq!(pipeline.read_only.len(), launch.bindings.len());
                assert!(launch.bindings.len() <= 8 && pipeline.module < recorded.wgsl.len());
                for binding in &launch.bindings {
                    let Binding::Part(buffer, offset, bytes) = *binding else { continue };
                    let room = match &plan.buffers[buffer] {
                        Buffer::Slot { index } => recorded.slots[*index],
                        Buffer::Segment { index } => weights[*index].len() as u64,
                        Buffer::Constant { .. } => continue,
                        Buffer::Input { len, .. } | Buffer::Output { len } => 4 * *len as u64,
                    };
                    assert!(offset % 256 == 0 && offset + bytes <= room, "{name}: {launch:?}");
                }
            }
            assert!(matches!(plan.buffers[plan.output], Buffer::Output { .. }));
            assert_eq!(plan.probe.logits.len(), plan.probe.rows.len() * bundle.model.width);
        }
        for (segment, bytes) in bundle.segments.iter().zip(&weights) {
            assert_eq!((segment.bytes, segment.sha256.len()), (bytes.len(), 64));
        }
        assert!(bundle.model.rounding > 0.0 && bundle.model.rounding < 1e-2, "{name}");
    }
}

#[test]
fn weights_take_half_the_room_in_f16() {
    let bytes = |weights| -> usize {
        parts("bert", weights).bundle.segments.iter().map(|segment| segment.bytes).sum()
    };
    let [half, whole] = [Storage::F16, Storage::F32].map(bytes);
    assert!(half < whole * 7 / 10, "{half} of {whole}");
    assert_eq!(parts("bert", Storage::F32).bundle.model.rounding, 0.0);
}

#[test]
fn a_tokenizer_is_told_with_texts_to_hold_it_to() {
    let InputRecipe::Texts(recipe) = parts("bert", Storage::F16).bundle.input else {
        panic!("bert reads texts")
    };
    assert_eq!(recipe.single.tokens.len(), 2);
    assert_eq!(recipe.single.types, [0; 3]);
    let pair = recipe.pair.unwrap();
    assert_eq!(pair.tokens.len(), 3);
    assert_eq!(pair.types, [0, 0, 0, 1, 1]);
    assert!(!recipe.cuts_left && !recipe.blanks && recipe.types);
    assert_eq!((recipe.max_length, recipe.first_position), (16, Some(0)));
    assert!(recipe.checks.len() >= 15);
    assert!(recipe.checks.iter().all(|check| !check.ids.is_empty() && check.ids.len() <= 16));
    // Some are too long for the model.
    assert!(recipe.checks.iter().any(|check| check.ids.len() == 16 && check.second.is_some()));
}

#[test]
fn probes_fill_rows_and_leave_padding() {
    for plan in parts("bert", Storage::F32).bundle.plans {
        let len = |row: &Row| match row {
            Row::Tokens { ids, .. } => ids.len(),
            Row::Numbers { .. } => panic!("bert reads texts"),
        };
        let lens: Vec<usize> = plan.probe.rows.iter().map(len).collect();
        assert_eq!(lens[0], plan.length);
        assert!(plan.rows == 1 || lens[1] < plan.length);
    }
}

#[test]
fn language_models_are_refused() {
    let (config, values) = load("bert-mlm");
    let model = Model { config: &config, values: &values, folder: None };
    let folder = tempfile::tempdir().unwrap();
    let error = write_folder(&model, &Options::default(), &folder.path().join("web")).unwrap_err();
    assert!(error.to_string().contains("`masked-lm`"), "{error}");
    assert!(!folder.path().join("web").exists());
}

#[test]
fn what_all_pages_share_is_small() {
    let files = runtime_files(true);
    let code = files.iter().filter(|(name, _)| !name.ends_with(".txt"));
    let bytes: usize = code.map(|(_, text)| text.len()).sum();
    assert!(bytes < 110_000, "{bytes} bytes");
    for (name, text) in files {
        assert!(!text.contains('\r'), "{name}");
    }
}
