// Tokens that were said count as all others do.

fn penalised(_place: u32, value: f32, _penalty: f32) -> f32 {
    return value;
}

fn say(_place: u32) {}
