// matmul_subgroup.wgsl with B stored in f16; the arithmetic is the same, in f32.

//#import common/b_f16.wgsl as common/b_f32.wgsl
//#import matmul_subgroup.wgsl
