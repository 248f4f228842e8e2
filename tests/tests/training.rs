//! Trainings: what one is made of does not change what comes of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use distil_gpu_engine::data::{Dataset, Features, Normalisation, Numbers, Text, Texts};
use distil_gpu_engine::device::Device;
use distil_gpu_engine::graph::ops::Update;
use distil_gpu_engine::models::{
    self, Architecture, BatchEncoder, BatchShape, Input, Mlp, ModelConfig, ProblemType,
};
use distil_gpu_engine::nn::Activation;
use distil_gpu_engine::objective::{
    ANSWERS_ALONE, Objective, TeacherAnswers, TeacherInput, TeacherLogits, forward_plan, step_plan,
};
use distil_gpu_engine::plan::Plan;
use distil_gpu_engine::recipe::{Recipe, Train};
use distil_gpu_engine::results::{Arm, Metrics, Shares};
use distil_gpu_engine::run::{Event, Observer, Silent};
use distil_gpu_engine::train::rates::rates;
use distil_gpu_engine::train::{self, Checkpoints, Trained, TrainingJob, optimizer_config};
use distil_gpu_tests::{assert_close, devices, is_slow, narrow, nmse, random, random_labels};

/// The seed of every training.
const SEED: u32 = 3;

/// A model and what it learns from.
struct Subject {
    name: &'static str,
    config: ModelConfig,
    start: Vec<Option<Vec<f32>>>,
    data: Dataset,
}

/// A perceptron on random numbers; the last step of an epoch is smaller than the others.
fn perceptron() -> Subject {
    let mlp = Mlp {
        input_size: 12,
        hidden_sizes: vec![20, 16],
        num_classes: 5,
        activation: Activation::Gelu,
        dropout: 0.0,
        input_dropout: 0.0,
    };
    let numbers = Numbers::new(Features::F32(narrow(&random(150 * 12, 1))), vec![12]).unwrap();
    let start = vec![None; 6];
    Subject {
        name: "MLP",
        config: ModelConfig {
            architecture: Architecture::Mlp(mlp),
            input: Input::Numbers {
                shape: vec![12],
                normalisation: Normalisation::identity(),
                background: None,
            },
            class_names: (0..5).map(|class| class.to_string()).collect(),
            problem: ProblemType::default(),
        },
        start,
        data: Dataset::numbered(numbers, random_labels(150, 5, 2)).unwrap(),
    }
}

/// The tiny BERT of the fixtures on made-up texts of many lengths.
fn encoder() -> Subject {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bert");
    let (mut config, values) = models::load(&folder).unwrap();
    let Architecture::Encoder(encoder) = &mut config.architecture else { panic!("an encoder") };
    (encoder.hidden_dropout, encoder.attention_dropout, encoder.classifier_dropout) =
        (0.0, 0.0, 0.0);
    let words = ["the", "good", "film", "bad", "films", "!", ","];
    let picks = random_labels(150 * 12, words.len(), 3);
    let text = |row: usize| {
        let picks = &picks[row * 12..][..1 + row % 11];
        let words: Vec<&str> = picks.iter().map(|&pick| words[pick as usize]).collect();
        Text { first: words.join(" "), second: None }
    };
    let texts = Texts::new((0..150).map(text).collect()).unwrap();
    Subject {
        name: "encoder",
        config,
        start: values.into_iter().map(Some).collect(),
        data: Dataset::numbered(texts, random_labels(150, 3, 4)).unwrap(),
    }
}

/// How a student is trained.
fn how(text: &str) -> Train {
    let recipe = format!(
        "[data]\nsource = \"embedded\"\n[teacher]\nfolder = \"t\"\n[student]\nmodel = {{ type = \"mlp\", hidden_sizes = [1] }}\n\
         [train]\n{text}"
    );
    let recipe = recipe.replace("\"embedded\"", "\"embedded\"\nvalidation = 0.5");
    Recipe::parse(&recipe, "recipe.toml").unwrap().train
}

/// Trains; the examples are those that are learnt from, tested on and chosen on.
fn learn(device: &mut dyn Device, subject: &Subject, train_as: &Train) -> Trained {
    learn_watched(device, subject, train_as, &mut Silent)
}

fn learn_watched(
    device: &mut dyn Device,
    subject: &Subject,
    train_as: &Train,
    observer: &mut dyn Observer,
) -> Trained {
    learn_from(device, subject, train_as, None, 0.5, observer)
}

