use crate::operands::{held, reals};
use crate::{Output, Real};
use anychip_core::Result;
use anychip_core::ops::Swiglu;

/// `out = w * silu(min(gate, limit)) * clamp(up, -limit, limit)`
pub(crate) fn evaluate<R: Real>(op: &Swiglu, units: R::Units) -> Result<Vec<Output<R>>> {
    let inner = op.gate.size(1);
    let gate = held::<R>("gate", &op.gate, units)?;
    let up = held::<R>("up", &op.up, units)?;
    let weights = op.weights.as_ref().map(|w| reals::<R>(w, units)).transpose()?;
    let one = |i: usize| {
        let plain = gated(gate[i], up[i], op.limit);
        weights.as_ref().map_or(plain, |w| w[i / inner] * plain)
    };
    Ok(vec![Output::real("out", &op.out, (0..gate.len()).map(one).collect())])
}

/// `silu(min(gate, limit)) * clamp(up, -limit, limit)` with `silu(a) = a / (1 + e^-a)`
pub(super) fn gated<R: Real>(gate: R, up: R, limit: f32) -> R {
    let limit = R::from(limit as f64);
    let a = gate.min(limit);
    a * a.sigmoid() * up.min(limit).max(-limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use anychip_core::{DType, Numerics};

    fn swiglu(gate: &[f32], up: &[f32], weights: Option<&[f32]>, limit: f32) -> Swiglu {
        let sizes = weights.map_or([1, gate.len()], |w| [w.len(), gate.len() / w.len()]);
        let [gate, up] = [gate, up].map(|v| tensor(DType::F32, &sizes, v));
        let weights = weights.map(|w| tensor(DType::F32, &[w.len()], w));
        Swiglu { gate, up, weights, limit, out: unwritten(DType::F32, &sizes) }
    }

    fn f32_loop(gate: &[f32], up: &[f32], limit: f32) -> Vec<f32> {
        let one = |(&gate, &up): (&f32, &f32)| {
            let a = gate.min(limit);
            a / (1.0 + (-a).exp()) * up.clamp(-limit, limit)
        };
        gate.iter().zip(up).map(one).collect()
    }

    #[test]
    fn the_gate_is_clamped_above_and_the_other_on_both_sides() {
        let silu = |a: f64| a / (1.0 + (-a).exp());
        let op = run(swiglu(&[20.0, -20.0, 1.0, 1.0, 0.0], &[1.0, 1.0, 30.0, -30.0, 5.0], None, 10.0));
        let want = [silu(10.0), silu(-20.0), 10.0 * silu(1.0), -10.0 * silu(1.0), 0.0];
        for (got, want) in exact(&op, "out").iter().zip(want) {
            assert!((got - want).abs() <= 1e-15 * want.abs(), "{got} is not {want}");
        }
        let free = run(swiglu(&[20.0], &[30.0], None, f32::INFINITY));
        assert!((exact(&free, "out")[0] - 30.0 * silu(20.0)).abs() < 1e-12);
    }

    #[test]
    fn each_row_has_its_weight() {
        let op = run(swiglu(&[1.0, 2.0, 1.0, 2.0], &[1.0; 4], Some(&[0.0, -3.0]), 10.0));
        let plain = exact(&run(swiglu(&[1.0, 2.0], &[1.0; 2], None, 10.0)), "out");
        assert_eq!(exact(&op, "out"), [0.0, 0.0, -3.0 * plain[0], -3.0 * plain[1]]);
    }

    #[test]
    fn an_f32_loop_keeps_the_bound() {
        let mut random = Random::new(1);
        for scale in [1.0, 8.0, 60.0] {
            let [gate, up] = [0; 2].map(|_| random.normals(2000, scale));
            let op = run(swiglu(&gate, &up, None, 10.0));
            assert_bound(&op, "out", &f32_loop(&gate, &up, 10.0));
        }
    }

    #[test]
    fn nan_is_not_clamped_away() {
        let op = run(swiglu(&[f32::NAN, 1.0], &[1.0, f32::NAN], None, 10.0));
        assert!(exact(&op, "out").iter().all(|v| v.is_nan()));
        assert!(bounds(&op, "out", &Numerics::f32()).iter().all(|v| v.value().is_nan()));
    }
}
