//! Accesses of a core without an order (E5).
//!
//! An engine begins its instructions in order. Those of MTE2 and MTE3 may be under way together, and what they write may come in
//! any order: where they write the same bytes, a barrier of the engine or a flag that comes back to it is between them.

use super::Found;
use super::clock::{Clocks, lane};
use super::lanes::Lanes;
use super::shared::Touches;
use crate::isa::{Access, Blocks, Pipe, Place};
use crate::sim::hazard::Code;
use crate::sim::order::Next;
use std::collections::BTreeMap;

/// An access that later ones may clash with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Past {
    pub(super) blocks: Blocks,
    pub(super) write: bool,
    atomic: bool,
    pub(super) lane: usize,
    pub(super) tick: u32,
    pub(super) by: Next,
}

/// Bytes of global memory that share a list: a power of two.
const PAGE: u64 = 1 << 12;
/// Accesses over more pages than this go to a list of their own.
const MOST_PAGES: u64 = 512;

/// Accesses of a core.
#[derive(Debug, Default)]
pub(super) struct Races {
    local: BTreeMap<Place, Lanes>,
    pages: BTreeMap<(u16, u64), Vec<Past>>,
    wide: BTreeMap<u16, Vec<Past>>,
    touches: Touches,
}

impl Races {
    pub(super) fn observe(&mut self, next: Next, access: &Access, clocks: &Clocks) -> Option<Found> {
        if access.blocks.count == 0 {
            return None;
        }
        let now = Past {
            blocks: access.blocks,
            write: access.write,
            atomic: access.atomic,
            lane: lane(next.unit, next.pipe),
            tick: clocks.tick(next),
            by: next,
        };
        let clash = match access.place {
            Place::Local(..) => self.local.entry(access.place).or_default().meet(now, clocks),
            Place::Gm(region) => {
                self.touches.add(region, access, next, clocks);
                self.observe_gm(region, now, clocks)
            }
        };
        clash.map(|past| {
            let kind = match (past.write, now.write) {
                (true, true) => "both write",
                (true, false) => "the first writes what the second reads",
                _ => "the second overwrites what the first reads",
            };
            let detail = if past.lane == now.lane {
                format!("both write, and {} may have both under way: it has no barrier between them", name(now.by))
            } else {
                format!("{kind}, and nothing orders {} before {}", name(past.by), name(now.by))
            };
            Found { code: Code::Race, with: Some(past.by), bytes: Some((access.place, access.blocks)), detail }
        })
    }

    /// The last instruction of the engine that runs now which wrote some of these bytes of a memory of the core.
    pub(super) fn last_write(&self, next: Next, place: Place, blocks: &Blocks) -> u32 {
        self.local.get(&place).map_or(0, |lanes| lanes.last_write(lane(next.unit, next.pipe), blocks))
    }

    fn observe_gm(&mut self, region: u16, now: Past, clocks: &Clocks) -> Option<Past> {
        let mut pages: Vec<u64> = Vec::new();
        if now.blocks.count.saturating_mul(1 + now.blocks.len / PAGE) <= MOST_PAGES {
            for at in now.blocks.starts() {
                pages.extend(at / PAGE..=(at + now.blocks.len - 1) / PAGE);
            }
            pages.dedup();
        }
        let wide = self.wide.entry(region).or_default();
        if pages.is_empty() {
            let all = self.pages.range((region, 0)..=(region, u64::MAX)).flat_map(|(_, list)| list);
            let clash = all.copied().find(|past| clashes(past, &now, clocks));
            return clash.or_else(|| meet(wide, now, clocks));
        }
        let mut clash = wide.iter().copied().find(|past| clashes(past, &now, clocks));
        for page in pages {
            let met = meet(self.pages.entry((region, page)).or_default(), now, clocks);
            clash = clash.or(met);
        }
        clash
    }

    pub(super) fn into_touches(self) -> Touches {
        self.touches
    }
}

fn name(next: Next) -> String {
    let Next { unit, pipe, .. } = next;
    format!("{} of {unit}", if pipe == Pipe::S { "the scalar unit" } else { pipe.name() })
}

/// Whether nothing orders two accesses that cannot go by in any order.
pub(super) fn clashes(past: &Past, now: &Past, clocks: &Clocks) -> bool {
    (past.write || now.write)
        && !(past.atomic && now.atomic)
        && (if past.lane == now.lane {
            past.write && past.tick != now.tick && overtakes(past.tick, now, clocks)
        } else {
            !knows(past, now, clocks)
        })
        && past.blocks.overlaps(&now.blocks)
}

fn knows(past: &Past, now: &Past, clocks: &Clocks) -> bool {
    clocks.of(now.by).knows(past.lane, past.tick)
}

/// Whether what an engine writes may be there before what its own instruction `tick` writes.
pub(super) fn overtakes(tick: u32, now: &Past, clocks: &Clocks) -> bool {
    now.write && matches!(now.by.pipe, Pipe::Mte2 | Pipe::Mte3) && tick > clocks.through(now.by)
}

/// Compares with what came before, and takes its place in the list.
fn meet(list: &mut Vec<Past>, now: Past, clocks: &Clocks) -> Option<Past> {
    let clash = list.iter().copied().find(|past| clashes(past, &now, clocks));
    // Whoever is ordered behind this one is ordered behind what this one knows: those need not be kept where this one has
    // all of their bytes and clashes with whatever they clash with.
    list.retain(|past| {
        let ordered = past.lane == now.lane || knows(past, &now, clocks);
        let stricter = (now.write && (past.atomic || !now.atomic)) || !(past.write || now.write);
        !(ordered && stricter && now.blocks.covers(&past.blocks))
    });
    list.push(now);
    clash
}
