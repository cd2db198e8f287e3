//! What an instruction costs on its engine, from the profile's figures alone.

use super::vector;
use crate::isa::{Blocks, Body, FixTo, Global, Instr, Mmad, Tile, strided};
use crate::machine::{Figures, Profile};

/// The work of an instruction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Work {
    /// So many cycles of its engine.
    Local(f64),
    /// Bytes of global memory.
    Transfer(Transfer),
}

/// A transfer from or to global memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Transfer {
    pub(crate) region: u16,
    pub(crate) blocks: Blocks,
    /// Cycles before the first byte moves.
    pub(crate) issue: f64,
    /// Cycles that its engine takes at least for the bytes.
    pub(crate) port: f64,
    pub(crate) write: bool,
}

/// What an instruction that computes or moves something costs.
pub(crate) fn work(profile: &Profile, instr: &Instr) -> Work {
    let figures = &profile.figures;
    let local = |issue: f64, bytes: f64, speed: f64| Work::Local(issue + if speed > 0.0 { bytes / speed } else { 0.0 });
    match &instr.body {
        Body::LoadUb(from, _) => load(figures, from, figures.burst_ub, figures.mte2_ub),
        Body::LoadNdDma(from, step, _) => elements(figures, from, *step),
        // Two rows, as two bursts, cost what a transfer of its own costs.
        Body::GatherRows { from, to, .. } => {
            let pairs = to.rows.div_ceil(2).saturating_sub(1);
            let row = row(figures, from, figures.burst_ub, figures.mte2_ub);
            rows(from, to, figures.mte2_issue, f64::from(pairs) * figures.mte2_issue + f64::from(to.rows) * row)
        }
        // Threads load lines through their cache.
        Body::SimtGather { from, to, .. } => {
            let row = row(figures, from, 0.0, figures.simt_gather);
            rows(from, to, figures.simt_launch, f64::from(to.rows) * row)
        }
        Body::LoadScale(from, _) => load(figures, from, figures.burst_scale, figures.mte2_l1),
        Body::LoadNd2Nz(from, _) | Body::LoadL0Gm(from, _) | Body::LoadNz(from, _) => {
            load(figures, from, figures.burst_l1, figures.mte2_l1)
        }
        // The bytes go no further than L2.
        Body::Prefetch(from) => load(figures, from, 0.0, figures.l2_read),
        Body::LoadL0a(_, to, _) => local(figures.mte1_issue, bytes(to), figures.l1_l0a * slow(figures, to)),
        Body::LoadL0b(_, to, _) => local(figures.mte1_issue, bytes(to), figures.l1_l0b * slow(figures, to)),
        Body::LoadL0aMx(_, to) => local(figures.mte1_issue, bytes(to), figures.l1_l0a),
        Body::LoadL0bMx(_, to) => local(figures.mte1_issue, bytes(to), figures.l1_l0b),
        Body::LoadBt(_, to) | Body::LoadFb(_, to) => local(figures.mte1_issue, bytes(to), figures.l1_bt),
        Body::LoadL1Ub(_, to, _) => local(figures.mte1_issue, bytes(to), figures.l1_ub),
        Body::FillL1(to, _) => local(figures.mte1_issue, bytes(to), figures.l1_l0a),
        Body::Mmad(mmad) => Work::Local(product(profile, mmad)),
        Body::Fix(fix) => match &fix.to {
            FixTo::Gm(to) => store(figures, to, figures.fixpipe_issue, figures.burst_sums, figures.l0c_gm),
            FixTo::L1(to) => local(figures.fixpipe_issue, bytes(to), figures.l0c_l1),
            FixTo::Ub(to, _) => local(figures.fixpipe_issue, bytes(to), figures.l0c_ub),
        },
        Body::StoreGm(_, to, _) | Body::StoreL1Gm(_, to) => {
            store(figures, to, figures.mte3_issue, figures.burst_out, figures.ub_gm)
        }
        Body::StoreL1(from, _) => local(figures.mte3_issue, bytes(from), figures.ub_l1),
        Body::Vector(vector) => Work::Local(vector::cycles(figures, vector)),
        Body::ScalarLoad(..) | Body::ScalarStore(..) => Work::Local(figures.scalar_memory),
        Body::ScalarLoadUb(from, _) => Work::Local(figures.scalar * from.count() as f64),
        // Nobody says what the mailbox takes: guessed, as a word of UB.
        Body::MailboxLoad(..) | Body::MailboxStore(..) => Work::Local(figures.scalar),
        _ => Work::Local(figures.scalar),
    }
}

fn bytes(tile: &Tile) -> f64 {
    tile.blocks().bytes() as f64
}

/// FP4 takes longer on its way to the cube than its bytes.
fn slow(figures: &Figures, tile: &Tile) -> f64 {
    if tile.elem.bits() == 4 { figures.mte1_fp4 } else { 1.0 }
}

/// A burst for each row: what it costs by itself, or what the memory's units that it touches take.
fn bursts(figures: &Figures, blocks: &Blocks, burst: f64, port: f64) -> f64 {
    let granule = figures.granule.max(1.0) as u64;
    let touched = |at: u64| (at + blocks.len).div_ceil(granule) - at / granule;
    let one = |at: u64| burst.max(touched(at) as f64 * granule as f64 / port.max(1e-9));
    // Rows at a multiple of the unit are all alike.
    if blocks.pitch.is_multiple_of(granule) {
        return blocks.count as f64 * if blocks.count > 0 { one(blocks.at) } else { 0.0 };
    }
    blocks.starts().map(one).sum()
}

