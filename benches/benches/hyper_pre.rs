//! `hyper_pre` at V4-Flash's residual streams.
mod common;
use anychip_bench::prelude::*;

fn collapse(b: &mut Builder<'_>, rows: usize) -> Result<Op> {
    let (n, width, mixes) = (STREAMS, STREAMS * HIDDEN, STREAMS * (2 + STREAMS));
    HyperPre {
        streams: b.values(DType::BF16, &[rows, n, HIDDEN], Family::Outliers, 1.0)?,
        mixer: b.values(DType::F32, &[mixes, width], Family::Normal, (width as f32).sqrt().recip())?,
        base: b.values(DType::F32, &[mixes], Family::Normal, 1.0)?,
        scale: b.floats(DType::F32, &[3], &[1.0, 0.5, 1.5])?,
        iterations: 20,
        norm_eps: EPS,
        eps: EPS,
        x: b.output(DType::BF16, &[rows, HIDDEN])?,
        post: b.output(DType::F32, &[rows, n])?,
        comb: b.output(DType::F32, &[rows, n, n])?,
    }
    .build()
}

fn main() {
    common::main(HyperPre::NAME, |shapes| {
        for t in [1, 512] {
            shapes.add(&format!("t{t}"), |b| collapse(b, t));
        }
    });
}
