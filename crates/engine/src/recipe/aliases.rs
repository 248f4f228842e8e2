//! Keys by the names that other trainers give them, and where each key of a recipe stands: what was meant by a key
//! that is unknown where it was written.

/// A key of a recipe.
pub(super) struct Known {
    /// The table it stands in; empty for the outermost one.
    pub table: &'static str,
    /// What it is called there.
    pub key: &'static str,
    /// What else it is called, in lower case.
    others: &'static [&'static str],
    /// What a value must be where another program has another one under that name.
    hint: &'static str,
}

const fn key(table: &'static str, key: &'static str, others: &'static [&'static str]) -> Known {
    Known { table, key, others, hint: "" }
}

const fn hinted(
    table: &'static str,
    key: &'static str,
    hint: &'static str,
    others: &'static [&'static str],
) -> Known {
    Known { table, key, others, hint }
}

/// Every key; of two of one name, the more usual first. What `[train]` and `student.model` have, `[teacher.train]` and
/// `teacher.model` have as well.
pub(super) const KEYS: &[Known] = &[
    key("", "name", &["run_name", "experiment"]),
    key("", "task", &["task_type", "objective"]),
    key("", "seed", &["random_seed", "random_state", "rng_seed", "manual_seed"]),
    key("", "out", &["output_dir", "output", "out_dir", "save_dir", "output_path"]),
    hinted(
        "",
        "device",
        "\"auto\", \"cpu\" or \"gpu\"",
        &["use_cuda", "use_gpu", "no_cuda", "use_cpu", "cuda", "gpu", "accelerator"],
    ),
    hinted(
        "",
        "checkpoint_seconds",
        "in seconds",
        &["save_steps", "checkpoint_every", "checkpoint_interval", "save_interval"],
    ),
    hinted("", "tensorboard", "true or false", &["report_to", "log_dir", "logging_dir", "logger"]),
    hinted(
        "",
        "precision",
        "\"f32\" or \"mixed\"",
        &["fp16", "bf16", "amp", "mixed_precision", "use_amp", "half"],
    ),
    key("", "data", &["dataset", "datasets", "dataset_name"]),
    key("", "teacher", &["teacher_model", "teacher_model_name", "teacher_name"]),
    key("", "student", &["student_model", "student_model_name", "student_name"]),
    key("", "distil", &["distill", "distillation", "kd"]),
    key("", "train", &["training", "trainer", "training_args"]),
    key("", "target", &[]),
    key("target", "retain", &["min_accuracy", "target_accuracy"]),
    key("data", "source", &["format", "data_source"]),
    key(
        "data",
        "train",
        &["train_file", "train_path", "train_data", "train_dataset", "data_dir", "data_path"],
    ),
    key("data", "test", &["test_file", "test_path", "test_data", "test_dataset", "eval_dataset"]),
    hinted(
        "data",
        "validation",
        "a share of the training data, or a file",
        &[
            "validation_file",
            "valid",
            "val",
            "dev",
            "val_split",
            "validation_split",
            "validation_data",
        ],
    ),
    key("data", "text", &["text_column", "text_field", "sentence"]),
    key("data", "label", &["label_column", "labels", "target_column", "class_column"]),
    key("data", "header", &["has_header"]),
    key("data", "unlabelled", &["unlabeled", "unlabelled_file", "unlabeled_file"]),
    key("data", "train_limit", &["max_train_samples", "num_train_samples", "limit"]),
    key("data", "test_limit", &["max_test_samples", "max_eval_samples"]),
    hinted(
        "data",
        "normalise",
        "\"standardise\", \"none\" or { mean = [..], std = [..] }",
        &["normalize", "normalization", "normalisation", "standardize"],
    ),
    key("data.normalise", "mean", &["means", "image_mean"]),
    key("data.normalise", "std", &["stds", "image_std"]),
    hinted(
        "data",
        "size",
        "[height, width]",
        &["image_size", "img_size", "input_size", "resolution"],
    ),
    key("data", "channels", &["num_channels", "in_channels"]),
    key("data", "background", &["background_color", "background_colour", "bg_color"]),
    key("data", "skip_empty", &["drop_empty", "remove_empty", "skip_blank"]),
    key("data", "features", &["features_tensor"]),
    key("data", "labels", &["labels_tensor"]),
    key("data", "train_images", &[]),
    key("data", "train_labels", &[]),
    key("data", "test_images", &[]),
    key("data", "test_labels", &[]),
    key("student", "model", &["architecture", "arch", "network"]),
    key("teacher", "model", &[]),
    key("teacher", "train", &[]),
    key(
        "teacher",
        "folder",
        &["checkpoint", "path", "pretrained", "teacher_path", "teacher_checkpoint"],
    ),
    key("teacher", "logits", &["teacher_logits", "cached_logits"]),
    key("teacher", "weights", &["teacher_dtype"]),
    key("teacher", "labels", &["label_map", "id2label", "teacher_labels"]),
    hinted("student.model", "type", "\"mlp\" or \"encoder\"", &["model_type"]),
    key(
        "student.model",
        "hidden_sizes",
        &["layer_sizes", "hidden_dims", "hidden_layers", "widths"],
    ),
    key("student.model", "activation", &["hidden_act", "act", "activation_function"]),
    key(
        "student.model",
        "dropout",
        &["dropout_rate", "dropout_prob", "hidden_dropout_prob", "p_dropout"],
    ),
    key("student.model", "input_dropout", &[]),
    key(
        "student.model",
        "from",
        &[
            "base",
            "base_model",
            "pretrained_model",
            "model_name_or_path",
            "model_name",
            "init_from",
            "init",
        ],
    ),
    hinted(
        "student.model",
        "layers",
        "a list of layers, counted from 0",
        &["num_hidden_layers", "num_layers", "n_layers", "n_layer", "keep_layers"],
    ),
    key("student.model", "random", &["random_init", "from_scratch"]),
    key("student.model", "hidden_size", &["d_model", "dim", "hidden_dim", "n_embd", "embed_dim"]),
    key("student.model", "num_attention_heads", &["num_heads", "n_heads", "n_head", "heads"]),
    key("student.model", "intermediate_size", &["d_ff", "ffn_dim", "hidden_dim_ff"]),
    key("student.model", "vocabulary", &["vocab", "vocab_size"]),
    key("student.model.vocabulary", "min_count", &["min_frequency", "min_freq"]),
    key(
        "student.model",
        "max_length",
        &[
            "max_len",
            "max_seq_length",
            "max_seq_len",
            "model_max_length",
            "seq_length",
            "sequence_length",
        ],
    ),
    key(
        "distil",
        "temperature",
        &["t", "temp", "tau", "kd_temperature", "distillation_temperature"],
    ),
    key(
        "distil",
        "alpha",
        &["kd_alpha", "distillation_alpha", "lambda", "lambda_kd", "kd_weight", "soft_ratio"],
    ),
    key("distil", "soft_weight", &["alpha_ce", "alpha_kd", "kl_weight", "soft_loss_weight"]),
    key(
        "distil",
        "hard_weight",
        &["alpha_mlm", "alpha_clm", "alpha_hard", "ce_weight", "hard_loss_weight"],
    ),
    key("distil", "divergence", &["kl_type", "loss_type", "distance"]),
    key("distil", "beta", &["gkd_beta", "jsd_beta"]),
    key("distil", "omit_classes", &["exclude_classes", "skip_classes"]),
    key("distil", "train_limit", &[]),
    key("distil", "gradient_shares", &[]),
    hinted(
        "distil",
        "hidden",
        "a list of { loss = .. }",
        &["hidden_loss", "alpha_cos", "alpha_mse", "hidden_states", "feature_loss"],
    ),
    hinted(
        "distil",
        "relations",
        "a list of { of = .. }",
        &["relation_loss", "attention_loss", "minilm"],
    ),
    key("distil.hidden", "loss", &[]),
    key("distil.hidden", "student_layer", &[]),
    key("distil.hidden", "teacher_layer", &[]),
    key("distil.hidden", "weight", &["loss_weight"]),
    key("distil.relations", "of", &[]),
    key("distil.relations", "student_layer", &[]),
    key("distil.relations", "teacher_layer", &[]),
    key("distil.relations", "weight", &["loss_weight"]),
    key(
        "train",
        "epochs",
        &["num_train_epochs", "num_epochs", "n_epochs", "n_epoch", "max_epochs", "nb_epochs"],
    ),
    key(
        "train",
        "steps",
        &[
            "max_steps",
            "num_steps",
            "num_train_steps",
            "num_training_steps",
            "total_steps",
            "iterations",
            "max_iters",
        ],
    ),
    key(
        "train",
        "batch",
        &[
            "batch_size",
            "bs",
            "batchsize",
            "train_batch_size",
            "per_device_train_batch_size",
            "per_gpu_train_batch_size",
            "mini_batch_size",
        ],
    ),
    key(
        "train",
        "accumulate",
        &[
            "gradient_accumulation_steps",
            "accumulate_grad_batches",
            "grad_accum",
            "accumulation_steps",
            "grad_accumulation",
        ],
    ),
    key(
        "train",
        "clip",
        &[
            "max_grad_norm",
            "gradient_clip_val",
            "grad_clip",
            "gradient_clipping",
            "clip_norm",
            "clip_grad_norm",
            "grad_norm_clip",
            "clipnorm",
        ],
    ),
    hinted(
        "train",
        "class_weights",
        "\"balanced\" or a table of classes",
        &["class_weight", "loss_weights", "pos_weight", "sample_weights"],
    ),
    key("train", "max_norm", &["max_weight_norm", "weight_constraint"]),
    hinted(
        "train",
        "shift",
        "in pixels",
        &["random_crop", "augment", "augmentation", "jitter", "random_shift"],
    ),
    hinted(
        "train",
        "optimizer",
        "as { name = \"adamw\", lr = 1e-3 }",
        &["optim", "optimiser", "opt"],
    ),
    hinted(
        "train",
        "schedule",
        "as { name = \"cosine\", warmup_steps = 100 }",
        &[
            "scheduler",
            "lr_scheduler",
            "lr_scheduler_type",
            "lr_schedule",
            "learning_rate_schedule",
        ],
    ),
    hinted(
        "train",
        "evaluate_every",
        "in steps",
        &[
            "eval_steps",
            "eval_every",
            "eval_interval",
            "val_check_interval",
            "evaluation_strategy",
            "eval_strategy",
        ],
    ),
    hinted(
        "train",
        "keep",
        "\"best\" or \"last\"",
        &[
            "load_best_model_at_end",
            "save_best",
            "save_best_only",
            "restore_best_weights",
            "keep_best",
        ],
    ),
    key("train", "best_by", &["metric_for_best_model", "monitor", "best_metric"]),
    key("train", "patience", &["early_stopping_patience", "early_stopping"]),
    key(
        "train",
        "layer_decay",
        &["layerwise_lr_decay", "llrd", "layer_lr_decay", "lr_layer_decay"],
    ),
    key("train", "groups", &["param_groups", "parameter_groups"]),
    hinted(
        "train.optimizer",
        "name",
        "\"sgd\", \"adam\" or \"adamw\"",
        &["optimizer_name", "optimizer_type"],
    ),
    key(
        "train.optimizer",
        "lr",
        &[
            "learning_rate",
            "learningrate",
            "base_lr",
            "max_lr",
            "peak_lr",
            "init_lr",
            "eta",
            "step_size",
        ],
    ),
    key("train.optimizer", "momentum", &["sgd_momentum"]),
    key("train.optimizer", "nesterov", &["use_nesterov"]),
    key(
        "train.optimizer",
        "weight_decay",
        &["wd", "decay", "l2", "weightdecay", "l2_reg", "weight_decay_rate"],
    ),
    hinted(
        "train.optimizer",
        "beta1",
        "with `beta2` beside it",
        &["betas", "adam_beta1", "adam_betas"],
    ),
    key("train.optimizer", "beta2", &["adam_beta2"]),
    key("train.optimizer", "eps", &["epsilon", "adam_epsilon", "adam_eps"]),
    key("train.schedule", "name", &["schedule_name", "schedule_type"]),
    hinted(
        "train.schedule",
        "warmup_steps",
        "a number of steps",
        &[
            "warmup",
            "warmup_ratio",
            "warmup_proportion",
            "num_warmup_steps",
            "warmup_epochs",
            "lr_warmup_steps",
            "warm_up_steps",
        ],
    ),
    key(
        "train.schedule",
        "final_lr",
        &["min_lr", "eta_min", "end_lr", "lr_end", "final_learning_rate"],
    ),
    hinted(
        "train.schedule",
        "every",
        "in epochs",
        &["lr_step_size", "decay_epochs", "milestones", "lr_decay_epochs"],
    ),
    key(
        "train.schedule",
        "factor",
        &["gamma", "lr_gamma", "decay_factor", "decay_rate", "lr_decay"],
    ),
    key("train.groups", "match", &["pattern", "params", "regex"]),
    key("train.groups", "lr", &["learning_rate"]),
    key("train.groups", "lr_factor", &["lr_mult", "lr_multiplier", "lr_scale"]),
    key("train.groups", "weight_decay", &["wd"]),
];

