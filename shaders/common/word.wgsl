// What a pass over a tensor takes at once: one number, so that any length will do.

alias Word = f32;
