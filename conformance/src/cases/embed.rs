use super::*;
use crate::builder::{HostMatrix, POISON, float_bytes};
use anychip_core::ops::Embed;

fn build(b: &mut Builder<'_>, table: DType, out: DType, ids: &[i32], [rows, copies, d]: [usize; 3]) -> Result<Op> {
    let mut host = HostMatrix::random(Format::Plain(table), [1, rows, d], Normal, 1.0, b.random());
    (0..rows).filter(|&r| !ids.contains(&(r as i32))).for_each(|r| host.poison_row(r));
    let table = b.tensor(table, &[rows, d], &host.codes)?;
    let out = b.output(out, &[ids.len(), copies, d])?;
    Embed { table, ids: b.integers(&[ids.len()], ids)?, out }.build()
}

/// Rows either side of the byte that no signed 32-bit number names, in a table that is poisoned but for them.
fn beyond_2gib(b: &mut Builder<'_>) -> Result<Op> {
    let (d, row) = (BEYOND_D, 2 * BEYOND_D);
    let (rows, edge) = (BEYOND_2GIB / row, ((1usize << 31) / row) as i32);
    let ids = [edge, 0, edge - 1, rows as i32 - 1, edge + 1, edge];
    let mut table = vec![POISON; rows * row];
    for id in &ids[..5] {
        let values = Normal.fill(b.random(), d, d);
        table[*id as usize * row..][..row].copy_from_slice(&float_bytes(DType::BF16, &values));
    }
    let table = b.tensor(DType::BF16, &[rows, d], &table)?;
    let out = b.output(DType::BF16, &[ids.len(), 1, d])?;
    Embed { table, ids: b.integers(&[ids.len()], &ids)?, out }.build()
}

const BEYOND_D: usize = 8192;

/// A NaN, both infinities and the smallest numbers go where their row goes, and nowhere else.
fn special(b: &mut Builder<'_>) -> Result<Op> {
    b.expect_nan();
    let mut table = Normal.fill(b.random(), 4 * 20, 20);
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(1), -0.0, f32::MIN_POSITIVE];
    specials.into_iter().enumerate().for_each(|(i, x)| table[20 + 3 * i] = x);
    let table = b.floats(DType::F32, &[4, 20], &table)?;
    let ids = b.integers(&[4], &[0, 1, 3, 1])?;
    Embed { table, ids, out: b.output(DType::F32, &[4, 2, 20])? }.build()
}

pub(super) fn list(cases: &mut Cases) {
    const OUTSIDE: &[i32] = &[3, -1, 9, 10, 0, i32::MAX, i32::MIN, 9];
    for (profile, variant, table, out, ids, sizes) in [
        (Quick, "plain", DType::BF16, DType::BF16, &[5, 0, 5, 19][..], [20, 4, 96]),
        (Quick, "narrowed", DType::F32, DType::BF16, &[1, 2], [3, 1, 257]),
        (Quick, "widened", DType::F16, DType::F32, &[0], [1, 2, 33]),
        (Quick, "outside", DType::F32, DType::F32, OUTSIDE, [10, 4, 16]),
        (Quick, "nothing", DType::BF16, DType::F32, &[-1, -1, i32::MIN, 5], [5, 4, 33]),
        (Quick, "tile", DType::BF16, DType::BF16, &[16, 0, 15], [17, 3, 127]),
        (Quick, "tile", DType::F32, DType::F32, &[2, 2, 1, 0, 2], [3, 2, 129]),
        (Full, "plain", DType::BF16, DType::F32, &[129279, 0, 77], [129280, 4, 512]),
        (Full, "plain", DType::BF16, DType::BF16, &[6143, 0, 77], [6144, 4, 7168]),
    ] {
        let ([rows, copies, d], t) = (sizes, ids.len());
        let name = format!("{variant}/{table}-{out}/v{rows}-t{t}-c{copies}-d{d}");
        cases.add(profile, name, move |b| build(b, table, out, ids, sizes));
    }
    cases.add(Quick, "special/f32-f32/v4-t4-c2-d20", special);
    cases.beyond_2gib(format!("bf16-bf16/v{}-t6-c1-d{BEYOND_D}", BEYOND_2GIB / BEYOND_D / 2), beyond_2gib);
}
