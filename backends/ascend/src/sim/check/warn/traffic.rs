//! Transfers of a unit: bursts below the efficient size (W2), and more time to issue than to move (W4).

use super::Where;
use super::cost::{Bursts, Cost, bursts, cost};
use crate::isa::{Body, Pipe, Place};
use crate::machine::Profile;
use crate::sim::global::Gm;
use crate::sim::hazard::{Bytes, Code, Hazard};

/// Short bursts of a direction from which on it is looked at, and what part of its bytes they have then.
const SHORT: u64 = 64;
const PART: u64 = 2;
/// Transfers of an engine from which on it is looked at.
const TRANSFERS: u32 = 32;
/// Engines that move.
const MOVERS: [Pipe; 4] = [Pipe::Mte1, Pipe::Mte2, Pipe::Mte3, Pipe::Fix];

/// Bursts from or to global memory.
#[derive(Clone, Copy, Default)]
struct Direction {
    bursts: u64,
    bytes: u64,
    short: u64,
    short_bytes: u64,
    /// The shortest, and whose it is.
    worst: Option<(u64, usize, Bursts)>,
}

/// Transfers of an engine.
#[derive(Clone, Copy, Default)]
struct Engine {
    transfers: u32,
    all: Cost,
    /// Who takes longest to issue for what it moves, and how much longer.
    worst: Option<(f64, usize)>,
}

/// What a unit moves and computes.
pub(super) struct Traffic {
    loads: Direction,
    stores: Direction,
    engines: [Engine; Pipe::ALL.len()],
}

impl Traffic {
    pub(super) fn of(profile: &Profile, place: &Where<'_>) -> Traffic {
        let granule = profile.figures.granule as u64;
        let mut all =
            Traffic { loads: Direction::default(), stores: Direction::default(), engines: Default::default() };
        for (index, instr) in place.instrs.iter().enumerate() {
            let Some((pipe, cost)) = cost(profile, instr) else { continue };
            all.engines[pipe as usize].add(index, cost);
            if let Some(bursts) = bursts(&instr.body).filter(|bursts| bursts.count > 0) {
                let stores = matches!(instr.body, Body::StoreGm(..) | Body::Fix(_));
                if stores { &mut all.stores } else { &mut all.loads }.add(index, bursts, granule);
            }
        }
        all
    }

    /// Cycles of its busiest engine.
    pub(super) fn work(&self) -> f64 {
        self.engines.iter().map(|engine| engine.all.issue + engine.all.data).fold(0.0, f64::max)
    }

    pub(super) fn warnings(&self, profile: &Profile, gm: &Gm<'_>, place: &Where<'_>) -> Vec<Hazard> {
        let granule = profile.figures.granule;
        let mut found = Vec::new();
        for direction in [&self.loads, &self.stores] {
            let Direction { bursts, short, bytes, short_bytes, worst } = *direction;
            if let Some((len, index, burst)) = worst.filter(|_| short >= SHORT && short_bytes * PART > bytes) {
                let detail = format!("{short} of {bursts} bursts are below {granule} bytes; the shortest has {len}");
                let place_of = Bytes::of(Place::Gm(burst.region), &burst.blocks, &|region| gm.name(region).into());
                found.extend(place.warn(Code::ShortBurst, index, Some(place_of), detail));
            }
        }
        for pipe in MOVERS {
            let Engine { transfers, all, worst } = self.engines[pipe as usize];
            if let Some((_, index)) = worst.filter(|_| transfers >= TRANSFERS && all.issue > all.data) {
                let detail = format!(
                    "{transfers} transfers of {pipe} take {:.0} cycles to issue and {:.0} to move",
                    all.issue, all.data
                );
                found.extend(place.warn(Code::IssueBound, index, None, detail));
            }
        }
        found
    }
}

impl Direction {
    fn add(&mut self, index: usize, bursts: Bursts, granule: u64) {
        let bytes = bursts.count * bursts.len;
        self.bursts += bursts.count;
        self.bytes += bytes;
        if bursts.len < granule {
            self.short += bursts.count;
            self.short_bytes += bytes;
            if self.worst.is_none_or(|(len, ..)| bursts.len < len) {
                self.worst = Some((bursts.len, index, bursts));
            }
        }
    }
}

impl Engine {
    fn add(&mut self, index: usize, cost: Cost) {
        self.transfers += 1;
        self.all.issue += cost.issue;
        self.all.data += cost.data;
        let excess = cost.issue - cost.data;
        if self.worst.is_none_or(|(most, _)| excess > most) {
            self.worst = Some((excess, index));
        }
    }
}