/// Trains on the labels, and with a weight of `alpha` on a teacher's answers.
fn learn_from(
    device: &mut dyn Device,
    subject: &Subject,
    train_as: &Train,
    teacher: Option<&dyn TeacherAnswers>,
    alpha: f32,
    observer: &mut dyn Observer,
) -> Trained {
    let Subject { config, start, data, .. } = subject;
    let weights = train_as.class_weights.as_ref().map(|weights| weights.of(data).unwrap());
    let objective = Objective { temperature: 2.0, alpha, ..ANSWERS_ALONE.clone() };
    let job = TrainingJob {
        arm: Arm::Control,
        config,
        start,
        train: train_as,
        seed: SEED,
        data,
        test: data,
        validation: Some(data),
        teacher,
        test_answers: None,
        objective: &objective,
        gradient_shares: true,
        class_weights: weights.as_deref(),
        on_policy: None,
    };
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoints = Checkpoints::new(folder.path(), 0.0);
    train::train(device, &job, &mut checkpoints, observer).unwrap()
}

/// What the parameters have changed by.
fn change(subject: &Subject, before: &Trained, after: &Trained) -> Vec<f64> {
    assert_eq!(subject.start.len(), after.parameters.len());
    let pairs = before.parameters.iter().flatten().zip(after.parameters.iter().flatten());
    pairs.map(|(before, after)| f64::from(*after) - f64::from(*before)).collect()
}

#[test]
fn a_step_of_many_batches_is_one_of_a_large_batch() {
    // Clipping and momentum: both look at the whole gradient.
    let optimizer = "clip = 0.3\noptimizer = { name = \"sgd\", lr = 0.1, momentum = 0.9 }";
    let split = |length: &str, batch: usize, accumulate: usize| {
        how(&format!("{length}\nbatch = {batch}\naccumulate = {accumulate}\n{optimizer}"))
    };
    for subject in [perceptron(), encoder()] {
        for device in devices().iter_mut().filter(|device| !is_slow(&***device)) {
            let device = &mut **device;
            let none = learn(
                device,
                &subject,
                &how("steps = 1\noptimizer = { name = \"sgd\", lr = 1e-30 }"),
            );
            let mut of = |batch, accumulate| {
                let trained = learn(device, &subject, &split("epochs = 2", batch, accumulate));
                assert_eq!(trained.steps, 10);
                change(&subject, &none, &trained)
            };
            let whole = of(32, 1);
            assert!(whole.iter().any(|change| change.abs() > 1e-2));
            for (batch, accumulate) in [(8, 4), (16, 2)] {
                let what = format!("{}, {batch} x {accumulate}", subject.name);
                assert_close(&what, &of(batch, accumulate), &whole, 1e-9);
            }
        }
    }
}

#[test]
fn class_weights_are_those_of_the_whole_step() {
    let optimizer = "optimizer = { name = \"sgd\", lr = 0.1, momentum = 0.9 }";
    let subject = perceptron();
    for device in devices().iter_mut().filter(|device| !is_slow(&***device)) {
        let device = &mut **device;
        let none =
            learn(device, &subject, &how("steps = 1\noptimizer = { name = \"sgd\", lr = 1e-30 }"));
        let mut of = |batch: usize, accumulate: usize, weights: &str| {
            let keys = format!("epochs = 2\nbatch = {batch}\naccumulate = {accumulate}");
            let trained = learn(device, &subject, &how(&format!("{keys}\n{weights}\n{optimizer}")));
            change(&subject, &none, &trained)
        };
        let unequal = "class_weights = { 0 = 8.0, 1 = 0.0, 3 = 0.5 }";
        let whole = of(32, 1, unequal);
        for (batch, accumulate) in [(8, 4), (16, 2)] {
            let what = format!("{batch} x {accumulate}");
            assert_close(&what, &of(batch, accumulate, unequal), &whole, 1e-9);
        }
        let plain = of(32, 1, "");
        assert!(nmse(&whole, &plain) > 1e-2, "weights change what is learnt");
        // The mean is over the weights: what all have in common is nothing.
        let same = of(32, 1, "class_weights = { 0 = 3.0, 1 = 3.0, 2 = 3.0, 3 = 3.0, 4 = 3.0 }");
        assert_close("all of one weight", &same, &plain, 1e-9);
    }
}

#[test]
fn a_step_of_many_batches_allocates_nothing() {
    for subject in [perceptron(), encoder()] {
        for device in devices().iter_mut().filter(|device| !is_slow(&***device)) {
            let mut made = |steps: u32| {
                let before = device.stats();
                learn(
                    &mut **device,
                    &subject,
                    &how(&format!("steps = {steps}\nbatch = 4\naccumulate = 3")),
                );
                let after = device.stats();
                (after.buffers - before.buffers, after.bind_groups - before.bind_groups)
            };
            // Twelve steps are nearly an epoch; its batches are of all shapes.
            made(13);
            assert_eq!(made(26), made(52), "{}", subject.name);
        }
    }
}

