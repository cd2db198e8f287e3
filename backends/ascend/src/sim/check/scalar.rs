//! The scalar unit's cache of global memory, which nobody keeps up to date (E14).

use super::Found;
use crate::isa::{Body, Instr, Place, Unit};
use crate::sim::hazard::Code;
use crate::sim::order::Next;
use std::collections::BTreeMap;

/// Bytes of a line.
const LINE: u64 = 64;

/// Lines that the scalar units of a core have read, and who wrote to them since.
#[derive(Debug, Default)]
pub(super) struct ScalarCache {
    lines: BTreeMap<(Unit, u16, u64), Option<Next>>,
}

impl ScalarCache {
    pub(super) fn observe(&mut self, next: Next, instr: &Instr) -> Option<Found> {
        match &instr.body {
            Body::ScalarLoad(from, _) => {
                let key = (next.unit, from.region, from.at / LINE);
                let stale = self.lines.entry(key).or_default();
                stale.map(|writer| Found {
                    code: Code::StaleScalar,
                    with: Some(writer),
                    bytes: Some((Place::Gm(from.region), from.blocks())),
                    detail: format!("the line of byte {} was read before and written since", from.at),
                })
            }
            Body::Dcci => {
                self.lines.retain(|(unit, ..), _| *unit != next.unit);
                None
            }
            // Its own stores go through the cache.
            Body::ScalarStore(..) => None,
            _ if self.lines.is_empty() => None,
            _ => {
                let lines = &mut self.lines;
                instr.accesses(next.unit, &mut |access| {
                    if let (Place::Gm(region), true) = (access.place, access.write) {
                        for ((_, _, line), stale) in lines.iter_mut().filter(|((_, r, _), _)| *r == region) {
                            let line = crate::isa::Blocks { at: line * LINE, len: LINE, count: 1, pitch: 0 };
                            if line.overlaps(&access.blocks) {
                                *stale = Some(next);
                            }
                        }
                    }
                });
                None
            }
        }
    }
}
