// Tiles of cooperative matrices: 16 × 16, factors in f32, sums in f32.
const TILE: u32 = 16u;
alias tile_type = f32;
alias tile_a = coop_mat16x16<f32, A>;
alias tile_b = coop_mat16x16<f32, B>;
alias tile_c = coop_mat16x16<f32, C>;
