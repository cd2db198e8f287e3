//! Promises about bits: subnormals, run-to-run equality, independence of the batch.

use super::Fault;
use super::models::{exact_scale, products};
use anychip_core::Access;

const fn fault(name: &'static str, ops: &'static [&'static str], bug: &'static str, run: super::Run) -> Fault {
    Fault::new("determinism", name, ops, bug, run)
}

const GEMMS: &[&str] = &["linear", "expert_gemm"];

fn flush(values: &mut [f64]) {
    values.iter_mut().filter(|x| x.abs() < f64::from(f32::MIN_POSITIVE)).for_each(|x| *x = 0.0_f64.copysign(*x));
}

/// A product in f32, added up in slices: another number of slices gives other bits, all within the bound.
fn sliced(x: &[f64], w: &[f64], slices: usize) -> f64 {
    let len = x.len().div_ceil(slices).max(1);
    let slice = |(x, w): (&[f64], &[f64])| x.iter().zip(w).fold(0.0f32, |s, (x, w)| s + (x * w) as f32);
    f64::from(x.chunks(len).zip(w.chunks(len)).map(slice).sum::<f32>())
}

pub(super) const FAULTS: &[Fault] = &[
    fault(
        "outputs_flushed",
        &["linear", "dequantize"],
        "Subnormal results are stored as zero, undeclared.",
        |b, op| b.then_floats(op, |_, _, values| flush(values)),
    ),
    fault("inputs_flushed", &["linear", "rms_norm"], "Subnormal operands are read as zero, undeclared.", |b, op| {
        b.with_floats(op, &["x", "w"], |_, values| flush(values))
    }),
    fault(
        "order_by_run",
        GEMMS,
        "Atomic additions come in another order each time; the device declares the same bits.",
        |b, op| {
            let runs = b.remembered.entry((op.name(), "runs")).or_default();
            runs.push(0);
            let slices = 1 + runs.len() % 3;
            products(b, op, exact_scale, &move |x, w| sliced(x, w, slices))
        },
    )
    .needs("a second run that gives equal bits (determinism)"),
    fault(
        "order_by_batch",
        GEMMS,
        "K is split by the number of rows; the device declares batch invariance.",
        |b, op| {
            let out = op.operands().into_iter().find(|(_, access, _)| *access == Access::Write);
            let slices = 1 + out.map_or(0, |(_, _, out)| out.size(0)) % 3;
            products(b, op, exact_scale, &move |x, w| sliced(x, w, slices))
        },
    )
    .needs("the same row in another batch (batch invariance)"),
    fault(
        "last_row_by_another_kernel",
        &["rms_norm"],
        "A ragged tile's kernel is one ulp off from the whole tile's.",
        |b, op| {
            b.then_floats(op, |_, t, values| {
                let from = values.len() - t.size(1).min(values.len());
                values[from..].iter_mut().for_each(|x| *x = f64::from((*x as f32).next_up()));
            })
        },
    )
    .needs("the same row in another batch (batch invariance)"),
];
