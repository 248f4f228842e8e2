// The step state (binding 1 of every kernel) and the fold of the workgroup grid.

struct Step {
    step: u32,
    seed: u32,
    learning_rate: f32,
    temperature: f32,
    alpha: f32,
    soft_scale: f32,
    hard_scale: f32,
    bias_correction1: f32,
    bias_correction2: f32,
    token_scale: f32,
    loss_scale: f32,
    blend: f32,
}

@group(0) @binding(1) var<uniform> state: Step;

// Index of a workgroup in a grid that was folded into x and y.
fn flat_group(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.x + group.y * groups.x;
}