#[test]
fn groups_learn_at_rates_of_their_own() {
    let plain = "steps = 1\nbatch = 32\noptimizer = { name = \"sgd\", lr = 0.25, momentum = 0.0 }";
    for subject in [perceptron(), encoder()] {
        let names: Vec<String> =
            subject.config.model().parameters().into_iter().map(|spec| spec.name).collect();
        let (low, frozen, groups) = match subject.name {
            "MLP" => (
                "layers.1",
                "layers.0",
                "{ match = \"*.1\", lr_factor = 0.5 }, { match = \"layers.0\", lr = 0.0 }",
            ),
            _ => (
                "bert.encoder.layer.1",
                "bert.embeddings",
                "{ match = \"*.layer.1\", lr = 0.125 }, { match = \"*embeddings*\", lr = 0.0 }",
            ),
        };
        for accumulate in [1, 2] {
            for device in devices().iter_mut().filter(|device| !is_slow(&***device)) {
                let device = &mut **device;
                let accumulate = format!("\naccumulate = {accumulate}");
                let none = learn(
                    device,
                    &subject,
                    &how(&format!("{plain}{accumulate}").replace("0.25", "1e-30")),
                );
                let whole = learn(device, &subject, &how(&format!("{plain}{accumulate}")));
                let grouped = format!("{plain}{accumulate}\ngroups = [{groups}]");
                let grouped = learn(device, &subject, &how(&grouped));
                for (index, name) in names.iter().enumerate() {
                    let change = |after: &Trained| -> Vec<f64> {
                        let pairs = none.parameters[index].iter().zip(&after.parameters[index]);
                        pairs
                            .map(|(before, after)| f64::from(*after) - f64::from(*before))
                            .collect()
                    };
                    let (found, whole) = (change(&grouped), change(&whole));
                    let factor = match name {
                        name if name.starts_with(frozen) => 0.0,
                        name if name.starts_with(low) => 0.5,
                        _ => 1.0,
                    };
                    let expected: Vec<f64> = whole.iter().map(|change| factor * change).collect();
                    if factor == 0.0 {
                        assert_eq!(found, expected, "{name}");
                    }
                    // What a key's bias changes by is rounding.
                    let most =
                        expected.iter().fold(0.0, |most: f64, change| most.max(change.abs()));
                    if most > 1e-5 {
                        assert_close(name, &found, &expected, 1e-7);
                    }
                }
            }
        }
    }
}

#[test]
fn what_stays_as_it_is_costs_nothing() {
    let encoder = encoder();
    let shape = BatchShape { rows: 8, length: 12, guessed: 0 };
    let specs = encoder.config.model().parameters();
    let plan = |groups: &str| {
        let text = format!(
            "steps = 1\noptimizer = {{ name = \"adamw\", lr = 1e-3, weight_decay = 0.1 }}{groups}"
        );
        let train = how(&text);
        let rates = rates(&train, &specs).unwrap();
        let update = Update { rates, ..optimizer_config(&train).0.into() };
        step_plan(&encoder.config, TeacherInput::None, shape, &update, false).unwrap()
    };
    let count = |plan: &Plan, kernel: &str| {
        plan.calls.iter().filter(|call| call.kernel.name() == kernel).count()
    };
    let (whole, head) = (
        plan(""),
        plan("\ngroups = [{ match = \"bert.em*\", lr = 0.0 }, { match = \"bert.en*\", lr = 0.0 }]"),
    );
    // Weights and the rest; of the head the same.
    assert_eq!([count(&whole, "optimizer"), count(&head, "optimizer")], [2, 2]);
    // Three of the embeddings go one way only, and so do both layers.
    assert_eq!([count(&whole, "gather"), count(&head, "gather")], [6, 3]);
    assert_eq!(count(&head, "attention"), 2);
    let forward = forward_plan(&encoder.config, shape).unwrap();
    assert!(head.calls.len() < forward.calls.len() + 20, "{} calls", head.calls.len());
    // A rate for each layer: weights and the rest of two layers, embeddings and head.
    assert_eq!(count(&plan("\nlayer_decay = 0.9"), "optimizer"), 8);
}

/// What was measured: on the validation data by step, and on training batches by epoch.
#[derive(Default)]
struct Watch {
    validation: Vec<(u32, Metrics)>,
    train: Vec<Metrics>,
    shares: Vec<Option<Shares>>,
}

impl Observer for Watch {
    fn event(&mut self, event: &Event<'_>) {
        match *event {
            Event::Epoch { step, train, validation, shares, .. } => {
                self.shares.push(shares);
                self.train.push(train.clone());
                self.validation.extend(validation.map(|metrics| (step, metrics.clone())));
            }
            Event::Measured { step, metrics, validation: true, .. } => {
                self.validation.push((step, metrics.clone()));
            }
            _ => {}
        }
    }
}

