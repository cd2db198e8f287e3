//! The oracle: every operation of the anychip contract in f64, with its error bound.
