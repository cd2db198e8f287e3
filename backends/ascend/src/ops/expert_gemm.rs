//! `out[r] = w[e] x[r]` for `offsets[e] <= r < offsets[e + 1]`

use super::gemm::{Gemm, Split};
use super::operand::{Plan, Source, Used};
use crate::device::{Npu, elem};
use crate::isa::{Elem, Global};
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation};
use anychip_core::{Numerics, Result, Support};

pub(crate) fn supports(_op: &ops::ExpertGemm, _npu: &Npu) -> Support {
    Support::Native
}

pub(crate) fn numerics(op: &ops::ExpertGemm, npu: &Npu) -> Numerics {
    let formats = [op.x.format(), op.w.format()];
    Plan::of(npu, formats[0], formats[1]).numerics(formats)
}

pub(crate) fn run(op: &ops::ExpertGemm, npu: &Npu) -> Result<()> {
    let (rows, experts, n, k) = (op.x.rows(), op.w.groups(), op.w.rows(), op.w.cols());
    if op.out.count() == 0 {
        return Ok(());
    }
    let name = ops::ExpertGemm::NAME;
    let plan = Plan::of(npu, op.x.format(), op.w.format());
    let offsets = read(&op.offsets)?;
    let x = Source::rows(&op.x, 1).ready(name, npu, plan)?;
    let used = Some(Used { offsets: offsets.bytes(), rows });
    let w = Source::weights(&op.w, used).ready(name, npu, plan)?;
    let mut out = write(&op.out)?;
    let mut gm = Gm::default();
    let region = gm.output("out", out.bytes_mut());
    let count = experts as u32;
    let offsets = Global::new(gm.input("offsets", offsets.bytes()), 0, Elem::I32, 1, count + 1);
    let operands = [x.add(&mut gm, ["x", "x scales"]), w.add(&mut gm, ["w", "w scales"])];
    let out = Global::new(region, 0, elem(&op.out), rows as u32, n as u32);
    let kernel = Gemm::new(npu.profile(), operands, out, [n, k], Split::Rows { offsets, count });
    npu.launch(name, &kernel, &gm)
}
