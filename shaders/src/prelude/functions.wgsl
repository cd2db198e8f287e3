
// Elementary functions within 2 units in the last place of f32 where division and square root are within 2.5, as Vulkan
// asks. What drivers bring is not used: their exp and log are wrong in the third to last bit and beyond.

// x 2^n, rounded once; n from -252.
fn times_power(x: f32, n: i32) -> f32 {
    let first = clamp(n, -126, 127);
    let second = clamp(n - first, -126, 127);
    return x * bitcast<f32>(u32(first + 127) << 23u) * bitcast<f32>(u32(second + 127) << 23u);
}

// e^x as m 2^n with m near 1. Cephes expf: ln 2 in two parts, a polynomial of degree 7.
fn power_of_e(x: f32) -> Power {
    let n = floor(x * 1.44269504088896341 + 0.5);
    let r = (x - n * 0.693359375) + n * 2.12194440e-4;
    var y = 1.9875691500e-4 * r + 1.3981999507e-3;
    y = y * r + 8.3334519073e-3;
    y = y * r + 4.1665795894e-2;
    y = y * r + 1.6666665459e-1;
    y = y * r + 5.0000001201e-1;
    return Power(y * r * r + r + 1.0, i32(n));
}

fn exp_of(x: f32) -> f32 {
    if (is_nan(x)) { return x; }
    if (x > 88.8) { return infinity(); }
    if (x < -104.0) { return 0.0; }
    let power = power_of_e(x);
    return times_power(power.m, power.n);
}

// ln x of a normal x from 2^-120. Cephes logf, from sqrt(1/2) to sqrt(2) by a polynomial.
fn log_of(x: f32) -> f32 {
    var e = i32(bitcast<u32>(x) >> 23u) - 126;
    var f = bitcast<f32>((bitcast<u32>(x) & 0x7fffffu) | 0x3f000000u);
    if (f < 0.707106781186547524) { e -= 1; f = f + f; }
    f -= 1.0;
    let z = f * f;
    var y = 7.0376836292e-2 * f - 1.1514610310e-1;
    y = y * f + 1.1676998740e-1;
    y = y * f - 1.2420140846e-1;
    y = y * f + 1.4249322787e-1;
    y = y * f - 1.6668057665e-1;
    y = y * f + 2.0000714765e-1;
    y = y * f - 2.4999993993e-1;
    y = y * f + 3.3333331174e-1;
    y = y * f * z;
    y += f32(e) * -2.12194440e-4;
    y -= 0.5 * z;
    return f + y + f32(e) * 0.693359375;
}

// ln(1 + u) for u from 0 to 1, relatively exact down to the smallest u: what rounding took from 1 + u is added again.
fn log1p_of(u: f32) -> f32 {
    let w = 1.0 + u;
    return log_of(w) + (u - (w - 1.0)) / w;
}

fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp_of(-x)); }

// w silu(min(gate, limit)) clamp(up, -limit, limit), with limit positive or infinite; NaN stays NaN.
fn swiglu(gate: f32, up: f32, weight: f32, limit: f32) -> f32 {
    let g = select(gate, limit, gate > limit);
    let u = select(select(up, limit, up > limit), -limit, up < -limit);
    // On the bits, for compilers take `!(g < -80)` for `g >= -80`. Minus infinity is infinity by infinity.
    if (!is_finite(g) || g > -80.0) { return weight * (g / (1.0 + exp_of(-g))) * u; }
    // e^g alone would leave f32's range where the product does not.
    let power = power_of_e(max(g, -400.0));
    return times_power(weight * g * u * power.m, max(power.n, -252));
}
