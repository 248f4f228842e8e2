// Tiles of cooperative matrices: 16 × 16, factors in f16, sums in f32.
enable f16;
const TILE: u32 = 16u;
alias tile_type = f16;
alias tile_a = coop_mat16x16<f16, A>;
alias tile_b = coop_mat16x16<f16, B>;
alias tile_c = coop_mat16x16<f32, C>;
