
// Number formats: what the bits of an element mean, and which bits a value becomes. Rounding is to nearest, ties to even,
// in integers: what hardware conversions do in halfway cases and with subnormals differs from driver to driver.

// Not constants: WGSL refuses constant expressions that are not finite.
var<private> nan_bits: u32 = 0x7fc00000u;
var<private> infinity_bits: u32 = 0x7f800000u;

fn not_a_number() -> f32 { return bitcast<f32>(nan_bits); }
fn infinity() -> f32 { return bitcast<f32>(infinity_bits); }
// On the bits: compilers may take `x != x` for false.
fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
fn is_finite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }

// bfloat16, in the low half of `bits`.
fn bf16_value(bits: u32) -> f32 { return bitcast<f32>(bits << 16u); }
fn bf16_values(words: vec2<u32>) -> vec4<f32> {
    let low = words << vec2<u32>(16u);
    let high = words & vec2<u32>(0xffff0000u);
    return bitcast<vec4<f32>>(vec4<u32>(low.x, high.x, low.y, high.y));
}
fn bf16_bits(x: f32) -> u32 {
    let b = bitcast<u32>(x);
    if (is_nan(x)) { return (b >> 16u) | 0x40u; }
    return (b + 0x7fffu + ((b >> 16u) & 1u)) >> 16u;
}
fn round_bf16(x: f32) -> f32 { return bf16_value(bf16_bits(x)); }

// IEEE binary16, in the low half of `bits`.
fn f16_value(bits: u32) -> f32 { return unpack2x16float(bits & 0xffffu).x; }
fn f16_values(words: vec2<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y)); }
fn f16_bits(x: f32) -> u32 {
    let b = bitcast<u32>(x);
    let sign = (b >> 16u) & 0x8000u;
    let a = b & 0x7fffffffu;
    if (a > 0x7f800000u) { return sign | 0x7e00u; }
    if (a >= 0x477ff000u) { return sign | 0x7c00u; } // from 65520 on
    if (a < 0x38800000u) { return sign | fixed_point(a, 126u); } // below 2^-14, in units of 2^-24
    return sign | ((a + 0xfffu + ((a >> 13u) & 1u) - 0x38000000u) >> 13u);
}

// The magnitude whose bits are `a` in units of 2^(zero - 150), rounded; less than 2^24 of them.
fn fixed_point(a: u32, zero: u32) -> u32 {
    let e = a >> 23u;
    let shift = zero - e;
    if (e == 0u || shift > 25u) { return 0u; }
    let m = (a & 0x7fffffu) | 0x800000u;
    let whole = m >> shift;
    let rest = m & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    return whole + select(0u, 1u, rest > half || (rest == half && (whole & 1u) == 1u));
}

// FP8 e4m3, in the low byte of `code`. Read as a binary16 it is 2^8 too small.
fn e4m3_value(code: u32) -> f32 {
    let v = unpack2x16float(((code & 0x80u) << 8u) | ((code & 0x7fu) << 7u)).x * 256.0;
    return select(v, not_a_number(), (code & 0x7fu) == 0x7fu);
}
fn e4m3_values(word: u32) -> vec4<f32> {
    let even = unpack2x16float(((word & 0x00800080u) << 8u) | ((word & 0x007f007fu) << 7u));
    let odd = unpack2x16float((word & 0x80008000u) | ((word & 0x7f007f00u) >> 1u));
    let v = vec4<f32>(even.x, odd.x, even.y, odd.y) * 256.0;
    let codes = (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0x7fu);
    return select(v, vec4<f32>(not_a_number()), codes == vec4<u32>(0x7fu));
}
fn e4m3_code(x: f32) -> u32 {
    let b = bitcast<u32>(x);
    let sign = (b >> 24u) & 0x80u;
    if (is_nan(x)) { return 0x7fu; }
    let a = min(b & 0x7fffffffu, 0x43e00000u); // 448
    if (a < 0x3c800000u) { return sign | fixed_point(a, 141u); } // below 2^-6, in units of 2^-9
    return sign | (((a + 0x7ffffu + ((a >> 20u) & 1u)) >> 20u) - 960u);
}

