//! What an instruction reads and writes.

use super::{Blocks, Body, FixTo, Global, Init, Instr, Quant, Tile, Unit, Vector, fix_halves};
use crate::machine::Space;

/// A memory: an operand of the launch, or one that a unit of the core has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// An operand in global memory.
    Gm(u16),
    /// A memory of the cube half, UB of a vector half, or the core's mailbox, which counts as the cube half's.
    Local(Space, Unit),
}

/// One memory that an instruction touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Where.
    pub place: Place,
    /// Which bytes.
    pub blocks: Blocks,
    /// Whether it writes.
    pub write: bool,
    /// Whether what it writes is added by the memory itself.
    pub atomic: bool,
}

/// UB of which unit a tile is in; other memories are the cube's.
pub(crate) fn local(tile: &Tile, unit: Unit) -> Place {
    let owner = if tile.space == Space::Ub { unit } else { Unit::Aic };
    Place::Local(tile.space, owner)
}

impl Instr {
    /// Shows each memory that it touches to `f`, reads first. `unit` issued it. Rows that a list names at run time count as
    /// all rows.
    pub fn accesses(&self, unit: Unit, f: &mut impl FnMut(Access)) {
        let mut touch = |place, blocks, write| f(Access { place, blocks, write, atomic: false });
        let tile = |tile: &Tile| (local(tile, unit), tile.blocks());
        let gm = |global: &Global| (Place::Gm(global.region), global.blocks());
        let mut read = |(place, blocks)| touch(place, blocks, false);
        match &self.body {
            Body::LoadUb(from, to)
            | Body::LoadNd2Nz(from, to)
            | Body::LoadNz(from, to)
            | Body::LoadScale(from, to)
            | Body::LoadL0Gm(from, to) => {
                read(gm(from));
                write(&mut touch, tile(to));
            }
            Body::LoadNdDma(from, step, to) => {
                strided(from, *step).for_each(|blocks| read((Place::Gm(from.region), blocks)));
                write(&mut touch, tile(to));
            }
            Body::GatherRows { from, index, to } | Body::SimtGather { from, index, to } => {
                read(gm(from));
                read(tile(index));
                write(&mut touch, tile(to));
            }
            // It hands nothing on, so that it is in no order with anything: only its bounds are looked at.
            Body::Prefetch(_) => {}
            Body::LoadL0a(from, to, _)
            | Body::LoadL0b(from, to, _)
            | Body::LoadL0aMx(from, to)
            | Body::LoadL0bMx(from, to)
            | Body::LoadBt(from, to)
            | Body::LoadFb(from, to)
            | Body::StoreL1(from, to) => {
                read(tile(from));
                write(&mut touch, tile(to));
            }
            Body::LoadL1Ub(from, to, half) => {
                read(tile(from));
                write(&mut touch, (local(to, Unit::vector(usize::from(*half))), to.blocks()));
            }
            Body::FillL1(to, _) | Body::ScalarStoreUb(to, _) | Body::MailboxStore(to, _) => write(&mut touch, tile(to)),
            Body::StoreL1Gm(from, to) => {
                read(tile(from));
                write(&mut touch, gm(to));
            }
            Body::Mmad(mmad) => {
                read(tile(&mmad.a));
                read(tile(&mmad.b));
                if let Some((a, b)) = &mmad.scales {
                    read(tile(a));
                    read(tile(b));
                }
                match &mmad.init {
                    Init::Bias(bias) => read(tile(bias)),
                    Init::Accumulate => read(tile(&mmad.to)),
                    Init::Zero => {}
                }
                write(&mut touch, tile(&mmad.to));
            }
            Body::Fix(fix) => {
                read(tile(&fix.from));
                if let Quant::Columns(scales) = &fix.quant {
                    read(tile(scales));
                }
                match &fix.to {
                    FixTo::Gm(to) => {
                        let (place, blocks) = gm(to);
                        f(Access { place, blocks, write: true, atomic: fix.atomic });
                    }
                    FixTo::L1(to) => write(&mut touch, tile(to)),
                    FixTo::Ub(to, half) => fix_halves(to, *half).for_each(|(unit, part)| {
                        write(&mut touch, (local(&part, unit), part.blocks()));
                    }),
                }
            }
            Body::StoreGm(from, to, atomic) => {
                read(tile(from));
                let (place, blocks) = gm(to);
                f(Access { place, blocks, write: true, atomic: *atomic });
            }
            Body::Vector(vector) => vector_accesses(vector, &mut |write, one| {
                let (place, blocks) = tile(one);
                touch(place, blocks, write);
            }),
            Body::ScalarLoad(from, _) => read(gm(from)),
            Body::ScalarLoadUb(from, _) => read(tile(from)),
            Body::MailboxLoad(from, _) => read(tile(from)),
            Body::ScalarStore(to, _) => write(&mut touch, gm(to)),
            Body::SetFlag(..)
            | Body::WaitFlag(..)
            | Body::Barrier(_)
            | Body::CrossSet(..)
            | Body::CrossWait(..)
            | Body::Lock(..)
            | Body::Unlock(..)
            | Body::Dcci => {}
        }
    }
}

fn write(touch: &mut impl FnMut(Place, Blocks, bool), (place, blocks): (Place, Blocks)) {
    touch(place, blocks, true);
}

/// Elements `step` bytes from one another in each row, as few rows of blocks as there are.
pub(crate) fn strided(from: &Global, step: u64) -> impl Iterator<Item = Blocks> + use<> {
    let (at, len) = (from.at, from.elem.bytes(1) as u64);
    let (rows, cols) = (u64::from(from.rows), u64::from(from.cols));
    let (lines, between, count, pitch) = match () {
        () if step.saturating_mul(cols) == from.pitch => (1, 0, rows * cols, step),
        () if rows <= cols => (rows, from.pitch, cols, step),
        () => (cols, step, rows, from.pitch),
    };
    (0..lines).map(move |line| Blocks::new(at.saturating_add(between.saturating_mul(line)), len, count, pitch))
}

/// Reads and writes of vectors. What a function computes and takes up again itself is no read.
fn vector_accesses(vector: &Vector, f: &mut impl FnMut(bool, &Tile)) {
    let Vector::Fused(all) = vector else { return vector.tiles(f) };
    let mut written: Vec<Tile> = Vec::new();
    for one in all {
        one.tiles(&mut |write, tile| {
            if write {
                written.push(*tile);
            } else if !written.iter().any(|own| own.blocks().covers(&tile.blocks())) {
                f(false, tile);
            }
        });
    }
    let mut seen: Vec<Blocks> = Vec::new();
    for tile in written {
        let blocks = tile.blocks();
        if !seen.contains(&blocks) {
            f(true, &tile);
            seen.push(blocks);
        }
    }
}
