// Tiles of cooperative matrices: 8 × 8, factors in f16, sums in f32.
enable f16;
const TILE: u32 = 8u;
alias tile_type = f16;
alias tile_a = coop_mat8x8<f16, A>;
alias tile_b = coop_mat8x8<f16, B>;
alias tile_c = coop_mat8x8<f32, C>;