#[test]
fn the_best_parameters_are_kept() {
    // So fast that it is not always the last step that is best.
    let plain =
        "batch = 16\nschedule = { name = \"constant\" }\noptimizer = { name = \"sgd\", lr = 0.9 }";
    let subject = perceptron();
    for device in devices().iter_mut().filter(|device| !is_slow(&***device)) {
        let device = &mut **device;
        let mut last = Watch::default();
        learn_watched(device, &subject, &how(&format!("steps = 40\n{plain}")), &mut last);
        for (keep, score) in [
            ("best_by = \"loss\"", (|metrics| -metrics.loss) as fn(&Metrics) -> f64),
            ("best_by = \"accuracy\"", |metrics| metrics.scores.get("accuracy").unwrap()),
        ] {
            let text = format!("{plain}\nevaluate_every = 3\nkeep = \"best\"\n{keep}");
            let mut seen = Watch::default();
            let best =
                learn_watched(device, &subject, &how(&format!("steps = 40\n{text}")), &mut seen);
            // To measure in between changes nothing.
            assert_eq!(seen.train, last.train);
            let steps: Vec<u32> = seen.validation.iter().map(|(step, _)| *step).collect();
            assert_eq!(steps, (1..14).map(|i| 3 * i).chain([40]).collect::<Vec<_>>());
            // The first of those that are as good.
            let top = seen.validation.iter().map(|(_, m)| score(m)).fold(f64::MIN, f64::max);
            let first = seen.validation.iter().find(|(_, m)| score(m) == top).unwrap().0;
            assert_eq!((best.kept, best.steps), (Some(first), 40));
            assert!(first < 40, "the last is the best: nothing is tested");
            let until = learn(device, &subject, &how(&format!("steps = {first}\n{plain}")));
            assert_eq!(best.parameters, until.parameters);

            let text = format!("steps = 40\n{text}\npatience = 2");
            let mut seen = Watch::default();
            let early = learn_watched(device, &subject, &how(&text), &mut seen);
            let scores: Vec<f64> = seen.validation.iter().map(|(_, m)| score(m)).collect();
            let (before, end) = scores.split_at(scores.len() - 2);
            let top = before.iter().copied().fold(f64::MIN, f64::max);
            assert!(end.iter().all(|score| *score <= top) && before.last() == Some(&top));
            assert_eq!(early.kept, Some(early.steps - 6));
            assert!(early.steps < 40);
        }
    }
}

#[test]
fn shares_of_the_gradient_are_those_of_the_terms_alone() {
    let subject = encoder();
    let values = narrow(&random(150 * 3, 8));
    // One step over all examples: what a step of plain descent at rate 1 changes is the gradient.
    let step = |rate: &str, more: &str| {
        let optimizer = format!("optimizer = {{ name = \"sgd\", lr = {rate}, momentum = 0.0 }}");
        how(&format!("steps = 1\nschedule = {{ name = \"constant\" }}\n{optimizer}\n{more}"))
    };
    // Of a step of several batches they are those of its first.
    let feed = BatchEncoder::new(&subject.config.input, subject.data.examples()).unwrap();
    let rows = feed.epoch(180, SEED, 0).concat();
    for (more, first) in [
        ("batch = 150", 150),
        ("batch = 60\naccumulate = 3", 60),
        ("batch = 150\ngroups = [{ match = \"*.bias\", lr = 0.0 }]", 150),
    ] {
        let rows = &rows[..first];
        let of_first = Subject { data: subject.data.select(rows).unwrap(), ..encoder() };
        let answers_of_first = rows.iter().flat_map(|&row| &values[row as usize * 3..][..3]);
        let of = |values| TeacherLogits { values, width: 3 };
        let (teacher, teacher_of_first) =
            (of(values.clone()), of(answers_of_first.copied().collect()));
        for device in devices().iter_mut().filter(|device| !is_slow(&***device)) {
            let mut seen = Watch::default();
            let device = &mut **device;
            let whole = step("1e-30", more);
            let start = learn_from(device, &subject, &whole, Some(&teacher), 0.7, &mut seen);
            let found = seen.shares[0].unwrap();
            assert!((found.soft + found.hard - 1.0).abs() < 1e-12);
            let mut norm = |alpha| {
                let step = step("1.0", &more.replace("\naccumulate = 3", ""));
                let teacher = Some(&teacher_of_first as &dyn TeacherAnswers);
                let after = learn_from(device, &of_first, &step, teacher, alpha, &mut Silent);
                change(&subject, &start, &after)
                    .iter()
                    .map(|change| change * change)
                    .sum::<f64>()
                    .sqrt()
            };
            let (soft, hard) = (0.7 * norm(1.0), 0.3 * norm(0.0));
            let expected = soft / (soft + hard);
            assert!((found.soft - expected).abs() < 1e-4, "{more}: {} not {expected}", found.soft);
        }
    }
}
