use super::*;
use anychip_core::ops::Hadamard;

fn build(b: &mut Builder<'_>, x: DType, out: DType, family: Family, sizes: [usize; 2]) -> Result<Op> {
    let x = b.values(x, &sizes, family, 1.0)?;
    Hadamard { x, out: b.output(out, &sizes)? }.build()
}

/// A row with one element that is not zero gives one row of the matrix itself: signs and their order.
fn unit_rows(b: &mut Builder<'_>) -> Result<Op> {
    let n = 16;
    let values: Vec<f32> = (0..n * n).map(|i| if i / n == i % n { 4.0 } else { 0.0 }).collect();
    let x = b.floats(DType::F32, &[n, n], &values)?;
    Hadamard { x, out: b.output(DType::F32, &[n, n])? }.build()
}

pub(super) fn list(cases: &mut Cases) {
    for (profile, x, out, family, sizes) in [
        (Quick, DType::F32, DType::F32, Normal, [5, 128]),
        (Quick, DType::BF16, DType::BF16, Outliers, [7, 128]),
        (Quick, DType::F32, DType::BF16, Offset, [3, 64]),
        (Quick, DType::F16, DType::F16, Quiet, [4, 2]),
        (Quick, DType::F32, DType::F32, Normal, [3, 1]),
        (Quick, DType::F32, DType::F32, Cancelling, [4, 128]),
        (Quick, DType::BF16, DType::F32, Cancelling, [3, 512]),
        (Quick, DType::F32, DType::F32, Poisoned, [7, 32]),
        (Quick, DType::BF16, DType::F32, Normal, [17, 16]),
        (Quick, DType::F32, DType::BF16, Normal, [33, 64]),
        (Full, DType::BF16, DType::BF16, Outliers, [128, 128]),
        (Full, DType::F32, DType::F32, Normal, [2, 2048]),
    ] {
        let [rows, n] = sizes;
        let name = format!("{x}-{out}/{}/r{rows}-n{n}", family.name());
        cases.add(profile, name, move |b| build(b, x, out, family, sizes));
    }
    cases.add(Quick, "f32-f32/unit_rows/r16-n16", unit_rows);
}
