// Which tokens were said: above 0 those that were. Their logits count less.

@group(0) @binding(7) var<storage, read_write> said: array<f32>;

fn penalised(place: u32, value: f32, penalty: f32) -> f32 {
    let less = select(value * penalty, value / penalty, value > 0.0);
    return select(value, less, said[place] > 0.0);
}

fn say(place: u32) {
    said[place] = 1.0;
}
