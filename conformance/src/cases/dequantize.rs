use super::*;
use crate::builder::HostMatrix;
use anychip_core::ops::Dequantize;

fn build(b: &mut Builder<'_>, x: &HostMatrix, out: DType) -> Result<Op> {
    let x_of_device = b.matrix_of(x)?;
    Dequantize { x: x_of_device, out: b.output(out, &x.sizes)? }.build()
}

/// Every code under the scales 2^-126, 1, 2^127 and NaN: subnormal results, infinities where the result's type ends, and
/// NaN of both kinds.
fn every_code(b: &mut Builder<'_>, format: Format, out: DType) -> Result<Op> {
    b.expect_nan();
    let cols = if format.dtype() == DType::E2M1 { 16 } else { 256 };
    let row: Vec<u8> = match format.dtype() {
        DType::E2M1 => (0..8).map(|i| (2 * i) | (2 * i + 1) << 4).collect(),
        _ => (0..=255).collect(),
    };
    let (codes, scales) = (row.repeat(5), vec![1, 127, 128, 254, 255]);
    build(b, &HostMatrix { format, sizes: [1, 5, cols], codes, scales }, out)
}

/// Every scale over the smallest and the largest codes of both signs, one, and zero.
fn every_scale(b: &mut Builder<'_>, format: Format, out: DType) -> Result<Op> {
    b.expect_nan();
    let codes = match format.dtype() {
        DType::E2M1 => [0x91, 0xF7, 0x02, 0x80],
        _ => [0x01, 0x81, 0x7E, 0xFE],
    };
    let cols = if format.dtype() == DType::E2M1 { 8 } else { 4 };
    let (codes, scales) = (codes.repeat(256), (0..=255).collect());
    build(b, &HostMatrix { format, sizes: [1, 256, cols], codes, scales }, out)
}

pub(super) fn list(cases: &mut Cases) {
    for (profile, format, out, family, sizes) in [
        (Quick, E4M3_BLOCKS, DType::BF16, Normal, [1, 160, 200]),
        (Quick, E4M3_ROWS, DType::F32, Outliers, [1, 3, 320]),
        (Quick, E2M1_ROWS, DType::BF16, Quiet, [3, 8, 80]),
        (Quick, E4M3_F32_BLOCKS, DType::F32, Normal, [2, 130, 136]),
        (Quick, BF16, DType::F16, Normal, [1, 5, 33]),
        (Quick, E4M3_BLOCKS, DType::F32, Normal, [1, 127, 129]),
        (Quick, E4M3_BLOCKS, DType::BF16, Outliers, [1, 129, 127]),
        (Quick, E2M1_ROWS, DType::F32, Normal, [2, 17, 34]),
        (Quick, E4M3_ROWS, DType::F16, Normal, [1, 15, 31]),
        (Quick, F32, DType::BF16, Poisoned, [1, 6, 33]),
        (Full, E4M3_BLOCKS, DType::BF16, Normal, [1, 1024, 4096]),
        (Full, E2M1_ROWS, DType::BF16, Outliers, [1, 512, 7168]),
        (Full, E2M1_ROWS, DType::BF16, Normal, [4, 256, 2048]),
    ] {
        let [groups, rows, cols] = sizes;
        let name = format!("{}-{out}/{}/g{groups}-r{rows}-k{cols}", tag(format), family.name());
        cases.add(profile, name, move |b| {
            if family == Poisoned {
                b.expect_nan();
            }
            let x = HostMatrix::random(format, sizes, family, 1.0, b.random());
            build(b, &x, out)
        });
    }
    let rows_of = |format: fn(ScaleLayout) -> Format| format(ScaleLayout::per_row(256));
    for (format, out) in
        [(rows_of(Format::E4M3), DType::F32), (rows_of(Format::E4M3), DType::BF16), (rows_of(Format::E2M1), DType::F32)]
    {
        let name = format!("{}-{out}/every_code/g1-r5", tag(format));
        cases.add(Quick, name, move |b| every_code(b, format, out));
        let name = format!("{}-{out}/every_scale/g1-r256", tag(format));
        cases.add(Quick, name, move |b| every_scale(b, format, out));
    }
}