// FP4 e2m1, in the low nibble of `code`. Read as a binary16 it is 2^14 too small.
fn e2m1_value(code: u32) -> f32 {
    return unpack2x16float(((code & 8u) << 12u) | ((code & 7u) << 9u)).x * 16384.0;
}
fn e2m1_values(codes: u32) -> vec4<f32> {
    let even = unpack2x16float(((codes & 8u) << 12u) | ((codes & 7u) << 9u)
        | ((codes & 0x800u) << 20u) | ((codes & 0x700u) << 17u));
    let odd = unpack2x16float(((codes & 0x80u) << 8u) | ((codes & 0x70u) << 5u)
        | ((codes & 0x8000u) << 16u) | ((codes & 0x7000u) << 13u));
    return vec4<f32>(even.x, odd.x, even.y, odd.y) * 16384.0;
}
fn e2m1_code(x: f32) -> u32 {
    if (is_nan(x)) { return 7u; }
    let a = abs(x);
    // A midpoint goes up only where the upper code is even.
    var index = select(0u, 1u, a > 0.25) + select(0u, 1u, a >= 0.75) + select(0u, 1u, a > 1.25);
    index += select(0u, 1u, a >= 1.75) + select(0u, 1u, a > 2.5) + select(0u, 1u, a >= 3.5) + select(0u, 1u, a > 5.0);
    return index | ((bitcast<u32>(x) >> 28u) & 8u);
}

// ue8m0 scales, in the low byte: 2^(byte - 127), 255 is NaN.
fn scale_value(bits: u32) -> f32 {
    let byte = bits & 255u;
    if (byte == 255u) { return not_a_number(); }
    return bitcast<f32>(select(byte << 23u, 0x400000u, byte == 0u));
}
// Codes times their scale. 2^-127 is a subnormal, which some devices take for zero: it is two factors.
fn scaled(v: vec4<f32>, bits: u32) -> vec4<f32> {
    let w = v * scale_value(max(bits & 255u, 1u));
    return select(w, w * 0.5, (bits & 255u) == 0u);
}
// m 2^n.
struct Power { m: f32, n: i32 }
fn power_of_scale(bits: u32) -> Power {
    let byte = bits & 255u;
    return Power(select(1.0, not_a_number(), byte == 255u), i32(byte) - 127);
}
// The byte of a block's scale, from its largest magnitude, the least that it is scaled for and 1 / (the largest code).
fn scale_byte(amax: f32, least: f32, reciprocal: f32) -> u32 {
    if (!is_finite(amax)) { return 255u; }
    let ratio = bitcast<u32>(max(amax, least) * reciprocal);
    return (ratio + 0x7fffffu) >> 23u;
}
fn e4m3_scale(amax: f32) -> u32 { return scale_byte(amax, 1e-4, bitcast<f32>(0x3b124925u)); }
fn e2m1_scale(amax: f32) -> u32 { return scale_byte(amax, bitcast<f32>(0x01c00000u), bitcast<f32>(0x3e2aaaabu)); }
// The larger magnitude; NaN where there is one.
fn amax_of(a: f32, x: f32) -> f32 {
    if (is_nan(a) || is_nan(x)) { return not_a_number(); }
    return max(a, abs(x));
}
// `x` divided by the scale: by two powers of two, each of which f32 has, where one alone might not be one.
fn unscaled(x: f32, byte: u32) -> f32 {
    let bits = bitcast<u32>(x);
    if ((bits & 0x7f800000u) == 0u) {
        // A subnormal, which some devices read as zero: as the integer that it is, in units of 2^-149.
        let units = f32(bits & 0x7fffffu);
        return times_power(select(units, -units, (bits >> 31u) == 1u), -22 - i32(byte));
    }
    let exponent = 127 - i32(byte);
    let first = exponent / 2;
    let second = exponent - first;
    return x * bitcast<f32>(u32(first + 127) << 23u) * bitcast<f32>(u32(second + 127) << 23u);
}
// Code of an element of a block. A block that holds a NaN or an infinity has codes 0: its scale says what it is.
fn e4m3_of(x: f32, byte: u32) -> u32 { return select(e4m3_code(unscaled(x, byte)), 0u, byte == 255u); }
fn e2m1_of(x: f32, byte: u32) -> u32 { return select(e2m1_code(unscaled(x, byte)), 0u, byte == 255u); }

// The first `n` of four, zeros behind them.
fn until(v: vec4<f32>, n: u32) -> vec4<f32> {
    return select(vec4<f32>(), v, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(n));
}
