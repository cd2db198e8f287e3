//! `linear` at V4-Flash's projections, and at the square that other libraries are measured on.
mod common;
use anychip_bench::prelude::*;

fn linear(b: &mut Builder<'_>, x: Format, w: Format, [rows, groups, n, k]: [usize; 4]) -> Result<Op> {
    let x = b.matrix(x, [1, rows, groups * k], Family::Outliers, 1.0)?;
    let w = b.matrix(w, [groups, n, k], Family::Normal, (k as f32).sqrt().recip())?;
    let out = if w.format() == Format::Plain(DType::F32) { DType::F32 } else { DType::BF16 };
    Linear { x, w, out: b.output(out, &[rows, groups * n])? }.build()
}

fn main() {
    common::main(Linear::NAME, |shapes| {
        // A prefill has thousands of rows: cut for the oracle, which multiplies 16 in seconds. The f32 square is what other
        // projects measure; 512 rows of it take the oracle minutes, which it is only given when asked for them.
        const F32: Format = Format::Plain(DType::F32);
        for t in [1, 16, 128, 512] {
            shapes.add(&format!("square_f32/t{t}"), |b| linear(b, F32, F32, [t, 1, HIDDEN, HIDDEN]));
        }
        for t in [1, 16] {
            for (name, x, w, [groups, n, k]) in [
                ("wq_b", E4M3_ROWS, E4M3_BLOCKS, [1, HEADS * HEAD_DIM, 1024]),
                ("wo_a", BF16, E4M3_BLOCKS, [8, 1024, 4096]),
                ("wo_b", E4M3_ROWS, E4M3_BLOCKS, [1, HIDDEN, 8192]),
                ("square", BF16, BF16, [1, HIDDEN, HIDDEN]),
            ] {
                shapes.add(&format!("{name}/t{t}"), |b| linear(b, x, w, [t, groups, n, k]));
            }
        }
    });
}
