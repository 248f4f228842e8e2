// As common/word.wgsl, four numbers: of a tensor whose length is a multiple of four.

alias Word = vec4<f32>;
