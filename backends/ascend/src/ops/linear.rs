//! `out[t, g*N + n] = sum_k x[t, g*K + k] w[g, n, k]`

use super::gemm::{Gemm, Split};
use super::operand::{Plan, Source};
use crate::device::{Npu, elem};
use crate::isa::Global;
use crate::sim::Gm;
use anychip_core::host::write;
use anychip_core::ops::{self, Operation};
use anychip_core::{Numerics, Result, Support};

pub(crate) fn supports(_op: &ops::Linear, _npu: &Npu) -> Support {
    Support::Native
}

pub(crate) fn numerics(op: &ops::Linear, npu: &Npu) -> Numerics {
    let formats = [op.x.format(), op.w.format()];
    Plan::of(npu, formats[0], formats[1]).numerics(formats)
}

pub(crate) fn run(op: &ops::Linear, npu: &Npu) -> Result<()> {
    let (rows, groups, n, k) = (op.x.rows(), op.w.groups(), op.w.rows(), op.w.cols());
    if op.out.count() == 0 {
        return Ok(());
    }
    let name = ops::Linear::NAME;
    let plan = Plan::of(npu, op.x.format(), op.w.format());
    let x = Source::rows(&op.x, groups).ready(name, npu, plan)?;
    let w = Source::weights(&op.w, None).ready(name, npu, plan)?;
    let mut out = write(&op.out)?;
    let mut gm = Gm::default();
    let region = gm.output("out", out.bytes_mut());
    let operands = [x.add(&mut gm, ["x", "x scales"]), w.add(&mut gm, ["w", "w scales"])];
    let out = Global::new(region, 0, elem(&op.out), rows as u32, (groups * n) as u32);
    let kernel = Gemm::new(npu.profile(), operands, out, [n, k], Split::Columns(groups as u32));
    npu.launch(name, &kernel, &gm)
}
