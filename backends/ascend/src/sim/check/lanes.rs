//! Accesses of a memory of the core, engine by engine.
//!
//! Kernels take up the same tiles again and again. So what is kept of an engine is its last access of each tile: one that is in
//! no order with an older one is in none with the last either. And where all that an engine did is known to be through, which
//! is the rule, none of it is looked at.

use super::clock::Clocks;
use super::race::{Past, clashes, overtakes};
use crate::isa::Blocks;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Tiles of an engine up to which none is looked for that a later one covers.
const FEW: usize = 32;

/// A tile by its first byte, the longest first, and whether it is only read: whoever has all bytes of another comes before it.
type Key = (u64, Reverse<u64>, u64, u64, bool);

#[derive(Debug)]
struct Lane {
    lane: usize,
    /// Its last access of all.
    tick: u32,
    tiles: BTreeMap<Key, Past>,
    /// How many tiles there may be before those that are covered are dropped.
    limit: usize,
}

/// Accesses of a memory.
#[derive(Debug, Default)]
pub(super) struct Lanes(Vec<Lane>);

impl Lanes {
    /// Compares with what came before, and takes its place.
    pub(super) fn meet(&mut self, now: Past, clocks: &Clocks) -> Option<Past> {
        let clock = clocks.of(now.by);
        let others = self.0.iter().filter(|other| other.lane != now.lane && !clock.knows(other.lane, other.tick));
        // What another engine does is the graver, and is said first.
        let own = self.0.iter().filter(|own| own.lane == now.lane && overtakes(own.tick, &now, clocks));
        let tiles = others.chain(own).flat_map(|other| other.tiles.values());
        let clash = tiles.copied().find(|past| clashes(past, &now, clocks));
        match self.0.iter_mut().find(|own| own.lane == now.lane) {
            Some(own) => own.add(now),
            None => {
                let mut own = Lane { lane: now.lane, tick: now.tick, tiles: BTreeMap::new(), limit: FEW };
                own.add(now);
                self.0.push(own);
            }
        }
        clash
    }
}

impl Lanes {
    /// The last instruction of an engine that wrote some of these bytes; 0 where none did.
    pub(super) fn last_write(&self, lane: usize, blocks: &Blocks) -> u32 {
        let own = self.0.iter().filter(|own| own.lane == lane).flat_map(|own| own.tiles.values());
        own.filter(|past| past.write && past.blocks.overlaps(blocks)).map(|past| past.tick).max().unwrap_or(0)
    }
}

impl Lane {
    fn add(&mut self, now: Past) {
        let Blocks { at, len, count, pitch } = now.blocks;
        self.tick = now.tick;
        self.tiles.insert((at, Reverse(len), count, pitch, !now.write), now);
        if self.tiles.len() > self.limit {
            self.drop_covered();
            self.limit = FEW.max(2 * self.tiles.len());
        }
    }

    /// Drops tiles of which a later access has all bytes, and clashes with whatever they clash with.
    fn drop_covered(&mut self) {
        // Tiles before the one that is looked at which reach beyond its first byte.
        let mut open: Vec<Past> = Vec::new();
        self.tiles.retain(|_, past| {
            open.retain(|before| before.blocks.end() > past.blocks.at);
            let covers = |later: &Past| {
                later.tick > past.tick && (later.write || !past.write) && later.blocks.covers(&past.blocks)
            };
            let kept = !open.iter().any(covers);
            if kept {
                open.push(*past);
            }
            kept
        });
    }
}
