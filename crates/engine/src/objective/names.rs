//! What the plans of distillation call their stores, inputs and outputs.

/// Store of the model that is trained or evaluated.
pub const STUDENT: usize = 0;
/// Store of the teacher.
pub const TEACHER: usize = 1;
/// Name of the plans' input, where the teacher's answers are given: [rows, classes].
pub const TEACHER_LOGITS: &str = "teacher_logits";
/// Name of the plans' input, where the teacher's last hidden states are given: [tokens, hidden_size].
pub const TEACHER_HIDDEN: &str = "teacher_hidden";
/// Name of the output of [`super::plans::hidden_plan`], and of the input of [`super::plans::head_plan`] that is compared
/// with [`TEACHER_HIDDEN`]: [tokens, hidden_size].
pub const HIDDEN: &str = "hidden";
/// Name of the input of the plans of training batches, where examples have weights: [rows].
pub const ROW_WEIGHTS: &str = "row_weights";
/// Name of the plans' input, where labels are numbers: [rows, outputs].
pub const TARGETS: &str = "targets";
/// Name of the output of forward and loss plans: [rows, classes].
pub const LOGITS: &str = "logits";
/// Name of the output of the loss plans of language models: [tokens, [`TERMS`](distil_gpu_kernels::distill_loss::TERMS)].
pub const TERMS: &str = "terms";
/// Name of the output of [`super::plans::norm_plan`]: [2], of which the first is the squared norm.
pub const NORM: &str = "norm";
/// What the names of a teacher's inputs begin with, where it reads other inputs than the student.
pub const TEACHER_PREFIX: &str = "teacher ";
