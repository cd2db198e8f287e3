use crate::load::{Floats, Stores, Work};
use anychip_core::{Result, host, ops};

/// `out = w * silu(min(gate, limit)) * clamp(up, -limit, limit)`
pub(crate) fn run(op: &ops::Swiglu) -> Result<()> {
    let (gate, up) = (Floats::of(&op.gate)?, Floats::of(&op.up)?);
    let weights = op.weights.as_ref().map(host::read).transpose()?;
    let weights = weights.as_ref().map(|w| w.as_slice::<f32>());
    let (rows, width) = (op.gate.size(0), op.gate.size(1));
    Stores::of(&op.out)?.rows(0..rows, width, Work::of(op), Vec::new, |scratch, row, out| {
        gate.read(row * width, out);
        let up = up.view(row * width, width, scratch);
        let weight = weights.map_or(1.0, |w| w[row]);
        out.iter_mut().zip(up).for_each(|(gate, &up)| *gate = clamped(*gate, up, weight, op.limit));
    });
    Ok(())
}

/// One element. In f64, for `exp(-gate)` overflows in f32 where the result still is a normal number.
pub(crate) fn clamped(gate: f32, up: f32, weight: f32, limit: f32) -> f32 {
    // Not `min`, which would turn a NaN into the limit.
    let gate = if gate > limit { limit } else { gate } as f64;
    let silu = gate / (1.0 + (-gate).exp());
    (weight as f64 * silu * up.clamp(-limit, limit) as f64) as f32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use crate::testing::Lab;
    use anychip_core::DType;
    use anychip_core::ops::Swiglu;

    fn swiglu(gate: &[f32], up: &[f32], weights: Option<&[f32]>, limit: f32) -> Vec<f32> {
        let lab = Lab::new();
        let rows = weights.map_or(1, <[f32]>::len);
        let sizes = [rows, gate.len() / rows];
        let weights = weights.map(|w| lab.floats(DType::F32, &[rows], w));
        let [gate, up] = [gate, up].map(|x| lab.floats(DType::F32, &sizes, x));
        let out = lab.output(DType::F32, &sizes);
        lab.run(Swiglu { gate, up, weights, limit, out: out.clone() });
        lab.values(&out)
    }

    #[test]
    fn both_sides_are_clamped_and_the_gate_only_above() {
        let silu = |x: f64| (x / (1.0 + (-x).exp())) as f32;
        let got = swiglu(&[20.0, -20.0, 2.0, 2.0], &[1.0, 1.0, 50.0, -50.0], None, 10.0);
        assert_eq!(got, [silu(10.0), silu(-20.0), 10.0 * silu(2.0), -10.0 * silu(2.0)]);
        let got = swiglu(&[1.0, 1.0], &[3.0, 3.0], Some(&[0.5, -2.0]), f32::INFINITY);
        assert_eq!(got, [1.5 * silu(1.0), -6.0 * silu(1.0)]);
    }

    #[test]
    fn far_below_zero_it_is_small_but_not_zero() {
        // e^95 is beyond f32, 1e30 * 95 e^-95 is not.
        let got = swiglu(&[-95.0], &[1e30], None, f32::INFINITY)[0];
        let want = 1e30f32 as f64 * -95.0 / (1.0 + 95f64.exp());
        assert!((got as f64 / want - 1.0).abs() < 1e-7, "{got} is not {want}");
    }

    #[test]
    fn a_nan_is_not_clamped_away() {
        assert!(swiglu(&[f32::NAN, 1.0, 0.0], &[1.0, f32::NAN, 1.0], None, 10.0)[..2].iter().all(|x| x.is_nan()));
    }
}
