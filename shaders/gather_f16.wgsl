// gather.wgsl of a table stored in f16.

//#import common/table_f16.wgsl as common/table_f32.wgsl
//#import gather.wgsl
