//! What a transfer takes to issue and to move, by the cycle model's figures, and its bursts.

use crate::isa::{Blocks, Body, Fix, FixTo, Global, Instr, Pipe};
use crate::machine::Profile;
use crate::sim::time::{Work, work};

/// Cycles to issue, and to move or compute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    pub(super) issue: f64,
    pub(super) data: f64,
}

/// Of an engine's instruction; flags, barriers and the scalar unit's take nothing here.
pub(super) fn cost(profile: &Profile, instr: &Instr) -> Option<(Pipe, Cost)> {
    let pipe = instr.pipe().filter(|pipe| *pipe != Pipe::S && !is_flag(&instr.body))?;
    let figures = &profile.figures;
    let cost = match work(profile, instr) {
        Work::Transfer(transfer) => Cost { issue: transfer.issue, data: transfer.port },
        Work::Local(cycles) => {
            let issue = match pipe {
                Pipe::Mte1 => figures.mte1_issue,
                Pipe::Mte3 => figures.mte3_issue,
                Pipe::Fix => figures.fixpipe_issue,
                _ => 0.0,
            };
            Cost { issue, data: (cycles - issue).max(0.0) }
        }
    };
    Some((pipe, cost))
}

fn is_flag(body: &Body) -> bool {
    use Body::{Barrier, CrossSet, CrossWait, Lock, SetFlag, Unlock, WaitFlag};
    matches!(body, SetFlag(..) | WaitFlag(..) | Barrier(_) | CrossSet(..) | CrossWait(..) | Lock(..) | Unlock(..))
}

/// Bursts of a transfer with global memory: how many, of how many bytes, and all that they lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bursts {
    pub(super) count: u64,
    pub(super) len: u64,
    pub(super) region: u16,
    pub(super) blocks: Blocks,
}

pub(super) fn bursts(body: &Body) -> Option<Bursts> {
    let of = |global: &Global| {
        let blocks = global.blocks();
        Some(Bursts { count: blocks.count, len: blocks.len, region: global.region, blocks })
    };
    match body {
        Body::LoadUb(from, _) | Body::LoadNd2Nz(from, _) | Body::LoadNz(from, _) | Body::LoadScale(from, _) => of(from),
        Body::GatherRows { from, index, .. } => {
            let len = from.elem.bytes(from.cols as usize) as u64;
            Some(Bursts { count: index.count() as u64, len, region: from.region, blocks: from.blocks() })
        }
        Body::StoreGm(_, to, _) | Body::Fix(Fix { to: FixTo::Gm(to), .. }) => of(to),
        _ => None,
    }
}
