//! `out = sum_i pre_i X_i` with `pre = sigmoid(mix * scale + base) + eps`

use super::mixed::{Mixed, Operands};
use super::mixer::Mixer;
use crate::device::{Npu, elem};
use crate::isa::{Elem, Global};
use crate::kernel::{Context, Kernel};
use crate::sim::Gm;
use anychip_core::host::{read, write};
use anychip_core::ops::{self, Operation};
use anychip_core::{Numerics, Result, Support};

pub(crate) fn supports(_op: &ops::HyperHead, _npu: &Npu) -> Support {
    Support::Native
}

pub(crate) fn numerics(_op: &ops::HyperHead, _npu: &Npu) -> Numerics {
    Numerics::f32()
}

pub(crate) fn run(op: &ops::HyperHead, npu: &Npu) -> Result<()> {
    let [rows, n, d] = [0, 1, 2].map(|axis| op.streams.size(axis) as u32);
    if rows == 0 {
        return Ok(());
    }
    let (streams, mut out) = (read(&op.streams)?, write(&op.out)?);
    let (mixer, base, scale) = (read(&op.mixer)?, read(&op.base)?, read(&op.scale)?);
    let mut gm = Gm::default();
    let streams = Global::new(gm.input("streams", streams.bytes()), 0, elem(&op.streams), rows * n, d);
    let mixer = Global::new(gm.input("mixer", mixer.bytes()), 0, Elem::F32, n, n * d);
    let mixer = Mixer::new(&mut gm, Operands::flat(streams, n), mixer);
    let kernel = HyperHead {
        operands: Operands {
            streams,
            n,
            base: Global::new(gm.input("base", base.bytes()), 0, Elem::F32, 1, n),
            scale: Global::new(gm.input("scale", scale.bytes()), 0, Elem::F32, 1, 1),
            norm_eps: op.norm_eps,
            eps: op.eps,
            out: Global::new(gm.output("out", out.bytes_mut()), 0, elem(&op.out), rows, d),
            mixer,
        },
        cores: npu.vector_cores((rows as usize).max(2 * mixer.pieces() as usize)),
    };
    npu.launch(ops::HyperHead::NAME, &kernel, &gm)
}

struct HyperHead {
    operands: Operands,
    cores: usize,
}

impl Kernel for HyperHead {
    fn cores(&self) -> usize {
        self.cores
    }

    fn cube(&self, cx: &mut Context<'_>) {
        self.operands.mixer.cube(cx);
    }

    fn vector(&self, cx: &mut Context<'_>) {
        self.operands.mixer.prepare(cx);
        let mut mixed = Mixed::new(cx, &self.operands);
        let mine = cx.share(self.operands.tokens().into());
        mixed.wait(cx, &mine);
        for first in mine.clone().step_by(mixed.group() as usize) {
            let rows = u64::from(mixed.group()).min(mine.end - first) as u32;
            let logits = mixed.logits(cx, first, rows, |_| 0);
            mixed.collapse(cx, first, logits);
        }
        mixed.close(cx);
    }
}
