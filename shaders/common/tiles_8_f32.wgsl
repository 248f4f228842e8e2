// Tiles of cooperative matrices: 8 × 8, factors in f32, sums in f32.
const TILE: u32 = 8u;
alias tile_type = f32;
alias tile_a = coop_mat8x8<f32, A>;
alias tile_b = coop_mat8x8<f32, B>;
alias tile_c = coop_mat8x8<f32, C>;
