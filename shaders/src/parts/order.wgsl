
// Scores as numbers that compare like them.

// Of every NaN.
const NO_SCORE: u32 = 0u;
// Of -inf.
const LEAST_SCORE: u32 = 0x007fffffu;

// Both zeros are one score. NaN lies below all.
fn order_of(x: f32) -> u32 {
    let b = bitcast<u32>(x);
    if (is_nan(x)) { return NO_SCORE; }
    if ((b & 0x7fffffffu) == 0u) { return 0x80000000u; }
    return select(b | 0x80000000u, ~b, b >= 0x80000000u);
}