impl Known {
    /// The table it stands in, for a key that was written in `table`: what concerns the teacher stays there.
    fn table_for(&self, table: &str) -> String {
        let of_teacher = table.split('.').next() == Some("teacher");
        let shared = ["train", "student"].contains(&self.table.split('.').next().unwrap_or(""));
        match (of_teacher && shared, self.table.strip_prefix("student")) {
            (false, _) => self.table.to_owned(),
            (true, Some(rest)) => format!("teacher{rest}"),
            (true, None) => format!("teacher.{}", self.table),
        }
    }
}

/// What may be meant by `word`, a key that the table at `path` does not know, in a sentence: a name that others give it,
/// or a key of another table. Nothing where no key is called so. `own` are the keys that this table has, which may
/// depend on what else it says.
pub(super) fn meant(word: &str, path: &str, own: &[&str]) -> Option<String> {
    // The items of a list are tables alike.
    let is_name = |part: &&str| part.parse::<usize>().is_err();
    let path = path.split('.').filter(is_name).collect::<Vec<_>>().join(".");
    let found = called(word).map(|known| (known, known.table_for(&path)));
    let (known, table) = found.min_by_key(|(known, table)| match table == &path {
        true if own.contains(&known.key) => 0,
        // The same key in another form of this table.
        true => 1,
        false if table.starts_with(&path) => 2,
        false => 3,
    })?;
    if table == path && !own.contains(&known.key) {
        let form = form(&path)?;
        return Some(format!("it goes with another `{form}` than this one."));
    }
    let mut meant = match (table == path, table.is_empty()) {
        (true, _) => format!("`{}`", known.key),
        (_, true) => format!("`{}` at the top of the recipe, before any [table]", known.key),
        (_, false) => format!("`{table}.{}`", known.key),
    };
    // A key that is ours means here what it means there.
    if known.key != word && !known.hint.is_empty() {
        meant = format!("{meant}, {}", known.hint);
    }
    Some(format!("did you mean {meant}?"))
}

/// The whole path of the key that is called so, by others or here: `train.optimizer.lr` for `learning_rate`.
pub fn path_of_key(word: &str) -> Option<String> {
    let Known { table, key, .. } = called(word).next()?;
    Some(if table.is_empty() { (*key).to_owned() } else { format!("{table}.{key}") })
}

/// The keys that have a name.
fn called(word: &str) -> impl Iterator<Item = &'static Known> {
    let word = word.to_lowercase().replace('-', "_");
    KEYS.iter().filter(move |known| known.key == word || known.others.contains(&&*word))
}

/// The key of a table that says which others it has.
fn form(path: &str) -> Option<&'static str> {
    match path.rsplit('.').next()? {
        "data" => Some("source"),
        "model" => Some("type"),
        "optimizer" | "schedule" => Some("name"),
        _ => None,
    }
}
