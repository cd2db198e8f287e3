//! The CPU device: every operation of the anychip contract in threaded f32.