/// Rows as bursts, also where they lie one behind the other: that is how the engine is told of them.
fn of_rows(global: &Global) -> Blocks {
    let len = global.elem.bytes(global.cols as usize) as u64;
    let joined = global.blocks();
    // Short rows without gaps are one burst: a kernel would ask for them so.
    if joined.count == 1 {
        joined
    } else {
        Blocks { at: global.at, len, count: global.rows.into(), pitch: global.pitch }
    }
}

fn load(figures: &Figures, from: &Global, burst: f64, port: f64) -> Work {
    let blocks = of_rows(from);
    Work::Transfer(Transfer {
        region: from.region,
        blocks,
        issue: figures.mte2_issue,
        port: bursts(figures, &blocks, burst, port),
        write: false,
    })
}

/// Elements that lie apart: guessed to take what the memory's units that each touches take, and no burst of its own. Those that
/// follow one another are a row.
fn elements(figures: &Figures, from: &Global, step: u64) -> Work {
    let one = |blocks: Blocks| {
        let burst = if blocks.count == 1 { figures.burst_ub } else { 0.0 };
        bursts(figures, &blocks, burst, figures.mte2_ub)
    };
    let port = strided(from, step).map(one).sum();
    let mut lines = strided(from, step);
    let blocks = match (lines.next(), lines.last()) {
        (Some(only), None) => only,
        // Several rows are taken to lie evenly from the first to the last element.
        (Some(first), Some(last)) => {
            let count = u64::from(from.rows) * u64::from(from.cols);
            let pitch = (last.end().saturating_sub(first.at) / count.max(1)).max(1);
            Blocks { at: first.at, len: from.elem.bytes(1) as u64, count, pitch }
        }
        (None, _) => Blocks { at: from.at, len: 0, count: 0, pitch: 0 },
    };
    Work::Transfer(Transfer { region: from.region, blocks, issue: figures.mte2_issue, port, write: false })
}

/// A row by itself.
fn row(figures: &Figures, from: &Global, burst: f64, port: f64) -> f64 {
    let len = from.elem.bytes(from.cols as usize) as u64;
    bursts(figures, &Blocks { at: from.at, len, count: 1, pitch: 0 }, burst, port)
}

/// Rows by a list, wherever they are: so many cycles for all of them.
fn rows(from: &Global, to: &Tile, issue: f64, port: f64) -> Work {
    let len = from.elem.bytes(from.cols as usize) as u64;
    let count = u64::from(to.rows);
    // Which rows is known to the launch alone: they are taken to lie evenly over all there are, from where the step says.
    let pitch = (u64::from(from.rows) / count.max(1)).max(1) * from.pitch;
    let blocks = Blocks { at: from.at, len, count, pitch };
    Work::Transfer(Transfer { region: from.region, blocks, issue, port, write: false })
}

fn store(figures: &Figures, to: &Global, issue: f64, burst: f64, port: f64) -> Work {
    let port = bursts(figures, &of_rows(to), burst, port);
    Work::Transfer(Transfer { region: to.region, blocks: to.blocks(), issue, port, write: true })
}

/// Tiles of the cube's own size, one a cycle.
fn product(profile: &Profile, mmad: &Mmad) -> f64 {
    let [m, k, n] = mmad.a.elem.cube().and_then(|kind| profile.cube.get(&kind).copied()).unwrap_or([16, 16, 16]);
    let tiles = mmad.a.rows.div_ceil(m) as f64 * mmad.a.cols.div_ceil(k) as f64 * mmad.b.cols.div_ceil(n) as f64;
    profile.figures.cube_head + tiles / profile.figures.cube_efficiency.max(1e-9)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]
    use super::*;
    use crate::isa::Elem;
    use crate::machine::{Profile, Space};
    use std::panic::Location;

    /// A column of a wide matrix touches a unit of the memory an element, rows that follow one another their bytes.
    #[test]
    fn elements_that_lie_apart_touch_a_unit_each() {
        let profile = Profile::open("950dt").unwrap();
        let figures = &profile.figures;
        let cost = |rows: u32, cols: u32, pitch: u64, step: u64| {
            let from = Global::new(0, 0, Elem::F32, rows, cols).pitched(pitch);
            let to = Tile::rows_of(Space::Ub, 0, Elem::F32, rows, cols);
            match work(&profile, &Instr { body: Body::LoadNdDma(from, step, to), line: Location::caller() }) {
                Work::Transfer(transfer) => Some(transfer),
                Work::Local(_) => None,
            }
            .unwrap()
        };
        let apart = cost(1, 64, 0, 4096);
        assert_eq!(apart.port, 64.0 * figures.granule / figures.mte2_ub);
        assert_eq!(apart.blocks, Blocks { at: 0, len: 4, count: 64, pitch: 4096 });
        let joined = cost(1, 64, 0, 4);
        assert_eq!((joined.blocks.count, joined.blocks.len), (1, 256));
        assert!(joined.port < apart.port / 4.0, "{} {}", joined.port, apart.port);
        // Rows of columns: as many elements, evenly over the matrix.
        let turned = cost(16, 4, 4, 4096);
        assert_eq!((turned.blocks.count, turned.blocks.len, turned.blocks.end() <= 3 * 4096 + 64), (64, 4, true));
        assert_eq!(cost(16, 4, 1 << 20, 4096).port, apart.port);
    }
}
